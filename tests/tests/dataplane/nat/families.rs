//! NAT64 and NAT46: packets that become packets of the other family (RFC 7915), both ways.

use ebpf_abi::{
    chain::{CubeChain, MIN_PORTS},
    counters::DropReason,
    nat::{
        FEATURE_FAMILIES, FEATURE_PAIRS, LIST_NAT64, PrefixKey, PrefixRule, SIDE_IPV4, SIDE_IPV6,
    },
};
use integration_tests::{
    packet::{
        ETHERNET_LENGTH, Packet, echo, echo_reply, echo_reply_v6, echo_v6, icmp, ipv4, ipv6,
        payload, raw, tcp, udp,
    },
    table::{Row, row},
    test_run::Gso,
};

use super::*;

/// An IPv6 host, and the same host in a network that nobody translates.
pub(super) const HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const STRANGER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 2);
/// What IPv6 hosts call [`REMOTE`].
pub(super) const FAR: Ipv6Addr = embedded(REMOTE);
/// A server with an address of each family.
pub(super) const PAIR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x80);
pub(super) const PAIR_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

pub(super) const fn embedded(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    let (high, low) = ((a as u16) << 8 | b as u16, (c as u16) << 8 | d as u16);
    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)
}

fn pair(cube: &Cube, side: u8, from: impl Into<IpAddr>, to: impl Into<IpAddr>) {
    let key = PrefixKey {
        length: 32 + 128,
        side: side.into(),
        address: words(from),
    };
    let rule = PrefixRule {
        address: words(to),
        ..PrefixRule::default()
    };
    cube.write("prefixes", key, rule);
}

fn rules(cube: &Cube) {
    pool(cube, FIRST_POOL, POOL);
    source(
        cube,
        LIST_NAT64,
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0),
        48,
        FIRST_POOL,
    );
    cube.write("externals", words(POOL), 1u32);
    pair(cube, SIDE_IPV6, PAIR_V6, PAIR_V4);
    pair(cube, SIDE_IPV4, PAIR_V4, PAIR_V6);
}

pub(super) fn families() -> Table {
    let settings = Settings {
        features: FEATURE_FAMILIES | FEATURE_PAIRS | FEATURE_OPEN,
        prefix_length: 96,
        prefix: words(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)),
        ..SETTINGS
    };
    table("nat", rules)
        .counts_at(COUNTER)
        .global("SETTINGS", settings)
        .global("PART", CubeChain::for_ports(MIN_PORTS).part(1))
        .global("ATTACHMENT", attachment(Direction::Egress))
}

/// From the IPv6 host, and what it is outside.
fn v6() -> integration_tests::packet::Ipv6 {
    ipv6(HOST, FAR).class(0xb8).hop_limit(9)
}
fn v4() -> integration_tests::packet::Ipv4 {
    ipv4(POOL, REMOTE).tos(0xb8).ttl(9)
}
/// The answer, outside and at the host.
fn back_v4() -> integration_tests::packet::Ipv4 {
    ipv4(REMOTE, POOL).tos(0x28).ttl(7)
}
fn back_v6() -> integration_tests::packet::Ipv6 {
    ipv6(FAR, HOST).class(0x28).hop_limit(7)
}

/// What is behind the IP header of a packet.
fn behind(packet: &Packet, header: usize) -> Vec<u8> {
    packet.bytes()[ETHERNET_LENGTH + header..].to_vec()
}

