//! Every call to the kernel fails once, in every way, in representative changes: what ran before
//! comes back, or what is asked for comes; the next apply converges; nothing is left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use reconciler::{
    execute::Outcome,
    interrupt::Interrupt,
    kernel::{
        self, Kernel,
        fake::FakeKernel,
        fault::{Fault, FaultyKernel},
    },
    observed::Observed,
    reconcile::{self, Report},
    resource::Bank,
};
use topology_schema::{InterfaceName, Name, Source, ValidTopology, load};

/// What the changes start from.
const BASE: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: faults }
spec:
  namespaces:
    h1: { interfaces: { eth0: { addresses: [10.1.0.1/24, 'fd00:1::1/64'], routes: [{ to: default, via: 10.1.0.254 }] } } }
    h2: { interfaces: { eth0: { addresses: [10.1.0.2/24] } } }
    h3: { interfaces: { eth0: { addresses: [10.2.0.1/24] } } }
  interfaces:
    wan0: { hook: xdp, through: [shield] }
  cubes:
    br: { bridge: { agingTime: 300s, fdb: [{ mac: '02:00:00:00:00:09', port: h2 }], ports: { h1: { through: [shield] } } } }
    far: { bridge: {} }
    r: { router: { ports: { lan: { addresses: [10.1.0.254/24] }, far: { addresses: [10.2.0.254/24] },
                            wan: { addresses: [192.0.2.1/24] } }, routes: [{ to: 172.16.0.0/16, via: 192.0.2.9 }] } }
    shield: { ddosMitigator: { sources: [198.51.100.0/24] } }
    probe: { helloTransparent: {} }
  links:
    - [br:h1, h1/eth0]
    - [br:h2, h2/eth0]
    - [br:up, r:lan]
    - [far:h3, h3/eth0]
    - [far:up, r:far]
    - [r:wan, wan0]
    - [br:wire, wire0]
    - [far:missing, missing0]
";

/// The base with texts exchanged.
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in the base");
        text.replace(from, to)
    })
}

/// The changes: a name, what was applied before and what is asked for.
fn changes() -> Vec<(&'static str, Option<String>, Option<String>)> {
    let base = || Some(BASE.to_owned());
    let to = |edits: &[(&str, &str)]| Some(edited(edits));
    let host = (
        "    h3: {",
        "    h4: { interfaces: { eth0: { addresses: [10.2.0.4/24] } } }\n    h3: {",
    );
    let link = ("  links:\n", "  links:\n    - [far:h4, h4/eth0]\n");
    vec![
        ("everything is new", None, base()),
        ("everything goes", base(), None),
        (
            "a setting",
            base(),
            to(&[("agingTime: 300s", "agingTime: 200s")]),
        ),
        (
            "a table",
            base(),
            to(&[("198.51.100.0/24", "203.0.113.0/24")]),
        ),
        (
            "tables of two cubes",
            base(),
            to(&[
                ("198.51.100.0/24", "203.0.113.0/24"),
                ("172.16.0.0/16", "172.17.0.0/16"),
            ]),
        ),
        (
            "a larger table",
            base(),
            to(&[("br: { bridge: {", "br: { bridge: { fdbSize: 1024,")]),
        ),
        ("a host comes", base(), to(&[host, link])),
        ("a host goes", to(&[host, link]), base()),
        (
            "a stack grows and turns around",
            base(),
            to(&[(
                "h1: { through: [shield] }",
                "h1: { through: [probe, shield] }",
            )]),
        ),
        (
            "a filter moves to another cube",
            base(),
            to(&[
                ("h1: { through: [shield] }", "h1: {}"),
                (
                    "far: { bridge: {} }",
                    "far: { bridge: { ports: { h3: { through: [shield] } } } }",
                ),
            ]),
        ),
        (
            "a link moves",
            base(),
            to(&[("[br:wire, wire0]", "[far:wire, wire0]")]),
        ),
        (
            "links change places",
            base(),
            to(&[
                ("br:h2, h2/eth0", "br:h2, h3/eth0"),
                ("far:h3, h3/eth0", "far:h3, h2/eth0"),
            ]),
        ),
        (
            "another hook",
            base(),
            to(&[("hook: xdp, through: [shield]", "through: [shield]")]),
        ),
        (
            "an address moves inside",
            base(),
            to(&[("10.1.0.2/24", "10.1.0.22/24")]),
        ),
        (
            "a cube goes",
            base(),
            to(&[
                ("    far: { bridge: {} }\n", ""),
                ("    - [far:h3, h3/eth0]\n", ""),
                ("    - [far:up, r:far]\n", "    - [r:far, h3/eth0]\n"),
                ("    - [far:missing, missing0]\n", ""),
            ]),
        ),
        (
            "a cube of another kind",
            base(),
            to(&[
                (
                    "probe: { helloTransparent: {} }",
                    "probe: { ddosMitigator: {} }",
                ),
                ("through: [shield] } } } }", "through: [probe] } } } }"),
            ]),
        ),
    ]
}

