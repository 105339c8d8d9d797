//! What nobody confirms goes back, whatever becomes of those who applied it.

use std::time::{Duration, Instant};

use integration_tests::{
    command::{Run, Running},
    lab::{Lab, run_test},
    traffic::{no_ping, ping},
    wait,
};
use nix::sys::signal::Signal;

use crate::{BASE, assert_base_works, differences, edit, ids, ip};

/// A change that locks a host out.
fn locked_out() -> String {
    edit(
        BASE,
        "sources: [198.51.100.0/24]",
        "sources: [10.1.0.1/32, 'fd00:1::1/128']",
    )
}

fn line(lab: &Lab, text: &str, timeout: &str) -> String {
    let path = lab.file("trial.yaml", text);
    format!("apply --yes --confirm-timeout {timeout} -f {path}")
}

#[track_caller]
fn try_out(lab: &Lab, text: &str, timeout: &str) -> Run {
    lab.pcn(&line(lab, text, timeout)).expect(0)
}

/// Processes that wait to go back.
fn guardians() -> Vec<u32> {
    let mut found = Vec::new();
    let own = std::fs::read_link("/proc/thread-self/ns/mnt").expect("a thread has a namespace");
    for entry in std::fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten()
    {
        let path = entry.path();
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let is_guardian = line.split(|byte| *byte == 0).nth(1) == Some(b"guardian");
        let is_ours = std::fs::read_link(path.join("ns/mnt")).is_ok_and(|found| found == own);
        if let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            && is_guardian
            && is_ours
        {
            found.push(process);
        }
    }
    found
}

fn no_guardian_is_left() {
    wait::until("guardians to end", || guardians().is_empty().then_some(()));
}

/// Waits until the topology is what runs again, and nothing waits any more.
#[track_caller]
fn assert_back(lab: &Lab, text: &str) {
    wait::until("the way back", || {
        (lab.plan(text).code == Some(0)).then_some(())
    });
    no_guardian_is_left();
    lab.note_objects();
    lab.assert_converged(text);
    let again = lab.pcn("confirm live").expect(1);
    assert!(again.stderr.contains("nothing waits"), "{again}");
}

#[test]
fn confirmed_in_time_it_stays() {
    run_test(|lab| {
        lab.apply(BASE);
        let changed = locked_out();
        let deadline = Instant::now() + Duration::from_secs(3);
        let run = try_out(lab, &changed, "3s");
        assert!(run.stderr.contains("`pcn confirm live`"), "{run}");
        lab.assert_converged(&changed);
        let plan = lab.plan(&changed).expect(0);
        assert!(plan.stderr.contains("waits for a confirmation"), "{plan}");
        assert_eq!(guardians().len(), 1);
        let show = lab.show("live");
        let waits = |condition: &serde_json::Value| {
            condition["type"] == "Confirmed" && condition["reason"] == "Waiting"
        };
        let conditions = show["conditions"].as_array().expect("a list");
        assert!(conditions.iter().any(waits), "{show}");
        // There is only one.
        let run = lab.pcn("confirm").expect(0);
        assert_eq!(run.stdout, "Confirmed live.\n");
        no_guardian_is_left();
        wait::until("the deadline", || (Instant::now() > deadline).then_some(()));
        lab.assert_converged(&changed);
        no_ping(&lab.space("h1"), ip("10.1.0.2"));
        lab.pcn("confirm").expect(1);
        lab.pcn("confirm live").expect(1);
        lab.pcn("rollback live").expect(1);
        lab.pcn("confirm nowhere").expect(1);
    });
}

#[test]
fn unconfirmed_it_goes_back() {
    run_test(|lab| {
        lab.apply(BASE);
        assert_base_works(lab);
        let before = ids(lab);
        try_out(lab, &locked_out(), "2s");
        no_ping(&lab.space("h1"), ip("10.1.0.2"));
        assert_back(lab, BASE);
        assert_base_works(lab);
        assert_eq!(differences(&before, &ids(lab)), [""; 0]);
        let late = lab.pcn("rollback live").expect(1);
        assert!(late.stderr.contains("nothing waits"), "{late}");
    });
}

