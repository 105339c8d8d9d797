//! Sequences that somebody has thought of, with the verdicts that both must come to.

use integration_tests::packet::*;

use super::*;

/// What is inside may begin, and what is outside may answer.
const OUTWARDS: Policy = Policy([ANSWERS, BEGINNINGS]);

/// Segments of one connection from inside: `>` the client, `<` the server. `+` passes, `-` is dropped.
const SEGMENTS: [(&str, &str, &str); 17] = [
    (
        "from beginning to end",
        ">S <SA >A >PA3 <A <PA9 >A >FA <A <FA >A",
        "+++++++++++",
    ),
    ("both close at once", ">S <SA >A >FA <FA >A <A", "+++++++"),
    ("both open at once", ">S <S >SA <SA >A <A", "++++++"),
    ("refused", ">S <RA <SA", "++-"),
    ("nobody may begin from outside", "<S >SA <A", "---"),
    ("an answer to nothing", "<SA >A", "--"),
    ("out of the middle", ">A <A >PA1 <PA1", "----"),
    ("an end of nothing", ">FA <FA >RA <RA", "----"),
    ("what no sender sends", ">S <SA >A >SF <F > <SR", "+++----"),
    ("no data before the handshake", ">S >A <SA >A", "+-++"),
    ("a SYN of the server in the middle", ">S <SA >A <S", "+++-"),
    ("a SYN of the client in the middle", ">S <SA >A >S", "++++"),
    (
        "used again after the end",
        ">S <SA >A >FA <A <FA >A >S <SA >A",
        "++++++++++",
    ),
    (
        "reset by the client, and used again",
        ">S <SA >A >R >S <SA >A",
        "+++++++",
    ),
    (
        "reset by the client, then the server goes on",
        ">S <SA >A >R <A <PA1",
        "++++++",
    ),
    (
        "sent again and again",
        ">S >S >S <SA <SA >A >A <A <A",
        "+++++++++",
    ),
    (
        "closed in one direction",
        ">S <SA >A >FA <A <PA9 >A <PA9 >A <FA >A",
        "+++++++++++",
    ),
];

#[test]
fn segments_have_the_verdicts_that_they_should() {
    for mode in [Mode::Flags, Mode::Windows] {
        on_both(|hook| {
            let linux = Linux::new(mode);
            let pair = Pair::new(&linux, hook, OUTWARDS, mode);
            for (number, (name, script, expected)) in (0..).zip(SEGMENTS) {
                for v6 in [false, true] {
                    let talk = Talk {
                        v6,
                        inside: true,
                        port: 1024 + number,
                    };
                    let random = &mut Random::new(1);
                    let mut ends = Ends::new(talk, mode, random);
                    ends.is_exact = true;
                    let verdicts = script.split(' ').map(|step| {
                        let (client, flags, length) = script::parse(step);
                        pair.meet(&ends.send(client, flags, length, random))
                    });
                    let (ours, linux): (Vec<bool>, Vec<bool>) = verdicts.unzip();
                    let signs = |passed: Vec<bool>| -> String {
                        passed
                            .iter()
                            .map(|passed| if *passed { '+' } else { '-' })
                            .collect()
                    };
                    let both = (signs(ours), signs(linux));
                    let expected = (expected.to_owned(), expected.to_owned());
                    assert_eq!(
                        both, expected,
                        "{hook:?}, {mode:?}, IPv6 {v6}: {name}: {script}"
                    );
                }
            }
        });
    }
}

