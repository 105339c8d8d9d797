//! How long it takes from a change until the first packet feels it: from the start of `pcn apply`,
//! and from the rename of a file under `pcn watch`.
//!
//! Prints the distribution; `PCN_TEST_CHANGES=200` measures more often than the test does.

use std::fs;

use integration_tests::{
    clock,
    lab::{Lab, run_test},
    stream::{Stream, Tally, Way},
    traffic::ping,
    wait,
};

use crate::ip;

/// Changes of each way.
const CHANGES: usize = 10;
/// Packets a second; they are sent in bursts, every half millisecond or so.
const RATE: u64 = 20_000;
/// Packets with the same fate that tell a change from a gap between two bursts.
const SURE: u64 = 200;

/// A filter that blocks the stream's source, or somebody else.
fn topology(blocks: bool) -> String {
    let source = if blocks {
        "10.1.0.1/32"
    } else {
        "198.51.100.1/32"
    };
    format!(
        "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: latency }}
spec:
  namespaces:
    h1: {{ interfaces: {{ eth0: {{ addresses: [10.1.0.1/24] }} }} }}
    h2: {{ interfaces: {{ eth0: {{ addresses: [10.1.0.2/24] }} }} }}
  cubes:
    br: {{ bridge: {{ ports: {{ a: {{ through: [shield] }} }} }} }}
    shield: {{ ddosMitigator: {{ sources: [{source}] }} }}
  links: [[br:a, h1/eth0], [br:b, h2/eth0]]
"
    )
}

#[test]
fn from_the_command_line() {
    run_test(|lab| {
        let (stream, path) = start(lab);
        let mut starts = Vec::new();
        for turn in 0..changes() {
            let blocks = turn % 2 == 0;
            fs::write(&path, topology(blocks)).expect("a file in a tmpfs");
            starts.push(clock::precise());
            lab.pcn(&format!("apply --yes -f {path}")).expect(0);
            settle(&stream, blocks);
        }
        report("from the start of `pcn apply`", &starts, &stream.end());
    });
}

#[test]
fn from_a_file_that_is_followed() {
    run_test(|lab| {
        let (stream, path) = start(lab);
        let mut watch = lab.start_pcn(&format!("watch --interval 1h --poll 1h -f {path}"));
        wait::until("the watch to be up", || {
            watch.stderr().contains("latency").then_some(())
        });
        let mut starts = Vec::new();
        for turn in 0..changes() {
            let blocks = turn % 2 == 0;
            let next = lab.file("next", &topology(blocks));
            starts.push(clock::precise());
            fs::rename(next, &path).expect("a file in a tmpfs");
            settle(&stream, blocks);
            assert!(watch.is_running(), "{}", watch.stderr());
        }
        report("from the rename under `pcn watch`", &starts, &stream.end());
        watch.signal(nix::sys::signal::Signal::SIGTERM);
        let _ended = watch.end();
        lab.note_objects();
    });
}

fn changes() -> usize {
    std::env::var("PCN_TEST_CHANGES").map_or(CHANGES, |wanted| {
        wanted.parse().expect("PCN_TEST_CHANGES is a number")
    })
}

/// A stream that passes, and the file of its topology.
fn start(lab: &Lab) -> (Stream, String) {
    let path = lab.file("latency.yaml", &topology(false));
    lab.pcn(&format!("apply --yes -f {path}")).expect(0);
    let (from, to) = (lab.space("h1"), lab.space("h2"));
    let way = Way {
        from: &from,
        to: &to,
        source: ip("10.1.0.1"),
        target: ip("10.1.0.2"),
    };
    ping(&from, way.target);
    // The sender knows the way for good: ARP passes, but let it not ask in between.
    let mac = to.mac("eth0").map(|byte| format!("{byte:02x}")).join(":");
    from.run(&format!(
        "ip neigh replace 10.1.0.2 lladdr {mac} dev eth0 nud permanent"
    ))
    .expect(0);
    let stream = Stream::start(way, RATE);
    settle(&stream, false);
    (stream, path)
}

/// Waits until packets are blocked, or until they pass.
#[track_caller]
fn settle(stream: &Stream, blocks: bool) {
    let mut since = (stream.sent(), stream.received());
    wait::until("the change to be felt", || {
        let now = (stream.sent(), stream.received());
        let done = if blocks {
            // None came for a while.
            let quiet = now.1 == since.1;
            if !quiet {
                since = now;
            }
            quiet && now.0 >= since.0 + SURE
        } else {
            now.1 >= since.1 + SURE
        };
        done.then_some(())
    });
}

/// The time from each start until the first packet was sent that had another fate than before.
fn report(what: &str, starts: &[u64], tally: &Tally) {
    let mut latencies: Vec<u64> = starts
        .iter()
        .enumerate()
        .map(|(turn, start)| {
            let blocks = turn % 2 == 0;
            let first = tally.times.partition_point(|time| time < start);
            let end = starts.get(turn + 1).map_or(tally.times.len(), |next| {
                tally.times.partition_point(|time| time < next)
            });
            let fates = &tally.counts[first..end];
            let change = fates
                .iter()
                .position(|count| (*count == 0) == blocks)
                .unwrap_or_else(|| panic!("change {turn} was not felt"));
            // A change is felt once: no packet after it has the old fate.
            let after = &fates[change..];
            assert!(
                after.iter().all(|count| (*count == 0) == blocks),
                "change {turn} was felt back and forth"
            );
            tally.times[first + change] - start
        })
        .collect();
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100] as f64 / 1e6;
    println!(
        "{what}: n = {}, p50 {:.1} ms, p99 {:.1} ms, shortest {:.1} ms, longest {:.1} ms; {} packets",
        latencies.len(),
        at(50),
        at(99),
        at(0),
        at(100),
        tally.sent
    );
}
