//! What plans cost as they become larger.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use integration_tests::test_run::Hook;

use super::{FEW, Scope, timed};
use crate::{
    contest::Contest,
    finding::{Finding, Goal, Unit},
    rig::path::{Path, text},
    rows::firewall::spec,
    statistics::exponent,
};

/// The largest resident set of a command, in KiB.
fn peak(mut command: Command) -> f64 {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().expect("it can be run");
    let status = format!("/proc/{}/status", child.id());
    let mut largest: f64 = 0.0;
    while child
        .try_wait()
        .expect("a child can be waited for")
        .is_none()
    {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let value = line.and_then(|line| line.split_whitespace().next());
        largest = largest.max(value.and_then(|value| value.parse().ok()).unwrap_or(0.0));
        thread::sleep(Duration::from_micros(200));
    }
    largest
}

/// Files with topologies of so many rules, by name.
fn files(scope: &Scope<'_>, path: &Path, counts: &[usize]) -> Vec<(String, usize)> {
    counts
        .iter()
        .map(|count| {
            let text = text("plan", &spec(path, Hook::Tc, *count, false));
            (
                scope.lab.file(&format!("rules-{count}.yaml"), &text),
                *count,
            )
        })
        .collect()
}

pub(super) fn memory(scope: &Scope<'_>, count: usize) -> Finding {
    let ours = Path::through_lab("a");
    let files = files(scope, &ours, &[10, count]);
    let of = |file: &str| {
        scope.lab.pcn(&format!("apply --yes -f {file}")).expect(0);
        peak(scope.lab.command(&format!("plan -f {file}")))
    };
    let finding = Contest::new(Unit::BytesEach, "pcn plan", || {
        (of(&files[1].0) - of(&files[0].0)) * 1024.0 / (count - 10) as f64
    })
    .goal(Goal::Below(1536.0))
    .run(scope.effort.with_rounds(FEW));
    scope.lab.pcn("destroy --yes plan").expect(0);
    finding
}

pub(super) fn growth(scope: &Scope<'_>, _: usize) -> Finding {
    let ours = Path::through_lab("a");
    let files = files(scope, &ours, &[1000, 3000, 10_000]);
    let sample = || {
        let points: Vec<(f64, f64)> = files
            .iter()
            .map(|(file, count)| {
                scope.lab.pcn(&format!("apply --yes -f {file}")).expect(0);
                let took = timed(scope.lab.command(&format!("plan -f {file}")));
                (*count as f64, took)
            })
            .collect();
        exponent(&points)
    };
    let finding = Contest::new(Unit::Number, "pcn plan", sample)
        .goal(Goal::Below(1.1))
        .run(scope.effort.with_rounds(FEW));
    scope.lab.pcn("destroy --yes plan").expect(0);
    finding
}
