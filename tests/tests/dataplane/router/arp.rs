//! ARP: answering, learning; asking is where packets are forwarded.

use ebpf_abi::{
    counters::DropReason,
    port::PORT_VIA_TC,
    router::{Neighbor, ROUTE_VIA},
};
use integration_tests::{
    clock::now,
    packet::{BROADCAST, arp_reply, arp_request, ether},
    private_net::LOOPBACK,
    table::{consumed, dropped, handed_over, row, sent},
};

use super::*;

#[test]
fn requests() {
    let host = (A, v4(0, 2));
    let ask = |target| ether(A, BROADCAST) / arp_request(host, target);
    let answer = |from: Ipv4Addr| ether(mac(0), A) / arp_reply((mac(0), from), host);
    let on_port_1 = ether(B, BROADCAST) / arp_request((B, v4(SECOND, 7)), v4(SECOND, 1));
    let answer_on_port_1 =
        ether(mac(1), B) / arp_reply((mac(1), v4(SECOND, 1)), (B, v4(SECOND, 7)));
    let probe = ether(A, BROADCAST) / arp_request((A, Ipv4Addr::UNSPECIFIED), v4(0, 1));
    let answer_to_probe =
        ether(mac(0), A) / arp_reply((mac(0), v4(0, 1)), (A, Ipv4Addr::UNSPECIFIED));
    let unicast = ether(A, mac(0)) / arp_request(host, v4(0, 1));
    let relayed = ether(C, BROADCAST) / arp_request(host, v4(0, 1));
    let answer_to_relay = ether(mac(0), C) / arp_reply((mac(0), v4(0, 1)), host);
    router()
        .rows([
            row("for the port's address")
                .send(0, &ask(v4(0, 1)), sent(0, &answer(v4(0, 1))))
                .then(|cube| {
                    let entry = found(cube, 0, v4(0, 2)).expect("learned from the request");
                    assert_eq!((entry.mac.bytes(), entry.asked), (A, 0));
                    assert!(now() - entry.heard < 1_000_000_000);
                    // To ask is not to answer.
                    assert_eq!(entry.confirmed, 0);
                    assert_eq!(found(cube, 1, v4(0, 2)), None);
                }),
            row("padded to the length of a frame").send(
                0,
                &ask(v4(0, 1)).padded(60),
                sent(0, &answer(v4(0, 1)).padded(60)),
            ),
            row("for another address of the port").send(1, &on_port_1, sent(1, &answer_on_port_1)),
            row("to us alone").send(0, &unicast, sent(0, &answer(v4(0, 1)))),
            row("the answer goes to the station that asked").send(
                0,
                &relayed,
                sent(0, &answer_to_relay),
            ),
            row("for the address of another port").send(0, &ask(v4(1, 1)), consumed()),
            row("for a host on the same network")
                .send(0, &ask(v4(0, 9)), consumed())
                .then(|cube| assert_eq!(station(cube, 0, v4(0, 2)), Some(A))),
            row("for somewhere else").send(0, &ask(NOWHERE), consumed()),
            row("a probe is answered, and teaches nothing")
                .with(|cube| {
                    route_v4(
                        cube,
                        Ipv4Addr::UNSPECIFIED,
                        0,
                        route(ROUTE_VIA, 0, v4(0, 254).into()),
                    )
                })
                .send(0, &probe, sent(0, &answer_to_probe))
                .then(|cube| assert_eq!(found(cube, 0, Ipv4Addr::UNSPECIFIED), None)),
            row("on a port that only TC sends on")
                .with(|cube| {
                    cube.change_port(0, |port| {
                        port.flags |= PORT_VIA_TC;
                        port.handover_ifindex = LOOPBACK;
                    });
                })
                .send_differs(0, &ask(v4(0, 1)), sent(0, &answer(v4(0, 1))), handed_over()),
            row("for another station").send(
                0,
                &(ether(A, B) / arp_request(host, v4(0, 1))),
                dropped(DropReason::NotForUs),
            ),
            row("about something else than IPv4 over Ethernet").send(
                0,
                &(ether(A, BROADCAST) / arp_request(host, v4(0, 1)).hardware(6)),
                dropped(DropReason::Unsupported),
            ),
            row("cut off").send(
                0,
                &ask(v4(0, 1)).truncated(14 + 27),
                dropped(DropReason::Malformed),
            ),
        ])
        .run();
}

#[test]
fn learning() {
    let reply = |sender| ether(A, mac(0)) / arp_reply((A, sender), (mac(0), v4(0, 1)));
    let group = [3, 0, 0, 0, 0, 1];
    router()
        .rows([
            row("from a reply")
                .send(0, &reply(v4(0, 2)), consumed())
                .then(|cube| assert_eq!(station(cube, 0, v4(0, 2)), Some(A))),
            row("from an announcement")
                .send(
                    0,
                    &(ether(A, BROADCAST) / arp_request((A, v4(0, 2)), v4(0, 2))),
                    consumed(),
                )
                .then(|cube| assert_eq!(station(cube, 0, v4(0, 2)), Some(A))),
            row("an answer ends the asking")
                .with(|cube| {
                    neighbor(
                        cube,
                        0,
                        v4(0, 2),
                        Neighbor {
                            asked: 3,
                            asked_at: now(),
                            ..Neighbor::default()
                        },
                    )
                })
                .send(0, &reply(v4(0, 2)), consumed())
                .then(|cube| assert_eq!(found(cube, 0, v4(0, 2)).map(|entry| entry.asked), Some(0)))
                .then(|cube| assert_eq!(station(cube, 0, v4(0, 2)), Some(A))),
            row("a neighbour gets a new card")
                .with(|cube| known(cube, 0, v4(0, 2), B))
                .send(0, &reply(v4(0, 2)), consumed())
                .then(|cube| assert_eq!(station(cube, 0, v4(0, 2)), Some(A))),
            row("nothing from another network")
                .send(0, &reply(v4(1, 2)), consumed())
                .send(0, &reply(NOWHERE), consumed())
                .send(0, &reply(FAR), consumed())
                .then(|cube| {
                    for port in 0..2 {
                        assert_eq!(found(cube, port, v4(1, 2)), None);
                        assert_eq!(found(cube, port, NOWHERE), None);
                        assert_eq!(found(cube, port, FAR), None);
                    }
                }),
            row("nothing about our own addresses")
                .send(0, &reply(v4(0, 1)), consumed())
                .then(|cube| assert_eq!(found(cube, 0, v4(0, 1)), None)),
            row("a group is no neighbour")
                .send(
                    0,
                    &(ether(A, mac(0)) / arp_reply((group, v4(0, 2)), (mac(0), v4(0, 1)))),
                    consumed(),
                )
                .then(|cube| assert_eq!(found(cube, 0, v4(0, 2)), None)),
            row("an unknown operation is no request").send(
                0,
                &(ether(A, BROADCAST) / arp_request((A, v4(0, 2)), v4(0, 1)).operation(3)),
                consumed(),
            ),
        ])
        .run();
}
