//! Translation between the families: addresses (RFC 6052) and ICMP messages (RFC 7915).

use crate::address::{Be16, V4, V6};

/// `64:ff9b::`, the well-known prefix, with its 96 bits (RFC 6052, 2.1).
pub const WELL_KNOWN: V6 = V6::new([0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/// Bits that a prefix may have (RFC 6052, 2.2).
pub const LENGTHS: [u32; 6] = [32, 40, 48, 56, 64, 96];

/// Smallest MTU of a link with IPv6, in bytes (RFC 8200, 5).
pub const MIN_MTU_V6: u32 = 1280;

/// What an IPv6 header has more than an IPv4 header, in bytes.
pub const DIFFERENCE: u32 = 20;

/// Longest IPv4 packet, in bytes, that is sent without "don't fragment": its sender's MTU may be
/// the smallest that IPv6 has (RFC 7915, 5.1).
pub const MAX_FRAGMENTABLE: u32 = MIN_MTU_V6 - DIFFERENCE;

/// There is no such message in the other family: it is dropped.
pub const NONE: u32 = u32::MAX;

/// The two halves of an address, as numbers.
#[inline(always)]
const fn halves(address: V6) -> (u64, u64) {
    let [a, b, c, d] = address.0;
    (
        (u32::from_be(a) as u64) << 32 | u32::from_be(b) as u64,
        (u32::from_be(c) as u64) << 32 | u32::from_be(d) as u64,
    )
}

/// The same the other way round.
#[inline(always)]
const fn whole(high: u64, low: u64) -> V6 {
    V6([
        ((high >> 32) as u32).to_be(),
        (high as u32).to_be(),
        ((low >> 32) as u32).to_be(),
        (low as u32).to_be(),
    ])
}

/// Bits of the IPv4 address behind the octet that is zero (RFC 6052, 2.2), and where they end.
#[inline(always)]
const fn behind(length: u32) -> (u64, u64) {
    let bits = length as u64 - 32;
    (bits, 56 - bits)
}

/// The IPv6 address that stands for an IPv4 address (RFC 6052, 2.2). `length` is one of
/// [`LENGTHS`], and the prefix has no other bits.
#[inline(always)]
pub const fn embed(prefix: V6, length: u32, address: V4) -> V6 {
    let number = u32::from_be(address.0) as u64;
    let (high, low) = halves(prefix);
    if length == 96 {
        return whole(high, low | number);
    }
    let (bits, shift) = behind(length);
    let rest = number & ((1 << bits) - 1);
    whole(high | number >> bits, low | rest << shift)
}

/// The IPv4 address that an IPv6 address stands for.
#[inline(always)]
pub const fn extract(length: u32, address: V6) -> V4 {
    let (high, low) = halves(address);
    if length == 96 {
        return V4((low as u32).to_be());
    }
    let (bits, shift) = behind(length);
    let first = (high << bits) & 0xffff_ffff;
    let rest = low >> shift & ((1 << bits) - 1);
    V4(((first | rest) as u32).to_be())
}

/// True if an address has the prefix.
#[inline(always)]
pub const fn contains(prefix: V6, length: u32, address: V6) -> bool {
    let ((a, b), (c, d)) = (halves(prefix), halves(address));
    if length == 96 {
        return a == c && b >> 32 == d >> 32;
    }
    (a ^ c) >> (64 - length as u64) == 0
}

/// True if the well-known prefix must not stand for an address (RFC 6052, 3.1): it is private,
/// shared, or for this host or link only. Addresses for documentation are let pass.
#[inline(always)]
pub const fn is_not_global(address: V4) -> bool {
    let [a, b, _, _] = address.bytes();
    matches!(
        (a, b),
        (0 | 10 | 127 | 224..=255, _)
            | (100, 64..=127)
            | (169, 254)
            | (172, 16..=31)
            | (192, 168)
            | (198, 18..=19)
    )
}

/// Type and code of an ICMPv6 message, in the lower two bytes, for those of an ICMP message
/// (RFC 7915, 4.2); [`NONE`] if there is none.
#[inline(always)]
pub const fn icmp_to_v6(kind: u8, code: u8) -> u32 {
    match (kind, code) {
        (0, _) => 129 << 8,
        (8, _) => 128 << 8,
        // Unreachable: no route; prohibited; the protocol, as a parameter problem; the port; too
        // big.
        (3, 0 | 1 | 5..=8 | 11 | 12) => 1 << 8,
        (3, 9 | 10 | 13 | 15) => 1 << 8 | 1,
        (3, 2) => 4 << 8 | 1,
        (3, 3) => 1 << 8 | 4,
        (3, 4) => 2 << 8,
        (11, code) => 3 << 8 | code as u32,
        (12, 0 | 2) => 4 << 8,
        _ => NONE,
    }
}

/// The same for the other direction (RFC 7915, 5.2).
#[inline(always)]
pub const fn icmp_to_v4(kind: u8, code: u8) -> u32 {
    match (kind, code) {
        (129, _) => 0,
        (128, _) => 8 << 8,
        (1, 0 | 2 | 3) => 3 << 8 | 1,
        (1, 1) => 3 << 8 | 10,
        (1, 4) => 3 << 8 | 3,
        (2, _) => 3 << 8 | 4,
        (3, code) => 11 << 8 | code as u32,
        (4, 0) => 12 << 8,
        (4, 1) => 3 << 8 | 2,
        _ => NONE,
    }
}

/// Where the field is that a parameter problem points to (RFC 7915, figure 3); [`NONE`] if the
/// other header has no such field.
#[inline(always)]
pub const fn pointer_to_v6(pointer: u8) -> u32 {
    match pointer {
        0 | 1 => pointer as u32,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => NONE,
    }
}

/// The same for the other direction (RFC 7915, figure 6).
#[inline(always)]
pub const fn pointer_to_v4(pointer: u32) -> u32 {
    match pointer {
        0 | 1 => pointer,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => NONE,
    }
}

/// The MTU to tell an IPv6 host, for that of an IPv4 path (RFC 7915, 4.2). A router that says
/// none (0) is answered with a guess from the length of the packet that was too big (RFC 1191, 7).
#[inline(always)]
pub const fn mtu_to_v6(mtu: Be16, length: Be16) -> u32 {
    let mtu = match mtu.get() {
        0 => plateau(length.get()),
        mtu => mtu as u32,
    };
    let mtu = mtu + DIFFERENCE;
    // Below, packets are sent without "don't fragment", so no IPv6 host has to know.
    if mtu < MIN_MTU_V6 { MIN_MTU_V6 } else { mtu }
}

/// The MTU to tell an IPv4 host, for that of an IPv6 path (RFC 7915, 5.2).
#[inline(always)]
pub const fn mtu_to_v4(mtu: u32) -> Be16 {
    // RFC 791, 3.2: every link carries 68 bytes.
    Be16::new(match mtu {
        ..88 => 68,
        88..=0x10012 => (mtu - DIFFERENCE) as u16,
        _ => 0xffff,
    })
}

/// The next smaller MTU of common networks (RFC 1191, 7.1), as far as it matters here.
#[inline(always)]
const fn plateau(length: u16) -> u32 {
    match length {
        32001.. => 32000,
        17915.. => 17914,
        8167.. => 8166,
        4353.. => 4352,
        2003.. => 2002,
        1493.. => 1492,
        _ => 1006,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn the_examples_of_rfc_6052() {
        // Section 2.4: 192.0.2.33 in networks of 2001:db8::/32.
        for (length, prefix, expected) in [
            (32, "2001:db8::", "2001:db8:c000:221::"),
            (40, "2001:db8:100::", "2001:db8:1c0:2:21::"),
            (48, "2001:db8:122::", "2001:db8:122:c000:2:2100::"),
            (56, "2001:db8:122:300::", "2001:db8:122:3c0:0:221::"),
            (64, "2001:db8:122:344::", "2001:db8:122:344:c0:2:2100::"),
            (96, "2001:db8:122:344::", "2001:db8:122:344::192.0.2.33"),
            (96, "64:ff9b::", "64:ff9b::192.0.2.33"),
        ] {
            let words = |text: &str| V6::new(text.parse::<Ipv6Addr>().expect("valid").octets());
            let address = V4::new(Ipv4Addr::new(192, 0, 2, 33).octets());
            let embedded = embed(words(prefix), length, address);
            assert_eq!(embedded, words(expected), "{length}");
            assert_eq!(extract(length, embedded), address);
            assert!(contains(words(prefix), length, embedded));
        }
        assert_eq!(WELL_KNOWN.bytes()[..4], [0, 0x64, 0xff, 0x9b]);
    }

    proptest! {
        #[test]
        fn what_is_embedded_comes_back(prefix: [u8; 16], at in 0..6usize, address: [u8; 4]) {
            let length = LENGTHS[at];
            let bytes = (length / 8) as usize;
            let mut network = [0; 16];
            network[..bytes].copy_from_slice(&prefix[..bytes]);
            if length == 96 {
                // Bits 64 to 71 are zero in all of them.
                network[8] = 0;
            }
            let embedded = embed(V6::new(network), length, V4::new(address));
            prop_assert_eq!(extract(length, embedded), V4::new(address));
            prop_assert!(contains(V6::new(network), length, embedded));
            prop_assert_eq!(&embedded.bytes()[..bytes], &network[..bytes]);
            prop_assert_eq!(embedded.bytes()[8], 0);
            let mut other = network;
            other[bytes - 1] ^= 1;
            prop_assert!(!contains(V6::new(other), length, embedded));
        }
    }

    #[test]
    fn echo_and_errors_have_counterparts() {
        for (v4, v6) in [
            ((8, 0), (128, 0)),
            ((0, 0), (129, 0)),
            ((3, 1), (1, 0)),
            ((3, 3), (1, 4)),
            ((3, 4), (2, 0)),
            ((11, 0), (3, 0)),
            ((11, 1), (3, 1)),
            ((12, 0), (4, 0)),
            ((3, 2), (4, 1)),
            ((3, 10), (1, 1)),
        ] {
            let word = |(kind, code): (u32, u32)| kind << 8 | code;
            assert_eq!(icmp_to_v6(v4.0, v4.1), word((v6.0, v6.1)));
            assert_eq!(
                icmp_to_v4(v6.0 as u8, v6.1 as u8),
                word((v4.0.into(), v4.1.into()))
            );
        }
        for (kind, code) in [(3, 14), (3, 16), (4, 0), (5, 1), (12, 1), (13, 0), (17, 0)] {
            assert_eq!(icmp_to_v6(kind, code), NONE);
        }
        for (kind, code) in [(1, 5), (4, 2), (130, 0), (135, 0)] {
            assert_eq!(icmp_to_v4(kind, code), NONE);
        }
        // Total length, time to live and addresses; the identification has no counterpart.
        assert_eq!([2, 8, 12, 16, 5].map(pointer_to_v6), [4, 7, 8, 24, NONE]);
        assert_eq!([4, 7, 8, 24, 2].map(pointer_to_v4), [2, 8, 12, 16, NONE]);
    }

    #[test]
    fn what_is_too_big_is_told_in_the_other_header() {
        assert_eq!(mtu_to_v6(Be16::new(1400), Be16::new(1500)), 1420);
        assert_eq!(mtu_to_v6(Be16::new(0), Be16::new(1500)), 1512);
        assert_eq!(mtu_to_v6(Be16::new(576), Be16::new(1500)), 1280);
        assert_eq!(mtu_to_v4(1500).get(), 1480);
        assert_eq!(mtu_to_v4(1 << 20).get(), 0xffff);
        assert_eq!(mtu_to_v4(0x10013).get(), 0xffff);
        assert_eq!(mtu_to_v4(0).get(), 68);
    }
}
