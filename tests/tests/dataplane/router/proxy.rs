//! Proxy ARP (RFC 1027) and proxy neighbour discovery (RFC 4861, 7.2.8): off unless a port says so.

use ebpf_abi::router::{ROUTE_VIA, ROUTER_PORT_PROXY_ARP, ROUTER_PORT_PROXY_ND};
use integration_tests::{
    packet::{BROADCAST, Packet, advertisement, arp_reply, arp_request, ether, ipv6, solicitation},
    table::{consumed, row, sent},
};

use super::*;

/// Turns both on at port 0.
fn proxy(cube: &Cube) {
    let mut port: RouterPort = cube.read("router_ports", 0u32).expect("a port");
    port.flags |= ROUTER_PORT_PROXY_ARP | ROUTER_PORT_PROXY_ND;
    cube.write("router_ports", 0u32, port);
}

#[test]
fn arp() {
    let host = (A, v4(0, 2));
    let ask = |target| ether(A, BROADCAST) / arp_request(host, target);
    let answer = |target| ether(mac(0), A) / arp_reply((mac(0), target), host);
    let probe = ether(A, BROADCAST) / arp_request((A, Ipv4Addr::UNSPECIFIED), v4(1, 2));
    router()
        .rows([
            row("off").send(0, &ask(v4(1, 2)), consumed()),
            row("a host behind another port").with(proxy).send(
                0,
                &ask(v4(1, 2)),
                sent(0, &answer(v4(1, 2))),
            ),
            row("one behind a next hop")
                .with(proxy)
                .send(0, &ask(FAR), sent(0, &answer(FAR))),
            row("only on the port that says so").with(proxy).send(
                1,
                &(ether(B, BROADCAST) / arp_request((B, v4(1, 2)), v4(0, 2))),
                consumed(),
            ),
            row("a host on the link itself answers for itself")
                .with(proxy)
                .send(0, &ask(v4(0, 9)), consumed()),
            row("one behind a next hop on the link, too")
                .with(proxy)
                .with(|cube| {
                    route_v4(
                        cube,
                        Ipv4Addr::new(192, 0, 2, 0),
                        24,
                        route(ROUTE_VIA, 0, v4(0, 254).into()),
                    )
                })
                .send(0, &ask(Ipv4Addr::new(192, 0, 2, 1)), consumed()),
            row("no route, no answer")
                .with(proxy)
                .send(0, &ask(NOWHERE), consumed()),
            row("nor for another port's own or broadcast address")
                .with(proxy)
                .send(0, &ask(v4(1, 1)), consumed())
                .send(0, &ask(v4(1, 255)), consumed()),
            row("a probe is about the link")
                .with(proxy)
                .send(0, &probe, consumed()),
        ])
        .run();
}

#[test]
fn neighbor_discovery() {
    let group = |target: Ipv6Addr| {
        let [.., a, b, c] = target.octets();
        let low = u16::from_be_bytes([b, c]);
        (
            [0x33, 0x33, 0xff, a, b, c],
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low),
        )
    };
    let ask = |source, target| -> Packet {
        let (station, group) = group(target);
        ether(A, station) / ipv6(source, group).hop_limit(255) / solicitation(target)
    };
    // From a router, solicited, and overriding nothing.
    let answer = |target| {
        ether(mac(0), A)
            / ipv6(link_local(0), v6(0, 2)).hop_limit(255)
            / advertisement(target, 0b110).target_address(mac(0))
    };
    router()
        .rows([
            row("off").send(0, &ask(v6(0, 2), v6(1, 2)), consumed()),
            row("a host behind another port").with(proxy).send(
                0,
                &ask(v6(0, 2), v6(1, 2)),
                sent(0, &answer(v6(1, 2))),
            ),
            row("one behind a next hop").with(proxy).send(
                0,
                &ask(v6(0, 2), FAR_V6),
                sent(0, &answer(FAR_V6)),
            ),
            row("a host on the link itself answers for itself")
                .with(proxy)
                .send(0, &ask(v6(0, 2), v6(0, 9)), consumed()),
            row("no route, no answer")
                .with(proxy)
                .send(0, &ask(v6(0, 2), NOWHERE_V6), consumed()),
            row("another port's own addresses")
                .with(proxy)
                .send(0, &ask(v6(0, 2), v6(1, 1)), consumed())
                .send(0, &ask(v6(0, 2), link_local(1)), consumed()),
            row("a check for duplicates is about the link")
                .with(proxy)
                .send(0, &ask(Ipv6Addr::UNSPECIFIED, v6(1, 2)), consumed()),
        ])
        .run();
}
