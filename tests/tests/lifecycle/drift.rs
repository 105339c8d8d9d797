//! Others change what `pcn` made: the plan says what, and apply repairs that and no more.

use std::os::fd::AsFd;

use integration_tests::{
    command::run,
    lab::{Lab, objects::Ids, run_test},
};
use reconciler::kernel::linux::bpf;

use crate::{BASE, addresses, assert_base_works, differences, ids};

const SOURCES: &str = "live/cubes/shield/sources_v4";

/// The drift is what the plan says it is; what apply changes.
#[track_caller]
fn repair(lab: &Lab, expected: &[&str]) -> Ids {
    let plan = lab.plan_json(BASE);
    assert_eq!(addresses(&plan["drift"]), expected, "{plan}");
    assert_eq!(plan["changes"], serde_json::json!([]), "{plan}");
    lab.plan(BASE).expect(2);
    lab.apply(BASE);
    lab.assert_converged(BASE);
    assert_base_works(lab);
    ids(lab)
}

/// Changes a pinned map.
fn with_map(lab: &Lab, path: &str, work: impl FnOnce(std::os::fd::BorrowedFd<'_>)) {
    let map = bpf::open(&lab.pin(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    work(map.as_fd());
}

#[test]
fn an_entry_that_is_missing() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = ids(lab);
        let sources = lab.keys(SOURCES);
        assert_eq!(sources.len(), 1);
        lab.unlist(SOURCES, &sources);
        let diff = lab
            .pcn(&format!("diff -f {}", lab.file("base.yaml", BASE)))
            .expect(2);
        assert!(
            diff.stdout.contains("+") && diff.stdout.contains("198.51.100.0/24"),
            "{diff}"
        );
        let after = repair(lab, &["cube/shield/sources/198.51.100.0/24"]);
        assert_eq!(differences(&before, &after), [""; 0]);
    });
}

#[test]
fn an_entry_of_somebody_else() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = ids(lab);
        lab.list(SOURCES, &[&[32, 0, 0, 0, 192, 0, 2, 9]]);
        let after = repair(lab, &["cube/shield/sources/192.0.2.9/32"]);
        assert_eq!(differences(&before, &after), [""; 0]);
    });
}

#[test]
fn a_list_that_somebody_wrote_into() {
    run_test(|lab| {
        lab.apply(BASE);
        with_map(lab, SOURCES, |map| {
            // A prefix in the first bucket of the memory, where nobody would look for it.
            let bucket = [0x0100_0020_0102_0304u64.to_ne_bytes(); 8].concat();
            bpf::update(map, &0u32.to_ne_bytes(), &bucket).expect("root can write");
        });
        lab.plan(BASE).expect(2);
        lab.apply(BASE);
        lab.assert_converged(BASE);
        assert_base_works(lab);
    });
}

#[test]
fn a_route_that_is_missing() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = ids(lab);
        with_map(lab, "live/cubes/r/routes_v4", |map| {
            let mut key = None;
            loop {
                key = bpf::next_key(map, key.as_deref(), 8).expect("a map can be walked");
                let found = key.as_deref().expect("the route is there");
                if found.ends_with(&[10, 9, 0, 0]) {
                    return bpf::delete(map, found).expect("root can delete");
                }
            }
        });
        let after = repair(lab, &["cube/r/routes/10.9.0.0/16"]);
        assert_eq!(differences(&before, &after), [""; 0]);
    });
}

#[test]
fn a_link_that_was_detached() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = ids(lab);
        let link = before
            .keys()
            .find(|path| path.contains("/link-"))
            .expect("interfaces are attached to")
            .clone();
        bpf::detach_link(bpf::open(&lab.pin(&link)).expect("a pin").as_fd())
            .expect("root can detach");
        let drift = drift_addresses(lab);
        assert_eq!(drift.len(), 1, "{drift:?}");
        let after = repair(lab, &[&drift[0]]);
        assert_eq!(differences(&before, &after), [link]);
    });
}

