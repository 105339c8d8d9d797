//! Connections: who began, who answered, and when they are forgotten.

use ebpf_abi::{
    firewall::{CONNECTION_REPLIED, CONNECTION_WINDOWS, Connection},
    flow::FlowKey,
    tcp as states,
};
use integration_tests::packet::*;

use super::*;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Nothing comes in but answers.
const CLIENT: &str = "{ ingress: { default: drop } }";

/// A segment from inside.
fn out(flags: u8) -> Packet {
    from_b(tcp(1000, 80).flags(flags))
}

/// A segment from outside, in answer.
fn back(flags: u8) -> Packet {
    from_a(tcp(80, 1000).flags(flags))
}

fn the_connection(firewall: &Firewall) -> Connection {
    let all: Vec<(FlowKey, Connection)> = firewall.cube().entries("connections");
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].1
}

#[test]
fn answers_pass() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, CLIENT);
        for (unasked, question, answer) in [
            (
                from_a(udp(53, 4000)),
                from_b(udp(4000, 53)),
                from_a(udp(53, 4000)),
            ),
            (
                from_a6(udp(53, 4000)),
                from_b6(udp(4000, 53)),
                from_a6(udp(53, 4000)),
            ),
            (
                from_a(echo_reply(7, 1)),
                from_b(echo(7, 1)),
                from_a(echo_reply(7, 1)),
            ),
            (
                from_a6(echo_reply_v6(7, 1)),
                from_b6(echo_v6(7, 1)),
                from_a6(echo_reply_v6(7, 1)),
            ),
            (back(SYN | ACK), out(SYN), back(SYN | ACK)),
            (
                ether(OUT, IN) / ipv4(A, B).protocol(47) / payload(9),
                ether(IN, OUT) / ipv4(B, A).protocol(47) / payload(9),
                ether(OUT, IN) / ipv4(A, B).protocol(47) / payload(9),
            ),
        ] {
            assert_eq!(firewall.ingress(&unasked), POLICY, "{hook:?}");
            assert_eq!(firewall.egress(&question), PASSED, "{hook:?}");
            assert_eq!(firewall.ingress(&answer), PASSED, "{hook:?}");
        }
        // What only looks like an answer.
        assert_eq!(firewall.ingress(&from_a(udp(54, 4000))), POLICY);
        assert_eq!(firewall.ingress(&from_a(udp(53, 4001))), POLICY);
        assert_eq!(firewall.ingress(&from_a(echo_reply(8, 1))), POLICY);
        assert_eq!(firewall.ingress(&from_a(echo(7, 1))), POLICY);
    });
}

#[test]
fn queries_with_one_identifier_in_both_directions() {
    on_both(|hook| {
        let settings = "{ ingress: { default: drop, rules: [{ protocol: icmp, icmpType: echo-request, state: new, action: accept }] }, egress: { default: drop, rules: [{ protocol: icmp, icmpType: echo-request, state: new, action: accept }] } }";
        let firewall = Firewall::new(hook, settings);
        for _ in 0..2 {
            assert_eq!(firewall.ingress(&from_a(echo(7, 1))), PASSED);
            assert_eq!(firewall.egress(&from_b(echo(7, 1))), PASSED);
            assert_eq!(firewall.egress(&from_b(echo_reply(7, 1))), PASSED);
            assert_eq!(firewall.ingress(&from_a(echo_reply(7, 1))), PASSED);
        }
        assert_eq!(firewall.egress(&from_b(echo_reply(9, 1))), POLICY);
    });
}

