//! System calls that fail, and `pcn` killed at one, in every kind of step: what ran before still
//! runs, or what was asked for does; the next apply converges, and nothing is left over.
//!
//! Faults are put in from outside, by `strace`: the product knows nothing of it. By default two
//! calls of each kind in each kind of step fail; with `FAULTS=all` every single one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use integration_tests::{
    command::Run,
    lab::{Lab, run_test},
    traffic::ping,
};

use crate::{BASE, edit, ip};

/// Calls that change something, or lead to it.
const CALLS: &str = "bpf,sendto,sendmsg,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,\
                     rmdir,mount,umount2,unshare,setns,membarrier,ioctl";
/// Where the trace is written.
const TRACE: &str = "/run/test/trace";

/// A call to fail: its name and its number among those of that name in one thread.
type Call = (String, usize);

/// The calls of a run, by the kind of step they belong to; those before the first step have none.
fn calls_by_step(trace: &str) -> BTreeMap<String, Vec<Call>> {
    let mut by_step: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    let mut numbers: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut pending: Vec<Call> = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        let Some((name, arguments)) = rest.split_once('(') else {
            continue;
        };
        if name == "write" {
            // A step is reported when it is done.
            if let Some(kind) = step_kind(arguments) {
                by_step.entry(kind).or_default().append(&mut pending);
            }
            continue;
        }
        if !name.chars().all(|letter| letter.is_ascii_alphanumeric()) {
            continue;
        }
        let number = numbers
            .entry((thread.to_owned(), name.to_owned()))
            .or_default();
        *number += 1;
        pending.push((name.to_owned(), *number));
    }
    by_step
        .entry("the end".to_owned())
        .or_default()
        .append(&mut pending);
    by_step
}

/// The kind of step that a line on standard error reports, as in
/// `[3/40] cube/br: load program cubes/br/program-tc`.
fn step_kind(arguments: &str) -> Option<String> {
    const OBJECTS: [&str; 7] = [
        "namespace",
        "interface",
        "interfaces",
        "table",
        "program",
        "slot",
        "directory",
    ];
    let line = arguments.strip_prefix("2, \"[")?;
    let (_, step) = line.split_once("] ")?;
    let (_, what) = step.split_once(": ")?;
    let mut words = what.split(' ');
    let verb = words.next()?;
    let object = words.next().filter(|word| OBJECTS.contains(word));
    Some(object.map_or_else(|| verb.to_owned(), |object| format!("{verb} {object}")))
}

/// The calls to fail: the first and the last of each name in each kind of step, or all.
fn chosen(by_step: &BTreeMap<String, Vec<Call>>) -> BTreeSet<Call> {
    let all = std::env::var("FAULTS").is_ok_and(|value| value == "all");
    let mut chosen = BTreeSet::new();
    for calls in by_step.values() {
        if all {
            chosen.extend(calls.iter().cloned());
            continue;
        }
        let names: BTreeSet<&String> = calls.iter().map(|(name, _)| name).collect();
        for name in names {
            let mut of_name = calls.iter().filter(|(call, _)| call == name);
            chosen.extend(of_name.next().cloned());
            chosen.extend(of_name.next_back().cloned());
        }
    }
    chosen
}

/// What is pinned, without what waits, and without ids.
fn inventory(lab: &Lab) -> BTreeSet<String> {
    lab.ids().into_keys().collect()
}

/// A change, and what it goes from.
struct Change {
    before: Option<String>,
    after: Option<String>,
}

impl Change {
    fn arguments(&self, lab: &Lab) -> String {
        match &self.after {
            Some(text) => format!("apply --yes -f {}", lab.file("after.yaml", text)),
            None => "destroy --yes live".to_owned(),
        }
    }

    fn reach(lab: &Lab, goal: Option<&String>) {
        match goal {
            Some(text) => {
                lab.apply(text);
                lab.assert_converged(text);
            }
            None => drop(lab.pcn("destroy --yes live").expect(0)),
        }
    }
}

/// What is both in the old and in the new topology works all the time.
fn assert_traffic(lab: &Lab, change: &Change) {
    if change.before.is_some() && change.after.is_some() {
        assert_eq!(ping(&lab.space("h1"), ip("10.1.0.2")), 64);
        assert_eq!(ping(&lab.space("h2"), ip("fd00:2::1")), 63);
    }
}

