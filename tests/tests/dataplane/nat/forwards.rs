//! Rules on destinations.

use ebpf_abi::counters::DropReason;
use integration_tests::{
    packet::{Packet, echo, echo_reply, ipv4, ipv6, payload, tcp, udp},
    table::{Row, row},
};

use super::*;

fn request(to: Ipv4Addr, port: u16) -> Packet {
    frame() / ipv4(REMOTE, to) / tcp(5000, port).flags(SYN)
}

fn response(from: Ipv4Addr, port: u16) -> Packet {
    frame() / ipv4(from, REMOTE) / tcp(port, 5000).flags(SYN_ACK)
}

fn rows() -> Vec<Row> {
    let v6_in = |to, port| frame() / ipv6(REMOTE_V6, to) / tcp(5000, port).flags(SYN);
    let v6_out = |from, port| frame() / ipv6(from, REMOTE_V6) / tcp(port, 5000).flags(SYN_ACK);
    let datagram = |to, port| frame() / ipv4(REMOTE, to) / udp(5000, port) / payload(3);
    vec![
        row("a port leads to another one of a server")
            .comes_in(&request(EXTERNAL, 8080), &request(SERVER, 80))
            .out(&response(SERVER, 80), &response(EXTERNAL, 8080))
            .then(|cube| assert_eq!(sessions(cube)[0].1.rule, RULE_PORT_FORWARD)),
        row("over IPv6")
            .comes_in(&v6_in(EXTERNAL_V6, 8080), &v6_in(SERVER_V6, 80))
            .out(&v6_out(SERVER_V6, 80), &v6_out(EXTERNAL_V6, 8080)),
        row("for its protocol only").comes_in(&datagram(EXTERNAL, 8080), &datagram(EXTERNAL, 8080)),
        row("ports of a range, whatever the protocol")
            .comes_in(&request(EXTERNAL, 9007), &request(OTHER, 9007))
            .out(&response(OTHER, 9007), &response(EXTERNAL, 9007))
            .comes_in(&datagram(EXTERNAL, 9000), &datagram(OTHER, 9000)),
        row("beside the range")
            .comes_in(&request(EXTERNAL, 9008), &request(EXTERNAL, 9008))
            .comes_in(&request(EXTERNAL, 8999), &request(EXTERNAL, 8999)),
        row("an address with all its ports, and echo")
            .comes_in(&request(POOL, 22), &request(SPECIAL, 22))
            .out(&response(SPECIAL, 22), &response(POOL, 22))
            .comes_in(
                &(frame() / ipv4(REMOTE, POOL) / echo(5, 6)),
                &(frame() / ipv4(REMOTE, SPECIAL) / echo(5, 6)),
            )
            .out(
                &(frame() / ipv4(SPECIAL, REMOTE) / echo_reply(5, 6)),
                &(frame() / ipv4(POOL, REMOTE) / echo_reply(5, 6)),
            )
            .comes_in(
                &(frame() / ipv4(REMOTE, POOL).protocol(50) / payload(16)),
                &(frame() / ipv4(REMOTE, SPECIAL).protocol(50) / payload(16)),
            ),
        row("a port comes before its address")
            .with(|cube| {
                forward(
                    cube,
                    (0, POOL.into(), 22, 16),
                    (OTHER.into(), 0, RULE_PORT_FORWARD),
                )
            })
            .comes_in(&request(POOL, 22), &request(OTHER, 22))
            .comes_in(&request(POOL, 23), &request(SPECIAL, 23))
            // And one protocol comes before all.
            .with(|cube| {
                forward(
                    cube,
                    (17, POOL.into(), 22, 16),
                    (INSIDE.into(), 0, RULE_PORT_FORWARD),
                )
            })
            .comes_in(&datagram(POOL, 22), &datagram(INSIDE, 22)),
        row("no session without a SYN")
            .in_dropped(
                &(frame() / ipv4(REMOTE, POOL) / tcp(5000, 22).flags(ACK)),
                DropReason::NoSession,
            )
            .then(|cube| assert!(sessions(cube).is_empty())),
    ]
}

#[test]
fn packets() {
    nat().rows(rows()).run();
}
