//! Packets that are larger than the port they leave through allows: port 2, 1300 bytes.

use ebpf_abi::{
    counters::DropReason::{NeighborUnresolved, TooBig},
    port::PORT_VIA_TC,
};
use integration_tests::{
    packet::{Ipv4, Ipv6, Packet, ether, icmp, icmpv6, ipv4, ipv6, payload, tcp, udp},
    table::{Outcome, answered, dropped, handed_over, row, sent},
    test_run::Gso,
};

use super::*;

fn ip() -> Ipv4 {
    ipv4(v4(0, 2), v4(2, 2)).dont_fragment()
}

fn ip_v6() -> Ipv6 {
    ipv6(v6(0, 2), v6(2, 2))
}

/// An IPv4 packet of `length` bytes.
fn packet(length: usize, ip: Ipv4) -> Packet {
    ether(A, mac(0)) / ip / udp(1, 2) / payload(length - 28)
}

fn packet_v6(length: usize) -> Packet {
    ether(A, mac(0)) / ip_v6() / udp(1, 2) / payload(length - 48)
}

fn needs_fragmentation(packet: &Packet) -> Packet {
    let about = packet.quotation(548);
    ether(mac(0), A) / ipv4(v4(0, 1), v4(0, 2)).tos(0xc0).id(0) / icmp(3, 4, MTU.into()) / about
}

fn too_big(packet: &Packet) -> Outcome {
    answered(TooBig, 0, &needs_fragmentation(packet))
}

fn too_big_v6(packet: &Packet) -> Outcome {
    let about = packet.quotation(1232);
    answered(
        TooBig,
        0,
        &(ether(mac(0), A) / ipv6(v6(0, 1), v6(0, 2)) / icmpv6(2, 0, MTU.into()) / about),
    )
}

fn neighbors(cube: &Cube) {
    known(cube, 2, v4(2, 2), B);
    known(cube, 2, v6(2, 2), B);
}

#[test]
fn packets() {
    let limit = usize::from(MTU);
    let fits_out = ether(mac(2), B) / ip().ttl(63) / udp(1, 2) / payload(limit - 28);
    let fits_out_v6 = ether(mac(2), B) / ip_v6().hop_limit(63) / udp(1, 2) / payload(limit - 48);
    let (odd, full) = (packet(limit + 1, ip()), packet(1500, ip()));
    let options = packet(limit + 1, ip()).bytes().len();
    assert_eq!(options, limit + 15);
    let error = ether(A, mac(0)) / ip() / icmp(3, 0, 0) / payload(1400);
    let error_v6 = ether(A, mac(0)) / ip_v6() / icmpv6(1, 0, 0) / payload(1400);
    let padded = packet(limit, ip()).padded(limit + 100);
    let padded_out = fits_out.clone().padded(limit + 100);
    router()
        .rows([
            row("as large as allowed").with(neighbors).send(
                0,
                &packet(limit, ip()),
                sent(2, &fits_out),
            ),
            row("padding does not count")
                .with(neighbors)
                .send(0, &padded, sent(2, &padded_out)),
            row("a byte more")
                .with(neighbors)
                .send(0, &odd, too_big(&odd)),
            row("many bytes more")
                .with(neighbors)
                .send(0, &full, too_big(&full)),
            row("neighbours do not matter").send(0, &full, too_big(&full)),
            row("an ICMP error")
                .with(neighbors)
                .send(0, &error, dropped(TooBig)),
            row("IPv6, as large as allowed").with(neighbors).send(
                0,
                &packet_v6(limit),
                sent(2, &fits_out_v6),
            ),
            row("IPv6, a byte more").with(neighbors).send(
                0,
                &packet_v6(limit + 1),
                too_big_v6(&packet_v6(limit + 1)),
            ),
            row("IPv6, many bytes more").with(neighbors).send(
                0,
                &packet_v6(1500),
                too_big_v6(&packet_v6(1500)),
            ),
            row("an ICMPv6 error")
                .with(neighbors)
                .send(0, &error_v6, dropped(TooBig)),
            row("for TC to say")
                .with(|cube| cube.change_port(2, |port| port.flags |= PORT_VIA_TC))
                .send_differs(0, &full, too_big(&full), handed_over()),
            row("other ports have no limit").send(
                0,
                &(ether(A, mac(0))
                    / ipv4(v4(0, 2), v4(1, 2)).dont_fragment()
                    / udp(1, 2)
                    / payload(1472)),
                answered(
                    NeighborUnresolved,
                    1,
                    &(ether(mac(1), [0xff; 6])
                        / integration_tests::packet::arp_request((mac(1), v4(1, 1)), v4(1, 2)))
                    .zeros_may_follow(),
                ),
            ),
        ])
        .run();
}

/// What counts is the size of the segments, not of the buffer.
#[test]
fn segments() {
    const TIMESTAMPS: &[u8] = &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let segment = |source, station, ttl, options: &[u8]| {
        ether(source, station) / ip().ttl(ttl) / tcp(1, 2).options(options) / payload(2520)
    };
    let segment_v6 = |source, station, hops, options: &[u8]| {
        ether(source, station)
            / ip_v6().hop_limit(hops)
            / tcp(1, 2).options(options)
            / payload(2480)
    };
    let datagram =
        |source, station, ttl| ether(source, station) / ip().ttl(ttl) / udp(1, 2) / payload(2540);
    let (plain, stamped) = (
        segment(A, mac(0), 64, &[]),
        segment(A, mac(0), 64, TIMESTAMPS),
    );
    let (plain_v6, stamped_v6) = (
        segment_v6(A, mac(0), 64, &[]),
        segment_v6(A, mac(0), 64, TIMESTAMPS),
    );
    let two = |size: u16| Gso {
        segments: 2,
        size: size.into(),
    };
    router()
        .rows([
            row("that fit").with(neighbors).send_segments(
                0,
                &plain,
                two(MTU - 40),
                sent(2, &segment(mac(2), B, 63, &[])),
            ),
            row("that do not").with(neighbors).send_segments(
                0,
                &plain,
                two(MTU - 39),
                too_big(&plain),
            ),
            row("with options, that fit").with(neighbors).send_segments(
                0,
                &stamped,
                two(MTU - 52),
                sent(2, &segment(mac(2), B, 63, TIMESTAMPS)),
            ),
            row("with options, that do not")
                .with(neighbors)
                .send_segments(0, &stamped, two(MTU - 51), too_big(&stamped)),
            row("IPv6, that fit").with(neighbors).send_segments(
                0,
                &plain_v6,
                two(MTU - 60),
                sent(2, &segment_v6(mac(2), B, 63, &[])),
            ),
            row("IPv6, that do not").with(neighbors).send_segments(
                0,
                &plain_v6,
                two(MTU - 59),
                too_big_v6(&plain_v6),
            ),
            row("IPv6 with options, that do not")
                .with(neighbors)
                .send_segments(0, &stamped_v6, two(MTU - 71), too_big_v6(&stamped_v6)),
            row("datagrams that fit").with(neighbors).send_segments(
                0,
                &datagram(A, mac(0), 64),
                two(MTU - 28),
                sent(2, &datagram(mac(2), B, 63)),
            ),
            row("datagrams that do not").with(neighbors).send_segments(
                0,
                &datagram(A, mac(0), 64),
                two(MTU - 27),
                too_big(&datagram(A, mac(0), 64)),
            ),
        ])
        .run();
}
