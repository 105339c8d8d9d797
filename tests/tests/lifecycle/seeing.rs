//! What `pcn` says of what it did: history and events.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path};

use integration_tests::{
    command::{Run, Running, run},
    lab::{Lab, Station, run_test},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    BASE, edit,
    foreign::{Foreigner, WIRE, XDP},
};

/// [`BASE`] without the cube that nothing uses, of which every command warns.
fn base() -> String {
    edit(BASE, "    probe: { helloTransparent: {} }\n", "")
}

/// The topology of [`WIRE`] on a hook that somebody else has.
fn taken() -> String {
    WIRE.replace("hook: tc", "hook: xdp")
}

/// Transactions, the newest first.
fn history(lab: &Lab, arguments: &str) -> Vec<Value> {
    let all = lab.pcn(&format!("history {arguments} -o json")).expect(0);
    let all = all.json();
    assert_eq!(all["formatVersion"], "1.0");
    all["transactions"].as_array().expect("a list").clone()
}

/// A field of each.
fn field(list: &[Value], name: &str) -> Vec<String> {
    let text = |value: &Value| value[name].as_str().unwrap_or_default().to_owned();
    list.iter().map(text).collect()
}

/// Events out of lines of JSON, the first of which says the version.
fn events(lines: &str) -> Vec<Value> {
    let mut values = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let first = values.next().expect("a first line");
    assert_eq!(first["formatVersion"], "1.0");
    values.collect()
}

fn past(lab: &Lab, name: &str) -> Vec<Value> {
    events(&lab.pcn(&format!("events {name} -o json")).expect(0).stdout)
}

#[test]
fn applies_and_destroys_are_remembered() {
    run_test(|lab| {
        lab.pcn("history").expect(0);
        lab.pcn("history show 1").expect(1);
        lab.apply(BASE);
        // What changes nothing is no transaction.
        lab.apply(BASE);
        let changed = edit(BASE, "agingTime: 300s", "agingTime: 200s");
        lab.apply(&changed);
        lab.pcn("destroy --yes live").expect(0);

        let all = history(lab, "live");
        assert_eq!(field(&all, "command"), ["destroy", "apply", "apply"]);
        assert_eq!(field(&all, "result"), ["applied"; 3]);
        assert_eq!(all[1]["summary"]["update"], 1);
        assert_eq!(all[1]["number"], 2);
        assert!(
            all[1]["source"]
                .as_str()
                .expect("a file")
                .ends_with("topology.yaml")
        );
        assert_eq!(all[1]["who"]["uid"], 0);
        assert_eq!(all[0]["revision"], Value::Null);
        assert_ne!(all[1]["revision"], all[2]["revision"]);
        let operations = field(&all, "operation");
        assert_eq!(operations.iter().collect::<BTreeSet<_>>().len(), 3);

        let all = past(lab, "live");
        assert_eq!(
            field(&all, "type"),
            [
                "started",
                "applied",
                "started",
                "applied",
                "started",
                "destroyed"
            ]
        );
        let order: Vec<_> = operations.iter().rev().flat_map(|op| [op, op]).collect();
        assert_eq!(field(&all, "op").iter().collect::<Vec<_>>(), order);
        // Nobody else may read what is in there.
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
        };
        let folder = fs::read_dir("/var/lib/pcn")
            .expect("history")
            .flatten()
            .next();
        let folder = folder.expect("of one topology").path();
        assert_eq!(mode(&folder) & 0o777, 0o700);
        assert_eq!(mode(&folder.join("000001.json")) & 0o777, 0o600);
    });
}

#[test]
fn a_transaction_says_what_ran_then() {
    run_test(|lab| {
        lab.apply(BASE);
        lab.apply(&edit(BASE, "agingTime: 300s", "agingTime: 200s"));
        let one = lab.pcn("history show 1 -o yaml").expect(0);
        // Back to it: one change, and then none.
        let plan = lab
            .pcn_with("plan -o json -f -", &one.stdout)
            .expect(0)
            .json();
        assert_eq!(plan["summary"]["update"], 1, "{plan}");
        lab.pcn_with("apply --yes -f -", &one.stdout).expect(0);
        lab.assert_converged(BASE);
        let all = history(lab, "");
        assert_eq!(all[0]["revision"], all[2]["revision"]);

        let two = lab.pcn("history show 2 -o json").expect(0).json();
        assert_eq!(two["changes"][0]["address"], "cube/br", "{two}");
        assert_eq!(two["before"]["metadata"]["name"], "live");
        let text = lab.pcn("history show 2").expect(0).stdout;
        assert!(
            text.contains("~ update") && text.contains("cube/br"),
            "{text}"
        );

        // With two topologies, a number says too little.
        lab.apply(
            &edit(BASE, "name: live", "name: other")
                .replace("h1", "g1")
                .replace("h2", "g2")
                .replace("h3", "g3"),
        );
        let unclear = lab.pcn("history show 1").expect(64);
        assert!(unclear.stderr.contains("live, other"), "{unclear}");
        lab.pcn("history show other 1").expect(0);
        let missing = lab.pcn("history show other 7").expect(1);
        assert!(missing.stderr.contains("1 to 1"), "{missing}");
        lab.pcn("destroy --yes other").expect(0);
        lab.pcn("history show other 2 -o yaml").expect(1);
    });
}

