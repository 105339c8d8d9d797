//! `bridge`: learning, forwarding, filtering, ageing.

use ebpf_abi::{
    address::Mac,
    bridge::{FEATURE_STATIC, FdbEntry, FdbKey, REFRESH_INTERVAL, SWEEP_INTERVAL, Settings, State},
    counters::DropReason,
    port::{HOP_NONE, PORT_ISOLATED, PORT_VIA_TC, behind},
};
use integration_tests::{
    clock::{SECOND, ago, now},
    cube::Cube,
    packet::{BROADCAST, Packet, ether, ipv4, payload, qinq, udp, vlan},
    private_net::LOOPBACK,
    table::{Row, Table, copied, dropped, handed_over, passed, row, sent, table},
};

const AGING_TIME: u64 = 5 * SECOND;

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const C: [u8; 6] = [2, 0, 0, 0, 0, 0xc];

/// Ports 0 to 4, all to interfaces.
fn five_ports(cube: &Cube) {
    cube.link_ports(0..5);
    for port in 0..5 {
        cube.change_port(port, |port| port.handover_ifindex = LOOPBACK);
    }
    for (index, value) in [5, 0, 1, 2, 3, 4].into_iter().enumerate() {
        cube.write_banked("flood", index as u32, value);
    }
}

/// Settings of a bridge that has static stations, or none.
fn settings(features: u64) -> Settings {
    Settings {
        aging_time: AGING_TIME,
        features,
    }
}

fn bridge() -> Table {
    table("bridge", five_ports).global("SETTINGS", settings(FEATURE_STATIC))
}

fn frame(source: [u8; 6], destination: [u8; 6]) -> Packet {
    ether(source, destination) / payload(46)
}

fn key(mac: [u8; 6]) -> FdbKey {
    FdbKey {
        mac: Mac::new(mac),
        vlan: 0,
    }
}

fn known(cube: &Cube, mac: [u8; 6], port: u32, seen: u64) {
    cube.write(
        "fdb",
        key(mac),
        FdbEntry {
            port,
            behind: 0,
            seen,
        },
    );
}

fn fixed(cube: &Cube, mac: [u8; 6], port: u32) {
    cube.write("static_fdb", key(mac), port);
}

fn learned(cube: &Cube, mac: [u8; 6]) -> Option<FdbEntry> {
    cube.read("fdb", key(mac))
}

fn port_of(cube: &Cube, mac: [u8; 6]) -> Option<u32> {
    learned(cube, mac).map(|entry| entry.port)
}

/// Ports of a frame that is flooded from port 0.
const OTHERS: &[u32] = &[1, 2, 3, 4];

/// A row with one frame into port 0 that must be flooded.
fn flooded(row: Row, frame: &Packet) -> Row {
    row.send_differs(0, frame, copied(OTHERS), handed_over())
}

