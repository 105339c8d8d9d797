//! Topologies that several rows measure, as the `spec` of each. All of them have one sender's network and one receiver's:
//! 10.0.1.0/24 and 10.0.2.0/24, and 20.0.0.0/8 behind the receiver; with IPv6 2001:a00:102::/64, fd00:2::/64 and 2001:1400::/24.

use ebpf_abi::bench::FRAME;
use integration_tests::{
    packet::{Packet, ether, ipv4, ipv6, payload, udp},
    test_run::Hook,
};

use super::word;
use crate::rig::{
    frames::{FAR, Family, Flow, NEAR, RECEIVER, SENDER, mac, v6},
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

/// Addresses of a family on both sides of what is measured: its own with their length, and the neighbors'.
pub struct Sides {
    /// Towards the sender: its own, the sender's.
    pub near: [&'static str; 2],
    /// Towards the receiver: its own, the receiver's.
    pub far: [&'static str; 2],
    /// All that is behind the receiver.
    pub behind: &'static str,
}

/// Those of a family.
pub fn sides(family: Family) -> Sides {
    match family {
        Family::V4 => Sides {
            near: ["10.0.1.1/24", "10.0.1.2"],
            far: ["10.0.2.1/24", "10.0.2.2"],
            behind: "20.0.0.0/8",
        },
        Family::V6 => Sides {
            // The neighbor is who sends: what stands for `SOURCE`.
            near: ["2001:a00:102::ff/64", "2001:a00:102::1"],
            far: ["fd00:2::1/64", "fd00:2::2"],
            behind: "2001:1400::/24",
        },
    }
}

/// Settings of a router with one route, and stacks on its ports.
pub fn router(inside: &str, outside: &str) -> String {
    router_of(Family::V4, inside, outside)
}

/// The same of a family.
pub fn router_of(family: Family, inside: &str, outside: &str) -> String {
    let Sides { far, behind, .. } = sides(family);
    let routes = format!("[{{ to: '{behind}', via: '{}' }}]", far[1]);
    router_with(family, inside, outside, &routes)
}

/// The same with other routes.
pub fn router_with(family: Family, inside: &str, outside: &str, routes: &str) -> String {
    let Sides { near, far, .. } = sides(family);
    format!(
        "router: {{ ports: {{ a: {{ addresses: ['{}'], mac: '{}', through: [{inside}] }}, \
         b: {{ addresses: ['{}'], mac: '{}', through: [{outside}] }} }}, \
         neighbors: [{{ address: '{}', mac: '{}', port: b }}, {{ address: '{}', mac: '{}', port: a }}], \
         routes: {routes} }}",
        near[0],
        mac(NEAR),
        far[0],
        mac(FAR),
        far[1],
        mac(RECEIVER),
        near[1],
        mac(SENDER),
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
    routed_of(Family::V4, flow)
}

/// The same of a family.
pub fn routed_of(family: Family, flow: &Flow) -> Packet {
    let [from, to] = flow.ports;
    let link = ether(FAR, RECEIVER);
    match family {
        Family::V4 => {
            let ip = ipv4(flow.source.into(), flow.destination.into()).ttl(63);
            link / ip / udp(from, to) / payload(FRAME - 42)
        }
        Family::V6 => {
            let ip = ipv6(v6(flow.source), v6(flow.destination)).hop_limit(63);
            link / ip / udp(from, to) / payload(FRAME - 62)
        }
    }
}
