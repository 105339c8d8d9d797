//! The classifier in the kernel: what it finds is what a linear scan finds, and what it takes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytemuck::bytes_of;
use ebpf_abi::{
    address::V6,
    classifier::{Header, LIST_EGRESS, LIST_INGRESS, NO_RULE},
    classify::{NOWHERE, SetKey, Settings},
};
use integration_tests::{
    cube::{Cube, Globals, Kind},
    require,
    test_run::{Gso, Hook},
};
use reconciler::{
    classify::{AddressMatch, Rule, RuleNumbers, oracle, tables},
    cube::Table,
    resource::Bank,
};

use super::rules::{Random, any_header, any_rule, header_for, many_rules, prefix_v4};

/// Headers classified with one run.
const BATCH: usize = 1 << 14;

/// The prefixes of the sets: of each number, a /9 and its second /16.
fn sets() -> Vec<(u32, u32, u8)> {
    let set = |number: u32| {
        let first = 10 + number % 3;
        [
            (number, first << 24, 9),
            (number, first << 24 | 0xff_0000, 16),
        ]
    };
    (0..64).flat_map(set).collect()
}

fn in_set(set: u32, address: V6) -> bool {
    let prefixes = sets().into_iter().filter(|(number, ..)| *number == set);
    let mut matches = prefixes.map(|(_, network, length)| {
        AddressMatch::prefix(prefix_v4(network, length)).contains(address, |_, _| false)
    });
    matches.any(|matches| matches)
}

struct Classifier {
    cube: Cube,
}

impl Classifier {
    /// The program over these tables, asking one list in one bank.
    fn new(hook: Hook, list: u32, bank: Bank, tables: &[Table]) -> Self {
        let settings = Settings {
            list,
            bank: bank as u32,
            count: BATCH as u32,
        };
        let globals = Globals::from([("SETTINGS".to_owned(), bytes_of(&settings).to_vec())]);
        let mut capacities =
            BTreeMap::from([("questions", BATCH as u32), ("answers", BATCH as u32)]);
        capacities.extend(
            tables
                .iter()
                .map(|table| (table.name, table.shape.max_entries)),
        );
        let cube = Kind::parse("classify").load(hook, &globals, &capacities);
        for table in tables {
            for (key, value) in table.content.entries().expect("ours").iter() {
                cube.write_bytes(table.name, &key, value.bytes);
            }
        }
        for (set, network, length) in sets() {
            let key = SetKey {
                length: 32 + 96 + u32::from(length),
                set,
                address: super::rules::v4(network),
            };
            cube.write("sets", key, 1u32);
        }
        Self { cube }
    }

    /// Asks for headers, at most [`BATCH`]; says how long that took.
    fn ask(&self, headers: &[Header]) -> (Vec<u32>, Duration) {
        self.cube.write_array("questions", headers);
        let took = self.run();
        (self.cube.read_array("answers", headers.len()), took)
    }

    /// Asks for the same headers again.
    fn run(&self) -> Duration {
        let start = Instant::now();
        self.cube.run(0, &[0; 64], Gso::default());
        start.elapsed()
    }
}

fn packets(list: &[Rule], random: &mut Random) -> Vec<Header> {
    let mut one = |_| match random.one_in(4) {
        true => any_header(random),
        false => {
            let rule = &list[random.below(list.len() as u64) as usize];
            header_for(rule, random)
        }
    };
    (0..BATCH).map(&mut one).collect()
}

/// 131,072 pairs of rules and packet, on both hooks and in both banks, in which different rules are.
#[test]
fn finds_what_a_linear_scan_finds() {
    if !require::root() {
        return;
    }
    for (seed, hook) in (1..5).zip(Hook::ALL.into_iter().cycle()) {
        let mut random = Random(seed);
        let list = |name: &str, count: usize, random: &mut Random| -> Vec<Rule> {
            let rules = (0..count).map(|at| any_rule(random, format!("{name}/{at}")));
            rules.collect()
        };
        let mut ingress = many_rules(60, seed);
        ingress.extend(list("ingress", 60, &mut random));
        let lists = vec![ingress, list("egress", 30, &mut random)];
        let numbers = RuleNumbers::new(&lists, None);
        let tables = tables(&lists, &numbers);
        for (number, bank) in [(LIST_INGRESS, Bank::A), (LIST_EGRESS, Bank::B)] {
            let list = &lists[number as usize];
            let classifier = Classifier::new(hook, number, bank, &tables);
            let headers = packets(list, &mut random);
            let (found, _) = classifier.ask(&headers);
            for (header, found) in headers.iter().zip(found) {
                let first = oracle::first_match(list, header, &in_set);
                let wanted = first.and_then(|at| numbers.slot(&list[at].key));
                assert_eq!(found, wanted.unwrap_or(NO_RULE), "{header:?} on {hook:?}");
            }
        }
    }
}

/// Not a test: figures for docs/decisions/0021-classifier.md.
#[test]
#[ignore = "measures; run alone on an idle machine"]
fn figures() {
    if !require::root() {
        return;
    }
    let best = |classifier: &Classifier, headers: &[Header]| {
        classifier.ask(headers);
        let runs = (0..300).map(|_| classifier.run());
        runs.min().expect("several").as_nanos() as f64 / headers.len() as f64
    };
    println!("rules | a rule matches | none does (ns per lookup) | build | tuples");
    for count in [0, 1, 10, 100, 1000, 10_000] {
        let mut random = Random(9);
        let lists = vec![many_rules(count, 5)];
        let start = Instant::now();
        let numbers = RuleNumbers::new(&lists, None);
        let tables = tables(&lists, &numbers);
        let built = start.elapsed();
        let nothing = Classifier::new(Hook::Tc, NOWHERE, Bank::A, &tables);
        let classifier = Classifier::new(Hook::Tc, LIST_INGRESS, Bank::A, &tables);
        let lookup = reconciler::classify::host::Lookup::new(&tables, in_set);
        let (mut matching, mut strange) = (Vec::new(), Vec::new());
        for _ in 0..64 * BATCH {
            let mut header = match lists[0].len() {
                0 => any_header(&mut random),
                many => header_for(&lists[0][random.below(many as u64) as usize], &mut random),
            };
            if random.one_in(2) {
                header.destination_port = random.next() as u16 | 0x8000;
            }
            let found = lookup.rule(LIST_INGRESS, Bank::A, &header).is_some();
            let packets = if found { &mut matching } else { &mut strange };
            if packets.len() < BATCH {
                packets.push(header);
            }
        }
        let base = best(&nothing, &strange);
        let hit = if matching.is_empty() {
            0.0
        } else {
            best(&classifier, &matching) - base
        };
        let miss = best(&classifier, &strange) - base;
        let verified = |classifier: &Classifier| classifier.cube.verified_instructions();
        println!(
            "{count} | {hit:.0} | {miss:.0} | {built:?} | {:?}, {} full lines, {} instructions",
            lookup.tuples(),
            lookup.longest_walk(),
            verified(&classifier) - verified(&nothing)
        );
    }
}