#[test]
fn a_connection_from_beginning_to_end() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, CLIENT);
        let steps = [
            (true, SYN, states::SYN_SENT),
            (false, SYN | ACK, states::SYN_RECV),
            (true, ACK, states::ESTABLISHED),
            (false, ACK, states::ESTABLISHED),
            (false, FIN | ACK, states::FIN_WAIT),
            (true, ACK, states::CLOSE_WAIT),
            (true, FIN | ACK, states::LAST_ACK),
            (false, ACK, states::TIME_WAIT),
        ];
        for (is_out, flags, state) in steps {
            let fate = if is_out {
                firewall.egress(&out(flags))
            } else {
                firewall.ingress(&back(flags))
            };
            assert_eq!(fate, PASSED, "{hook:?}: {flags}");
            assert_eq!(the_connection(&firewall).state, state, "{hook:?}: {flags}");
        }
        let connection = the_connection(&firewall);
        assert_eq!(connection.packets, [4, 4]);
        assert_eq!(connection.bytes, [4 * 54, 4 * 54]);
        assert_eq!(connection.direction, Direction::Egress as u8);
        assert_ne!(connection.flags & CONNECTION_REPLIED, 0);
        // The ports are used again, from the other side too: that is another connection.
        assert_eq!(firewall.ingress(&from_a(tcp(80, 1000).flags(SYN))), POLICY);
        assert_eq!(the_connection(&firewall).state, states::TIME_WAIT);
        assert_eq!(firewall.egress(&out(SYN)), PASSED);
        assert_eq!(the_connection(&firewall).state, states::SYN_SENT);
        assert_eq!(the_connection(&firewall).packets, [1, 0]);
    });
}

#[test]
fn what_no_sender_sends_is_invalid() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, CLIENT);
        assert_eq!(firewall.egress(&out(SYN)), PASSED);
        assert_eq!(firewall.ingress(&back(SYN | ACK)), PASSED);
        assert_eq!(firewall.egress(&out(ACK)), PASSED);
        for flags in [SYN, SYN | FIN, SYN | RST, FIN, 0, 0x3f] {
            assert_eq!(firewall.ingress(&back(flags)), POLICY, "{hook:?}: {flags}");
        }
        assert_eq!(the_connection(&firewall).state, states::ESTABLISHED);
        assert_eq!(firewall.ingress(&back(RST)), PASSED);
        assert_eq!(the_connection(&firewall).state, states::CLOSE);
    });
}

#[test]
fn nothing_begins_in_the_middle() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, CLIENT);
        // It passes, because what leaves passes; but nothing is remembered of it.
        assert_eq!(firewall.egress(&out(ACK)), PASSED);
        assert_eq!(firewall.ingress(&back(ACK)), POLICY);
        assert!(
            firewall
                .cube()
                .entries::<FlowKey, Connection>("connections")
                .is_empty()
        );
    });
}

#[test]
fn errors_about_connections_are_related() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, CLIENT);
        let (question, question6) = (from_b(udp(4000, 53)), from_b6(udp(4000, 53)));
        let router = Ipv4Addr::new(198, 51, 100, 1);
        let router6 = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
        let error = |about: &Packet| {
            ether(OUT, IN) / ipv4(router, B) / icmp(3, 4, 1400) / about.quotation(28)
        };
        let error6 = |about: &Packet| {
            ether(OUT, IN) / ipv6(router6, B6) / icmpv6(2, 0, 1400) / about.quotation(48)
        };
        assert_eq!(firewall.ingress(&error(&question)), POLICY);
        assert_eq!(firewall.ingress(&error6(&question6)), POLICY);
        assert_eq!(firewall.egress(&question), PASSED);
        assert_eq!(firewall.egress(&question6), PASSED);
        assert_eq!(firewall.ingress(&error(&question)), PASSED);
        assert_eq!(firewall.ingress(&error6(&question6)), PASSED);
        // Of another flow; to another host than the one that it says has sent the packet; cut off.
        assert_eq!(firewall.ingress(&error(&from_b(udp(4001, 53)))), POLICY);
        let astray = ether(OUT, IN) / ipv4(router, router) / icmp(3, 4, 0) / question.quotation(28);
        assert_eq!(firewall.ingress(&astray), POLICY);
        let short = ether(OUT, IN) / ipv4(router, B) / icmp(3, 4, 0) / question.quotation(22);
        assert_eq!(firewall.ingress(&short), POLICY);
        let echo = from_b(echo(7, 1));
        assert_eq!(firewall.ingress(&error(&echo)), POLICY);
        assert_eq!(firewall.egress(&echo), PASSED);
        assert_eq!(firewall.ingress(&error(&echo)), PASSED);
    });
}

