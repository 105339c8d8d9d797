//! From lists of rules to tables.

use std::collections::BTreeMap;

use bytemuck::{NoUninit, Zeroable, bytes_of};
use ebpf_abi::classifier::{
    self, BUCKET_RULES, Bucket, BucketKey, Entry, FilterBit, FilterLine, TUPLE_LISTS, Tuple,
    TupleList, filter_lines,
};

use super::{
    Family, Rule, RuleNumbers,
    numbers::{Numbers, rules_for},
    rule::Compiled,
};
use crate::{
    cube::{Table, room_for},
    parallel,
    rows::Rows,
};

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
    let buckets = room(content.bucket_keys.len() as u32 / size_of::<BucketKey>() as u32);
    let lines = filter_lines(buckets);
    content.filter(lines - 1);
    vec![
        Table::banked_keyed(
            "buckets",
            buckets,
            (size_of::<BucketKey>(), size_of::<Bucket>()),
            Rows::new(
                size_of::<BucketKey>(),
                size_of::<Bucket>(),
                content.bucket_keys,
                content.buckets,
            ),
        ),
        Table::banked_rows("filter", lines, size_of::<FilterLine>(), content.filter),
        Table::banked_rows(
            "rules",
            room(numbers.limit()),
            size_of::<classifier::Rule>(),
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

/// What is in the tables: there may be many thousand entries, so they are laid flat from the beginning.
#[derive(Default)]
struct Content {
    /// One after the other, in any order.
    bucket_keys: Vec<u8>,
    buckets: Vec<u8>,
    rules: Rows,
    tuples: BTreeMap<u32, TupleList>,
    filter: Rows,
    /// Of all keys, in any order; some more than once.
    digests: Vec<u64>,
}

impl Content {
    fn list(&mut self, number: u32, list: &[Rule], numbers: &RuleNumbers) {
        let compiled = parallel::map(list, parallel::EACH, Compiled::new);
        let slots: Vec<Option<Numbers>> =
            list.iter().map(|rule| numbers.numbers(&rule.key)).collect();
        let records = slots.iter().zip(&compiled).filter_map(|(numbers, rule)| {
            let (slot, _) = (*numbers)?;
            Some((slot.to_ne_bytes(), bytes_of(&rule.record)))
        });
        // Those of the other lists are few beside these, or none.
        let before = std::mem::take(&mut self.rules);
        self.rules = if before.is_empty() {
            records.collect()
        } else {
            let before = before.iter().map(|(key, value)| (key.to_vec(), value));
            let records = records.map(|(key, value)| (key.to_vec(), value));
            before.chain(records).collect()
        };
        for family in Family::ALL {
            let place = number * Family::ALL.len() as u32 + family as u32;
            let (places, rules): (Vec<usize>, Vec<&Compiled>) =
                rules_for(family, list, &compiled).into_iter().unzip();
            let entry = |place: &usize| {
                let (slot, label) = slots[*place]?;
                Some(Entry::new(label, slot))
            };
            let entries: Vec<Entry> = places.iter().filter_map(entry).collect();
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
        let mut keys: Vec<(u64, usize)> = Vec::with_capacity(rules.len());
        for (at, (tuple, digests)) in partition.place(rules).into_iter().enumerate() {
            let Some(entry) = entries.get(at) else {
                break;
            };
            let Some(tuple) = tuples.get_mut(tuple) else {
                continue;
            };
            // Rules come in the order of their labels.
            if tuple.best == 0 {
                tuple.best = entry.label();
            }
            keys.extend(digests.into_iter().map(|digest| (digest, at)));
        }
        // In a bucket, rules are in the order of the list. Two keys of one may meet in one digest.
        keys.sort_unstable();
        keys.dedup();
        let mut bucket = Vec::new();
        for same in keys.chunk_by(|(one, _), (other, _)| one == other) {
            bucket.clear();
            bucket.extend(same.iter().map(|(_, at)| entries[*at]));
            self.digests.push(same[0].0);
            self.bucket(same[0].0, place, &bucket);
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
        let mut lines = vec![FilterLine::default(); mask as usize + 1];
        for digest in &self.digests {
            let at = FilterBit::new(*digest, mask);
            lines[at.line as usize].bits[at.word as usize] |= 1 << at.bit;
        }
        let used = (0u32..).zip(&lines);
        let used = used.filter(|(_, line)| line.bits.iter().any(|word| *word != 0));
        self.filter = used
            .map(|(at, line)| (at.to_ne_bytes(), bytes_of(line)))
            .collect();
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
            self.bucket_keys.extend_from_slice(bytes_of(&key));
            self.buckets.extend_from_slice(bytes_of(&bucket));
        }
    }
}

fn bytes<V: NoUninit>((index, value): (u32, V)) -> (u32, Vec<u8>) {
    (index, bytes_of(&value).to_vec())
}
