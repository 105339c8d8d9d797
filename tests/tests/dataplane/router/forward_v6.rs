//! IPv6: forwarding, and neighbours as forwarding needs them.

use ebpf_abi::{
    counters::DropReason,
    port::PORT_VIA_TC,
    router::{MAX_SOLICIT, Neighbor, UNREACHABLE_TIME},
};
use integration_tests::{
    clock::{SECOND as SECONDS, ago},
    packet::{Ipv6, Packet, ether, icmpv6, ipv6, payload, raw, solicitation, tcp, udp},
    table::{Outcome, answered, dropped, handed_over, passed, row, sent},
};

use super::*;

fn ip() -> Ipv6 {
    ipv6(v6(0, 2), v6(1, 2))
}

fn into_port_0(ip: Ipv6) -> Packet {
    ether(A, mac(0)) / ip / udp(1000, 2000) / payload(33)
}

/// The packet as port 1 sends it.
fn out_of_port_1(station: [u8; 6], ip: Ipv6) -> Packet {
    ether(mac(1), station) / ip.hop_limit(63) / udp(1000, 2000) / payload(33)
}

/// The question that port 1 sends, to the solicited-node group (RFC 4291, 2.7.1; RFC 2464, 7).
fn question(about: Ipv6Addr) -> Packet {
    let [.., a, b, c] = about.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    (ether(mac(1), [0x33, 0x33, 0xff, a, b, c])
        / ipv6(link_local(1), group).hop_limit(255)
        / solicitation(about).source_address(mac(1)))
    .zeros_may_follow()
}

fn asks(about: Ipv6Addr) -> Outcome {
    answered(DropReason::NeighborUnresolved, 1, &question(about))
}

#[test]
fn ways() {
    let there = into_port_0(ip());
    let out = out_of_port_1(B, ip());
    let to_b = |cube: &Cube| known(cube, 1, v6(1, 2), B);
    let bits = || ip().class(0xb9).flow(0xfedcb);
    let segment = |source, station, hops| {
        ether(source, station) / ip().hop_limit(hops) / tcp(1, 2) / payload(1440)
    };
    let back_in = ether(C, mac(1)) / ipv6(v6(1, 3), v6(1, 2)) / udp(1, 2);
    let back_out = ether(mac(1), B) / ipv6(v6(1, 3), v6(1, 2)).hop_limit(63) / udp(1, 2);
    let far = || ipv6(v6(0, 2), FAR_V6);
    let behind = || ipv6(v6(0, 2), BEHIND_LINK_LOCAL);
    // Hop-by-hop options and a fragment header: of no concern to a router.
    let extension = |next| [17, 0, 1, 4, 0, 0, 0, next];
    router()
        .rows([
            row("to a neighbour")
                .with(to_b)
                .send(0, &there, sent(1, &out)),
            row("to a neighbour from the configuration")
                .with(|cube| fixed(cube, 1, v6(1, 2), B))
                .send(0, &there, sent(1, &out)),
            row("through a next hop")
                .with(|cube| known(cube, 1, v6(1, 254), C))
                .send(0, &into_port_0(far()), sent(1, &out_of_port_1(C, far()))),
            row("through a link-local next hop")
                .with(|cube| known(cube, 1, NEXT_LINK_LOCAL, C))
                .send(
                    0,
                    &into_port_0(behind()),
                    sent(1, &out_of_port_1(C, behind())),
                ),
            row("back through the same port")
                .with(to_b)
                .send(1, &back_in, sent(1, &back_out)),
            row("to a port that leads to a program")
                .with(to_b)
                .with(|cube| cube.lead_to_program(1, 12))
                .send(0, &there, passed(1, 12, &out)),
            row("to a port that only TC reaches: handed over as it came")
                .with(to_b)
                .with(|cube| cube.change_port(1, |port| port.flags |= PORT_VIA_TC))
                .send_differs(0, &there, sent(1, &out), handed_over()),
            row("other fields stay").with(to_b).send(
                0,
                &into_port_0(bits()),
                sent(1, &out_of_port_1(B, bits())),
            ),
            row("with two hops left").with(to_b).send(
                0,
                &into_port_0(ip().hop_limit(2)),
                sent(
                    1,
                    &(ether(mac(1), B) / ip().hop_limit(1) / udp(1000, 2000) / payload(33)),
                ),
            ),
            row("a large segment").with(to_b).send(
                0,
                &segment(A, mac(0), 64),
                sent(1, &segment(mac(1), B, 63)),
            ),
            row("extension headers stay").with(to_b).send(
                0,
                &(ether(A, mac(0)) / ip().next_header(0) / raw(&extension(0)) / payload(20)),
                sent(
                    1,
                    &(ether(mac(1), B)
                        / ip().hop_limit(63).next_header(0)
                        / raw(&extension(0))
                        / payload(20)),
                ),
            ),
            row("ICMPv6 errors of others").with(to_b).send(
                0,
                &(ether(A, mac(0)) / ip() / icmpv6(1, 4, 0) / payload(48)),
                sent(
                    1,
                    &(ether(mac(1), B) / ip().hop_limit(63) / icmpv6(1, 4, 0) / payload(48)),
                ),
            ),
            row("neighbour messages are never forwarded: of no use without a hop limit of 255")
                .with(to_b)
                .send(
                    0,
                    &(ether(A, mac(0)) / ip() / solicitation(v6(1, 2))),
                    dropped(DropReason::Malformed),
                ),
            row("no payload at all").with(to_b).send(
                0,
                &(ether(A, mac(0)) / ip().next_header(59) / raw(&[])),
                sent(
                    1,
                    &(ether(mac(1), B) / ip().hop_limit(63).next_header(59) / raw(&[])),
                ),
            ),
        ])
        .run();
}

