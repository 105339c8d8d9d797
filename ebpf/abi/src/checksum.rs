//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are over words as they are in memory: one's complement addition does not depend on byte
//! order (RFC 1071, 2 B), so no word is ever swapped. A number that is not in the packet yet
//! is added through [`Be16`].

use crate::address::{Be16, V4, V6};

/// Folds a sum into 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum to store for a sum over everything it covers, with its own field as zero.
#[inline(always)]
pub const fn finish(sum: u64) -> Be16 {
    Be16::from_word(!fold(sum))
}

/// Adds a 16-bit number.
#[inline(always)]
pub const fn add16(sum: u64, number: Be16) -> u64 {
    sum + number.word() as u64
}

/// Adds an IPv4 address.
#[inline(always)]
pub const fn add_v4(sum: u64, address: V4) -> u64 {
    sum + address.0 as u64
}

/// Adds an IPv6 address.
#[inline(always)]
pub const fn add_v6(sum: u64, address: V6) -> u64 {
    let [a, b, c, d] = address.0;
    sum + a as u64 + b as u64 + c as u64 + d as u64
}

/// The checksum after one covered word changed from `old` to `new` (RFC 1624, eqn. 3).
#[inline(always)]
pub const fn update(checksum: Be16, old: Be16, new: Be16) -> Be16 {
    finish(!checksum.word() as u64 + !old.word() as u64 + new.word() as u64)
}

/// The sum over bytes; an odd last byte is padded with zero (RFC 1071, 1).
///
/// For the host: data planes add fields one by one, or let the kernel sum.
pub fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let sum: u64 = words
        .by_ref()
        .map(|word| u64::from(u16::from_ne_bytes([word[0], word[1]])))
        .sum();
    match words.remainder() {
        [last] => sum + u64::from(u16::from_ne_bytes([*last, 0])),
        _ => sum,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]));
        assert_eq!(u16::from_be(sum), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: the checksum is 0xdd2f, a word changes from 0x5555 to 0x3285.
        assert_eq!(
            update(Be16::new(0xdd2f), Be16::new(0x5555), Be16::new(0x3285)),
            Be16::new(0)
        );
    }

    proptest! {
        #[test]
        fn a_packet_with_its_checksum_sums_to_ones(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let even = &bytes[..bytes.len() & !1];
            prop_assert_eq!(fold(add16(sum(even), finish(sum(even)))), 0xffff);
        }

        #[test]
        fn update_agrees_with_summing_again(
            words in prop::collection::vec(any::<u16>(), 2..40),
            at in any::<prop::sample::Index>(),
            new in any::<u16>(),
        ) {
            let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
            let at = at.index(words.len());
            let before = finish(sum(&bytes(&words)));
            let mut changed = words.clone();
            changed[at] = new;
            let updated = update(before, Be16::new(words[at]), Be16::new(new));
            let total = fold(add16(sum(&bytes(&changed)), updated));
            // All zeros has two checksums; everything else sums to ones.
            prop_assert!(total == 0xffff || (total == 0 && changed.iter().all(|word| *word == 0)));
        }

        #[test]
        fn fold_keeps_the_residue(sum in 0..u64::MAX / 2) {
            prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
        }

        #[test]
        fn addresses_add_like_bytes(a: [u8; 16], b: [u8; 4]) {
            prop_assert_eq!(fold(add_v4(add_v6(0, V6::new(a)), V4::new(b))), fold(sum(&a) + sum(&b)));
        }
    }
}