fn topology(text: &str) -> ValidTopology {
    let source = Source {
        name: "faults.yaml".to_owned(),
        text: text.to_owned(),
    };
    match load(&source) {
        Ok((topology, _)) => topology,
        Err(problems) => panic!("{}\n{text}", problems.render(&source)),
    }
}

fn host() -> FakeKernel {
    let interfaces = ["wan0", "wire0"].map(|name| name.parse::<InterfaceName>().expect("a name"));
    FakeKernel::new("faults".parse::<Name>().expect("a name"), interfaces)
}

/// Plans and executes.
fn apply(kernel: &mut dyn Kernel, wanted: Option<&ValidTopology>) -> kernel::Result<Report> {
    let plan = match wanted {
        Some(wanted) => reconcile::plan(kernel, wanted)?,
        None => reconcile::plan_removal(kernel)?,
    };
    reconcile::apply(kernel, &plan, &Interrupt::default(), |_, _| ())
}

#[track_caller]
fn applied(kernel: &mut FakeKernel, wanted: Option<&ValidTopology>) {
    match apply(kernel, wanted) {
        Ok(Report::Applied { left }) if left.is_empty() => {}
        other => panic!("not applied: {other:?}"),
    }
    let again = match wanted {
        Some(wanted) => reconcile::plan(kernel, wanted),
        None => reconcile::plan_removal(kernel),
    };
    let again = again.expect("a plan");
    assert!(again.is_empty(), "after an apply: {again:#?}");
}

/// What there is, without what differs from run to run: ids, and which bank is active.
fn inventory(state: &Observed) -> String {
    let program = |id: u32| {
        let path = state.program_by_id(id);
        path.map_or("an orphan", |path| path.as_str())
    };
    let mut text = String::new();
    let mut line = |what: &str, name: &dyn std::fmt::Display, value: String| {
        writeln!(text, "{what} {name} {value}").expect("a string takes all");
    };
    for (name, veth) in &state.veths {
        line("veth", name, format!("{veth:?}"));
    }
    for (name, ours) in &state.namespaces {
        line("namespace", name, ours.to_string());
    }
    for (path, map) in &state.maps {
        line(
            "map",
            path,
            format!(
                "{:?} {}",
                map.shape,
                map.entries.as_ref().map_or(0, reconciler::rows::Rows::len)
            ),
        );
    }
    for path in state.programs.keys() {
        line("program", path, String::new());
    }
    for (slot, banks) in &state.slots {
        line(
            "slot",
            slot,
            format!("{:?}", banks.map(|id| id.map(program))),
        );
    }
    for (path, link) in &state.links {
        line(
            "link",
            path,
            format!("{} {:?}", program(link.program), link.point),
        );
    }
    line("record", &"", format!("{:?}", state.record));
    text
}

/// Nothing that packets are in is written: neither slots nor port tables of the active bank.
/// Checked on every operation of a calm run.
fn assert_standby_only(before: &FakeKernel, wanted: Option<&ValidTopology>) {
    let mut kernel = before.clone();
    let plan = match wanted {
        Some(wanted) => reconcile::plan(&mut kernel, wanted),
        None => reconcile::plan_removal(&mut kernel),
    }
    .expect("a plan");
    for step in &plan.steps {
        let active = kernel.state().active;
        let old = kernel.state().clone();
        kernel.apply(&step.op).expect("a step");
        let now = kernel.state();
        let in_bank = |state: &Observed, bank: Bank| -> Vec<_> {
            let there = state.slots.iter().filter(|(slot, _)| {
                !slot.map.is_staged() && old.maps.get(&slot.map).map(|map| map.id) == now.maps.get(&slot.map).map(|map| map.id)
                    // An array that no link leads to yet is not in use.
                    && before.state().maps.contains_key(&slot.map)
            });
            there
                .map(|(slot, banks)| (slot.clone(), banks[bank as usize]))
                .filter(|(_, id)| id.is_some())
                .collect()
        };
        if now.active == active {
            assert_eq!(
                in_bank(now, active),
                in_bank(&old, active),
                "{:?} writes where packets are",
                step.op
            );
        }
    }
}

