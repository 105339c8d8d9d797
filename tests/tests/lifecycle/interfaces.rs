//! Interfaces of the machine that come late, go, and come again.

use integration_tests::{
    command::run,
    lab::{Lab, Station, run_test},
    traffic::{no_ping, ping},
};

use crate::{addresses, ip};

fn topology(hook: &str) -> String {
    format!(
        "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: wires }}
spec:
  namespaces:
    h: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24, 'fd00::1/64'] }} }} }}
  interfaces: {{ wire0: {{ hook: {hook}, through: [shield] }} }}
  cubes:
    br: {{ bridge: {{}} }}
    shield: {{ ddosMitigator: {{ sources: [198.51.100.0/24] }} }}
  links: [[br:h, h/eth0], [br:w, wire0]]
"
    )
}

/// Always the same one, so that nobody's memory of it is wrong.
fn station() -> Station {
    let station = Station::for_xdp("s", "wire0", &["10.0.0.2/24", "fd00::2/64"]);
    station
        .run("ip link set eth0 address 02:00:00:00:00:02")
        .expect(0);
    station
}

fn assert_reaches(lab: &Lab) {
    assert_eq!(ping(&lab.space("h"), ip("10.0.0.2")), 64);
    assert_eq!(ping(&lab.space("s"), ip("fd00::1")), 64);
}

#[test]
fn pending_until_it_appears() {
    run_test(|lab| pending(lab, &topology("tc")));
}

#[test]
fn pending_until_it_appears_on_xdp() {
    run_test(|lab| pending(lab, &topology("xdp")));
}

fn pending(lab: &Lab, text: &str) {
    let plan = lab.plan_json(text);
    assert!(
        addresses(&plan["pending"]).contains(&"interface/wire0"),
        "{plan}"
    );
    lab.apply(text);
    lab.assert_converged(text);
    let show = lab.show("wires");
    assert_eq!(show["interfaces"]["wire0"]["state"], "pending", "{show}");

    let station = station();
    no_ping(&lab.space("h"), ip("10.0.0.2"));
    let plan = lab.plan(text).expect(2);
    assert!(plan.stdout.contains("wire0"), "{plan}");
    lab.apply(text);
    lab.assert_converged(text);
    assert_reaches(lab);
    let show = lab.show("wires");
    assert_eq!(show["interfaces"]["wire0"]["state"], "up", "{show}");
    lab.pcn("destroy --yes wires").expect(0);
    drop(station);
}

#[test]
fn made_anew() {
    run_test(|lab| anew(lab, &topology("tc")));
}

#[test]
fn made_anew_on_xdp() {
    run_test(|lab| anew(lab, &topology("xdp")));
}

fn anew(lab: &Lab, text: &str) {
    let first = station();
    lab.apply(text);
    assert_reaches(lab);
    drop(first);
    // It is gone: what depends on it waits.
    let plan = lab.plan_json(text);
    assert!(
        addresses(&plan["pending"]).contains(&"interface/wire0"),
        "{plan}"
    );
    let station = station();
    // Another interface of the same name.
    let plan = lab.plan_json(text);
    assert!(
        addresses(&plan["drift"])
            .iter()
            .any(|address| address.contains("wire0")),
        "{plan}"
    );
    lab.plan(text).expect(2);
    lab.apply(text);
    lab.assert_converged(text);
    assert_reaches(lab);
    // And after an apply while it was gone.
    drop(station);
    lab.apply(text);
    lab.assert_converged(text);
    let station = self::station();
    lab.plan(text).expect(2);
    lab.apply(text);
    lab.assert_converged(text);
    assert_reaches(lab);
    lab.pcn("destroy --yes wires").expect(0);
    drop(station);
}

#[test]
fn destroyed_after_its_interface_went() {
    run_test(|lab| {
        let station = station();
        lab.apply(&topology("xdp"));
        assert_reaches(lab);
        drop(station);
        lab.pcn("destroy --yes wires").expect(0);
        assert!(lab.ids().is_empty());
        // Nothing of it is in the way of a namesake.
        run("ip link add wire0 type veth peer name wire9").expect(0);
        run("ip link delete wire0").expect(0);
    });
}
