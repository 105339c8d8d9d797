//! ICMP errors that become those of the other family, with the packets that they quote (RFC 7915,
//! 4.2, 4.3, 5.2 and 5.3).

use ebpf_abi::counters::DropReason;
use integration_tests::{
    packet::{Packet, echo, echo_v6, icmp, icmpv6, ipv4, ipv6, payload, tcp, udp},
    table::{Row, row},
};

use super::families::{FAR, HOST, PAIR_V4, PAIR_V6, embedded, families};
use super::*;

/// A router on the way in IPv4, and one in IPv6.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xee, 0, 0, 0, 0, 1);

/// What the host sent, as it was and outside.
fn sent_v6(length: usize) -> Packet {
    frame() / ipv6(HOST, FAR).hop_limit(1) / udp(4000, 33434) / payload(length)
}
fn sent_v4(length: usize) -> Packet {
    frame() / ipv4(POOL, REMOTE).ttl(1).id(0) / udp(4000, 33434) / payload(length)
}
fn open(name: &'static str) -> Row {
    row(name).comes_in(&sent_v6(20), &sent_v4(20).any_identification())
}
/// What the remote host answered, outside and at the host.
fn answered_v4(length: usize) -> Packet {
    frame() / ipv4(REMOTE, POOL).ttl(5).id(0) / udp(33434, 4000) / payload(length)
}
fn answered_v6(length: usize) -> Packet {
    frame() / ipv6(FAR, HOST).hop_limit(5) / udp(33434, 4000) / payload(length)
}

/// Errors about what an IPv6 host sent.
fn to_ipv6() -> Vec<Row> {
    let error = |kind, code, rest, quoted: &Packet, limit| {
        frame()
            / ipv4(ROUTER, POOL).tos(0xc0).ttl(60)
            / icmp(kind, code, rest)
            / quoted.quotation(limit)
    };
    let becomes = |kind, code, rest, quoted: &Packet, limit| {
        frame()
            / ipv6(embedded(ROUTER), HOST).class(0xc0).hop_limit(60)
            / icmpv6(kind, code, rest)
            / quoted.quotation(limit)
    };
    let both = |(kind, code, rest): (u8, u8, u32), (to_kind, to_code, to_rest): (u8, u8, u32)| {
        (
            error(kind, code, rest, &sent_v4(20), 548),
            becomes(to_kind, to_code, to_rest, &sent_v6(20), 568),
        )
    };
    let mut rows = Vec::new();
    for (name, from, to) in [
        ("time exceeded", (11, 0, 0), (3, 0, 0)),
        ("reassembly time exceeded", (11, 1, 0), (3, 1, 0)),
        ("network unreachable", (3, 0, 0), (1, 0, 0)),
        ("host unreachable", (3, 1, 0), (1, 0, 0)),
        ("protocol unreachable", (3, 2, 0), (4, 1, 6)),
        ("port unreachable", (3, 3, 0), (1, 4, 0)),
        ("prohibited", (3, 13, 0), (1, 1, 0)),
        ("fragmentation needed", (3, 4, 1400), (2, 0, 1420)),
        ("less than IPv6 has", (3, 4, 576), (2, 0, 1280)),
        (
            "the field of a parameter problem",
            (12, 0, 8 << 24),
            (4, 0, 7),
        ),
        (
            "what RFC 4884 says of extensions is left out",
            (11, 0, 17 << 16),
            (3, 0, 0),
        ),
    ] {
        let (error, becomes) = both(from, to);
        rows.push(open(name).comes_in(&error, &becomes));
    }
    for (name, kind, code, rest) in [
        ("precedence violated", 3, 14, 0),
        ("source quench", 4, 0, 0),
        ("redirect", 5, 1, 0),
        ("a field that IPv6 does not have", 12, 0, 5 << 24),
    ] {
        let error = error(kind, code, rest, &sent_v4(20), 548);
        rows.push(open(name).in_dropped(&error, DropReason::Unsupported));
    }
    rows.extend([
        open("no more is quoted than RFC 792 asks for").comes_in(
            &error(11, 0, 0, &sent_v4(20), 28),
            &becomes(3, 0, 0, &sent_v6(20), 48),
        ),
        open("the router next to the cube says so, as the packet leaves").out(
            &error(11, 0, 0, &sent_v4(20), 548),
            &becomes(3, 0, 0, &sent_v6(20), 568),
        ),
        open("about nothing that is known").in_dropped(
            &error(
                11,
                0,
                0,
                &(frame() / ipv4(POOL, REMOTE) / udp(4001, 33434)),
                548,
            ),
            DropReason::NoSession,
        ),
        row("an MTU that an old router does not say is guessed")
            .comes_in(
                &sent_v6(1400),
                &(frame()
                    / ipv4(POOL, REMOTE).ttl(1).id(0).dont_fragment()
                    / udp(4000, 33434)
                    / payload(1400)),
            )
            .comes_in(
                &error(
                    3,
                    4,
                    0,
                    &(frame()
                        / ipv4(POOL, REMOTE).ttl(1).id(0).dont_fragment()
                        / udp(4000, 33434)
                        / payload(1400)),
                    548,
                ),
                // 1428 bytes; 1006 is the next common size.
                &becomes(2, 0, 1280, &sent_v6(1400), 568),
            ),
        row("about echo")
            .comes_in(
                &(frame() / ipv6(HOST, FAR) / echo_v6(7, 1) / payload(20)),
                &(frame() / ipv4(POOL, REMOTE) / echo(7, 1) / payload(20)).any_identification(),
            )
            .comes_in(
                &error(
                    11,
                    0,
                    0,
                    &(frame() / ipv4(POOL, REMOTE) / echo(7, 1) / payload(20)),
                    548,
                ),
                &becomes(
                    3,
                    0,
                    0,
                    &(frame() / ipv6(HOST, FAR) / echo_v6(7, 1) / payload(20)),
                    568,
                ),
            ),
        row("about TCP, cut off in front of its checksum")
            .comes_in(
                &(frame() / ipv6(HOST, FAR) / tcp(4000, 443).flags(SYN) / payload(20)),
                &(frame() / ipv4(POOL, REMOTE) / tcp(4000, 443).flags(SYN) / payload(20))
                    .any_identification(),
            )
            .comes_in(
                &error(
                    3,
                    1,
                    0,
                    &(frame() / ipv4(POOL, REMOTE) / tcp(4000, 443).flags(SYN) / payload(20)),
                    28,
                ),
                &becomes(
                    1,
                    0,
                    0,
                    &(frame() / ipv6(HOST, FAR) / tcp(4000, 443).flags(SYN) / payload(20)),
                    48,
                ),
            ),
    ]);
    rows
}

