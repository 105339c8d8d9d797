//! The states of a neighbour (RFC 4861, 7.3), in both families: what a packet meets in each, and
//! what is heard of it.

use ebpf_abi::{
    counters::DropReason,
    router::{
        DELAY_FIRST_PROBE_TIME, MAX_UNICAST_SOLICIT, Neighbor, NeighborState, REACHABLE_TIME,
        RETRANS_TIMER, STALE_TIME,
    },
};
use integration_tests::{
    clock::{SECOND, ago},
    packet::{
        BROADCAST, Packet, advertisement, arp_reply, arp_request, ether, ipv4, ipv6, payload,
        solicitation, udp,
    },
    private_net::LOOPBACK,
    table::{Outcome, Row, answered, consumed, dropped, handed_over, passed, row, sent},
    test_run::Hook,
};

use super::*;

/// One family: a packet from port 0 to a host behind port 1, and what is said about that host.
#[derive(Clone, Copy)]
struct Family {
    host: IpAddr,
    packet: fn() -> Packet,
    /// The packet as port 1 sends it to a station.
    out: fn([u8; 6]) -> Packet,
    /// The question to that station alone.
    probe: fn([u8; 6]) -> Packet,
    /// The question to all.
    question: fn() -> Packet,
    /// The host's answer, from a station.
    answer: fn([u8; 6]) -> Packet,
    /// The host is heard without having been asked.
    announcement: fn([u8; 6]) -> Packet,
}

const V4: Family = Family {
    host: IpAddr::V4(v4(1, 2)),
    packet: || ether(A, mac(0)) / ipv4(v4(0, 2), v4(1, 2)) / udp(1, 2) / payload(40),
    out: |to| ether(mac(1), to) / ipv4(v4(0, 2), v4(1, 2)).ttl(63) / udp(1, 2) / payload(40),
    probe: |to| {
        (ether(mac(1), to) / arp_request((mac(1), v4(1, 1)), v4(1, 2)))
            .padded(60)
            .zeros_may_follow()
    },
    question: || {
        (ether(mac(1), BROADCAST) / arp_request((mac(1), v4(1, 1)), v4(1, 2)))
            .padded(60)
            .zeros_may_follow()
    },
    answer: |from| ether(from, mac(1)) / arp_reply((from, v4(1, 2)), (mac(1), v4(1, 1))),
    announcement: |from| ether(from, BROADCAST) / arp_request((from, v4(1, 2)), v4(1, 2)),
};

const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);

const V6: Family = Family {
    host: IpAddr::V6(v6(1, 2)),
    packet: || ether(A, mac(0)) / ipv6(v6(0, 2), v6(1, 2)) / udp(1, 2) / payload(40),
    out: |to| ether(mac(1), to) / ipv6(v6(0, 2), v6(1, 2)).hop_limit(63) / udp(1, 2) / payload(40),
    probe: |to| {
        (ether(mac(1), to)
            / ipv6(link_local(1), v6(1, 2)).hop_limit(255)
            / solicitation(v6(1, 2)).source_address(mac(1)))
        .zeros_may_follow()
    },
    question: || {
        (ether(mac(1), [0x33, 0x33, 0xff, 0, 0, 2])
            / ipv6(link_local(1), GROUP).hop_limit(255)
            / solicitation(v6(1, 2)).source_address(mac(1)))
        .zeros_may_follow()
    },
    answer: |from| {
        ether(from, mac(1))
            / ipv6(v6(1, 2), v6(1, 1)).hop_limit(255)
            / advertisement(v6(1, 2), 0b011).target_address(from)
    },
    announcement: |from| {
        ether(from, [0x33, 0x33, 0, 0, 0, 1])
            / ipv6(v6(1, 2), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)).hop_limit(255)
            / advertisement(v6(1, 2), 0b001).target_address(from)
    },
};

fn each_family(rows: impl Fn(Family) -> Vec<Row>) {
    for family in [V4, V6] {
        router().rows(rows(family)).run();
    }
}

/// A row in which something is known of the host.
fn with(name: &'static str, family: Family, state: fn() -> Neighbor) -> Row {
    row(name).with(move |cube| neighbor(cube, 1, family.host, state()))
}

fn state(cube: &Cube, family: Family) -> NeighborState {
    found(cube, 1, family.host)
        .expect("it is noted")
        .state(now())
}

/// It answered once, long enough ago.
fn stale() -> Neighbor {
    answered_at(B, ago(REACHABLE_TIME + 10 * SECOND))
}

fn used(time: u64) -> Neighbor {
    Neighbor {
        used: time,
        ..stale()
    }
}

fn probed(times: u16, at: u64) -> Neighbor {
    Neighbor {
        asked: times,
        asked_at: at,
        ..used(ago(9 * SECOND))
    }
}

fn delay_over() -> Neighbor {
    used(ago(DELAY_FIRST_PROBE_TIME + SECOND))
}

