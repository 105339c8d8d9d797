//! Commits that wait, checks and saved plans, against a kernel in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{path::Path, time::Duration};

use reconciler::{
    checks::Back,
    commit::{self, Confirmed, Resolved},
    interrupt::Interrupt,
    journal::Journal,
    kernel::{Kernel, fake::FakeKernel},
    reconcile::{self, Report},
    saved_plan,
};
use serde_json::json;
use topology_schema::{Source, ValidTopology, load};

const MINUTE: Duration = Duration::from_secs(60);

fn topology(aging: u32, checks: &str) -> ValidTopology {
    let text = format!(
        "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: a }}\n\
         spec: {{ cubes: {{ br1: {{ bridge: {{ agingTime: {aging}s }} }} }}, links: [[br1:p, eth0]], checks: [{checks}] }}\n"
    );
    let name = "a.yaml".to_owned();
    load(&Source { name, text }).unwrap().0
}

fn kernel() -> FakeKernel {
    FakeKernel::new("a".parse().unwrap(), ["eth0".parse().unwrap()])
}

/// One that writes nothing.
fn journal() -> Journal {
    let nowhere = Path::new("/dev/null/pcn");
    Journal::new(nowhere, nowhere, 0, |_| {}).with_events_in(nowhere, nowhere)
}

fn apply(kernel: &mut FakeKernel, wanted: &ValidTopology) -> Report {
    let plan = reconcile::plan(kernel, wanted).unwrap();
    reconcile::apply(kernel, &plan, &Interrupt::default(), |_, _| {}).unwrap()
}

/// Applies for a minute.
fn try_out(kernel: &mut FakeKernel, wanted: &ValidTopology) {
    let begun = commit::begin(kernel, MINUTE, "somebody").unwrap();
    let plan = begun.plan(kernel, wanted).unwrap();
    let report = reconcile::apply(kernel, &plan, &Interrupt::default(), |_, _| {}).unwrap();
    assert!(matches!(report, Report::Applied { .. }), "{report:?}");
}

fn is_applied(kernel: &mut FakeKernel, wanted: &ValidTopology) -> bool {
    reconcile::plan(kernel, wanted).unwrap().is_empty()
}

#[test]
fn a_commit_waits_until_its_deadline() {
    let (old, new) = (topology(100, ""), topology(200, ""));
    let mut kernel = kernel();
    apply(&mut kernel, &old);
    try_out(&mut kernel, &new);
    // That it waits is no change.
    assert!(is_applied(&mut kernel, &new));
    kernel.boot_time = MINUTE - Duration::from_nanos(1);
    let resolved = commit::resolve_expired(&mut kernel, &journal(), |_, _| {}).unwrap();
    assert!(matches!(resolved, Resolved::Waiting(_)), "{resolved:?}");
    kernel.boot_time = MINUTE;
    let resolved = commit::resolve_expired(&mut kernel, &journal(), |_, _| {}).unwrap();
    assert!(
        matches!(resolved, Resolved::WentBack(_, Report::Applied { .. })),
        "{resolved:?}"
    );
    assert!(is_applied(&mut kernel, &old));
    let resolved = commit::resolve_expired(&mut kernel, &journal(), |_, _| {}).unwrap();
    assert!(matches!(resolved, Resolved::Nothing), "{resolved:?}");
}

#[test]
fn a_confirmed_commit_stays() {
    let (old, new) = (topology(100, ""), topology(200, ""));
    let mut kernel = kernel();
    apply(&mut kernel, &old);
    try_out(&mut kernel, &new);
    let confirmed = commit::confirm(&mut kernel, &journal(), |_, _| {}).unwrap();
    assert!(matches!(confirmed, Confirmed::Done), "{confirmed:?}");
    kernel.boot_time = MINUTE * 2;
    let resolved = commit::resolve_expired(&mut kernel, &journal(), |_, _| {}).unwrap();
    assert!(matches!(resolved, Resolved::Nothing), "{resolved:?}");
    assert!(is_applied(&mut kernel, &new));
}

#[test]
fn a_late_confirmation_goes_back() {
    let (old, new) = (topology(100, ""), topology(200, ""));
    let mut kernel = kernel();
    apply(&mut kernel, &old);
    try_out(&mut kernel, &new);
    kernel.boot_time = MINUTE;
    let confirmed = commit::confirm(&mut kernel, &journal(), |_, _| {}).unwrap();
    assert!(matches!(confirmed, Confirmed::TooLate(..)), "{confirmed:?}");
    assert!(is_applied(&mut kernel, &old));
}

