//! Random topologies, and a host in memory to apply them to.

use std::collections::BTreeSet;

use proptest::prelude::*;
use reconciler::{
    interrupt::Interrupt,
    kernel::fake::FakeKernel,
    reconcile::{Plan, Report, apply, plan},
};
use topology_schema::{InterfaceName, Name, Source, ValidTopology, load};

/// A random topology as text, valid by construction.
///
/// Namespaces hang on bridges, forwarders or hellos; bridges are chained or lead to routers;
/// stacks of transparent cubes sit on ports and on host interfaces, some of which are missing.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    bridges: Vec<BridgeShape>,
    /// Whether the router exists, and which bridges lead to it.
    router: Option<Vec<bool>>,
    /// Whether bridge n leads to bridge n + 1.
    chained: Vec<bool>,
    hook: usize,
    host_stack: Vec<usize>,
    sources: BTreeSet<u8>,
    routes: BTreeSet<u8>,
    hello: bool,
}

#[derive(Clone, Debug)]
struct BridgeShape {
    hosts: u8,
    aging: u8,
    fdb: BTreeSet<u8>,
    isolated: bool,
    stack: Vec<usize>,
    host_interface: bool,
}

const TRANSPARENT: [&str; 3] = ["shield", "pass", "pass-too"];

fn stack() -> impl Strategy<Value = Vec<usize>> {
    Just(vec![0, 1, 2])
        .prop_shuffle()
        .prop_flat_map(|order| (0..3usize).prop_map(move |length| order[..length].to_vec()))
}

fn bridge() -> impl Strategy<Value = BridgeShape> {
    (
        1..4u8,
        1..4u8,
        prop::collection::btree_set(any::<u8>(), 0..3),
        any::<bool>(),
        stack(),
        any::<bool>(),
    )
        .prop_map(
            |(hosts, aging, fdb, isolated, stack, host_interface)| BridgeShape {
                hosts,
                aging,
                fdb,
                isolated,
                stack,
                host_interface,
            },
        )
}

pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    (
        prop::collection::vec(bridge(), 0..4),
        prop::option::of(prop::collection::vec(any::<bool>(), 4)),
        prop::collection::vec(any::<bool>(), 4),
        0..3usize,
        stack(),
        prop::collection::btree_set(any::<u8>(), 0..4),
        prop::collection::btree_set(any::<u8>(), 0..4),
        any::<bool>(),
    )
        .prop_map(
            |(bridges, router, chained, hook, host_stack, sources, routes, hello)| Shape {
                bridges,
                router,
                chained,
                hook,
                host_stack,
                sources,
                routes,
                hello,
            },
        )
}

impl Shape {
    pub(crate) fn topology(&self) -> ValidTopology {
        let source = Source {
            name: "random.yaml".to_owned(),
            text: self.yaml(),
        };
        match load(&source) {
            Ok((topology, _)) => topology,
            Err(problems) => panic!(
                "the generator made a bad topology:\n{}\n{}",
                problems.render(&source),
                source.text
            ),
        }
    }