#[test]
fn what_a_packet_meets() {
    each_family(|family| {
        let there = (family.packet)();
        let passes = sent(1, &(family.out)(B));
        let probe = sent(1, &(family.probe)(B)).and_copies(&[1]);
        let asks: Outcome = answered(DropReason::NeighborUnresolved, 1, &(family.question)());
        vec![
            with("it answered by a clock that is ahead", family, || {
                answered_at(B, now() + SECOND)
            })
            .send(0, &there, passes.clone()),
            with(
                "stale: used, and other traffic may show that it is there",
                family,
                stale,
            )
            .send(0, &there, passes.clone())
            .then(move |cube| assert_eq!(state(cube, family), NeighborState::Delay))
            .send(0, &there, passes.clone()),
            with("the delay is not over", family, || used(ago(SECOND)))
                .send(0, &there, passes.clone())
                .then(move |cube| assert_eq!(state(cube, family), NeighborState::Delay)),
            with(
                "the delay is over: a copy goes on, and it alone is asked",
                family,
                delay_over,
            )
            .only(Hook::Tc, "the next row has XDP")
            .send(0, &there, probe.clone())
            .then(move |cube| assert_eq!(state(cube, family), NeighborState::Probe))
            .send(0, &there, passes.clone()),
            with("XDP leaves the question to TC", family, delay_over)
                .only(Hook::Xdp, "TC asks itself")
                .send(0, &there, handed_over())
                .then(move |cube| assert_eq!(state(cube, family), NeighborState::Delay)),
            with("asked a moment ago", family, || probed(1, now())).send(0, &there, passes.clone()),
            with("asked a second ago", family, || {
                probed(1, ago(RETRANS_TIMER + SECOND))
            })
            .send_differs(0, &there, probe.clone(), handed_over()),
            with("asked three times: all are asked", family, || {
                probed(MAX_UNICAST_SOLICIT, ago(RETRANS_TIMER + SECOND))
            })
            .send(0, &there, asks.clone())
            .then(move |cube| assert_eq!(state(cube, family), NeighborState::Incomplete)),
            with("nothing heard nor sent for too long", family, || {
                answered_at(B, ago(STALE_TIME + SECOND))
            })
            .send(0, &there, asks.clone()),
        ]
    });
}

#[test]
fn a_probe_where_the_port_leads_to_a_program() {
    each_family(|family| {
        let probe = passed(1, 12, &(family.probe)(B));
        vec![
            with("through an interface of ours", family, delay_over)
                .only(Hook::Tc, "XDP leaves it to TC")
                .with(|cube| {
                    cube.lead_to_program(1, 12);
                    cube.change_port(1, |port| port.flood_ifindex = LOOPBACK);
                })
                .send(0, &(family.packet)(), probe.and_copies(&[1])),
            with("without one the packet goes", family, delay_over)
                .only(Hook::Tc, "XDP leaves it to TC")
                .with(|cube| cube.lead_to_program(1, 12))
                .send(0, &(family.packet)(), passed(1, 12, &(family.out)(B))),
        ]
    });
}

#[test]
fn what_is_heard() {
    each_family(|family| {
        let is = |expected: NeighborState, at: [u8; 6]| {
            move |cube: &Cube| {
                assert_eq!(state(cube, family), expected);
                assert_eq!(station(cube, 1, family.host), Some(at));
            }
        };
        let (answer, announcement) = (family.answer, family.announcement);
        vec![
            with("an answer to a probe", family, || probed(2, now()))
                .send(1, &answer(B), consumed())
                .then(is(NeighborState::Reachable, B)),
            with("an answer from elsewhere", family, || probed(2, now()))
                .send(1, &answer(C), consumed())
                .then(is(NeighborState::Reachable, C)),
            with("the same announced confirms nothing", family, || {
                used(ago(SECOND))
            })
            .send(1, &announcement(B), consumed())
            .then(is(NeighborState::Delay, B)),
            with(
                "another one announced: it moved, and may be there",
                family,
                || answered_at(B, now()),
            )
            .send(1, &announcement(C), consumed())
            .then(is(NeighborState::Stale, C)),
            row("announced before it was needed")
                .send(1, &announcement(C), consumed())
                .then(is(NeighborState::Stale, C)),
            with("announced while it is asked for", family, || Neighbor {
                asked: 1,
                asked_at: now(),
                ..Neighbor::UNKNOWN
            })
            .send(1, &announcement(C), consumed())
            .then(is(NeighborState::Stale, C)),
        ]
    });
}

/// Without the flag "override" another address is not believed, but the one that is known is
/// doubted (RFC 4861, 7.2.5).
#[test]
fn an_advertisement_that_overrides_nothing() {
    let told = |flags| {
        ether(C, mac(1))
            / ipv6(v6(1, 2), v6(1, 1)).hop_limit(255)
            / advertisement(v6(1, 2), flags).target_address(C)
    };
    let to_all = ether(C, [0x33, 0x33, 0, 0, 0, 1])
        / ipv6(v6(1, 2), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)).hop_limit(255)
        / advertisement(v6(1, 2), 0b010).target_address(C);
    router()
        .rows([
            with("reachable elsewhere", V6, || answered_at(B, now()))
                .send(1, &told(0b010), consumed())
                .then(|cube| {
                    assert_eq!(state(cube, V6), NeighborState::Stale);
                    assert_eq!(station(cube, 1, v6(1, 2)), Some(B));
                }),
            with("where it is known to be", V6, || {
                answered_at(C, ago(40 * SECOND))
            })
            .send(1, &told(0b010), consumed())
            .then(|cube| assert_eq!(state(cube, V6), NeighborState::Reachable)),
            row("nobody asked for an answer to all").send(
                1,
                &to_all,
                dropped(DropReason::Malformed),
            ),
        ])
        .run();
}
