//! What sessions do to TCP, UDP, ICMP and other packets; their time-outs.

use ebpf_abi::{
    counters::DropReason,
    nat::{FEATURE_SOURCE, Settings, masquerade_pool},
    tcp,
};
use integration_tests::{
    packet::{
        Packet, arp_request, echo, echo_reply, echo_reply_v6, echo_v6, ipv4, ipv6, payload,
        solicitation, tcp as tcp_to, udp, vlan,
    },
    table::{Row, passed, row},
    test_run::Gso,
};

use super::*;

fn udp_out(source: Ipv4Addr, port: u16) -> Packet {
    frame() / ipv4(source, REMOTE) / udp(port, 53) / payload(30)
}

fn udp_in(destination: Ipv4Addr, port: u16) -> Packet {
    frame() / ipv4(REMOTE, destination) / udp(53, port) / payload(31)
}

fn tcp_out(source: Ipv4Addr, flags: u8) -> Packet {
    frame() / ipv4(source, REMOTE) / tcp_to(4000, 443).flags(flags) / payload(12)
}

fn tcp_in(destination: Ipv4Addr, flags: u8) -> Packet {
    frame() / ipv4(REMOTE, destination) / tcp_to(443, 4000).flags(flags) / payload(13)
}

fn translated() -> Vec<Row> {
    let v6_out = |source| frame() / ipv6(source, REMOTE_V6) / udp(4000, 53) / payload(9);
    let v6_in = |to| frame() / ipv6(REMOTE_V6, to) / udp(53, 4000) / payload(10);
    let t6_out = |source| frame() / ipv6(source, REMOTE_V6) / tcp_to(4000, 53).flags(SYN);
    let t6_in = |to| frame() / ipv6(REMOTE_V6, to) / tcp_to(53, 4000).flags(SYN_ACK);
    vec![
        row("UDP")
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .comes_in(&udp_in(EXTERNAL, 4000), &udp_in(INSIDE, 4000))
            .then(|cube| {
                let [(_, session)] = sessions(cube)[..] else {
                    panic!("one session");
                };
                assert_eq!(session.packets, [1, 1]);
                assert_eq!(session.bytes, [14 + 28 + 31, 14 + 28 + 30]);
                assert_eq!(session.rule, ebpf_abi::nat::RULE_MASQUERADE);
            }),
        row("TCP")
            .out(&tcp_out(INSIDE, SYN), &tcp_out(EXTERNAL, SYN))
            .comes_in(&tcp_in(EXTERNAL, SYN_ACK), &tcp_in(INSIDE, SYN_ACK))
            .out(&tcp_out(INSIDE, ACK), &tcp_out(EXTERNAL, ACK))
            .then(|cube| assert_eq!(sessions(cube)[0].1.state, tcp::ESTABLISHED)),
        row("UDP over IPv6")
            .out(&v6_out(INSIDE_V6), &v6_out(EXTERNAL_V6))
            .comes_in(&v6_in(EXTERNAL_V6), &v6_in(INSIDE_V6)),
        row("TCP over IPv6")
            .out(&t6_out(INSIDE_V6), &t6_out(EXTERNAL_V6))
            .comes_in(&t6_in(EXTERNAL_V6), &t6_in(INSIDE_V6)),
        row("echo")
            .out(
                &(frame() / ipv4(INSIDE, REMOTE) / echo(77, 1) / payload(8)),
                &(frame() / ipv4(EXTERNAL, REMOTE) / echo(77, 1) / payload(8)),
            )
            .comes_in(
                &(frame() / ipv4(REMOTE, EXTERNAL) / echo_reply(77, 1) / payload(8)),
                &(frame() / ipv4(REMOTE, INSIDE) / echo_reply(77, 1) / payload(8)),
            ),
        row("echo over IPv6")
            .out(
                &(frame() / ipv6(INSIDE_V6, REMOTE_V6) / echo_v6(77, 1) / payload(8)),
                &(frame() / ipv6(EXTERNAL_V6, REMOTE_V6) / echo_v6(77, 1) / payload(8)),
            )
            .comes_in(
                &(frame() / ipv6(REMOTE_V6, EXTERNAL_V6) / echo_reply_v6(77, 1) / payload(8)),
                &(frame() / ipv6(REMOTE_V6, INSIDE_V6) / echo_reply_v6(77, 1) / payload(8)),
            ),
        row("behind a tag, with options").out(
            &(frame() / vlan(5) / ipv4(INSIDE, REMOTE).options(&[1, 1, 1, 0]) / udp(4000, 53)),
            &(frame() / vlan(5) / ipv4(EXTERNAL, REMOTE).options(&[1, 1, 1, 0]) / udp(4000, 53)),
        ),
        row("the entry of snat comes before masquerading")
            .out(&udp_out(SPECIAL, 4000), &udp_out(POOL, 4000))
            .comes_in(&udp_in(POOL, 4000), &udp_in(SPECIAL, 4000)),
        row("segments are translated as one buffer").send_segments(
            PORT,
            &tcp_out(INSIDE, SYN),
            Gso {
                segments: 3,
                size: 4,
            },
            passed(COUNTER, PORT, &tcp_out(EXTERNAL, SYN)),
        ),
        row("GRE by its address alone")
            .out(
                &(frame() / ipv4(INSIDE, REMOTE).protocol(47) / payload(24)),
                &(frame() / ipv4(EXTERNAL, REMOTE).protocol(47) / payload(24)),
            )
            .comes_in(
                &(frame() / ipv4(REMOTE, EXTERNAL).protocol(47) / payload(24)),
                &(frame() / ipv4(REMOTE, INSIDE).protocol(47) / payload(24)),
            )
            // Its answers could not be told apart.
            .out_dropped(
                &(frame() / ipv4(OTHER, REMOTE).protocol(47) / payload(24)),
                DropReason::PortsExhausted,
            ),
        row("fragments")
            .out(
                &(frame() / ipv4(INSIDE, REMOTE).fragment(0, true) / udp(4000, 53) / payload(16)),
                &(frame() / ipv4(EXTERNAL, REMOTE).fragment(0, true) / udp(4000, 53) / payload(16)),
            )
            .out(
                &(frame() / ipv4(INSIDE, REMOTE).fragment(24, false).protocol(17) / payload(16)),
                &(frame() / ipv4(EXTERNAL, REMOTE).fragment(24, false).protocol(17) / payload(16)),
            )
            .out_dropped(
                &(frame()
                    / ipv4(INSIDE, REMOTE).id(9).fragment(24, false).protocol(17)
                    / payload(16)),
                DropReason::FragmentUnknown,
            ),
    ]
}

