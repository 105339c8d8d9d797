//! Packets for the router itself.

use ebpf_abi::{counters::DropReason, port::PORT_VIA_TC, router::ROUTER_PORT_TURNS};
use integration_tests::{
    packet::{
        Packet, echo, echo_reply, echo_reply_v6, echo_v6, ether, icmp, icmpv6, ipv4, ipv6, payload,
        raw, udp,
    },
    table::{Row, answered, dropped, handed_over, row, sent},
};

use super::*;

fn ping(to: Ipv4Addr, length: usize) -> Packet {
    ether(A, mac(0))
        / ipv4(v4(0, 2), to).ttl(1).tos(0x10).dont_fragment()
        / echo(77, 3)
        / payload(length)
}

fn pong(from: Ipv4Addr, length: usize) -> Packet {
    ether(mac(0), A)
        / ipv4(from, v4(0, 2)).ttl(64).tos(0x10).dont_fragment()
        / echo_reply(77, 3)
        / payload(length)
}

fn ping_v6(to: Ipv6Addr, length: usize) -> Packet {
    ether(A, mac(0)) / ipv6(v6(0, 2), to).hop_limit(1) / echo_v6(77, 3) / payload(length)
}

fn pong_v6(from: Ipv6Addr, length: usize) -> Packet {
    ether(mac(0), A) / ipv6(from, v6(0, 2)).hop_limit(64) / echo_reply_v6(77, 3) / payload(length)
}

/// Identifiers that bring the checksum of an echo request to the edges of one's complement.
fn edges(first: &str, make: impl Fn(u16) -> Packet, checksum_at: usize) -> Vec<u16> {
    let wanted = [
        0x0000, 0x0001, 0x07ff, 0x0800, 0xf7fe, 0xf7ff, 0xf800, 0xfeff, 0xff00, 0xfffe,
    ];
    let ids: Vec<u16> = (0..=u16::MAX)
        .filter(|id| {
            let bytes = make(*id).bytes();
            wanted.contains(&u16::from_be_bytes([
                bytes[checksum_at],
                bytes[checksum_at + 1],
            ]))
        })
        .collect();
    assert!(ids.len() >= wanted.len(), "{first}: {ids:?}");
    ids
}

#[test]
fn echo_v4() {
    let lengths = [0, 1, 2, 3, 17, 56, 57, 1472];
    let sizes = lengths.iter().fold(row("all sizes"), |row, length| {
        row.send(
            0,
            &ping(v4(0, 1), *length),
            sent(0, &pong(v4(0, 1), *length)),
        )
    });
    let small = |id| ether(A, mac(0)) / ipv4(v4(0, 2), v4(0, 1)) / echo(id, 0) / payload(1);
    let sums = edges("v4", small, 36)
        .into_iter()
        .fold(row("checksums"), |row, id| {
            let answer =
                ether(mac(0), A) / ipv4(v4(0, 1), v4(0, 2)) / echo_reply(id, 0) / payload(1);
            row.send(0, &small(id), sent(0, &answer))
        });
    let odd = |ip| ether(A, mac(0)) / ip / echo(1, 1) / payload(24);
    let to_us = || ipv4(v4(0, 2), v4(0, 1));
    let off_link = ether(C, mac(0)) / ipv4(FAR, v4(0, 1)) / echo(1, 1);
    let answer_off_link = ether(mac(0), C) / ipv4(v4(0, 1), FAR) / echo_reply(1, 1);
    let refused = dropped(DropReason::Unsupported);
    router()
        .rows([
            sizes,
            sums,
            row("another address of the port").send(
                1,
                &(ether(B, mac(1)) / ipv4(v4(1, 2), v4(SECOND, 1)) / echo(1, 1)),
                sent(
                    1,
                    &(ether(mac(1), B) / ipv4(v4(SECOND, 1), v4(1, 2)) / echo_reply(1, 1)),
                ),
            ),
            row("the address of another port").send(
                0,
                &ping(v4(1, 1), 56),
                sent(0, &pong(v4(1, 1), 56)),
            ),
            row("the answer goes back to the station").send(
                0,
                &off_link,
                sent(0, &answer_off_link),
            ),
            row("padding stays").send(
                0,
                &ping(v4(0, 1), 1).padded(60),
                sent(0, &pong(v4(0, 1), 1).padded(60)),
            ),
            row("a wrong checksum stays wrong").send(
                0,
                &(ether(A, mac(0)) / to_us() / echo(1, 1).checksum(0x1111)),
                sent(
                    0,
                    &(ether(mac(0), A)
                        / ipv4(v4(0, 1), v4(0, 2))
                        / echo_reply(1, 1).checksum(0x1911)),
                ),
            ),
            row("on a port that only TC sends on")
                .with(|cube| cube.change_port(0, |port| port.flags |= PORT_VIA_TC))
                .send_differs(
                    0,
                    &ping(v4(0, 1), 56),
                    sent(0, &pong(v4(0, 1), 56)),
                    handed_over(),
                ),
            row("a first fragment").send(0, &odd(to_us().fragment(0, true)), refused.clone()),
            row("a later fragment").send(0, &odd(to_us().fragment(1480, false)), refused.clone()),
            row("with options").send(0, &odd(to_us().options(&[1, 1, 1, 0])), refused.clone()),
            row("another type").send(
                0,
                &(ether(A, mac(0)) / to_us() / icmp(13, 0, 0) / payload(12)),
                refused.clone(),
            ),
            row("an answer to nobody").send(
                0,
                &(ether(A, mac(0)) / to_us() / echo_reply(1, 1)),
                refused,
            ),
            row("no room for an echo").send(
                0,
                &(ether(A, mac(0)) / to_us().protocol(1) / raw(&[8, 0, 0, 0])),
                dropped(DropReason::Malformed),
            ),
        ])
        .run();
}

