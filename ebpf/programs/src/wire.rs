//! Headers as they are on the wire, with the alignment the kernel gives them (`NET_IP_ALIGN`).

use ebpf_abi::{
    address::{Be16, Mac, V4, V6},
    checksum,
};

/// Ethernet II header (IEEE 802.3).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    pub destination: Mac,
    pub source: Mac,
    pub ethertype: Be16,
}

pub const ETHERTYPE_IPV4: Be16 = Be16::new(0x0800);
pub const ETHERTYPE_ARP: Be16 = Be16::new(0x0806);
pub const ETHERTYPE_VLAN: Be16 = Be16::new(0x8100);
pub const ETHERTYPE_IPV6: Be16 = Be16::new(0x86dd);
pub const ETHERTYPE_QINQ: Be16 = Be16::new(0x88a8);

/// A VLAN tag as it follows the source address, without its own type (IEEE 802.1Q-2022, 9.3).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct VlanTag {
    /// Tag control information: priority code point, drop eligible indicator, VLAN identifier.
    pub control: Be16,
    /// What follows.
    pub ethertype: Be16,
}

/// An Ethernet header with a tag.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TaggedEthernet {
    pub ethernet: Ethernet,
    pub tag: VlanTag,
}

/// Length of the Ethernet header: where the next one starts.
pub const ETHERNET_LENGTH: usize = size_of::<Ethernet>();

/// ARP for IPv4 over Ethernet (RFC 826). Its addresses are aligned to two bytes only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arp {
    pub kind: ArpKind,
    pub operation: Be16,
    pub sender_mac: Mac,
    sender: [u16; 2],
    pub target_mac: Mac,
    target: [u16; 2],
}

/// Hardware type, protocol type and the two address lengths.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ArpKind {
    hardware: Be16,
    protocol: Be16,
    lengths: Be16,
}

impl Arp {
    pub const ETHERNET_IPV4: ArpKind = ArpKind {
        hardware: Be16::new(1),
        protocol: ETHERTYPE_IPV4,
        lengths: Be16::new(0x0604),
    };
    pub const REQUEST: Be16 = Be16::new(1);
    pub const REPLY: Be16 = Be16::new(2);

    #[inline(always)]
    pub fn new(
        operation: Be16,
        (sender_mac, sender): (Mac, V4),
        (target_mac, target): (Mac, V4),
    ) -> Self {
        Self {
            kind: Self::ETHERNET_IPV4,
            operation,
            sender_mac,
            sender: halves(sender),
            target_mac,
            target: halves(target),
        }
    }

    #[inline(always)]
    pub fn sender(&self) -> V4 {
        whole(self.sender)
    }

    #[inline(always)]
    pub fn target(&self) -> V4 {
        whole(self.target)
    }
}

#[inline(always)]
fn halves(address: V4) -> [u16; 2] {
    let [a, b, c, d] = address.bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

#[inline(always)]
fn whole([first, second]: [u16; 2]) -> V4 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    V4::new([a, b, c, d])
}

/// IPv4 header without options (RFC 791).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    pub version_ihl: u8,
    pub tos: u8,
    pub total_length: Be16,
    pub id: Be16,
    /// Flags and fragment offset.
    pub fragment: Be16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: Be16,
    pub source: V4,
    pub destination: V4,
}

impl Ipv4 {
    /// The bit "more fragments" of `fragment`.
    pub const MORE_FRAGMENTS: u16 = 0x2000;
    /// The bit "don't fragment" of `fragment`.
    pub const DONT_FRAGMENT: u16 = 0x4000;
    /// The offset bits of `fragment`.
    pub const OFFSET: u16 = 0x1fff;

    /// Header length in bytes.
    #[inline(always)]
    pub fn header_length(&self) -> usize {
        usize::from(self.version_ihl & 0xf) * 4
    }

