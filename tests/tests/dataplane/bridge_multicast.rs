//! `bridge`: who gets packets for IP multicast groups (RFC 4541), learned from IGMP and MLD.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_abi::{
    address::{V4, V6},
    bridge::{
        FEATURE_SNOOPING, FEATURE_VLANS, GROUP_ANY, MEMBERSHIP_INTERVAL, MdbEntry, MdbKey, NO_PORT,
        PORT_VLAN_TAGGED, PortVlans, QUERIER_INTERVAL, Settings,
    },
    port::{PORT_MULTICAST_ROUTER, behind},
};
use integration_tests::{
    clock::{SECOND, now},
    cube::Cube,
    packet::{Packet, checksum, ether, icmpv6, ipv4, ipv6, payload, raw, udp, vlan},
    private_net::LOOPBACK,
    table::{Row, copied, handed_over, row, table},
    test_run::Hook,
};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 1, 0x203);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xa);
const SOMEWHERE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const MLD_V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

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

fn group_mac(group: IpAddr) -> [u8; 6] {
    match group {
        IpAddr::V4(group) => {
            let [_, a, b, c] = group.octets();
            [1, 0, 0x5e, a & 0x7f, b, c]
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}

fn to(group: IpAddr) -> integration_tests::packet::Ethernet {
    ether(HOST, group_mac(group))
}

fn data(group: impl Into<IpAddr>) -> Packet {
    let group = group.into();
    match group {
        IpAddr::V4(v4) => {
            to(group) / ipv4([10, 0, 0, 1].into(), v4) / udp(5000, 5000) / payload(100)
        }
        IpAddr::V6(v6) => to(group) / ipv6(SOMEWHERE, v6) / udp(5000, 5000) / payload(100),
    }
}

/// IGMP with router alert (RFC 2113).
fn igmp(source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Packet {
    let mut message = message.to_vec();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    to(destination.into())
        / ipv4(source, destination)
            .ttl(1)
            .protocol(2)
            .options(&[0x94, 4, 0, 0])
        / raw(&message)
}

fn igmp_v2(kind: u8, code: u8, group: Ipv4Addr, destination: Ipv4Addr) -> Packet {
    let message = [&[kind, code, 0, 0][..], &group.octets()].concat();
    igmp([10, 0, 0, 1].into(), destination, &message)
}

fn report(group: Ipv4Addr) -> Packet {
    igmp_v2(0x16, 0, group, group)
}

fn query(group: Ipv4Addr) -> Packet {
    let destination = if group.is_unspecified() {
        [224, 0, 0, 1].into()
    } else {
        group
    };
    igmp_v2(0x11, 10, group, destination)
}

const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// IGMPv3 report: kind, number of sources, group.
fn report_v3(records: &[(u8, u16, Ipv4Addr)]) -> Packet {
    let mut message = vec![0x22, 0, 0, 0, 0, 0];
    message.extend((records.len() as u16).to_be_bytes());
    for (kind, sources, group) in records {
        message.extend([*kind, 0]);
        message.extend(sources.to_be_bytes());
        message.extend(group.octets());
        message.extend((0..sources * 4).map(|i| i as u8));
    }
    igmp([10, 0, 0, 1].into(), [224, 0, 0, 22].into(), &message)
}

/// MLD with router alert (RFC 2711), from a link-local address.
fn mld(destination: Ipv6Addr, kind: u8, rest: u32, body: &[u8]) -> Packet {
    mld_from(LINK_LOCAL, destination, kind, rest, body)
}

fn mld_from(source: Ipv6Addr, destination: Ipv6Addr, kind: u8, rest: u32, body: &[u8]) -> Packet {
    // The checksum covers a pseudo-header with ICMPv6 as the protocol; the options are in between.
    let inner = ether(HOST, HOST) / ipv6(source, destination) / icmpv6(kind, 0, rest) / raw(body);
    let options = [58, 0, 5, 2, 0, 0, 1, 0];
    let message = [&options[..], &inner.bytes()[14 + 40..]].concat();
    to(destination.into()) / ipv6(source, destination).hop_limit(1).next_header(0) / raw(&message)
}

fn report_mld(group: Ipv6Addr) -> Packet {
    mld(group, 131, 0, &group.octets())
}

fn query_mld(group: Ipv6Addr) -> Packet {
    let destination = if group.is_unspecified() {
        ALL_NODES
    } else {
        group
    };
    mld(destination, 130, 1000 << 16, &group.octets())
}

fn report_mld_v2(records: &[(u8, u16, Ipv6Addr)]) -> Packet {
    let mut body = Vec::new();
    for (kind, sources, group) in records {
        body.extend([*kind, 0]);
        body.extend(sources.to_be_bytes());
        body.extend(group.octets());
        body.extend((0..sources * 16).map(|i| i as u8));
    }
    mld(MLD_V2_ROUTERS, 143, records.len() as u32, &body)
}

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

/// What is said at port 1 makes it a member.
fn joins(name: &'static str, report: &Packet, group: IpAddr) -> Row {
    let row = from(queried(row(name)), 1, report, &[4]);
    let row = row.then(move |cube| {
        if cube.hook == Hook::Tc {
            let entry = member(cube, group, 1).expect("a member");
            let left = entry.until - now();
            assert!(left > MEMBERSHIP_INTERVAL - SECOND && left <= MEMBERSHIP_INTERVAL);
        }
    });
    reaches(row, &data(group), &[1, 4])
}

/// What is said at port 1 makes nobody a member.
fn joins_not(name: &'static str, report: &Packet, heard: &[u32], group: IpAddr) -> Row {
    let row = from(queried(row(name)), 1, report, heard);
    let row = row.then(move |cube| assert_eq!(member(cube, group, 1), None));
    reaches(row, &data(group), &[1, 2, 3, 4])
}

fn run(rows: Vec<Row>) {
    table("bridge", five_ports)
        .global("SETTINGS", SETTINGS)
        .rows(rows)
        .run();
}

#[test]
fn members_by_report() {
    let (v4, v6): (IpAddr, IpAddr) = (GROUP.into(), GROUP_V6.into());
    let other = Ipv4Addr::new(239, 9, 9, 9);
    let other_v6 = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 9, 9);
    let many: Vec<_> = (0..150)
        .map(|i| (4, 0, Ipv4Addr::new(239, 8, 0, i)))
        .chain([(4, 0, GROUP)])
        .collect();
    run(vec![
        joins("IGMPv1", &igmp_v2(0x12, 0, GROUP, GROUP), v4),
        joins("IGMPv2", &report(GROUP), v4),
        joins(
            "IGMPv2, without an address",
            &igmp(
                NONE,
                GROUP,
                &[&[0x16, 0, 0, 0][..], &GROUP.octets()].concat(),
            ),
            v4,
        ),
        joins("IGMPv3, all sources", &report_v3(&[(4, 0, GROUP)]), v4),
        joins(
            "IGMPv3, in answer to a query",
            &report_v3(&[(2, 0, GROUP)]),
            v4,
        ),
        joins("IGMPv3, some sources", &report_v3(&[(1, 3, GROUP)]), v4),
        joins(
            "IGMPv3, from now on some sources",
            &report_v3(&[(3, 1, GROUP)]),
            v4,
        ),
        joins("IGMPv3, more sources", &report_v3(&[(5, 1, GROUP)]), v4),
        joins(
            "IGMPv3, behind records with sources",
            &report_v3(&[(6, 5, other), (3, 0, other), (4, 2, GROUP)]),
            v4,
        ),
        joins("IGMPv3, the last of many records", &report_v3(&many), v4),
        joins("MLDv1", &report_mld(GROUP_V6), v6),
        joins(
            "MLDv1, without an address",
            &mld_from(Ipv6Addr::UNSPECIFIED, GROUP_V6, 131, 0, &GROUP_V6.octets()),
            v6,
        ),
        joins(
            "MLDv2, all sources",
            &report_mld_v2(&[(4, 0, GROUP_V6)]),
            v6,
        ),
        joins(
            "MLDv2, some sources",
            &report_mld_v2(&[(1, 2, GROUP_V6)]),
            v6,
        ),
        joins(
            "MLDv2, behind other records",
            &report_mld_v2(&[(6, 3, other_v6), (2, 1, GROUP_V6)]),
            v6,
        ),
        joins_not(
            "IGMPv3, no source any more",
            &report_v3(&[(3, 0, GROUP)]),
            &[4],
            v4,
        ),
        joins_not(
            "IGMPv3, none of some sources",
            &report_v3(&[(6, 1, GROUP)]),
            &[4],
            v4,
        ),
        joins_not(
            "IGMPv3, a record that is cut off",
            &report_v3(&[(6, 0, other), (4, 0, GROUP)]).truncated(14 + 24 + 8 + 12),
            &[0, 2, 3, 4],
            v4,
        ),
        joins_not(
            "MLDv2, no source any more",
            &report_mld_v2(&[(3, 0, GROUP_V6)]),
            &[4],
            v6,
        ),
        joins_not("MLD through a router", &mld_with_hops(2), &[0, 2, 3, 4], v6),
        joins_not(
            "MLD from afar",
            &mld_from(
                "fd00::a".parse().unwrap(),
                GROUP_V6,
                131,
                0,
                &GROUP_V6.octets(),
            ),
            &[0, 2, 3, 4],
            v6,
        ),
        joins_not(
            "a wrong checksum",
            &broken(&report(GROUP)),
            &[0, 2, 3, 4],
            v4,
        ),
        joins_not(
            "a wrong checksum in MLD",
            &broken(&report_mld(GROUP_V6)),
            &[0, 2, 3, 4],
            v6,
        ),
        joins_not(
            "a wrong checksum of the header",
            &(to(v4)
                / ipv4([10, 0, 0, 1].into(), GROUP).protocol(2).checksum(1)
                / raw(&[0x16, 0, 0xf9, 0xf9, 0xef, 1, 2, 3])),
            &[0, 2, 3, 4],
            v4,
        ),
    ]);
}

fn mld_with_hops(hops: u8) -> Packet {
    let bytes = report_mld(GROUP_V6).bytes();
    to(GROUP_V6.into())
        / ipv6(LINK_LOCAL, GROUP_V6).hop_limit(hops).next_header(0)
        / raw(&bytes[54..])
}

/// Another last byte.
fn broken(packet: &Packet) -> Packet {
    let mut bytes = packet.bytes();
    *bytes.last_mut().expect("not empty") ^= 1;
    let ethertype = u16::from_be_bytes([bytes[12], bytes[13]]);
    ether(
        bytes[6..12].try_into().expect("six"),
        bytes[..6].try_into().expect("six"),
    )
    .ethertype(ethertype)
        / raw(&bytes[14..])
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
fn membership_ends() {
    let member_at_1 = |name, report: &Packet| from(queried(row(name)), 1, report, &[4]);
    let soon = |row: Row, group: IpAddr| {
        row.then(move |cube| {
            if cube.hook == Hook::Tc {
                let left = member(cube, group, 1).expect("still a member").until - now();
                // Two questions, a second each.
                assert!(left > SECOND && left <= 2 * SECOND, "{left}");
                until(cube, key(Some(group), family(group), 1), now());
            }
        })
    };
    let all = [224, 0, 0, 2].into();
    let left = from(
        member_at_1("IGMPv2", &report(GROUP)),
        1,
        &igmp_v2(0x17, 0, GROUP, all),
        &[4],
    );
    let left = from(left, 4, &query(GROUP), &[0, 1, 2, 3]);
    let answered = from(
        member_at_1("somebody else answers", &report(GROUP)),
        4,
        &query(GROUP),
        &[0, 1, 2, 3],
    );
    let done = mld("ff02::2".parse().unwrap(), 132, 0, &GROUP_V6.octets());
    let left_v6 = from(member_at_1("MLDv1", &report_mld(GROUP_V6)), 1, &done, &[4]);
    let left_v6 = from(left_v6, 4, &query_mld(GROUP_V6), &[0, 1, 2, 3]);
    let with_sources = [
        &[0x11, 10, 0, 0][..],
        &GROUP.octets(),
        &[2, 125, 0, 1, 10, 0, 0, 1],
    ]
    .concat();
    let suppressed = [&[0x11, 10, 0, 0][..], &GROUP.octets(), &[0xa, 125, 0, 0]].concat();
    let stays = |name, message: &[u8]| {
        let query = igmp([10, 0, 0, 9].into(), GROUP, message);
        let row = from(member_at_1(name, &report(GROUP)), 4, &query, &[0, 1, 2, 3]);
        row.then(|cube| {
            if cube.hook == Hook::Tc {
                let left = member(cube, GROUP, 1).expect("a member").until - now();
                assert!(left > 200 * SECOND);
            }
        })
    };
    run(vec![
        reaches(soon(left, GROUP.into()), &data(GROUP), &[4]),
        reaches(soon(left_v6, GROUP_V6.into()), &data(GROUP_V6), &[4]),
        reaches(
            from(answered, 1, &report(GROUP), &[4]),
            &data(GROUP),
            &[1, 4],
        )
        .then(|cube| {
            if cube.hook == Hook::Tc {
                assert!(member(cube, GROUP, 1).expect("a member").until > now() + 200 * SECOND);
            }
        }),
        stays("a question about sources", &with_sources),
        stays("a question that changes no timers", &suppressed),
        reaches(
            member_at_1("age", &report(GROUP)).with(|cube| {
                if cube.hook == Hook::Tc {
                    until(cube, key(Some(GROUP.into()), 4, 1), now());
                }
            }),
            &data(GROUP),
            &[4],
        ),
        reaches(
            member_at_1("nobody is left", &report(GROUP)).with(|cube| {
                if cube.hook == Hook::Tc {
                    until(cube, key(Some(GROUP.into()), 4, NO_PORT), now());
                }
            }),
            &data(GROUP),
            &[1, 2, 3, 4],
        ),
        reaches(
            member_at_1("another network behind the port", &report(GROUP))
                .with(|cube| cube.change_port(1, |port| port.flags |= behind(7))),
            &data(GROUP),
            &[4],
        ),
        // A member that could not be noted must not miss anything.
        reaches(
            from(
                queried(row("no room for a group").capacity("mdb", 5)),
                1,
                &report(GROUP),
                &[4],
            ),
            &data(GROUP),
            &[1, 2, 3, 4],
        ),
        reaches(
            from(
                from(
                    queried(row("no room for a second member").capacity("mdb", 6)),
                    1,
                    &report(GROUP),
                    &[4],
                ),
                2,
                &report(GROUP),
                &[4],
            ),
            &data(GROUP),
            &[1, 2, 3, 4],
        ),
        reaches(
            from(
                from(
                    queried(row("what is too old makes room").capacity("mdb", 6)).with(|cube| {
                        let old = key(Some([239, 7, 7, 7].into()), 4, 1);
                        cube.write("mdb", old, MdbEntry::default());
                        let old = key(Some([239, 7, 7, 8].into()), 4, 1);
                        cube.write("mdb", old, MdbEntry::default());
                    }),
                    1,
                    &report(GROUP),
                    &[4],
                ),
                1,
                &report(GROUP),
                &[4],
            ),
            &data(GROUP),
            &[1, 4],
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
