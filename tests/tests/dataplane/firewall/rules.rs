//! What rules match: each field, in both families, on both hooks.

use integration_tests::packet::*;

use super::*;

const SYN: u8 = 2;
const ACK: u8 = 16;

/// Settings, the packets from outside that pass, and those that are dropped.
fn accepts(name: &str, settings: &str, passing: &[Packet], dropped: &[Packet]) {
    on_both(|hook| {
        let firewall = Firewall::new(hook, settings);
        for (packets, expected) in [(passing, PASSED), (dropped, POLICY)] {
            for (number, packet) in packets.iter().enumerate() {
                assert_eq!(
                    firewall.ingress(packet),
                    expected,
                    "{name} on {hook:?}: packet {number}"
                );
            }
        }
    });
}

/// One rule that accepts, on a chain that drops.
fn rule(rule: &str, passing: &[Packet], dropped: &[Packet]) {
    let settings = format!(
        "{{ sets: {{ office: [192.0.2.0/28, 2001:db8::/64], other: [203.0.113.0/24, 2001:db8:f::/48] }}, \
         ingress: {{ default: drop, rules: [{{ {rule}, action: accept }}] }} }}"
    );
    accepts(rule, &settings, passing, dropped);
}

fn syn(from: u16, to: u16) -> Tcp {
    tcp(from, to).flags(SYN)
}

fn v4(source: [u8; 4], destination: [u8; 4]) -> Packet {
    ether(OUT, IN) / ipv4(source.into(), destination.into()) / udp(1, 2) / payload(8)
}

fn v6(source: &str, destination: &str) -> Packet {
    let address = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
    ether(OUT, IN) / ipv6(address(source), address(destination)) / udp(1, 2) / payload(8)
}

#[test]
fn addresses() {
    rule(
        "source: 192.0.2.0/28",
        &[v4([192, 0, 2, 15], [10, 0, 0, 1])],
        &[
            v4([192, 0, 2, 16], [10, 0, 0, 1]),
            v4([10, 0, 0, 1], [192, 0, 2, 15]),
            v6("2001:db8::1", "fd00::1"),
        ],
    );
    rule(
        "destination: fd00:1::/32",
        &[v6("2001:db8::1", "fd00:1::7")],
        &[
            v6("2001:db8::1", "fd00:2::7"),
            v6("fd00:1::7", "2001:db8::1"),
            v4([192, 0, 2, 1], [10, 0, 0, 1]),
        ],
    );
    rule(
        "source: 192.0.2.1, destination: 10.1.0.0/16",
        &[v4([192, 0, 2, 1], [10, 1, 255, 1])],
        &[
            v4([192, 0, 2, 2], [10, 1, 255, 1]),
            v4([192, 0, 2, 1], [10, 2, 0, 1]),
        ],
    );
    // A network speaks of its own family, negated too.
    rule(
        "source: { not: 192.0.2.0/28 }",
        &[v4([192, 0, 2, 16], [10, 0, 0, 1])],
        &[
            v4([192, 0, 2, 15], [10, 0, 0, 1]),
            v6("2001:db8::1", "fd00::1"),
        ],
    );
    rule(
        "destination: { not: \"fd00:1::/32\" }",
        &[v6("2001:db8::1", "fd00:2::7")],
        &[
            v6("2001:db8::1", "fd00:1::7"),
            v4([192, 0, 2, 1], [10, 0, 0, 1]),
        ],
    );
}

#[test]
fn sets() {
    let (office4, other4) = (
        v4([192, 0, 2, 7], [203, 0, 113, 1]),
        v4([203, 0, 113, 1], [192, 0, 2, 7]),
    );
    let (office6, other6) = (
        v6("2001:db8::5", "2001:db8:f::1"),
        v6("2001:db8:f::1", "2001:db8::5"),
    );
    let both = [office4.clone(), office6.clone()];
    let neither = [other4.clone(), other6.clone()];
    rule("source: \"@office\"", &both, &neither);
    rule("destination: \"@other\"", &both, &neither);
    // A set speaks of both families, negated too.
    rule("source: { not: \"@office\" }", &neither, &both);
    rule(
        "source: \"@office\", destination: { not: \"@other\" }",
        &[v4([192, 0, 2, 7], [10, 0, 0, 1])],
        &both,
    );
}