/// Errors about what an IPv4 host sent.
fn to_ipv4() -> Vec<Row> {
    let error = |kind, code, rest, quoted: &Packet| {
        frame()
            / ipv6(ROUTER_V6, FAR).hop_limit(60)
            / icmpv6(kind, code, rest)
            / quoted.quotation(1232)
    };
    let becomes = |kind, code, rest, quoted: &Packet| {
        let packet =
            frame() / ipv4(POOL, REMOTE).ttl(60) / icmp(kind, code, rest) / quoted.quotation(1212);
        packet.any_identification()
    };
    let mut rows = Vec::new();
    for (name, from, to) in [
        ("no route", (1, 0, 0), (3, 1, 0)),
        ("IPv6 prohibited", (1, 1, 0), (3, 10, 0)),
        ("address unreachable", (1, 3, 0), (3, 1, 0)),
        ("IPv6 port unreachable", (1, 4, 0), (3, 3, 0)),
        ("hop limit exceeded", (3, 0, 0), (11, 0, 0)),
        ("an unknown next header", (4, 1, 6), (3, 2, 0)),
        (
            "the field of an IPv6 parameter problem",
            (4, 0, 7),
            (12, 0, 8 << 24),
        ),
        ("packet too big", (2, 0, 1400), (3, 4, 1380)),
    ] {
        let (error, becomes) = (
            error(from.0, from.1, from.2, &answered_v6(40)),
            becomes(to.0, to.1, to.2, &answered_v4(40)),
        );
        rows.push(
            open(name)
                .comes_in(&answered_v4(40), &answered_v6(40))
                .comes_in(&error, &becomes)
                .out(&error, &becomes),
        );
    }
    let from_host =
        frame() / ipv6(HOST, FAR).hop_limit(60) / icmpv6(1, 4, 0) / answered_v6(40).quotation(1232);
    rows.extend([
        open("from the host itself").comes_in(&from_host, &becomes(3, 3, 0, &answered_v4(40))),
        open("what IPv4 does not have")
            .in_dropped(&error(4, 2, 0, &answered_v6(40)), DropReason::Unsupported),
        row("about nothing").in_dropped(&error(1, 0, 0, &answered_v6(40)), DropReason::NoSession),
    ]);
    rows
}

/// Errors about what `nat46` translates.
fn pairs() -> Vec<Row> {
    let request_v4 = || frame() / ipv4(REMOTE, PAIR_V4).id(0) / udp(4000, 80) / payload(40);
    let request_v6 = || frame() / ipv6(FAR, PAIR_V6) / udp(4000, 80) / payload(40);
    let answer_v4 = || frame() / ipv4(PAIR_V4, REMOTE).id(0) / udp(80, 4000) / payload(40);
    let answer_v6 = || frame() / ipv6(PAIR_V6, FAR) / udp(80, 4000) / payload(40);
    vec![
        row("from an IPv6 server").comes_in(
            &(frame() / ipv6(PAIR_V6, FAR) / icmpv6(1, 4, 0) / request_v6().quotation(1232)),
            &(frame() / ipv4(PAIR_V4, REMOTE) / icmp(3, 3, 0) / request_v4().quotation(1212))
                .any_identification(),
        ),
        row("to an IPv6 server").comes_in(
            &(frame() / ipv4(ROUTER, PAIR_V4) / icmp(11, 0, 0) / answer_v4().quotation(548)),
            &(frame()
                / ipv6(embedded(ROUTER), PAIR_V6)
                / icmpv6(3, 0, 0)
                / answer_v6().quotation(568)),
        ),
    ]
}

#[test]
fn packets() {
    families()
        .rows(to_ipv6())
        .rows(to_ipv4())
        .rows(pairs())
        .run();
}
