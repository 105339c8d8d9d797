//! `bridge`: what the spanning tree lets pass, and what it is told.

use bytemuck::pod_read_unaligned;
use ebpf_abi::{
    address::Mac,
    bridge::{FEATURE_STP, FdbEntry, FdbKey, Settings},
    counters::DropReason,
    stp::{
        Bpdu, STP_DISCARDING, STP_FORWARDING, STP_LEARNING, STP_PORT_EDGE, StpPort, StpState,
        stp_state,
    },
};
use integration_tests::{
    clock::{SECOND, now},
    cube::Cube,
    packet::{Packet, ether, ipv4, payload, raw, udp, vlan},
    table::{Row, Table, consumed, dropped, handed_over, passed, row, table},
};

use crate::bridge_vlan;

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const BRIDGE_GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];
const VLAN_GROUP: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd];

/// The ports of [`bridge_vlan::nine_ports`]: two on VLAN 10, and trunks with it and VLAN 20.
const ONE: u32 = 0;
const OTHER: u32 = 1;
const TRUNK: u32 = 3;
const TAGGED_ONLY: u32 = 4;

/// The instance that VLAN 20 follows.
const TWENTY: u32 = 5;

fn nine_ports(cube: &Cube) {
    bridge_vlan::nine_ports(cube);
    for port in 0..9 {
        set(cube, port, 0);
    }
    cube.write("stp_instances", 20u32, TWENTY);
}

/// What is set for a port.
fn set(cube: &Cube, port: u32, flags: u32) {
    let settings = StpPort {
        identity: 100 + port,
        flags,
    };
    cube.write("stp_ports", port, settings);
}

/// What a port may do in an instance.
fn may(cube: &Cube, port: u32, instance: u32, state: u32) {
    let state = StpState {
        identity: 100 + port,
        state,
        flushed: 0,
    };
    cube.write("stp_states", stp_state(port, instance), state);
}

fn bridge() -> Table {
    let settings = Settings {
        features: bridge_vlan::SETTINGS.features | FEATURE_STP,
        ..bridge_vlan::SETTINGS
    };
    table("bridge", nine_ports).global("SETTINGS", settings)
}

fn known(cube: &Cube, mac: [u8; 6], vlan: u16, port: u32, seen: u64) {
    let mac = Mac::new(mac);
    let entry = FdbEntry {
        port,
        behind: 0,
        seen,
    };
    cube.write("fdb", FdbKey { mac, vlan }, entry);
}

fn learned(cube: &Cube, mac: [u8; 6], vlan: u16) -> Option<u32> {
    let mac = Mac::new(mac);
    let entry: Option<FdbEntry> = cube.read("fdb", FdbKey { mac, vlan });
    entry.map(|entry| entry.port)
}

fn frame() -> Packet {
    ether(A, B) / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into()) / udp(1, 2) / payload(30)
}

fn tagged(id: u16) -> Packet {
    ether(A, B)
        / vlan(id)
        / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        / udp(1, 2)
        / payload(30)
}

/// A frame from one port to the station B behind the other one, on VLAN 10.
fn between(name: &'static str, prepare: impl Fn(&Cube) + Send + Sync + 'static) -> Row {
    row(name).with(move |cube| {
        known(cube, B, 10, OTHER, now());
        prepare(cube);
    })
}

#[test]
fn frames_pass_where_both_ports_forward() {
    let through = || passed(OTHER, OTHER, &frame());
    let stopped = || dropped(DropReason::Discarding);
    let not_learned = |cube: &Cube| assert_eq!(learned(cube, A, 10), None);
    let is_learned = |cube: &Cube| assert_eq!(learned(cube, A, 10), Some(ONE));
    let states = |from: u32, to: u32| {
        move |cube: &Cube| {
            may(cube, ONE, 0, from);
            may(cube, OTHER, 0, to);
        }
    };
    bridge()
        .rows([
            between("nothing is known", |_| {})
                .send(ONE, &frame(), stopped())
                .then(not_learned),
            between("edges, before anything is known", |cube| {
                set(cube, ONE, STP_PORT_EDGE);
                set(cube, OTHER, STP_PORT_EDGE);
            })
            .send(ONE, &frame(), through())
            .then(is_learned),
            between("both forward", states(STP_FORWARDING, STP_FORWARDING))
                .send(ONE, &frame(), through())
                .then(is_learned),
            between(
                "it came in where frames are discarded",
                states(STP_DISCARDING, STP_FORWARDING),
            )
            .send(ONE, &frame(), stopped())
            .then(not_learned),
            between(
                "it came in where is learned",
                states(STP_LEARNING, STP_FORWARDING),
            )
            .send(ONE, &frame(), stopped())
            .then(is_learned),
            between(
                "it would leave where is learned",
                states(STP_FORWARDING, STP_LEARNING),
            )
            .send(ONE, &frame(), stopped())
            .then(is_learned),
            between(
                "it would leave where frames are discarded",
                states(STP_FORWARDING, STP_DISCARDING),
            )
            .send(ONE, &frame(), stopped()),
            between("what is known overrules edges", |cube| {
                set(cube, ONE, STP_PORT_EDGE);
                set(cube, OTHER, STP_PORT_EDGE);
                may(cube, ONE, 0, STP_FORWARDING);
                may(cube, OTHER, 0, STP_DISCARDING);
            })
            .send(ONE, &frame(), stopped()),
            between("what is known of another port with the number", |cube| {
                may(cube, ONE, 0, STP_FORWARDING);
                let state = StpState {
                    identity: 7,
                    state: STP_FORWARDING,
                    flushed: 0,
                };
                cube.write("stp_states", stp_state(OTHER, 0), state);
            })
            .send(ONE, &frame(), stopped()),
        ])
        .run();
}

