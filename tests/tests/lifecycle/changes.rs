//! Applying again changes nothing, and a small change touches little.

use integration_tests::lab::{Lab, run_test};

use crate::{BASE, addresses, assert_base_works, differences, edit, ids};

#[test]
fn twice_is_once() {
    run_test(|lab| {
        lab.apply(BASE);
        // The process that applied it is gone; what it made works.
        assert_base_works(lab);
        let before = lab.ids();
        let again = lab.apply(BASE);
        assert_eq!(again.stdout, "No changes.\n", "{again}");
        assert_eq!(lab.ids(), before);
        let show = lab.show("live");
        for part in ["cubes", "namespaces"] {
            assert!(
                show[part].as_object().is_some_and(|parts| parts.len() >= 3),
                "{show}"
            );
        }
        for (cube, settings) in show["cubes"].as_object().expect("a mapping") {
            for (port, state) in settings["ports"].as_object().expect("a mapping") {
                assert_eq!(state["state"], "up", "{cube}:{port}");
            }
        }
    });
}

#[test]
fn the_same_file_and_kernel_give_the_same_plan() {
    run_test(|lab| {
        let first = lab.plan(BASE).expect(2);
        assert_eq!(lab.plan(BASE).expect(2).stdout, first.stdout);
        lab.apply(BASE);
        let changed = edit(
            BASE,
            "sources: [198.51.100.0/24]",
            "sources: [192.0.2.0/24]",
        );
        let first = lab.plan(&changed).expect(2);
        assert_eq!(lab.plan(&changed).expect(2).stdout, first.stdout);
        assert_eq!(lab.plan_json(&changed), lab.plan_json(&changed));
    });
}

#[test]
fn entries_come_and_go_without_a_new_object() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = ids(lab);
        for (from, to, address) in [
            (
                "sources: [198.51.100.0/24]",
                "sources: [198.51.100.0/24, 203.0.113.0/24]",
                "cube/shield/sources/203.0.113.0/24",
            ),
            (
                "sources: [198.51.100.0/24]",
                "sources: [198.51.100.0/24, '2001:db8:bad::/48']",
                "cube/shield/sources/2001:db8:bad::/48",
            ),
            (
                "        neighbors:\n",
                "          - { to: 10.8.0.0/16, via: 10.2.0.1 }\n        neighbors:\n",
                "cube/r/routes/10.8.0.0/16",
            ),
            (
                "        neighbors:\n",
                "          - { to: 'fd00:8::/64', via: 'fd00:2::1' }\n        neighbors:\n",
                "cube/r/routes/fd00:8::/64",
            ),
            (
                "        neighbors:\n",
                "        neighbors:\n          - { address: 'fd00:2::78', mac: '02:00:00:00:00:78', port: wan }\n",
                "cube/r/neighbors/fd00:2::78",
            ),
            (
                "        fdb:\n",
                "        fdb:\n          - { mac: '02:00:00:00:00:98', port: h1 }\n",
                "cube/br/fdb/02:00:00:00:00:98",
            ),
        ] {
            let more = edit(BASE, from, to);
            for (text, action) in [(more.as_str(), "create"), (BASE, "delete")] {
                let plan = lab.plan_json(text);
                assert_eq!(addresses(&plan["changes"]), [address], "{plan}");
                assert_eq!(plan["changes"][0]["action"], action, "{plan}");
                assert_eq!(plan["changes"][0]["disruption"], "none", "{plan}");
                assert_eq!(plan["drift"], serde_json::json!([]), "{plan}");
                lab.apply(text);
                assert_eq!(
                    differences(&before, &ids(lab)),
                    [""; 0],
                    "{action} {address}"
                );
                lab.assert_converged(text);
            }
        }
        assert_base_works(lab);
    });
}

#[test]
fn an_entry_that_changes_is_one_update() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = ids(lab);
        let changed = edit(BASE, "mac: '02:00:00:00:00:77'", "mac: '02:00:00:00:00:88'");
        let plan = lab.plan_json(&changed);
        assert_eq!(
            addresses(&plan["changes"]),
            ["cube/r/neighbors/10.2.0.77"],
            "{plan}"
        );
        assert_eq!(plan["changes"][0]["action"], "update", "{plan}");
        lab.apply(&changed);
        assert_eq!(differences(&before, &ids(lab)), [""; 0]);
        lab.assert_converged(&changed);
    });
}

#[test]
fn what_is_removed_from_the_file_goes() {
    run_test(|lab| {
        lab.apply(BASE);
        assert_base_works(lab);
        let without = edit(
            &edit(BASE, "    - [r:wan, h3/eth0]\n", ""),
            "    - [br:h2, h2/eth0]\n",
            "",
        );
        let without = edit(
            &without,
            "          - { mac: '02:00:00:00:00:99', port: h2 }\n",
            "",
        )
        .replace("        fdb:\n", "");
        lab.apply(&without);
        lab.assert_converged(&without);
        let (h1, gone) = (lab.space("h1"), ["10.1.0.2", "10.2.0.1", "fd00:1::2"]);
        for target in gone {
            integration_tests::traffic::no_ping(&h1, crate::ip(target));
        }
        lab.apply(BASE);
        assert_base_works(lab);
        empty(lab);
    });
}

/// A topology without anything in it is legal, and is not the same as none.
fn empty(lab: &Lab) {
    let text = "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: { name: live }\nspec: {}\n";
    lab.apply(text);
    lab.assert_converged(text);
    assert!(ids(lab).is_empty(), "{:?}", lab.ids());
}