    /// The sum over a header without options, its checksum as zero.
    #[inline(always)]
    pub fn sum(&self) -> u64 {
        let pair = |first, second| Be16::new(u16::from_be_bytes([first, second]));
        let sum = checksum::add16(0, pair(self.version_ihl, self.tos));
        let sum = checksum::add16(sum, self.total_length);
        let sum = checksum::add16(sum, self.id);
        let sum = checksum::add16(sum, self.fragment);
        let sum = checksum::add16(sum, pair(self.ttl, self.protocol));
        checksum::add_v4(checksum::add_v4(sum, self.source), self.destination)
    }
}

/// IPv6 header (RFC 8200).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    pub version_class: Be16,
    pub flow: Be16,
    pub payload_length: Be16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: V6,
    pub destination: V6,
}

impl Ipv6 {
    /// Version 6, no traffic class, as the upper half of the first word.
    pub const VERSION: Be16 = Be16::new(0x6000);

    /// The sum over the header.
    #[inline(always)]
    pub fn sum(&self) -> u64 {
        let last = Be16::new(u16::from_be_bytes([self.next_header, self.hop_limit]));
        let sum = checksum::add16(0, self.version_class);
        let sum = checksum::add16(checksum::add16(sum, self.flow), self.payload_length);
        let sum = checksum::add16(sum, last);
        checksum::add_v6(checksum::add_v6(sum, self.source), self.destination)
    }
}

pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;
pub const PROTOCOL_ICMPV6: u8 = 58;

/// The first eight bytes of ICMP and ICMPv6 (RFC 792, RFC 4443).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub checksum: Be16,
    pub rest: [Be16; 2],
}

pub const ICMP_ECHO_REPLY: u8 = 0;
pub const ICMP_UNREACHABLE: u8 = 3;
pub const ICMP_ECHO: u8 = 8;
pub const ICMP_TIME_EXCEEDED: u8 = 11;
/// Codes of [`ICMP_UNREACHABLE`].
pub const ICMP_UNREACHABLE_NET: u8 = 0;
pub const ICMP_UNREACHABLE_HOST: u8 = 1;
pub const ICMP_UNREACHABLE_PROTOCOL: u8 = 2;
pub const ICMP_UNREACHABLE_PORT: u8 = 3;
/// Communication administratively prohibited (RFC 1812, 5.2.7.1).
pub const ICMP_UNREACHABLE_PROHIBITED: u8 = 13;
pub const ICMP_FRAGMENTATION_NEEDED: u8 = 4;

pub const ICMPV6_UNREACHABLE: u8 = 1;
pub const ICMPV6_PACKET_TOO_BIG: u8 = 2;
pub const ICMPV6_TIME_EXCEEDED: u8 = 3;
pub const ICMPV6_PARAMETER_PROBLEM: u8 = 4;
pub const ICMPV6_ECHO: u8 = 128;
pub const ICMPV6_ECHO_REPLY: u8 = 129;
pub const ICMPV6_ROUTER_SOLICITATION: u8 = 133;
pub const ICMPV6_NEIGHBOR_SOLICITATION: u8 = 135;
pub const ICMPV6_NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Codes of [`ICMPV6_UNREACHABLE`].
pub const ICMPV6_NO_ROUTE: u8 = 0;
pub const ICMPV6_PROHIBITED: u8 = 1;
pub const ICMPV6_ADDRESS_UNREACHABLE: u8 = 3;
pub const ICMPV6_PORT_UNREACHABLE: u8 = 4;

/// Neighbour solicitation or advertisement (RFC 4861, 4.3 and 4.4) with one link-layer address
/// option (4.6.1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NeighborMessage {
    pub icmp: Icmp,
    pub target: V6,
    pub option: LinkLayerOption,
}

/// Source or target link-layer address option (RFC 4861, 4.6.1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LinkLayerOption {
    /// Kind, and length in units of 8 bytes.
    pub kind_length: Be16,
    pub mac: Mac,
}

impl LinkLayerOption {
    pub const SOURCE: Be16 = Be16::new(0x0101);
    pub const TARGET: Be16 = Be16::new(0x0201);
}
