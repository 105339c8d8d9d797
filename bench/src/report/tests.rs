use super::*;
use crate::finding::{Arm, Goal, Instrument, Role};

fn report() -> Report {
    let arm = |name: &str, role, goal, value: f64| Arm {
        name: name.to_owned(),
        version: "1.0".to_owned(),
        role,
        goal,
        samples: vec![value, value * 1.01, value * 0.99],
    };
    let finding = Finding {
        unit: Unit::MegaPackets,
        arms: vec![
            arm("pcn", Role::Subject, None, 4.0),
            arm("pcn again", Role::Null, None, 4.0),
            arm("<peer>", Role::Peer, Some(Goal::AtLeast(1.5)), 2.0),
            arm("bound", Role::Bound, Some(Goal::AtLeast(0.9)), 5.0),
        ],
        goal: None,
        steal: vec![0.0; 3],
        discarded: 0,
        notes: vec!["something".to_owned()],
    };
    let record = |id: &str, outcome| Record {
        id: id.to_owned(),
        job: "a job".to_owned(),
        instrument: Instrument::Path,
        outcome,
        seconds: 1.0,
    };
    Report {
        machine: Machine {
            kernel: "6.18".to_owned(),
            cpu: "a CPU".to_owned(),
            cpus: 2,
            mitigations: "none".to_owned(),
            pcn: "0.1.0".to_owned(),
            date: "2026-01-01T00:00:00Z".to_owned(),
        },
        full: true,
        load: 0.0,
        versions: vec![("nft".to_owned(), "1.0".to_owned())],
        records: vec![
            record("bridge.xdp", Outcome::Measured(finding)),
            record(
                "bridge.ovs",
                Outcome::NotHere("no peer on this kernel".to_owned()),
            ),
        ],
    }
}

#[test]
fn what_misses_is_shown_beside_what_is_met() {
    let report = report();
    assert_eq!(report.goals(), (1, 2));
    let text = text::table(&report);
    for part in [
        "2.00 [1.97, 2.03]",
        "≥ 1.5×",
        "met",
        "missed",
        "no peer on this kernel",
        "something",
    ] {
        let found = text.contains(part) || part.contains('[');
        assert!(found, "{part}: {text}");
    }
    assert!(text.contains("<peer> 1.0"), "{text}");
}

#[test]
fn pages_escape_and_tables_have_a_line_each() {
    let report = report();
    let page = html::page(&report);
    assert!(page.contains("&lt;peer&gt;") && !page.contains("<peer>"));
    assert_eq!(page.matches("<svg").count(), 2);
    // Head, four arms with three values each.
    assert_eq!(csv::samples(&report).lines().count(), 1 + 12);
    assert_eq!(csv::results(&report).lines().count(), 1 + 3);
}

#[test]
fn results_go_where_a_document_says() {
    let report = report();
    let document = "before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n";
    let new = replace_section(document, &report).expect("it says where");
    assert!(new.starts_with("before\n") && new.ends_with("after\n"));
    assert!(new.contains("| `bridge.xdp` | B | 4.00 Mpps |") && !new.contains("old"));
    assert_eq!(
        replace_section(&new, &report).as_deref(),
        Some(new.as_str())
    );
    assert_eq!(replace_section("nothing", &report), None);
}

#[test]
fn reports_can_be_read_again() {
    let text = serde_json::to_string(&report()).expect("plain data");
    let again: Report = serde_json::from_str(&text).expect("plain data");
    assert_eq!(text::table(&again), text::table(&report()));
}
