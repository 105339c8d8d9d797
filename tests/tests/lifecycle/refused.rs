//! What is refused, and leaves no trace.

use std::{path::Path, time::Duration};

use integration_tests::{
    lab::{Footprint, run_test},
    wait,
};
use reconciler::kernel::linux::lock::Lock;

use crate::{BASE, assert_base_works, edit};

#[test]
fn invalid_files() {
    run_test(|lab| {
        let before = Footprint::take();
        let cases =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../topology-schema/tests/cases/invalid");
        let mut count = 0;
        for case in std::fs::read_dir(cases).expect("the cases are there") {
            let file = case.expect("a directory").path().join("topology.yaml");
            let file = file.to_str().expect("a path in UTF-8");
            for command in ["apply --yes", "plan", "diff", "validate"] {
                let run = lab.pcn(&format!("{command} -f {file}")).expect(65);
                assert!(run.stderr.contains(&format!("{file}:")), "no place: {run}");
                count += 1;
            }
        }
        assert!(count > 100, "{count} runs");
        before.assert_same(&Footprint::take());
    });
}

#[test]
fn an_invalid_file_leaves_what_runs() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = lab.ids();
        let path = lab.file(
            "broken.yaml",
            &edit(BASE, "agingTime: 300s", "agingTime: 300"),
        );
        let run = lab.pcn(&format!("apply --yes -f {path}")).expect(65);
        assert!(run.stderr.contains("300s"), "no hint: {run}");
        assert_eq!(lab.ids(), before);
        assert_base_works(lab);
    });
}

#[test]
fn wrong_usage() {
    run_test(|lab| {
        let path = lab.file("base.yaml", BASE);
        for arguments in [
            "",
            "apply",
            "plan",
            "--no-such-flag",
            &format!("apply -f {path}"),
        ] {
            let run = lab.pcn(arguments).expect(64);
            assert!(!run.stderr.is_empty() && run.stdout.is_empty(), "{run}");
        }
        assert!(lab.ids().is_empty());
        lab.apply(BASE);
        // Without a terminal, only `--yes` destroys.
        lab.pcn("destroy live").expect(64);
        assert_base_works(lab);
    });
}

#[test]
fn two_writers() {
    run_test(|lab| {
        let path = lab.file("base.yaml", BASE);
        let root = lab.pin("");
        let root = Path::new(
            root.to_str()
                .expect("a path in UTF-8")
                .trim_end_matches('/'),
        );
        let name = "live".parse().expect("a name");
        let lock = Lock::acquire(root, &name, Duration::ZERO).expect("nobody else writes");
        let busy = lab
            .pcn(&format!("apply --yes --lock-timeout 0 -f {path}"))
            .expect(75);
        assert!(
            busy.stderr.contains(&std::process::id().to_string()),
            "it does not say who: {busy}"
        );
        lab.pcn(&format!("apply --yes --lock-timeout 1s -f {path}"))
            .expect(75);
        lab.pcn("destroy --yes --lock-timeout 0 live").expect(75);
        assert!(lab.ids().is_empty());
        // Reading needs no lock, and another topology has one of its own.
        lab.plan(BASE).expect(2);
        let other = edit(BASE, "name: live", "name: other");
        lab.apply(&other);
        lab.pcn("destroy --yes other").expect(0);

        // One that waits goes on when the lock is free.
        let mut waiting = lab.start_pcn(&format!("apply --yes --lock-timeout 20s -f {path}"));
        assert!(
            wait::within(Duration::from_millis(300), || (!waiting.is_running())
                .then_some(()))
            .is_none()
        );
        drop(lock);
        waiting.end().expect(0);
        lab.assert_converged(BASE);
        assert_base_works(lab);
    });
}

#[test]
fn two_applies_at_once() {
    run_test(|lab| {
        let path = lab.file("base.yaml", BASE);
        let both = [1, 2].map(|_| lab.start_pcn(&format!("apply --yes -f {path}")));
        let runs = both.map(|running| running.end().expect(0));
        let idle = runs
            .iter()
            .filter(|run| run.stdout == "No changes.\n")
            .count();
        assert_eq!(idle, 1, "{runs:?}");
        lab.assert_converged(BASE);
        assert_base_works(lab);
    });
}