#[test]
fn established_connections_meet_the_rules_if_told_so() {
    on_both(|hook| {
        let settings = "{ acceptEstablished: false, ingress: { default: drop, rules: [{ state: established, protocol: udp, action: accept }] } }";
        let firewall = Firewall::new(hook, settings);
        let question = from_b(udp(4000, 53));
        assert_eq!(firewall.egress(&question), PASSED);
        assert_eq!(firewall.ingress(&from_a(udp(53, 4000))), PASSED);
        assert_eq!(firewall.egress(&out(SYN)), PASSED);
        assert_eq!(firewall.ingress(&back(SYN | ACK)), POLICY);
        let error = ether(OUT, IN) / ipv4(A, B) / icmp(3, 3, 0) / question.quotation(28);
        assert_eq!(firewall.ingress(&error), POLICY);
        let related = settings.replace("state: established, protocol: udp", "state: related");
        let firewall = Firewall::new(hook, &related);
        assert_eq!(firewall.egress(&question), PASSED);
        assert_eq!(firewall.ingress(&error), PASSED);
        assert_eq!(firewall.ingress(&from_a(udp(53, 4000))), POLICY);
    });
}

#[test]
fn without_tracking_every_packet_meets_the_rules() {
    on_both(|hook| {
        let settings = "{ conntrack: false, ingress: { default: drop, rules: [{ protocol: udp, sourcePort: 53, action: accept }] } }";
        let firewall = Firewall::new(hook, settings);
        assert_eq!(firewall.ingress(&from_a(udp(53, 1))), PASSED);
        assert_eq!(firewall.egress(&from_b(udp(1, 54))), PASSED);
        assert_eq!(firewall.ingress(&from_a(udp(54, 1))), POLICY);
        assert!(
            firewall
                .cube()
                .entries::<FlowKey, Connection>("connections")
                .is_empty()
        );
    });
}

#[test]
fn what_is_not_used_is_forgotten() {
    on_both(|hook| {
        let settings = "{ ingress: { default: drop }, timeouts: { udp: 7s, udpStream: 90s, icmp: 3s, tcpSynSent: 20s } }";
        let firewall = Firewall::new(hook, settings);
        let second = 1_000_000_000;
        let life = |firewall: &Firewall| {
            let connection = the_connection(firewall);
            (connection.expires - connection.created).div_ceil(second)
        };
        assert_eq!(firewall.egress(&from_b(udp(4000, 53))), PASSED);
        assert_eq!(life(&firewall), 7);
        assert_eq!(firewall.ingress(&from_a(udp(53, 4000))), PASSED);
        assert!((90..=91).contains(&life(&firewall)));
        // Its time is over: the same packet is no answer any more, and writes nothing.
        let (key, mut connection) = firewall
            .cube()
            .entries::<FlowKey, Connection>("connections")[0];
        connection.expires = 1;
        firewall.cube().write("connections", key, connection);
        assert_eq!(firewall.ingress(&from_a(udp(53, 4000))), POLICY);
        assert_eq!(firewall.egress(&from_b(udp(4000, 53))), PASSED);
        assert_eq!(life(&firewall), 7);
        assert_eq!(the_connection(&firewall).packets, [1, 0]);
        for (packet, seconds) in [(from_b(echo(1, 1)), 3), (out(SYN), 20)] {
            let firewall = Firewall::new(hook, settings);
            assert_eq!(firewall.egress(&packet), PASSED);
            assert_eq!(life(&firewall), seconds);
        }
    });
}

#[test]
fn the_rule_that_began_it_is_noted() {
    on_both(|hook| {
        let settings = "{ ingress: { default: drop, rules: [{ protocol: tcp, action: drop }, { name: dns, protocol: udp, action: accept }] } }";
        let firewall = Firewall::new(hook, settings);
        assert_eq!(firewall.ingress(&from_a(udp(1, 53))), PASSED);
        let connection = the_connection(&firewall);
        assert_eq!(connection.identity, identity("ingress/dns"));
        assert_eq!(connection.direction, Direction::Ingress as u8);
    });
}

/// Nothing but what connections are made of goes out.
const CHECKED: &str = "{ tcpWindowCheck: true, ingress: { default: drop }, egress: { default: drop, rules: [{ state: new, action: accept }] } }";

