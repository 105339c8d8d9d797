//! `ddosMitigator`: what comes from or goes to listed prefixes is dropped.

use std::net::{Ipv4Addr, Ipv6Addr};

use ebpf_abi::{
    address::{V4, V6},
    chain::Direction,
    counters::DropReason,
    ddos_mitigator::{LIST_DESTINATIONS, LIST_SOURCES, Lengths, Settings, lengths_index},
    port::{HOP_PASS, Hop},
    prefix_set::{Address, Hits, Shape},
    transparent::Attachment,
};
use fib::{Prefix, PrefixSet, Prefixes};
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
    V4(u32, Prefix<V4>),
    V6(u32, Prefix<V6>),
}

fn entry_v4(list: u32, address: Ipv4Addr, length: u32) -> Entry {
    let address = V4::new(address.octets());
    Entry::V4(list, (address.network(length), length))
}

fn entry_v6(list: u32, address: Ipv6Addr, length: u32) -> Entry {
    let address = V6::new(address.octets());
    Entry::V6(list, (address.network(length), length))
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
            Entry::V4(list, (address, length)) => {
                lengths[lengths_index(list, 4) as usize].add(length, 32);
                with_set(cube, *entry, |set| set.insert(address, length));
            }
            Entry::V6(list, (address, length)) => {
                lengths[lengths_index(list, 6) as usize].add(length, 128);
                with_set(cube, *entry, |set| set.insert(address, length));
            }
        }
    }
    cube.write_array("lengths", &lengths);
}

fn unlist(cube: &Cube, entry: Entry) {
    with_set(cube, entry, |set| {
        match entry {
            Entry::V4(_, (address, length)) => set.remove(address, length),
            Entry::V6(_, (address, length)) => set.remove(address, length),
        }
        Ok(())
    });
}

/// The table of an entry, and how large it is as the object declares it.
fn table_of(entry: Entry) -> (&'static str, Shape) {
    let sizes = Settings::LEAST;
    match entry {
        Entry::V4(LIST_SOURCES, _) => ("sources_v4", sizes.sources_v4),
        Entry::V4(..) => ("destinations_v4", sizes.destinations_v4),
        Entry::V6(LIST_SOURCES, _) => ("sources_v6", sizes.sources_v6),
        Entry::V6(..) => ("destinations_v6", sizes.destinations_v6),
    }
}

fn with_set<T>(
    cube: &Cube,
    entry: Entry,
    work: impl FnOnce(PrefixSet<'_>) -> Result<T, fib::Full>,
) -> T {
    let (table, shape) = table_of(entry);
    let memory = cube.memory(table);
    let set = PrefixSet::open(memory.as_ref(), shape).expect("the array is as large");
    work(set).expect("there is room")
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
    fn of<A: Prefixes>(set: PrefixSet<'_>, prefix: Prefix<A>) -> Hits {
        let found = set.entries().find(|(other, _)| *other == prefix);
        found.map(|(_, hits)| hits).unwrap_or_default()
    }
    with_set(cube, entry, |set| {
        Ok(match entry {
            Entry::V4(_, prefix) => of(set, prefix),
            Entry::V6(_, prefix) => of(set, prefix),
        })
    })
}

/// Lists of hosts and networks, many more than there are buckets in which they belong, and what a walk through them finds.
fn random() -> Vec<Row> {
    // Numbers as from a generator, the same at every run: the table of a row is made before the rows run.
    let number = |at: u32| at.wrapping_mul(0x9e37_79b9).rotate_left(11);
    let prefix = move |at: u32| {
        let length = [32, 32, 32, 24, 28, 9][at as usize % 6];
        // Few bits differ: networks are in one another.
        (u32::from(GOOD) ^ number(at) & 0x0380_07ff, length)
    };
    let longest = move |address: u32| {
        let contains = |&(network, length): &(u32, u32)| (network ^ address) >> (32 - length) == 0;
        (0..150)
            .map(prefix)
            .filter(contains)
            .max_by_key(|(_, length)| *length)
    };
    let listed = move || {
        let entry = |(address, length): (u32, u32)| entry_v4(LIST_SOURCES, address.into(), length);
        (0..150).map(prefix).map(entry).collect::<Vec<_>>()
    };
    let other = Ipv4Addr::new(203, 0, 113, 1);
    (0..40u32)
        .map(|turn| {
            let questions =
                (0..8).map(|at| u32::from(GOOD) ^ number(1000 + turn * 8 + at) & 0x0380_07ff);
            let questions: Vec<u32> = questions.collect();
            let mut row = row("a random list").with(move |cube| list(cube, &listed()));
            let mut expected: Vec<(Entry, u64)> = Vec::new();
            for question in &questions {
                let packet = v4(ipv4((*question).into(), other));
                match longest(*question) {
                    None => row = row.send(9, &packet, pass(&packet)),
                    Some((network, length)) => {
                        row = row.send(9, &packet, dropped(DropReason::Policy));
                        let entry = entry_v4(LIST_SOURCES, network.into(), length);
                        match expected.iter_mut().find(|(other, _)| *other == entry) {
                            Some((_, count)) => *count += 1,
                            None => expected.push((entry, 1)),
                        }
                    }
                }
            }
            row.then(move |cube| {
                for (entry, count) in &expected {
                    assert_eq!(hits(cube, *entry).packets, *count, "{entry:?}");
                }
            })
        })
        .collect()
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
            .with(|cube| unlist(cube, entry_v4(LIST_SOURCES, BAD, 32)))
            .send(9, &v4(ipv4(BAD, GOOD)), dropped(DropReason::Policy))
            .then(|cube| assert_eq!(hits(cube, entry_v4(LIST_SOURCES, BAD_NET, 24)).packets, 1))
            .with(|cube| unlist(cube, entry_v4(LIST_SOURCES, BAD_NET, 24)))
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
        .rows(random())
        .run();
}
