//! Prefixes that are translated one to one.

use ebpf_abi::nat::{PrefixKey, PrefixRule, SIDE_INSIDE, SIDE_OUTSIDE};
use integration_tests::{
    packet::{Packet, echo_v6, icmp, ipv4, ipv6, payload, tcp, udp},
    table::{Row, row},
};

use super::*;

fn addresses() -> [Ipv4Addr; 2] {
    [Ipv4Addr::new(172, 16, 5, 77), Ipv4Addr::new(192, 0, 2, 77)]
}

fn prefix(
    cube: &Cube,
    side: u8,
    (from, to, length): (IpAddr, IpAddr, u32),
    adjustment: Option<u16>,
) {
    let bits = length + if from.is_ipv4() { 96 } else { 0 };
    let key = PrefixKey {
        length: 32 + bits,
        side: side.into(),
        address: words(from),
    };
    let rule = PrefixRule {
        address: words(to),
        host: V6::new((u128::MAX >> bits).to_be_bytes()),
        adjustment: adjustment.map_or(0, |adjustment| Be16::new(adjustment).word()),
        neutral: adjustment.is_some().into(),
        word: if length <= 48 { 3 } else { 255 },
    };
    cube.write("prefixes", key, rule);
}

/// The networks of RFC 6296, 3.1 among them.
fn networks(cube: &Cube) {
    let v4: [IpAddr; 2] = ["172.16.5.0", "192.0.2.0"].map(|text| text.parse().expect("an address"));
    let v6: [IpAddr; 2] =
        ["fd01:203:405::", "2001:db8:1::"].map(|text| text.parse().expect("an address"));
    prefix(cube, SIDE_INSIDE, (v4[0], v4[1], 24), None);
    prefix(cube, SIDE_OUTSIDE, (v4[1], v4[0], 24), None);
    prefix(cube, SIDE_INSIDE, (v6[0], v6[1], 48), Some(0xd54f));
    prefix(cube, SIDE_OUTSIDE, (v6[1], v6[0], 48), Some(!0xd54f));
}

fn rows() -> Vec<Row> {
    let [inside, outside] = addresses();
    let out = |from| frame() / ipv4(from, REMOTE) / tcp(4000, 80).flags(ACK) / payload(5);
    let back = |to| frame() / ipv4(REMOTE, to) / udp(4000, 80) / payload(5);
    let unknown = |from| frame() / ipv4(from, REMOTE).protocol(51) / payload(30);
    let error = |to, about: &Packet| {
        frame() / ipv4(Ipv4Addr::new(192, 0, 3, 1), to) / icmp(11, 0, 0) / about.quotation(100)
    };
    let later = |from| frame() / ipv4(from, REMOTE).fragment(80, false).protocol(17) / payload(30);
    let first = |from| frame() / ipv4(from, REMOTE).fragment(0, true) / udp(1, 2) / payload(72);
    let [inside_v6, outside_v6]: [Ipv6Addr; 2] = ["fd01:203:405:1::1234", "2001:db8:1:d550::1234"]
        .map(|text| text.parse().expect("an address"));
    let out_v6 = |from| frame() / ipv6(from, REMOTE_V6) / tcp(4000, 80) / payload(5);
    let ping_v6 = |to| frame() / ipv6(REMOTE_V6, to) / echo_v6(1, 2) / payload(5);
    vec![
        row("both directions, without sessions")
            .out(&out(inside), &out(outside))
            .comes_in(&back(outside), &back(inside))
            .then(|cube| assert!(sessions(cube).is_empty())),
        row("all protocols").out(&unknown(inside), &unknown(outside)),
        row("fragments")
            .out(&first(inside), &first(outside))
            .out(&later(inside), &later(outside)),
        row("ICMP errors").comes_in(&error(outside, &out(outside)), &error(inside, &out(inside))),
        row("the example of RFC 6296")
            .out(&out_v6(inside_v6), &out_v6(outside_v6))
            .comes_in(&ping_v6(outside_v6), &ping_v6(inside_v6)),
    ]
}

#[test]
fn packets() {
    table("nat", networks)
        .counts_at(COUNTER)
        .global("SETTINGS", SETTINGS)
        .global("ATTACHMENT", attachment(Direction::Egress))
        .rows(rows())
        .run();
}
