//! Who is a member, and for how long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_abi::{
    bridge::{MEMBERSHIP_INTERVAL, MdbEntry, NO_PORT},
    port::behind,
};
use integration_tests::{
    clock::{SECOND, now},
    packet::{Packet, ipv4, raw},
    table::{Row, row},
    test_run::Hook,
};

use super::{family, from, key, member, messages::*, queried, reaches, run, until};

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
