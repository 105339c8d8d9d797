//! A rule: what a packet must have.

use std::net::IpAddr;

use ebpf_abi::{
    address::V6,
    classifier::{
        self, DESTINATION_SET, FACT_ICMP, FACT_PORTS, FACT_TCP, FURTHER, Further, Header,
        MAX_RANGES, NOT_DESTINATION, NOT_SOURCE, Range, SOURCE_SET, Words,
    },
};
use topology_schema::Prefix;

use super::{
    Ports,
    ports::{PORT_BITS, prefix_length},
};
use crate::digest::Digest;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

/// A rule of a list. What it does to packets is its cube's business: the classifier finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Who it is, whatever becomes of the others and of its content. No other rule of the cube has
    /// the same.
    pub key: String,
    /// Where the packet comes from.
    pub source: AddressMatch,
    /// Where it goes.
    pub destination: AddressMatch,
    /// Its protocol; `None`: any.
    pub protocol: Option<u8>,
    /// Its family. `None`: that of the prefixes that are not negated; without any, both.
    pub family: Option<Family>,
    /// Its source port.
    pub source_ports: Ports,
    /// Its destination port.
    pub destination_ports: Ports,
    /// Its ICMP or ICMPv6 type, and code.
    pub icmp: Option<(u8, Option<u8>)>,
    /// TCP flags that are looked at, and which of them are set.
    pub tcp_flags: Option<(u8, u8)>,
    /// States of its connection (`ebpf_abi::classifier::STATE_*`), or'ed; 0: any.
    pub states: u8,
    /// What the cube keeps with it.
    pub data: u64,
}

/// What a rule says of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressMatch {
    /// What does not match otherwise does, and the reverse.
    pub negated: bool,
    /// Which addresses.
    pub addresses: Addresses,
}

/// Addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// All.
    #[default]
    Any,
    /// Those with a prefix.
    Prefix(Prefix),
    /// Those in a set, by its number.
    Set(u32),
}

impl AddressMatch {
    /// Those with a prefix.
    pub fn prefix(prefix: Prefix) -> Self {
        Self {
            negated: false,
            addresses: Addresses::Prefix(prefix),
        }
    }

    /// True if an address matches.
    pub fn contains(&self, address: V6, in_set: impl Fn(u32, V6) -> bool) -> bool {
        let among = match &self.addresses {
            Addresses::Any => true,
            Addresses::Prefix(prefix) => {
                let (value, length) = mapped(prefix);
                let mask = mask_of(length).bytes();
                let differs = |at: usize| (address.bytes()[at] ^ value.bytes()[at]) & mask[at];
                (0..16).all(|at| differs(at) == 0)
            }
            Addresses::Set(set) => in_set(*set, address),
        };
        among != self.negated
    }

    fn family(&self) -> Option<Family> {
        match &self.addresses {
            Addresses::Prefix(prefix) if !self.negated => Some(match prefix.address() {
                IpAddr::V4(_) => Family::V4,
                IpAddr::V6(_) => Family::V6,
            }),
            Addresses::Any | Addresses::Prefix(_) | Addresses::Set(_) => None,
        }
    }
}

impl Rule {
    /// True if packets of the family can match.
    pub fn is_for(&self, family: Family) -> bool {
        let families = [self.family, self.source.family(), self.destination.family()];
        families.iter().flatten().all(|its| *its == family)
    }

    /// Ports and ranges of ports that a packet is compared with, at most
    /// [`MAX_RANGES`](ebpf_abi::classifier::MAX_RANGES).
    pub fn ranges(&self) -> usize {
        let count = |ports: &Ports| ports.ranges().map_or(0, <[Range]>::len);
        count(&self.source_ports) + count(&self.destination_ports)
    }

    /// Stands for the key, for tables that must tell which rule an entry was for. Never 0.
    pub fn identity(&self) -> u32 {
        Digest::of(&["rule", &self.key]).number().max(1)
    }
}

/// A prefix as one of IPv6, and its length as such.
fn mapped(prefix: &Prefix) -> (V6, u8) {
    match prefix.address() {
        IpAddr::V4(address) => (
            V6::new(address.to_ipv6_mapped().octets()),
            prefix.length() + MAPPED_BITS,
        ),
        IpAddr::V6(address) => (V6::new(address.octets()), prefix.length()),
    }
}

/// Bits of an IPv4-mapped address in front of the IPv4 address.
pub(super) const MAPPED_BITS: u8 = 96;

/// An address whose first bits are set.
pub(super) fn mask_of(length: u8) -> V6 {
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    V6::new(mask.to_be_bytes())
}

/// A rule as packets are compared with it, and what tuples may look at.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    /// As it is in the kernel.
    pub record: classifier::Rule,
    /// What else it says, if it does.
    pub further: Option<Box<Further>>,
    /// Bits of the source address that all packets which match have in common.
    pub source: u8,
    /// The same of the destination.
    pub destination: u8,
    /// The protocol is one.
    pub protocol: bool,
    /// The ranges of source ports.
    pub source_ports: Vec<Range>,
    /// The ranges of what is in the place of the destination port.
    pub destination_ports: Vec<Range>,
    /// No packet matches.
    pub never: bool,
}

