//! Tables of the bridge.

use bytemuck::{Pod, Zeroable};

use crate::{address::Mac, assert_size};

/// Read-only globals (`SETTINGS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Age in nanoseconds at which a learned address is forgotten.
    pub aging_time: u64,
}
assert_size!(Settings, 8);

/// Key of the forwarding tables.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct FdbKey {
    /// The station.
    pub mac: Mac,
    /// VLAN; 0 on a bridge that does not look at tags.
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
