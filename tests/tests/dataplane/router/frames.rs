//! Frames and headers the router refuses.

use ebpf_abi::counters::DropReason::{
    self, Malformed, MartianSource, NotForUs, NotForwarded, Unsupported,
};
use integration_tests::{
    packet::{BROADCAST, Ipv4, Ipv6, Packet, ether, icmpv6, ipv4, ipv6, payload, qinq, udp, vlan},
    table::{CUT_OFF, Row, consumed, dropped, row, sent},
    test_run::Hook,
};

use super::*;

fn refused(name: &'static str, packet: Packet, reason: DropReason) -> Row {
    row(name)
        .with(|cube| {
            // Everything is known, so that only the packet can be to blame.
            known(cube, 1, v4(1, 2), B);
            known(cube, 1, v6(1, 2), B);
            known(cube, 0, v4(0, 254), C);
            known(cube, 0, v6(0, 254), C);
            route_v4(
                cube,
                Ipv4Addr::UNSPECIFIED,
                0,
                route(ROUTE_VIA, 0, v4(0, 254).into()),
            );
            route_v6(
                cube,
                Ipv6Addr::UNSPECIFIED,
                0,
                route(ROUTE_VIA, 0, v6(0, 254).into()),
            );
        })
        .send(0, &packet, dropped(reason))
}

fn packet_v4(ip: Ipv4) -> Packet {
    ether(A, mac(0)) / ip / udp(1, 2) / payload(26)
}

fn packet_v6(ip: Ipv6) -> Packet {
    ether(A, mac(0)) / ip / udp(1, 2) / payload(26)
}

#[test]
fn frames() {
    let ip = || ipv4(v4(0, 2), v4(1, 2));
    let ip_v6 = || ipv6(v6(0, 2), v6(1, 2));
    router()
        .rows([
            refused(
                "for another station",
                ether(A, B) / ip() / udp(1, 2),
                NotForUs,
            ),
            refused(
                "for our station on another port",
                ether(A, mac(1)) / ip() / udp(1, 2),
                NotForUs,
            ),
            refused(
                "IPv6 for another station",
                ether(A, B) / ip_v6() / udp(1, 2),
                NotForUs,
            ),
            refused(
                "from a group",
                ether([3, 0, 0, 0, 0, 1], mac(0)) / ip() / udp(1, 2),
                Malformed,
            ),
            refused(
                "broadcast frame, unicast packet",
                ether(A, BROADCAST) / ip() / udp(1, 2),
                NotForwarded,
            ),
            refused(
                "broadcast frame, our own address",
                ether(A, BROADCAST) / ipv4(v4(0, 2), v4(0, 1)) / udp(1, 2),
                NotForwarded,
            ),
            refused(
                "group frame, unicast IPv6 packet",
                ether(A, [0x33, 0x33, 0, 0, 0, 1]) / ip_v6() / udp(1, 2),
                NotForwarded,
            ),
            refused(
                "with a VLAN tag",
                ether(A, mac(0)) / vlan(5) / ip() / udp(1, 2),
                Unsupported,
            ),
            refused(
                "with a service tag",
                ether(A, mac(0)) / qinq(5) / ip_v6() / udp(1, 2),
                Unsupported,
            ),
            refused(
                "another protocol",
                ether(A, mac(0)) / payload(46),
                Unsupported,
            ),
        ])
        .run();
}