fn left_alone() -> Vec<Row> {
    let same = |name, packet: Packet| row(name).out(&packet, &packet);
    let same_in = |name, packet: Packet| row(name).comes_in(&packet, &packet);
    let group = Ipv4Addr::new(224, 0, 0, 5);
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    vec![
        same(
            "ARP",
            frame() / arp_request(([2, 0, 0, 0, 0, 1], INSIDE), REMOTE),
        ),
        same("multicast", frame() / ipv4(INSIDE, group) / udp(1, 2)),
        same(
            "neighbour discovery",
            frame() / ipv6(INSIDE_V6, REMOTE_V6) / solicitation(REMOTE_V6),
        ),
        same(
            "link-local",
            frame() / ipv6(link_local, REMOTE_V6) / udp(1, 2),
        ),
        same(
            "a source that no rule has",
            frame() / ipv4(Ipv4Addr::new(192, 0, 2, 1), REMOTE) / udp(1, 2),
        ),
        same(
            "the answer of whoever has the address",
            frame() / ipv4(EXTERNAL, REMOTE) / echo_reply(1, 1),
        ),
        same_in(
            "for whoever has the address",
            frame() / ipv4(REMOTE, EXTERNAL) / tcp_to(1, 22).flags(SYN),
        ),
        row("for an address that nobody has").in_dropped(
            &(frame() / ipv4(REMOTE, POOL) / tcp_to(1, 22).flags(ACK)),
            DropReason::NoSession,
        ),
        row("a segment out of nothing").out_dropped(&tcp_out(INSIDE, ACK), DropReason::NoSession),
        row("an answer to nothing").out_dropped(
            &(frame() / ipv4(INSIDE, REMOTE) / echo_reply(1, 1)),
            DropReason::NoSession,
        ),
        row("a protocol whose checksum nobody knows").out_dropped(
            &(frame() / ipv4(INSIDE, REMOTE).protocol(51) / payload(24)),
            DropReason::Unsupported,
        ),
        row("without an external address")
            .with(|cube| {
                cube.write("pools", masquerade_pool(1, 4), Pool::default());
            })
            .out_dropped(&udp_out(INSIDE, 4000), DropReason::NoExternalAddress),
    ]
}