#[test]
fn learning() {
    let (there, back) = (frame(A, B), frame(B, A));
    bridge()
        .rows([
            flooded(row("learns, then forwards"), &there)
                .then(|cube| {
                    let entry = learned(cube, A).expect("A is learned");
                    assert_eq!((entry.port, entry.behind), (0, 0));
                    assert!(now() - entry.seen < SECOND, "{entry:?}");
                })
                .send(1, &back, sent(0, &back))
                .send(0, &there, sent(1, &there)),
            row("a station moves")
                .with(|cube| known(cube, A, 0, now()))
                .send_differs(2, &frame(A, B), copied(&[0, 1, 3, 4]), handed_over())
                .then(|cube| assert_eq!(port_of(cube, A), Some(2)))
                .send(1, &back, sent(2, &back)),
            row("a station is not looked for where the network is another one")
                .with(|cube| {
                    known(cube, B, 1, now());
                    cube.change_port(1, |port| port.flags = behind(7));
                })
                .send_differs(0, &there, copied(OTHERS), handed_over())
                .send(1, &back, sent(0, &back))
                .send(0, &there, sent(1, &there))
                .then(|cube| {
                    let entry = learned(cube, B).expect("B is learned");
                    assert_eq!((entry.port, entry.behind), (1, behind(7)));
                    cube.change_port(1, |port| port.flags = 0);
                })
                .send_differs(0, &there, copied(OTHERS), handed_over()),
            row("not even at the port that it comes from")
                .with(|cube| {
                    known(cube, B, 0, now());
                    cube.change_port(0, |port| port.flags = behind(7));
                })
                .send_differs(0, &there, copied(OTHERS), handed_over()),
            row("a move renews the time")
                .with(|cube| known(cube, A, 0, ago(AGING_TIME + SECOND)))
                .send_differs(2, &there, copied(&[0, 1, 3, 4]), handed_over())
                .send(1, &back, sent(2, &back)),
            flooded(
                row("the time is renewed while it is in use")
                    .with(|cube| known(cube, A, 0, ago(AGING_TIME))),
                &there,
            )
            .then(|cube| assert!(now() - learned(cube, A).expect("known").seen < SECOND)),
            flooded(
                row("but not with each frame")
                    .with(|cube| known(cube, A, 0, now() + REFRESH_INTERVAL / 4)),
                &there,
            )
            .then(|cube| assert!(learned(cube, A).expect("known").seen + REFRESH_INTERVAL > now())),
            row("a static station is not learned elsewhere")
                .with(|cube| fixed(cube, A, 3))
                .send_differs(0, &there, copied(OTHERS), handed_over())
                .then(|cube| assert_eq!(learned(cube, A), None))
                .send(1, &back, sent(3, &back)),
            row("a static entry wins over a learned one")
                .with(|cube| {
                    known(cube, A, 2, now());
                    fixed(cube, A, 3);
                })
                .send(1, &back, sent(3, &back)),
            row("a static entry does not age")
                .with(|cube| fixed(cube, B, 3))
                .send(0, &there, sent(3, &there)),
            row("without static stations nobody looks for one")
                .global("SETTINGS", settings(0))
                .with(|cube| {
                    known(cube, A, 2, now());
                    fixed(cube, A, 3);
                })
                .send(1, &back, sent(2, &back)),
            row("a frame for the port it came from is dropped, and teaches")
                .with(|cube| known(cube, B, 0, now()))
                .send(0, &there, dropped(DropReason::SamePort))
                .then(|cube| assert_eq!(port_of(cube, A), Some(0))),
            row("a station that talks to itself").send(
                0,
                &frame(A, A),
                dropped(DropReason::SamePort),
            ),
            row("a group is no source")
                .with(|cube| known(cube, B, 1, now()))
                .send(
                    0,
                    &frame([3, 0, 0, 0, 0, 0xa], B),
                    dropped(DropReason::Malformed),
                )
                .send(0, &frame(BROADCAST, B), dropped(DropReason::Malformed))
                .then(|cube| {
                    assert_eq!(learned(cube, [3, 0, 0, 0, 0, 0xa]), None);
                    assert_eq!(learned(cube, BROADCAST), None);
                }),
        ])
        .run();
}

