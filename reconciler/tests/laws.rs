//! The laws of the reconciler, on random topologies and a kernel in memory: converge, idempotent,
//! undo, crash, minimal.

use std::collections::BTreeSet;

use proptest::prelude::*;
use reconciler::{
    execute::{Outcome, execute},
    interrupt::Interrupt,
    kernel::{Kernel, fake::FakeKernel},
    observed::Observed,
    plan::{Op, Phase},
    reconcile::{Plan, Report, apply, plan, plan_removal},
};
use topology_schema::{InterfaceName, Name, Source, ValidTopology, load};

/// A random topology as text, valid by construction.
///
/// Namespaces hang on bridges, forwarders or hellos; bridges are chained or lead to routers;
/// stacks of transparent cubes sit on ports and on host interfaces, some of which are missing.
#[derive(Clone, Debug)]
struct Shape {
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

fn shape() -> impl Strategy<Value = Shape> {
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
    fn topology(&self) -> ValidTopology {
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

    fn yaml(&self) -> String {
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
            let mut ports = String::from("out: { addresses: [192.0.2.1/24] }");
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
                .map(|n| format!("{{ to: 172.16.{n}.0/24, via: 192.0.2.9 }}"))
                .collect();
            cubes += &format!(
                "    r: {{ router: {{ ports: {{ {ports} }}, routes: [{}] }} }}\n",
                routes.join(", ")
            );
            links += "    - [r:out, wan0]\n";
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

fn host() -> FakeKernel {
    // `wire1` and `wire8` are missing: what needs them is pending.
    let names = ["wire0", "wire2", "wire3", "wire7", "wan0", "alone0"];
    let interfaces = names.map(|name| name.parse::<InterfaceName>().expect("a name"));
    FakeKernel::new("random".parse::<Name>().expect("a name"), interfaces)
}

fn applied(kernel: &mut FakeKernel, topology: &ValidTopology) -> Plan {
    let made = plan(kernel, topology).expect("a plan");
    match apply(kernel, &made, &Interrupt::default(), |_, _| ()).expect("an apply") {
        Report::Applied { left } => assert!(left.is_empty(), "clean-up failed: {left:?}"),
        other => panic!("not applied: {other:?}"),
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn converge_and_idempotent(before in shape(), after in shape()) {
        let (before, after) = (before.topology(), after.topology());
        let mut kernel = host();
        for topology in [&before, &after, &before] {
            applied(&mut kernel, topology);
            let again = plan(&mut kernel, topology).expect("a plan");
            prop_assert!(again.steps.is_empty(), "steps after an apply: {:#?}", again.steps);
            prop_assert!(again.changes.is_empty(), "changes after an apply: {:#?}", again.changes);
            let changed = kernel.history.len();
            applied(&mut kernel, topology);
            prop_assert_eq!(kernel.history.len(), changed, "an apply without changes did something");
        }
    }

    #[test]
    fn the_way_back_leaves_nothing(shape in shape()) {
        let mut kernel = host();
        let empty = kernel.state().clone();
        applied(&mut kernel, &shape.topology());
        let removal = plan_removal(&mut kernel).expect("a plan");
        let report = apply(&mut kernel, &removal, &Interrupt::default(), |_, _| ()).expect("an apply");
        let done = matches!(&report, Report::Applied { left } if left.is_empty());
        prop_assert!(done, "{:?}", report);
        prop_assert_eq!(kernel.state().clone(), empty);
    }

    #[test]
    fn a_failure_anywhere_is_undone(before in shape(), after in shape(), at in any::<prop::sample::Index>()) {
        let mut kernel = host();
        applied(&mut kernel, &before.topology());
        let made = plan(&mut kernel, &after.topology()).expect("a plan");
        let critical = made.steps.iter().filter(|step| step.phase != Phase::CleanUp).count();
        prop_assume!(critical > 0);
        // Pairs whose far end is lost are taken down first, for good; nothing was lost here.
        let state = kernel.state().clone();
        kernel.fail_at = Some(kernel.history.len() + at.index(critical));
        let outcome = execute(&mut kernel, &made.steps, &Interrupt::default(), |_, _| ());
        let rolled_back = matches!(outcome, Outcome::RolledBack { .. });
        prop_assert!(rolled_back, "{:?}", outcome);
        kernel.fail_at = None;
        let now = kernel.state().clone();
        prop_assert_eq!(same_but_link_ids(&now), same_but_link_ids(&state));
    }

    #[test]
    fn a_crash_anywhere_is_survived(before in shape(), after in shape(), at in any::<prop::sample::Index>()) {
        let (before, after) = (before.topology(), after.topology());
        let mut kernel = host();
        applied(&mut kernel, &before);
        let made = plan(&mut kernel, &after).expect("a plan");
        prop_assume!(!made.steps.is_empty());
        for step in &made.steps[..at.index(made.steps.len())] {
            kernel.apply(&step.op).expect("a step");
        }
        applied(&mut kernel, &after);
        let again = plan(&mut kernel, &after).expect("a plan");
        prop_assert!(again.steps.is_empty(), "steps after recovery: {:#?}", again.steps);
        // Nothing is left beside what is there without the crash.
        let mut calm = host();
        applied(&mut calm, &before);
        applied(&mut calm, &after);
        prop_assert_eq!(inventory(kernel.state()), inventory(calm.state()));
    }

    #[test]
    fn what_does_not_change_keeps_its_id(before in shape(), after in shape()) {
        let mut kernel = host();
        applied(&mut kernel, &before.topology());
        let old = kernel.state().clone();
        let made = applied(&mut kernel, &after.topology());
        let touched = touched(&made);
        let new = kernel.state();
        for (path, program) in &old.programs {
            if let Some(now) = new.programs.get(path).filter(|_| !touched.contains(path.as_str())) {
                prop_assert_eq!(program.id, now.id);
            }
        }
        for (path, map) in &old.maps {
            if let Some(now) = new.maps.get(path).filter(|_| !touched.contains(path.as_str())) {
                prop_assert_eq!(map.id, now.id);
            }
        }
        // A program is loaded again only when what goes into it differs.
        for (path, program) in &old.programs {
            if touched.contains(path.as_str()) && let Some(now) = new.programs.get(path) {
                prop_assert_ne!(&program.fingerprint, &now.fingerprint, "{} was loaded again for nothing", path);
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_plan(before in shape(), after in shape()) {
        let mut kernel = host();
        applied(&mut kernel, &before.topology());
        let first = plan(&mut kernel, &after.topology()).expect("a plan");
        let second = plan(&mut kernel, &after.topology()).expect("a plan");
        prop_assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }

    #[test]
    fn interfaces_come_and_go(shape in shape()) {
        let topology = shape.topology();
        let mut kernel = host();
        applied(&mut kernel, &topology);
        for name in ["wire0", "wan0", "alone0"] {
            let name: InterfaceName = name.parse().expect("a name");
            kernel.unplug(&name);
            applied(&mut kernel, &topology);
            prop_assert!(plan(&mut kernel, &topology).expect("a plan").is_empty());
            kernel.plug(name);
            applied(&mut kernel, &topology);
            prop_assert!(plan(&mut kernel, &topology).expect("a plan").is_empty());
        }
    }
}

/// Ids of links that were detached and attached again differ; where they lead does not.
fn same_but_link_ids(state: &Observed) -> Observed {
    let mut state = state.clone();
    state.links.values_mut().for_each(|link| link.id = 0);
    state
}

/// Everything by name, without ids and values.
fn inventory(state: &Observed) -> [Vec<String>; 5] {
    fn names<T: ToString>(names: impl Iterator<Item = T>) -> Vec<String> {
        names.map(|name| name.to_string()).collect()
    }
    [
        names(state.programs.keys()),
        names(state.maps.keys()),
        names(state.links.keys()),
        names(state.veths.keys()),
        names(state.namespaces.keys()),
    ]
}

/// Objects that a plan makes anew.
fn touched(plan: &Plan) -> BTreeSet<String> {
    plan.steps
        .iter()
        .filter_map(|step| match &step.op {
            Op::Rename { to, .. } => Some(to.to_string()),
            Op::LoadProgram(path, _) | Op::CreateMap(path, _) | Op::Unpin(path) => {
                Some(path.to_string())
            }
            _ => None,
        })
        .collect()
}
