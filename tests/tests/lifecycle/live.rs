//! Changes under traffic: nothing is lost.

use integration_tests::{
    lab::{Lab, run_test},
    traffic::{Probe, ping},
};
use serde_json::Value;

use crate::{BASE, assert_base_works, differences, edit, ids, ip};

/// Traffic across the switch and the router, in both families, through all changes.
fn with_traffic(lab: &Lab, changes: impl FnOnce()) {
    let (h1, h2, h3) = (lab.space("h1"), lab.space("h2"), lab.space("h3"));
    let probes = [
        Probe::start(&h1, &h2, (ip("10.1.0.1"), ip("10.1.0.2"))),
        Probe::start(&h3, &h1, (ip("fd00:2::1"), ip("fd00:1::1"))),
    ];
    changes();
    for probe in probes {
        probe.assert_no_loss();
    }
}

#[test]
fn a_port_comes_and_goes() {
    run_test(|lab| {
        let host = "    h4: { interfaces: { eth0: { addresses: [10.1.0.4/24, 'fd00:1::4/64'] } } }\n  cubes:\n";
        let more = edit(
            &edit(BASE, "  cubes:\n", host),
            "  links:\n",
            "  links:\n    - [br:a4, h4/eth0]\n",
        );
        lab.apply(BASE);
        let before = ids(lab);
        with_traffic(lab, || {
            for _ in 0..3 {
                lab.apply(&more);
                assert_eq!(ping(&lab.space("h4"), ip("10.1.0.1")), 64);
                assert_eq!(ping(&lab.space("h2"), ip("fd00:1::4")), 64);
                let mut with = ids(lab);
                with.retain(|path, _| before.contains_key(path));
                assert_eq!(differences(&before, &with), [""; 0]);
                lab.assert_converged(&more);
                lab.apply(BASE);
                assert_eq!(differences(&before, &ids(lab)), [""; 0]);
            }
        });
    });
}

#[test]
fn a_setting_replaces_one_program_and_keeps_what_was_learned() {
    run_test(|lab| {
        let changed = edit(BASE, "agingTime: 300s", "agingTime: 200s");
        lab.apply(BASE);
        assert_base_works(lab);
        let learned = || {
            let show = lab.show("live");
            let fdb = show["cubes"]["br"]["fdb"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let mut pairs: Vec<_> = fdb
                .iter()
                .map(|entry| (entry["mac"].clone(), entry["port"].clone()))
                .collect();
            pairs.sort_by_key(|(mac, _)| mac.to_string());
            pairs
        };
        let (before, stations) = (ids(lab), learned());
        assert!(
            stations.len() >= 4,
            "two hosts, the router and a static one: {stations:?}"
        );
        with_traffic(lab, || {
            for text in [changed.as_str(), BASE, &changed] {
                let last = ids(lab);
                let plan = lab.plan_json(text);
                assert_eq!(crate::addresses(&plan["changes"]), ["cube/br"], "{plan}");
                assert_eq!(plan["changes"][0]["disruption"], "none", "{plan}");
                lab.apply(text);
                assert_eq!(differences(&last, &ids(lab)), ["live/cubes/br/program-tc"]);
                assert_eq!(learned(), stations);
            }
        });
        assert_eq!(
            differences(&before, &ids(lab)),
            ["live/cubes/br/program-tc"]
        );
        lab.assert_converged(&changed);
    });
}

#[test]
fn a_transparent_cube_comes_and_goes() {
    run_test(|lab| {
        let inside = edit(BASE, "through: [shield]", "through: [shield, probe]");
        let outside = edit(BASE, "through: [shield]", "through: [probe, shield]");
        let alone = edit(BASE, "through: [shield]", "through: [probe]");
        let none = edit(BASE, "h1: { through: [shield] }", "h1: {}");
        lab.apply(BASE);
        with_traffic(lab, || {
            for text in [
                inside.as_str(),
                BASE,
                &outside,
                &alone,
                &none,
                BASE,
                &none,
                &inside,
                BASE,
                &outside,
            ] {
                lab.apply(text);
                lab.assert_converged(text);
            }
        });
        let packets = |show: &Value| {
            show["cubes"]["probe"]["attachments"]["br:h1"]["ingress"]["rx"]["packets"].as_u64()
        };
        let before = packets(&lab.show("live"));
        assert_base_works(lab);
        assert!(
            packets(&lab.show("live")) > before,
            "the cube is attached, but sees nothing"
        );
    });
}

/// The order of a stack is turned around: no packet may meet both orders, and go in circles.
#[test]
fn a_stack_in_another_order() {
    run_test(|lab| {
        let one = edit(BASE, "through: [shield]", "through: [shield, probe]");
        let other = edit(BASE, "through: [shield]", "through: [probe, shield]");
        lab.apply(&one);
        with_traffic(lab, || {
            for _ in 0..10 {
                for text in [&other, &one] {
                    lab.apply(text);
                }
            }
        });
        lab.assert_converged(&one);
    });
}

#[test]
fn counters_survive_a_change() {
    run_test(|lab| {
        lab.apply(BASE);
        assert_base_works(lab);
        let sent = || {
            let show = lab.show("live");
            let ports = &show["cubes"]["r"]["ports"];
            ports["wan"]["tx"]["packets"]
                .as_u64()
                .unwrap_or_else(|| panic!("no counter: {show}"))
        };
        let before = sent();
        assert!(before > 0);
        lab.apply(&edit(
            BASE,
            "addresses: [10.2.0.254/24, 'fd00:2::fe/64']",
            "mtu: 1400, addresses: [10.2.0.254/24, 'fd00:2::fe/64']",
        ));
        assert!(sent() >= before);
    });
}

#[test]
fn another_topology_goes_alone() {
    run_test(|lab| {
        let other = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: other }
spec:
  namespaces:
    o1: { interfaces: { eth0: { addresses: [10.1.0.1/24] } } }
    o2: { interfaces: { eth0: { addresses: [10.1.0.2/24] } } }
  cubes: { br: { bridge: {} } }
  links: [[br:h1, o1/eth0], [br:h2, o2/eth0]]
";
        lab.apply(BASE);
        lab.apply(other);
        assert_eq!(ping(&lab.space("o1"), ip("10.1.0.2")), 64);
        let before = lab.ids();
        with_traffic(lab, || {
            lab.pcn("destroy --yes other").expect(0);
        });
        let mut left = before.clone();
        left.retain(|path, _| path.starts_with("live/"));
        assert_eq!(lab.ids(), left);
        lab.assert_converged(BASE);
        let gone = lab.pcn("show other -o json");
        assert_ne!(gone.code, Some(0), "{gone}");
    });
}
