//! Ten thousand changes of files and a thousand of interfaces: the end is right, and nothing grows.

use std::{fs, os::unix::fs::symlink, path::Path};

use integration_tests::{lab::run_test, traffic::ping, wait};
use reconciler::kernel::linux::netlink::{Netlink, VethPeer, VethRequest};

use super::{APPLIED, DIRECTORY, Watch, replace, switch, watched};
use crate::ip;

/// How often the interface goes and comes again.
const FLAPS: u32 = 1000;
/// Changes of files for each of them.
const CHANGES: u32 = 10;
/// Flaps between two looks at what the process holds.
const LOOK_EVERY: u32 = 50;
/// Looks that are compared with as many others: one alone says little, because allocators keep more or less by chance
/// (a megabyte is usual with rounds on threads of their own).
const LOOKS: usize = 5;
/// Growth between two medians that is no leak. Over the five thousand changes between them, a leak of 200 bytes a
/// change is more.
const SLACK_KIB: u64 = 1024;

/// A switch between a host and an interface of the machine.
fn wires(aging: u32) -> String {
    format!(
        "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: w }}
spec:
  namespaces:
    w-h: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24] }} }} }}
  cubes: {{ br: {{ bridge: {{ agingTime: {aging}s }} }} }}
  links: [[br:h, w-h/eth0], [br:w, wire0]]
"
    )
}

/// What a process holds. Memory that is a file's, such as its own program, is not counted: the kernel takes it back
/// when it likes.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    anonymous_kib: u64,
    threads: u64,
}

fn held(pid: u32) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let number = |field: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .expect("Linux tells it");
        line.split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .expect("a number")
    };
    Held {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("it runs")
            .count(),
        anonymous_kib: number("RssAnon:"),
        threads: number("Threads:"),
    }
}

struct Changes {
    generation: u32,
    config_map: u32,
}

impl Changes {
    /// The next change of a file: in one of four ways, every fifth time to something invalid.
    fn next(&mut self) {
        self.generation += 1;
        let directory = Path::new(DIRECTORY);
        let aging = 20 + self.generation % 500;
        let spoil = |text: String| {
            if self.generation.is_multiple_of(5) {
                text.replace("bridge", "brigde")
            } else {
                text
            }
        };
        let written = "a file in a tmpfs";
        match self.generation % 4 {
            0 => replace(&directory.join("a.yaml"), &spoil(switch("a", aging))),
            1 => fs::write(directory.join("b.yaml"), spoil(switch("b", aging))).expect(written),
            2 => {
                let new = self.config_map + 1;
                let new_directory = directory.join(format!("..{new}"));
                fs::create_dir(&new_directory).expect("a directory in a tmpfs");
                fs::write(new_directory.join("c.yaml"), spoil(switch("c", aging))).expect(written);
                symlink(format!("..{new}"), directory.join("..tmp")).expect("a link in a tmpfs");
                fs::rename(directory.join("..tmp"), directory.join("..data"))
                    .expect("a link can be renamed");
                let old = directory.join(format!("..{}", self.config_map));
                let _none_at_first = fs::remove_dir_all(old);
                self.config_map = new;
            }
            _ => {
                // As editors do.
                let file = directory.join("w.yaml");
                let _none_at_first = fs::rename(&file, directory.join("w.yaml~"));
                fs::write(&file, spoil(wires(aging))).expect(written);
            }
        }
    }
}

fn plug(host: &mut Netlink) {
    let request = VethRequest {
        name: "wire0",
        alias: "test",
        group: 0,
        mac: None,
        mtu: Some(1500),
        peer: VethPeer {
            name: "wire1",
            netns: None,
            mac: None,
            mtu: Some(1500),
        },
    };
    let created = host
        .create_veth(&request)
        .expect("root can make interfaces");
    host.set_up(created.index).expect("it is there");
    host.set_up(created.peer_index).expect("it is there");
}

fn unplug(host: &mut Netlink) {
    if let Some(link) = host.link("wire0").expect("root can ask") {
        host.delete_link(link.index).expect("root can delete");
    }
}

/// Waits until the watch has nothing to do, and looks at what it holds then.
fn at_rest(watch: &mut Watch<'_>) -> Held {
    wait::until("rest", || {
        let held = held(watch.running.pid());
        (held.threads == 1).then_some(held)
    })
}

/// The median of the memory and the fewest descriptors of some looks.
fn typical(looks: &[Held]) -> (u64, usize) {
    let mut memory: Vec<u64> = looks.iter().map(|held| held.anonymous_kib).collect();
    memory.sort_unstable();
    let descriptors = looks.iter().map(|held| held.descriptors).min();
    (
        memory[memory.len() / 2],
        descriptors.expect("there are looks"),
    )
}

/// Compares the looks before half-time, when everything has been done often enough to have come to rest, with the last.
fn assert_no_growth(looks: &[Held]) {
    let half = looks.len() / 2;
    let (early_kib, early_descriptors) = typical(&looks[half - LOOKS..half]);
    let (late_kib, late_descriptors) = typical(&looks[looks.len() - LOOKS..]);
    println!("{early_kib} KiB before half-time, then {late_kib} KiB");
    assert!(late_kib <= early_kib + SLACK_KIB, "{looks:?}");
    assert!(late_descriptors <= early_descriptors, "{looks:?}");
}

#[test]
fn ten_thousand_changes() {
    run_test(|lab| {
        let directory = watched();
        let mut host = Netlink::host().expect("netlink in a lab");
        let mut changes = Changes {
            generation: 0,
            config_map: 0,
        };
        symlink("..data/c.yaml", directory.join("c.yaml")).expect("a link in a tmpfs");
        let mut watch = Watch::start(lab, &format!("-f {DIRECTORY}"));
        let mut looks = Vec::new();
        for flap in 0..FLAPS {
            plug(&mut host);
            for _ in 0..CHANGES {
                changes.next();
            }
            unplug(&mut host);
            if flap % LOOK_EVERY == LOOK_EVERY - 1 {
                looks.push(at_rest(&mut watch));
            }
        }
        plug(&mut host);
        let texts = [
            switch("a", 777),
            switch("b", 777),
            switch("c", 777),
            wires(777),
        ];
        replace(&directory.join("a.yaml"), &texts[0]);
        fs::write(directory.join("b.yaml"), &texts[1]).expect("a file in a tmpfs");
        fs::remove_file(directory.join("c.yaml")).expect("it is there");
        fs::write(directory.join("c.yaml"), &texts[2]).expect("a file in a tmpfs");
        fs::write(directory.join("w.yaml"), &texts[3]).expect("a file in a tmpfs");
        for text in &texts {
            wait::until("the last file", || {
                (lab.plan(text).code == Some(0)).then_some(())
            });
        }
        let show = lab.show("w");
        assert_eq!(show["interfaces"]["wire0"]["state"], "up", "{show}");
        assert_no_growth(&looks);
        let log = watch.running.stderr();
        let rounds = log.matches(APPLIED).count();
        assert!(rounds > 100, "only {rounds} rounds");
        assert!(log.contains("not a valid topology"));
        let far = host
            .link("wire1")
            .expect("root can ask")
            .expect("it is there");
        host.add_address(far.index, ip("10.0.0.2"), 24)
            .expect("root can add addresses");
        assert_eq!(ping(&lab.space("w-h"), ip("10.0.0.2")), 64);
        watch.stop();
        unplug(&mut host);
    });
}