#[test]
fn prolonging_keeps_what_comes_back() {
    let (old, new, other) = (topology(100, ""), topology(200, ""), topology(300, ""));
    let mut kernel = kernel();
    apply(&mut kernel, &old);
    try_out(&mut kernel, &new);
    kernel.boot_time = MINUTE / 2;
    try_out(&mut kernel, &other);
    kernel.boot_time = MINUTE;
    let resolved = commit::resolve_expired(&mut kernel, &journal(), |_, _| {}).unwrap();
    assert!(matches!(resolved, Resolved::Waiting(_)), "{resolved:?}");
    kernel.boot_time = MINUTE * 3 / 2;
    commit::resolve_expired(&mut kernel, &journal(), |_, _| {}).unwrap();
    assert!(is_applied(&mut kernel, &old));
}

/// Killed after every operation of a commit, it goes back to what was before, and cannot be confirmed half done.
#[test]
fn a_commit_that_was_killed_goes_back() {
    let (old, new) = (topology(100, ""), topology(200, ""));
    for before in [Some(&old), None] {
        for operations in 1.. {
            let mut kernel = kernel();
            if let Some(old) = before {
                apply(&mut kernel, old);
            }
            let empty = kernel.state().maps.len();
            let begun = commit::begin(&mut kernel, MINUTE, "somebody").unwrap();
            let plan = begun.plan(&mut kernel, &new).unwrap();
            if operations > plan.steps.len() {
                break;
            }
            for step in &plan.steps[..operations] {
                kernel.apply(&step.op).unwrap();
            }
            let complete = commit::pending(&mut kernel).unwrap().unwrap().complete;
            let mut other = kernel.clone();
            let confirmed = commit::confirm(&mut other, &journal(), |_, _| {}).unwrap();
            assert_eq!(matches!(confirmed, Confirmed::Done), complete);
            kernel.boot_time = MINUTE;
            let resolved = commit::resolve_expired(&mut kernel, &journal(), |_, _| {}).unwrap();
            assert!(
                matches!(resolved, Resolved::WentBack(_, Report::Applied { .. })),
                "{operations}: {resolved:?}"
            );
            assert_eq!(kernel.state().maps.len(), empty);
            match before {
                Some(old) => assert!(is_applied(&mut kernel, old)),
                None => assert_eq!(kernel.state().record, None),
            }
        }
    }
}

#[test]
fn a_withdrawn_commit_leaves_no_trace() {
    let (old, new) = (topology(100, ""), topology(200, ""));
    let mut kernel = kernel();
    let nothing = kernel.state().clone();
    commit::begin(&mut kernel, MINUTE, "somebody")
        .unwrap()
        .withdraw(&mut kernel)
        .unwrap();
    assert_eq!(*kernel.state(), nothing);
    apply(&mut kernel, &old);
    let applied = kernel.state().clone();
    commit::begin(&mut kernel, MINUTE, "somebody")
        .unwrap()
        .withdraw(&mut kernel)
        .unwrap();
    assert_eq!(*kernel.state(), applied);
    // One that it was to prolong still waits, whole as it was.
    try_out(&mut kernel, &new);
    commit::begin(&mut kernel, MINUTE * 2, "somebody")
        .unwrap()
        .withdraw(&mut kernel)
        .unwrap();
    let pending = commit::pending(&mut kernel).unwrap().unwrap();
    assert!(pending.complete);
    assert_eq!(pending.remaining(Duration::ZERO), Some(MINUTE * 2));
}

