//! `ddosMitigator`: what comes from or goes to listed prefixes is dropped.

use std::net::{Ipv4Addr, Ipv6Addr};

use ebpf_abi::{
    address::{V4, V6},
    chain::Direction,
    counters::DropReason,
    ddos_mitigator::{
        Hits, LIST_DESTINATIONS, LIST_SOURCES, Lengths, PrefixV4, PrefixV6, lengths_index,
        network_v6,
    },
    port::{HOP_PASS, Hop},
    transparent::Attachment,
};
use integration_tests::{
    cube::Cube,
    packet::{Ipv4, Ipv6, Packet, arp_request, ether, ipv4, ipv6, payload, qinq, tcp, udp, vlan},
    table::{CUT_OFF, Outcome, Row, dropped, passed, row, table},
    test_run::{Gso, Hook},
};

const COUNTER: u32 = 2;
const S: [u8; 6] = [2, 0, 0, 0, 0, 1];
const D: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GOOD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const GOOD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Listed as sources: all of these networks, and this one address with an entry of its own.
const BAD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const BAD_NET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 0);
const BAD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 7);
const BAD_NET_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0);
/// Listed as destinations.
const VICTIM: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const VICTIM_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x71c, 0, 0, 0, 0, 9);

fn attachment(direction: Direction) -> Attachment {
    let hop = Hop {
        kind: HOP_PASS,
        ..Hop::default()
    };
    Attachment {
        direction: direction as u32,
        counter: COUNTER,
        slot: 0,
        hop,
    }
}

/// An entry of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    V4(u32, PrefixV4),
    V6(u32, PrefixV6),
}

fn entry_v4(list: u32, address: Ipv4Addr, length: u32) -> Entry {
    let address = V4::new(address.octets());
    Entry::V4(list, PrefixV4 { length, address })
}

fn entry_v6(list: u32, address: Ipv6Addr, length: u32) -> Entry {
    let address = network_v6(V6::new(address.octets()), length);
    Entry::V6(list, PrefixV6 { length, address })
}

fn listed() -> [Entry; 6] {
    [
        entry_v4(LIST_SOURCES, BAD_NET, 24),
        entry_v4(LIST_SOURCES, BAD, 32),
        entry_v4(LIST_DESTINATIONS, VICTIM, 32),
        entry_v6(LIST_SOURCES, BAD_NET_V6, 48),
        entry_v6(LIST_SOURCES, BAD_V6, 128),
        entry_v6(LIST_DESTINATIONS, VICTIM_V6, 64),
    ]
}

pub(crate) fn lists(cube: &Cube) {
    list(cube, &listed());
}

/// Lists these, and says which lengths there are.
fn list(cube: &Cube, entries: &[Entry]) {
    let mut lengths = [Lengths::default(); 4];
    for entry in entries {
        match *entry {
            Entry::V4(list, key) => {
                lengths[lengths_index(list, 4) as usize].add(key.length, 32);
                cube.write_all_cpus(table_of(*entry), key, Hits::default());
            }
            Entry::V6(list, key) => {
                lengths[lengths_index(list, 6) as usize].add(key.length, 128);
                cube.write_all_cpus(table_of(*entry), key, Hits::default());
            }
        }
    }
    cube.write_array("lengths", &lengths);
}

fn table_of(entry: Entry) -> &'static str {
    match entry {
        Entry::V4(LIST_SOURCES, _) => "sources_v4",
        Entry::V4(..) => "destinations_v4",
        Entry::V6(LIST_SOURCES, _) => "sources_v6",
        Entry::V6(..) => "destinations_v6",
    }
}

fn v4(ip: Ipv4) -> Packet {
    ether(S, D) / ip / udp(1, 2) / payload(30)
}

fn v6(ip: Ipv6) -> Packet {
    ether(S, D) / ip / tcp(1, 2) / payload(31)
}

fn pass(packet: &Packet) -> Outcome {
    passed(COUNTER, 9, packet)
}

fn passes(name: &'static str, packet: Packet) -> Row {
    row(name).send(9, &packet, pass(&packet)).then(|cube| {
        for entry in [
            entry_v4(LIST_SOURCES, BAD, 32),
            entry_v4(LIST_SOURCES, BAD_NET, 24),
            entry_v6(LIST_SOURCES, BAD_V6, 128),
        ] {
            assert_eq!(hits(cube, entry), Hits::default());
        }
    })
}

/// The packet is dropped twice, and both times counted with this entry and no other.
fn hit(name: &'static str, packet: Packet, entry: Entry) -> Row {
    let bytes = 2 * packet.bytes().len() as u64;
    let drop = dropped(DropReason::Policy);
    row(name)
        .send(9, &packet, drop.clone())
        .send(9, &packet, drop)
        .then(move |cube| {
            for other in listed() {
                let expected = if other == entry {
                    Hits { packets: 2, bytes }
                } else {
                    Hits::default()
                };
                assert_eq!(hits(cube, other), expected, "{other:?}");
            }
        })
}

