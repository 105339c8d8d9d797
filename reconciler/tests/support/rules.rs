//! Lists of rules and packets for tests of the classifier.
#![allow(dead_code, reason = "each test uses a part")]

use std::net::{Ipv4Addr, Ipv6Addr};

use ebpf_abi::{
    address::V6,
    classifier::{FACT_ICMP, FACT_PORTS, FACT_TCP, FACT_V6, Header, Range},
};
use reconciler::classify::{AddressMatch, Addresses, Family, Ports, Rule};
use topology_schema::Prefix;

/// A generator of numbers, the same at every run (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, count: u64) -> u64 {
        (self.next() >> 16) % count
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

pub fn v4(address: u32) -> V6 {
    V6::new(Ipv4Addr::from(address).to_ipv6_mapped().octets())
}

pub fn prefix_v4(address: u32, length: u8) -> Prefix {
    Prefix::containing(Ipv4Addr::from(address).into(), length).expect("a length of IPv4")
}

pub fn prefix_v6(address: u128, length: u8) -> Prefix {
    Prefix::containing(Ipv6Addr::from(address).into(), length).expect("a length of IPv6")
}

pub fn range(first: u16, last: u16) -> Range {
    Range {
        first: first.min(last),
        last: first.max(last),
    }
}

/// Ports at which something begins or ends.
const PORTS: [u16; 12] = [0, 1, 22, 53, 79, 80, 81, 443, 1023, 1024, 8080, 65535];
const PROTOCOLS: [u8; 5] = [1, 6, 17, 58, 47];

/// What addresses are made of: few bits, so that prefixes are nested and packets meet them.
fn address(random: &mut Random) -> u32 {
    const PARTS: [u32; 4] = [0, 1, 2, 255];
    let [a, b, c] = [0; 3].map(|_| random.of(&PARTS));
    random.of(&[10, 192]) << 24 | a << 16 | b << 8 | c
}

fn address_v6(random: &mut Random) -> u128 {
    let high = u128::from(address(random)) << 64;
    0x2001_0db8 << 96 | high | u128::from(random.of(&[0u32, 1, 0xffff]))
}

/// True for sets and addresses at random, and always the same.
pub fn in_set(set: u32, address: V6) -> bool {
    let sum: u32 = address.bytes().iter().map(|byte| u32::from(*byte)).sum();
    sum.is_multiple_of(set % 5 + 2)
}

fn address_match(random: &mut Random, family: Option<Family>) -> AddressMatch {
    let of_v4 = match family {
        Some(family) => family == Family::V4,
        None => random.one_in(2),
    };
    let addresses = match random.below(8) {
        0..3 => Addresses::Any,
        3 => Addresses::Set(random.of(&[0, 1, 2, 31, 32, 40])),
        _ if of_v4 => {
            let length = random.of(&[0, 1, 7, 8, 15, 16, 23, 24, 25, 31, 32]);
            Addresses::Prefix(prefix_v4(address(random), length))
        }
        _ => {
            let length = random.of(&[0, 1, 32, 40, 47, 48, 56, 63, 64, 65, 127, 128]);
            Addresses::Prefix(prefix_v6(address_v6(random), length))
        }
    };
    AddressMatch {
        negated: random.one_in(6),
        addresses,
    }
}

fn ports(random: &mut Random) -> Ports {
    let one = |random: &mut Random| {
        let port = random.of(&PORTS);
        range(port, port)
    };
    let negated = random.one_in(6);
    match random.below(6) {
        0 | 1 => Ports::any(),
        2 => Ports::new([one(random)], negated),
        3 => Ports::new([range(random.of(&PORTS), random.of(&PORTS))], negated),
        4 => Ports::new([range(random.next() as u16, random.next() as u16)], negated),
        _ => {
            let count = random.below(7);
            let several: Vec<Range> = (0..count)
                .map(|_| match random.below(3) {
                    0 => range(random.of(&PORTS), random.of(&PORTS)),
                    _ => one(random),
                })
                .collect();
            Ports::new(several, negated)
        }
    }
}

/// A rule of any sort.
pub fn any_rule(random: &mut Random, key: String) -> Rule {
    let family = random.of(&[None, None, Some(Family::V4), Some(Family::V6)]);
    let mut rule = Rule {
        key,
        source: address_match(random, family),
        destination: address_match(random, family),
        family: family.filter(|_| random.one_in(2)),
        ..Rule::default()
    };
    if !random.one_in(3) {
        rule.protocol = Some(random.of(&PROTOCOLS));
    }
    if random.one_in(2) {
        rule.destination_ports = ports(random);
    }
    if random.one_in(4) {
        rule.source_ports = ports(random);
    }
    if random.one_in(8) {
        let code = random.of(&[None, Some(0), Some(1)]);
        rule.icmp = Some((random.of(&[0, 3, 8, 128]), code));
    }
    if random.one_in(6) {
        rule.tcp_flags = Some((random.next() as u8, random.next() as u8));
    }
    if random.one_in(3) {
        rule.states = random.below(32) as u8;
    }
    rule
}

/// A packet that rules could be about.
pub fn any_header(random: &mut Random) -> Header {
    let v6 = random.one_in(2);
    let side = |random: &mut Random| match v6 {
        true => V6::new(address_v6(random).to_be_bytes()),
        false => v4(address(random)),
    };
    let mut header = Header {
        source: side(random),
        destination: side(random),
        protocol: random.of(&PROTOCOLS),
        state: 1 << random.below(5),
        facts: if v6 { FACT_V6 } else { 0 },
        ..Header::default()
    };
    complete(&mut header, random);
    header
}

