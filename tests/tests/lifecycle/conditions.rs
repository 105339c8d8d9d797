//! What `pcn show` says of a topology's state: conditions, revisions, states of objects, rates.

use std::fs;

use integration_tests::{
    command::run,
    lab::{Station, run_test},
    wait,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    BASE, edit,
    foreign::{Foreigner, WIRE, XDP},
};

/// Status and reason of a condition.
fn condition<'a>(show: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let conditions = show["conditions"].as_array().expect("conditions");
    let condition = conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_else(|| panic!("no {kind}: {show}"));
    assert!(condition["message"].is_string(), "{condition}");
    let text = |field: &str| condition[field].as_str().expect("a text");
    (text("status"), text("reason"))
}

#[test]
fn a_topology_that_is_ready() {
    run_test(|lab| {
        lab.apply(BASE);
        let show = lab.show("live");
        assert_eq!(condition(&show, "Ready"), ("True", "Applied"));
        assert_eq!(condition(&show, "Reconciling"), ("False", "Idle"));
        assert_eq!(condition(&show, "Stalled"), ("False", "Applied"));
        assert_eq!(show["observedGeneration"], 1);
        let first = show["lastAppliedRevision"].clone();
        assert_eq!(first.as_str().map(str::len), Some(12));
        assert_eq!(show["lastAttemptedRevision"], first);
        assert_eq!(show["lastAttemptedResult"], "applied");
        assert_eq!(show["cubes"]["br"]["state"], "ready");
        assert_eq!(show["cubes"]["br"]["ports"]["h1"]["state"], "up");
        assert_eq!(show["namespaces"]["h1"]["state"], "ready");

        // Another document is another revision; the first one again is the first revision again.
        lab.apply(&edit(BASE, "agingTime: 300s", "agingTime: 200s"));
        let show = lab.show("live");
        assert_eq!(show["observedGeneration"], 2);
        assert_ne!(show["lastAppliedRevision"], first);
        lab.apply(BASE);
        assert_eq!(lab.show("live")["lastAppliedRevision"], first);
        let all = lab.pcn("show -o json").expect(0).json();
        assert_eq!(
            condition(&all["topologies"][0], "Stalled"),
            ("False", "Applied")
        );

        // Without a history nothing is made up.
        let bare = lab
            .pcn("show live -o json --state /run/none")
            .expect(0)
            .json();
        assert_eq!(condition(&bare, "Stalled"), ("Unknown", "NoHistory"));
        assert_eq!(bare["observedGeneration"], Value::Null);
        assert_eq!(bare["lastAppliedRevision"], first);
    });
}

#[test]
fn an_interface_that_is_missing_or_down() {
    run_test(|lab| {
        lab.apply(WIRE);
        let show = lab.show("wires");
        assert_eq!(condition(&show, "Ready"), ("False", "Pending"));
        assert_eq!(condition(&show, "Stalled"), ("False", "Applied"));
        for (object, reason) in [
            (&show["interfaces"]["wire0"], "no such interface"),
            (&show["cubes"]["br"]["ports"]["w"], "no interface wire0"),
        ] {
            assert_eq!(
                (&object["state"], &object["reason"]),
                (&"pending".into(), &reason.into())
            );
        }
        let _station = Station::for_xdp("s", "wire0", &["10.0.0.2/24"]);
        lab.apply(WIRE);
        assert_eq!(condition(&lab.show("wires"), "Ready"), ("True", "Applied"));
        run("ip link set wire0 down").expect(0);
        let show = lab.show("wires");
        assert_eq!(condition(&show, "Ready"), ("False", "InterfaceDown"));
        assert_eq!(show["interfaces"]["wire0"]["state"], "down");
        assert_eq!(show["cubes"]["br"]["ports"]["w"]["state"], "down");
        assert_eq!(show["cubes"]["br"]["ports"]["h"]["state"], "up");
    });
}

#[test]
fn an_object_that_failed() {
    run_test(|lab| {
        let _station = Station::for_xdp("s", "wire0", &["10.0.0.2/24"]);
        lab.apply(WIRE);
        fs::remove_file(lab.pin("wires/interfaces/wire0/link-tc-ingress"))
            .expect("the link is pinned");
        let show = lab.show("wires");
        assert_eq!(condition(&show, "Ready"), ("False", "Drifted"));
        let wire = &show["interfaces"]["wire0"];
        assert_eq!(wire["state"], "failed", "{wire}");
        let reason = wire["reason"].as_str().expect("a reason");
        assert!(reason.contains("nothing is attached"), "{reason}");
        assert_eq!(show["cubes"]["br"]["ports"]["w"]["state"], "failed");
        let text = lab.pcn("show wires").expect(0).stdout;
        assert!(
            text.contains("failed (nothing is attached to wire0"),
            "{text}"
        );
        lab.apply(WIRE);
        assert_eq!(condition(&lab.show("wires"), "Ready"), ("True", "Applied"));
    });
}