/// Runs the change with a fault, and looks at what came of it.
fn inject(lab: &Lab, change: &Change, fault: &str, inventories: &[BTreeSet<String>; 2]) -> String {
    let run = lab.pcn_under(
        &format!("strace -f -qq -o {TRACE} -e trace={CALLS} -e inject={fault}"),
        &change.arguments(lab),
    );
    assert_traffic(lab, change);
    let outcome = check_outcome(lab, change, fault, &run);
    // Forwards, then back: each way everything is as without the fault.
    for (goal, expected) in [
        (&change.after, &inventories[1]),
        (&change.before, &inventories[0]),
    ] {
        Change::reach(lab, goal.as_ref());
        assert_eq!(
            &inventory(lab),
            expected,
            "{fault}: left over, or missing\n{run}"
        );
        assert_traffic(lab, change);
    }
    outcome
}

fn check_outcome(lab: &Lab, change: &Change, fault: &str, run: &Run) -> String {
    let outcome = match run.code {
        None => "killed",
        Some(0) => "applied",
        Some(1 | 69 | 77) => "refused before anything was changed",
        Some(3) => "applied, not verified",
        Some(4) => "rolled back",
        // The number counts calls of one thread, so the way back may meet the fault once more.
        Some(5) if injected() > 1 => "not taken back, for it failed again",
        Some(code) => panic!("{fault}: exit code {code}\n{run}"),
    };
    match (run.code, &change.before, &change.after) {
        (Some(1 | 4 | 69 | 77), Some(before), _) => lab.assert_converged(before),
        (Some(1 | 4 | 69 | 77), None, _) => assert_eq!(inventory(lab), BTreeSet::new(), "{run}"),
        // Clean-up may be left to do, but what was asked for is what runs.
        (Some(0), _, Some(after)) if !run.stderr.contains("clean-up failed") => {
            lab.assert_converged(after);
        }
        _ => {}
    }
    outcome.to_owned()
}

/// How many calls the last fault has hit.
fn injected() -> usize {
    let trace = fs::read_to_string(TRACE).expect("a trace");
    trace.matches("(INJECTED)").count()
}

fn inject_everywhere(name: &str, before: Option<String>, after: Option<String>) {
    run_test(|lab| {
        let change = Change { before, after };
        Change::reach(lab, change.before.as_ref());
        let old = inventory(lab);
        let traced = lab.pcn_under(
            &format!("strace -f -qq -s 200 -o {TRACE} -e trace=write,{CALLS}"),
            &change.arguments(lab),
        );
        let traced = traced.expect(0);
        let by_step = calls_by_step(&fs::read_to_string(TRACE).expect("a trace"));
        assert!(
            by_step.len() > 3,
            "no steps in the trace: {by_step:?}\n{traced}"
        );
        let inventories = [old, inventory(lab)];
        Change::reach(lab, change.before.as_ref());
        let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
        let errors = ["ENOSPC", "ENOMEM", "EPERM", "EIO"];
        let chosen = chosen(&by_step);
        for (at, (call, number)) in chosen.iter().enumerate() {
            let error = errors[at % errors.len()];
            for what in [format!("error={error}"), "signal=KILL".to_owned()] {
                let fault = format!("{call}:{what}:when={number}");
                let outcome = inject(lab, &change, &fault, &inventories);
                *outcomes.entry(outcome).or_default() += 1;
            }
        }
        let calls: usize = by_step.values().map(Vec::len).sum();
        println!(
            "{name}: {calls} calls in {} kinds of steps, {} faults: {outcomes:?}; \
             nothing left over, every second apply converged",
            by_step.len(),
            2 * chosen.len()
        );
    });
}

/// Everything that a change can be made of, on what runs.
fn changed() -> String {
    let edits = [
        ("agingTime: 300s", "agingTime: 200s"),
        (
            "h1: { through: [shield] }",
            "h1: { through: [probe, shield] }",
        ),
        ("198.51.100.0/24", "203.0.113.0/24"),
        ("to: 10.9.0.0/16", "to: 10.8.0.0/16"),
        (
            "    h3:\n",
            "    h4: { interfaces: { eth0: { addresses: [10.1.0.4/24] } } }\n    h3:\n",
        ),
        ("  links:\n", "  links:\n    - [br:h4, h4/eth0]\n"),
        ("10.1.0.1/24, ", "10.1.0.1/24, 10.1.0.11/24, "),
    ];
    edits
        .into_iter()
        .fold(BASE.to_owned(), |text, (from, to)| edit(&text, from, to))
}

#[test]
fn while_everything_is_new() {
    inject_everywhere("everything is new", None, Some(BASE.to_owned()));
}

#[test]
fn while_much_changes() {
    inject_everywhere("much changes", Some(BASE.to_owned()), Some(changed()));
}

#[test]
fn while_everything_goes() {
    inject_everywhere("everything goes", Some(BASE.to_owned()), None);
}