#[test]
fn forwarding() {
    let there = frame(A, B);
    let to_one = |cube: &Cube| known(cube, B, 1, now());
    let isolate = |cube: &Cube, port| cube.change_port(port, |entry| entry.flags |= PORT_ISOLATED);
    let tagged = ether(A, B)
        / vlan(7)
        / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        / udp(1, 2)
        / payload(20);
    let twice = ether(A, B) / qinq(7) / vlan(8) / payload(46);
    let large = ether(A, B) / payload(1500);
    bridge()
        .rows([
            row("a tagged frame goes through as it is")
                .with(to_one)
                .send(0, &tagged, sent(1, &tagged)),
            row("a frame with two tags as well")
                .with(to_one)
                .send(0, &twice, sent(1, &twice)),
            row("a large frame")
                .with(to_one)
                .send(0, &large, sent(1, &large)),
            row("the shortest frame").with(to_one).send(
                0,
                &(ether(A, B) / payload(0)),
                sent(1, &(ether(A, B) / payload(0))),
            ),
            row("from isolated to isolated")
                .with(to_one)
                .with(move |cube| [0, 1].iter().for_each(|port| isolate(cube, *port)))
                .send(0, &there, dropped(DropReason::Isolated)),
            row("from isolated to others")
                .with(to_one)
                .with(move |cube| isolate(cube, 0))
                .send(0, &there, sent(1, &there)),
            row("from others to isolated")
                .with(to_one)
                .with(move |cube| isolate(cube, 1))
                .send(0, &there, sent(1, &there)),
            row("to a port that leads to a program")
                .with(to_one)
                .with(|cube| cube.lead_to_program(1, 9))
                .send(0, &there, passed(1, 9, &there)),
            row("to a high port that leads to a program")
                .with(|cube| {
                    cube.link_ports(17..18);
                    known(cube, B, 17, now());
                    cube.lead_to_program(17, 3);
                })
                .send(0, &there, passed(17, 3, &there)),
            row("to a program that is not there")
                .with(to_one)
                .with(|cube| {
                    cube.change_port(1, |port| port.hop.kind = ebpf_abi::port::HOP_PROGRAM)
                })
                .send(0, &there, dropped(DropReason::ChainBroken)),
            row("to a port that leads nowhere")
                .with(to_one)
                .with(|cube| cube.change_port(1, |port| port.hop.kind = HOP_NONE))
                .send(0, &there, dropped(DropReason::NotLinked)),
            row("to a port that only TC reaches")
                .with(to_one)
                .with(|cube| cube.change_port(1, |port| port.flags |= PORT_VIA_TC))
                .send_differs(0, &there, sent(1, &there), handed_over()),
            row("to a port that only TC reaches, without a way there")
                .with(to_one)
                .with(|cube| {
                    cube.change_port(1, |port| port.flags |= PORT_VIA_TC);
                    cube.change_port(0, |port| port.handover_ifindex = 0);
                })
                .send_differs(0, &there, sent(1, &there), dropped(DropReason::NotLinked)),
        ])
        .run();
}

#[test]
fn flooding() {
    let isolate = |cube: &Cube, port| cube.change_port(port, |entry| entry.flags |= PORT_ISOLATED);
    let everyone = frame(A, BROADCAST);
    let mut rows = vec![
        flooded(row("an unknown station"), &frame(A, B)),
        flooded(row("broadcast"), &everyone),
        flooded(row("an IPv4 group"), &frame(A, [1, 0, 0x5e, 1, 2, 3])),
        flooded(row("an IPv6 group"), &frame(A, [0x33, 0x33, 0, 0, 0, 1])),
        flooded(
            row("the address after the reserved ones"),
            &frame(A, [1, 0x80, 0xc2, 0, 0, 0x10]),
        ),
        flooded(
            row("a tagged broadcast"),
            &(ether(A, BROADCAST) / vlan(3) / payload(46)),
        ),
        row("isolated ports get nothing from isolated ports")
            .with(move |cube| [0, 2, 3].iter().for_each(|port| isolate(cube, *port)))
            .send_differs(0, &everyone, copied(&[1, 4]), handed_over()),
        row("isolated ports get what others send")
            .with(move |cube| [2, 3].iter().for_each(|port| isolate(cube, *port)))
            .send_differs(0, &everyone, copied(OTHERS), handed_over()),
        row("a port that leads nowhere is left out")
            .with(|cube| cube.change_port(2, |port| port.hop.kind = HOP_NONE))
            .send_differs(0, &everyone, copied(&[1, 3, 4]), handed_over()),
        row("an interface that is gone costs its copy only")
            .with(|cube| cube.change_port(2, |port| port.hop.ifindex = 9999))
            .send_differs(
                0,
                &everyone,
                dropped(DropReason::NoMemory).and_copies(&[1, 3, 4]),
                handed_over(),
            ),
        row("the one program gets the original")
            .with(|cube| cube.lead_to_program(2, 6))
            .send_differs(
                0,
                &everyone,
                passed(2, 6, &everyone).and_copies(&[1, 3, 4]),
                handed_over(),
            ),
        row("other programs get a copy through their interface")
            .with(|cube| {
                cube.lead_to_program(1, 5);
                cube.lead_to_program(2, 6);
                cube.change_port(1, |port| port.flood_ifindex = LOOPBACK);
            })
            .send_differs(
                0,
                &everyone,
                passed(2, 6, &everyone).and_copies(&[1, 3, 4]),
                handed_over(),
            ),
        row("a bridge with one port")
            .with(|cube| cube.write_banked("flood", 0, 1u32))
            .send_differs(0, &everyone, copied(&[]), handed_over()),
        row("no way to TC")
            .with(|cube| cube.change_port(0, |port| port.handover_ifindex = 0))
            .send_differs(0, &everyone, copied(OTHERS), dropped(DropReason::NotLinked)),
    ];
    // IEEE 802.1D-2004, table 7-10.
    rows.extend([0, 1, 2, 3, 0xe, 0xf].map(|last| {
        row("reserved for protocols of the link")
            .send(
                0,
                &frame(A, [1, 0x80, 0xc2, 0, 0, last]),
                dropped(DropReason::Reserved),
            )
            .then(|cube| assert_eq!(port_of(cube, A), Some(0)))
    }));
    bridge().rows(rows).run();
}

