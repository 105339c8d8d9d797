//! Which flow a packet belongs to, and where its headers are.
//!
//! Both families share one form: an IPv4 address is the IPv6 address that stands for it
//! (RFC 4291, 2.5.5.2), so that a table of flows has one kind of key.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Be16, V4, V6},
    assert_size,
};

/// Internet Control Message Protocol.
pub const ICMP: u8 = 1;
/// Transmission Control Protocol.
pub const TCP: u8 = 6;
/// User Datagram Protocol.
pub const UDP: u8 = 17;
/// Datagram Congestion Control Protocol.
pub const DCCP: u8 = 33;
/// Internet Control Message Protocol for IPv6.
pub const ICMPV6: u8 = 58;
/// Stream Control Transmission Protocol.
pub const SCTP: u8 = 132;
/// UDP-Lite.
pub const UDP_LITE: u8 = 136;

/// True if the transport header begins with a source and a destination port.
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP | DCCP | UDP_LITE)
}

/// The IPv6 address that stands for an IPv4 address: `::ffff:0:0/96` (RFC 4291, 2.5.5.2).
#[inline(always)]
pub const fn mapped(address: V4) -> V6 {
    V6([0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), address.0])
}

/// The IPv4 address that an address stands for, if it does.
#[inline(always)]
pub const fn unmapped(address: V6) -> V4 {
    V4(address.0[3])
}

/// True if the address stands for an IPv4 address.
#[inline(always)]
pub const fn is_mapped(address: V6) -> bool {
    let [a, b, c, _] = address.0;
    a == 0 && b == 0 && c == u32::from_ne_bytes([0, 0, 0xff, 0xff])
}

/// What the packets of one direction of a flow have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct FlowKey {
    /// Source address; [`mapped`] if it is an IPv4 address.
    pub source: V6,
    /// Destination address, likewise.
    pub destination: V6,
    /// Source port, in network byte order. The identifier of an ICMP query; 0 where there is none.
    pub source_port: Be16,
    /// Destination port, likewise. The identifier once more.
    pub destination_port: Be16,
    /// Protocol, as assigned by IANA.
    pub protocol: u8,
    /// 0
    pub padding: [u8; 3],
}
assert_size!(FlowKey, 40);

impl FlowKey {
    /// The other direction of the same flow.
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self
        }
    }

    /// One key for both directions, and whether this one was turned round for it.
    #[inline(always)]
    pub fn normalized(self) -> (Self, bool) {
        if self.is_turned() {
            (self.reversed(), true)
        } else {
            (self, false)
        }
    }

    /// True if the smaller end is the destination. Which one is called smaller does not matter, as
    /// long as both directions agree: words are compared as they are in memory.
    #[inline(always)]
    pub fn is_turned(&self) -> bool {
        let (source, destination) = (self.source.0, self.destination.0);
        // From the end, where addresses of one network differ.
        let mut word = 4;
        while word > 0 {
            word -= 1;
            if source[word] != destination[word] {
                return source[word] > destination[word];
            }
        }
        self.source_port.word() > self.destination_port.word()
    }
}

/// Not a fragment: the whole datagram.
pub const WHOLE: u8 = 0;
/// The first fragment of a datagram: it has the transport header.
pub const FIRST: u8 = 1;
/// A later fragment: it has no transport header.
pub const LATER: u8 = 2;

/// What was read of a packet's headers. Offsets are in bytes from the Ethernet header. Aligned, so that addresses are
/// written and read in halves.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// Addresses, protocol and ports. A later fragment has no ports of its own.
    pub key: FlowKey,
    /// Identification of the datagram: what its fragments have in common.
    pub identification: u32,
    /// Where the IP header begins.
    pub network: u16,
    /// Where the header behind the IP header, its options or extension headers begins.
    pub transport: u16,
    /// 4 or 6; 0 for what is not IP: then nothing else is set.
    pub family: u8,
    /// [`WHOLE`], [`FIRST`] or [`LATER`].
    pub fragment: u8,
    /// Flags of a TCP segment, as in [`tcp`](crate::tcp).
    pub tcp_flags: u8,
    /// Type of an ICMP or ICMPv6 message.
    pub icmp_type: u8,
    /// Its code.
    pub icmp_code: u8,
    /// 1 if there are IPv4 options or IPv6 extension headers.
    pub has_options: u8,
    /// Offset and flags of an IPv6 fragment header, as they are in the packet; 0 without one.
    pub fragment_field: Be16,
}
assert_size!(Flow, 56);

