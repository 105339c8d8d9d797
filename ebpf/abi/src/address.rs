//! Addresses and numbers as they are on the wire, in words that are aligned there.
//!
//! IP headers are aligned to four bytes in the kernel's buffers and Ethernet headers to two
//! (`NET_IP_ALIGN`), so a data plane can copy an address word by word. The words hold bytes in
//! the order in which they are sent, whatever the machine's byte order.

use bytemuck::{Pod, Zeroable};

/// A 16-bit number in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Be16(u16);

impl Be16 {
    /// From the machine's byte order.
    #[inline(always)]
    pub const fn new(value: u16) -> Self {
        Self(value.to_be())
    }

    /// In the machine's byte order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The word as it is in memory, for checksums.
    #[inline(always)]
    pub const fn word(self) -> u16 {
        self.0
    }

    /// From a word as it is in memory.
    #[inline(always)]
    pub const fn from_word(word: u16) -> Self {
        Self(word)
    }
}

/// A link-layer address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Mac(pub [u16; 3]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Self = Self([0xffff; 3]);

    /// From bytes in the order in which they are sent.
    #[inline(always)]
    pub const fn new(b: [u8; 6]) -> Self {
        Self([
            u16::from_ne_bytes([b[0], b[1]]),
            u16::from_ne_bytes([b[2], b[3]]),
            u16::from_ne_bytes([b[4], b[5]]),
        ])
    }

    /// Bytes in the order in which they are sent.
    pub const fn bytes(self) -> [u8; 6] {
        let ([a, b], [c, d], [e, f]) = (
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
        );
        [a, b, c, d, e, f]
    }

    /// A station that nobody is, to stand for the port that has this address: the same one with the other value of the
    /// bit "locally administered" (IEEE 802, 8.4).
    #[inline(always)]
    pub const fn alter_ego(self) -> Self {
        let [first, second, third] = self.0;
        Self([first ^ u16::from_ne_bytes([2, 0]), second, third])
    }

    /// True for broadcast and multicast addresses (IEEE 802.3, 3.2.3 b).
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.0[0].to_ne_bytes()[0] & 1 != 0
    }
}

/// An IPv4 address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct V4(pub u32);

impl V4 {
    /// From bytes in the order in which they are sent.
    #[inline(always)]
    pub const fn new(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// Bytes in the order in which they are sent.
    #[inline(always)]
    pub const fn bytes(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

/// An IPv6 address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct V6(pub [u32; 4]);

impl V6 {
    /// `::`
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// From bytes in the order in which they are sent.
    #[inline(always)]
    pub const fn new(b: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }

    /// Bytes in the order in which they are sent.
    pub const fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let mut i = 0;
        while i < 16 {
            bytes[i] = self.0[i / 4].to_ne_bytes()[i % 4];
            i += 1;
        }
        bytes
    }

    /// The IPv4 address in the first word, where tables of both families keep it.
    #[inline(always)]
    pub const fn from_v4(address: V4) -> Self {
        Self([address.0, 0, 0, 0])
    }

    /// The first word as an IPv4 address.
    #[inline(always)]
    pub const fn v4(self) -> V4 {
        V4(self.0[0])
    }

    /// True for `fe80::/10` (RFC 4291, 2.5.6).
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        self.0[0] & u32::from_ne_bytes([0xff, 0xc0, 0, 0]) == u32::from_ne_bytes([0xfe, 0x80, 0, 0])
    }

    /// True for `ff00::/8` (RFC 4291, 2.7).
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.0[0].to_ne_bytes()[0] == 0xff
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_survive(mac: [u8; 6], v4: [u8; 4], v6: [u8; 16], number: u16) {
            prop_assert_eq!(Mac::new(mac).bytes(), mac);
            prop_assert_eq!(V4::new(v4).bytes(), v4);
            prop_assert_eq!(V6::new(v6).bytes(), v6);
            prop_assert_eq!(Be16::new(number).get(), number);
            let words = V6::new(v6);
            prop_assert_eq!(bytemuck::bytes_of(&words), &v6[..]);
            prop_assert_eq!(Mac::new(mac).is_group(), mac[0] & 1 == 1);
            prop_assert_eq!(V6::new(v6).is_link_local(), v6[0] == 0xfe && v6[1] >> 6 == 2);
        }
    }
}
