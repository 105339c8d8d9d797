//! Transparent cubes: on ports and on interfaces, alone and in stacks, in both directions.

use integration_tests::{
    command::run,
    lab::{Lab, Station, run_test},
    traffic::{no_ping, ping},
};
use serde_json::Value;

use crate::ip;

/// What was counted at an attachment in a direction: in, out, dropped.
type Counts = [u64; 3];

/// A cube, where it is attached, and a direction.
type Place<'a> = (&'a str, &'a str, &'a str);

fn counts(show: &Value, (cube, attachment, direction): Place<'_>) -> Counts {
    let counters = &show["cubes"][cube]["attachments"][attachment][direction];
    let number = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{cube} at {attachment}, {direction}: {show}"))
    };
    let drops = counters["drops"]
        .as_object()
        .map(|drops| drops.values().map(number).sum());
    [
        number(&counters["rx"]["packets"]),
        number(&counters["tx"]["packets"]),
        drops.unwrap_or(0),
    ]
}

/// How counts grew while something happened. Hosts say things of their own accord, so places
/// cannot be compared with each other to the packet.
fn growth(lab: &Lab, places: [Place<'_>; 3], work: impl FnOnce()) -> [Counts; 3] {
    let look = || {
        let show = lab.show("t");
        places.map(|place| counts(&show, place))
    };
    let before = look();
    work();
    let mut after = look();
    for (after, before) in after.iter_mut().flatten().zip(before.into_iter().flatten()) {
        *after -= before;
    }
    after
}

#[track_caller]
fn assert_passes([received, sent, dropped]: Counts, at_least: u64) {
    assert!(
        received >= at_least && sent == received && dropped == 0,
        "in {received}, out {sent}, dropped {dropped}"
    );
}

#[track_caller]
fn assert_drops([received, sent, dropped]: Counts, at_least: u64) {
    assert!(
        received >= at_least && sent == 0 && dropped == received,
        "in {received}, out {sent}, dropped {dropped}"
    );
}

/// Three cubes in a stack on a port that leads to `a`, with an action each.
fn on_port(cubes: [&str; 3]) -> String {
    let [x, y, z] = cubes;
    format!(
        "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: t }}
spec:
  namespaces:
    a: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24, 'fd00::1/64'] }} }} }}
    b: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.2/24, 'fd00::2/64'] }} }} }}
  cubes:
    br: {{ bridge: {{ ports: {{ a: {{ through: [x, y, z] }} }} }} }}
    x: {{ helloTransparent: {{ {x} }} }}
    y: {{ helloTransparent: {{ {y} }} }}
    z: {{ helloTransparent: {{ {z} }} }}
  links: [[br:a, a/eth0], [br:b, b/eth0]]
"
    )
}

#[test]
fn a_stack_is_met_from_the_outside_in() {
    run_test(|lab| {
        lab.apply(&on_port([""; 3]));
        let (a, b) = (lab.space("a"), lab.space("b"));
        assert_eq!(ping(&a, ip("10.0.0.2")), 64);
        assert_eq!(ping(&a, ip("fd00::2")), 64);

        let inwards = ["x", "y", "z"].map(|cube| (cube, "br:a", "ingress"));
        let outwards = ["x", "y", "z"].map(|cube| (cube, "br:a", "egress"));
        // The one in the middle drops: who is before it sees the packets, who is behind it none.
        lab.apply(&on_port(["", "ingressAction: drop", ""]));
        let [x, y, z] = growth(lab, inwards, || no_ping(&a, ip("10.0.0.2")));
        assert_passes(x, 3);
        assert_drops(y, 3);
        assert_eq!(z, [0; 3]);

        lab.apply(&on_port(["", "egressAction: drop", ""]));
        let [x, y, z] = growth(lab, outwards, || no_ping(&b, ip("10.0.0.1")));
        assert_passes(z, 3);
        assert_drops(y, 3);
        assert_eq!(x, [0; 3]);

        lab.apply(&on_port([""; 3]));
        assert_eq!(ping(&b, ip("10.0.0.1")), 64);
        lab.assert_converged(&on_port([""; 3]));
    });
}

