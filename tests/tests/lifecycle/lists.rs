//! Lists of prefixes that change while they are looked into: what stays counts every packet.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use integration_tests::{
    command::run,
    lab::{Lab, Station, run_test},
};

const SOURCES: &str = "guard/cubes/shield/sources_v4";
const HOST: &str = "10.0.0.66/32";
/// Of which the list has 65,536 as room.
const MANY: u32 = 40_000;

/// A host that sends from listed addresses.
fn station() -> Station {
    let station = Station::for_xdp("s", "wire0", &["10.0.0.3/24", "10.0.0.66/24"]);
    run("ip address add 10.0.0.9/24 dev wire0").expect(0);
    station
}

fn topology(sources: &str) -> String {
    format!(
        "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: guard }}
spec:
  interfaces: {{ wire0: {{ hook: xdp, through: [shield] }} }}
  cubes: {{ shield: {{ ddosMitigator: {{ sources: [{HOST}{sources}] }} }} }}
"
    )
}

/// Hosts of a network of their own, with a comma before each.
fn others(network: u8, count: u32) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        let [_, a, b, c] = number.to_be_bytes();
        let address = Ipv4Addr::new(network, a, b, c);
        let _ = write!(text, ",\n{address}/32");
        text
    })
}

/// Packets that the host has sent in vain: by the list's entry, and by the cube's attachment.
fn counted(lab: &Lab) -> (u64, u64) {
    let show = lab.show("guard");
    let shield = &show["cubes"]["shield"];
    let sources = shield["sources"].as_array().expect("a list");
    let hits = sources.iter().find(|entry| entry["prefix"] == HOST);
    let hits = hits.expect("the host is listed")["packets"].as_u64();
    let drops = shield["attachments"]["wire0"]["ingress"]["drops"]["policy"].as_u64();
    (hits.expect("a number"), drops.unwrap_or(0))
}

/// Sends as fast as two threads can, until told to stop.
fn flood(station: &Station, stop: &AtomicBool) {
    station.enter(|| {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let socket = UdpSocket::bind("10.0.0.66:0").expect("an address of the host");
                    while !stop.load(Ordering::Relaxed) {
                        // Full queues are no matter.
                        let _ = socket.send_to(&[0; 64], "10.0.0.9:9");
                    }
                });
            }
        });
    });
}

#[test]
fn no_count_is_lost() {
    run_test(|lab| {
        let station = station();
        let small = |turn: u32| topology(&others(20 + (turn % 3) as u8, 50 + turn % 7));
        lab.apply(&small(0));
        let ids = lab.ids();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| flood(&station, &stop));
            // What is behind the host in its bucket, and in the same one, comes and goes.
            for turn in 1..20 {
                lab.apply(&small(turn));
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(lab.ids()[SOURCES], ids[SOURCES], "the list was made anew");
        let (hits, drops) = counted(lab);
        assert!(drops > 1000, "{drops}");
        assert_eq!(hits, drops);
        assert_eq!(lab.keys(SOURCES).len(), 51 + 19 % 7);
        lab.assert_converged(&small(19));

        // Another size, with what was counted; and with one copy for all CPUs.
        let larger = topology(&others(30, 5000));
        lab.apply(&larger);
        assert_ne!(lab.ids()[SOURCES], ids[SOURCES]);
        assert_eq!(counted(lab).0, hits);
        lab.assert_converged(&larger);
        let stop = AtomicBool::new(false);
        let before = counted(lab);
        thread::scope(|scope| {
            scope.spawn(|| flood(&station, &stop));
            for turn in 0..4 {
                lab.apply(&topology(&others(40 + turn, 5000)));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let after = counted(lab);
        assert!(after.0 > before.0);
        assert_eq!(after.0 - before.0, after.1 - before.1);
    });
}

/// New entries are written before old ones are deleted: there is room for both.
#[test]
fn all_entries_are_exchanged_at_once() {
    run_test(|lab| {
        let _station = station();
        lab.apply(&topology(&others(20, MANY)));
        let id = lab.ids()[SOURCES];
        let other = topology(&others(30, MANY));
        lab.apply(&other);
        assert_eq!(lab.ids()[SOURCES], id, "the list was made anew");
        assert_eq!(lab.keys(SOURCES).len(), MANY as usize + 1);
        lab.assert_converged(&other);
    });
}

/// Earlier versions had a hash of the kernel's.
#[test]
fn a_list_of_an_older_version_is_made_anew() {
    run_test(|lab| {
        let station = station();
        let wanted = topology(&others(20, 10));
        lab.apply(&wanted);
        let pin = lab.pin(SOURCES).display().to_string();
        std::fs::remove_file(&pin).expect("root may");
        let made = "type percpu_hash key 8 value 16 entries 1024 name sources_v4";
        run(&format!("bpftool map create {pin} {made}")).expect(0);
        lab.plan(&wanted).expect(2);
        lab.apply(&wanted);
        lab.assert_converged(&wanted);
        assert_eq!(lab.keys(SOURCES).len(), 11);
        let (before, _) = counted(lab);
        assert_eq!(before, 0);
        station.run("ping -n -I 10.0.0.66 -i 0.05 -c 3 -W 0.5 10.0.0.9");
        assert!(counted(lab).0 > 0);
    });
}
