//! What `pcn watch` does when nobody asks: it starts, it waits, and it repairs.

use std::{thread, time::Duration, time::Instant};

use integration_tests::test_run::Hook;
use reconciler::kernel::linux::bpf;

use super::super::{
    Findings, Scope,
    firewall::spec,
    topology::{SOURCE, flow, one, router},
};
use crate::{
    contest::{Contest, Effort, Other},
    finding::{Finding, Goal, Unit},
    machine::milliseconds,
    rig::{
        frames::Flow,
        path::{Path, text},
        probe::Probe,
        watch::Watch,
    },
};

/// Repairs that are measured.
const REPAIRS: usize = 10;
/// Cold starts that are.
const STARTS: usize = 10;
/// Windows of idleness, and how long one is: that from one round without an event to the next, as it is without being asked
/// for another one.
const WINDOWS: usize = 2;
const WINDOW: Duration = Duration::from_secs(10);

/// The program that packets meet first goes, as it does when somebody detaches its link.
pub(super) fn drift(scope: &Scope<'_>, _: usize) -> Findings {
    let path = Path::through_lab("a");
    let file = scope.lab.file(
        "plan.yaml",
        &text("plan", &one(&path, Hook::Tc, &router("", ""))),
    );
    let mut watch = Watch::start(scope.lab, &format!("-f {file}"));
    watch.wait_for(1);
    let probe = Probe::new(&path, flow());
    probe.until(true);
    let link = format!("plan/interfaces/{}/link-tc-ingress", path.input());
    let rounds = scope.effort.with_rounds(REPAIRS).rounds;
    let samples = (1..=rounds)
        .map(|repair| {
            let start = Instant::now();
            detach(scope, &link);
            probe.until(false);
            let repaired = probe.until(true);
            watch.wait_for(1 + repair);
            milliseconds(repaired.saturating_duration_since(start))
        })
        .collect();
    watch.stop();
    scope.lab.pcn("destroy --yes plan").expect(0);
    let goal = Some(Goal::Below(1000.0));
    vec![(
        "",
        Finding::alone(Unit::Milliseconds, "pcn watch", samples, goal),
    )]
}

/// Detaches what a pinned link attaches; the pin stays.
fn detach(scope: &Scope<'_>, link: &str) {
    use std::os::fd::AsFd;
    let link = bpf::open(&scope.lab.pin(link)).unwrap_or_else(|error| panic!("{error}"));
    bpf::detach_link(link.as_fd()).expect("root can detach");
}

/// From the start of a process until the first packet passes.
pub(super) fn start(scope: &Scope<'_>, count: usize) -> Findings {
    let path = Path::through_lab("a");
    let text = text("plan", &spec(&path, Hook::Tc, count, false));
    let file = scope.lab.file("plan.yaml", &text);
    // The last rule's.
    let [.., a, b] = (count as u32).to_be_bytes();
    let flow = Flow {
        source: SOURCE,
        destination: [20, 0, a, b],
        ports: [10_000, 5000 + ((count - 1) % 7) as u16],
    };
    let probe = Probe::new(&path, flow);
    let until_first = |start: Instant| {
        let first = probe.until(true);
        milliseconds(first.saturating_duration_since(start))
    };
    let end = || {
        scope.lab.pcn("destroy --yes plan").expect(0);
        probe.until(false);
    };
    probe.until(false);
    let effort = Effort {
        warm_up: 0,
        ..scope.effort.with_rounds(STARTS)
    };
    let finding = Contest::new(Unit::Milliseconds, "pcn watch", || {
        let start = Instant::now();
        let mut watch = Watch::start(scope.lab, &format!("-f {file}"));
        let took = until_first(start);
        watch.wait_for(1);
        watch.stop();
        end();
        took
    })
    .goal(Goal::Below(500.0))
    .against(Other::Own("pcn apply"), None, || {
        let start = Instant::now();
        let apply = scope.lab.start_pcn(&format!("apply --yes -f {file}"));
        let took = until_first(start);
        apply.end().expect(0);
        end();
        took
    })
    .run(effort);
    vec![("", finding)]
}

/// Waits, and looks what that took.
pub(super) fn idle(scope: &Scope<'_>, count: usize) -> Findings {
    let path = Path::through_lab("a");
    let text = text("plan", &spec(&path, Hook::Tc, count, true));
    let file = scope.lab.file("plan.yaml", &text);
    let mut watch = Watch::start(scope.lab, &format!("-f {file}"));
    watch.wait_for(1);
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    // The look that its own announcements cause is no idleness.
    thread::sleep(WINDOW / 10);
    for _ in 0..scope.effort.with_rounds(WINDOWS).rounds {
        let (start, before) = (Instant::now(), watch.cpu_seconds());
        thread::sleep(WINDOW);
        let used = watch.cpu_seconds() - before;
        cpu.push(100.0 * used / start.elapsed().as_secs_f64());
        memory.push(watch.resident());
    }
    let repairs = vec![watch.applied() as f64 - 1.0];
    watch.stop();
    scope.lab.pcn("destroy --yes plan").expect(0);
    let alone =
        |unit, samples, goal| Finding::alone(unit, "pcn watch", samples, Some(Goal::Below(goal)));
    vec![
        (
            ".cpu",
            alone(Unit::Percent, cpu, 0.1)
                .note("of one CPU; a round of comparison every 10 s is in it"),
        ),
        (".memory", alone(Unit::Mebibytes, memory, 20.0)),
        (".repairs", alone(Unit::Number, repairs, 0.0)),
    ]
}