/// Gives a packet what its protocol has.
fn complete(header: &mut Header, random: &mut Random) {
    if random.one_in(10) {
        return; // A later fragment.
    }
    let port = |random: &mut Random| match random.below(3) {
        0 => random.next() as u16,
        _ => random.of(&PORTS),
    };
    match header.protocol {
        6 | 17 => {
            (header.source_port, header.destination_port) = (port(random), port(random));
            header.facts |= FACT_PORTS;
            if header.protocol == 6 {
                header.tcp_flags = random.next() as u8;
                header.facts |= FACT_TCP;
            }
        }
        1 | 58 => {
            let [kind, code] = [random.of(&[0u8, 3, 8, 128]), random.of(&[0, 0, 1, 2])];
            header.destination_port = u16::from_be_bytes([kind, code]);
            header.facts |= FACT_ICMP;
        }
        _ => {}
    }
}

/// A packet that matches the rule in most of what it asks for, and in most cases in all.
pub fn header_for(rule: &Rule, random: &mut Random) -> Header {
    let mut header = any_header(random);
    let v4_only = rule.is_for(Family::V4) && !rule.is_for(Family::V6);
    if v4_only == (header.facts & FACT_V6 != 0) {
        header.facts ^= FACT_V6;
        let v6 = header.facts & FACT_V6 != 0;
        let side = |random: &mut Random| match v6 {
            true => V6::new(address_v6(random).to_be_bytes()),
            false => v4(address(random)),
        };
        (header.source, header.destination) = (side(random), side(random));
    }
    let mut into = |what: &AddressMatch, address: &mut V6| {
        if let (Addresses::Prefix(prefix), false) = (&what.addresses, what.negated) {
            let (network, host) = match prefix.address() {
                std::net::IpAddr::V4(network) => {
                    let host = u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                    let low = u32::from(network) | (random.next() as u32 & host);
                    (v4(low).bytes(), [0; 16])
                }
                std::net::IpAddr::V6(network) => {
                    let host = u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                    (
                        network.octets(),
                        (u128::from(random.next()) & host).to_be_bytes(),
                    )
                }
            };
            let mut bytes = network;
            bytes
                .iter_mut()
                .zip(host)
                .for_each(|(byte, host)| *byte |= host);
            *address = V6::new(bytes);
        }
    };
    into(&rule.source, &mut header.source);
    into(&rule.destination, &mut header.destination);
    if let Some(protocol) = rule.protocol {
        header.protocol = protocol;
        header.facts &= FACT_V6;
        (
            header.source_port,
            header.destination_port,
            header.tcp_flags,
        ) = (0, 0, 0);
        complete(&mut header, random);
    }
    let within = |ports: &Ports, random: &mut Random| {
        let ranges = ports.ranges().filter(|ranges| !ranges.is_empty())?;
        let range = random.of(ranges);
        let edges = [range.first, range.last, range.last.wrapping_add(1)];
        Some(match random.below(4) {
            0 => random.of(&edges),
            _ => range.first + random.below(u64::from(range.last - range.first) + 1) as u16,
        })
    };
    if header.facts & FACT_PORTS != 0 {
        if let Some(port) = within(&rule.source_ports, random) {
            header.source_port = port;
        }
        if let Some(port) = within(&rule.destination_ports, random) {
            header.destination_port = port;
        }
    }
    if let (Some((bits, set)), true) = (rule.tcp_flags, header.facts & FACT_TCP != 0) {
        header.tcp_flags = header.tcp_flags & !bits | set & bits;
    }
    if let (Some((kind, code)), true) = (rule.icmp, header.facts & FACT_ICMP != 0) {
        header.destination_port = u16::from_be_bytes([kind, code.unwrap_or(7)]);
    }
    if rule.states != 0 {
        let fitting = (0..5)
            .map(|bit| 1 << bit)
            .find(|bit| rule.states & bit != 0);
        header.state = fitting.unwrap_or(1);
    }
    header
}

/// Rules as they are in large firewalls: networks and hosts of a few sites on one side or on both,
/// services by port, some ranges, some that name nearly nothing.
pub fn many_rules(count: usize, seed: u64) -> Vec<Rule> {
    let mut random = Random(seed);
    (0..count)
        .map(|at| {
            let mut rule = Rule {
                key: format!("ingress/r{at}"),
                ..Rule::default()
            };
            let network = |what: &mut AddressMatch, random: &mut Random| {
                let site = random.below(64) as u32;
                let address = 10 << 24 | site << 18 | (random.next() >> 40) as u32 & 0x3_ffff;
                let length = match random.below(100) {
                    0..40 => 32,
                    40..70 => 24,
                    70..80 => 28,
                    80..90 => 22,
                    90..99 => 16,
                    _ => 14,
                };
                *what = AddressMatch::prefix(prefix_v4(address, length));
            };
            match random.below(10) {
                0..3 => network(&mut rule.source, &mut random),
                3..6 => network(&mut rule.destination, &mut random),
                _ => {
                    network(&mut rule.source, &mut random);
                    network(&mut rule.destination, &mut random);
                }
            }
            if !random.one_in(8) {
                rule.protocol = Some(random.of(&[6, 6, 6, 17]));
                rule.destination_ports = match random.below(20) {
                    0..3 => Ports::any(),
                    3 => Ports::new([range(1024, 65535)], false),
                    4 => {
                        let first = random.next() as u16;
                        Ports::new([range(first, first.saturating_add(99))], false)
                    }
                    5 => Ports::new([range(80, 80), range(443, 443), range(8080, 8080)], false),
                    _ => {
                        let port = random.below(2000) as u16;
                        Ports::new([range(port, port)], false)
                    }
                };
            }
            rule
        })
        .collect()
}
