//! `bridge`: VLANs (IEEE 802.1Q), looked at in the packet that leaves.
//!
//! All ports lead to programs, so that tags outside of the packet are seen as well. Each table
//! runs twice: with tags in the packet, and outside of it where the hook has that.

use ebpf_abi::{
    address::Mac,
    bridge::{
        FEATURE_STATIC, FEATURE_VLANS, FdbEntry, FdbKey, PORT_VLAN_TAGGED, PORT_VLAN_UNAWARE,
        PortVlans, Settings,
    },
    counters::DropReason,
    port::{PORT_ISOLATED, PORT_VIA_TC},
};
use integration_tests::{
    clock::{SECOND, now},
    cube::Cube,
    packet::{Packet, Vlan, ether, ipv4, ipv6, payload, qinq, udp, vlan},
    private_net::LOOPBACK,
    table::{Row, Table, dropped, handed_over, passed, row, table},
};

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// On VLAN 10, without tags.
const ACCESS_10: u32 = 0;
const ACCESS_10_TOO: u32 = 1;
const ACCESS_20: u32 = 2;
/// VLANs 10, 20 and 4094 with tags, 30 without.
const TRUNK: u32 = 3;
/// VLANs 10 and 20 with tags, none without.
const TAGGED_ONLY: u32 = 4;
/// VLAN 10 without a tag, 20 with one.
const TRUNK_10: u32 = 5;
/// VLAN 1, whatever the tags.
const UNAWARE: u32 = 6;
/// VLAN 1 without a tag, 10 with one.
const TRUNK_1: u32 = 7;
/// VLAN 1 with a tag.
const TAGGED_1: u32 = 8;

fn port_vlans(flags: u16, untagged: u16, tagged: &[u16]) -> PortVlans {
    let mut vlans = PortVlans {
        untagged,
        flags,
        ..PortVlans::NONE
    };
    tagged.iter().for_each(|vlan| vlans.add(*vlan));
    if untagged != 0 {
        vlans.add(untagged);
    }
    vlans
}

pub(crate) fn nine_ports(cube: &Cube) {
    cube.link_ports(0..9);
    cube.write_banked("flood", 0, 9u32);
    for port in 0..9 {
        cube.lead_to_program_with_tags(port, port);
        cube.change_port(port, |port| port.handover_ifindex = LOOPBACK);
        cube.write_banked("flood", port + 1, port);
    }
    let vlans = [
        port_vlans(0, 10, &[]),
        port_vlans(0, 10, &[]),
        port_vlans(0, 20, &[]),
        port_vlans(PORT_VLAN_TAGGED, 30, &[10, 20, 4094]),
        port_vlans(PORT_VLAN_TAGGED, 0, &[10, 20]),
        port_vlans(PORT_VLAN_TAGGED, 10, &[20]),
        port_vlans(PORT_VLAN_UNAWARE, 1, &[]),
        port_vlans(PORT_VLAN_TAGGED, 1, &[10]),
        port_vlans(PORT_VLAN_TAGGED, 0, &[1]),
    ];
    for (port, vlans) in (0..).zip(vlans) {
        cube.write_banked("vlans", port, vlans);
    }
}

pub(crate) const SETTINGS: Settings = Settings {
    aging_time: 300 * SECOND,
    features: FEATURE_VLANS,
};

fn run(rows: impl Fn() -> Vec<Row>) {
    for outside in [false, true] {
        let bridge: Table = table("bridge", nine_ports).global("SETTINGS", SETTINGS);
        bridge.tags_outside(outside).rows(rows()).run();
    }
}

fn known(cube: &Cube, mac: [u8; 6], vlan: u16, port: u32) {
    let entry = FdbEntry {
        port,
        behind: 0,
        seen: now(),
    };
    let mac = Mac::new(mac);
    cube.write("fdb", FdbKey { mac, vlan }, entry);
}