#[test]
fn ageing() {
    let there = frame(A, B);
    bridge()
        .rows([
            flooded(
                row("an aged station is flooded and forgotten")
                    .with(|cube| known(cube, B, 1, ago(AGING_TIME + SECOND))),
                &there,
            )
            .then(|cube| assert_eq!(learned(cube, B), None)),
            row("one that is nearly as old is not")
                .with(|cube| known(cube, B, 1, ago(AGING_TIME - 2 * SECOND)))
                .send(0, &there, sent(1, &there)),
            // Another CPU may have written the time of its next tick already.
            row("one heard a moment from now is not")
                .with(|cube| known(cube, B, 1, now() + SECOND))
                .send(0, &there, sent(1, &there))
                .then(|cube| assert_eq!(port_of(cube, B), Some(1))),
            flooded(
                row("a full table learns nothing and keeps what it knows")
                    .capacity("fdb", 2)
                    .with(|cube| {
                        known(cube, B, 1, now());
                        known(cube, C, 2, now());
                    }),
                &frame(A, BROADCAST),
            )
            .then(|cube| {
                assert_eq!(
                    (port_of(cube, A), port_of(cube, B), port_of(cube, C)),
                    (None, Some(1), Some(2))
                );
                let state: State = cube.read("state", 0u32).expect("always there");
                assert_eq!(state.full, 1);
                assert!(now() - state.swept < SECOND);
            })
            .send(0, &there, sent(1, &there)),
            flooded(
                row("a full table is swept")
                    .capacity("fdb", 2)
                    .with(|cube| {
                        known(cube, B, 1, ago(AGING_TIME + SECOND));
                        known(cube, C, 2, now());
                        cube.write(
                            "state",
                            0u32,
                            State {
                                swept: ago(SWEEP_INTERVAL + SECOND),
                                full: 7,
                            },
                        );
                    }),
                &frame(A, BROADCAST),
            )
            .then(|cube| {
                assert_eq!((learned(cube, B), port_of(cube, C)), (None, Some(2)));
                assert_eq!(
                    cube.read::<u32, State>("state", 0)
                        .expect("always there")
                        .full,
                    8
                );
            })
            .send_differs(0, &frame(A, BROADCAST), copied(OTHERS), handed_over())
            .then(|cube| assert_eq!(port_of(cube, A), Some(0))),
            flooded(
                row("a full table is not swept all the time")
                    .capacity("fdb", 2)
                    .with(|cube| {
                        known(cube, B, 1, ago(AGING_TIME + SECOND));
                        known(cube, C, 2, now());
                        cube.write(
                            "state",
                            0u32,
                            State {
                                swept: now() + SECOND,
                                full: 0,
                            },
                        );
                    }),
                &frame(A, BROADCAST),
            )
            .then(|cube| assert_eq!(port_of(cube, B), Some(1))),
        ])
        .run();
}