fn queries() -> Vec<Row> {
    let question = |ip| frame() / ip / udp(4000, 53) / payload(21);
    let answer = |ip| frame() / ip / udp(53, 4000) / payload(33);
    vec![
        row("UDP, both ways, wherever it is met")
            .comes_in(
                &(frame() / v6() / udp(4000, 53) / payload(21)),
                &(frame() / v4() / udp(4000, 53) / payload(21)).any_identification(),
            )
            .comes_in(&answer_v4(33), &answer_v6(33))
            .out(
                &(frame() / v6() / udp(4000, 53) / payload(21)),
                &(frame() / v4() / udp(4000, 53) / payload(21)).any_identification(),
            )
            .then(|cube| {
                let [(_, session)] = sessions(cube).try_into().expect("one session");
                assert_eq!(session.packets, [1, 2]);
                assert_eq!(session.rule, ebpf_abi::nat::RULE_NAT64);
                assert_eq!(session.keys[0].destination, words(POOL));
                assert_eq!(session.keys[1].destination, words(FAR));
            }),
        row("echo, both ways")
            .comes_in(
                &(frame() / v6() / echo_v6(7, 1) / payload(31)),
                &(frame() / v4() / echo(7, 1) / payload(31)).any_identification(),
            )
            .comes_in(
                &(frame() / back_v4() / echo_reply(7, 1) / payload(31)),
                &(frame() / back_v6() / echo_reply_v6(7, 1) / payload(31)),
            )
            .then(|cube| assert_eq!(used(cube, FIRST_POOL, 2), 1)),
        row("an identifier that is taken becomes another one")
            .comes_in(
                &(frame() / v6() / echo_v6(7, 1)),
                &(frame() / v4() / echo(7, 1)).any_identification(),
            )
            .then(|cube| {
                let other = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 3);
                let packet = frame() / ipv6(other, FAR) / echo_v6(7, 1);
                let run = cube.run(PORT, &packet.bytes(), Gso::default());
                let found = sessions(cube).into_iter().map(|(_, session)| session);
                let session = found
                    .max_by_key(|session| session.keys[1].source)
                    .expect("two");
                let id = session.keys[0].destination_port.get();
                assert_ne!(id, 7);
                let expected = frame() / ipv4(POOL, REMOTE) / echo(id, 1);
                let difference = expected.any_identification().compare(&run.packet);
                assert_eq!(difference, None);
            }),
        row("a session ends like all others")
            .comes_in(
                &question(v6()),
                &(frame() / v4() / udp(4000, 53) / payload(21)).any_identification(),
            )
            .with(|cube| age(cube, 301 * SECOND))
            .in_dropped(&answer(back_v4()), DropReason::NoSession)
            .then(|cube| assert_eq!(used(cube, FIRST_POOL, 1), 0)),
    ]
}

fn answer_v4(length: usize) -> Packet {
    frame() / back_v4() / udp(53, 4000) / payload(length)
}
fn answer_v6(length: usize) -> Packet {
    frame() / back_v6() / udp(53, 4000) / payload(length)
}

fn connections() -> Vec<Row> {
    let segment_v6 = |flags, length| frame() / v6() / tcp(4000, 443).flags(flags) / payload(length);
    let segment_v4 = |flags, length| frame() / v4() / tcp(4000, 443).flags(flags) / payload(length);
    let whole =
        |length| frame() / v4().id(0).dont_fragment() / tcp(4000, 443).flags(ACK) / payload(length);
    let open = |row: Row| {
        row.comes_in(
            &segment_v6(SYN, 0),
            &segment_v4(SYN, 0).any_identification(),
        )
        .comes_in(
            &(frame() / back_v4() / tcp(443, 4000).flags(SYN_ACK)),
            &(frame() / back_v6() / tcp(443, 4000).flags(SYN_ACK)),
        )
    };
    vec![
        open(row(
            "TCP: packets that IPv6 would carry everywhere may be fragmented",
        ))
        .comes_in(
            &segment_v6(ACK, 1220),
            &segment_v4(ACK, 1220).any_identification(),
        )
        .comes_in(&segment_v6(ACK, 1221), &whole(1221))
        .comes_in(&segment_v6(ACK, 1440), &whole(1440)),
        open(row("without a SYN there is no session"))
            .with(|cube| age(cube, 7441 * SECOND))
            .in_dropped(&segment_v6(ACK, 10), DropReason::NoSession),
        open(row("segments are translated as one buffer")).send_segments(
            PORT,
            &segment_v6(ACK, 1350),
            Gso {
                segments: 3,
                size: 450,
            },
            passed(COUNTER, PORT, &whole(1350)),
        ),
        open(row("segments come in as one buffer, too")).send_segments(
            PORT,
            &(frame() / back_v4() / tcp(443, 4000).flags(ACK) / payload(1350)),
            Gso {
                segments: 3,
                size: 450,
            },
            passed(
                COUNTER,
                PORT,
                &(frame() / back_v6() / tcp(443, 4000).flags(ACK) / payload(1350)),
            ),
        ),
        row("from outside to a port that is used, whoever sends")
            .comes_in(
                &(frame() / v6() / udp(4000, 53)),
                &(frame() / v4() / udp(4000, 53)).any_identification(),
            )
            .comes_in(
                &(frame() / ipv4(OTHER_REMOTE, POOL) / udp(9, 4000)),
                &(frame() / ipv6(embedded(OTHER_REMOTE), HOST) / udp(9, 4000)),
            )
            .in_dropped(
                &(frame() / ipv4(OTHER_REMOTE, POOL) / udp(9, 4001)),
                DropReason::NoSession,
            ),
    ]
}