#[test]
fn where_nothing_was_before_nothing_is_left() {
    run_test(|lab| {
        try_out(lab, BASE, "2s");
        assert_base_works(lab);
        wait::until("the way back", || lab.ids().is_empty().then_some(()));
        no_guardian_is_left();
        assert!(!lab.pin("live").exists());
    });
}

#[test]
fn taken_back_at_once() {
    run_test(|lab| {
        lab.apply(BASE);
        try_out(lab, &locked_out(), "10m");
        let run = lab.pcn("rollback").expect(0);
        assert!(run.stderr.contains("Taken back live"), "{run}");
        assert_back(lab, BASE);
        assert_base_works(lab);
    });
}

#[test]
fn while_it_waits_nothing_else_is_applied() {
    run_test(|lab| {
        lab.apply(BASE);
        let changed = locked_out();
        try_out(lab, &changed, "10m");
        let before = lab.ids();
        for command in ["apply --yes -f /run/test/trial.yaml", "destroy --yes live"] {
            let run = lab.pcn(command).expect(1);
            assert!(run.stderr.contains("waits for a confirmation"), "{run}");
        }
        assert_eq!(lab.ids(), before);
        // More time, and another change; what comes back is still what was there first.
        let other = edit(&changed, "agingTime: 300s", "agingTime: 200s");
        try_out(lab, &other, "10m");
        try_out(lab, &other, "20m");
        wait::until("one guardian", || (guardians().len() == 1).then_some(()));
        lab.assert_converged(&other);
        lab.pcn("rollback live").expect(0);
        assert_back(lab, BASE);
    });
}

/// All that the shell started goes with it, but for the process that goes back.
fn shell(lab: &Lab, text: &str) -> Running {
    let line = line(lab, text, "3s");
    let shell = lab.start_shell(&format!("\"$PCN\" {line}; echo ready >&2; sleep 600"));
    wait::until("the apply", || {
        shell.stderr().contains("ready").then_some(())
    });
    shell
}

#[test]
fn the_shell_is_killed() {
    for signal in [Signal::SIGHUP, Signal::SIGKILL] {
        run_test(|lab| {
            lab.apply(BASE);
            let mut shell = shell(lab, &locked_out());
            shell.signal_all(signal);
            wait::until("the end of the shell", || {
                (!shell.is_running()).then_some(())
            });
            no_ping(&lab.space("h1"), ip("10.1.0.2"));
            assert_back(lab, BASE);
            assert_base_works(lab);
        });
    }
}

#[test]
fn the_guardian_is_killed() {
    run_test(|lab| {
        lab.apply(BASE);
        let changed = locked_out();
        try_out(lab, &changed, "2s");
        for process in guardians() {
            integration_tests::command::run(&format!("kill -KILL {process}")).expect(0);
        }
        no_guardian_is_left();
        let run = wait::until("the deadline", || {
            Some(lab.plan(&changed)).filter(|run| run.stderr.contains("not confirmed within 2s"))
        });
        // Nothing changes for that.
        assert_eq!(run.code, Some(0), "{run}");
        let run = lab.pcn("confirm live").expect(1);
        assert!(run.stderr.contains("too late"), "{run}");
        assert_back(lab, BASE);
        assert_base_works(lab);
    });
}

/// Whoever changes something takes back first what is overdue.
#[test]
fn the_next_apply_goes_back_first() {
    run_test(|lab| {
        lab.apply(BASE);
        try_out(lab, &locked_out(), "1s");
        for process in guardians() {
            integration_tests::command::run(&format!("kill -KILL {process}")).expect(0);
        }
        let other = edit(BASE, "agingTime: 300s", "agingTime: 200s");
        let path = lab.file("other.yaml", &other);
        let run = wait::until("the deadline", || {
            Some(lab.pcn(&format!("apply --yes -f {path}"))).filter(|run| run.code != Some(1))
        });
        assert_eq!(run.code, Some(0), "{run}");
        assert!(run.stderr.contains("taken back first"), "{run}");
        assert!(
            run.stdout.contains("~ update   cube/br "),
            "only the difference to what was confirmed: {run}"
        );
        assert!(!run.stdout.contains("shield"), "{run}");
        lab.assert_converged(&other);
        no_guardian_is_left();
    });
}