fn learned(cube: &Cube, mac: [u8; 6], vlan: u16) -> Option<u32> {
    let mac = Mac::new(mac);
    let entry: Option<FdbEntry> = cube.read("fdb", FdbKey { mac, vlan });
    entry.map(|entry| entry.port)
}

fn plain() -> Packet {
    ether(A, B) / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into()) / udp(1, 2) / payload(30)
}

fn tagged(tag: Vlan) -> Packet {
    ether(A, B) / tag / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into()) / udp(1, 2) / payload(30)
}

/// B is in `vlan` behind `to`; what comes in at `from` leaves there.
fn moves(
    name: &'static str,
    vlan: u16,
    (from, frame): (u32, Packet),
    (to, expected): (u32, Packet),
) -> Row {
    row(name)
        .with(move |cube| known(cube, B, vlan, to))
        .send(from, &frame, passed(to, to, &expected))
        .then(move |cube| assert_eq!(learned(cube, A, vlan), Some(from)))
}

/// It is dropped, and teaches nothing.
fn refused(name: &'static str, from: u32, frame: Packet) -> Row {
    row(name)
        .with(|cube| (1..4095).for_each(|vlan| known(cube, B, vlan, ACCESS_10_TOO)))
        .send(from, &frame, dropped(DropReason::VlanNotAllowed))
        .then(|cube| assert!((0..4096).all(|vlan| learned(cube, A, vlan).is_none())))
}

#[test]
fn tags_are_put_on_and_taken_off() {
    let v6 = |tag: Option<Vlan>| {
        let ip = ipv6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        match tag {
            Some(tag) => ether(A, B) / tag / ip / udp(1, 2) / payload(1400),
            None => ether(A, B) / ip / udp(1, 2) / payload(1400),
        }
    };
    let v6 = &v6;
    run(|| {
        vec![
            moves(
                "access to access",
                10,
                (ACCESS_10, plain()),
                (ACCESS_10_TOO, plain()),
            ),
            moves(
                "access to trunk",
                10,
                (ACCESS_10, plain()),
                (TRUNK, tagged(vlan(10))),
            ),
            moves(
                "access to trunk, IPv6",
                10,
                (ACCESS_10, v6(None)),
                (TRUNK, v6(Some(vlan(10)))),
            ),
            moves(
                "trunk to access",
                10,
                (TRUNK, tagged(vlan(10))),
                (ACCESS_10, plain()),
            ),
            moves(
                "trunk to access, IPv6",
                20,
                (TRUNK, v6(Some(vlan(20)))),
                (ACCESS_20, v6(None)),
            ),
            moves(
                "trunk to trunk",
                20,
                (TRUNK, tagged(vlan(20))),
                (TAGGED_ONLY, tagged(vlan(20))),
            ),
            moves(
                "native to access",
                10,
                (TRUNK_10, plain()),
                (ACCESS_10, plain()),
            ),
            moves(
                "native to another VLAN's trunk",
                10,
                (TRUNK_10, plain()),
                (TRUNK, tagged(vlan(10))),
            ),
            moves(
                "a tag to the native VLAN",
                10,
                (TRUNK, tagged(vlan(10))),
                (TRUNK_10, plain()),
            ),
            moves(
                "the native VLAN with its tag",
                10,
                (TRUNK_10, tagged(vlan(10))),
                (ACCESS_10, plain()),
            ),
            moves(
                "the shortest frame",
                10,
                (ACCESS_10, ether(A, B) / payload(0)),
                (TRUNK, ether(A, B) / vlan(10) / payload(0)),
            ),
            row("the last VLAN")
                .with(|cube| {
                    known(cube, B, 4094, TAGGED_ONLY);
                    let mut vlans = port_vlans(PORT_VLAN_TAGGED, 0, &[1, 63, 64, 4094]);
                    vlans.untagged = 0;
                    cube.write_banked("vlans", TAGGED_ONLY, vlans);
                })
                .send(
                    TRUNK,
                    &tagged(vlan(4094)),
                    passed(TAGGED_ONLY, TAGGED_ONLY, &tagged(vlan(4094))),
                ),
        ]
    });
}