#[test]
fn asking() {
    let there = into_port_0(ip());
    let asked = |times, at| Neighbor {
        asked: times,
        asked_at: at,
        ..Neighbor::default()
    };
    let waiting = dropped(DropReason::NeighborUnresolved);
    let large = ether(A, mac(0)) / ip() / tcp(1, 2) / payload(1440);
    let tiny = ether(A, mac(0)) / ip().next_header(59) / raw(&[]);
    let wide = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0x1234, 0x5678, 0x9abc, 0xdef0);
    router()
        .rows([
            row("the first packet becomes a question, the second waits")
                .send(0, &there, asks(v6(1, 2)))
                .then(|cube| {
                    let entry = found(cube, 1, v6(1, 2)).expect("noted");
                    assert_eq!((entry.asked, entry.confirmed), (1, 0));
                })
                .send(0, &there, waiting.clone()),
            row("the group is made from the last three bytes").send(
                0,
                &into_port_0(ipv6(v6(0, 2), wide)),
                asks(wide),
            ),
            row("about the next hop").send(
                0,
                &into_port_0(ipv6(v6(0, 2), FAR_V6)),
                asks(v6(1, 254)),
            ),
            row("about a link-local next hop").send(
                0,
                &into_port_0(ipv6(v6(0, 2), BEHIND_LINK_LOCAL)),
                asks(NEXT_LINK_LOCAL),
            ),
            row("a large packet becomes a small one").send(0, &large, asks(v6(1, 2))),
            row("a tiny packet becomes a larger one").send(0, &tiny, asks(v6(1, 2))),
            row("out of a port that leads nowhere: counted once")
                .with(|cube| cube.change_port(1, |port| port.hop.kind = 0))
                .send(0, &there, waiting.clone()),
            row("again after a second")
                .with(move |cube| neighbor(cube, 1, v6(1, 2), asked(2, ago(2 * SECONDS))))
                .send(0, &there, asks(v6(1, 2)))
                .then(|cube| assert_eq!(found(cube, 1, v6(1, 2)).expect("kept").asked, 3)),
            row("three times, and then waiting")
                .with(move |cube| neighbor(cube, 1, v6(1, 2), asked(MAX_SOLICIT, now())))
                .send(0, &there, waiting),
            row("anew after the host was unreachable for a while")
                .with(move |cube| {
                    neighbor(
                        cube,
                        1,
                        v6(1, 2),
                        asked(MAX_SOLICIT, ago(UNREACHABLE_TIME + SECONDS)),
                    )
                })
                .send(0, &there, asks(v6(1, 2))),
        ])
        .run();
}