#[test]
fn echo_over_ipv6() {
    let lengths = [0, 1, 2, 3, 17, 56, 57, 1452];
    let sizes = lengths.iter().fold(row("all sizes"), |row, length| {
        row.send(
            0,
            &ping_v6(v6(0, 1), *length),
            sent(0, &pong_v6(v6(0, 1), *length)),
        )
    });
    let small = |id| ether(A, mac(0)) / ipv6(v6(0, 2), v6(0, 1)) / echo_v6(id, 0) / payload(1);
    let sums = edges("v6", small, 56)
        .into_iter()
        .fold(row("checksums"), |row, id| {
            let answer =
                ether(mac(0), A) / ipv6(v6(0, 1), v6(0, 2)) / echo_reply_v6(id, 0) / payload(1);
            row.send(0, &small(id), sent(0, &answer))
        });
    let neighbor = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xaa);
    let link_local_ping =
        ether(A, mac(0)) / ipv6(neighbor, link_local(0)) / echo_v6(1, 1) / payload(8);
    let link_local_pong =
        ether(mac(0), A) / ipv6(link_local(0), neighbor) / echo_reply_v6(1, 1) / payload(8);
    let mixed_ping = ether(A, mac(0)) / ipv6(neighbor, v6(0, 1)) / echo_v6(1, 1);
    let mixed_pong = ether(mac(0), A) / ipv6(v6(0, 1), neighbor) / echo_reply_v6(1, 1);
    let refused = dropped(DropReason::Unsupported);
    let to_us = || ipv6(v6(0, 2), v6(0, 1));
    router()
        .rows([
            sizes,
            sums,
            row("class and flow stay").send(
                0,
                &(ether(A, mac(0)) / to_us().class(5).flow(9) / echo_v6(1, 1)),
                sent(
                    0,
                    &(ether(mac(0), A)
                        / ipv6(v6(0, 1), v6(0, 2)).class(5).flow(9)
                        / echo_reply_v6(1, 1)),
                ),
            ),
            row("the address of another port").send(
                0,
                &ping_v6(v6(1, 1), 56),
                sent(0, &pong_v6(v6(1, 1), 56)),
            ),
            row("the link-local address").send(0, &link_local_ping, sent(0, &link_local_pong)),
            row("from link-local to global").send(0, &mixed_ping, sent(0, &mixed_pong)),
            row("on a port that only TC sends on")
                .with(|cube| cube.change_port(0, |port| port.flags |= PORT_VIA_TC))
                .send_differs(
                    0,
                    &ping_v6(v6(0, 1), 56),
                    sent(0, &pong_v6(v6(0, 1), 56)),
                    handed_over(),
                ),
            row("another type").send(
                0,
                &(ether(A, mac(0)) / to_us() / icmpv6(130, 0, 0)),
                refused.clone(),
            ),
            row("an answer to nobody").send(
                0,
                &(ether(A, mac(0)) / to_us() / echo_reply_v6(1, 1)),
                refused.clone(),
            ),
            row("an error about nothing we sent").send(
                0,
                &(ether(A, mac(0)) / to_us() / icmpv6(1, 0, 0) / payload(48)),
                refused,
            ),
        ])
        .run();
}

