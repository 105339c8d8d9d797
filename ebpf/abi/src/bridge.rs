//! Tables of the bridge.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Mac, V6},
    assert_size,
};

/// Read-only globals (`SETTINGS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Age in nanoseconds at which a learned address is forgotten.
    pub aging_time: u64,
    /// `FEATURE_*`: what is not set is removed from the program when it is loaded.
    pub features: u64,
}
assert_size!(Settings, 16);

/// The bridge looks at VLAN tags (IEEE 802.1Q-2022, a C-VLAN component); without it frames cross as
/// they are, whatever tags they have.
pub const FEATURE_VLANS: u64 = 1 << 0;
/// A port has a limit in `storm_limits`.
pub const FEATURE_STORM_CONTROL: u64 = 1 << 1;
/// Packets for IP multicast groups go to members and routers (RFC 4541).
pub const FEATURE_SNOOPING: u64 = 1 << 2;
/// There are stations in `static_fdb`.
pub const FEATURE_STATIC: u64 = 1 << 3;
/// The bridge takes part in a spanning tree ([`crate::stp`]).
pub const FEATURE_STP: u64 = 1 << 8;

/// Key of the forwarding tables.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct FdbKey {
    /// The station.
    pub mac: Mac,
    /// VLAN identifier, 1 to 4094; 0 on a bridge that does not look at tags.
    pub vlan: u16,
}
assert_size!(FdbKey, 8);

/// Value of the learned table `fdb`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FdbEntry {
    /// Where the station is.
    pub port: u32,
    /// What was behind the port then ([`crate::port::PORT_BEHIND`]).
    pub behind: u32,
    /// When it was last heard, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub seen: u64,
}
assert_size!(FdbEntry, 16);

/// Words of a set of VLAN identifiers.
pub const VLAN_WORDS: usize = 4096 / 64;

/// One entry of the banked table `vlans`, indexed by port: which VLANs the port carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PortVlans {
    /// VLAN of frames without a tag, in both directions (PVID and untagged set, IEEE
    /// 802.1Q-2022, 6.9 and 8.8.2); 0 if the port has none.
    pub untagged: u16,
    /// `PORT_VLAN_*`
    pub flags: u16,
    /// Padding.
    pub reserved: u32,
    /// The VLANs it carries, with and without a tag: VLAN v is bit v % 64 of word v / 64
    /// (member set, 8.8.10).
    pub members: [u64; VLAN_WORDS],
}
assert_size!(PortVlans, 520);

/// Frames with a tag are taken and sent (trunk). Without it only those are taken that have none,
/// or one that gives a priority alone (6.9.1).
pub const PORT_VLAN_TAGGED: u16 = 1 << 0;
/// Tags are none of the port's business: all frames belong to the VLAN `untagged`, and cross with
/// the tags they have.
pub const PORT_VLAN_UNAWARE: u16 = 1 << 1;

impl PortVlans {
    /// A port that carries nothing.
    pub const NONE: Self = Self {
        untagged: 0,
        flags: 0,
        reserved: 0,
        members: [0; VLAN_WORDS],
    };

    /// True if the port carries the VLAN.
    #[inline(always)]
    pub const fn carries(&self, vlan: u16) -> bool {
        self.members[(vlan as usize / 64) % VLAN_WORDS] >> (vlan % 64) & 1 != 0
    }

    /// Adds a VLAN to those that the port carries.
    pub const fn add(&mut self, vlan: u16) {
        self.members[(vlan as usize / 64) % VLAN_WORDS] |= 1 << (vlan % 64);
    }
}

impl Default for PortVlans {
    fn default() -> Self {
        Self::NONE
    }
}

/// The VLAN identifier in a tag's control information (IEEE 802.1Q-2022, 9.6).
pub const TCI_VLAN: u16 = 0x0fff;
/// Priority code point and drop eligible indicator.
pub const TCI_PRIORITY: u16 = 0xf000;

/// Sorts of frames that storm control tells apart: places in [`StormLimits`].
pub const STORM_BROADCAST: usize = 0;
/// Frames for groups other than broadcast.
pub const STORM_MULTICAST: usize = 1;
/// Frames for stations that are not known.
pub const STORM_UNKNOWN_UNICAST: usize = 2;
/// Places; a power of two.
pub const STORM_SORTS: usize = 4;

/// How many frames of one sort a port may send.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StormLimit {
    /// Nanoseconds for each frame; 0 for no limit.
    pub interval: u64,
    /// Nanoseconds by which a frame may be early: those of the frames that may come at once,
    /// without the last.
    pub tolerance: u64,
}
assert_size!(StormLimit, 16);

/// One entry of the banked table `storm_limits`, indexed by port. The learned table `storm_state`
/// has [`STORM_SORTS`] entries for each port: when the next frame is due.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StormLimits {
    /// By sort.
    pub sorts: [StormLimit; STORM_SORTS],
}
assert_size!(StormLimits, 64);

/// Key of the learned table `mdb`: a group and one of its ports, or one of these left open.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct MdbKey {
    /// The group (an IPv4 group in the first word), or [`GROUP_ANY`]: then the entry says that a
    /// router is behind the port.
    pub address: V6,
    /// The port, or [`NO_PORT`]: then the entry is about the group as a whole, or, without a
    /// group, about the querier.
    pub port: u32,
    /// As in [`FdbKey`].
    pub vlan: u16,
    /// 4 or 6.
    pub family: u16,
}
assert_size!(MdbKey, 24);

/// No group.
pub const GROUP_ANY: V6 = V6::UNSPECIFIED;
/// No port.
pub const NO_PORT: u32 = u32::MAX;

/// Value of the learned table `mdb`. Times are in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct MdbEntry {
    /// When it is forgotten.
    pub until: u64,
    /// Of a group or a querier: until then not all members are known, so everyone gets packets.
    pub flood_until: u64,
    /// What was behind the port then ([`crate::port::PORT_BEHIND`]).
    pub behind: u32,
    /// Padding.
    pub reserved: u32,
}
assert_size!(MdbEntry, 24);

/// Entries of `mdb`.
pub const MDB_SIZE: u32 = 65536;
/// How long a report counts, in nanoseconds (group membership interval, RFC 3376, 8.4 and RFC
/// 3810, 9.4, with their defaults).
pub const MEMBERSHIP_INTERVAL: u64 = 260_000_000_000;
/// How long a query counts, in nanoseconds (other querier present interval, RFC 3376, 8.5 and RFC
/// 3810, 9.5, with their defaults).
pub const QUERIER_INTERVAL: u64 = 255_000_000_000;
/// How often a router asks before it takes a group to be left (last member query count, RFC 3376,
/// 8.1 and 8.9).
pub const ROBUSTNESS: u64 = 2;

/// The one entry of the learned table `state`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct State {
    /// When a full table was last swept, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub swept: u64,
    /// Stations not learned because the table was full.
    pub full: u64,
}
assert_size!(State, 16);

/// A full table is swept for aged entries at most this often, in nanoseconds.
pub const SWEEP_INTERVAL: u64 = 1_000_000_000;
/// The time of an entry that is in use is renewed at most this often, in nanoseconds: a store
/// for each frame would bounce the cache line between CPUs.
pub const REFRESH_INTERVAL: u64 = 500_000_000;

/// The table `flood` has the number of ports in entry 0 and their indices after it.
pub const fn flood_len(capacity: u32) -> u32 {
    capacity + 1
}
