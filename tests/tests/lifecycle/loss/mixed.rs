//! Changes of several cubes at once, under load: each packet meets the old graph or the new one.
//!
//! In all arrangements here a mixture of the two is visible: as a packet that neither lets
//! through, as one that is counted twice or not at all, as one that came over another number of
//! routers, or as one that went in circles and is lost.

use integration_tests::{
    lab::{Lab, Space, run_test},
    stream::Way,
};

use super::{Load, Outcome, Pair, changes, spaces, stations};
use crate::ip;

/// Changes of each arrangement, see [`changes`].
const SWAPS: usize = 60;
/// Packets a second, all streams together.
const RATE: u64 = 80_000;

/// Where the filter is, and which of two filters blocks what.
#[derive(Clone, Copy)]
struct Place {
    /// On the ports of the left bridge, else on those of the right one.
    left: bool,
    /// On both.
    both: bool,
}

/// Two bridges. Whatever goes from one side to the other enters at two ports: one that leads to a
/// host, and one that leads to the other bridge. One of the two filters, depending on the side.
/// The trunk counts with `all`, and with `once` at one of its two ends.
fn filters(place: Place, sources: [&str; 2]) -> String {
    let stacks = |here: bool, cube: &str| match here || place.both {
        true => (cube.to_owned(), format!("once, {cube}")),
        false => (String::new(), String::new()),
    };
    let [left, right] = sources;
    let (host1, trunk1) = stacks(place.left, "shield1");
    let (host2, trunk2) = stacks(!place.left, "shield2");
    let trunk1 = format!("all, {trunk1}");
    format!(
        "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: mixed }}
spec:
  namespaces:
    h1: {{ interfaces: {{ eth0: {{ addresses: [10.1.0.1/24, 10.1.0.66/24, 'fd00:1::66/64', 'fd00:1::a1/64'] }} }} }}
    h2: {{ interfaces: {{ eth0: {{ addresses: [10.1.0.2/24, 10.1.0.67/24, 'fd00:1::67/64', 'fd00:1::a2/64'] }} }} }}
  interfaces: {{ wire1: {{ hook: xdp }}, wire2: {{ hook: xdp }} }}
  cubes:
    br1:
      bridge:
        ports: {{ h: {{ through: [{host1}] }}, s: {{ through: [{host1}] }}, x: {{ through: [{trunk1}] }} }}
    br2:
      bridge:
        ports: {{ h: {{ through: [{host2}] }}, s: {{ through: [{host2}] }}, x: {{ through: [{trunk2}] }} }}
    shield1: {{ ddosMitigator: {{ sources: [{left}] }} }}
    shield2: {{ ddosMitigator: {{ sources: [{right}] }} }}
    all: {{ helloTransparent: {{}} }}
    once: {{ helloTransparent: {{}} }}
  links:
    - [br1:h, h1/eth0]
    - [br1:s, wire1]
    - [br2:h, h2/eth0]
    - [br2:s, wire2]
    - [br1:x, br2:x]
"
    )
}

/// All of the sources that must never arrive.
const BAD: &str = "10.1.0.64/29, 'fd00:1::60/124'";
/// Nobody.
const NOBODY: &str = "198.51.100.0/24";

/// Hosts and stations know each other for good: who is blocked cannot ask who has an address.
fn introduce(spaces: &[&Space], addresses: &[&[&str]]) {
    for (at, space) in spaces.iter().enumerate() {
        for (other, addresses) in spaces
            .iter()
            .zip(addresses)
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, pair)| pair)
        {
            let mac = other
                .mac("eth0")
                .map(|byte| format!("{byte:02x}"))
                .join(":");
            for address in *addresses {
                space
                    .run(&format!(
                        "ip neigh replace {address} lladdr {mac} dev eth0 nud permanent"
                    ))
                    .expect(0);
            }
        }
    }
}

/// Streams of sources that are blocked: all that arrives met neither filter.
fn judge(mut outcome: Outcome) -> Outcome {
    for row in &mut outcome.rows {
        if row.name.contains("blocked") {
            row.mixed = row.tally.sent - row.tally.lost;
            row.tally.lost = 0;
        }
    }
    outcome
}