/// The same cube on several ports, and on an interface of the machine.
const SHARED: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: t }
spec:
  namespaces:
    a: { interfaces: { eth0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } } }
    b: { interfaces: { eth0: { addresses: [10.0.0.2/24, 'fd00::2/64'] } } }
  interfaces: { wire0: { hook: tc, through: [shield, probe] } }
  cubes:
    br: { bridge: { ports: { a: { through: [shield, probe] }, b: { through: [probe] } } } }
    shield: { ddosMitigator: { sources: [10.0.0.66/32, 'fd00::66/128'] } }
    probe: { helloTransparent: {} }
  links: [[br:a, a/eth0], [br:b, b/eth0], [br:w, wire0]]
";

#[test]
fn one_cube_in_several_places() {
    run_test(|lab| {
        shared(
            lab,
            Station::new(
                "s",
                "wire0",
                &["10.0.0.3/24", "10.0.0.66/24", "fd00::66/64", "fd00::3/64"],
            ),
            SHARED,
        )
    });
}

#[test]
fn one_cube_in_several_places_and_on_xdp() {
    run_test(|lab| {
        let station = Station::for_xdp(
            "s",
            "wire0",
            &["10.0.0.3/24", "10.0.0.66/24", "fd00::66/64", "fd00::3/64"],
        );
        shared(lab, station, &SHARED.replace("hook: tc", "hook: xdp"));
    });
}

/// The station's first address of IPv4 and its last of IPv6 are those it uses by default.
fn shared(lab: &Lab, station: Station, text: &str) {
    lab.apply(text);
    lab.assert_converged(text);
    let (a, b) = (lab.space("a"), lab.space("b"));
    for (from, to) in [
        (&a, "10.0.0.2"),
        (&b, "fd00::1"),
        (&*station, "10.0.0.1"),
        (&*station, "fd00::2"),
        (&b, "10.0.0.3"),
    ] {
        assert_eq!(ping(from, ip(to)), 64);
    }
    let places = [
        ("shield", "br:a", "ingress"),
        ("shield", "wire0", "ingress"),
        ("probe", "wire0", "ingress"),
    ];
    for (source, target) in [("10.0.0.66", "10.0.0.1"), ("fd00::66", "fd00::1")] {
        let [elsewhere, shield, _] = growth(lab, places, || {
            let run = station.run(&format!("ping -n -I {source} -i 0.05 -c 3 -W 0.5 {target}"));
            assert!(run.stdout.contains(" 0 received"), "{run}");
        });
        // The echo requests, or the question for the neighbour.
        assert!(shield[2] >= 1, "{shield:?}");
        assert_eq!(elsewhere[2], 0);
    }
    // What leaves meets both, too.
    let places = [
        ("shield", "wire0", "egress"),
        ("probe", "wire0", "egress"),
        ("probe", "br:b", "ingress"),
    ];
    let [shield, probe, ingress] = growth(lab, places, || assert_eq!(ping(&b, ip("10.0.0.3")), 64));
    for place in [shield, probe, ingress] {
        assert_passes(place, 1);
    }
    lab.pcn("destroy --yes t").expect(0);
}

/// The machine's own traffic through an interface that no link names.
fn protected(probe: &str) -> String {
    format!(
        "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: t }}
spec:
  interfaces: {{ wire0: {{ through: [shield, probe] }} }}
  cubes:
    shield: {{ ddosMitigator: {{ sources: [10.0.0.66/32] }} }}
    probe: {{ helloTransparent: {{ {probe} }} }}
"
    )
}

