//! Nothing is lost, nothing arrives twice and nothing meets half of a change, while numbered
//! packets pass at a high rate: between hosts on TC and between hosts on XDP, in both families
//! and both directions.
//!
//! Each test prints a table of what it counted; `--no-capture` shows it.

mod mixed;
mod routes;
mod thousand;

use std::time::Instant;

use integration_tests::{
    clock,
    lab::{Lab, Space, Station},
    stream::{Overflow, Row, Stream, Table, Tally, Way},
    traffic::ping,
};

use crate::ip;

/// A pair of hosts: who they are, and their addresses in both families.
struct Pair<'a> {
    /// What their streams are called.
    name: &'a str,
    left: &'a Space,
    right: &'a Space,
    /// Of the left one and of the right one.
    addresses: [(&'a str, &'a str); 2],
}

impl Pair<'_> {
    /// Waits until all reach each other, in both directions.
    fn meet(&self) {
        for (left, right) in self.addresses {
            ping(self.left, ip(right));
            ping(self.right, ip(left));
        }
    }

    /// From the left to the right and back, in both families.
    fn ways(&self) -> Vec<(String, Way<'_>)> {
        let (from, to) = (self.left, self.right);
        let mut ways = Vec::new();
        for (family, (left, right)) in ["v4", "v6"].into_iter().zip(self.addresses) {
            let (source, target) = (ip(left), ip(right));
            let there = Way {
                from,
                to,
                source,
                target,
            };
            let back = Way {
                from: to,
                to: from,
                source: target,
                target: source,
            };
            ways.push((format!("{} {family} there", self.name), there));
            ways.push((format!("{} {family} back", self.name), back));
        }
        ways
    }
}

/// Streams, and what the queues and sockets around them drop.
struct Load<'a> {
    started: Instant,
    /// What was done when, in nanoseconds of `CLOCK_MONOTONIC`.
    marks: Vec<(u64, String)>,
    streams: Vec<(String, Stream)>,
    spaces: Vec<&'a Space>,
    before: Overflow,
}

impl<'a> Load<'a> {
    /// Starts one stream a way, with so many packets a second together. `spaces` are all
    /// namespaces on the way.
    fn start(ways: &[(String, Way<'_>)], spaces: Vec<&'a Space>, rate: u64) -> Self {
        let before = Overflow::of(&spaces);
        let each = rate / ways.len() as u64;
        let streams = ways
            .iter()
            .map(|(name, way)| (name.clone(), Stream::start(*way, each)))
            .collect();
        Self {
            started: Instant::now(),
            marks: Vec::new(),
            streams,
            spaces,
            before,
        }
    }

    /// Notes what is done now, to be named should packets be lost.
    fn mark(&mut self, what: impl Into<String>) {
        self.marks.push((clock::precise(), what.into()));
    }

    /// Ends the streams. Packets whose time to live is none of `hops` met a mixture.
    fn end(self, changes: usize, hops: &[u8]) -> Outcome {
        self.streams.iter().for_each(|(_, stream)| stream.finish());
        let rows: Vec<Row> = self
            .streams
            .into_iter()
            .map(|(name, stream)| {
                let tally = stream.end();
                let others = tally.hops.iter().filter(|(hop, _)| !hops.contains(hop));
                Row {
                    name,
                    changes,
                    mixed: others.map(|(_, count)| count).sum(),
                    tally,
                }
            })
            .collect();
        Outcome {
            seconds: self.started.elapsed().as_secs_f64(),
            overflow: Overflow::of(&self.spaces).since(self.before),
            rows,
            marks: self.marks,
        }
    }
}

/// What became of all streams.
struct Outcome {
    seconds: f64,
    overflow: Overflow,
    rows: Vec<Row>,
    marks: Vec<(u64, String)>,
}

impl Outcome {
    /// Prints the table and insists on three zeros.
    #[track_caller]
    fn assert_nothing_lost(&self) {
        let Self {
            seconds,
            overflow,
            rows,
            marks: _,
        } = self;
        println!("{}in {seconds:.1} s; {overflow:?}\n", Table(rows));
        assert_eq!(
            overflow.sockets, 0,
            "the test did not read fast enough, which is no loss of ours"
        );
        let is_bad = |row: &&Row| {
            let Tally {
                sent,
                lost,
                duplicated,
                strange,
                ..
            } = row.tally;
            sent == 0 || lost + duplicated + strange + row.mixed > 0
        };
        let bad: Vec<_> = self
            .rows
            .iter()
            .filter(is_bad)
            .map(|row| {
                let gaps: Vec<_> = gaps(&row.tally.counts)
                    .into_iter()
                    .map(|(first, length)| self.explain(row.tally.times[first], first, length))
                    .collect();
                format!("{}: {:?}, missing {gaps:#?}", row.name, row.tally.hops)
            })
            .collect();
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }

    /// What was done last before packets were lost.
    fn explain(&self, time: u64, first: usize, length: usize) -> String {
        let mark = self.marks.iter().rev().find(|(start, _)| *start <= time);
        let (start, what) = mark.map_or((time, "nothing"), |(start, what)| (*start, what));
        format!(
            "{length} from {first}, {} us after {what}",
            (time - start) / 1000
        )
    }
}

/// Runs of numbers that did not arrive: the first of each and how many.
fn gaps(counts: &[u8]) -> Vec<(usize, usize)> {
    let mut gaps: Vec<(usize, usize)> = Vec::new();
    for (number, _) in counts.iter().enumerate().filter(|(_, count)| **count == 0) {
        match gaps.last_mut() {
            Some((first, length)) if *first + *length == number => *length += 1,
            _ => gaps.push((number, 1)),
        }
    }
    gaps
}

/// How many changes a test makes: as many as `PCN_TEST_CHANGES` says, or `usual`.
fn changes(usual: usize) -> usize {
    std::env::var("PCN_TEST_CHANGES").map_or(usual, |wanted| {
        wanted.parse().expect("PCN_TEST_CHANGES is a number")
    })
}

/// Two stations on XDP.
fn stations(left: &[&str], right: &[&str]) -> (Station, Station) {
    (
        Station::for_xdp("s1", "wire1", left),
        Station::for_xdp("s2", "wire2", right),
    )
}

/// All namespaces of a lab with two hosts of the topology and two stations.
fn spaces<'a>(own: &'a Space, hosts: [&'a Space; 4]) -> Vec<&'a Space> {
    std::iter::once(own).chain(hosts).collect()
}

/// Applies what is in a file, with a build of `pcn`.
#[track_caller]
fn apply_with(lab: &Lab, build: &std::path::Path, text: &str) {
    let path = lab.file("topology.yaml", text);
    lab.run_build(build, &format!("apply --yes -f {path}"))
        .expect(0);
}
