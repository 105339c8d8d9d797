//! One route looked up, apart from all else: in the table of `router`, and in the kernel's longest-prefix map.

use std::time::Duration;

use bytemuck::bytes_of;
use ebpf_abi::{
    address::{V4, V6},
    fib::BUCKET,
    lookup::{self, Settings},
    router::{RouteEntry, RouteKeyV4, RouteKeyV6},
};
use integration_tests::{
    cube::{Cube, Globals, Kind},
    test_run::Hook,
};
use nix::time::{ClockId, clock_gettime};

use super::{Row, Scope, router::networks};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    rig::{
        frames::{Family, v6},
        stay_on_one_cpu,
    },
    statistics::Random,
};

/// Addresses of one run, each in another route where there are as many.
const BATCH: usize = 1 << 16;
/// Rounds: a run looks up very many.
const ROUNDS: usize = 10;
/// Bits of the networks: /24, and /40 of IPv6.
const LENGTH_V4: u8 = 24;
const LENGTH_V6: u8 = 40;

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, count) in [("1k", 1000), ("100k", 100_000), ("1m", 1_000_000)] {
        for (suffix, family) in [("", Family::V4), ("-v6", Family::V6)] {
            let id = format!("lookup.routes-{name}{suffix}");
            let length = match family {
                Family::V4 => "/24",
                Family::V6 => "/40 of IPv6",
            };
            let job = format!("one look-up among {count} routes of {length}, random destinations");
            let row = Row::new(id, Instrument::Program, job, move |scope| {
                Ok(lookups(scope, family, count))
            });
            rows.push(if count > 1000 { row.long() } else { row });
        }
    }
    rows
}

/// A program that looks addresses up in one table.
struct Looker {
    cube: Cube,
}

impl Looker {
    fn new(table: u32, entries: Option<(&str, usize)>) -> Self {
        let settings = Settings {
            table,
            count: BATCH as u32,
        };
        let globals = Globals::from([("SETTINGS".to_owned(), bytes_of(&settings).to_vec())]);
        let mut capacities = std::collections::BTreeMap::from([
            ("questions", BATCH as u32),
            ("answers", BATCH as u32),
        ]);
        capacities.extend(entries.map(|(table, entries)| (table, entries as u32)));
        let cube = Kind::parse("lookup").load(Hook::Tc, &globals, &capacities);
        Self { cube }
    }

    /// Asks, and insists on the answers.
    fn check(&self, questions: &[V6], answers: &[RouteEntry]) {
        self.cube.write_array("questions", questions);
        self.run();
        let found: Vec<RouteEntry> = self.cube.read_array("answers", answers.len());
        let wrong = found
            .iter()
            .zip(answers)
            .position(|(one, other)| one != other);
        assert!(wrong.is_none(), "address {wrong:?} is in another route");
    }

    fn run(&self) {
        self.cube.run(0, &[0; 64], Default::default());
    }

