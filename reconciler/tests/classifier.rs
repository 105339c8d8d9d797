//! The classifier against the linear scan: the data plane's lookup on the tables of a plan finds the
//! rule that comes first, whatever the rules are and however they came to be.

#[path = "support/rules.rs"]
mod rules;

use std::{collections::BTreeMap, time::Instant};

use proptest::prelude::*;
use reconciler::{
    classify::{Rule, RuleNumbers, host::Lookup, oracle, tables},
    cube::Table,
    resource::{Bank, Entries},
};
use rules::{Random, any_header, any_rule, header_for, in_set, many_rules};

/// Compares what the tables say with what the rules say, in both banks.
fn agree(lists: &[Vec<Rule>], numbers: &RuleNumbers, random: &mut Random, packets: usize) {
    let lookup = Lookup::new(&tables(lists, numbers), in_set);
    for (number, list) in (0..).zip(lists) {
        for _ in 0..packets {
            let rule = (!list.is_empty()).then(|| &list[random.below(list.len() as u64) as usize]);
            let header = match rule.filter(|_| !random.one_in(4)) {
                Some(rule) => header_for(rule, random),
                None => any_header(random),
            };
            let first = oracle::first_match(list, &header, &in_set);
            let wanted = first.and_then(|at| numbers.slot(&list[at].key));
            let bank = random.of(&Bank::ALL);
            let found = lookup.rule(number, bank, &header);
            assert_eq!(found, wanted, "list {number}, {header:?}");
        }
    }
}

fn some_rules(random: &mut Random, count: usize, name: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = (0..count)
        .map(|at| any_rule(random, format!("{name}/{at}")))
        .collect();
    // Some say the same again.
    for at in 1..count {
        if random.one_in(8) {
            let other = rules[random.below(at as u64) as usize].clone();
            let key = std::mem::take(&mut rules[at].key);
            rules[at] = Rule { key, ..other };
        }
    }
    rules
}

/// Changes a list a little, as people do.
fn edit(list: &mut Vec<Rule>, random: &mut Random, name: &str) {
    let place = random.below(list.len() as u64 + 1) as usize;
    match random.below(4) {
        0 => {
            let key = format!("{name}/new{}", random.next());
            list.insert(place, any_rule(random, key));
        }
        _ if list.is_empty() => {}
        1 => {
            list.remove(place.min(list.len() - 1));
        }
        2 => {
            let rule = list.remove(random.below(list.len() as u64) as usize);
            list.insert(place.min(list.len()), rule);
        }
        _ => {
            let at = place.min(list.len() - 1);
            let key = list[at].key.clone();
            list[at] = any_rule(random, key);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// 2,000 pairs of lists, each as it is and after edits: a million pairs of rules and packet.
    #[test]
    fn finds_the_first_rule_that_matches(seed in 1u64.., ingress in 0usize..50, egress in 0usize..12) {
        let mut random = Random(seed);
        let mut lists = vec![
            some_rules(&mut random, ingress, "ingress"),
            some_rules(&mut random, egress, "egress"),
        ];
        let mut numbers = RuleNumbers::new(&lists, None);
        agree(&lists, &numbers, &mut random, 125);
        for _ in 0..4 {
            edit(&mut lists[0], &mut random, "ingress");
            edit(&mut lists[1], &mut random, "egress");
        }
        numbers = RuleNumbers::new(&lists, Some(&numbers));
        agree(&lists, &numbers, &mut random, 125);
    }
}

#[test]
fn finds_the_first_of_many() {
    for seed in 1..4 {
        let mut random = Random(seed);
        let ingress = some_rules(&mut random, 700, "ingress");
        let lists = vec![ingress, many_rules(1500, seed)];
        let numbers = RuleNumbers::new(&lists, None);
        agree(&lists, &numbers, &mut random, 3000);
    }
}

type Content = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn content(tables: &[Table]) -> Content {
    let entries = tables.iter().flat_map(|table| {
        let entries = table.content.entries().into_iter().flat_map(Entries::iter);
        entries.map(|(key, value)| {
            (
                (table.name.to_owned(), key.into_owned()),
                value.bytes.to_vec(),
            )
        })
    });
    entries.collect()
}

/// How many entries of one bank differ.
fn writes(before: &Content, after: &Content) -> usize {
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differs = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key));
    differs.count() / 2
}

/// A change of one rule of ten thousand is a few writes, wherever it is.
#[test]
fn one_of_ten_thousand_is_a_few_writes() {
    let mut random = Random(7);
    let rules = many_rules(10_000, 3);
    let start = Instant::now();
    let numbers = RuleNumbers::new(std::slice::from_ref(&rules), None);
    let numbered = start.elapsed();
    let built = tables(std::slice::from_ref(&rules), &numbers);
    println!(
        "numbers {numbered:?}, tables {:?}",
        start.elapsed() - numbered
    );
    let lookup = Lookup::new(&built, in_set);
    println!(
        "tuples {:?}, full lines behind one another {}",
        lookup.tuples(),
        lookup.longest_walk()
    );
    let before = content(&built);
    let mut most = [0; 4];
    for _ in 0..4 {
        for (kind, most) in most.iter_mut().enumerate() {
            let mut lists = vec![rules.clone()];
            let at = random.below(10_000) as usize;
            let mut other = many_rules(1, random.next()).remove(0);
            match kind {
                0 => {
                    other.key = "ingress/new".to_owned();
                    lists[0].insert(at, other);
                }
                1 => drop(lists[0].remove(at)),
                2 => {
                    let rule = lists[0].remove(at);
                    lists[0].insert(random.below(9_999) as usize, rule);
                }
                _ => {
                    other.key = rules[at].key.clone();
                    lists[0][at] = other;
                }
            }
            let after = RuleNumbers::new(&lists, Some(&numbers));
            let built = tables(&lists, &after);
            *most = writes(&before, &content(&built)).max(*most);
        }
    }
    println!(
        "writes in a bank: insert {}, remove {}, move {}, change {}",
        most[0], most[1], most[2], most[3]
    );
    assert!(most.iter().all(|most| *most <= 40), "{most:?}");
}

/// Rules that only a comparison tells apart share one bucket, however many they are.
#[test]
fn rules_that_no_tuple_divides_are_found() {
    let mut random = Random(5);
    let rules: Vec<Rule> = (0..300)
        .map(|at| Rule {
            key: format!("ingress/{at}"),
            source: reconciler::classify::AddressMatch {
                negated: true,
                addresses: reconciler::classify::Addresses::Prefix(rules::prefix_v4(at << 24, 8)),
            },
            states: 1 + (at % 31) as u8,
            ..Rule::default()
        })
        .collect();
    let lists = vec![rules];
    let numbers = RuleNumbers::new(&lists, None);
    agree(&lists, &numbers, &mut random, 2000);
}