#[test]
fn failures_are_remembered_with_their_reasons() {
    run_test(|lab| {
        let _station = Station::for_xdp("s", "wire0", &["10.0.0.2/24"]);
        lab.apply(WIRE);
        let foreigner = Foreigner::attach("wire0", XDP);
        let path = lab.file("taken.yaml", &taken());
        let failed = lab.pcn(&format!("apply --yes -f {path}")).expect(4);
        drop(foreigner);
        let all = history(lab, "wires");
        assert_eq!(field(&all, "result"), ["rolledBack", "applied"]);
        let message = all[0]["message"].as_str().expect("a reason");
        assert!(message.contains("wire0"), "{message}");
        assert!(
            failed
                .stderr
                .contains(message.lines().next().expect("a line"))
        );
        let all = past(lab, "wires");
        assert_eq!(field(&all, "type")[2..], ["started", "rolledBack"]);
        // What runs after it is what ran before it.
        let after = lab.pcn("history show 2 -o yaml").expect(0).stdout;
        lab.assert_converged(&after);

        // Refused before anything is touched.
        run("ip netns add h2").expect(0);
        let path = lab.file("base.yaml", BASE);
        lab.pcn(&format!("apply --yes -f {path}")).expect(1);
        run("ip netns delete h2").expect(0);
        let all = history(lab, "live");
        assert_eq!(field(&all, "result"), ["failed"]);
        assert!(
            all[0]["message"]
                .as_str()
                .expect("a reason")
                .contains("namespace/h2")
        );
        assert_eq!(field(&past(lab, "live"), "type"), ["failed"]);
    });
}

#[test]
fn what_was_killed_was_interrupted() {
    run_test(|lab| {
        let path = lab.file("base.yaml", BASE);
        let mut apply = lab.start_pcn(&format!("apply --yes -f {path}"));
        wait::until("a step", || {
            (apply.stderr().contains("[5/") || !apply.is_running()).then_some(())
        });
        // While it holds the lock, it runs.
        apply.signal(Signal::SIGSTOP);
        let running = history(lab, "live");
        assert_eq!(field(&running, "result"), ["running"]);
        assert_eq!(apply.kill().code, None);
        lab.note_objects();
        assert_eq!(field(&history(lab, "live"), "result"), ["interrupted"]);
        lab.pcn("history show 1 -o yaml").expect(1);
        lab.apply(BASE);
        let all = history(lab, "live");
        assert_eq!(field(&all, "result"), ["applied", "interrupted"]);
    });
}

#[test]
fn a_full_history_stops_nothing() {
    run_test(|lab| {
        fs::create_dir_all("/var/lib/pcn").expect("a new tmpfs");
        run("mount -o remount,ro /var/lib").expect(0);
        let apply = lab.apply(BASE);
        assert_eq!(
            apply.stderr.matches("warning: history").count(),
            1,
            "{apply}"
        );
        assert_eq!(field(&past(lab, "live"), "type"), ["started", "applied"]);
        lab.pcn("destroy --yes live").expect(0);
        run("mount -o remount,rw /var/lib").expect(0);
        for _ in 0..3 {
            lab.pcn_with("apply --yes --history 2 -f -", BASE).expect(0);
            lab.pcn("destroy --yes --history 2 live").expect(0);
        }
        let all = history(lab, "live");
        let numbers: Vec<_> = all.iter().map(|item| item["number"].as_u64()).collect();
        assert_eq!(numbers, [Some(6), Some(5)]);
        // One broken file does not hide the others.
        let folder = fs::read_dir("/var/lib/pcn")
            .expect("history")
            .flatten()
            .next();
        let folder = folder.expect("of one topology").path();
        fs::write(folder.join("000005.json"), "{").expect("a file in a tmpfs");
        let some = lab.pcn("history live").expect(0);
        assert!(some.stderr.contains("transaction 5"), "{some}");
        assert_eq!(some.stdout.lines().count(), 2, "{some}");
    });
}

/// Waits until a command has written something.
fn says(running: &Running, text: &str) {
    wait::until(text, || running.stdout().contains(text).then_some(()));
}

