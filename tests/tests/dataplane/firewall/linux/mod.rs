//! The firewall beside that of Linux: the same packets, in the same order, through nftables with the same rules.
//!
//! Linux forwards between two TAP interfaces in a namespace of the test's own. A frame that is written
//! to one has been forwarded, or not, when the call returns. What differs on purpose is listed in
//! `docs/reference/firewall.md`, and shown in `differences`.

mod differences;
mod peer;
mod script;
mod sequences;

use super::*;
use peer::Linux;
use script::{Ends, Mode, Random, Talk, conversations};

/// One thing that happens: a datagram, in fragments perhaps, in one direction.
#[derive(Clone, Debug)]
struct Event {
    direction: Direction,
    frames: Vec<Vec<u8>>,
    /// For people.
    says: String,
    /// Port of the client, or identifier of queries: what tells conversations apart.
    port: u16,
    /// What it is to a TCP connection.
    segment: Option<Segment>,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    /// Who sends it.
    by_client: bool,
    flags: u8,
}

/// Which states each direction accepts, and nothing else: of ingress and of egress.
#[derive(Clone, Copy, Debug)]
struct Policy([&'static [&'static str]; 2]);

const ANSWERS: &[&str] = &["established", "related"];
const ALL: &[&str] = &["new", "established", "related", "invalid"];
const BEGINNINGS: &[&str] = &["new", "established", "related"];

/// Together they tell all four states apart in both directions.
const POLICIES: [Policy; 8] = [
    Policy([ANSWERS, BEGINNINGS]),
    Policy([ANSWERS, ALL]),
    Policy([BEGINNINGS, BEGINNINGS]),
    Policy([BEGINNINGS, ANSWERS]),
    Policy([&["new", "established"], &["new", "established"]]),
    Policy([&["new", "related"], &["new", "established"]]),
    Policy([&["new", "invalid"], &["new", "established", "invalid"]]),
    Policy([&["new"], &["new"]]),
];

impl Policy {
    /// Settings of the firewall; `more` is what they have besides.
    fn settings(self, more: &str) -> String {
        let skips = |states: &[&str]| ANSWERS.iter().all(|state| states.contains(state));
        let skips = self.0.iter().all(|states| skips(states));
        let chains = ["ingress", "egress"].into_iter().zip(self.0);
        let chains = chains.map(|(name, states)| {
            let met = |state: &&&str| !skips || !ANSWERS.contains(state);
            let states: Vec<_> = states.iter().filter(met).copied().collect();
            let rule = match states.is_empty() {
                true => String::new(),
                false => format!("{{ state: [{}], action: accept }}", states.join(", ")),
            };
            format!("{name}: {{ default: drop, rules: [{rule}] }}")
        });
        let chains: Vec<_> = chains.collect();
        format!(
            "{{ acceptEstablished: {skips}, {more}{} }}",
            chains.join(", ")
        )
    }

    /// The same for `nft`: ingress comes in at the first interface.
    fn nftables(self) -> String {
        let rules = ["outside", "inside"].into_iter().zip(self.0);
        let rules = rules.map(|(interface, states)| {
            format!("iifname {interface} ct state {} accept\n", states.join(","))
        });
        format!(
            "flush ruleset\ntable inet t {{ chain c {{ type filter hook forward priority filter; policy drop;\n{}}}\n}}\n",
            rules.collect::<String>()
        )
    }
}

/// Both firewalls, with the same rules.
struct Pair<'a> {
    linux: &'a Linux,
    ours: Firewall,
    mode: Mode,
}

impl<'a> Pair<'a> {
    fn new(linux: &'a Linux, hook: Hook, policy: Policy, mode: Mode) -> Self {
        linux.load(&policy.nftables());
        Self {
            linux,
            ours: Firewall::new(hook, &policy.settings(mode.settings())),
            mode,
        }
    }

    /// Whether an event passes, here and in Linux. Of a datagram in fragments, whether all do.
    fn meet(&self, event: &Event) -> (bool, bool) {
        let linux = self.linux.meet(event.direction, &event.frames);
        let fates = event.frames.iter();
        let ours: Vec<_> = fates
            .map(|frame| self.ours.meet(event.direction, frame) == PASSED)
            .collect();
        (ours.iter().all(|passed| *passed), linux)
    }

    /// Runs events until the two disagree: then says how it came to that, unless it is on purpose.
    fn run(&self, events: &[Event]) -> Result<(), String> {
        let mut history = String::new();
        for (at, event) in events.iter().enumerate() {
            let (ours, linux) = self.meet(event);
            let word = |passed| if passed { "passes" } else { "is dropped" };
            history += &format!("  {:?}: {}: {}\n", event.direction, event.says, word(linux));
            if ours != linux {
                return match differences::is_known(&events[..=at], self.mode) {
                    // What follows is about connections in other states.
                    true => Ok(()),
                    false => Err(format!("{history}  but here the last one {}", word(ours))),
                };
            }
        }
        Ok(())
    }
}

/// Sequences of each policy and hook; the variable is for longer runs.
fn sequences_each() -> u64 {
    let given = std::env::var("PCN_TEST_SEQUENCES").ok();
    given.map_or(60, |text| text.parse().expect("a number"))
}

/// Where the sequences begin: another number gives other ones.
fn first_seed() -> u64 {
    let given = std::env::var("PCN_TEST_SEED").ok();
    given.map_or(1, |text| text.parse().expect("a number"))
}

fn compare_random(mode: Mode) {
    on_both(|hook| {
        let linux = Linux::new(mode);
        let mut seed = first_seed();
        for policy in POLICIES {
            let pair = Pair::new(&linux, hook, policy, mode);
            for number in 0..sequences_each() {
                let events = conversations(&mut Random::new(seed), mode, number);
                if let Err(history) = pair.run(&events) {
                    panic!(
                        "{hook:?}, {policy:?}, {mode:?}, seed {seed}, sequence {number}:\n{history}"
                    );
                }
                seed += 1;
            }
        }
    });
}

#[test]
fn random_sequences_have_the_same_verdicts() {
    compare_random(Mode::Flags);
}

#[test]
fn random_sequences_have_the_same_verdicts_with_windows() {
    compare_random(Mode::Windows);
}
