//! ICMP errors, and the packets that they quote (RFC 5508, 4).

use ebpf_abi::counters::DropReason;
use integration_tests::{
    packet::{Packet, echo, icmp, icmpv6, ipv4, ipv6, payload, tcp, udp},
    table::{Row, row},
};

use super::*;

/// A router on the way.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xee, 0, 0, 0, 0, 1);
const INSIDE_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

fn datagram(from: Ipv4Addr) -> Packet {
    frame() / ipv4(from, REMOTE).ttl(1) / udp(4000, 33434) / payload(20)
}

fn segment(from: Ipv4Addr, flags: u8) -> Packet {
    frame() / ipv4(from, REMOTE) / tcp(4000, 443).flags(flags) / payload(40)
}

fn ping(from: Ipv4Addr) -> Packet {
    frame() / ipv4(from, REMOTE).ttl(1) / echo(7, 1) / payload(20)
}

/// "Time exceeded" about a packet, from a router to its sender.
fn exceeded(to: Ipv4Addr, about: &Packet, limit: usize) -> Packet {
    frame() / ipv4(ROUTER, to) / icmp(11, 0, 0) / about.quotation(limit)
}

fn rows() -> Vec<Row> {
    let too_big =
        |to, about: &Packet| frame() / ipv4(ROUTER, to) / icmp(3, 4, 1400) / about.quotation(548);
    let request = |to, port| frame() / ipv4(REMOTE, to) / tcp(5000, port).flags(SYN) / payload(9);
    let unreachable =
        |from, about: &Packet| frame() / ipv4(from, REMOTE) / icmp(3, 1, 0) / about.quotation(548);
    vec![
        row("time exceeded, of UDP")
            .out(&datagram(INSIDE), &datagram(EXTERNAL))
            .comes_in(
                &exceeded(EXTERNAL, &datagram(EXTERNAL), 28),
                &exceeded(INSIDE, &datagram(INSIDE), 28),
            )
            .comes_in(
                &exceeded(EXTERNAL, &datagram(EXTERNAL), 548),
                &exceeded(INSIDE, &datagram(INSIDE), 548),
            ),
        row("time exceeded, of echo")
            .out(&ping(INSIDE), &ping(EXTERNAL))
            .comes_in(
                &exceeded(EXTERNAL, &ping(EXTERNAL), 548),
                &exceeded(INSIDE, &ping(INSIDE), 548),
            ),
        row("too big, of TCP")
            .out(&segment(INSIDE, SYN), &segment(EXTERNAL, SYN))
            .comes_in(
                &too_big(EXTERNAL, &segment(EXTERNAL, SYN)),
                &too_big(INSIDE, &segment(INSIDE, SYN)),
            )
            // No more than what RFC 792 asks for.
            .comes_in(
                &exceeded(EXTERNAL, &segment(EXTERNAL, SYN), 28),
                &exceeded(INSIDE, &segment(INSIDE, SYN), 28),
            ),
        row("from a server inside, and from a router in front of it")
            .comes_in(&request(EXTERNAL, 8080), &request(SERVER, 80))
            .out(
                &unreachable(SERVER, &request(SERVER, 80)),
                &unreachable(EXTERNAL, &request(EXTERNAL, 8080)),
            )
            .out(
                &unreachable(INSIDE_ROUTER, &request(SERVER, 80)),
                &unreachable(EXTERNAL, &request(EXTERNAL, 8080)),
            ),
        row("an error keeps nothing alive and ends nothing")
            .out(&datagram(INSIDE), &datagram(EXTERNAL))
            .with(|cube| age(cube, 200 * SECOND))
            .comes_in(
                &exceeded(EXTERNAL, &datagram(EXTERNAL), 28),
                &exceeded(INSIDE, &datagram(INSIDE), 28),
            )
            .with(|cube| age(cube, 101 * SECOND))
            .comes_in(
                &exceeded(EXTERNAL, &datagram(EXTERNAL), 28),
                &exceeded(EXTERNAL, &datagram(EXTERNAL), 28),
            ),
        row("about nothing that is known, to an address that is only the NAT's")
            .in_dropped(&exceeded(POOL, &datagram(POOL), 28), DropReason::NoSession),
        row("about nothing that is known, from inside").out_dropped(
            &unreachable(SERVER, &request(SERVER, 80)),
            DropReason::NoSession,
        ),
        row("about what passed as it was")
            .comes_in(&request(EXTERNAL, 22), &request(EXTERNAL, 22))
            .out(
                &unreachable(EXTERNAL, &request(EXTERNAL, 22)),
                &unreachable(EXTERNAL, &request(EXTERNAL, 22)),
            ),
    ]
}

fn rows_of_ipv6() -> Vec<Row> {
    let datagram = |from| frame() / ipv6(from, REMOTE_V6) / udp(4000, 33434) / payload(20);
    let exceeded = |to, about: &Packet| {
        frame() / ipv6(ROUTER_V6, to) / icmpv6(3, 0, 0) / about.quotation(1232)
    };
    let segment = |from| frame() / ipv6(from, REMOTE_V6) / tcp(4000, 443).flags(SYN) / payload(900);
    let too_big = |to, about: &Packet| {
        frame() / ipv6(ROUTER_V6, to) / icmpv6(2, 0, 1400) / about.quotation(1232)
    };
    vec![
        row("time exceeded over IPv6")
            .out(&datagram(INSIDE_V6), &datagram(EXTERNAL_V6))
            .comes_in(
                &exceeded(EXTERNAL_V6, &datagram(EXTERNAL_V6)),
                &exceeded(INSIDE_V6, &datagram(INSIDE_V6)),
            ),
        row("packet too big")
            .out(&segment(INSIDE_V6), &segment(EXTERNAL_V6))
            .comes_in(
                &too_big(EXTERNAL_V6, &segment(EXTERNAL_V6)),
                &too_big(INSIDE_V6, &segment(INSIDE_V6)),
            ),
    ]
}

#[test]
fn packets() {
    nat().rows(rows()).rows(rows_of_ipv6()).run();
}
