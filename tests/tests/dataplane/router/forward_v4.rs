//! IPv4: forwarding, and neighbours as forwarding needs them.

use ebpf_abi::{
    counters::DropReason,
    port::PORT_VIA_TC,
    router::{MAX_SOLICIT, Neighbor, UNREACHABLE_TIME},
};
use integration_tests::{
    clock::{SECOND as SECONDS, ago},
    packet::{BROADCAST, Ipv4, Packet, arp_request, ether, icmp, ipv4, payload, raw, tcp, udp},
    table::{Outcome, answered, dropped, handed_over, passed, row, sent},
};

use super::*;

fn ip() -> Ipv4 {
    ipv4(v4(0, 2), v4(1, 2))
}

fn into_port_0(ip: Ipv4) -> Packet {
    ether(A, mac(0)) / ip / udp(1000, 2000) / payload(33)
}

/// The packet as port 1 sends it.
fn out_of_port_1(station: [u8; 6], ip: Ipv4) -> Packet {
    ether(mac(1), station) / ip.ttl(63) / udp(1000, 2000) / payload(33)
}

/// The question that port 1 sends.
fn question(from: Ipv4Addr, about: Ipv4Addr) -> Packet {
    (ether(mac(1), BROADCAST) / arp_request((mac(1), from), about))
        .padded(60)
        .zeros_may_follow()
}

fn asks(from: Ipv4Addr, about: Ipv4Addr) -> Outcome {
    answered(DropReason::NeighborUnresolved, 1, &question(from, about))
}

#[test]
fn ways() {
    let there = into_port_0(ip());
    let out = out_of_port_1(B, ip());
    let to_b = |cube: &Cube| known(cube, 1, v4(1, 2), B);
    let options = || ip().options(&[7, 7, 4, 0, 0, 0, 0, 0]);
    let longest = || ip().options(&[1; 40]);
    let fragment = || ip().fragment(1480, true);
    let bits = || ip().tos(0xb9).dont_fragment().id(0xffff);
    let segment =
        |source, station, ttl| ether(source, station) / ip().ttl(ttl) / tcp(1, 2) / payload(1460);
    let back_out = ether(mac(1), B) / ipv4(v4(1, 3), v4(1, 2)).ttl(63) / udp(1, 2);
    let back_in = ether(C, mac(1)) / ipv4(v4(1, 3), v4(1, 2)) / udp(1, 2);
    let padded = (ether(A, mac(0)) / ip() / udp(1, 2)).padded(60);
    let padded_out = (ether(mac(1), B) / ip().ttl(63) / udp(1, 2)).padded(60);
    router()
        .rows([
            row("to a neighbour")
                .with(to_b)
                .send(0, &there, sent(1, &out)),
            row("to a neighbour from the configuration")
                .with(|cube| fixed(cube, 1, v4(1, 2), B))
                .send(0, &there, sent(1, &out)),
            row("the configuration wins")
                .with(|cube| known(cube, 1, v4(1, 2), C))
                .with(|cube| fixed(cube, 1, v4(1, 2), B))
                .send(0, &there, sent(1, &out)),
            row("through a next hop")
                .with(|cube| known(cube, 1, v4(1, 254), C))
                .send(
                    0,
                    &into_port_0(ipv4(v4(0, 2), FAR)),
                    sent(1, &out_of_port_1(C, ipv4(v4(0, 2), FAR))),
                ),
            row("the longest prefix wins")
                .with(|cube| known(cube, 1, v4(1, 254), C))
                .with(|cube| route_v4(cube, FAR, 32, route(ROUTE_CONNECTED, 1, v4(1, 1).into())))
                .with(|cube| known(cube, 1, FAR, B))
                .send(
                    0,
                    &into_port_0(ipv4(v4(0, 2), FAR)),
                    sent(1, &out_of_port_1(B, ipv4(v4(0, 2), FAR))),
                ),
            row("back through the same port")
                .with(to_b)
                .send(1, &back_in, sent(1, &back_out)),
            row("to a port that leads to a program")
                .with(to_b)
                .with(|cube| cube.lead_to_program(1, 12))
                .send(0, &there, passed(1, 12, &out)),
            row("to a port that leads nowhere")
                .with(to_b)
                .with(|cube| cube.change_port(1, |port| port.hop.kind = 0))
                .send(0, &there, dropped(DropReason::NotLinked)),
            row("to a port that only TC reaches: handed over as it came")
                .with(to_b)
                .with(|cube| cube.change_port(1, |port| port.flags |= PORT_VIA_TC))
                .send_differs(0, &there, sent(1, &out), handed_over()),
            row("with two hops left").with(to_b).send(
                0,
                &into_port_0(ip().ttl(2)),
                sent(
                    1,
                    &(ether(mac(1), B) / ip().ttl(1) / udp(1000, 2000) / payload(33)),
                ),
            ),
            row("options stay")
                .with(to_b)
                .send(
                    0,
                    &into_port_0(options()),
                    sent(1, &out_of_port_1(B, options())),
                )
                .send(
                    0,
                    &into_port_0(longest()),
                    sent(1, &out_of_port_1(B, longest())),
                ),
            row("fragments too").with(to_b).send(
                0,
                &into_port_0(fragment()),
                sent(1, &out_of_port_1(B, fragment())),
            ),
            row("other fields stay").with(to_b).send(
                0,
                &into_port_0(bits()),
                sent(1, &out_of_port_1(B, bits())),
            ),
            row("padding stays")
                .with(to_b)
                .send(0, &padded, sent(1, &padded_out)),
            row("a large segment").with(to_b).send(
                0,
                &segment(A, mac(0), 64),
                sent(1, &segment(mac(1), B, 63)),
            ),
            row("ICMP errors of others").with(to_b).send(
                0,
                &(ether(A, mac(0)) / ip() / icmp(3, 1, 0) / payload(28)),
                sent(
                    1,
                    &(ether(mac(1), B) / ip().ttl(63) / icmp(3, 1, 0) / payload(28)),
                ),
            ),
            row("no payload at all").with(to_b).send(
                0,
                &(ether(A, mac(0)) / ip() / raw(&[])),
                sent(1, &(ether(mac(1), B) / ip().ttl(63) / raw(&[]))),
            ),
        ])
        .run();
}

