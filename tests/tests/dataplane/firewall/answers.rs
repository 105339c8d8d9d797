//! What the senders of rejected packets are told.

use integration_tests::packet::*;

use super::*;

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

const REJECTS: &str = "{ ingress: { default: reject }, egress: { default: reject } }";

/// The packet is answered with this.
fn answers(name: &str, packet: &Packet, answer: &Packet) {
    on_both(|hook| answers_on(hook, name, packet, answer));
}

fn answers_on(hook: Hook, name: &str, packet: &Packet, answer: &Packet) {
    let firewall = Firewall::new(hook, REJECTS);
    for direction in [Direction::Ingress, Direction::Egress] {
        let fate = firewall.meet(direction, &packet.bytes());
        let Fate::Answered("rejected", got) = fate else {
            panic!("{name} on {hook:?}: {fate:?}");
        };
        let answer = answer.clone().zeros_may_follow();
        if let Some(difference) = answer.compare(&got) {
            panic!("{name} on {hook:?}: {difference}");
        }
        assert_eq!(problems(&got), Vec::<String>::new(), "{name} on {hook:?}");
    }
}

/// The packet is dropped and not answered.
fn silence(name: &str, packet: &Packet) {
    on_both(|hook| {
        let firewall = Firewall::new(hook, REJECTS);
        assert_eq!(
            firewall.ingress(packet),
            Fate::Dropped("rejected"),
            "{name} on {hook:?}"
        );
    });
}

fn reply4() -> Ipv4 {
    ipv4(B, A).id(0).dont_fragment()
}

#[test]
fn tcp_is_reset() {
    answers(
        "a SYN",
        &from_a(
            tcp(1000, 80)
                .flags(SYN)
                .sequence(0xffff_ffff)
                .acknowledgment(0),
        ),
        &(ether(IN, OUT)
            / reply4()
            / tcp(80, 1000)
                .flags(RST | ACK)
                .sequence(0)
                .acknowledgment(0)
                .window(0)),
    );
    answers(
        "data",
        &(from_a(tcp(1000, 80).flags(ACK).sequence(5).acknowledgment(77)) / payload(100)),
        &(ether(IN, OUT)
            / reply4()
            / tcp(80, 1000)
                .flags(RST)
                .sequence(77)
                .acknowledgment(0)
                .window(0)),
    );
    answers(
        "a SYN with data and options, in IPv6",
        &(from_a6(
            tcp(1000, 80)
                .flags(SYN)
                .sequence(100)
                .acknowledgment(0)
                .options(&[2, 4, 5, 0xb4]),
        ) / payload(10)),
        &(ether(IN, OUT)
            / ipv6(B6, A6)
            / tcp(80, 1000)
                .flags(RST | ACK)
                .sequence(0)
                .acknowledgment(111)
                .window(0)),
    );
}

#[test]
fn others_get_an_error() {
    let datagram = from_a(udp(1000, 53)) / payload(40);
    answers(
        "a datagram",
        &datagram,
        &(ether(IN, OUT) / reply4() / icmp(3, 3, 0) / datagram.quotation(548)),
    );
    let datagram = from_a6(udp(1000, 53)) / payload(2000 - 62);
    answers(
        "a datagram in IPv6, more than an error quotes",
        &datagram,
        &(ether(IN, OUT) / ipv6(B6, A6) / icmpv6(1, 4, 0) / datagram.quotation(1232)),
    );
    let gre = ether(OUT, IN) / ipv4(A, B).protocol(47) / payload(33);
    answers(
        "another protocol",
        &gre,
        &(ether(IN, OUT) / reply4() / icmp(3, 13, 0) / gre.quotation(548)),
    );
    let ping = from_a6(echo_v6(1, 1));
    answers(
        "a ping",
        &ping,
        &(ether(IN, OUT) / ipv6(B6, A6) / icmpv6(1, 1, 0) / ping.quotation(1232)),
    );
}

#[test]
fn tags_stay() {
    let tagged = ether(OUT, IN)
        / vlan(7)
        / ipv4(A, B)
        / tcp(1000, 80).flags(SYN).sequence(9).acknowledgment(0);
    let reset = ether(IN, OUT)
        / vlan(7)
        / reply4()
        / tcp(80, 1000)
            .flags(RST | ACK)
            .sequence(0)
            .acknowledgment(10)
            .window(0);
    // On TC the tag is outside of the packet; the kernel empties none that has one inside.
    on_both(|hook| match hook {
        Hook::Xdp => answers_on(hook, "one tag", &tagged, &reset),
        Hook::Tc => {
            let firewall = Firewall::new(hook, REJECTS);
            assert_eq!(firewall.ingress(&tagged), Fate::Dropped("rejected"));
        }
    });
    let inner = ipv6(A6, B6);
    let tagged = ether(OUT, IN) / qinq(7) / vlan(8) / inner / udp(1, 2) / payload(9);
    let plain = ether(OUT, IN) / ipv6(A6, B6) / udp(1, 2) / payload(9);
    answers(
        "two tags",
        &tagged,
        &(ether(IN, OUT)
            / qinq(7)
            / vlan(8)
            / ipv6(B6, A6)
            / icmpv6(1, 4, 0)
            / plain.quotation(1232)),
    );
}

#[test]
fn not_everything_is_answered() {
    silence("a reset", &from_a(tcp(1, 2).flags(RST)));
    let datagram = from_b(udp(1, 2));
    silence(
        "an error",
        &(from_a(icmp(3, 1, 0)) / datagram.quotation(28)),
    );
    silence(
        "a broadcast on the link",
        &(ether(OUT, [0xff; 6]) / ipv4(A, B) / udp(1, 2)),
    );
    silence(
        "a group",
        &(ether(OUT, IN) / ipv4(A, Ipv4Addr::new(224, 0, 0, 5)) / udp(1, 2)),
    );
    silence(
        "a packet of nobody",
        &(ether(OUT, IN) / ipv6(Ipv6Addr::UNSPECIFIED, B6) / udp(1, 2)),
    );
}

#[test]
fn floods_are_not_answered_for_long() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, REJECTS);
        let fates = (0..2000).map(|port| firewall.ingress(&from_a(udp(port, 53))));
        let answered = fates
            .filter(|fate| matches!(fate, Fate::Answered(..)))
            .count();
        assert!((1..1900).contains(&answered), "{hook:?}: {answered}");
    });
}