/// The router serves no ports and no protocols, and says so.
#[test]
fn nothing_else() {
    let from_v4 = |packet: &Packet, code| {
        ether(mac(0), A)
            / ipv4(v4(0, 1), v4(0, 2)).tos(0xc0).id(0)
            / icmp(3, code, 0)
            / packet.quotation(548)
    };
    let from_v6 = |packet: &Packet, kind, code, pointer| {
        ether(mac(0), A)
            / ipv6(v6(0, 1), v6(0, 2))
            / icmpv6(kind, code, pointer)
            / packet.quotation(1232)
    };
    let unsupported = |name: &'static str, packet: &Packet, answer: &Packet| -> Row {
        row(name).send(0, packet, answered(DropReason::Unsupported, 0, answer))
    };
    let to_us = || ipv4(v4(0, 2), v4(0, 1));
    let to_us_v6 = || ipv6(v6(0, 2), v6(0, 1));
    let tcp = integration_tests::packet::tcp;
    let datagram = ether(A, mac(0)) / to_us() / udp(5, 53) / payload(11);
    let segment = ether(A, mac(0)) / to_us() / tcp(5, 22);
    let experiment = ether(A, mac(0)) / to_us() / payload(20);
    let datagram_v6 = ether(A, mac(0)) / to_us_v6() / udp(5, 53) / payload(11);
    let segment_v6 = ether(A, mac(0)) / to_us_v6() / tcp(5, 22);
    let experiment_v6 = ether(A, mac(0)) / to_us_v6() / payload(20);
    let fragment = ether(A, mac(0)) / to_us().protocol(17).fragment(1480, false) / payload(24);
    // A fragment header (RFC 8200, 4.5) is a header like any other to the router.
    let first = [17, 0, 0, 1, 0, 0, 0, 9];
    let fragment_v6 = ether(A, mac(0)) / to_us_v6().next_header(44) / raw(&first) / payload(24);
    let to_link_local = ether(A, mac(0)) / ipv6(v6(0, 2), link_local(0)) / udp(5, 53);
    router()
        .rows([
            unsupported("UDP", &datagram, &from_v4(&datagram, 3)),
            unsupported("TCP", &segment, &from_v4(&segment, 3)),
            unsupported("another protocol", &experiment, &from_v4(&experiment, 2)),
            unsupported(
                "UDP over IPv6",
                &datagram_v6,
                &from_v6(&datagram_v6, 1, 4, 0),
            ),
            unsupported("TCP over IPv6", &segment_v6, &from_v6(&segment_v6, 1, 4, 0)),
            unsupported(
                "another protocol over IPv6",
                &experiment_v6,
                &from_v6(&experiment_v6, 4, 1, 6),
            ),
            unsupported(
                "a fragment over IPv6",
                &fragment_v6,
                &from_v6(&fragment_v6, 4, 1, 6),
            ),
            unsupported(
                "UDP to the link-local address",
                &to_link_local,
                &from_v6(&to_link_local, 1, 4, 0),
            ),
            row("a later fragment is not answered").send(
                0,
                &fragment,
                dropped(DropReason::Unsupported),
            ),
        ])
        .run();
}

/// Port 1 has a stack that knows more about its addresses: what came in elsewhere leaves through it, once.
#[test]
fn addresses_whose_packets_leave_through_the_port() {
    fn turning(cube: &Cube) {
        let mut port: RouterPort = cube.read("router_ports", 1u32).expect("it is there");
        port.flags |= ROUTER_PORT_TURNS;
        cube.write("router_ports", 1u32, port);
    }
    // A station that nobody is.
    let mut itself = mac(1);
    itself[0] ^= 2;
    let to_v4 = |from, to| ether(from, to) / ipv4(v4(0, 2), v4(1, 1)).ttl(1) / echo(77, 3);
    let to_v6 = |from, to| ether(from, to) / ipv6(v6(0, 2), v6(1, 1)).hop_limit(1) / echo_v6(77, 3);
    let answer = ether(mac(1), itself) / ipv4(v4(1, 1), v4(0, 2)).ttl(64) / echo_reply(77, 3);
    let via_tc = |cube: &Cube| cube.change_port(1, |port| port.flags |= PORT_VIA_TC);
    table("router", four_ports)
        .rows([
            row("it is sent there, and has gone no hop")
                .with(turning)
                .send(0, &to_v4(A, mac(0)), sent(1, &to_v4(mac(1), itself)))
                .send(0, &to_v6(A, mac(0)), sent(1, &to_v6(mac(1), itself))),
            row("it is the router's when it comes in there")
                .with(turning)
                .send(1, &to_v4(itself, mac(1)), sent(1, &answer)),
            row("by way of TC").with(turning).with(via_tc).send_differs(
                0,
                &to_v4(A, mac(0)),
                sent(1, &to_v4(mac(1), itself)),
                handed_over(),
            ),
            row("other ports keep what is theirs").with(turning).send(
                0,
                &ping(v4(0, 1), 9),
                sent(0, &pong(v4(0, 1), 9)),
            ),
        ])
        .run();
}
