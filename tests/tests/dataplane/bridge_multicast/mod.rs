//! `bridge`: who gets packets for IP multicast groups (RFC 4541), learned from IGMP and MLD.

mod members;
mod messages;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_abi::{
    address::{V4, V6},
    bridge::{
        FEATURE_SNOOPING, FEATURE_VLANS, GROUP_ANY, MdbEntry, MdbKey, NO_PORT, PORT_VLAN_TAGGED,
        PortVlans, QUERIER_INTERVAL, Settings,
    },
    port::PORT_MULTICAST_ROUTER,
};
use integration_tests::{
    clock::{SECOND, now},
    cube::Cube,
    packet::{Packet, ether, ipv4, payload, raw, udp, vlan},
    private_net::LOOPBACK,
    table::{Row, copied, handed_over, row, table},
    test_run::Hook,
};

use self::messages::*;

fn five_ports(cube: &Cube) {
    cube.link_ports(0..5);
    for port in 0..5 {
        cube.change_port(port, |port| port.handover_ifindex = LOOPBACK);
    }
    for (index, value) in [5, 0, 1, 2, 3, 4].into_iter().enumerate() {
        cube.write_banked("flood", index as u32, value);
    }
}

const SETTINGS: Settings = Settings {
    aging_time: 300 * SECOND,
    features: FEATURE_SNOOPING,
};

fn key(group: Option<IpAddr>, family: u16, port: u32) -> MdbKey {
    let address = match group {
        Some(IpAddr::V4(group)) => V6::from_v4(V4::new(group.octets())),
        Some(IpAddr::V6(group)) => V6::new(group.octets()),
        None => GROUP_ANY,
    };
    MdbKey {
        address,
        port,
        vlan: 0,
        family,
    }
}

fn family(group: IpAddr) -> u16 {
    if group.is_ipv4() { 4 } else { 6 }
}

fn member(cube: &Cube, group: impl Into<IpAddr>, port: u32) -> Option<MdbEntry> {
    let group = group.into();
    cube.read("mdb", key(Some(group), family(group), port))
}

fn until(cube: &Cube, key: MdbKey, until: u64) {
    let entry: MdbEntry = cube.read("mdb", key).expect("it was heard");
    cube.write("mdb", key, MdbEntry { until, ..entry });
}

/// A querier was heard at port 4 in both families, and hosts had the time to answer.
fn queried(row: Row) -> Row {
    row.with(|cube| {
        for family in [4, 6] {
            let entry = MdbEntry {
                until: now() + QUERIER_INTERVAL,
                flood_until: 0,
                behind: 0,
                reserved: 0,
            };
            cube.write("mdb", key(None, family, NO_PORT), entry);
            cube.write("mdb", key(None, family, 4), entry);
        }
    })
}

/// The frame, into port 0 if nothing else is said, is copied to these ports.
fn reaches(row: Row, frame: &Packet, ports: &[u32]) -> Row {
    from(row, 0, frame, ports)
}

fn from(row: Row, port: u32, frame: &Packet, ports: &[u32]) -> Row {
    row.send_differs(port, frame, copied(ports), handed_over())
}

fn run(rows: Vec<Row>) {
    table("bridge", five_ports)
        .global("SETTINGS", SETTINGS)
        .rows(rows)
        .run();
}

#[test]
fn routers_and_queriers() {
    let silent = Ipv4Addr::UNSPECIFIED;
    let everyone = [1, 2, 3, 4];
    let from_switch = igmp(silent, [224, 0, 0, 1].into(), &[0x11, 10, 0, 0, 0, 0, 0, 0]);
    let answered = |row: Row, family| {
        row.then(move |cube| {
            if cube.hook == Hook::Tc {
                let querier: MdbEntry =
                    cube.read("mdb", key(None, family, NO_PORT)).expect("heard");
                let left = querier.flood_until - now();
                assert!(left > 0 && left <= SECOND, "{left}");
                let answered = MdbEntry {
                    flood_until: 0,
                    ..querier
                };
                cube.write("mdb", key(None, family, NO_PORT), answered);
            }
        })
    };
    let known = |name, query: &Packet, report: &Packet, group: IpAddr| {
        // Until hosts had the time to answer, everyone gets everything.
        let row = from(row(name), 2, query, &[0, 1, 3, 4]);
        let row = from(row, 1, report, &[0, 2, 3, 4]);
        let row = answered(reaches(row, &data(group), &everyone), family(group));
        let row = from(row, 1, report, &[2]);
        reaches(row, &data(group), &[1, 2])
    };
    let v3 = igmp(
        [10, 0, 0, 9].into(),
        [224, 0, 0, 1].into(),
        &[0x11, 10, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0],
    );
    let mut mld_v2 = Ipv6Addr::UNSPECIFIED.octets().to_vec();
    mld_v2.extend([2, 125, 0, 0]);
    let row_switch = from(
        row("a query of a switch makes no router"),
        2,
        &from_switch,
        &[0, 1, 3, 4],
    );
    let row_switch = from(answered(row_switch, 4), 1, &report(GROUP), &[]);
    run(vec![
        known("IGMPv2", &query(NONE), &report(GROUP), GROUP.into()),
        known("IGMPv3", &v3, &report(GROUP), GROUP.into()),
        known(
            "MLDv1",
            &query_mld(Ipv6Addr::UNSPECIFIED),
            &report_mld(GROUP_V6),
            GROUP_V6.into(),
        ),
        known(
            "MLDv2",
            &mld(ALL_NODES, 130, 1000 << 16, &mld_v2),
            &report_mld(GROUP_V6),
            GROUP_V6.into(),
        ),
        reaches(row_switch, &data(GROUP), &[1]),
        reaches(
            from(
                row("without a querier everyone gets everything"),
                1,
                &report(GROUP),
                &[0, 2, 3, 4],
            ),
            &data(GROUP),
            &everyone,
        ),
        reaches(
            from(
                queried(row("a querier that is silent for long")),
                1,
                &report(GROUP),
                &[4],
            )
            .with(|cube| until(cube, key(None, 4, NO_PORT), now())),
            &data(GROUP),
            &everyone,
        ),
        reaches(
            from(
                queried(row("a router that is silent for long")),
                1,
                &report(GROUP),
                &[4],
            )
            .with(|cube| until(cube, key(None, 4, 4), now())),
            &data(GROUP),
            &[1],
        ),
        reaches(
            from(
                queried(row("a router by the settings")),
                1,
                &report(GROUP),
                &[4],
            )
            .with(|cube| cube.change_port(3, |port| port.flags |= PORT_MULTICAST_ROUTER)),
            &data(GROUP),
            &[1, 3, 4],
        ),
        reaches(
            from(queried(row("families are apart")), 1, &report(GROUP), &[4])
                .with(|cube| cube.delete("mdb", key(None, 6, NO_PORT))),
            &data(GROUP_V6),
            &everyone,
        ),
    ]);
}