#[test]
fn failed_checks_take_an_apply_back() {
    let old = topology(100, "");
    let new = topology(200, "{ ping: 10.0.0.1 }, { tcp: '10.0.0.1:22' }");
    let mut kernel = kernel();
    let nothing = kernel.state().clone();
    kernel.unreachable = Some("no answer".to_owned());
    match apply(&mut kernel, &new) {
        Report::Unhealthy {
            failures,
            back: Back::Gone,
        } => {
            let failures: Vec<_> = failures
                .iter()
                .map(|failure| (failure.check.as_str(), failure.why.as_str()))
                .collect();
            assert_eq!(
                failures,
                [
                    ("ping 10.0.0.1", "no answer"),
                    ("tcp 10.0.0.1:22", "no answer")
                ]
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(kernel.state().record, nothing.record);
    assert_eq!(kernel.state().maps, nothing.maps);
    apply(&mut kernel, &old);
    let report = apply(&mut kernel, &new);
    assert!(
        matches!(
            report,
            Report::Unhealthy {
                back: Back::Gone,
                ..
            }
        ),
        "{report:?}"
    );
    assert!(is_applied(&mut kernel, &old));
    kernel.unreachable = None;
    assert!(matches!(apply(&mut kernel, &new), Report::Applied { .. }));
    // What is repaired stays: there is nothing else to go back to.
    kernel.unreachable = Some("no answer".to_owned());
    kernel.state_mut().links.clear();
    let report = apply(&mut kernel, &new);
    assert!(
        matches!(
            report,
            Report::Unhealthy {
                back: Back::Nowhere,
                ..
            }
        ),
        "{report:?}"
    );
    assert!(is_applied(&mut kernel, &new));
}

/// Going back is not held up by checks of what comes back.
#[test]
fn checks_do_not_hold_up_the_way_back() {
    let old = topology(100, "{ ping: 10.0.0.1 }");
    let new = topology(200, "");
    let mut kernel = kernel();
    apply(&mut kernel, &old);
    try_out(&mut kernel, &new);
    kernel.unreachable = Some("no answer".to_owned());
    kernel.boot_time = MINUTE;
    commit::resolve_expired(&mut kernel, &journal(), |_, _| {}).unwrap();
    assert!(is_applied(&mut kernel, &old));
}

#[test]
fn an_interrupt_takes_back_what_was_done() {
    let (old, new) = (topology(100, ""), topology(200, ""));
    let mut kernel = kernel();
    apply(&mut kernel, &old);
    let plan = reconcile::plan(&mut kernel, &new).unwrap();
    let clean_up = plan
        .steps
        .iter()
        .position(|step| step.phase == reconciler::plan::Phase::CleanUp)
        .unwrap_or(plan.steps.len());
    for at in 0..plan.steps.len() {
        let mut kernel = kernel.clone();
        let interrupt = Interrupt::default();
        let report = reconcile::apply(&mut kernel, &plan, &interrupt, |number, _| {
            if number == at {
                interrupt.request();
            }
        })
        .unwrap();
        let undone = matches!(report, Report::Failed(_));
        assert_eq!(undone, at < clean_up, "{at}: {report:?}");
        let now = if undone { &old } else { &new };
        assert!(is_applied(&mut kernel, now), "{at}");
    }
}

#[test]
fn a_saved_plan_fits_what_it_was_made_for() {
    let (old, new) = (topology(100, ""), topology(200, ""));
    let mut kernel = kernel();
    apply(&mut kernel, &old);
    let plan = reconcile::plan(&mut kernel, &new).unwrap();
    let document = saved_plan::to_json(&plan, json!({ "topology": "a" })).unwrap();
    let text = document.to_string();
    let saved = saved_plan::parse("p", text.as_bytes()).unwrap();
    let again = reconcile::plan(&mut kernel, &saved.wanted).unwrap();
    assert_eq!(saved.differences(&again), [""; 0]);
    // A commit that waits, an interface that nobody uses, and what is learned are not part of it.
    kernel.plug("eth7".parse().unwrap());
    commit::begin(&mut kernel, MINUTE, "somebody").unwrap();
    let again = reconcile::plan(&mut kernel, &saved.wanted).unwrap();
    assert_eq!(saved.differences(&again), [""; 0]);
    kernel.state_mut().links.clear();
    let again = reconcile::plan(&mut kernel, &saved.wanted).unwrap();
    let differences = saved.differences(&again);
    assert!(
        differences[0].contains("attachments") && differences[1].starts_with("drift: "),
        "{differences:?}"
    );
}

/// Whatever is in the file, it is an error and not a crash.
#[test]
fn saved_plans_are_not_trusted() {
    let new = topology(200, "");
    let mut kernel = kernel();
    let plan = reconcile::plan(&mut kernel, &new).unwrap();
    let document = saved_plan::to_json(&plan, json!({})).unwrap();
    let text = document.to_string();
    assert!(saved_plan::parse("p", text.as_bytes()).is_ok());
    for end in 0..text.len() {
        assert!(saved_plan::parse("p", &text.as_bytes()[..end]).is_err());
    }
    for key in document.as_object().unwrap().keys() {
        for value in [json!(null), json!(1), json!("x"), json!([]), json!({})] {
            let mut changed = document.clone();
            changed[key] = value;
            assert!(
                saved_plan::parse("p", changed.to_string().as_bytes()).is_err(),
                "{key}"
            );
        }
    }
    let deep = "[".repeat(100_000);
    assert!(saved_plan::parse("p", deep.as_bytes()).is_err());
}