#[test]
fn the_apply_is_killed_half_way() {
    run_test(|lab| {
        lab.apply(BASE);
        let more = edit(
            &edit(&locked_out(), "agingTime: 300s", "agingTime: 200s"),
            "    h2:\n",
            "    h4: { interfaces: { eth0: { addresses: [10.1.0.4/24] } } }\n    h2:\n",
        );
        let more = edit(&more, "  links:\n", "  links:\n    - [br:a4, h4/eth0]\n");
        let mut killed = 0;
        for step in [1, 4, 8, 12, 16] {
            let mut running = lab.start_pcn(&line(lab, &more, "3s"));
            let mark = format!("[{step}/");
            wait::until("a step", || {
                (running.stderr().contains(&mark) || !running.is_running()).then_some(())
            });
            let ended = running.kill();
            lab.note_objects();
            let run = lab.pcn("confirm live");
            if run.code == Some(0) {
                // It was killed too late: everything was in place.
                lab.apply(BASE);
                continue;
            }
            assert!(ended.code.is_none(), "{ended}");
            assert_eq!(run.code, Some(1), "half of it cannot be confirmed: {run}");
            killed += 1;
            assert_back(lab, BASE);
            assert_eq!(ping(&lab.space("h1"), ip("10.1.0.2")), 64);
        }
        assert!(killed >= 2, "only {killed} were killed in time");
    });
}

#[test]
fn what_cannot_be_taken_back_is_refused() {
    run_test(|lab| {
        lab.apply(BASE);
        let without = edit(
            &edit(BASE, "    - [r:wan, h3/eth0]\n", ""),
            "    h3:\n      interfaces:\n        eth0:\n          addresses: [10.2.0.1/24, 'fd00:2::1/64']\n          routes: [{ to: default, via: 10.2.0.254 }, { to: default, via: 'fd00:2::fe' }]\n",
            "",
        );
        let process = lab.space("h3").start("sleep 600");
        wait::until("a process inside", || {
            let inside = integration_tests::command::run("ip netns pids h3");
            (!inside.stdout.trim().is_empty()).then_some(())
        });
        let run = lab.pcn(&line(lab, &without, "10m")).expect(1);
        assert!(
            run.stderr
                .contains("namespace/h3: this cannot be taken back"),
            "{run}"
        );
        lab.assert_converged(BASE);
        process.kill();
        try_out(lab, &without, "10m");
        lab.pcn("rollback").expect(0);
        assert_back(lab, BASE);
        assert_base_works(lab);
    });
}

#[test]
fn an_apply_is_interrupted() {
    run_test(|lab| {
        lab.apply(BASE);
        let before = ids(lab);
        let path = lab.file("more.yaml", &edit(BASE, "  cubes:\n", &many_hosts()));
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let mut running = lab.start_pcn(&format!("apply --yes -f {path}"));
            wait::until("a step", || {
                (running.stderr().contains("[3/") || !running.is_running()).then_some(())
            });
            running.signal(signal);
            let run = running.end().expect(4);
            assert!(run.stderr.contains("interrupted before"), "{run}");
            assert!(
                run.stderr.contains("Everything is back as it was."),
                "{run}"
            );
            assert_eq!(differences(&before, &ids(lab)), [""; 0]);
            lab.assert_converged(BASE);
            assert_base_works(lab);
        }
        // The end of the terminal does not stop what goes back by itself.
        let mut running = lab.start_pcn(&format!("apply --yes --confirm-timeout 10m -f {path}"));
        wait::until("a step", || {
            (running.stderr().contains("[3/") || !running.is_running()).then_some(())
        });
        running.signal(Signal::SIGHUP);
        running.end().expect(0);
        lab.pcn("rollback").expect(0);
        assert_back(lab, BASE);
    });
}

/// Enough namespaces for the apply to take a while.
fn many_hosts() -> String {
    let hosts: String = (10..40)
        .map(|host| format!("    x{host}: {{ interfaces: {{}} }}\n"))
        .collect();
    format!("{hosts}  cubes:\n")
}