#[test]
fn the_hosts_own_traffic() {
    run_test(|lab| {
        let station = Station::new("s", "wire0", &["10.0.0.3/24", "10.0.0.66/24", "fd00::3/64"]);
        run("ip address add 10.0.0.9/24 dev wire0").expect(0);
        run("ip address add fd00::9/64 dev wire0 nodad").expect(0);
        let host = lab.space("");
        lab.apply(&protected(""));
        assert_eq!(ping(&host, ip("10.0.0.3")), 64);
        assert_eq!(ping(&station, ip("fd00::9")), 64);
        let bad = station.run("ping -n -I 10.0.0.66 -i 0.05 -c 3 -W 0.5 10.0.0.9");
        assert!(bad.stdout.contains(" 0 received"), "{bad}");
        assert!(counts(&lab.show("t"), ("shield", "wire0", "ingress"))[2] >= 1);

        let places = [
            ("probe", "wire0", "egress"),
            ("shield", "wire0", "egress"),
            ("probe", "wire0", "ingress"),
        ];
        lab.apply(&protected("egressAction: drop"));
        let [probe, shield, ingress] = growth(lab, places, || {
            no_ping(&host, ip("10.0.0.3"));
            no_ping(&station, ip("10.0.0.9"));
        });
        // Leaving packets meet the list in reverse: the probe first, and then nobody.
        assert_drops(probe, 6);
        assert_eq!(shield, [0; 3]);
        assert_passes(ingress, 3);
        lab.apply(&protected(""));
        assert_eq!(ping(&host, ip("10.0.0.3")), 64);
        lab.pcn("destroy --yes t").expect(0);
        assert_eq!(ping(&host, ip("fd00::3")), 64);
    });
}

/// The entries of a list: each prefix, and how many packets it has dropped.
fn hits(lab: &Lab) -> Vec<(String, u64)> {
    let show = lab.show("t");
    let entries = show["cubes"]["shield"]["sources"].as_array().expect("it");
    let entries = entries.iter().map(|entry| {
        let prefix = entry["prefix"].as_str().expect("text");
        (
            prefix.to_owned(),
            entry["packets"].as_u64().expect("a number"),
        )
    });
    entries.collect()
}

/// What a list has counted stays with the entries that stay, also when others need more room.
#[test]
fn counters_stay_with_their_entries() {
    run_test(|lab| {
        let station = Station::new("s", "wire0", &["10.0.0.3/24", "10.0.0.66/24"]);
        run("ip address add 10.0.0.9/24 dev wire0").expect(0);
        let bad =
            |more: &str| protected("").replace("10.0.0.66/32", &format!("10.0.0.66/32{more}"));
        let send = || station.run("ping -n -I 10.0.0.66 -i 0.05 -c 3 -W 0.5 10.0.0.9");
        lab.apply(&bad(""));
        assert!(send().stdout.contains(" 0 received"));
        let [(_, before)] = hits(lab)[..] else {
            panic!("one entry: {:?}", hits(lab));
        };
        assert!(before >= 3, "{before}");

        // Another length, in place.
        lab.apply(&bad(", 10.9.0.0/16"));
        let network = ("10.9.0.0/16".to_owned(), 0);
        let host = ("10.0.0.66/32".to_owned(), before);
        assert_eq!(hits(lab), [host.clone(), network.clone()]);

        // More than the table has room for.
        let many: String = (0..2000)
            .map(|number| format!(", 10.8.{}.{}/32", number / 250, number % 250))
            .collect();
        lab.apply(&bad(&many));
        let after = hits(lab);
        assert_eq!(after.len(), 2001);
        assert!(after.contains(&host) && !after.contains(&network));
        send();
        assert!(hits(lab)[0].1 > before);

        // An entry that comes back begins anew.
        lab.apply(&protected("").replace("10.0.0.66/32", "10.9.0.0/16"));
        assert_eq!(hits(lab), [network]);
        lab.apply(&bad(""));
        assert_eq!(hits(lab)[0].1, 0);
        lab.assert_converged(&bad(""));
    });
}