fn hits(cube: &Cube, entry: Entry) -> Hits {
    let cpus: Vec<Hits> = match entry {
        Entry::V4(_, key) => cube.read_all_cpus(table_of(entry), key),
        Entry::V6(_, key) => cube.read_all_cpus(table_of(entry), key),
    };
    cpus.into_iter().fold(Hits::default(), |sum, cpu| Hits {
        packets: sum.packets + cpu.packets,
        bytes: sum.bytes + cpu.bytes,
    })
}

/// Networks of all lengths, each in the one before: the longest that has an address counts.
fn nested() -> Vec<Row> {
    let networks_v4 = || {
        let address = u32::from(BAD);
        (0..=32u32).map(move |length| {
            let network = address & u32::MAX.checked_shl(32 - length).unwrap_or(0);
            entry_v4(LIST_SOURCES, network.into(), length)
        })
    };
    let networks_v6 = || {
        let address = u128::from(VICTIM_V6);
        (0..=128u32).map(move |length| {
            let network = address & u128::MAX.checked_shl(128 - length).unwrap_or(0);
            entry_v6(LIST_DESTINATIONS, network.into(), length)
        })
    };
    let drop = || dropped(DropReason::Policy);
    vec![
        row("IPv4 networks of all lengths")
            .with(move |cube| list(cube, &networks_v4().collect::<Vec<_>>()))
            .send(9, &v4(ipv4(BAD, GOOD)), drop())
            // One bit differs: the network before it.
            .send(9, &v4(ipv4((u32::from(BAD) ^ 1 << 9).into(), GOOD)), drop())
            .send(
                9,
                &v4(ipv4((u32::from(BAD) ^ 1 << 31).into(), GOOD)),
                drop(),
            )
            .then(move |cube| {
                for (length, entry) in (0..).zip(networks_v4()) {
                    let expected = u64::from([0, 22, 32].contains(&length));
                    assert_eq!(hits(cube, entry).packets, expected, "/{length}");
                }
            }),
        row("IPv6 networks of all lengths")
            .with(move |cube| list(cube, &networks_v6().collect::<Vec<_>>()))
            .send(9, &v6(ipv6(GOOD_V6, VICTIM_V6)), drop())
            .send(
                9,
                &v6(ipv6(GOOD_V6, (u128::from(VICTIM_V6) ^ 1 << 63).into())),
                drop(),
            )
            .send(
                9,
                &v6(ipv6(GOOD_V6, (u128::from(VICTIM_V6) ^ 1 << 64).into())),
                drop(),
            )
            .send(
                9,
                &v6(ipv6(GOOD_V6, (u128::from(VICTIM_V6) ^ 1 << 127).into())),
                drop(),
            )
            .then(move |cube| {
                for (length, entry) in (0..).zip(networks_v6()) {
                    let expected = u64::from([0, 63, 64, 128].contains(&length));
                    assert_eq!(hits(cube, entry).packets, expected, "/{length}");
                }
            }),
    ]
}