    pub(crate) fn yaml(&self) -> String {
        let mut spaces = String::new();
        let mut cubes = String::new();
        let mut links = String::new();
        let names = |stack: &[usize]| {
            stack
                .iter()
                .map(|at| TRANSPARENT[*at])
                .collect::<Vec<_>>()
                .join(", ")
        };
        for (b, bridge) in self.bridges.iter().enumerate() {
            let isolated = bridge.isolated;
            let stack = names(&bridge.stack);
            let fdb: Vec<String> = bridge
                .fdb
                .iter()
                .map(|n| format!("{{ mac: '02:00:00:00:{b:02x}:{n:02x}', port: h0 }}"))
                .collect();
            let fdb = fdb.join(", ");
            cubes += &format!(
                "    b{b}: {{ bridge: {{ agingTime: {}m, ports: {{ h0: {{ through: [{stack}], isolated: {isolated} }} }}, \
                 fdb: [{fdb}] }} }}\n",
                bridge.aging
            );
            for h in 0..bridge.hosts {
                spaces += &format!(
                    "    n{b}-{h}: {{ interfaces: {{ eth0: {{ addresses: [10.{b}.0.{}/24, 'fd00:{b}::{}/64'] }} }} }}\n",
                    h + 1,
                    h + 1
                );
                links += &format!("    - [b{b}:h{h}, n{b}-{h}/eth0]\n");
            }
            if bridge.host_interface {
                links += &format!("    - [b{b}:wire, wire{b}]\n");
            }
            if self.chained[b] && b + 1 < self.bridges.len() {
                links += &format!("    - [b{b}:next, b{}:before]\n", b + 1);
            }
        }
        if let Some(attached) = &self.router {
            let mut ports = String::from(
                "out: { addresses: [192.0.2.1/24] }, other: { addresses: [198.18.0.1/24] }",
            );
            for (b, attached) in attached.iter().enumerate().take(self.bridges.len()) {
                if *attached {
                    ports +=
                        &format!(", p{b}: {{ addresses: [10.{b}.0.254/24, 'fd00:{b}::fe/64'] }}");
                    links += &format!("    - [r:p{b}, b{b}:up]\n");
                }
            }
            let routes: Vec<String> = self
                .routes
                .iter()
                .map(|n| {
                    let one = format!("{{ to: 172.16.{n}.0/24, via: 192.0.2.9 }}");
                    // As cheap, dearer, or nothing else.
                    match n % 3 {
                        0 => one,
                        cost => format!(
                            "{one}, {{ to: 172.16.{n}.0/24, via: 198.18.0.9, cost: {cost} }}"
                        ),
                    }
                })
                .collect();
            cubes += &format!(
                "    r: {{ router: {{ ports: {{ {ports} }}, routes: [{}] }} }}\n",
                routes.join(", ")
            );
            links += "    - [r:out, wan0]\n    - [r:other, wire9]\n";
        }
        let sources: Vec<String> = self
            .sources
            .iter()
            .map(|n| format!("198.51.{n}.0/24"))
            .collect();
        cubes += &format!(
            "    shield: {{ ddosMitigator: {{ sources: [{}] }} }}\n",
            sources.join(", ")
        );
        cubes += "    pass: { helloTransparent: {} }\n    pass-too: { helloTransparent: {} }\n";
        if self.hello {
            cubes += "    hi: { hello: {} }\n";
            links += "    - [hi:a, wire7]\n    - [hi:b, wire8]\n";
        }
        let hook = ["tc", "xdp", "xdpGeneric"][self.hook];
        let wan = names(&self.host_stack);
        format!(
            "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: random }}\nspec:\n  namespaces:\n{}  \
             interfaces:\n    wan0: {{ hook: {hook}, through: [{wan}] }}\n    alone0: {{ through: [{wan}] }}\n  cubes:\n{cubes}  links:\n{}",
            if spaces.is_empty() {
                "    lonely: {}\n".to_owned()
            } else {
                spaces
            },
            if links.is_empty() {
                "    []\n".to_owned()
            } else {
                links
            }
        )
    }
}

pub(crate) fn host() -> FakeKernel {
    // `wire1` and `wire8` are missing: what needs them is pending.
    let names = [
        "wire0", "wire2", "wire3", "wire7", "wire9", "wan0", "alone0",
    ];
    let interfaces = names.map(|name| name.parse::<InterfaceName>().expect("a name"));
    FakeKernel::new("random".parse::<Name>().expect("a name"), interfaces)
}

pub(crate) fn applied(kernel: &mut FakeKernel, topology: &ValidTopology) -> Plan {
    let made = plan(kernel, topology).expect("a plan");
    match apply(kernel, &made, &Interrupt::default(), |_, _| ()).expect("an apply") {
        Report::Applied { left } => assert!(left.is_empty(), "clean-up failed: {left:?}"),
        other => panic!("not applied: {other:?}"),
    }
    made
}
