//! From lists of rules to tables.

use std::collections::{BTreeMap, BTreeSet};

use bytemuck::{NoUninit, Zeroable, bytes_of};
use ebpf_abi::classifier::{
    BUCKET_RULES, Bucket, BucketKey, Entry, FilterBit, FilterLine, TUPLE_LISTS, Tuple, TupleList,
    filter_lines,
};

use super::{Family, Rule, RuleNumbers, numbers::rules_for, rule::Compiled};
use crate::cube::{Table, room_for};

/// Entries of an array that has one for each rule: with room to grow.
pub fn room(limit: u32) -> u32 {
    room_for(limit as usize)
}

/// The tables of a cube's lists, with the numbers that its rules were given: `buckets`, `filter`,
/// `rules` and `tuples`.
pub fn tables(lists: &[Vec<Rule>], numbers: &RuleNumbers) -> Vec<Table> {
    let mut content = Content::default();
    for (list, at) in lists.iter().zip(0..) {
        content.list(at, list, numbers);
    }
    let buckets = room(content.buckets.len() as u32);
    let lines = filter_lines(buckets);
    content.filter(lines - 1);
    vec![
        Table::banked_keyed(
            "buckets",
            buckets,
            (size_of::<BucketKey>(), size_of::<Bucket>()),
            content.buckets,
        ),
        Table::banked("filter", lines, size_of::<FilterLine>(), content.filter),
        Table::banked(
            "rules",
            room(numbers.limit()),
            size_of::<ebpf_abi::classifier::Rule>(),
            content.rules,
        ),
        Table::banked(
            "tuples",
            TUPLE_LISTS,
            size_of::<TupleList>(),
            content.tuples.into_iter().map(bytes).collect(),
        ),
    ]
}

/// What is in the tables.
#[derive(Default)]
struct Content {
    buckets: BTreeMap<Vec<u8>, Vec<u8>>,
    rules: BTreeMap<u32, Vec<u8>>,
    tuples: BTreeMap<u32, TupleList>,
    filter: BTreeMap<u32, Vec<u8>>,
    digests: BTreeSet<u64>,
}

impl Content {
    fn list(&mut self, number: u32, list: &[Rule], numbers: &RuleNumbers) {
        let compiled: Vec<_> = list.iter().map(Compiled::new).collect();
        for (rule, compiled) in list.iter().zip(&compiled) {
            if let Some(slot) = numbers.slot(&rule.key) {
                self.rules.insert(slot, bytes_of(&compiled.record).to_vec());
            }
        }
        for family in Family::ALL {
            let place = number * Family::ALL.len() as u32 + family as u32;
            let (places, rules): (Vec<usize>, Vec<&Compiled>) =
                rules_for(family, list, &compiled).into_iter().unzip();
            let entry = |at: usize| {
                let key = &list[places[at]].key;
                Some(Entry::new(numbers.label(key)?, numbers.slot(key)?))
            };
            let entries: Vec<Entry> = (0..rules.len()).filter_map(entry).collect();
            self.family(place, &rules, &entries, numbers);
        }
    }

    /// The tuples and buckets of one list and family. `entries` are the rules' labels and slots.
    fn family(
        &mut self,
        place: u32,
        rules: &[&Compiled],
        entries: &[Entry],
        numbers: &RuleNumbers,
    ) {
        let Some(partition) = numbers.partition(place as usize) else {
            return;
        };
        let templates = partition.templates.iter();
        let mut tuples: Vec<Tuple> = templates
            .map(|template| Tuple {
                mask: template.mask(),
                seed: template.seed(),
                ..Tuple::default()
            })
            .collect();
        let mut buckets: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        for ((tuple, digests), entry) in partition.place(rules).into_iter().zip(entries) {
            let Some(tuple) = tuples.get_mut(tuple) else {
                continue;
            };
            // Rules come in the order of their labels.
            if tuple.best == 0 {
                tuple.best = entry.label();
            }
            for digest in digests {
                let bucket = buckets.entry(digest).or_default();
                // Two of its keys may meet in one digest.
                if bucket.last() != Some(entry) {
                    bucket.push(*entry);
                }
            }
        }
        self.digests.extend(buckets.keys());
        for (digest, entries) in buckets {
            self.bucket(digest, place, &entries);
        }
        tuples.retain(|tuple| tuple.best != 0);
        tuples.sort_by_key(|tuple| tuple.best);
        let mut list = TupleList::zeroed();
        list.tuples
            .iter_mut()
            .zip(tuples)
            .for_each(|(slot, tuple)| *slot = tuple);
        self.tuples.insert(place, list);
    }

    /// The filter for all keys, with this many lines less one.
    fn filter(&mut self, mask: u32) {
        let mut lines: BTreeMap<u32, FilterLine> = BTreeMap::new();
        for digest in &self.digests {
            let at = FilterBit::new(*digest, mask);
            let line = lines.entry(at.line).or_default();
            line.bits[at.word as usize] |= 1 << at.bit;
        }
        self.filter = lines.into_iter().map(bytes).collect();
        for tuple in self.tuples.values_mut().flat_map(|list| &mut list.tuples) {
            tuple.filter = mask;
        }
    }

    fn bucket(&mut self, digest: u64, place: u32, entries: &[Entry]) {
        let parts = entries.chunks(BUCKET_RULES);
        let last = parts.len() - 1;
        for (entries, part) in parts.zip(0..) {
            let mut bucket = Bucket {
                more: u32::from((part as usize) < last),
                ..Bucket::default()
            };
            bucket.entries[..entries.len()].copy_from_slice(entries);
            let key = BucketKey {
                digest,
                part,
                place,
            };
            self.buckets
                .insert(bytes_of(&key).to_vec(), bytes_of(&bucket).to_vec());
        }
    }
}

fn bytes<V: NoUninit>((index, value): (u32, V)) -> (u32, Vec<u8>) {
    (index, bytes_of(&value).to_vec())
}
