//! Tables of the DDoS mitigator: per family and list one longest-prefix table, whose value
//! points into the table of hits.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{V4, V6},
    assert_size,
};

/// Key of `sources_v4` and `destinations_v4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct PrefixV4 {
    /// Prefix length in bits.
    pub length: u32,
    /// The network's address.
    pub address: V4,
}
assert_size!(PrefixV4, 8);

/// Key of `sources_v6` and `destinations_v6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct PrefixV6 {
    /// Prefix length in bits.
    pub length: u32,
    /// The network's address.
    pub address: V6,
}
assert_size!(PrefixV6, 20);

/// Value of the learned table `hits`, keyed by [`HitKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hits {
    /// Packets dropped.
    pub packets: u64,
    /// Bytes dropped.
    pub bytes: u64,
}
assert_size!(Hits, 16);

/// Value of the prefix tables: which entry of `hits` counts. The list entry itself, so that an
/// entry keeps its counter whatever happens to the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct HitKey {
    /// One of the `LIST_*` constants.
    pub list: u16,
    /// 4 or 6.
    pub family: u16,
    /// Prefix length in bits.
    pub length: u32,
    /// The network's address; IPv4 in the first word.
    pub address: V6,
}
assert_size!(HitKey, 24);

/// The entry is one of `sources`.
pub const LIST_SOURCES: u16 = 0;
/// The entry is one of `destinations`.
pub const LIST_DESTINATIONS: u16 = 1;
