//! From lists of rules to tables.

use std::collections::BTreeMap;

use bytemuck::{NoUninit, Zeroable, bytes_of};
use ebpf_abi::classifier::{
    self, Entry, Further, Line, Mixed, PART_RULES, TUPLE_LISTS, Tuple, TupleList,
};

use super::{
    Family, Rule, RuleNumbers,
    lines::{self, Placed},
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

/// The tables of a cube's lists, with the numbers that its rules were given: `further`, `lines`,
/// `rules` and `tuples`.
pub fn tables(lists: &[Vec<Rule>], numbers: &RuleNumbers) -> Vec<Table> {
    let mut content = Content::default();
    for (list, at) in lists.iter().zip(0..) {
        content.list(at, list, numbers);
    }
    let room_of_rules = room(numbers.limit());
    let lines = classifier::lines(room(content.placed.len() as u32));
    for list in content.tuples.values_mut() {
        list.lines = lines - 1;
    }
    // Few lists have rules of which the words do not say all.
    let further = if content.further.is_empty() {
        1
    } else {
        room_of_rules
    };
    vec![
        Table::banked_rows("further", further, size_of::<Further>(), content.further),
        Table::banked_lines(
            "lines",
            lines,
            size_of::<Line>(),
            lines::lines(content.placed, lines),
        ),
        Table::banked_lines(
            "rules",
            room_of_rules,
            size_of::<classifier::Rule>(),
            content.rules,
        ),
        Table::banked_lines(
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
    rules: Rows,
    further: Rows,
    tuples: BTreeMap<u32, TupleList>,
    /// What is in lines, in any order.
    placed: Vec<Placed>,
}

impl Content {
    fn list(&mut self, number: u32, list: &[Rule], numbers: &RuleNumbers) {
        let compiled = parallel::map(list, parallel::EACH, Compiled::new);
        let slots: Vec<Option<Numbers>> =
            list.iter().map(|rule| numbers.numbers(&rule.key)).collect();
        let numbered = || {
            let rules = slots.iter().zip(&compiled);
            rules.filter_map(|(numbers, rule)| Some(((*numbers)?.0.to_ne_bytes(), rule)))
        };
        let records = numbered().map(|(slot, rule)| (slot, bytes_of(&rule.record)));
        self.rules = joined(std::mem::take(&mut self.rules), records);
        let further = numbered().filter_map(|(slot, rule)| {
            let further = rule.further.as_deref()?;
            Some((slot, bytes_of(further)))
        });
        self.further = joined(std::mem::take(&mut self.further), further);
        for family in Family::ALL {
            let place = number * Family::ALL.len() as u32 + family as u32;
            let (places, rules): (Vec<usize>, Vec<&Compiled>) =
                rules_for(family, list, &compiled).into_iter().unzip();
            let entry = |at: &usize| {
                let (slot, label) = slots[*at]?;
                Some(Entry::new(label, slot, place))
            };
            let entries: Vec<Entry> = places.iter().filter_map(entry).collect();
            self.family(place, &rules, &entries, numbers);
        }
    }

    /// The tuples of one list and family, and what is in lines. `entries` are the rules' labels and slots.
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
        // Other lists may have the same keys.
        let own = u64::from(place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let templates = partition.templates.iter();
        let mut tuples: Vec<Tuple> = templates
            .map(|template| Tuple {
                mask: template.mask(),
                seed: template.seed().wrapping_add(own),
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
            let digests = digests.into_iter();
            keys.extend(digests.map(|digest| (digest.wrapping_add(own), at)));
        }
        // Rules with one digest are in the order of the list. Two keys of one may meet in one digest.
        keys.sort_unstable();
        keys.dedup();
        for same in keys.chunk_by(|(one, _), (other, _)| one == other) {
            self.same(same, entries);
        }
        self.tuples.insert(place, list_of(tuples));
    }

    /// Rules with one digest, part by part.
    fn same(&mut self, same: &[(u64, usize)], entries: &[Entry]) {
        let parts = same.chunks(PART_RULES);
        let last = parts.len() - 1;
        for (number, part) in parts.enumerate() {
            for (at, (digest, rule)) in part.iter().enumerate() {
                let is_last = at == part.len() - 1 && number < last;
                let entry = entries[*rule];
                self.placed.push(Placed {
                    mixed: Mixed::new(*digest, number as u64),
                    entry: if is_last { entry.with_more() } else { entry },
                });
            }
        }
    }
}

/// Those tuples that have rules, in the order of their first ones.
fn list_of(mut tuples: Vec<Tuple>) -> TupleList {
    tuples.retain(|tuple| tuple.best != 0);
    tuples.sort_by_key(|tuple| tuple.best);
    let firsts = tuples.iter().map(|tuple| tuple.best);
    let firsts: Vec<u32> = firsts.chain([0]).collect();
    let mut list = TupleList::zeroed();
    for ((slot, tuple), next) in list.tuples.iter_mut().zip(tuples).zip(&firsts[1..]) {
        *slot = Tuple {
            next: *next,
            ..tuple
        };
    }
    list
}

/// Entries by slot of one more list: those of the others are few beside them, or none.
fn joined<'a>(before: Rows, more: impl Iterator<Item = ([u8; 4], &'a [u8])>) -> Rows {
    if before.is_empty() {
        return more.collect();
    }
    let before = before.iter().map(|(key, value)| (key.to_vec(), value));
    let more = more.map(|(key, value)| (key.to_vec(), value));
    before.chain(more).collect()
}

fn bytes<V: NoUninit>((index, value): (u32, V)) -> ([u8; 4], Vec<u8>) {
    (index.to_ne_bytes(), bytes_of(&value).to_vec())
}
