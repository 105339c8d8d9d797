//! A plan that was saved is applied exactly, or not at all.

use integration_tests::{
    command::{Run, run},
    lab::{Lab, run_test},
};

use crate::{BASE, assert_base_works, edit};

const FROM: &str = "sources: [198.51.100.0/24]";
const TO: &str = "sources: [192.0.2.0/24]";

/// Saves the plan to a topology.
#[track_caller]
fn save(lab: &Lab, text: &str) -> String {
    let file = lab.file("wanted.yaml", text);
    let path = lab.file("saved.plan", "");
    lab.pcn(&format!("plan -f {file} --out {path}")).expect(0);
    path
}

fn apply(lab: &Lab, path: &str) -> Run {
    lab.pcn(&format!("apply --yes {path}"))
}

/// It is refused for this reason, and nothing is touched.
#[track_caller]
fn assert_stale(lab: &Lab, path: &str, reason: &str) {
    let before = lab.ids();
    let run = apply(lab, path).expect(78);
    assert!(run.stderr.contains(reason), "{run}");
    assert!(!run.stderr.contains("[1/"), "a step was done: {run}");
    assert_eq!(lab.ids(), before);
}

#[test]
fn is_applied_as_it_was_shown() {
    run_test(|lab| {
        let path = save(lab, BASE);
        let mode = run(&format!("stat -c %a {path}")).expect(0).stdout;
        assert_eq!(mode.trim(), "600");
        let first = lab.plan(BASE).expect(2);
        let applied = apply(lab, &path).expect(0);
        assert_eq!(applied.stdout, first.stdout);
        assert_base_works(lab);
        lab.assert_converged(BASE);
        let changed = edit(BASE, FROM, TO);
        let path = save(lab, &changed);
        // Traffic and what is learned from it change nothing.
        assert_base_works(lab);
        apply(lab, &path).expect(0);
        lab.assert_converged(&changed);
        // It was for the way from one to the other.
        assert_stale(lab, &path, "another topology was applied");
    });
}

#[test]
fn is_refused_when_something_else_was_applied() {
    run_test(|lab| {
        let path = save(lab, BASE);
        lab.apply(&edit(BASE, FROM, TO));
        assert_stale(lab, &path, "another topology was applied");
        lab.pcn("destroy --yes live").expect(0);
        apply(lab, &path).expect(0);
        lab.assert_converged(BASE);
        lab.pcn("destroy --yes live").expect(0);
    });
}

#[test]
fn is_refused_when_the_kernel_drifted() {
    run_test(|lab| {
        lab.apply(BASE);
        let path = save(lab, &edit(BASE, "agingTime: 300s", "agingTime: 200s"));
        let table = "live/cubes/shield/sources_v4";
        lab.unlist(table, &lab.keys(table));
        assert_stale(lab, &path, "the kernel has other tables");
        assert_stale(lab, &path, "drift: cube/shield/sources/198.51.100.0/24");
        lab.apply(BASE);
        // The same as when the plan was made.
        apply(lab, &path).expect(0);
    });
}

#[test]
fn is_refused_when_a_link_was_detached() {
    run_test(|lab| {
        lab.apply(BASE);
        let path = save(lab, &edit(BASE, FROM, TO));
        let link = lab
            .ids()
            .into_keys()
            .find(|path| path.contains("/link-"))
            .expect("something is attached");
        let link = lab.pin(&link).display().to_string();
        run(&format!("bpftool link detach pinned {link}")).expect(0);
        assert_stale(lab, &path, "the kernel has other attachments");
    });
}

/// What the plan does not use may come and go.
#[test]
fn other_interfaces_do_not_matter() {
    run_test(|lab| {
        lab.apply(BASE);
        let path = save(lab, &edit(BASE, FROM, TO));
        run("ip link add stranger type veth peer name stranger2").expect(0);
        run("ip netns add stranger").expect(0);
        apply(lab, &path).expect(0);
        run("ip link delete stranger").expect(0);
        run("ip netns delete stranger").expect(0);
    });
}

/// A file from outside is checked like one.
#[test]
fn a_file_that_is_none_is_refused() {
    run_test(|lab| {
        let good = save(lab, BASE);
        let text = std::fs::read_to_string(&good).expect("it was saved");
        let cases = [
            ("", "not a saved plan"),
            (BASE, "a topology is given with -f"),
            ("{}", "not a saved plan"),
            ("[1, 2]", "it is no JSON object"),
            (&text[..text.len() / 2], "not a saved plan"),
            (
                &text.replacen("\"formatVersion\": \"1.", "\"formatVersion\": \"2.", 1),
                "format version `2.",
            ),
            (
                &text.replacen("198.51.100.0/24", "0.0.0.0/0", 1),
                "was changed after it was written",
            ),
            (
                &text.replacen("\"checksum\"", "\"sum\"", 1),
                "was changed after it was written",
            ),
        ];
        for (text, reason) in cases {
            let path = lab.file("bad.plan", text);
            let run = apply(lab, &path).expect(65);
            assert!(run.stderr.contains(reason), "{reason}: {run}");
            assert!(lab.ids().is_empty());
        }
    });
}

/// A plan is a question: it neither waits for the lock nor takes it.
#[test]
fn planning_takes_no_lock() {
    run_test(|lab| {
        lab.apply(BASE);
        let _lock = lab.lock("live");
        save(lab, &edit(BASE, FROM, TO));
        lab.pcn("apply --yes --lock-timeout 0 /run/test/saved.plan")
            .expect(75);
    });
}