const ALL_PORTS: Range = Range {
    first: 0,
    last: u16::MAX,
};

impl Compiled {
    pub(super) fn new(rule: &Rule) -> Self {
        let (mut value, mut mask) = (Header::default(), Header::default());
        let (source_value, source, source_bits) = address(&rule.source);
        let (destination_value, destination, destination_bits) = address(&rule.destination);
        (value.source, value.destination) = (source_value, destination_value);
        let mut further = Further::default();
        let mut record = classifier::Rule {
            data: rule.data,
            source: source_bits,
            destination: destination_bits,
            ..classifier::Rule::default()
        };
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        record.flags =
            flag(rule.source.negated, NOT_SOURCE) | flag(rule.destination.negated, NOT_DESTINATION);
        if let Addresses::Set(set) = rule.source.addresses {
            (further.source_set, record.flags) = (set, record.flags | SOURCE_SET);
        }
        if let Addresses::Set(set) = rule.destination.addresses {
            (further.destination_set, record.flags) = (set, record.flags | DESTINATION_SET);
        }
        if let Some(protocol) = rule.protocol {
            (value.protocol, mask.protocol) = (protocol, u8::MAX);
        }
        if let Some((bits, set)) = rule.tcp_flags {
            (value.tcp_flags, mask.tcp_flags) = (set & bits, bits);
            mask.facts |= FACT_TCP;
        }
        record.states = if rule.states == 0 {
            u8::MAX
        } else {
            rule.states
        };
        let mut destination_ports = rule.destination_ports.clone();
        if rule
            .source_ports
            .ranges()
            .or(destination_ports.ranges())
            .is_some()
        {
            mask.facts |= FACT_PORTS;
        }
        if let Some((kind, code)) = rule.icmp {
            mask.facts |= FACT_ICMP;
            let of = |code: u8| u16::from_be_bytes([kind, code]);
            let range = Range {
                first: of(code.unwrap_or(0)),
                last: of(code.unwrap_or(u8::MAX)),
            };
            destination_ports = Ports::new([range], false);
        }
        value.facts = mask.facts;
        let mut ranges = Vec::new();
        further.source_ranges = ports(
            &rule.source_ports,
            (&mut value.source_port, &mut mask.source_port),
            &mut ranges,
        );
        further.destination_ranges = ports(
            &destination_ports,
            (&mut value.destination_port, &mut mask.destination_port),
            &mut ranges,
        );
        if record.flags & (SOURCE_SET | DESTINATION_SET) != 0 || !ranges.is_empty() {
            record.flags |= FURTHER;
        }
        for (place, range) in further.ranges.iter_mut().zip(&ranges) {
            *place = *range;
        }
        record.value = value.words();
        [.., record.rest] = mask.words();
        let all = |ports: &Ports| ports.ranges().map_or(vec![ALL_PORTS], <[Range]>::to_vec);
        // A packet has ports or an ICMP type, and rules with more ranges than there is room for
        // are refused before.
        let contradicts = mask.facts & FACT_PORTS != 0 && mask.facts & FACT_ICMP != 0;
        let (source_ports, destination_ports) = (all(&rule.source_ports), all(&destination_ports));
        let empty = source_ports.is_empty() || destination_ports.is_empty();
        let nobody = |what: &AddressMatch| what.negated && what.addresses == Addresses::Any;
        let has_further = record.flags & FURTHER != 0;
        Self {
            record,
            further: has_further.then(|| Box::new(further)),
            source,
            destination,
            protocol: rule.protocol.is_some(),
            never: contradicts
                || empty
                || ranges.len() > MAX_RANGES
                || nobody(&rule.source)
                || nobody(&rule.destination),
            source_ports,
            destination_ports,
        }
    }

    /// The rule's part of the words in which tuples look at addresses and protocol.
    pub(super) fn words(&self) -> Words {
        self.record.value
    }
}

/// The bits of an address, how many all packets that match have in common, and how many are compared.
fn address(what: &AddressMatch) -> (V6, u8, u8) {
    let Addresses::Prefix(prefix) = &what.addresses else {
        return (V6::default(), 0, 0);
    };
    let (network, length) = mapped(prefix);
    (network, if what.negated { 0 } else { length }, length)
}

/// Fills in the bits of a port where that says it all; says which ranges are left to compare.
fn ports(ports: &Ports, (value, mask): (&mut u16, &mut u16), ranges: &mut Vec<Range>) -> u16 {
    match ports.ranges() {
        None => 0,
        Some([one]) if prefix_length(*one).is_some() => {
            let length = prefix_length(*one).unwrap_or(0);
            *value = one.first;
            *mask = u16::MAX
                .checked_shl(u32::from(PORT_BITS - length))
                .unwrap_or(0);
            0
        }
        Some(several) => {
            let bits = |count: usize| 1u16.checked_shl(count as u32).unwrap_or(0).wrapping_sub(1);
            let before = bits(ranges.len());
            ranges.extend_from_slice(several);
            bits(ranges.len()) & !before
        }
    }
}
