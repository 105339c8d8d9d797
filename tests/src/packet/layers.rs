//! The layers: what each can say. A field that is `None` is computed.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Length of an Ethernet header.
pub const ETHERNET_LENGTH: usize = 14;
/// All stations.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// One layer of a packet.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named like what they hold")]
pub enum Layer {
    Ethernet(Ethernet),
    Vlan(Vlan),
    Arp(Arp),
    Ipv4(Ipv4),
    Ipv6(Ipv6),
    Udp(Udp),
    Tcp(Tcp),
    Icmp(Icmp),
    Icmpv6(Icmp),
    Bytes(Vec<u8>),
}

macro_rules! layer_from {
    ($($name:ident)*) => {
        $(impl From<$name> for Layer {
            fn from(layer: $name) -> Self {
                Self::$name(layer)
            }
        })*
    };
}
layer_from!(Ethernet Vlan Arp Ipv4 Ipv6 Udp Tcp);

impl From<Icmp> for Layer {
    fn from(icmp: Icmp) -> Self {
        if icmp.v6 {
            Self::Icmpv6(icmp)
        } else {
            Self::Icmp(icmp)
        }
    }
}

/// Declares a setter per field: for one that is computed otherwise, of what to say instead.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name.into();
            self
        })*
    };
}

/// Ethernet II.
#[derive(Clone, Debug)]
pub struct Ethernet {
    pub(super) source: [u8; 6],
    pub(super) destination: [u8; 6],
    pub(super) ethertype: Option<u16>,
}

/// A frame from one station to another.
pub fn ether(source: [u8; 6], destination: [u8; 6]) -> Ethernet {
    Ethernet {
        source,
        destination,
        ethertype: None,
    }
}

impl Ethernet {
    setters! {
        /// The type, when the next layer does not tell.
        ethertype: u16;
    }
}

/// A VLAN tag.
#[derive(Clone, Debug)]
pub struct Vlan {
    pub(super) tag_type: u16,
    pub(super) id: u16,
    pub(super) priority: u8,
    pub(super) drop_eligible: bool,
}

impl Vlan {
    setters! {
        /// Priority code point, 0 to 7.
        priority: u8;
        /// Drop eligible indicator.
        drop_eligible: bool;
    }

    pub(super) fn control(&self) -> u16 {
        u16::from(self.priority) << 13 | u16::from(self.drop_eligible) << 12 | self.id
    }
}

/// A customer tag (IEEE 802.1Q).
pub fn vlan(id: u16) -> Vlan {
    Vlan {
        tag_type: 0x8100,
        id,
        priority: 0,
        drop_eligible: false,
    }
}

/// A service tag (IEEE 802.1ad).
pub fn qinq(id: u16) -> Vlan {
    Vlan {
        tag_type: 0x88a8,
        id,
        priority: 0,
        drop_eligible: false,
    }
}

/// ARP for IPv4 over Ethernet.
#[derive(Clone, Debug)]
pub struct Arp {
    pub(super) hardware: u16,
    pub(super) operation: u16,
    pub(super) sender: ([u8; 6], Ipv4Addr),
    pub(super) target: ([u8; 6], Ipv4Addr),
}

/// "Who has `target`? Tell `sender`."
pub fn arp_request(sender: ([u8; 6], Ipv4Addr), target: Ipv4Addr) -> Arp {
    Arp {
        hardware: 1,
        operation: 1,
        sender,
        target: ([0; 6], target),
    }
}

/// "`sender.1` is at `sender.0`."
pub fn arp_reply(sender: ([u8; 6], Ipv4Addr), target: ([u8; 6], Ipv4Addr)) -> Arp {
    Arp {
        hardware: 1,
        operation: 2,
        sender,
        target,
    }
}

impl Arp {
    setters! {
        /// Hardware type.
        hardware: u16;
        /// Operation.
        operation: u16;
    }
}

/// IPv4.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) version: u8,
    pub(super) ihl: Option<u8>,
    pub(super) tos: u8,
    pub(super) total_length: Option<u16>,
    pub(super) id: u16,
    pub(super) fragment: u16,
    pub(super) ttl: u8,
    pub(super) protocol: Option<u8>,
    pub(super) checksum: Option<u16>,
    pub(super) options: Vec<u8>,
}

/// A datagram with a time to live of 64 that may be fragmented.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr) -> Ipv4 {
    Ipv4 {
        source,
        destination,
        version: 4,
        ihl: None,
        tos: 0,
        total_length: None,
        id: 0x1234,
        fragment: 0,
        ttl: 64,
        protocol: None,
        checksum: None,
        options: Vec::new(),
    }
}

impl Ipv4 {
    setters! {
        /// Version.
        version: u8;
        /// Header length in words.
        ihl: u8;
        /// Type of service.
        tos: u8;
        /// Length with the header.
        total_length: u16;
        /// Identification.
        id: u16;
        /// Time to live.
        ttl: u8;
        /// Protocol.
        protocol: u8;
        /// Header checksum.
        checksum: u16;
        /// Options; a multiple of four bytes.
        options: &[u8];
    }

    /// Sets "don't fragment".
    pub fn dont_fragment(mut self) -> Self {
        self.fragment |= 0x4000;
        self
    }