#[test]
fn events_are_followed() {
    run_test(|lab| {
        lab.apply(BASE);
        let follow = lab.start_pcn("events live --follow -o json");
        let all = lab.start_pcn("events --follow --since 0 -o json");
        says(&follow, "\"applied\"");
        says(&all, "formatVersion");
        lab.apply(&edit(BASE, "agingTime: 300s", "agingTime: 200s"));
        lab.pcn_with("apply --yes -f -", &edit(WIRE, "name: wires", "name: late"))
            .expect(0);
        lab.pcn("destroy --yes live").expect(0);
        says(&follow, "\"destroyed\"");
        says(&all, "destroyed");
        for running in [&follow, &all] {
            running.signal(Signal::SIGINT);
        }
        let [follow, all]: [Run; 2] = [follow, all].map(|running| running.end().expect(0));
        let types = field(&events(&follow.stdout), "type");
        let expected = [
            "started",
            "applied",
            "started",
            "applied",
            "started",
            "destroyed",
        ];
        assert_eq!(types, expected);
        // Those of a topology that is new, and none of what was before.
        let all = events(&all.stdout);
        let of = |name: &str| {
            let mut of = all.clone();
            of.retain(|event| event["topology"] == name);
            field(&of, "type")
        };
        assert_eq!(of("live"), expected[2..]);
        assert_eq!(of("late"), ["started", "pending", "applied"]);
        let text = lab.pcn("events late").expect(0).stdout;
        assert!(
            text.contains("  late  pending (apply)  link/br:w--wire0  no interface wire0  op="),
            "{text}"
        );
        let none = lab.pcn("events late --since 0").expect(0);
        assert_eq!(none.stdout, "");
    });
}

#[test]
fn drift_is_told_and_its_repair() {
    run_test(|lab| {
        lab.apply(BASE);
        run("ip -netns h1 address del 10.1.0.1/24 dev eth0").expect(0);
        lab.apply(BASE);
        let all = past(lab, "live");
        let types = field(&all, "type");
        assert_eq!(
            types[2..],
            ["started", "driftFound", "driftRepaired", "applied"],
            "{all:?}"
        );
        assert_eq!(all[3]["address"], "namespace/h1");
        assert_eq!(history(lab, "live")[0]["drift"], Value::Null);
        let two = lab.pcn("history show 2 -o json").expect(0).json();
        assert_eq!(two["drift"][0]["address"], "namespace/h1", "{two}");
    });
}

#[test]
fn logs_carry_the_operation() {
    run_test(|lab| {
        let path = lab.file("base.yaml", &base());
        let apply = lab
            .pcn(&format!("apply -q -vv --log-format json --yes -f {path}"))
            .expect(0);
        let records: Vec<Value> = apply
            .stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}: {apply}")))
            .collect();
        let id = field(&history(lab, "live"), "operation").remove(0);
        let steps: Vec<_> = records
            .iter()
            .filter(|record| record["message"] == "step")
            .collect();
        assert!(steps.len() > 20, "{apply}");
        assert!(
            steps
                .iter()
                .all(|record| record["span"]["op"] == id.as_str()),
            "{apply}"
        );
        let text = lab.pcn("destroy -v --yes live").expect(0);
        let id = field(&history(lab, "live"), "operation").remove(0);
        assert!(text.stderr.contains(&format!("op={id}")), "{text}");
    });
}

#[test]
fn quiet_says_nothing_that_is_no_problem() {
    run_test(|lab| {
        let path = lab.file("base.yaml", &base());
        let apply = lab.pcn(&format!("apply -q --yes -f {path}")).expect(0);
        assert_eq!(apply.stderr, "", "{apply}");
        let wrong = lab.pcn("destroy -q live").expect(64);
        assert!(wrong.stderr.contains("--yes"), "{wrong}");
    });
}

#[test]
fn a_terminal_has_a_bar_and_others_have_lines() {
    run_test(|lab| {
        let path = lab.file("base.yaml", &base());
        let on_a_terminal = |command: &str| {
            let script = format!("TERM=xterm script -qec \"$PCN {command}\" /dev/null");
            lab.start_shell(&script).end().expect(0).stdout
        };
        let bar = on_a_terminal(&format!("apply --yes -f {path}"));
        assert!(bar.contains("........................ 0/"), "{bar}");
        assert!(
            !bar.contains("[1/") && bar.contains("Applied live"),
            "{bar}"
        );
        lab.note_objects();
        let quiet = on_a_terminal("destroy -q --yes live");
        assert!(
            !quiet.contains("......") && !quiet.contains("Destroyed"),
            "{quiet}"
        );
        let lines = lab.pcn(&format!("apply --yes -f {path}")).expect(0).stderr;
        assert!(lines.contains("\n[2/") && !lines.contains("..."), "{lines}");

        // Another screen, which goes when it ends. The terminal is another session's, so the
        // signal goes to the process itself.
        let watch = lab.start_shell(
            "TERM=xterm script -qec \"echo \\$\\$; exec $PCN show --watch=0.05\" /dev/null",
        );
        wait::until("two looks", || {
            (watch.stdout().matches("\x1b[H").count() > 1).then_some(())
        });
        let output = watch.stdout();
        let process = output
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        kill(Pid::from_raw(process.expect("its number")), Signal::SIGINT).expect("it runs");
        let watched = watch.end().expect(0).stdout;
        assert!(
            watched.contains("\x1b[?1049h") && watched.ends_with("\x1b[?1049l"),
            "{watched:?}"
        );
    });
}