#[test]
fn a_filter_moves() {
    run_test(|lab| {
        let (left, right) = (
            ["10.1.0.1", "fd00:1::a1", "10.1.0.3", "fd00:1::a3"],
            ["10.1.0.2", "fd00:1::a2", "10.1.0.4", "fd00:1::a4"],
        );
        let (s1, s2) = stations(
            &[
                "10.1.0.3/24",
                "10.1.0.68/24",
                "fd00:1::68/64",
                "fd00:1::a3/64",
            ],
            &[
                "10.1.0.4/24",
                "10.1.0.69/24",
                "fd00:1::69/64",
                "fd00:1::a4/64",
            ],
        );
        let old = filters(
            Place {
                left: true,
                both: false,
            },
            [BAD, BAD],
        );
        let new = filters(
            Place {
                left: false,
                both: false,
            },
            [BAD, BAD],
        );
        lab.apply(&old);
        let (own, h1, h2) = (lab.space(""), lab.space("h1"), lab.space("h2"));
        introduce(
            &[&h1, &h2, &s1, &s2],
            &[&left[..2], &right[..2], &left[2..], &right[2..]],
        );
        let pairs = pairs([&h1, &h2, &s1, &s2]);
        pairs.iter().for_each(Pair::meet);
        let mut ways: Vec<_> = pairs.iter().flat_map(Pair::ways).collect();
        ways.extend(blocked([&h1, &h2, &s1, &s2]));
        let hosts = spaces(&own, [&h1, &h2, &s1, &s2]);

        println!("A filter moves from one bridge to the other, as an attachment:");
        let mut load = Load::start(&ways, hosts.clone(), RATE);
        swap(lab, &mut load, &old, &new);
        judge(load.end(changes(SWAPS), &[64])).assert_nothing_lost();
        assert_counted_once(lab);

        println!("A filter moves from one bridge to the other, as a rule:");
        let place = Place {
            left: true,
            both: true,
        };
        let (old, new) = (filters(place, [BAD, NOBODY]), filters(place, [NOBODY, BAD]));
        lab.apply(&old);
        let mut load = Load::start(&ways, hosts, RATE);
        swap(lab, &mut load, &old, &new);
        judge(load.end(changes(SWAPS), &[64])).assert_nothing_lost();
        lab.assert_converged(&old);
    });
}

/// Applies one and the other in turn, and ends with the first.
fn swap(lab: &Lab, load: &mut Load<'_>, old: &str, new: &str) {
    for turn in 0..changes(SWAPS) / 2 {
        load.mark(format!("swap {turn}"));
        lab.apply(new);
        load.mark(format!("swap {turn} back"));
        lab.apply(old);
    }
}

fn pairs<'a>([h1, h2, s1, s2]: [&'a Space; 4]) -> [Pair<'a>; 2] {
    [
        Pair {
            name: "tc",
            left: h1,
            right: h2,
            addresses: [("10.1.0.1", "10.1.0.2"), ("fd00:1::a1", "fd00:1::a2")],
        },
        Pair {
            name: "xdp",
            left: s1,
            right: s2,
            addresses: [("10.1.0.3", "10.1.0.4"), ("fd00:1::a3", "fd00:1::a4")],
        },
    ]
}

/// Streams from the hosts' other addresses, one of each family.
fn blocked<'a>([h1, h2, s1, s2]: [&'a Space; 4]) -> Vec<(String, Way<'a>)> {
    [
        ("tc v4 there, blocked", h1, h2, "10.1.0.66", "10.1.0.2"),
        ("tc v6 back, blocked", h2, h1, "fd00:1::67", "fd00:1::a1"),
        ("xdp v4 back, blocked", s2, s1, "10.1.0.69", "10.1.0.3"),
        ("xdp v6 there, blocked", s1, s2, "fd00:1::68", "fd00:1::a4"),
    ]
    .map(|(name, from, to, source, target)| {
        let (source, target) = (ip(source), ip(target));
        let way = Way {
            from,
            to,
            source,
            target,
        };
        (name.to_owned(), way)
    })
    .to_vec()
}

/// What crossed the trunk met `once` at exactly one of its ends.
fn assert_counted_once(lab: &Lab) {
    // With both ends attached again, `show` has both counters.
    lab.apply(&filters(
        Place {
            left: true,
            both: true,
        },
        [BAD, BAD],
    ));
    let show = lab.show("mixed");
    let count = |cube: &str, port: &str| -> u64 {
        ["ingress", "egress"]
            .iter()
            .map(|direction| {
                show["cubes"][cube]["attachments"][port][direction]["rx"]["packets"]
                    .as_u64()
                    .unwrap_or_else(|| panic!("{cube} at {port}: {show}"))
            })
            .sum()
    };
    let (all, left, right) = (
        count("all", "br1:x"),
        count("once", "br1:x"),
        count("once", "br2:x"),
    );
    println!("across the trunk: {all}; counted at its left end: {left}, at its right end: {right}");
    assert!(left > 0 && right > 0);
    assert_eq!(
        all,
        left + right,
        "some packets were counted twice, or not at all"
    );
}
