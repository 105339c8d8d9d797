//! Tables of the DDoS mitigator: per family and list one hash of prefixes, whose values are what each has dropped. The
//! lengths of prefixes that are in it say what an address is looked for as, so most lists cost one look-up.

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

/// Value of the lists, of each CPU: what an entry has dropped. The data plane's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hits {
    /// Packets dropped.
    pub packets: u64,
    /// Bytes dropped.
    pub bytes: u64,
}
assert_size!(Hits, 16);

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

/// The first `length` bits of an IPv4 address, 0 to 32.
#[inline(always)]
pub const fn network_v4(address: V4, length: u32) -> V4 {
    // Shifted as 64 bits: all of them may go.
    let mask = !(u32::MAX as u64 >> length) as u32;
    V4(address.0 & mask.to_be())
}

/// The first `length` bits of an IPv6 address, 0 to 128.
#[inline(always)]
pub const fn network_v6(address: V6, length: u32) -> V6 {
    let V6([a, b, c, d]) = address;
    V6([
        a & word_mask(length, 0),
        b & word_mask(length, 32),
        c & word_mask(length, 64),
        d & word_mask(length, 96),
    ])
}

/// Ones for those of the 32 bits behind the first `before` that are among the first `length`.
#[inline(always)]
const fn word_mask(length: u32, before: u32) -> u32 {
    let bits = length.saturating_sub(before);
    let bits = if bits > 32 { 32 } else { bits };
    (!(u32::MAX as u64 >> bits) as u32).to_be()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_the_first_bits() {
        for length in 0..=32 {
            let ones = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            assert_eq!(
                network_v4(V4::new([0xff; 4]), length).bytes(),
                ones.to_be_bytes()
            );
        }
        for length in 0..=128 {
            let ones = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            assert_eq!(
                network_v6(V6::new([0xff; 16]), length).bytes(),
                ones.to_be_bytes()
            );
        }
    }

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