#[test]
fn segments_must_be_in_the_window() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, CHECKED);
        // A window of 1000 bytes, scaled by two bits.
        let syn = [2, 4, 5, 180, 1, 3, 3, 2];
        let out = |flags, sequence, acknowledgment| {
            let header = tcp(1000, 80).flags(flags).sequence(sequence);
            header.acknowledgment(acknowledgment).window(1000)
        };
        let back = |flags, sequence, acknowledgment| {
            let header = tcp(80, 1000).flags(flags).sequence(sequence);
            header.acknowledgment(acknowledgment).window(1000)
        };
        let begin = from_b(out(SYN, 9999, 0).options(&syn));
        assert_eq!(firewall.egress(&begin), PASSED);
        let answer = from_a(back(SYN | ACK, 4999, 10_000).options(&syn));
        assert_eq!(firewall.ingress(&answer), PASSED);
        assert_eq!(firewall.egress(&from_b(out(ACK, 10_000, 5000))), PASSED);
        // 1000 bytes before the server has said how it scales its window: of the SYN it is not scaled.
        let data = |sequence, length| from_b(out(ACK, sequence, 5000)) / payload(length);
        assert_eq!(firewall.egress(&data(20_000, 10)), POLICY);
        assert_eq!(firewall.egress(&data(10_000, 1000)), PASSED);
        assert_eq!(firewall.ingress(&from_a(back(ACK, 5000, 11_000))), PASSED);
        assert_eq!(firewall.egress(&data(15_000, 10)), PASSED);
        assert_eq!(firewall.egress(&data(30_000, 10)), POLICY);
        assert_eq!(the_connection(&firewall).windows.sides[0].end, 15_010);
        // What was not sent is not acknowledged; padding is no data.
        assert_eq!(firewall.ingress(&from_a(back(ACK, 5000, 15_011))), POLICY);
        let padded = from_a(back(ACK, 5000, 15_010)).padded(60);
        assert_eq!(firewall.ingress(&padded), PASSED);
        assert_eq!(the_connection(&firewall).windows.sides[1].end, 5000);
        assert_eq!(firewall.ingress(&from_a(back(RST, 5001, 0))), PASSED);
        assert_eq!(the_connection(&firewall).state, states::ESTABLISHED);
        assert_eq!(firewall.ingress(&from_a(back(RST, 4999, 0))), POLICY);
        assert_eq!(firewall.ingress(&from_a(back(RST, 5000, 0))), PASSED);
        assert_eq!(the_connection(&firewall).state, states::CLOSE);
    });
}

#[test]
fn a_buffer_of_segments_counts_whole() {
    if !require::root() {
        return;
    }
    private_net::run(|_| {
        let firewall = Firewall::new(Hook::Tc, CHECKED);
        let syn = from_b(tcp(1000, 80).flags(SYN).sequence(99).acknowledgment(0));
        assert_eq!(firewall.egress(&syn), PASSED);
        let answer = from_a(
            tcp(80, 1000)
                .flags(SYN | ACK)
                .sequence(9)
                .acknowledgment(100),
        );
        assert_eq!(firewall.ingress(&answer), PASSED);
        let data = from_b(tcp(1000, 80).flags(ACK).sequence(100).acknowledgment(10));
        let data = (data / payload(3000)).bytes();
        let gso = Gso {
            segments: 3,
            size: 1000,
        };
        assert_eq!(
            firewall.meet_segments(Direction::Egress, &data, gso),
            PASSED
        );
        assert_eq!(the_connection(&firewall).windows.sides[0].end, 3100);
    });
}

/// Windows that nobody has looked after mean nothing.
#[test]
fn what_began_unchecked_is_not_refused() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, CHECKED);
        assert_eq!(firewall.egress(&out(SYN)), PASSED);
        assert_eq!(firewall.ingress(&back(SYN | ACK)), PASSED);
        let entries: Vec<(FlowKey, Connection)> = firewall.cube().entries("connections");
        let (key, mut connection) = entries[0];
        connection.flags &= !CONNECTION_WINDOWS;
        firewall.cube().write("connections", key, connection);
        let far = from_b(
            tcp(1000, 80)
                .flags(ACK)
                .sequence(1 << 30)
                .acknowledgment(1 << 31),
        );
        assert_eq!(firewall.egress(&far), PASSED);
        assert_eq!(the_connection(&firewall).state, states::ESTABLISHED);
        assert_ne!(the_connection(&firewall).flags & CONNECTION_WINDOWS, 0);
    });
}
