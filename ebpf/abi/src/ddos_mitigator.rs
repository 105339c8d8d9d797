//! Tables of the DDoS mitigator: per family and list one set of prefixes ([`crate::prefix_set`]), each with what it has dropped. The
//! lengths of prefixes that are in it say what an address is looked for as, so most lists cost one look-up.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{V4, V6},
    assert_size,
    prefix_set::{LEAST_ROOM, Shape},
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

/// The read-only global `SETTINGS`: how large the lists are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Of `sources_v4`.
    pub sources_v4: Shape,
    /// Of `sources_v6`.
    pub sources_v6: Shape,
    /// Of `destinations_v4`.
    pub destinations_v4: Shape,
    /// Of `destinations_v6`.
    pub destinations_v6: Shape,
}
assert_size!(Settings, 32);

impl Settings {
    /// Lists of the least size.
    pub const LEAST: Self = Self {
        sources_v4: Shape::new::<V4>(LEAST_ROOM),
        sources_v6: Shape::new::<V6>(LEAST_ROOM),
        destinations_v4: Shape::new::<V4>(LEAST_ROOM),
        destinations_v6: Shape::new::<V6>(LEAST_ROOM),
    };
}

/// Value of the array `lengths`: which lengths a list has. The bits count from the longest one, which is bit 0 of the first
/// word: 32 for IPv4, where the first word is all, and 128 for IPv6. So each bit says the same before and after the others change.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Lengths {
    /// The bits.
    pub words: [u64; 3],
}
assert_size!(Lengths, 24);

impl Lengths {
    /// Takes in a length of those up to `longest`.
    pub fn add(&mut self, length: u32, longest: u32) {
        if let Some(bit) = longest.checked_sub(length)
            && let Some(word) = self.words.get_mut(bit as usize / 64)
        {
            *word |= 1 << (bit % 64);
        }
    }
}

/// Entries of `lengths`.
pub const LISTS: u32 = 4;

/// Index into `lengths`; `family` is 4 or 6.
#[inline(always)]
pub const fn lengths_index(list: u32, family: u32) -> u32 {
    list * 2 + (family == 6) as u32
}

/// The entry is one of `sources`.
pub const LIST_SOURCES: u32 = 0;
/// The entry is one of `destinations`.
pub const LIST_DESTINATIONS: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_a_bit() {
        let mut lengths = Lengths::default();
        (0..=128).for_each(|length| lengths.add(length, 128));
        assert_eq!(lengths.words, [u64::MAX, u64::MAX, 1]);
        let mut lengths = Lengths::default();
        (0..=32).for_each(|length| lengths.add(length, 32));
        assert_eq!(lengths.words, [(1 << 33) - 1, 0, 0]);
    }
}
