//! Neighbour discovery: answering, learning; asking is where packets are forwarded.

use ebpf_abi::{counters::DropReason, port::PORT_VIA_TC};
use integration_tests::{
    packet::{Icmp, Packet, advertisement, ether, icmpv6, ipv6, payload, solicitation},
    table::{Outcome, consumed, dropped, handed_over, row, sent},
};

use super::*;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const HOST: Ipv6Addr = v6(0, 2);
const HOST_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xaa);

/// Flags of an answer to one, and to all (RFC 4861, 7.2.4).
const ROUTER_SOLICITED_OVERRIDE: u32 = 0b111;
const ROUTER_OVERRIDE: u32 = 0b101;

/// The group of an address, and its link-layer address (RFC 4291, 2.7.1; RFC 2464, 7).
fn solicited_node(target: Ipv6Addr) -> (Ipv6Addr, [u8; 6]) {
    let [.., a, b, c] = target.octets();
    let (high, low) = (0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    (
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, high, low),
        [0x33, 0x33, 0xff, a, b, c],
    )
}

/// A question from `source`, sent to everyone who may have the address.
fn ask(source: Ipv6Addr, target: Ipv6Addr, message: Icmp) -> Packet {
    let (group, station) = solicited_node(target);
    ether(A, station) / ipv6(source, group).hop_limit(255) / message
}

/// The answer of port 0 about its address `target`.
fn answer(target: Ipv6Addr, destination: Ipv6Addr, station: [u8; 6], flags: u32) -> Packet {
    ether(mac(0), station)
        / ipv6(target, destination).hop_limit(255)
        / advertisement(target, flags).target_address(mac(0))
}

fn to_host(target: Ipv6Addr, host: Ipv6Addr) -> Outcome {
    sent(0, &answer(target, host, A, ROUTER_SOLICITED_OVERRIDE))
}

#[test]
fn solicitations() {
    let ours = v6(0, 1);
    let usual = ask(HOST, ours, solicitation(ours).source_address(A));
    let to_all = |target| {
        sent(
            0,
            &answer(target, ALL_NODES, ALL_NODES_MAC, ROUTER_OVERRIDE),
        )
    };
    let nonce = solicitation(ours)
        .source_address(A)
        .option(14, &[1, 2, 3, 4, 5, 6]);
    let unicast = ether(A, mac(0)) / ipv6(HOST, ours).hop_limit(255) / solicitation(ours);
    let for_link_local = link_local(0);
    let from_link_local = ask(
        HOST_LINK_LOCAL,
        for_link_local,
        solicitation(for_link_local).source_address(A),
    );
    let elsewhere = |target| ask(HOST, target, solicitation(target).source_address(A));
    router()
        .rows([
            row("for the port's address")
                .send(0, &usual, to_host(ours, HOST))
                .then(|cube| assert_eq!(station(cube, 0, HOST), Some(A))),
            row("for the link-local address")
                .send(
                    0,
                    &from_link_local,
                    to_host(for_link_local, HOST_LINK_LOCAL),
                )
                .then(|cube| assert_eq!(station(cube, 0, HOST_LINK_LOCAL), Some(A))),
            row("link-local neighbours belong to a port")
                .send(
                    0,
                    &from_link_local,
                    to_host(for_link_local, HOST_LINK_LOCAL),
                )
                .then(|cube| assert_eq!(found(cube, 1, HOST_LINK_LOCAL), None)),
            row("without the source's address: the answer has one all the same")
                .send(0, &ask(HOST, ours, solicitation(ours)), to_host(ours, HOST))
                .then(|cube| assert_eq!(station(cube, 0, HOST), Some(A))),
            row("the option counts, not the frame")
                .send(
                    0,
                    &ask(HOST, ours, solicitation(ours).source_address(C)),
                    to_host(ours, HOST),
                )
                .then(|cube| assert_eq!(station(cube, 0, HOST), Some(C))),
            row("further options are not echoed").send(
                0,
                &ask(HOST, ours, nonce),
                to_host(ours, HOST),
            ),
            row("to us alone").send(0, &unicast, to_host(ours, HOST)),
            row("a check for duplicates is answered to all")
                .send(
                    0,
                    &ask(Ipv6Addr::UNSPECIFIED, ours, solicitation(ours)),
                    to_all(ours),
                )
                .send(
                    0,
                    &ask(
                        Ipv6Addr::UNSPECIFIED,
                        for_link_local,
                        solicitation(for_link_local),
                    ),
                    to_all(for_link_local),
                )
                .then(|cube| assert_eq!(found(cube, 0, Ipv6Addr::UNSPECIFIED), None)),
            row("from another network: answered, not learned")
                .send(
                    0,
                    &ask(v6(1, 2), ours, solicitation(ours).source_address(A)),
                    to_host(ours, v6(1, 2)),
                )
                .then(|cube| {
                    assert_eq!(
                        (found(cube, 0, v6(1, 2)), found(cube, 1, v6(1, 2))),
                        (None, None)
                    )
                }),
            row("for the address of another port")
                .send(0, &elsewhere(v6(1, 1)), consumed())
                .send(0, &elsewhere(link_local(1)), consumed()),
            row("for a host on the same network")
                .send(0, &elsewhere(v6(0, 9)), consumed())
                .then(|cube| assert_eq!(station(cube, 0, HOST), Some(A))),
            row("on a port that only TC sends on")
                .with(|cube| cube.change_port(0, |port| port.flags |= PORT_VIA_TC))
                .send_differs(0, &usual, to_host(ours, HOST), handed_over()),
        ])
        .run();
}