/// IEEE 802.1Q-2022, 6.9.3: priority and drop eligibility stay with the frame.
#[test]
fn priority_stays() {
    let high = |id| vlan(id).priority(5).drop_eligible(true);
    run(|| {
        vec![
            moves(
                "trunk to trunk",
                20,
                (TRUNK, tagged(high(20))),
                (TAGGED_ONLY, tagged(high(20))),
            ),
            moves(
                "trunk to access",
                10,
                (TRUNK, tagged(high(10))),
                (ACCESS_10, plain()),
            ),
            moves(
                "a priority alone, access to access",
                10,
                (ACCESS_10, tagged(high(0))),
                (ACCESS_10_TOO, plain()),
            ),
            moves(
                "a priority alone, access to trunk",
                10,
                (ACCESS_10, tagged(high(0))),
                (TRUNK, tagged(high(10))),
            ),
            moves(
                "a priority alone, native to trunk",
                10,
                (TRUNK_10, tagged(high(0))),
                (TRUNK, tagged(high(10))),
            ),
            moves(
                "the lowest priority alone",
                10,
                (ACCESS_10, tagged(vlan(0))),
                (TRUNK, tagged(vlan(10))),
            ),
        ]
    });
}

#[test]
fn frames_of_other_vlans_are_dropped() {
    run(|| {
        vec![
            refused(
                "a tagged frame on an access port",
                ACCESS_10,
                tagged(vlan(20)),
            ),
            refused(
                "not even with the port's own VLAN",
                ACCESS_10,
                tagged(vlan(10)),
            ),
            refused(
                "a VLAN that the trunk does not carry",
                TRUNK,
                tagged(vlan(11)),
            ),
            refused(
                "one that is next to it by a word",
                TRUNK,
                tagged(vlan(10 + 64)),
            ),
            refused("the reserved identifier", TRUNK, tagged(vlan(4095))),
            refused("no tag where there is no native VLAN", TAGGED_ONLY, plain()),
            refused(
                "a priority alone, there",
                TAGGED_ONLY,
                tagged(vlan(0).priority(7)),
            ),
            row("a station of another VLAN is unknown here")
                .with(|cube| known(cube, B, 20, ACCESS_20))
                .send_differs(
                    ACCESS_10,
                    &plain(),
                    // To the trunk that a program serves and no interface leads to: the last one.
                    passed(TRUNK_1, TRUNK_1, &tagged(vlan(10))),
                    handed_over(),
                ),
            row("the same station in two VLANs")
                .with(|cube| {
                    known(cube, B, 10, ACCESS_10_TOO);
                    known(cube, B, 20, ACCESS_20);
                })
                .send(
                    TRUNK,
                    &tagged(vlan(20)),
                    passed(ACCESS_20, ACCESS_20, &plain()),
                )
                .send(
                    TRUNK,
                    &tagged(vlan(10)),
                    passed(ACCESS_10_TOO, ACCESS_10_TOO, &plain()),
                )
                .then(|cube| {
                    assert_eq!(learned(cube, A, 10), Some(TRUNK));
                    assert_eq!(learned(cube, A, 20), Some(TRUNK));
                    assert_eq!(learned(cube, A, 0), None);
                }),
            row("a static station behind a port that lost its VLAN")
                .global(
                    "SETTINGS",
                    Settings {
                        features: FEATURE_VLANS | FEATURE_STATIC,
                        ..SETTINGS
                    },
                )
                .with(|cube| {
                    let mac = Mac::new(B);
                    cube.write("static_fdb", FdbKey { mac, vlan: 10 }, ACCESS_20);
                })
                .send(ACCESS_10, &plain(), dropped(DropReason::VlanNotAllowed)),
            row("from isolated to isolated")
                .with(|cube| {
                    known(cube, B, 10, TRUNK);
                    [ACCESS_10, TRUNK].iter().for_each(|port| {
                        cube.change_port(*port, |port| port.flags |= PORT_ISOLATED);
                    });
                })
                .send(ACCESS_10, &plain(), dropped(DropReason::Isolated))
                .send(TRUNK_10, &plain(), passed(TRUNK, TRUNK, &tagged(vlan(10)))),
            row("to a port that only TC reaches: handed over as it came")
                .with(|cube| {
                    known(cube, B, 10, TRUNK);
                    cube.change_port(TRUNK, |port| port.flags |= PORT_VIA_TC);
                })
                .send_differs(
                    ACCESS_10,
                    &plain(),
                    passed(TRUNK, TRUNK, &tagged(vlan(10))),
                    handed_over(),
                ),
        ]
    });
}