/// What is sent, and whether it passes.
fn datagrams() -> Vec<(Direction, &'static str, Vec<Packet>, bool)> {
    use Direction::{Egress, Ingress};
    let (question, question6) = (from_b(udp(4000, 53)), from_b6(udp(4000, 53)));
    let (ping, ping6) = (from_b(echo(7, 1)), from_b6(echo_v6(7, 1)));
    let router = Ipv4Addr::new(198, 51, 100, 1);
    let too_big = |about: &Packet| from_a(icmp(3, 4, 1400)) / about.quotation(28);
    let too_big6 = |about: &Packet| from_a6(icmpv6(2, 0, 1400)) / about.quotation(48);
    let astray = ether(OUT, IN)
        / ipv4(A, Ipv4Addr::new(10, 1, 2, 9))
        / icmp(3, 4, 0)
        / question.quotation(28);
    let far = ether(OUT, IN) / ipv4(router, B) / icmp(11, 0, 0) / question.quotation(28);
    let piece = |from: u16, more: bool| {
        let whole = (from_b(udp(4001, 53)) / payload(48)).bytes();
        let end = if more { from + 24 } else { 56 };
        ether(IN, OUT)
            / ipv4(B, A).id(77).protocol(17).fragment(from, more)
            / raw(&whole[34 + usize::from(from)..34 + usize::from(end)])
    };
    vec![
        (
            Ingress,
            "an answer to nothing",
            vec![from_a(udp(53, 4000))],
            false,
        ),
        (
            Ingress,
            "an error about nothing",
            vec![too_big(&question)],
            false,
        ),
        (Egress, "a question", vec![question.clone()], true),
        (Egress, "the same again", vec![question.clone()], true),
        (Ingress, "an error about it", vec![too_big(&question)], true),
        (Ingress, "an error of a router on the way", vec![far], true),
        (Ingress, "an error to somebody else", vec![astray], false),
        (Ingress, "its answer", vec![from_a(udp(53, 4000))], true),
        (
            Ingress,
            "from another port",
            vec![from_a(udp(54, 4000))],
            false,
        ),
        (
            Egress,
            "an error about the answer",
            vec![from_b(icmp(3, 3, 0)) / from_a(udp(53, 4000)).quotation(28)],
            true,
        ),
        (
            Ingress,
            "an answer to no IPv6 question",
            vec![from_a6(udp(53, 4000))],
            false,
        ),
        (Egress, "an IPv6 question", vec![question6.clone()], true),
        (Ingress, "its answer", vec![from_a6(udp(53, 4000))], true),
        (
            Ingress,
            "an IPv6 error about it",
            vec![too_big6(&question6)],
            true,
        ),
        (
            Ingress,
            "an IPv6 error about nothing",
            vec![too_big6(&from_b6(udp(4001, 53)))],
            false,
        ),
        (
            Ingress,
            "an echo reply to nothing",
            vec![from_a(echo_reply(7, 1))],
            false,
        ),
        (Egress, "an echo request", vec![ping.clone()], true),
        (Ingress, "its reply", vec![from_a(echo_reply(7, 1))], true),
        (
            Ingress,
            "a reply to another one",
            vec![from_a(echo_reply(8, 1))],
            false,
        ),
        (
            Ingress,
            "a request with its identifier",
            vec![from_a(echo(7, 1))],
            false,
        ),
        (Ingress, "an error about it", vec![too_big(&ping)], true),
        (Egress, "an IPv6 echo request", vec![ping6], true),
        (
            Ingress,
            "its reply",
            vec![from_a6(echo_reply_v6(7, 1))],
            true,
        ),
        (
            Ingress,
            "an IPv6 reply to another one",
            vec![from_a6(echo_reply_v6(8, 1))],
            false,
        ),
        (
            Egress,
            "a datagram in fragments",
            vec![piece(0, true), piece(24, true), piece(48, false)],
            true,
        ),
        (Ingress, "its answer", vec![from_a(udp(53, 4001))], true),
        (
            Egress,
            "a timestamp request",
            vec![from_b(icmp(13, 0, 0x0009_0001)) / payload(12)],
            true,
        ),
        (
            Ingress,
            "its reply",
            vec![from_a(icmp(14, 0, 0x0009_0001)) / payload(12)],
            true,
        ),
        (
            Egress,
            "GRE",
            vec![ether(IN, OUT) / ipv4(B, A).protocol(47) / raw(&[0, 0, 8, 0, 1, 2, 3, 4])],
            true,
        ),
        (
            Ingress,
            "its answer",
            vec![ether(OUT, IN) / ipv4(A, B).protocol(47) / raw(&[0, 0, 8, 0, 1, 2, 3, 4])],
            true,
        ),
        (
            Ingress,
            "ESP unasked",
            vec![ether(OUT, IN) / ipv4(A, B).protocol(50) / payload(24)],
            false,
        ),
        (
            Egress,
            "ESP",
            vec![ether(IN, OUT) / ipv4(B, A).protocol(50) / payload(24)],
            true,
        ),
        (
            Ingress,
            "its answer",
            vec![ether(OUT, IN) / ipv4(A, B).protocol(50) / payload(24)],
            true,
        ),
    ]
}

#[test]
fn datagrams_have_the_verdicts_that_they_should() {
    on_both(|hook| {
        let linux = Linux::new(Mode::Flags);
        let pair = Pair::new(&linux, hook, OUTWARDS, Mode::Flags);
        for (direction, name, packets, expected) in datagrams() {
            let event = Event {
                direction,
                frames: packets.iter().map(Packet::bytes).collect(),
                says: name.to_owned(),
                port: 0,
                segment: None,
            };
            assert_eq!(pair.meet(&event), (expected, expected), "{hook:?}: {name}");
        }
    });
}