fn rows_of_lists() -> Vec<Row> {
    let [net, other] = [Ipv4Addr::new(192, 0, 2, 8), Ipv4Addr::new(192, 0, 3, 7)];
    let net_v6 = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0xffff, 0, 0, 0, 1);
    let other_v6 = Ipv6Addr::new(0x2001, 0xdb8, 0xbae, 0, 0, 0, 0, 7);
    let source = entry_v4(LIST_SOURCES, BAD, 32);
    vec![
        passes("unlisted addresses", v4(ipv4(GOOD, other))),
        passes("unlisted IPv6 addresses", v6(ipv6(GOOD_V6, other_v6))),
        passes("a source just outside the prefix", v4(ipv4(other, GOOD))),
        passes(
            "an IPv6 source just outside the prefix",
            v6(ipv6(other_v6, GOOD_V6)),
        ),
        passes("a listed source as destination", v4(ipv4(GOOD, BAD))),
        passes(
            "a listed IPv6 source as destination",
            v6(ipv6(GOOD_V6, BAD_V6)),
        ),
        passes("a listed destination as source", v4(ipv4(VICTIM, GOOD))),
        hit(
            "a source in a listed network",
            v4(ipv4(net, GOOD)),
            entry_v4(LIST_SOURCES, BAD_NET, 24),
        ),
        hit(
            "a source with an entry of its own counts there",
            v4(ipv4(BAD, GOOD)),
            source,
        ),
        hit(
            "a listed destination",
            v4(ipv4(GOOD, VICTIM)),
            entry_v4(LIST_DESTINATIONS, VICTIM, 32),
        ),
        hit(
            "both listed: the source counts",
            v4(ipv4(BAD, VICTIM)),
            source,
        ),
        hit(
            "an IPv6 source in a listed network",
            v6(ipv6(net_v6, GOOD_V6)),
            entry_v6(LIST_SOURCES, BAD_NET_V6, 48),
        ),
        hit(
            "a listed IPv6 source",
            v6(ipv6(BAD_V6, GOOD_V6)),
            entry_v6(LIST_SOURCES, BAD_V6, 128),
        ),
        hit(
            "a listed IPv6 destination",
            v6(ipv6(GOOD_V6, VICTIM_V6)),
            entry_v6(LIST_DESTINATIONS, VICTIM_V6, 64),
        ),
        hit(
            "fragments too",
            v4(ipv4(BAD, GOOD).fragment(1480, false)),
            source,
        ),
        hit(
            "options do not hide a source",
            v4(ipv4(BAD, GOOD).options(&[7, 4, 4, 0])),
            source,
        ),
        row("egress passes")
            .global("ATTACHMENT", attachment(Direction::Egress))
            .send(9, &v4(ipv4(BAD, VICTIM)), pass(&v4(ipv4(BAD, VICTIM)))),
        row("an entry that was taken off the list")
            .with(|cube| {
                cube.delete(
                    "sources_v4",
                    PrefixV4 {
                        length: 32,
                        address: V4::new(BAD.octets()),
                    },
                )
            })
            .send(9, &v4(ipv4(BAD, GOOD)), dropped(DropReason::Policy))
            .then(|cube| assert_eq!(hits(cube, entry_v4(LIST_SOURCES, BAD_NET, 24)).packets, 1))
            .with(|cube| {
                cube.delete(
                    "sources_v4",
                    PrefixV4 {
                        length: 24,
                        address: V4::new(BAD_NET.octets()),
                    },
                )
            })
            .send(9, &v4(ipv4(BAD, GOOD)), pass(&v4(ipv4(BAD, GOOD)))),
        row("segments count as the packets they stand for")
            .send_segments(
                9,
                &v4(ipv4(BAD, GOOD)),
                Gso {
                    segments: 5,
                    size: 6,
                },
                dropped(DropReason::Policy),
            )
            .then(|cube| assert_eq!(hits(cube, entry_v4(LIST_SOURCES, BAD, 32)).packets, 5)),
    ]
}

fn rows_of_frames() -> Vec<Row> {
    let bad = || ipv4(BAD, GOOD);
    let bad_v6 = || ipv6(BAD_V6, GOOD_V6);
    let source = entry_v4(LIST_SOURCES, BAD, 32);
    let source_v6 = entry_v6(LIST_SOURCES, BAD_V6, 128);
    let malformed =
        |packet: Packet| row("cut off").send(9, &packet, dropped(DropReason::Malformed));
    vec![
        hit(
            "behind a VLAN tag",
            ether(S, D) / vlan(5) / bad() / udp(1, 2),
            source,
        ),
        hit(
            "behind a service tag",
            ether(S, D) / qinq(5) / bad() / udp(1, 2),
            source,
        ),
        hit(
            "behind two tags",
            ether(S, D) / qinq(5) / vlan(6) / bad() / udp(1, 2),
            source,
        ),
        hit(
            "IPv6 behind a VLAN tag",
            ether(S, D) / vlan(5) / bad_v6() / udp(1, 2),
            source_v6,
        ),
        hit(
            "IPv6 behind two tags",
            ether(S, D) / vlan(5) / vlan(6) / bad_v6() / udp(1, 2),
            source_v6,
        ),
        passes(
            "unlisted behind two tags",
            ether(S, D) / qinq(5) / vlan(6) / ipv4(GOOD, GOOD) / udp(1, 2),
        ),
        // A known limit; no host takes three tags off unasked.
        passes(
            "behind three tags nobody looks",
            ether(S, D) / qinq(5) / vlan(6) / vlan(7) / bad() / udp(1, 2),
        ),
        passes("ARP", ether(S, D) / arp_request((S, BAD), VICTIM)),
        passes("something else", ether(S, D) / payload(46)),
        passes("only a header", ether(S, D) / payload(0)),
        malformed((ether(S, D) / vlan(5) / bad()).truncated(16)),
        malformed((ether(S, D) / vlan(5) / bad()).truncated(14 + 4 + 19)),
        malformed((ether(S, D) / qinq(5) / vlan(6) / bad_v6()).truncated(14 + 8 + 39)),
        malformed(v4(ipv4(BAD, GOOD)).truncated(14 + 19)).only(Hook::Xdp, CUT_OFF),
        malformed(v6(ipv6(BAD_V6, GOOD_V6)).truncated(14 + 39)).only(Hook::Xdp, CUT_OFF),
    ]
}

#[test]
fn packets() {
    table("ddos_mitigator", lists)
        .counts_at(COUNTER)
        .global("ATTACHMENT", attachment(Direction::Ingress))
        .rows(rows_of_lists())
        .rows(rows_of_frames())
        .rows(nested())
        .run();
}