/// Outcomes, by name.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// One fault, and what must be true after it. Says how it ended.
fn inject(
    ready: &FakeKernel,
    goals: [(Option<&ValidTopology>, &str); 2],
    (at, fault): (usize, Fault),
    seen: &mut BTreeSet<String>,
) -> &'static str {
    let [(before, old_inventory), (after, new_inventory)] = goals;
    let mut faulty = FaultyKernel::new(ready.clone(), Some((at, fault)));
    let report =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| apply(&mut faulty, after)));
    let left = faulty.into_inner();
    let state = inventory(left.state());
    let what = match report {
        Err(_) => "panicked while reading",
        Ok(Err(_)) => "stopped while reading",
        Ok(Ok(Report::Applied { left })) if left.is_empty() => "applied",
        Ok(Ok(Report::Applied { .. })) => "applied, clean-up left",
        Ok(Ok(Report::NotVerified { .. })) => "applied, not verified",
        Ok(Ok(Report::Unhealthy { .. })) => panic!("there are no checks"),
        Ok(Ok(Report::Failed(Outcome::RolledBack { .. }))) => {
            assert_eq!(state, old_inventory, "{at} {fault:?}: not as it was");
            let goal = before.map_or_else(|| "none".to_owned(), |_| "the old one".to_owned());
            if seen.contains(&format!("{:?} {state}", left.state().active)) {
                return "rolled back";
            }
            let mut kernel = left.clone();
            let plan = match before {
                Some(before) => reconcile::plan(&mut kernel, before),
                None => reconcile::plan_removal(&mut kernel),
            };
            let plan = plan.expect("a plan");
            assert!(
                plan.is_empty(),
                "{at} {fault:?}: {goal} is not what runs: {plan:#?}"
            );
            "rolled back"
        }
        Ok(Ok(Report::Failed(Outcome::Stuck { .. }))) => {
            assert!(fault.is_deadly(), "{at} {fault:?}: could not be taken back");
            "killed"
        }
        Ok(Ok(Report::Failed(Outcome::Done { .. }))) => unreachable!("that is no failure"),
    };
    // What was tried from one state need not be tried again.
    if !seen.insert(format!("{:?} {state}", left.state().active)) {
        return what;
    }
    // Whichever way one goes on, it is as if nothing had happened.
    for (goal, expected) in [(after, new_inventory), (before, old_inventory)] {
        let mut kernel = left.clone();
        applied(&mut kernel, goal);
        assert_eq!(
            inventory(kernel.state()),
            expected,
            "{at} {fault:?}: something is left, or missing"
        );
    }
    what
}

/// Every call of a change fails once in every way.
fn inject_everywhere(name: &str) {
    let (_, before, after) = changes()
        .into_iter()
        .find(|(change, ..)| *change == name)
        .expect("a change");
    std::panic::set_hook(Box::new(|info| {
        // Planned panics are many; others should be seen.
        let text = info.to_string();
        if !text.contains("planned panic") {
            eprintln!("{text}");
        }
    }));
    let (before, after) = (
        before.as_deref().map(topology),
        after.as_deref().map(topology),
    );
    let mut ready = host();
    if let Some(before) = &before {
        applied(&mut ready, Some(before));
    }
    let old_inventory = inventory(ready.state());
    assert_standby_only(&ready, after.as_ref());
    let mut calm = FaultyKernel::new(ready.clone(), None);
    let report = apply(&mut calm, after.as_ref());
    assert!(
        matches!(report, Ok(Report::Applied { .. })),
        "{name}: {report:?}"
    );
    let calls = calm.calls;
    let new_inventory = inventory(calm.into_inner().state());
    let (mut tally, mut seen) = (Tally::default(), BTreeSet::new());
    let goals = [
        (before.as_ref(), old_inventory.as_str()),
        (after.as_ref(), new_inventory.as_str()),
    ];
    for at in 0..calls {
        for fault in Fault::ALL {
            tally.count(inject(&ready, goals, (at, fault), &mut seen));
        }
    }
    let faults: usize = tally.0.values().sum();
    assert_eq!(faults, calls * Fault::ALL.len());
    println!(
        "{name}: {calls} calls, {faults} faults: {:?}; no orphan, no divergence",
        tally.0
    );
}

macro_rules! injections {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            inject_everywhere($name);
        })*

        #[test]
        fn every_change_has_a_test() {
            let tested = [$($name),*];
            for (name, ..) in changes() {
                assert!(tested.contains(&name), "{name}");
            }
        }
    };
}

injections! {
    everything_is_new: "everything is new";
    everything_goes: "everything goes";
    a_setting: "a setting";
    a_table: "a table";
    tables_of_two_cubes: "tables of two cubes";
    a_larger_table: "a larger table";
    a_host_comes: "a host comes";
    a_host_goes: "a host goes";
    a_stack_grows_and_turns_around: "a stack grows and turns around";
    a_filter_moves_to_another_cube: "a filter moves to another cube";
    a_link_moves: "a link moves";
    links_change_places: "links change places";
    another_hook: "another hook";
    an_address_moves_inside: "an address moves inside";
    a_cube_goes: "a cube goes";
    a_cube_of_another_kind: "a cube of another kind";
}