#[test]
fn a_link_whose_pin_was_removed() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = ids(lab);
        let link = before
            .keys()
            .find(|path| path.contains("/link-"))
            .expect("interfaces are attached to")
            .clone();
        std::fs::remove_file(lab.pin(&link)).expect("root can remove");
        let drift = drift_addresses(lab);
        assert_eq!(drift.len(), 1, "{drift:?}");
        let after = repair(lab, &[&drift[0]]);
        assert_eq!(differences(&before, &after), [link]);
    });
}

fn drift_addresses(lab: &Lab) -> Vec<String> {
    addresses(&lab.plan_json(BASE)["drift"])
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_slot_that_was_cleared() {
    run_test(|lab| {
        lab.apply(BASE);
        assert_base_works(lab);
        let before = ids(lab);
        with_map(lab, "live/cubes/br/chain_tc", |map| {
            let filled = (0u32..).find(|slot| {
                bpf::lookup(map, &slot.to_ne_bytes(), 4).is_ok_and(|program| program.is_some())
            });
            bpf::delete(map, &filled.expect("a slot in use").to_ne_bytes())
                .expect("root can clear");
        });
        let drift = drift_addresses(lab);
        assert_eq!(drift.len(), 1, "{drift:?}");
        let after = repair(lab, &[&drift[0]]);
        assert_eq!(differences(&before, &after), [""; 0]);
    });
}

#[test]
fn a_program_and_a_table_whose_pins_were_removed() {
    run_test(|lab| {
        lab.apply(BASE);
        for path in [
            "live/cubes/br/program-tc",
            "live/cubes/r/routes_v4",
            "live/cubes/shield/counters",
        ] {
            std::fs::remove_file(lab.pin(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            let cube = path.split('/').nth(2).expect("a cube");
            let drift = drift_addresses(lab);
            assert!(
                drift
                    .iter()
                    .any(|address| address.starts_with(&format!("cube/{cube}"))),
                "{path}: {drift:?}"
            );
            lab.plan(BASE).expect(2);
            lab.apply(BASE);
            lab.assert_converged(BASE);
            assert_base_works(lab);
        }
    });
}

#[test]
fn a_host_that_was_changed() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = ids(lab);
        let h1 = lab.space("h1");
        for change in [
            "ip address del 10.1.0.1/24 dev eth0",
            "ip address add 10.1.0.7/24 dev eth0",
            "ip -6 route del default",
            "ip link set eth0 mtu 1300",
        ] {
            h1.run(change).expect(0);
            let after = repair(lab, &["namespace/h1"]);
            assert_eq!(differences(&before, &after), [""; 0], "{change}");
        }
        h1.run("ip link set eth0 down").expect(0);
        assert_eq!(
            drift_addresses(lab),
            ["namespace/h1"],
            "an interface that is down"
        );
        repair(lab, &["namespace/h1"]);
    });
}

#[test]
fn a_host_that_was_cut_off() {
    run_test(|lab| {
        lab.apply(BASE);
        let links = run("ip -j link show type veth").expect(0).json();
        let near = links
            .as_array()
            .into_iter()
            .flatten()
            .find(|link| link["ifalias"] == "pcn:live:h1/eth0");
        let near = near
            .and_then(|link| link["ifname"].as_str())
            .unwrap_or_else(|| panic!("no pair of h1: {links}"));
        run(&format!("ip link set {near} down")).expect(0);
        assert_eq!(
            drift_addresses(lab),
            ["namespace/h1"],
            "the near end is down"
        );
        repair(lab, &["namespace/h1"]);
    });
}

#[test]
fn a_host_that_was_deleted() {
    run_test(|lab| {
        lab.apply(BASE);
        run("ip netns delete h2").expect(0);
        // The kernel takes its time.
        integration_tests::wait::until("the drift", || {
            drift_addresses(lab)
                .contains(&"namespace/h2".to_owned())
                .then_some(())
        });
        lab.plan(BASE).expect(2);
        lab.apply(BASE);
        lab.assert_converged(BASE);
        assert_base_works(lab);
    });
}