const OTHER_REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);

/// Options, extension headers and fragments.
fn headers() -> Vec<Row> {
    let question = || frame() / v6() / udp(4000, 53) / payload(40);
    let open = |row: Row| {
        row.comes_in(
            &question(),
            &(frame() / v4() / udp(4000, 53) / payload(40)).any_identification(),
        )
    };
    let extended = {
        let mut bytes = vec![17, 1];
        bytes.extend([1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(behind(&question(), 40));
        frame() / v6().next_header(60) / raw(&bytes)
    };
    let fragment_header = |offset_flags: u16, id: u32| {
        let mut bytes = vec![17, 0];
        bytes.extend(offset_flags.to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes
    };
    let (in_v4, in_v6) = (behind(&answer_v4(100), 20), behind(&answer_v6(100), 40));
    let (out_v6, out_v4) = (
        behind(&question(), 40),
        behind(&(frame() / v4() / udp(4000, 53) / payload(40)), 20),
    );
    let v6_fragment = |bytes: &[u8], header: Vec<u8>, ip: integration_tests::packet::Ipv6| {
        frame() / ip.next_header(44) / raw(&[&header, bytes].concat())
    };
    let without_sum = {
        let mut bytes = behind(&answer_v4(33), 20);
        bytes[6..8].fill(0);
        frame() / back_v4().protocol(17) / raw(&bytes)
    };
    let broken = {
        let mut bytes = behind(&answer_v4(33), 20);
        bytes[6..8].fill(0);
        frame() / back_v4().protocol(17).fragment(0, true) / raw(&bytes)
    };
    vec![
        open(row("IPv4 options are left out")).comes_in(
            &(frame() / back_v4().options(&[1, 1, 1, 0]) / udp(53, 4000) / payload(33)),
            &answer_v6(33),
        ),
        row("IPv6 extension headers are left out").comes_in(
            &extended,
            &(frame() / v4() / udp(4000, 53) / payload(40)).any_identification(),
        ),
        open(row("IPv4 fragments have a fragment header"))
            .comes_in(
                &(frame()
                    / back_v4().id(0xabcd).protocol(17).fragment(0, true)
                    / raw(&in_v4[..48])),
                &v6_fragment(&in_v6[..48], fragment_header(1, 0xabcd), back_v6()),
            )
            .comes_in(
                &(frame()
                    / back_v4().id(0xabcd).protocol(17).fragment(48, false)
                    / raw(&in_v4[48..])),
                &v6_fragment(&in_v6[48..], fragment_header(48, 0xabcd), back_v6()),
            ),
        row("IPv6 fragments have their fields in the IPv4 header")
            .comes_in(
                &v6_fragment(&out_v6[..16], fragment_header(1, 0x1234_5678), v6()),
                &(frame() / v4().id(0x5678).protocol(17).fragment(0, true) / raw(&out_v4[..16])),
            )
            .comes_in(
                &v6_fragment(&out_v6[16..], fragment_header(16, 0x1234_5678), v6()),
                &(frame() / v4().id(0x5678).protocol(17).fragment(16, false) / raw(&out_v4[16..])),
            ),
        open(row("UDP without a checksum gets one")).comes_in(&without_sum, &answer_v6(33)),
        open(row("but not if it is in fragments")).in_dropped(&broken, DropReason::Unsupported),
        row("ICMP in fragments is not translated")
            .comes_in(
                &(frame() / v6() / echo_v6(7, 1) / payload(16)),
                &(frame() / v4() / echo(7, 1) / payload(16)).any_identification(),
            )
            .in_dropped(
                &(frame() / back_v4().fragment(0, true) / echo(7, 1) / payload(16)),
                DropReason::Unsupported,
            ),
    ]
}

fn refused() -> Vec<Row> {
    let private = embedded(Ipv4Addr::new(192, 168, 1, 1));
    let to_private = frame() / ipv6(HOST, private) / udp(4000, 53);
    let from_stranger = frame() / ipv6(STRANGER, FAR) / udp(4000, 53);
    let native = frame() / ipv6(HOST, REMOTE_V6) / udp(4000, 53);
    let own = frame() / ipv4(INSIDE, REMOTE) / udp(4000, 53);
    vec![
        row("the well-known prefix stands for no private address")
            .in_dropped(&to_private, DropReason::NotForwarded),
        row("who may not is not translated").comes_in(&from_stranger, &from_stranger),
        row("what is for IPv6 hosts stays")
            .comes_in(&native, &native)
            .out(&native, &native),
        row("what is from and for IPv4 hosts stays")
            .comes_in(&own, &own)
            .out(&own, &own),
        row("what has no ports is not translated").in_dropped(
            &(frame() / ipv6(HOST, FAR).next_header(47) / payload(20)),
            DropReason::Unsupported,
        ),
        row("requests that only one family has are not, either").in_dropped(
            &(frame() / ipv6(HOST, FAR) / integration_tests::packet::icmpv6(139, 0, 0)),
            DropReason::Unsupported,
        ),
        row("nobody asks the address of the NAT itself").in_dropped(
            &(frame() / ipv4(REMOTE, POOL) / icmp(8, 0, 0)),
            DropReason::NoSession,
        ),
    ]
}

/// One host of each family that are the same one.
fn pairs() -> Vec<Row> {
    vec![
        row("from an IPv4 host to an IPv6 server")
            .comes_in(
                &(frame() / ipv4(REMOTE, PAIR_V4) / tcp(4000, 80).flags(SYN)),
                &(frame() / ipv6(FAR, PAIR_V6) / tcp(4000, 80).flags(SYN)),
            )
            .comes_in(
                &(frame() / ipv6(PAIR_V6, FAR) / tcp(80, 4000).flags(SYN_ACK)),
                &(frame() / ipv4(PAIR_V4, REMOTE) / tcp(80, 4000).flags(SYN_ACK))
                    .any_identification(),
            )
            .then(|cube| assert_eq!(sessions(cube).len(), 0)),
        row("ping")
            .comes_in(
                &(frame() / ipv4(REMOTE, PAIR_V4) / echo(7, 1) / payload(9)),
                &(frame() / ipv6(FAR, PAIR_V6) / echo_v6(7, 1) / payload(9)),
            )
            .comes_in(
                &(frame() / ipv6(PAIR_V6, FAR) / echo_reply_v6(7, 1) / payload(9)),
                &(frame() / ipv4(PAIR_V4, REMOTE) / echo_reply(7, 1) / payload(9))
                    .any_identification(),
            ),
        row("protocols without ports, too").comes_in(
            &(frame() / ipv4(REMOTE, PAIR_V4).protocol(47) / payload(20)),
            &(frame() / ipv6(FAR, PAIR_V6).next_header(47) / payload(20)),
        ),
    ]
}

#[test]
fn packets() {
    families()
        .rows(queries())
        .rows(connections())
        .rows(headers())
        .rows(refused())
        .rows(pairs())
        .run();
}