#[test]
fn a_set_changes_in_place() {
    on_both(|hook| {
        let firewall = Firewall::new(
            hook,
            "{ sets: { s: [10.9.0.0/16] }, ingress: { rules: [{ source: \"@s\", action: drop }] } }",
        );
        let packet = v4([192, 0, 2, 7], [10, 0, 0, 1]);
        assert_eq!(firewall.ingress(&packet), PASSED);
        let key = ebpf_abi::firewall::SetKey {
            length: 32 + 96 + 24,
            set: 1,
            address: ebpf_abi::flow::mapped(ebpf_abi::address::V4::new([192, 0, 2, 0])),
        };
        firewall.cube().write("sets", key, 1u32);
        assert_eq!(firewall.ingress(&packet), POLICY);
        firewall.cube().delete("sets", key);
        assert_eq!(firewall.ingress(&v4([192, 0, 2, 8], [10, 0, 0, 1])), PASSED);
    });
}

#[test]
fn protocols() {
    let gre = ether(OUT, IN) / ipv4(A, B).protocol(47) / payload(20);
    let gre6 = ether(OUT, IN) / ipv6(A6, B6).next_header(47) / payload(20);
    let ospf = ether(OUT, IN) / ipv4(A, B).protocol(89) / payload(20);
    rule(
        "protocol: gre",
        &[gre.clone(), gre6.clone()],
        &[ospf.clone(), from_a(udp(1, 2))],
    );
    rule(
        "protocol: 89",
        std::slice::from_ref(&ospf),
        std::slice::from_ref(&gre),
    );
    rule(
        "protocol: all",
        &[ospf, gre, from_a6(udp(1, 2)), from_a(echo(1, 1))],
        &[],
    );
    rule(
        "protocol: icmp",
        &[from_a(echo(1, 1))],
        &[from_a6(echo_v6(1, 1)), from_a(udp(1, 2))],
    );
    rule(
        "protocol: icmpv6",
        &[from_a6(echo_v6(1, 1))],
        &[from_a(echo(1, 1))],
    );
    // The number of the other family's ICMP is just a protocol there.
    let foreign = ether(OUT, IN) / ipv6(A6, B6).next_header(1) / payload(20);
    rule("protocol: icmp", &[], &[foreign]);
}