fn times() -> Vec<Row> {
    let again = |name, nanoseconds: u64, lives: bool| {
        let row = row(name)
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .with(move |cube| age(cube, nanoseconds));
        if lives {
            row.comes_in(&udp_in(EXTERNAL, 4000), &udp_in(INSIDE, 4000))
        } else {
            row.comes_in(&udp_in(EXTERNAL, 4000), &udp_in(EXTERNAL, 4000))
                .then(|cube| {
                    assert!(sessions(cube).is_empty());
                    assert_eq!(used(cube, masquerade_pool(1, 4), 1), 0);
                })
        }
    };
    vec![
        again("shortly before the end", 299 * SECOND, true),
        again("its time is over", 301 * SECOND, false),
        row("what comes in does not keep it alive")
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .with(|cube| age(cube, 200 * SECOND))
            .comes_in(&udp_in(EXTERNAL, 4000), &udp_in(INSIDE, 4000))
            .with(|cube| age(cube, 101 * SECOND))
            .comes_in(&udp_in(EXTERNAL, 4000), &udp_in(EXTERNAL, 4000)),
        row("what goes out does")
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .with(|cube| age(cube, 200 * SECOND))
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .with(|cube| age(cube, 200 * SECOND))
            .comes_in(&udp_in(EXTERNAL, 4000), &udp_in(INSIDE, 4000)),
        row("a handshake has four minutes")
            .out(&tcp_out(INSIDE, SYN), &tcp_out(EXTERNAL, SYN))
            .with(|cube| age(cube, 241 * SECOND))
            .in_dropped_or_passed(&tcp_in(EXTERNAL, SYN_ACK)),
        row("a connection has two hours")
            .out(&tcp_out(INSIDE, SYN), &tcp_out(EXTERNAL, SYN))
            .comes_in(&tcp_in(EXTERNAL, SYN_ACK), &tcp_in(INSIDE, SYN_ACK))
            .out(&tcp_out(INSIDE, ACK), &tcp_out(EXTERNAL, ACK))
            .with(|cube| age(cube, 7439 * SECOND))
            .comes_in(&tcp_in(EXTERNAL, ACK), &tcp_in(INSIDE, ACK))
            .comes_in(&tcp_in(EXTERNAL, FIN_ACK), &tcp_in(INSIDE, FIN_ACK))
            .then(|cube| assert_eq!(sessions(cube)[0].1.state, tcp::FIN_WAIT))
            .with(|cube| age(cube, 241 * SECOND))
            .out_dropped(&tcp_out(INSIDE, ACK), DropReason::NoSession),
        row("after a reset it has four minutes, and may begin anew")
            .out(&tcp_out(INSIDE, SYN), &tcp_out(EXTERNAL, SYN))
            .comes_in(&tcp_in(EXTERNAL, RST | ACK), &tcp_in(INSIDE, RST | ACK))
            .then(|cube| assert_eq!(sessions(cube)[0].1.state, tcp::CLOSE))
            .out(&tcp_out(INSIDE, SYN), &tcp_out(EXTERNAL, SYN))
            .then(|cube| assert_eq!(sessions(cube)[0].1.state, tcp::SYN_SENT)),
        row("what was flushed is gone")
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .with(|cube| {
                let flushed = sessions(cube)[0].1.created + 1;
                cube.write("state", 0u32, ebpf_abi::nat::State { flushed, swept: 0 });
            })
            .comes_in(&udp_in(EXTERNAL, 4000), &udp_in(EXTERNAL, 4000))
            .then(|cube| assert!(sessions(cube).is_empty())),
        row("another address takes over within a second")
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .with(|cube| {
                pool(cube, masquerade_pool(1, 4), POOL);
                age(cube, SECOND);
            })
            .out(&udp_out(INSIDE, 4000), &udp_out(POOL, 4000))
            .then(|cube| assert_eq!(sessions(cube).len(), 1)),
    ]
}

trait Ends {
    fn in_dropped_or_passed(self, packet: &Packet) -> Self;
}

impl Ends for Row {
    /// For the external address itself, so it passes as it is.
    fn in_dropped_or_passed(self, packet: &Packet) -> Self {
        self.comes_in(packet, packet)
            .then(|cube| assert!(sessions(cube).is_empty()))
    }
}

fn filtering() -> Vec<Row> {
    let stranger = Ipv4Addr::new(192, 0, 2, 99);
    let knock = |to| frame() / ipv4(stranger, to) / udp(9, 4000) / payload(5);
    let answer = |from| frame() / ipv4(from, stranger) / udp(4000, 9) / payload(5);
    let closed = Settings {
        features: FEATURE_SOURCE,
        ..SETTINGS
    };
    vec![
        // RFC 4787, REQ-1: one external port, whatever it talks to.
        row("two destinations, one port")
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .out(&answer(INSIDE), &answer(EXTERNAL))
            .then(|cube| {
                assert_eq!(sessions(cube).len(), 2);
                assert_eq!(used(cube, masquerade_pool(1, 4), 1), 1);
            })
            .with(|cube| age(cube, 301 * SECOND))
            // The port is free only when the last of them is gone.
            .comes_in(&udp_in(EXTERNAL, 4000), &udp_in(EXTERNAL, 4000))
            .then(|cube| {
                assert_eq!(sessions(cube).len(), 1);
                assert_eq!(used(cube, masquerade_pool(1, 4), 1), 1);
            }),
        row("a stranger may send to a port in use")
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .comes_in(&knock(EXTERNAL), &knock(INSIDE))
            .out(&answer(INSIDE), &answer(EXTERNAL)),
        row("unless that is not wanted")
            .global("SETTINGS", closed)
            .out(&udp_out(INSIDE, 4000), &udp_out(EXTERNAL, 4000))
            .comes_in(&knock(EXTERNAL), &knock(EXTERNAL))
            .then(|cube| assert_eq!(sessions(cube).len(), 1)),
    ]
}

#[test]
fn packets() {
    nat().rows(translated()).rows(left_alone()).run();
}

#[test]
fn expiry_and_filtering() {
    nat().rows(times()).rows(filtering()).run();
}