#[test]
fn an_attempt_that_failed() {
    run_test(|lab| {
        let _station = Station::for_xdp("s", "wire0", &["10.0.0.2/24"]);
        lab.apply(WIRE);
        let foreigner = Foreigner::attach("wire0", XDP);
        let other = WIRE.replace("hook: tc", "hook: xdp");
        let path = lab.file("other.yaml", &other);
        lab.pcn(&format!("apply --yes -f {path}")).expect(4);
        let show = lab.show("wires");
        // What runs is as good as before.
        assert_eq!(condition(&show, "Ready"), ("True", "Applied"));
        assert_eq!(condition(&show, "Stalled"), ("True", "RolledBack"));
        assert_eq!(show["observedGeneration"], 1);
        assert_eq!(show["lastAttemptedResult"], "rolledBack");
        assert_ne!(show["lastAttemptedRevision"], show["lastAppliedRevision"]);
        let text = lab.pcn("show wires").expect(0).stdout;
        assert!(text.contains("(rolledBack)"), "{text}");
        drop(foreigner);
        lab.apply(&other);
        let show = lab.show("wires");
        assert_eq!(condition(&show, "Stalled"), ("False", "Applied"));
        assert_eq!(show["observedGeneration"], 3);
    });
}

#[test]
fn somebody_changes_it_now() {
    run_test(|lab| {
        lab.apply(BASE);
        let lock = lab.lock("live");
        let show = lab.show("live");
        assert_eq!(condition(&show, "Reconciling"), ("True", "Progressing"));
        let who = show["conditions"][1]["message"]
            .as_str()
            .expect("a message");
        assert!(
            who.contains(&format!("process {}", std::process::id())),
            "{who}"
        );
        drop(lock);
        assert_eq!(
            condition(&lab.show("live"), "Reconciling"),
            ("False", "Idle")
        );
        // To look is not to lock: one who does not wait is not turned away.
        let watch = lab.start_pcn("show live --watch=0.01 -o json");
        for aging in ["200s", "100s", "50s"] {
            let text = edit(BASE, "agingTime: 300s", &format!("agingTime: {aging}"));
            lab.pcn_with("apply --yes --lock-timeout 0 -f -", &text)
                .expect(0);
        }
        watch.signal(Signal::SIGTERM);
        watch.end().expect(0);
    });
}

/// Rates of a port, as packets per second that came in, from lines of JSON.
fn rates(lines: &str, cube: &str, port: &str) -> Vec<f64> {
    let documents = lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    documents
        .filter_map(|show: Value| {
            assert_eq!(show["formatVersion"], "1.0");
            assert!(show["time"].is_string());
            show["cubes"][cube]["ports"][port]["rates"]["rx"]["packetsPerSecond"].as_f64()
        })
        .collect()
}

#[test]
fn watching_it() {
    run_test(|lab| {
        lab.apply(BASE);
        let traffic = lab.space("h1").start("ping -q -i 0.01 10.2.0.1");
        let watch = lab.start_pcn("show live --watch=0.2 -o json");
        wait::until("packets per second", || {
            // A hundred a second are sent; the machine may be slow.
            let rates = rates(&watch.stdout(), "r", "lan");
            rates
                .iter()
                .any(|rate| (5.0..150.0).contains(rate))
                .then_some(())
        });
        watch.signal(Signal::SIGINT);
        let watched = watch.end().expect(0);
        assert_eq!(watched.stderr, "");
        traffic.kill();

        let text = lab.start_pcn("show live --watch=0.05");
        wait::until("a second look", || {
            text.stdout().contains("\n---\n").then_some(())
        });
        text.signal(Signal::SIGINT);
        let text = text.end().expect(0).stdout;
        let (first, second) = text.split_once("\n---\n").expect("two looks");
        assert!(
            !first.contains("RX PACKETS/S") && second.contains("RX PACKETS/S"),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");

        // One whose reader goes away ends.
        let mut piped = lab.start_shell("$PCN show live --watch=0.05 | head -1");
        wait::until("the end of the pipe", || {
            (!piped.is_running()).then_some(())
        });
        assert_eq!(piped.end().expect(0).stdout, "Topology live\n");
        let mut piped = lab.start_shell("$PCN events --follow | head -1");
        wait::until("the end of the pipe", || {
            (!piped.is_running()).then_some(())
        });
        for wrong in ["0", "x", "-1", "1h"] {
            lab.pcn(&format!("show live --watch={wrong}")).expect(64);
        }
        // All topologies, again and again.
        let all = lab.start_pcn("show --watch=0.05 -o json");
        wait::until("two looks", || {
            (all.stdout().lines().count() > 1).then_some(())
        });
        all.signal(Signal::SIGTERM);
        all.end().expect(0);
    });
}
