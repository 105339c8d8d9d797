//! Topologies with real traffic: applied by `pcn`, looked at on the wire, removed without a trace.

mod examples;
mod firewall;
mod flood;
mod hairpin;
mod multicast;
mod multipath;
mod nat;
mod nat64;
mod neighbors;
mod random_pairs;
mod router;
mod routes_from;
mod services;
mod spanning_tree;
mod stacks;
mod traffic;
mod vlans;
mod xdp;

#[path = "../../../reconciler/tests/support/shape.rs"]
#[expect(dead_code, reason = "its host in memory is for tests without a kernel")]
mod shape;

use std::net::IpAddr;

use integration_tests::examples::text as example;

/// An address.
fn ip(text: &str) -> IpAddr {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}