#[test]
fn headers_v4() {
    let ip = || ipv4(v4(0, 2), v4(1, 2));
    let from = |source: [u8; 4]| packet_v4(ipv4(source.into(), v4(1, 2)));
    let to = |destination: [u8; 4]| packet_v4(ipv4(v4(0, 2), destination.into()));
    let right = packet_v4(ip()).bytes();
    let sum = u16::from_be_bytes([right[24], right[25]]);
    router()
        .rows([
            refused(
                "a wrong checksum",
                packet_v4(ip().checksum(sum ^ 1)),
                Malformed,
            ),
            refused(
                "a wrong checksum of options",
                packet_v4(ip().options(&[7, 4, 4, 0]).checksum(sum)),
                Malformed,
            ),
            refused("no checksum", packet_v4(ip().checksum(0)), Malformed),
            refused("version 6", packet_v4(ip().version(6)), Malformed),
            refused("version 0", packet_v4(ip().version(0)), Malformed),
            refused("a header of four words", packet_v4(ip().ihl(4)), Malformed),
            refused("no header", packet_v4(ip().ihl(0)), Malformed),
            refused(
                "options behind the end",
                (ether(A, mac(0)) / ip().ihl(15).total_length(60) / payload(0)).padded(60),
                Malformed,
            ),
            refused(
                "shorter than its header",
                packet_v4(ip().total_length(19)),
                Malformed,
            ),
            refused(
                "longer than its frame",
                packet_v4(ip().total_length(55)),
                Malformed,
            ),
            refused("cut off", packet_v4(ip()).truncated(14 + 19), Malformed)
                .only(Hook::Xdp, CUT_OFF),
            refused("from network 0", from([0, 0, 0, 0]), MartianSource),
            refused("from network 0, host", from([0, 1, 2, 3]), MartianSource),
            refused("from loopback", from([127, 0, 0, 1]), MartianSource),
            refused("from a group", from([224, 0, 0, 1]), MartianSource),
            refused(
                "from the reserved networks",
                from([240, 0, 0, 1]),
                MartianSource,
            ),
            refused("from broadcast", from([255, 255, 255, 255]), MartianSource),
            refused("to network 0", to([0, 0, 0, 0]), NotForwarded),
            refused("to loopback", to([127, 0, 0, 1]), NotForwarded),
            refused("to a group", to([224, 0, 0, 5]), NotForwarded),
            refused("to broadcast", to([255, 255, 255, 255]), NotForwarded),
            refused(
                "to a network's broadcast address",
                to([10, 0, 1, 255]),
                NotForwarded,
            ),
            refused(
                "to its own network's broadcast address",
                to([10, 0, 0, 255]),
                NotForwarded,
            ),
            row("the same packet with nothing wrong")
                .with(|cube| known(cube, 1, v4(1, 2), B))
                .send(
                    0,
                    &packet_v4(ip()),
                    sent(
                        1,
                        &(ether(mac(1), B) / ip().ttl(63) / udp(1, 2) / payload(26)),
                    ),
                ),
        ])
        .run();
}

#[test]
fn headers_v6() {
    let ip = || ipv6(v6(0, 2), v6(1, 2));
    let from = |source| packet_v6(ipv6(source, v6(1, 2)));
    let to = |destination| packet_v6(ipv6(v6(0, 2), destination));
    let host = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xaa);
    let solicit_routers = ether(A, [0x33, 0x33, 0, 0, 0, 2])
        / ipv6(host, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2)).hop_limit(255)
        / icmpv6(133, 0, 0);
    router()
        .rows([
            refused("version 4", packet_v6(ip().version(4)), Malformed),
            refused(
                "longer than its frame",
                packet_v6(ip().payload_length(35)),
                Malformed,
            ),
            refused("cut off", packet_v6(ip()).truncated(14 + 39), Malformed)
                .only(Hook::Xdp, CUT_OFF),
            refused(
                "ICMPv6 that is not there",
                ether(A, mac(0)) / ip().next_header(58) / payload(0),
                Malformed,
            ),
            refused(
                "from a group",
                from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
                MartianSource,
            ),
            refused("from loopback", from(Ipv6Addr::LOCALHOST), MartianSource),
            refused("from nowhere", from(Ipv6Addr::UNSPECIFIED), MartianSource),
            refused(
                "from nowhere to us",
                packet_v6(ipv6(Ipv6Addr::UNSPECIFIED, v6(0, 1))),
                MartianSource,
            ),
            refused(
                "from a link-local address to elsewhere",
                from(host),
                NotForwarded,
            ),
            refused("to a link-local address", to(host), NotForwarded),
            refused(
                "to our link-local address on another port",
                to(link_local(1)),
                NotForwarded,
            ),
            refused("to loopback", to(Ipv6Addr::LOCALHOST), NotForwarded),
            refused("to nowhere", to(Ipv6Addr::UNSPECIFIED), NotForwarded),
            refused(
                "to a group",
                to(Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1)),
                NotForwarded,
            ),
            refused(
                "to a group, as it should be sent",
                ether(A, [0x33, 0x33, 0, 0, 0, 1])
                    / ipv6(v6(0, 2), Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1))
                    / udp(1, 2),
                NotForwarded,
            ),
            row("router solicitations are not answered unless the port says so").send(
                0,
                &solicit_routers,
                consumed(),
            ),
            row("the same packet with nothing wrong")
                .with(|cube| known(cube, 1, v6(1, 2), B))
                .send(
                    0,
                    &packet_v6(ip()),
                    sent(
                        1,
                        &(ether(mac(1), B) / ip().hop_limit(63) / udp(1, 2) / payload(26)),
                    ),
                ),
        ])
        .run();
}