#[test]
fn ports() {
    rule(
        "protocol: tcp, destinationPort: 22",
        &[from_a(syn(1000, 22)), from_a6(syn(1000, 22))],
        &[
            from_a(syn(22, 1000)),
            from_a(udp(1000, 22)),
            from_a(syn(1000, 23)),
            // An identifier is no port.
            from_a(echo(22, 22)),
        ],
    );
    rule(
        "protocol: udp, sourcePort: \"5000-5010\", destinationPort: [53, \"80-90\", 65535]",
        &[
            from_a(udp(5000, 53)),
            from_a6(udp(5010, 80)),
            from_a(udp(5005, 90)),
            from_a(udp(5005, 65535)),
        ],
        &[
            from_a(udp(4999, 53)),
            from_a6(udp(5011, 80)),
            from_a(udp(5000, 91)),
            from_a(udp(5000, 79)),
            from_a(syn(5000, 53)),
        ],
    );
    rule(
        "protocol: sctp, destinationPort: 3868",
        &[ether(OUT, IN)
            / ipv4(A, B).protocol(132)
            / raw(&[0x10, 0, 0x0f, 0x1c, 0, 0, 0, 0, 0, 0, 0, 0])],
        &[ether(OUT, IN)
            / ipv4(A, B).protocol(132)
            / raw(&[0x0f, 0x1c, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    );
}

#[test]
fn messages() {
    rule(
        "protocol: icmp, icmpType: echo-request",
        &[from_a(echo(1, 1))],
        &[from_a(icmp(13, 0, 1)), from_a(icmp(9, 0, 0))],
    );
    rule(
        "protocol: icmpv6, icmpType: 128",
        &[from_a6(echo_v6(1, 1))],
        &[from_a6(icmpv6(143, 0, 0))],
    );
    rule(
        "protocol: icmpv6, icmpType: mld2-report",
        &[from_a6(icmpv6(143, 0, 0))],
        &[from_a6(echo_v6(1, 1)), from_a6(icmpv6(131, 0, 0))],
    );
}

#[test]
fn tcp_flags() {
    let flags = |flags| from_a(tcp(1, 2).flags(flags));
    rule(
        "protocol: tcp, tcpFlags: \"SYN,!ACK\"",
        &[flags(SYN), flags(SYN | 0xc0), from_a6(tcp(1, 2).flags(SYN))],
        &[flags(SYN | ACK), flags(ACK), flags(0)],
    );
    rule(
        "protocol: tcp, tcpFlags: \"FIN,PSH,URG\"",
        &[flags(0x29), flags(0x3f)],
        &[flags(0x09), flags(SYN)],
    );
}

#[test]
fn states() {
    rule(
        "state: new",
        &[from_a(syn(1, 2)), from_a6(udp(1, 2)), from_a(echo(1, 1))],
        &[from_a(tcp(1, 3)), from_a(echo_reply(2, 1))],
    );
    rule(
        "state: [invalid]",
        &[from_a(tcp(1, 3)), from_a6(echo_reply_v6(2, 1))],
        &[from_a(syn(1, 2)), from_a(udp(1, 2))],
    );
}

#[test]
fn the_first_rule_that_matches_decides() {
    let settings = "{ ingress: { rules: [
        { protocol: udp, destinationPort: 53, action: accept },
        { source: 192.0.2.0/24, protocol: udp, action: drop },
        { source: 192.0.2.1, action: accept },
        { source: \"2001:db8::/32\", action: drop } ] } }";
    let from_c = ether(OUT, IN) / ipv4(Ipv4Addr::new(192, 0, 2, 2), B) / syn(1, 2);
    accepts(
        "order",
        settings,
        &[
            from_a(udp(1, 53)),
            from_a6(udp(1, 53)),
            from_a(syn(1, 2)),
            from_c,
        ],
        &[from_a(udp(1, 54)), from_a6(udp(1, 54)), from_a6(syn(1, 2))],
    );
}

#[test]
fn each_direction_has_its_chain() {
    on_both(|hook| {
        let firewall = Firewall::new(
            hook,
            "{ ingress: { default: drop, rules: [{ protocol: udp, action: accept }] }, \
               egress: { default: drop, rules: [{ protocol: tcp, action: accept }] } }",
        );
        assert_eq!(firewall.ingress(&from_a(udp(1, 2))), PASSED);
        assert_eq!(firewall.ingress(&from_a(syn(1, 2))), POLICY);
        assert_eq!(firewall.egress(&from_b(udp(9, 9))), POLICY);
        assert_eq!(firewall.egress(&from_b(syn(9, 9))), PASSED);
    });
}

#[test]
fn tags_hide_nothing() {
    let tagged =
        |to: u16| ether(OUT, IN) / qinq(5) / vlan(6) / ipv4(A, B) / udp(1, to) / payload(4);
    rule(
        "protocol: udp, destinationPort: 53",
        &[tagged(53)],
        &[tagged(54)],
    );
}

#[test]
fn extension_headers_hide_nothing() {
    // Hop-by-hop and destination options, then UDP.
    let extended = |port: u8| {
        ether(OUT, IN)
            / ipv6(A6, B6).next_header(0)
            / raw(&[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0])
            / raw(&[0, 1, 0, port, 0, 8, 0xff, 0xff])
    };
    rule(
        "protocol: udp, destinationPort: 53",
        &[extended(53)],
        &[extended(54)],
    );
}

#[test]
fn neighbors_are_found() {
    let arp = ether(OUT, [0xff; 6]) / arp_request((OUT, A), B);
    let solicitation = ether(OUT, IN) / ipv6(A6, B6).hop_limit(255) / solicitation(B6);
    let other = ether(OUT, IN) / payload(46);
    accepts(
        "by default",
        "{ ingress: { default: drop } }",
        &[arp.clone(), solicitation.clone()],
        &[other.clone(), from_a(udp(1, 2))],
    );
    accepts(
        "filtered",
        "{ neighborDiscovery: filter, ingress: { default: drop } }",
        &[],
        &[arp.clone(), solicitation.clone(), other.clone()],
    );
    accepts(
        "filtered, and accepted by a rule",
        "{ neighborDiscovery: filter, ingress: { default: drop, rules: [{ protocol: icmpv6, icmpType: neighbor-solicitation, action: accept }] } }",
        &[solicitation],
        &[arp],
    );
    accepts(
        "what is not IP",
        "{ ingress: { default: accept } }",
        &[other],
        &[],
    );
}

#[test]
fn what_is_cut_off_is_malformed() {
    on_both(|hook| {
        let firewall = Firewall::new(
            hook,
            "{ ingress: { rules: [{ protocol: tcp, action: drop }] } }",
        );
        let cut = from_a(syn(1, 2)).truncated(14 + 20 + 10);
        assert_eq!(firewall.ingress(&cut), Fate::Dropped("malformed"));
    });
}
