//! Applies while numbered packets pass in both directions: how long they take, and what becomes of the packets.

use std::net::IpAddr;

use integration_tests::{
    lab::{Lab, Space},
    stream::{Overflow, Stream, Way},
    traffic::ping,
};

use super::super::{Findings, Scope};
use crate::{
    contest::Effort,
    finding::{Finding, Goal, Unit},
    rig::path::text,
    rows::control::timed,
};

/// Packets a second in each direction.
const RATE: u64 = 10_000;
/// Cubes that come in one round, and rounds. The longest of so many applies is as often above the 99th percentile of all as
/// below it.
const CUBES: usize = 70;
const ROUNDS: usize = 2;
/// Replaces in a round; each round begins with all programs.
const REPLACES: usize = 40;
/// Rounds of them.
const REPLACE_ROUNDS: usize = 5;
/// The same for a first look.
const FEW: usize = 10;
/// What is left of the time to live behind a bridge.
const HOPS: u8 = 64;

/// What the changes toggle.
#[derive(Clone, Copy, Default)]
struct State {
    /// A cube in the stack through which packets pass.
    probe: bool,
    /// A constant of the bridge's program.
    aging: bool,
    /// A listed source that nobody has.
    source: bool,
}

impl State {
    fn text(self) -> String {
        let through = if self.probe { "shield, t" } else { "shield" };
        let aging = if self.aging { 60 } else { 300 };
        let source = if self.source {
            "198.51.100.2/32"
        } else {
            "198.51.100.1/32"
        };
        let probe = if self.probe {
            "    t: { helloTransparent: {} }\n"
        } else {
            ""
        };
        let spec = format!(
            "  namespaces:\n    h1: {{ interfaces: {{ eth0: {{ addresses: [10.1.0.1/24] }} }} }}\n    \
             h2: {{ interfaces: {{ eth0: {{ addresses: [10.1.0.2/24] }} }} }}\n  \
             cubes:\n    br: {{ bridge: {{ agingTime: {aging}s, ports: {{ a: {{ through: [{through}] }} }} }} }}\n    \
             shield: {{ ddosMitigator: {{ sources: [{source}] }} }}\n{probe}  \
             links: [[br:a, h1/eth0], [br:b, h2/eth0]]\n"
        );
        text("live", &spec)
    }

    /// One after the other.
    fn next(&mut self, turn: usize) {
        match turn % 3 {
            0 => self.probe ^= true,
            1 => self.aging ^= true,
            _ => self.source ^= true,
        }
    }
}

/// Streams there and back.
struct Load {
    spaces: [Space; 3],
    streams: Vec<Stream>,
    before: Overflow,
}

impl Load {
    fn start(lab: &Lab) -> Self {
        let spaces = ["", "h1", "h2"].map(|name| lab.space(name));
        let [_, left, right] = &spaces;
        let addresses =
            ["10.1.0.1", "10.1.0.2"].map(|text| text.parse::<IpAddr>().expect("an address"));
        ping(left, addresses[1]);
        let before = Overflow::of(&spaces.each_ref());
        let way = |from, to, [source, target]: [IpAddr; 2]| Way {
            from,
            to,
            source,
            target,
        };
        let [one, other] = addresses;
        let streams = vec![
            Stream::start(way(left, right, [one, other]), RATE),
            Stream::start(way(right, left, [other, one]), RATE),
        ];
        streams.iter().for_each(|stream| stream.go_on(100));
        Self {
            before,
            spaces,
            streams,
        }
    }

    /// Packets that were sent, and packets that were lost, came twice, or met what nobody wrote down.
    fn end(self) -> (u64, u64) {
        let (mut sent, mut bad) = (0, 0);
        self.streams.iter().for_each(Stream::finish);
        for stream in self.streams {
            let tally = stream.end();
            let mixed = tally.hops.iter().filter(|(hops, _)| **hops != HOPS);
            sent += tally.sent;
            bad += tally.lost + tally.duplicated + tally.strange;
            bad += mixed.map(|(_, count)| count).sum::<u64>();
        }
        let overflow = Overflow::of(&self.spaces.each_ref()).since(self.before);
        assert_eq!(overflow.sockets, 0, "the streams were not read fast enough");
        assert!(sent > 0, "packets are sent");
        (sent, bad)
    }
}

/// Few for a first look.
fn quick(scope: &Scope<'_>) -> bool {
    scope.effort.rounds <= Effort::QUICK.rounds
}

fn lost(samples: Vec<f64>, sent: u64) -> Finding {
    Finding::alone(
        Unit::Number,
        "lost, doubled or wrong",
        samples,
        Some(Goal::Below(0.0)),
    )
    .note(format!("of {sent} packets"))
}

/// A cube comes, and goes again.
pub(super) fn structure(scope: &Scope<'_>) -> Findings {
    let (rounds, cubes) = if quick(scope) {
        (1, FEW)
    } else {
        (ROUNDS, CUBES)
    };
    let probe = State {
        probe: true,
        ..State::default()
    };
    let without = scope.lab.file("without.yaml", &State::default().text());
    let with = scope.lab.file("with.yaml", &probe.text());
    let apply = |file: &str| timed(scope.lab.command(&format!("apply --yes -f {file}")));
    apply(&without);
    let (mut half, mut late, mut bad, mut sent) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let load = Load::start(scope.lab);
        let mut took: Vec<f64> = (0..cubes)
            .map(|_| {
                let came = apply(&with);
                apply(&without);
                came
            })
            .collect();
        let tally = load.end();
        sent += tally.0;
        bad.push(tally.1 as f64);
        took.sort_by(f64::total_cmp);
        half.push(crate::statistics::median(&took));
        late.push(took[took.len() - 1]);
    }
    scope.lab.pcn("destroy --yes live").expect(0);
    let note =
        format!("{cubes} cubes in each round; the 99th percentile is the longest of their applies");
    vec![
        (
            ".p50",
            Finding::alone(Unit::Milliseconds, "pcn apply", half, None),
        ),
        (
            ".p99",
            Finding::alone(
                Unit::Milliseconds,
                "pcn apply",
                late,
                Some(Goal::Below(40.0)),
            )
            .note(note),
        ),
        (".lost", lost(bad, sent)),
    ]
}

/// Programs, cubes and entries are replaced in turn; each round begins with another build, whose programs are all others.
pub(super) fn replace(scope: &Scope<'_>) -> Findings {
    let (rounds, replaces) = if quick(scope) {
        (1, FEW)
    } else {
        (REPLACE_ROUNDS, REPLACES)
    };
    let builds = [scope.lab.build(), scope.lab.other_build()];
    let mut state = State::default();
    scope.lab.apply(&state.text());
    let (mut bad, mut sent) = (Vec::new(), 0);
    for round in 0..rounds {
        let load = Load::start(scope.lab);
        let before = scope.lab.programs();
        for turn in 0..replaces {
            state.next(round * replaces + turn);
            let file = scope.lab.file("live.yaml", &state.text());
            let build = &builds[(round + 1) % 2];
            scope
                .lab
                .run_build(build, &format!("apply --yes -f {file}"))
                .expect(0);
        }
        let after = scope.lab.programs();
        let stayed = before.iter().any(|(path, id)| after.get(path) == Some(id));
        assert!(!before.is_empty() && !stayed, "all programs are replaced");
        let tally = load.end();
        sent += tally.0;
        bad.push(tally.1 as f64);
    }
    scope.lab.pcn("destroy --yes live").expect(0);
    let all = rounds * replaces;
    vec![(
        ".lost",
        lost(bad, sent).note(format!("{all} applies, in {rounds} rounds")),
    )]
}
