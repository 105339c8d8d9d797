//! Frames for everyone: each gets one copy, the sender gets none.
//!
//! A switch with five hosts of its own and three further switches, each with a host behind it.

use std::collections::{BTreeMap, BTreeSet};

use integration_tests::{
    lab::{Lab, Space, Station, run_test},
    traffic::ping,
    wire::{Frame, Wire},
};

use crate::ip;

/// Hosts on the switch, then those behind the others.
const HOSTS: [&str; 8] = ["n1", "n2", "n3", "n4", "n5", "m1", "m2", "m3"];
/// A station that does not exist.
const NOBODY: &str = "02:00:00:00:99:99";

/// The topology, with settings for the ports of the switch in the middle. A host in `wires` is
/// the test's own, behind an interface of its name with this hook.
fn topology(ports: &str, wires: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: flood }}\nspec:\n  cubes:\n    core: {{ bridge: {{ ports: {{ {ports} }} }} }}\n"
    );
    let mut links = String::from("  links:\n");
    for number in 1..=3 {
        text += &format!("    s{number}: {{ bridge: {{}} }}\n");
        links += &format!(
            "    - [core:m{number}, s{number}:core]\n    - [s{number}:m{number}, m{number}/eth0]\n"
        );
    }
    let mut namespaces = String::from("  namespaces:\n");
    let mut interfaces = String::from("  interfaces:\n");
    for (index, host) in HOSTS.iter().enumerate() {
        match wires.iter().find(|(name, _)| name == host) {
            Some((_, hook)) => {
                interfaces += &format!("    w{host}: {{ hook: {hook} }}\n");
                links += &format!("    - [core:{host}, w{host}]\n");
            }
            None => {
                let number = index + 1;
                namespaces += &format!(
                    "    {host}: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.{number}/24, 'fd00::{number}/64'] }} }} }}\n"
                );
                if host.starts_with('n') {
                    links += &format!("    - [core:{host}, {host}/eth0]\n");
                }
            }
        }
    }
    if wires.is_empty() {
        interfaces.clear();
    }
    format!("{text}{namespaces}{interfaces}{links}")
}

#[test]
fn everyone_gets_one_copy() {
    run_test(|lab| {
        lab.apply(&topology("", &[]));
        for from in ["n1", "n5", "m2"] {
            check(lab, from, &HOSTS);
        }
        for from in ["n2", "m1"] {
            assert_eq!(ping(&lab.space(from), ip("fd00::8")), 64);
        }
    });
}

#[test]
fn isolated_ports_get_none_from_each_other() {
    run_test(|lab| {
        let isolated = ["n1", "n2", "m1"];
        lab.apply(&topology(
            &isolated
                .map(|port| format!("{port}: {{ isolated: true }}"))
                .join(", "),
            &[],
        ));
        let others: Vec<_> = HOSTS
            .into_iter()
            .filter(|host| !isolated.contains(host))
            .collect();
        for from in isolated {
            check(lab, from, &others);
        }
        check(lab, "n3", &HOSTS);
    });
}

#[test]
fn from_and_to_an_interface_on_xdp() {
    run_test(|lab| {
        let _n1 = Station::for_xdp("n1", "wn1", &["10.0.0.1/24", "fd00::1/64"]);
        let _n2 = Station::for_xdp("n2", "wn2", &["10.0.0.2/24", "fd00::2/64"]);
        lab.apply(&topology("", &[("n1", "xdp"), ("n2", "xdp")]));
        for from in ["n1", "n3", "m3"] {
            check(lab, from, &HOSTS);
        }
        assert_eq!(ping(&lab.space("n1"), ip("fd00::8")), 64);
        lab.pcn("destroy --yes flood").expect(0);
    });
}

/// Sends to all, and to an unknown station; sees what comes where.
fn check(lab: &Lab, from: &str, expected: &[&str]) {
    let spaces: BTreeMap<&str, Space> = HOSTS.iter().map(|host| (*host, lab.space(host))).collect();
    let sender = &spaces[from];
    sender
        .run(&format!(
            "ip neigh replace 10.0.0.99 lladdr {NOBODY} dev eth0"
        ))
        .expect(0);
    sender
        .run("ip neigh replace fd00::99 lladdr 02:00:00:00:99:99 dev eth0")
        .expect(0);
    for target in ["10.0.0.255", "10.0.0.99", "fd00::99"] {
        let wires: BTreeMap<&str, Wire> = spaces
            .iter()
            .map(|(host, space)| (*host, space.wire()))
            .collect();
        let own = if target.contains(':') {
            ip("::")
        } else {
            ip("0.0.0.0")
        };
        let socket = sender.udp(own, 0);
        socket.set_broadcast(true).expect("a socket can broadcast");
        // The last of several: when it is there, all copies of the others are.
        let texts = ["one", "two", "three"]
            .map(|text| format!("{text} from {from} to {target}").into_bytes());
        for text in &texts {
            socket
                .send_to(text, (ip(target), 9))
                .expect("a datagram can be sent");
        }
        let mut copies: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (host, wire) in &wires {
            let mut frames = if *host != from && expected.contains(host) {
                wire.collect_until(&format!("the last datagram at {host}"), |frame| {
                    carries(frame, &texts[2])
                })
            } else {
                Vec::new()
            };
            frames.extend(wire.drain());
            let count = |text: &Vec<u8>| {
                frames
                    .iter()
                    .filter(|frame| !frame.outgoing && carries(frame, text))
                    .count()
            };
            copies.insert(host, texts.iter().map(count).collect());
        }
        let received: BTreeSet<&str> = copies
            .iter()
            .filter(|(_, counts)| counts.iter().any(|count| *count > 0))
            .map(|(host, _)| *host)
            .collect();
        let wanted: BTreeSet<&str> = expected
            .iter()
            .copied()
            .filter(|host| *host != from)
            .collect();
        assert_eq!(received, wanted, "from {from} to {target}: {copies:?}");
        for host in &wanted {
            assert_eq!(
                copies[host],
                [1, 1, 1],
                "copies at {host}, from {from} to {target}"
            );
        }
    }
}

fn carries(frame: &Frame, text: &[u8]) -> bool {
    frame
        .ip()
        .is_some_and(|ip| ip.segment.get(8..) == Some(text))
}