impl Flow {
    /// True if the message quotes the packet it is about (RFC 1122, 3.2.2; RFC 4443, 2.1).
    #[inline(always)]
    pub const fn is_error(&self) -> bool {
        match self.key.protocol {
            _ if self.fragment == LATER => false,
            // Unreachable, source quench, redirect, time exceeded, parameter problem.
            ICMP if self.family == 4 => matches!(self.icmp_type, 3 | 4 | 5 | 11 | 12),
            ICMPV6 if self.family == 6 => self.icmp_type < 128,
            _ => false,
        }
    }

    /// True if it is neighbour discovery (RFC 4861, 4.1 to 4.4), which stays on its link.
    #[inline(always)]
    pub const fn is_neighbor_discovery(&self) -> bool {
        self.family == 6 && self.key.protocol == ICMPV6 && matches!(self.icmp_type, 133..=136)
    }
}

/// What the fragments of a datagram have in common: key of the table `fragments`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FragmentKey {
    /// Source address, as in [`FlowKey`].
    pub source: V6,
    /// Destination address, likewise.
    pub destination: V6,
    /// Identification, as it is in the packet.
    pub identification: u32,
    /// Protocol (RFC 791, 2.3; in IPv6 that of the first fragment).
    pub protocol: u8,
    /// 0
    pub padding: [u8; 3],
}
assert_size!(FragmentKey, 40);

/// What a first fragment said, for the later ones: value of the table `fragments`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FragmentPorts {
    /// When it came, in nanoseconds of the monotonic clock.
    pub seen: u64,
    /// Source port, as in [`FlowKey`].
    pub source_port: Be16,
    /// Destination port, likewise.
    pub destination_port: Be16,
    /// Type of an ICMP message.
    pub icmp_type: u8,
    /// Its code.
    pub icmp_code: u8,
    /// Flags of a TCP segment.
    pub tcp_flags: u8,
    /// 0
    pub padding: u8,
}
assert_size!(FragmentPorts, 16);

/// How long a first fragment is remembered, in nanoseconds: as long as Linux waits for the
/// rest of a datagram (`ipfrag_time`), half of what RFC 8200, 4.5, allows.
pub const FRAGMENT_LIFE: u64 = 30_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        // Few values, so that ends are often equal.
        fn keys()(words in prop::array::uniform8(0u32..3), ports in prop::array::uniform2(0u16..3),
                  protocol: u8) -> FlowKey {
            let [a, b, c, d, e, f, g, h] = words;
            FlowKey {
                source: V6([a, b, c, d]),
                destination: V6([e, f, g, h]),
                source_port: Be16::new(ports[0]),
                destination_port: Be16::new(ports[1]),
                protocol,
                padding: [0; 3],
            }
        }
    }

    proptest! {
        #[test]
        fn both_directions_have_one_key(key in keys()) {
            let (one, turned) = key.normalized();
            let (other, turned_back) = key.reversed().normalized();
            prop_assert_eq!(one, other);
            prop_assert_eq!(key.reversed().reversed(), key);
            prop_assert_eq!(turned == turned_back, key == key.reversed());
            prop_assert_eq!(if turned { one.reversed() } else { one }, key);
        }

        #[test]
        fn mapped_addresses_are_those_of_the_standard(bytes: [u8; 4]) {
            let address = V4::new(bytes);
            let standard = std::net::Ipv4Addr::from(bytes).to_ipv6_mapped();
            prop_assert_eq!(mapped(address).bytes(), standard.octets());
            prop_assert!(is_mapped(mapped(address)));
            prop_assert_eq!(unmapped(mapped(address)), address);
        }
    }
}
