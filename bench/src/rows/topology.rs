//! Topologies that several rows measure, as the `spec` of each. All of them have one sender's network and one receiver's:
//! 10.0.1.0/24 and 10.0.2.0/24, and 20.0.0.0/8 behind the receiver.

use ebpf_abi::bench::FRAME;
use integration_tests::{
    packet::{Packet, ether, ipv4, payload, udp},
    test_run::Hook,
};

use super::word;
use crate::rig::{
    frames::{FAR, Flow, NEAR, RECEIVER, mac},
    path::Path,
};

/// The sender.
pub const SOURCE: [u8; 4] = [10, 0, 1, 2];
/// A host behind the receiver.
pub const REMOTE: [u8; 4] = [20, 0, 0, 1];
/// The router's address towards the receiver.
pub const OUTSIDE: [u8; 4] = [10, 0, 2, 1];

/// From the sender to the remote host.
pub fn flow() -> Flow {
    Flow::new(SOURCE, REMOTE)
}

/// Puts the hook of both interfaces of a way in front.
pub fn on(path: &Path, hook: Hook, rest: &str) -> String {
    let (input, output, hook) = (path.input(), path.output(), word(hook));
    format!(
        "  interfaces: {{ {input}: {{ hook: {hook} }}, {output}: {{ hook: {hook} }} }}\n{}",
        rest.replace("INPUT", &input).replace("OUTPUT", &output)
    )
}

/// One cube with the ports `a` and `b`, between the interfaces.
pub fn one(path: &Path, hook: Hook, cube: &str) -> String {
    let rest = format!("  cubes: {{ c: {{ {cube} }} }}\n  links: [[c:a, INPUT], [c:b, OUTPUT]]\n");
    on(path, hook, &rest)
}

/// Settings of a router with one route, and stacks on its ports.
pub fn router(inside: &str, outside: &str) -> String {
    router_with(inside, outside, "[{ to: 20.0.0.0/8, via: 10.0.2.2 }]")
}

/// The same with other routes.
pub fn router_with(inside: &str, outside: &str, routes: &str) -> String {
    format!(
        "router: {{ ports: {{ a: {{ addresses: [10.0.1.1/24], mac: '{}', through: [{inside}] }}, \
         b: {{ addresses: [10.0.2.1/24], mac: '{}', through: [{outside}] }} }}, \
         neighbors: [{{ address: 10.0.2.2, mac: '{}', port: b }}, {{ address: 10.0.1.2, mac: '{}', port: a }}], \
         routes: {routes} }}",
        mac(NEAR),
        mac(FAR),
        mac(RECEIVER),
        mac(crate::rig::frames::SENDER),
    )
}

/// A router with further cubes, `name: { kind: ... }` each.
pub fn router_and(path: &Path, hook: Hook, router: &str, others: &str) -> String {
    let rest = format!(
        "  cubes: {{ c: {{ {router} }}, {others} }}\n  links: [[c:a, INPUT], [c:b, OUTPUT]]\n"
    );
    on(path, hook, &rest)
}

/// What a router makes of a flow's frame.
pub fn routed(flow: &Flow) -> Packet {
    let [from, to] = flow.ports;
    ether(FAR, RECEIVER)
        / ipv4(flow.source.into(), flow.destination.into()).ttl(63)
        / udp(from, to)
        / payload(FRAME - 42)
}