/// The checksum after the time to live changed is the one that summing again gives, for all
/// time-to-live values and for headers at the edges of one's complement.
#[test]
fn checksums() {
    let ttls = (2..=255).map(|ttl| (0x4321, ttl));
    let edges = [
        0x0000, 0x0001, 0x00fe, 0x00ff, 0x0100, 0xfefe, 0xfeff, 0xff00, 0xfffe,
    ];
    let ids: Vec<(u16, u8)> = (0..=u16::MAX)
        .filter(|id| {
            let bytes = into_port_0(ip().id(*id)).bytes();
            edges.contains(&u16::from_be_bytes([bytes[24], bytes[25]]))
        })
        .map(|id| (id, 64))
        .collect();
    assert!(ids.len() >= edges.len());
    let known = row("checksums").with(|cube| known(cube, 1, v4(1, 2), B));
    let all = ttls.chain(ids).fold(known, |row, (id, ttl)| {
        let after = ether(mac(1), B) / ip().id(id).ttl(ttl - 1) / udp(1000, 2000) / payload(33);
        row.send(0, &into_port_0(ip().id(id).ttl(ttl)), sent(1, &after))
    });
    router().rows([all]).run();
}

#[test]
fn asking() {
    let there = into_port_0(ip());
    let second_network = into_port_0(ipv4(v4(0, 2), v4(SECOND, 9)));
    let far = into_port_0(ipv4(v4(0, 2), FAR));
    let large = ether(A, mac(0)) / ip() / tcp(1, 2) / payload(1460);
    let tiny = ether(A, mac(0)) / ip() / raw(&[]);
    let waiting = dropped(DropReason::NeighborUnresolved);
    router()
        .rows([
            row("the first packet becomes a question, the second waits")
                .send(0, &there, asks(v4(1, 1), v4(1, 2)))
                .then(|cube| {
                    let entry = found(cube, 1, v4(1, 2)).expect("noted");
                    assert_eq!((entry.asked, entry.confirmed), (1, 0));
                })
                .send(0, &there, waiting.clone()),
            row("with the address on the target's network").send(
                0,
                &second_network,
                asks(v4(SECOND, 1), v4(SECOND, 9)),
            ),
            row("about the next hop").send(0, &far, asks(v4(1, 1), v4(1, 254))),
            row("a next hop outside all networks: with the first address")
                .with(|cube| {
                    route_v4(
                        cube,
                        NOWHERE,
                        32,
                        route(ROUTE_VIA, 1, Ipv4Addr::new(192, 0, 2, 9).into()),
                    )
                })
                .send(
                    0,
                    &into_port_0(ipv4(v4(0, 2), NOWHERE)),
                    asks(v4(1, 1), Ipv4Addr::new(192, 0, 2, 9)),
                ),
            row("a large packet becomes a small one").send(0, &large, asks(v4(1, 1), v4(1, 2))),
            row("a tiny packet becomes a larger one").send(0, &tiny, asks(v4(1, 1), v4(1, 2))),
            row("through a program")
                .with(|cube| cube.lead_to_program(1, 12))
                .send(
                    0,
                    &there,
                    passed(1, 12, &question(v4(1, 1), v4(1, 2)))
                        .and_dropped(DropReason::NeighborUnresolved),
                ),
            row("out of a port that leads nowhere: counted once")
                .with(|cube| cube.change_port(1, |port| port.hop.kind = 0))
                .send(0, &there, waiting.clone()),
            row("out of a port that only TC reaches")
                .with(|cube| cube.change_port(1, |port| port.flags |= PORT_VIA_TC))
                .send_differs(0, &there, asks(v4(1, 1), v4(1, 2)), handed_over()),
            row("again after a second")
                .with(|cube| neighbor(cube, 1, v4(1, 2), asked(1, ago(2 * SECONDS))))
                .send(0, &there, asks(v4(1, 1), v4(1, 2)))
                .then(|cube| assert_eq!(found(cube, 1, v4(1, 2)).expect("kept").asked, 2)),
            row("asked by another CPU a moment from now")
                .with(|cube| neighbor(cube, 1, v4(1, 2), asked(1, now() + SECONDS)))
                .send(0, &there, waiting.clone()),
            row("three times, and then waiting")
                .with(|cube| neighbor(cube, 1, v4(1, 2), asked(MAX_SOLICIT, now())))
                .send(0, &there, waiting),
            row("anew after the host was unreachable for a while")
                .with(|cube| {
                    neighbor(
                        cube,
                        1,
                        v4(1, 2),
                        asked(MAX_SOLICIT, ago(UNREACHABLE_TIME + SECONDS)),
                    )
                })
                .send(0, &there, asks(v4(1, 1), v4(1, 2)))
                .then(|cube| assert_eq!(found(cube, 1, v4(1, 2)).expect("kept").asked, 1)),
        ])
        .run();
}

fn asked(times: u16, at: u64) -> Neighbor {
    Neighbor {
        asked: times,
        asked_at: at,
        ..Neighbor::default()
    }
}
