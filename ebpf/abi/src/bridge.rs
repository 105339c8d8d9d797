//! Tables of the bridge.

use bytemuck::{Pod, Zeroable};

use crate::{address::Mac, assert_size};

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