    /// Nanoseconds of a look-up, with what a run takes besides.
    fn sample(&self) -> f64 {
        stay_on_one_cpu();
        let start = cpu_time();
        self.run();
        (cpu_time() - start).as_nanos() as f64 / BATCH as f64
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    time.into()
}

/// Routes in order, and questions with their answers.
struct Job {
    routes: Vec<([u8; 3], RouteEntry)>,
    questions: Vec<V6>,
    answers: Vec<RouteEntry>,
}

impl Job {
    fn new(family: Family, count: usize) -> Self {
        let (length, mut random) = match family {
            Family::V4 => (LENGTH_V4, Random(21)),
            Family::V6 => (LENGTH_V6, Random(22)),
        };
        let mut networks = networks(count);
        let entry = |number: usize| RouteEntry::new(1 + (number % 1000) as u32, length);
        networks.sort_unstable();
        let routes: Vec<([u8; 3], RouteEntry)> = networks
            .into_iter()
            .enumerate()
            .map(|(number, network)| (network, entry(number)))
            .collect();
        let (mut questions, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..BATCH {
            let ([a, b, c], entry) = routes[random.below(count)];
            let address = [a, b, c, 0];
            questions.push(match family {
                Family::V4 => V6::from_v4(V4::new(address)),
                Family::V6 => V6::new(v6(address).octets()),
            });
            answers.push(entry);
        }
        Self {
            routes,
            questions,
            answers,
        }
    }

    /// The table of `router`.
    fn table(&self, family: Family) -> Looker {
        let count = self.routes.len();
        let (looker, name) = match family {
            Family::V4 => {
                let words = fib::words_for_v4(count);
                (
                    Looker::new(lookup::FIB_V4, Some(("fib_v4", words))),
                    "fib_v4",
                )
            }
            Family::V6 => {
                let buckets = fib::words_for_v6(count) / BUCKET as usize;
                (
                    Looker::new(lookup::FIB_V6, Some(("fib_v6", buckets))),
                    "fib_v6",
                )
            }
        };
        let memory = looker.cube.memory(name);
        let routes = self.routes.iter();
        match family {
            Family::V4 => {
                let routes: Vec<(u32, RouteEntry)> = routes
                    .map(|([a, b, c], entry)| (u32::from_be_bytes([*a, *b, *c, 0]), *entry))
                    .collect();
                fib::load_v4(memory.as_ref(), &routes).expect("there is room");
            }
            Family::V6 => {
                let routes: Vec<(u128, RouteEntry)> = routes
                    .map(|([a, b, c], entry)| (network_v6([*a, *b, *c]), *entry))
                    .collect();
                fib::load_v6(memory.as_ref(), &routes).expect("there is room");
            }
        }
        looker
    }

    /// `BPF_MAP_TYPE_LPM_TRIE`.
    fn trie(&self, family: Family) -> Looker {
        let (table, name) = match family {
            Family::V4 => (lookup::TRIE_V4, "routes_v4"),
            Family::V6 => (lookup::TRIE_V6, "routes_v6"),
        };
        let looker = Looker::new(table, Some((name, self.routes.len())));
        for ([a, b, c], entry) in &self.routes {
            match family {
                Family::V4 => {
                    let key = RouteKeyV4 {
                        length: u32::from(LENGTH_V4),
                        address: V4::new([*a, *b, *c, 0]),
                    };
                    looker.cube.write(name, key, *entry);
                }
                Family::V6 => {
                    let key = RouteKeyV6 {
                        length: u32::from(LENGTH_V6),
                        address: V6::new(network_v6([*a, *b, *c]).to_be_bytes()),
                    };
                    looker.cube.write(name, key, *entry);
                }
            }
        }
        looker
    }
}

/// The /40 that a network of /24 stands for.
fn network_v6([a, b, c]: [u8; 3]) -> u128 {
    let address = u128::from(v6([a, b, c, 0]));
    address >> (128 - LENGTH_V6) << (128 - LENGTH_V6)
}

fn lookups(scope: &Scope<'_>, family: Family, count: usize) -> Finding {
    let job = Job::new(family, count);
    let (ours, trie) = (job.table(family), job.trie(family));
    for looker in [&ours, &trie] {
        looker.check(&job.questions, &job.answers);
    }
    let nothing = Looker::new(lookup::NOWHERE, None);
    nothing.cube.write_array("questions", &job.questions);
    // A quarter of the time, and a fifth.
    let goal = match (family, count) {
        (Family::V4, 100_000) => Some(Goal::AtMost(0.25)),
        (Family::V4, 1_000_000) => Some(Goal::AtMost(0.2)),
        _ => None,
    };
    Contest::new(Unit::Nanoseconds, "table of the router", || ours.sample())
        .without(|| nothing.sample())
        .against(Other::Peer("BPF_MAP_TYPE_LPM_TRIE", ""), goal, || {
            trie.sample()
        })
        .run(scope.effort.with_rounds(ROUNDS))
}
