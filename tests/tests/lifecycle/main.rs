//! What happens to a topology over time: changes, drift, failures, other writers.

mod ahead;
mod changes;
mod checks;
mod conditions;
mod confirm;
mod costs;
mod crash;
mod drift;
mod drift_table;
mod faults;
mod foreign;
mod interfaces;
mod large_routes;
mod latency;
mod lists;
mod live;
mod loss;
mod maps;
mod metrics;
mod privilege;
mod queue;
mod race;
mod refused;
mod rule_sets;
mod saved_plan;
mod seeing;
mod watch;

use std::net::IpAddr;

use integration_tests::{
    lab::{Lab, objects::Ids},
    traffic::ping,
};
use serde_json::Value;

/// Two hosts on a switch, one behind a router, and one of everything that has entries.
const BASE: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: live }
spec:
  namespaces:
    h1:
      interfaces:
        eth0:
          addresses: [10.1.0.1/24, 'fd00:1::1/64']
          routes: [{ to: default, via: 10.1.0.254 }, { to: default, via: 'fd00:1::fe' }]
    h2:
      interfaces:
        eth0:
          addresses: [10.1.0.2/24, 'fd00:1::2/64']
          routes: [{ to: default, via: 10.1.0.254 }, { to: default, via: 'fd00:1::fe' }]
    h3:
      interfaces:
        eth0:
          addresses: [10.2.0.1/24, 'fd00:2::1/64']
          routes: [{ to: default, via: 10.2.0.254 }, { to: default, via: 'fd00:2::fe' }]
  cubes:
    br:
      bridge:
        agingTime: 300s
        ports:
          h1: { through: [shield] }
        fdb:
          - { mac: '02:00:00:00:00:99', port: h2 }
    r:
      router:
        ports:
          lan: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'] }
          wan: { addresses: [10.2.0.254/24, 'fd00:2::fe/64'] }
        routes:
          - { to: 10.9.0.0/16, via: 10.2.0.1 }
        neighbors:
          - { address: 10.2.0.77, mac: '02:00:00:00:00:77', port: wan }
    shield: { ddosMitigator: { sources: [198.51.100.0/24] } }
    probe: { helloTransparent: {} }
  links:
    - [br:h1, h1/eth0]
    - [br:h2, h2/eth0]
    - [br:up, r:lan]
    - [r:wan, h3/eth0]
";

/// A text with one part replaced, which must be there.
#[track_caller]
fn edit(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` in {text}");
    text.replace(from, to)
}

/// An address.
fn ip(text: &str) -> IpAddr {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// All hosts of the base reach each other.
fn assert_base_works(lab: &Lab) {
    let (h1, h2) = (lab.space("h1"), lab.space("h2"));
    for (from, to, hops) in [
        (&h1, "10.1.0.2", 64),
        (&h1, "10.2.0.1", 63),
        (&h2, "fd00:1::1", 64),
        (&h2, "fd00:2::1", 63),
    ] {
        assert_eq!(ping(from, ip(to)), hops);
    }
}

/// Ids of everything but the record, which is written anew when the file changes.
fn ids(lab: &Lab) -> Ids {
    let mut ids = lab.ids();
    ids.retain(|path, _| !path.ends_with("/record"));
    ids
}

/// The paths whose ids are not the same in both.
fn differences(before: &Ids, after: &Ids) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .cloned()
        .collect()
}

/// The addresses in a list of a plan's changes.
fn addresses(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|change| change["address"].as_str())
        .collect()
}