/// A service tag, or a second customer tag, is part of what a frame carries.
#[test]
fn inner_tags_cross() {
    let inside = |tag: Vlan| ether(A, B) / tag / payload(46);
    let twice = |outer: Vlan, inner: Vlan| ether(A, B) / outer / inner / payload(46);
    run(|| {
        vec![
            moves(
                "a second tag, trunk to trunk",
                10,
                (TRUNK, twice(vlan(10).priority(3), vlan(77).priority(6))),
                (
                    TAGGED_ONLY,
                    twice(vlan(10).priority(3), vlan(77).priority(6)),
                ),
            ),
            moves(
                "a second tag, trunk to access",
                10,
                (TRUNK, twice(vlan(10), vlan(77).priority(6))),
                (ACCESS_10, inside(vlan(77).priority(6))),
            ),
            moves(
                "a service tag, access to access",
                10,
                (ACCESS_10, twice(qinq(5).priority(1), vlan(20))),
                (ACCESS_10_TOO, twice(qinq(5).priority(1), vlan(20))),
            ),
            moves(
                "a service tag, access to trunk",
                10,
                (ACCESS_10, twice(qinq(5).priority(1), vlan(20))),
                (
                    TRUNK,
                    ether(A, B) / vlan(10) / qinq(5).priority(1) / vlan(20) / payload(46),
                ),
            ),
            moves(
                "and back",
                10,
                (
                    TRUNK,
                    ether(A, B) / vlan(10) / qinq(5) / vlan(20) / payload(46),
                ),
                (ACCESS_10, twice(qinq(5), vlan(20))),
            ),
            moves(
                "a service tag on the native VLAN",
                10,
                (ACCESS_10, inside(qinq(20))),
                (TRUNK_10, inside(qinq(20))),
            ),
            row("a second tag must not become the first one")
                .with(|cube| known(cube, B, 10, TRUNK_10))
                .send(
                    TRUNK,
                    &twice(vlan(10), vlan(20)),
                    dropped(DropReason::VlanNotAllowed),
                ),
        ]
    });
}

#[test]
fn a_port_without_settings() {
    run(|| {
        vec![
            moves(
                "to the native VLAN",
                1,
                (UNAWARE, plain()),
                (TRUNK_1, plain()),
            ),
            moves("from it", 1, (TRUNK_1, plain()), (UNAWARE, plain())),
            moves(
                "with a tag of its own",
                1,
                (UNAWARE, plain()),
                (TAGGED_1, tagged(vlan(1))),
            ),
            moves(
                "and back",
                1,
                (TAGGED_1, tagged(vlan(1))),
                (UNAWARE, plain()),
            ),
            moves(
                "what it carries is no matter",
                1,
                (UNAWARE, tagged(vlan(20).priority(2))),
                (
                    TAGGED_1,
                    ether(A, B)
                        / vlan(1)
                        / vlan(20).priority(2)
                        / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
                        / udp(1, 2)
                        / payload(30),
                ),
            ),
            row("but must not be taken for a frame of that VLAN")
                .with(|cube| known(cube, B, 1, TRUNK_1))
                .send(
                    UNAWARE,
                    &tagged(vlan(10)),
                    dropped(DropReason::VlanNotAllowed),
                ),
        ]
    });
}
