//! Two who change the same topology: one after the other, whatever becomes of them.

use integration_tests::{
    lab::{Lab, run_test},
    wait,
};

use crate::{BASE, assert_base_works, edit};

const ROUNDS: usize = 4;

/// What is done to the topology goes from what the one before led to.
fn assert_serial(lab: &Lab) {
    let list = lab.pcn("history live -o json").expect(0).json();
    let mut numbers: Vec<u64> = list["transactions"]
        .as_array()
        .unwrap_or_else(|| panic!("no transactions: {list}"))
        .iter()
        .filter_map(|transaction| transaction["number"].as_u64())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.len() >= 2, "{list}");
    let mut before = serde_json::Value::Null;
    for number in numbers {
        let transaction = lab
            .pcn(&format!("history show live {number} -o json"))
            .expect(0)
            .json();
        assert_eq!(transaction["result"], "applied", "{transaction}");
        assert_eq!(transaction["before"], before, "{transaction}");
        before = transaction["wanted"].clone();
    }
}

#[test]
fn two_appliers_take_turns() {
    run_test(|lab| {
        let other = edit(
            &edit(BASE, "agingTime: 300s", "agingTime: 200s"),
            "sources: [198.51.100.0/24]",
            "sources: [192.0.2.0/24]",
        );
        let paths = [lab.file("one.yaml", BASE), lab.file("two.yaml", &other)];
        let appliers = paths.map(|path| {
            lab.start_shell(&format!(
                "for round in $(seq {ROUNDS}); do \"$PCN\" apply --yes --lock-timeout 50s -f {path} || exit $?; done"
            ))
        });
        for applier in appliers {
            applier.end().expect(0);
        }
        lab.note_objects();
        assert_base_works(lab);
        let converged = [BASE, &other].map(|text| lab.plan(text).code == Some(0));
        assert!(converged[0] != converged[1], "{converged:?}");
        assert_serial(lab);
    });
}

#[test]
fn the_lock_of_a_killed_writer_is_free() {
    run_test(|lab| {
        let path = lab.file("base.yaml", BASE);
        let mut running = lab.start_pcn(&format!("apply --yes -f {path}"));
        wait::until("a step", || {
            (running.stderr().contains("[3/") || !running.is_running()).then_some(())
        });
        running.kill();
        lab.note_objects();
        lab.pcn(&format!("apply --yes --lock-timeout 0 -f {path}"))
            .expect(0);
        lab.assert_converged(BASE);
    });
}
