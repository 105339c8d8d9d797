//! `pcn` is killed while it works: the next one ends what it began, and nothing is left over.

use integration_tests::{
    lab::{Lab, run_test},
    traffic::ping,
    wait,
};

use crate::ip;

/// Hosts on each of the switches.
const HOSTS: usize = 8;
/// Switches around the one in the middle.
const SWITCHES: usize = 6;

/// Many objects; `generation` changes all of the switches.
fn topology(generation: usize) -> String {
    let (mut namespaces, mut cubes, mut links) = (String::new(), String::new(), String::new());
    for switch in 1..=SWITCHES {
        cubes += &format!(
            "    s{switch}: {{ bridge: {{ agingTime: {}s }} }}\n",
            100 + generation
        );
        links += &format!("    - [core:s{switch}, s{switch}:core]\n");
        for host in 1..=HOSTS {
            let name = format!("h{switch}{host}");
            namespaces += &format!(
                "    {name}: {{ interfaces: {{ eth0: {{ addresses: [10.0.{switch}.{host}/16, 'fd00::{switch}:{host}/64'] }} }} }}\n"
            );
            links += &format!("    - [s{switch}:p{host}, {name}/eth0]\n");
        }
    }
    format!(
        "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: big }}\nspec:\n  namespaces:\n{namespaces}  cubes:\n    core: {{ bridge: {{}} }}\n{cubes}  links:\n{links}"
    )
}

/// Starts a command and kills it once it reports a step; false if it was done before.
fn kill_at(lab: &Lab, arguments: &str, step: usize) -> bool {
    let mut running = lab.start_pcn(arguments);
    let mark = format!("[{step}/");
    wait::until("a step", || {
        (running.stderr().contains(&mark) || !running.is_running()).then_some(())
    });
    let killed = running.kill().code.is_none();
    lab.note_objects();
    killed
}

fn assert_works(lab: &Lab, text: &str) {
    lab.assert_converged(text);
    let staged: Vec<_> = lab
        .ids()
        .into_keys()
        .filter(|path| path.ends_with('+'))
        .collect();
    assert_eq!(staged, [""; 0], "left half-way");
    for (from, to) in [
        ("h11", "10.0.4.6"),
        ("h26", "fd00::1:1"),
        ("h43", "10.0.4.1"),
    ] {
        assert_eq!(ping(&lab.space(from), ip(to)), 64);
    }
}

/// Steps of a plan to go on from, spread over it.
fn spread(total: usize) -> impl Iterator<Item = usize> {
    (0..6).map(move |part| 1 + part * total / 6)
}

/// How many steps a run reported.
fn steps(stderr: &str) -> usize {
    let (_, rest) = stderr
        .rsplit_once('[')
        .unwrap_or_else(|| panic!("no steps are reported: {stderr}"));
    rest.split(['/', ']'])
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number: {stderr}"))
}

#[test]
fn killed_while_it_makes_everything() {
    run_test(|lab| {
        let text = topology(0);
        let path = lab.file("big.yaml", &text);
        let total = steps(&lab.apply(&text).stderr);
        assert_works(lab, &text);
        lab.pcn("destroy --yes big").expect(0);
        let mut killed = 0;
        for step in spread(total) {
            killed += usize::from(kill_at(lab, &format!("apply --yes -f {path}"), step));
            lab.apply(&text);
            assert_works(lab, &text);
            lab.pcn("destroy --yes big").expect(0);
            assert!(lab.ids().is_empty());
        }
        assert!(killed >= 3, "only {killed} were killed in time");
    });
}

#[test]
fn killed_and_then_destroyed() {
    run_test(|lab| {
        let text = topology(0);
        let path = lab.file("big.yaml", &text);
        let total = steps(&lab.apply(&text).stderr);
        let mut killed = 0;
        for step in spread(total) {
            lab.pcn("destroy --yes big").expect(0);
            assert!(lab.ids().is_empty());
            killed += usize::from(kill_at(lab, &format!("apply --yes -f {path}"), step));
        }
        assert!(killed >= 3, "only {killed} were killed in time");
        lab.pcn("destroy --yes big").expect(0);
        assert!(lab.ids().is_empty());
    });
}

#[test]
fn killed_while_it_changes() {
    run_test(|lab| {
        lab.apply(&topology(0));
        let total = steps(&lab.apply(&topology(1)).stderr);
        for (generation, step) in (2..).zip(spread(total)) {
            let text = topology(generation);
            kill_at(
                lab,
                &format!("apply --yes -f {}", lab.file("big.yaml", &text)),
                step,
            );
            // Half of it is in place; what is there works already.
            assert_eq!(ping(&lab.space("h11"), ip("10.0.4.6")), 64);
            lab.apply(&text);
            assert_works(lab, &text);
        }
    });
}

#[test]
fn killed_while_it_destroys() {
    run_test(|lab| {
        let text = topology(0);
        lab.apply(&text);
        let total = steps(&lab.pcn("destroy --yes big").expect(0).stderr);
        for (turn, step) in spread(total).enumerate() {
            lab.apply(&text);
            kill_at(lab, "destroy --yes big", step);
            if turn % 2 == 0 {
                lab.apply(&text);
                assert_works(lab, &text);
            }
            lab.pcn("destroy --yes big").expect(0);
            assert!(lab.ids().is_empty());
        }
    });
}
