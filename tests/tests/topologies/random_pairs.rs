//! Random pairs of topologies on the real kernel: from one to the other and back. What must reach
//! each other does, and a second plan has nothing to do.
//!
//! The seed is printed; `PCN_TEST_SEED` starts from another one, `PCN_TEST_PAIRS` asks for more.

use std::{env, net::IpAddr};

use integration_tests::{
    command::run,
    lab::{Lab, run_test},
    traffic::ping,
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use topology_schema::{Cube, Endpoint, Name, ValidTopology};

use crate::shape::{Shape, shape};

/// Pairs, unless `PCN_TEST_PAIRS` says otherwise.
const PAIRS: u64 = 8;
/// Interfaces of the machine that some of the topologies name; others of those are missing.
const INTERFACES: [&str; 6] = ["wire0", "wire2", "wire3", "wire7", "wan0", "alone0"];

fn number(variable: &str, usual: u64) -> u64 {
    env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

#[test]
fn from_one_to_the_other_and_back() {
    run_test(|lab| {
        let seed = number("PCN_TEST_SEED", 1);
        for interface in INTERFACES {
            run(&format!(
                "ip link add {interface} type veth peer name {interface}-far"
            ))
            .expect(0);
            run(&format!("ip link set {interface} up")).expect(0);
            run(&format!("ip link set {interface}-far up")).expect(0);
        }
        let mut checks = 0;
        for pair in 0..number("PCN_TEST_PAIRS", PAIRS) {
            println!("PCN_TEST_SEED={} PCN_TEST_PAIRS=1", seed + pair);
            let (a, b) = random_pair(seed + pair);
            for shape in [&a, &b, &a] {
                let text = shape.yaml();
                lab.apply(&text);
                checks += check(lab, &shape.topology());
                lab.assert_converged(&text);
            }
            lab.pcn("destroy --yes random").expect(0);
            assert!(lab.ids().is_empty(), "{:?}", lab.ids());
        }
        println!("{checks} pings were answered");
        for interface in INTERFACES {
            run(&format!("ip link delete {interface}")).expect(0);
        }
    });
}

fn random_pair(seed: u64) -> (Shape, Shape) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut next = || {
        let tree = shape().new_tree(&mut runner).expect("a shape");
        tree.current()
    };
    (next(), next())
}

/// Hosts on one bridge reach each other, and the router there; says how many pings were sent.
fn check(lab: &Lab, topology: &ValidTopology) -> usize {
    let spec = &topology.topology().spec;
    let mut pings = 0;
    for (name, cube) in &spec.cubes {
        if !matches!(**cube, Cube::Bridge(_)) {
            continue;
        }
        let stations: Vec<_> = spec
            .links
            .iter()
            .filter_map(|link| {
                let [a, b] = link.endpoints();
                let is_here =
                    |end: &Endpoint| matches!(end, Endpoint::Port { cube, .. } if cube == name);
                match (is_here(a), is_here(b)) {
                    (true, false) => Some(b),
                    (false, true) => Some(a),
                    _ => None,
                }
            })
            .filter_map(|end| Some((end, addresses(topology, end)?)))
            .collect();
        // A ring from each host to the next station.
        for (at, (end, own)) in stations.iter().enumerate() {
            let Endpoint::Namespace { namespace, .. } = end else {
                continue;
            };
            let (_, others) = &stations[(at + 1) % stations.len()];
            for address in others.iter().filter(|address| !own.contains(address)) {
                ping(&lab.space(namespace.as_str()), *address);
                pings += 1;
            }
        }
    }
    pings
}

/// The addresses of a namespace's interface or of a router's port.
fn addresses(topology: &ValidTopology, end: &Endpoint) -> Option<Vec<IpAddr>> {
    let spec = &topology.topology().spec;
    let router = |cube: &Name, port: &Name| match &**spec.cubes.get(cube)? {
        Cube::Router(router) => Some(&router.ports.get(port)?.addresses),
        _ => None,
    };
    let addresses = match end {
        Endpoint::Namespace {
            namespace,
            interface,
        } => {
            &spec
                .namespaces
                .get(namespace)?
                .interfaces
                .get(interface)?
                .addresses
        }
        Endpoint::Port { cube, port } => router(cube, port)?,
        Endpoint::Host(_) => return None,
    };
    Some(addresses.iter().map(|address| address.address()).collect())
}
