//! Four routers change their routes at once, under load.
//!
//! ```text
//!        r2
//!       /  \
//! ─ r1 ─    ─ r4 ─     old: r1 r2 r3 r4, and back r4 r3 r2 r1
//!       \  /           new: r1 r3 r2 r4, and back r4 r2 r3 r1
//!        r3
//! ```
//!
//! Both ways have four routers. A packet that meets the old routes of one router and the new
//! ones of another takes three, or goes in circles between `r2` and `r3` until it is dropped.

use integration_tests::lab::run_test;

use super::{Load, Pair, changes, spaces, stations};

/// Changes, see [`changes`].
const SWAPS: usize = 60;
/// Packets a second, all streams together.
const RATE: u64 = 40_000;
/// What is left of 64 after four routers.
const HOPS: u8 = 60;

/// The routes of a router: to the left network and to the right one.
fn routes(left: &str, right: &str) -> String {
    let route = |network: &str, via: &str| match via {
        "" => String::new(),
        via => format!(
            "{{ to: 10.{network}.0.0/24, via: 10.{via} }}, {{ to: 'fd00:{network}::/64', via: 'fd00:{}' }},",
            via.replace(".0.", "::")
        ),
    };
    format!("[{}{}]", route("1", left), route("2", right))
}

fn topology(old: bool) -> String {
    // Next hops, by the routers at both ends of a link.
    let (r1, r2, r3, r4) = match old {
        true => (
            routes("", "12.0.2"),
            routes("12.0.1", "23.0.3"),
            routes("23.0.2", "34.0.4"),
            routes("34.0.3", ""),
        ),
        false => (
            routes("", "13.0.3"),
            routes("23.0.3", "24.0.4"),
            routes("13.0.1", "23.0.2"),
            routes("24.0.2", ""),
        ),
    };
    let ports = |ports: &[(&str, &str, u8)]| -> String {
        ports
            .iter()
            .map(|(name, network, host)| {
                format!("{name}: {{ addresses: [10.{network}.0.{host}/24, 'fd00:{network}::{host}/64'] }}, ")
            })
            .collect()
    };
    let host = |name: &str, network: u8, router: u8| {
        format!(
            "    {name}: {{ interfaces: {{ eth0: {{ addresses: [10.{network}.0.11/24, 'fd00:{network}::11/64'], \
             routes: [{{ to: default, via: 10.{network}.0.{router} }}, {{ to: default, via: 'fd00:{network}::{router}' }}] }} }} }}\n"
        )
    };
    format!(
        "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: routes }}
spec:
  namespaces:
{}{}  interfaces: {{ wire1: {{ hook: xdp }}, wire2: {{ hook: xdp }} }}
  cubes:
    br1: {{ bridge: {{}} }}
    br2: {{ bridge: {{}} }}
    r1: {{ router: {{ ports: {{ {} }}, routes: {r1} }} }}
    r2: {{ router: {{ ports: {{ {} }}, routes: {r2} }} }}
    r3: {{ router: {{ ports: {{ {} }}, routes: {r3} }} }}
    r4: {{ router: {{ ports: {{ {} }}, routes: {r4} }} }}
  links:
    - [br1:h, h1/eth0]
    - [br1:s, wire1]
    - [br1:r, r1:lan]
    - [r1:r2, r2:r1]
    - [r1:r3, r3:r1]
    - [r2:r3, r3:r2]
    - [r2:r4, r4:r2]
    - [r3:r4, r4:r3]
    - [br2:r, r4:lan]
    - [br2:h, h2/eth0]
    - [br2:s, wire2]
",
        host("h1", 1, 1),
        host("h2", 2, 4),
        ports(&[("lan", "1", 1), ("r2", "12", 1), ("r3", "13", 1)]),
        ports(&[("r1", "12", 2), ("r3", "23", 2), ("r4", "24", 2)]),
        ports(&[("r1", "13", 3), ("r2", "23", 3), ("r4", "34", 3)]),
        ports(&[("lan", "2", 4), ("r2", "24", 4), ("r3", "34", 4)]),
    )
}

#[test]
fn four_routers_at_once() {
    run_test(|lab| {
        let (s1, s2) = stations(
            &["10.1.0.12/24", "fd00:1::12/64"],
            &["10.2.0.12/24", "fd00:2::12/64"],
        );
        for (station, v4, v6) in [
            (&s1, "10.1.0.1", "fd00:1::1"),
            (&s2, "10.2.0.4", "fd00:2::4"),
        ] {
            station
                .run(&format!("ip route add default via {v4}"))
                .expect(0);
            station
                .run(&format!("ip -6 route add default via {v6}"))
                .expect(0);
        }
        // All neighbours are known on both ways before.
        let (old, new) = (topology(true), topology(false));
        lab.apply(&new);
        let (own, h1, h2) = (lab.space(""), lab.space("h1"), lab.space("h2"));
        let pairs = [
            Pair {
                name: "tc",
                left: &h1,
                right: &h2,
                addresses: [("10.1.0.11", "10.2.0.11"), ("fd00:1::11", "fd00:2::11")],
            },
            Pair {
                name: "xdp",
                left: &s1,
                right: &s2,
                addresses: [("10.1.0.12", "10.2.0.12"), ("fd00:1::12", "fd00:2::12")],
            },
        ];
        pairs.iter().for_each(Pair::meet);
        lab.apply(&old);
        pairs.iter().for_each(Pair::meet);
        let ways: Vec<_> = pairs.iter().flat_map(Pair::ways).collect();
        let mut load = Load::start(&ways, spaces(&own, [&h1, &h2, &s1, &s2]), RATE);
        let swaps = changes(SWAPS);
        for turn in 0..swaps / 2 {
            load.mark(format!("swap {turn}"));
            lab.apply(&new);
            load.mark(format!("swap {turn} back"));
            lab.apply(&old);
        }
        println!("Four routers change their routes at once:");
        load.end(swaps, &[HOPS]).assert_nothing_lost();
        lab.assert_converged(&old);
    });
}