    /// A fragment, `offset` bytes into the datagram (a multiple of eight).
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = (offset / 8) | if more { 0x2000 } else { 0 };
        self
    }
}

/// IPv6.
#[derive(Clone, Debug)]
pub struct Ipv6 {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) version: u8,
    pub(super) class: u8,
    pub(super) flow: u32,
    pub(super) payload_length: Option<u16>,
    pub(super) next_header: Option<u8>,
    pub(super) hop_limit: u8,
}

/// A packet with a hop limit of 64.
pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr) -> Ipv6 {
    Ipv6 {
        source,
        destination,
        version: 6,
        class: 0,
        flow: 0,
        payload_length: None,
        next_header: None,
        hop_limit: 64,
    }
}

impl Ipv6 {
    setters! {
        /// Version.
        version: u8;
        /// Traffic class.
        class: u8;
        /// Flow label.
        flow: u32;
        /// Length without the header.
        payload_length: u16;
        /// Protocol.
        next_header: u8;
        /// Hop limit.
        hop_limit: u8;
    }
}

/// UDP.
#[derive(Clone, Debug)]
pub struct Udp {
    pub(super) source: u16,
    pub(super) destination: u16,
}

/// A datagram.
pub fn udp(source: u16, destination: u16) -> Udp {
    Udp {
        source,
        destination,
    }
}

/// TCP.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) flags: u8,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) window: u16,
    pub(super) options: Vec<u8>,
}

/// A segment that acknowledges.
pub fn tcp(source: u16, destination: u16) -> Tcp {
    Tcp {
        source,
        destination,
        flags: 0x10,
        sequence: 1,
        acknowledgment: 2,
        window: 0x4000,
        options: Vec::new(),
    }
}

impl Tcp {
    setters! {
        /// Flags, as in the header's last byte of them.
        flags: u8;
        /// Sequence number.
        sequence: u32;
        /// Acknowledgment number.
        acknowledgment: u32;
        /// Window.
        window: u16;
        /// Options; a multiple of four bytes.
        options: &[u8];
    }
}

/// ICMP or ICMPv6.
#[derive(Clone, Debug)]
pub struct Icmp {
    pub(super) v6: bool,
    pub(super) kind: u8,
    pub(super) code: u8,
    pub(super) rest: u32,
    pub(super) body: Vec<u8>,
    pub(super) checksum: Option<u16>,
}

/// An ICMP message; `rest` is the second word.
pub fn icmp(kind: u8, code: u8, rest: u32) -> Icmp {
    Icmp {
        v6: false,
        kind,
        code,
        rest,
        body: Vec::new(),
        checksum: None,
    }
}

/// An ICMPv6 message; `rest` is the second word.
pub fn icmpv6(kind: u8, code: u8, rest: u32) -> Icmp {
    Icmp {
        v6: true,
        kind,
        code,
        rest,
        body: Vec::new(),
        checksum: None,
    }
}

/// An echo request: identifier and sequence number.
pub fn echo(id: u16, sequence: u16) -> Icmp {
    icmp(8, 0, u32::from(id) << 16 | u32::from(sequence))
}

/// Its answer.
pub fn echo_reply(id: u16, sequence: u16) -> Icmp {
    icmp(0, 0, u32::from(id) << 16 | u32::from(sequence))
}

/// An ICMPv6 echo request: identifier and sequence number.
pub fn echo_v6(id: u16, sequence: u16) -> Icmp {
    icmpv6(128, 0, u32::from(id) << 16 | u32::from(sequence))
}

/// Its answer.
pub fn echo_reply_v6(id: u16, sequence: u16) -> Icmp {
    icmpv6(129, 0, u32::from(id) << 16 | u32::from(sequence))
}

/// A neighbour solicitation.
pub fn solicitation(target: Ipv6Addr) -> Icmp {
    Icmp {
        body: target.octets().to_vec(),
        ..icmpv6(135, 0, 0)
    }
}

/// A neighbour advertisement with the flags router, solicited, override as bits 2, 1, 0.
pub fn advertisement(target: Ipv6Addr, flags: u32) -> Icmp {
    Icmp {
        body: target.octets().to_vec(),
        ..icmpv6(136, 0, flags << 29)
    }
}

impl Icmp {
    setters! {
        /// Code.
        code: u8;
        /// Checksum.
        checksum: u16;
    }

    /// Adds the option "source link-layer address".
    pub fn source_address(self, mac: [u8; 6]) -> Self {
        self.option(1, &mac)
    }

    /// Adds the option "target link-layer address".
    pub fn target_address(self, mac: [u8; 6]) -> Self {
        self.option(2, &mac)
    }

    /// Adds an option of neighbour discovery; its length must be a multiple of eight, less two.
    pub fn option(mut self, kind: u8, value: &[u8]) -> Self {
        self.body.extend([kind, ((value.len() + 2) / 8) as u8]);
        self.body.extend(value);
        self
    }
}

/// `length` bytes that are all different from their neighbours.
pub fn payload(length: usize) -> Layer {
    Layer::Bytes((0..length).map(|i| (i * 7 + i / 256 + 1) as u8).collect())
}

/// These bytes.
pub fn raw(bytes: &[u8]) -> Layer {
    Layer::Bytes(bytes.to_vec())
}