#[test]
fn each_vlan_has_the_states_of_its_instance() {
    let other = |vlan: u16| {
        move |cube: &Cube| {
            known(cube, B, vlan, TAGGED_ONLY, now());
            for port in [TRUNK, TAGGED_ONLY] {
                may(cube, port, 0, STP_DISCARDING);
                may(cube, port, TWENTY, STP_FORWARDING);
            }
        }
    };
    bridge()
        .rows([
            row("one of its own").with(other(20)).send(
                TRUNK,
                &tagged(20),
                passed(TAGGED_ONLY, TAGGED_ONLY, &tagged(20)),
            ),
            row("the common one").with(other(10)).send(
                TRUNK,
                &tagged(10),
                dropped(DropReason::Discarding),
            ),
        ])
        .run();
}

#[test]
fn floods_reach_ports_that_forward() {
    let ready = |cube: &Cube| {
        may(cube, ONE, 0, STP_FORWARDING);
        may(cube, OTHER, 0, STP_FORWARDING);
        may(cube, TRUNK, 0, STP_LEARNING);
    };
    let flooded = || (passed(OTHER, OTHER, &frame()), handed_over());
    let (on_tc, on_xdp) = flooded();
    let (again_on_tc, again_on_xdp) = flooded();
    bridge()
        .rows([
            row("and no others")
                .with(ready)
                .send_differs(ONE, &frame(), on_tc, on_xdp),
            // It was heard at a port that led elsewhere then.
            row("also for a station that is forgotten")
                .with(move |cube| {
                    ready(cube);
                    known(cube, B, 10, TRUNK, now() - SECOND);
                    let state = StpState {
                        identity: 100 + TRUNK,
                        state: STP_LEARNING,
                        flushed: now(),
                    };
                    cube.write("stp_states", stp_state(TRUNK, 0), state);
                })
                .send_differs(ONE, &frame(), again_on_tc, again_on_xdp),
        ])
        .run();
}

/// A message to a group; what is in it is none of the program's business.
fn message(group: [u8; 6]) -> Packet {
    ether(A, group) / raw(&[0x42; 50])
}

fn tagged_message(id: u16) -> Packet {
    ether(A, VLAN_GROUP) / vlan(id) / raw(&[0xaa; 50])
}

fn listening(name: &'static str) -> Row {
    row(name).with(|cube| cube.write("listening", 0u32, now() + 60 * SECOND))
}

/// The one message in the ring: from where it came, on which VLAN, and the frame.
fn taken(cube: &Cube) -> (u32, u32, Vec<u8>) {
    let records = cube.records("bpdus");
    assert_eq!(records.len(), 1, "{records:?}");
    let (header, rest) = records[0].split_at(size_of::<Bpdu>());
    let header: Bpdu = pod_read_unaligned(header);
    (
        header.port,
        header.vlan,
        rest[..header.length as usize].to_vec(),
    )
}

#[test]
fn messages_are_taken_whatever_the_state() {
    let nothing_there = |cube: &Cube| assert_eq!(cube.records("bpdus").len(), 0);
    bridge()
        .rows([
            row("nobody listens")
                .send(ONE, &message(BRIDGE_GROUP), dropped(DropReason::Reserved))
                .then(nothing_there),
            row("nobody listens any more")
                .with(|cube| cube.write("listening", 0u32, now() - SECOND))
                .send(ONE, &message(BRIDGE_GROUP), dropped(DropReason::Reserved))
                .then(nothing_there),
            listening("at a port that discards")
                .send(ONE, &message(BRIDGE_GROUP), consumed())
                .then(|cube| {
                    assert_eq!(taken(cube), (ONE, 0, message(BRIDGE_GROUP).bytes()));
                    assert_eq!(learned(cube, A, 10), None);
                }),
            listening("where frames without a tag are on no VLAN")
                .send(TAGGED_ONLY, &message(BRIDGE_GROUP), consumed())
                .then(|cube| assert_eq!(taken(cube).0, TAGGED_ONLY)),
            listening("of a VLAN with an instance")
                .send(TRUNK, &tagged_message(20), consumed())
                .then(|cube| {
                    let (port, vlan, _) = taken(cube);
                    assert_eq!((port, vlan), (TRUNK, 20));
                }),
            listening("of a VLAN that follows the common one: a frame like others")
                .send(TRUNK, &tagged_message(10), dropped(DropReason::Discarding))
                .then(nothing_there),
            listening("of a VLAN that the port does not carry")
                .send(
                    TRUNK,
                    &tagged_message(40),
                    dropped(DropReason::VlanNotAllowed),
                )
                .then(nothing_there),
            listening("another address of the link")
                .with(|cube| may(cube, ONE, 0, STP_FORWARDING))
                .send(
                    ONE,
                    &message([0x01, 0x80, 0xc2, 0, 0, 2]),
                    dropped(DropReason::Reserved),
                )
                .then(nothing_there),
            listening("longer than any").send(
                ONE,
                &(ether(A, BRIDGE_GROUP) / raw(&[0; 600])),
                dropped(DropReason::Reserved),
            ),
        ])
        .run();
}
