//! ICMP errors about IPv4 packets.

use ebpf_abi::{
    counters::DropReason,
    port::PORT_VIA_TC,
    router::{MAX_SOLICIT, Neighbor},
};
use integration_tests::{
    clock::{SECOND as SECONDS, ago},
    packet::{Ipv4, Packet, echo, ether, icmp, ipv4, payload, raw, tcp, udp},
    table::{Outcome, Row, answered, dropped, handed_over, row},
    test_run::Gso,
};

use super::*;

/// Bytes of a packet that an error quotes: 576 less two headers (RFC 1812, 4.3.2.3).
const QUOTED: usize = 548;

/// What the router sends back about a packet from A.
fn error(kind: u8, code: u8, about: &Packet) -> Packet {
    ether(mac(0), A)
        / ipv4(v4(0, 1), v4(0, 2)).tos(0xc0).id(0)
        / icmp(kind, code, 0)
        / about.quotation(QUOTED)
}

fn expires(packet: &Packet) -> Outcome {
    answered(DropReason::TtlExceeded, 0, &error(11, 0, packet))
}

fn dying() -> Ipv4 {
    ipv4(v4(0, 2), v4(1, 2)).ttl(1)
}

fn from_a(ip: Ipv4, length: usize) -> Packet {
    ether(A, mac(0)) / ip / udp(1000, 2000) / payload(length)
}

#[test]
fn quotations() {
    // Up to the limit, at it, beyond it; even and odd.
    let lengths = [
        0, 1, 2, 3, 4, 5, 31, 118, 519, 520, 521, 522, 1000, 1471, 1472, 2900,
    ];
    // And back: what was summed before must not count.
    let sizes = lengths
        .iter()
        .chain(lengths.iter().rev())
        .fold(row("all sizes"), |row, length| {
            let packet = from_a(dying(), *length);
            row.send(0, &packet, expires(&packet))
        });
    let options = from_a(dying().options(&[7, 7, 4, 0, 0, 0, 0, 0]), 9);
    let bare = ether(A, mac(0)) / dying() / raw(&[]);
    let segment = ether(A, mac(0)) / dying().dont_fragment() / tcp(1, 2) / payload(1460);
    let padding = (ether(A, mac(0)) / dying() / udp(1, 2)).padded(60);
    let only_the_datagram = ether(A, mac(0)) / dying() / udp(1, 2);
    let trailer = (ether(A, mac(0)) / dying() / udp(1, 2) / payload(400)).padded(900);
    let without_trailer = ether(A, mac(0)) / dying() / udp(1, 2) / payload(400);
    let large = ether(A, mac(0)) / dying() / tcp(1, 2) / payload(2920);
    router()
        .rows([
            sizes,
            row("options").send(0, &options, expires(&options)),
            row("a header without payload").send(0, &bare, expires(&bare)),
            row("a full segment").send(0, &segment, expires(&segment)),
            row("a buffer of segments is one packet afterwards").send_segments(
                0,
                &large,
                Gso {
                    segments: 2,
                    size: 1460,
                },
                expires(&large),
            ),
            row("padding is not quoted")
                .send(0, &padding, expires(&only_the_datagram))
                .send(0, &trailer, expires(&without_trailer)),
        ])
        .run();
}

#[test]
fn reasons() {
    let packet = from_a(dying(), 26);
    let zero = from_a(dying().ttl(0), 26);
    let lost = from_a(ipv4(v4(0, 2), NOWHERE), 26);
    let normal = from_a(ipv4(v4(0, 2), v4(1, 2)), 26);
    let lost_and_dying = from_a(ipv4(v4(0, 2), NOWHERE).ttl(1), 26);
    let ping = ether(A, mac(0)) / dying() / echo(1, 1) / payload(56);
    let first_fragment = from_a(dying().fragment(0, true), 24);
    let relayed = ether(C, mac(0)) / ipv4(v4(0, 2), v4(1, 2)).ttl(1) / udp(1, 2);
    let to_relay = ether(mac(0), C)
        / ipv4(v4(0, 1), v4(0, 2)).tos(0xc0).id(0)
        / icmp(11, 0, 0)
        / relayed.quotation(QUOTED);
    let vain = |cube: &Cube| {
        let tried = Neighbor {
            asked: MAX_SOLICIT,
            asked_at: ago(2 * SECONDS),
            ..Neighbor::default()
        };
        neighbor(cube, 1, v4(1, 2), tried);
    };
    router()
        .rows([
            row("one hop left").send(0, &packet, expires(&packet)),
            row("no hop left").send(0, &zero, expires(&zero)),
            row("an echo request, as traceroute sends it").send(0, &ping, expires(&ping)),
            row("a first fragment").send(0, &first_fragment, expires(&first_fragment)),
            row("to the station it came from").send(
                0,
                &relayed,
                answered(DropReason::TtlExceeded, 0, &to_relay),
            ),
            row("known neighbours do not matter")
                .with(|cube| known(cube, 1, v4(1, 2), B))
                .send(0, &packet, expires(&packet)),
            row("no route").send(
                0,
                &lost,
                answered(DropReason::NoRoute, 0, &error(3, 0, &lost)),
            ),
            row("no route comes first").send(
                0,
                &lost_and_dying,
                answered(DropReason::NoRoute, 0, &error(3, 0, &lost_and_dying)),
            ),
            row("a neighbour asked for in vain").with(vain).send(
                0,
                &normal,
                answered(DropReason::NeighborUnresolved, 0, &error(3, 1, &normal)),
            ),
            row("on a port that only TC sends on")
                .with(|cube| cube.change_port(0, |port| port.flags |= PORT_VIA_TC))
                .send_differs(0, &packet, expires(&packet), handed_over()),
        ])
        .run();
}

/// RFC 1812, 4.3.2.7.
#[test]
fn never() {
    let about = |kind| ether(A, mac(0)) / dying() / icmp(kind, 0, 0) / payload(28);
    let silent = |name: &'static str, packet: Packet| -> Row {
        row(name).send(0, &packet, dropped(DropReason::TtlExceeded))
    };
    let mut rows: Vec<Row> = [3, 4, 5, 11, 12]
        .map(|kind| silent("about an ICMP error", about(kind)))
        .into();
    rows.extend(
        [0, 8, 13, 17].map(|kind| row("other ICMP").send(0, &about(kind), expires(&about(kind)))),
    );
    let with_options = ether(A, mac(0)) / dying().options(&[1; 8]) / icmp(3, 0, 0) / payload(28);
    let lost_error = ether(A, mac(0)) / ipv4(v4(0, 2), NOWHERE) / icmp(3, 0, 0) / payload(28);
    let no_address = ether(A, mac(3)) / dying() / udp(1, 2);
    rows.extend([
        silent("about an ICMP error with options", with_options),
        silent(
            "about a later fragment",
            from_a(dying().fragment(8, true), 24),
        ),
        silent(
            "about the last fragment",
            from_a(dying().fragment(1480, false), 24),
        ),
        row("about an ICMP error without a route").send(
            0,
            &lost_error,
            dropped(DropReason::NoRoute),
        ),
        row("without an address to send it from").send(
            u32::from(WITHOUT_ADDRESS),
            &no_address,
            dropped(DropReason::TtlExceeded),
        ),
        row("about ICMP that is cut off").send(
            0,
            &(ether(A, mac(0)) / dying().protocol(1) / raw(&[3, 0])),
            dropped(DropReason::Malformed),
        ),
    ]);
    router().rows(rows).run();
}
