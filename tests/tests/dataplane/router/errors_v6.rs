//! ICMPv6 errors.

use ebpf_abi::{
    counters::DropReason,
    port::PORT_VIA_TC,
    router::{MAX_SOLICIT, Neighbor},
};
use integration_tests::{
    clock::{SECOND as SECONDS, ago},
    packet::{Ipv6, Packet, echo_v6, ether, icmpv6, ipv6, payload, raw, tcp, udp},
    table::{Outcome, Row, answered, dropped, handed_over, row},
    test_run::Gso,
};

use super::*;

/// Bytes of a packet that an error quotes: 1280 less two headers (RFC 4443, 2.4 c).
const QUOTED: usize = 1232;

/// What the router sends back about a packet from A.
fn error(kind: u8, code: u8, about: &Packet) -> Packet {
    ether(mac(0), A) / ipv6(v6(0, 1), v6(0, 2)) / icmpv6(kind, code, 0) / about.quotation(QUOTED)
}

fn expires(packet: &Packet) -> Outcome {
    answered(DropReason::TtlExceeded, 0, &error(3, 0, packet))
}

fn dying() -> Ipv6 {
    ipv6(v6(0, 2), v6(1, 2)).hop_limit(1)
}

fn from_a(ip: Ipv6, length: usize) -> Packet {
    ether(A, mac(0)) / ip / udp(1000, 2000) / payload(length)
}

#[test]
fn quotations() {
    // Up to the limit, at it, beyond it; even and odd.
    let lengths = [
        0, 1, 2, 3, 4, 5, 31, 118, 1182, 1183, 1184, 1185, 1186, 1451, 1452, 2900,
    ];
    // And back: what was summed before must not count.
    let sizes = lengths
        .iter()
        .chain(lengths.iter().rev())
        .fold(row("all sizes"), |row, length| {
            let packet = from_a(dying(), *length);
            row.send(0, &packet, expires(&packet))
        });
    let bare = ether(A, mac(0)) / dying().next_header(59) / raw(&[]);
    let padding = (ether(A, mac(0)) / dying().next_header(59) / raw(&[])).padded(60);
    let trailer = from_a(dying(), 100).padded(900);
    let large = ether(A, mac(0)) / dying() / tcp(1, 2) / payload(2880);
    router()
        .rows([
            sizes,
            row("a header without payload").send(0, &bare, expires(&bare)),
            row("a buffer of segments is one packet afterwards").send_segments(
                0,
                &large,
                Gso {
                    segments: 2,
                    size: 1440,
                },
                expires(&large),
            ),
            row("padding is not quoted")
                .send(0, &padding, expires(&bare))
                .send(0, &trailer, expires(&from_a(dying(), 100))),
        ])
        .run();
}

#[test]
fn reasons() {
    let packet = from_a(dying(), 26);
    let zero = from_a(dying().hop_limit(0), 26);
    let lost = from_a(ipv6(v6(0, 2), NOWHERE_V6), 26);
    let normal = from_a(ipv6(v6(0, 2), v6(1, 2)), 26);
    let ping = ether(A, mac(0)) / dying() / echo_v6(1, 1) / payload(56);
    let flow = from_a(dying().class(7).flow(0x12345), 26);
    let vain = |cube: &Cube| {
        let tried = Neighbor {
            asked: MAX_SOLICIT,
            asked_at: ago(2 * SECONDS),
            ..Neighbor::default()
        };
        neighbor(cube, 1, v6(1, 2), tried);
    };
    // A port without a global address speaks with its link-local one.
    let port = WITHOUT_ADDRESS;
    let on_bare_port = ether(A, mac(port)) / dying() / udp(1, 2) / payload(5);
    let from_link_local = ether(mac(port), A)
        / ipv6(link_local(port), v6(0, 2))
        / icmpv6(3, 0, 0)
        / on_bare_port.quotation(QUOTED);
    router()
        .rows([
            row("one hop left").send(0, &packet, expires(&packet)),
            row("no hop left").send(0, &zero, expires(&zero)),
            row("an echo request, as traceroute sends it").send(0, &ping, expires(&ping)),
            row("class and flow are quoted, not copied").send(0, &flow, expires(&flow)),
            row("no route").send(
                0,
                &lost,
                answered(DropReason::NoRoute, 0, &error(1, 0, &lost)),
            ),
            row("a neighbour asked for in vain").with(vain).send(
                0,
                &normal,
                answered(DropReason::NeighborUnresolved, 0, &error(1, 3, &normal)),
            ),
            row("on a port without a global address").send(
                port.into(),
                &on_bare_port,
                answered(DropReason::TtlExceeded, port.into(), &from_link_local),
            ),
            row("on a port that only TC sends on")
                .with(|cube| cube.change_port(0, |port| port.flags |= PORT_VIA_TC))
                .send_differs(0, &packet, expires(&packet), handed_over()),
        ])
        .run();
}

/// RFC 4443, 2.4 e.
#[test]
fn never() {
    let about = |kind| ether(A, mac(0)) / dying() / icmpv6(kind, 0, 0) / payload(48);
    let mut rows: Vec<Row> = [1, 2, 3, 4, 100, 127]
        .map(|kind| {
            row("about an ICMPv6 error").send(0, &about(kind), dropped(DropReason::TtlExceeded))
        })
        .into();
    rows.extend(
        [128, 129, 130, 255]
            .map(|kind| row("other ICMPv6").send(0, &about(kind), expires(&about(kind)))),
    );
    let lost_error = ether(A, mac(0)) / ipv6(v6(0, 2), NOWHERE_V6) / icmpv6(1, 0, 0) / payload(48);
    rows.push(row("about an ICMPv6 error without a route").send(
        0,
        &lost_error,
        dropped(DropReason::NoRoute),
    ));
    router().rows(rows).run();
}