#[test]
fn invalid_messages() {
    let ours = v6(0, 1);
    let (group, to_group) = solicited_node(ours);
    let crossed = ether(A, to_group)
        / ipv6(HOST, group).hop_limit(254)
        / solicitation(ours).source_address(A);
    let advert_crossed = ether(A, mac(0))
        / ipv6(HOST, ours).hop_limit(64)
        / advertisement(HOST, 3).target_address(A);
    let group_target = ask(HOST, ours, solicitation(ALL_NODES));
    let short =
        ether(A, to_group) / ipv6(HOST, group).hop_limit(255) / icmpv6(135, 0, 0) / payload(15);
    let lies = ether(A, to_group)
        / ipv6(HOST, group).hop_limit(255).payload_length(23)
        / solicitation(ours);
    let invalid = dropped(DropReason::Malformed);
    let teaches_nothing = |cube: &Cube| assert_eq!(found(cube, 0, HOST), None);
    router()
        .rows([
            row("a solicitation that crossed a router")
                .send(0, &crossed, invalid.clone())
                .then(teaches_nothing),
            row("an advertisement that crossed a router")
                .send(0, &advert_crossed, invalid.clone())
                .then(teaches_nothing),
            row("a code")
                .send(
                    0,
                    &ask(HOST, ours, solicitation(ours).code(1)),
                    invalid.clone(),
                )
                .then(teaches_nothing),
            row("about a group")
                .send(0, &group_target, invalid.clone())
                .then(teaches_nothing),
            row("too short")
                .send(0, &short, invalid.clone())
                .then(teaches_nothing),
            row("longer than its packet")
                .send(0, &lies, invalid.clone())
                .then(teaches_nothing),
            row("a solicitation that is no more than a type").send(
                0,
                &(ether(A, to_group)
                    / ipv6(HOST, group).hop_limit(255).next_header(58)
                    / payload(0)),
                invalid,
            ),
        ])
        .run();
}

#[test]
fn advertisements() {
    let advert =
        |source, message: Icmp| ether(A, mac(0)) / ipv6(source, v6(0, 1)).hop_limit(255) / message;
    let usual = advert(HOST, advertisement(HOST, 3).target_address(A));
    let group = [3, 0, 0, 0, 0, 1];
    let to_all = ether(A, ALL_NODES_MAC)
        / ipv6(HOST, ALL_NODES).hop_limit(255)
        / advertisement(HOST, 1).target_address(A);
    router()
        .rows([
            row("an answer")
                .send(0, &usual, consumed())
                .then(|cube| assert_eq!(station(cube, 0, HOST), Some(A))),
            row("an announcement to all")
                .send(0, &to_all, consumed())
                .then(|cube| assert_eq!(station(cube, 0, HOST), Some(A))),
            row("without an option the frame tells")
                .send(0, &advert(HOST, advertisement(HOST, 3)), consumed())
                .then(|cube| assert_eq!(station(cube, 0, HOST), Some(A))),
            row("about a link-local address")
                .send(
                    0,
                    &advert(
                        HOST_LINK_LOCAL,
                        advertisement(HOST_LINK_LOCAL, 3).target_address(C),
                    ),
                    consumed(),
                )
                .then(|cube| assert_eq!(station(cube, 0, HOST_LINK_LOCAL), Some(C))),
            row("a neighbour gets a new card")
                .with(|cube| known(cube, 0, HOST, B))
                .send(0, &usual, consumed())
                .then(|cube| assert_eq!(station(cube, 0, HOST), Some(A))),
            row("nothing about another network")
                .send(
                    0,
                    &advert(HOST, advertisement(v6(1, 2), 3).target_address(A)),
                    consumed(),
                )
                .then(|cube| {
                    assert_eq!(
                        (found(cube, 0, v6(1, 2)), found(cube, 1, v6(1, 2))),
                        (None, None)
                    )
                }),
            row("nothing about our own addresses")
                .send(
                    0,
                    &advert(HOST, advertisement(v6(0, 1), 3).target_address(A)),
                    consumed(),
                )
                .then(|cube| assert_eq!(found(cube, 0, v6(0, 1)), None)),
            row("nothing about our own link-local address")
                .send(
                    0,
                    &advert(HOST, advertisement(link_local(0), 3).target_address(A)),
                    consumed(),
                )
                .then(|cube| assert_eq!(found(cube, 0, link_local(0)), None)),
            row("a group is no neighbour")
                .send(
                    0,
                    &advert(HOST, advertisement(HOST, 3).target_address(group)),
                    consumed(),
                )
                .then(|cube| assert_eq!(found(cube, 0, HOST), None)),
        ])
        .run();
}