#[test]
fn what_everyone_gets() {
    let other: Ipv4Addr = [239, 4, 4, 4].into();
    let everyone = [1, 2, 3, 4];
    let known = |name| {
        let row = from(queried(row(name)), 1, &report(GROUP), &[4]);
        from(row, 1, &report_mld(GROUP_V6), &[4])
    };
    let local = |last| Ipv4Addr::new(224, 0, 0, last);
    let tagged =
        to(GROUP.into()) / vlan(5) / ipv4([10, 0, 0, 1].into(), GROUP) / udp(1, 2) / payload(20);
    let same_mac = ether(HOST, group_mac(GROUP.into()))
        / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        / udp(1, 2);
    run(vec![
        reaches(known("a group nobody reported"), &data(other), &everyone),
        reaches(
            from(
                known("224.0.0.0/24, even if reported"),
                1,
                &report(local(251)),
                &[4],
            ),
            &data(local(251)),
            &everyone,
        ),
        reaches(known("all nodes"), &data(ALL_NODES), &everyone),
        from(
            known("all nodes, even if reported"),
            1,
            &report_mld(ALL_NODES),
            &[4],
        )
        .then(|cube| assert_eq!(member(cube, ALL_NODES, 1), None)),
        reaches(
            known("groups on one host"),
            &data("ff01::1".parse::<Ipv6Addr>().unwrap()),
            &everyone,
        ),
        reaches(
            known("other IGMP"),
            &igmp_v2(0x13, 0, NONE, local(4)),
            &everyone,
        ),
        reaches(
            known("a tagged frame where tags are not looked at"),
            &tagged,
            &everyone,
        ),
        reaches(known("one station as a group"), &same_mac, &everyone),
        reaches(known("no IP"), &(to(GROUP.into()) / payload(46)), &everyone),
        reaches(
            known("two groups on one link-layer address"),
            &(to(GROUP.into()) / ipv4([10, 0, 0, 1].into(), [224, 129, 2, 3].into()) / udp(1, 2)),
            &everyone,
        ),
    ]);
}

#[test]
fn vlans_are_apart() {
    fn trunk(cube: &Cube) {
        five_ports(cube);
        for port in 0..5 {
            let mut vlans = PortVlans {
                flags: PORT_VLAN_TAGGED,
                ..PortVlans::NONE
            };
            [10, 20].iter().for_each(|vlan| vlans.add(*vlan));
            cube.write_banked("vlans", port, vlans);
        }
        for vlan in [10, 20] {
            let entry = MdbEntry {
                until: now() + QUERIER_INTERVAL,
                ..MdbEntry::default()
            };
            cube.write(
                "mdb",
                MdbKey {
                    vlan,
                    ..key(None, 4, NO_PORT)
                },
                entry,
            );
        }
    }
    let on = |id| to(GROUP.into()) / vlan(id);
    let ip = || ipv4([10, 0, 0, 1].into(), GROUP);
    let message = igmp_v2(0x16, 0, GROUP, GROUP).bytes()[14 + 24..].to_vec();
    let report = |id| on(id) / ip().protocol(2) / raw(&message);
    let data = |id| on(id) / ip() / udp(1, 2) / payload(60);
    let settings = Settings {
        features: FEATURE_SNOOPING | FEATURE_VLANS,
        ..SETTINGS
    };
    for outside in [false, true] {
        let rows = vec![
            row("the same group in two VLANs")
                .send_differs(1, &report(10), copied(&[]), handed_over())
                .send_differs(2, &report(20), copied(&[]), handed_over())
                .send_differs(0, &data(10), copied(&[1]), handed_over())
                .send_differs(0, &data(20), copied(&[2]), handed_over()),
            row("a group of one VLAN alone")
                .send_differs(1, &report(10), copied(&[]), handed_over())
                .send_differs(0, &data(20), copied(&[1, 2, 3, 4]), handed_over()),
        ];
        table("bridge", trunk)
            .global("SETTINGS", settings)
            .tags_outside(outside)
            .rows(rows)
            .run();
    }
}
