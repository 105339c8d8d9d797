//! The data plane's lookup on the tables of [`tables`](super::tables()), without a kernel: for
//! tests.

use std::collections::HashMap;

use bytemuck::{AnyBitPattern, pod_read_unaligned};
use ebpf_abi::{
    address::V6,
    classifier::{self, Further, Header, Line, NO_RULE, Rule, TupleList},
};

use crate::{
    cube::Table,
    resource::{Bank, Content, Entries},
};

/// What an array has where nothing was written.
static NOTHING: Line = Line { words: [0; 8] };

/// The tables in memory.
pub struct Lookup<S> {
    tuples: HashMap<u32, TupleList>,
    lines: HashMap<u32, Line>,
    rules: HashMap<u32, Rule>,
    further: HashMap<u32, Further>,
    in_set: S,
}

impl<S: Fn(u32, V6) -> bool> Lookup<S> {
    /// From tables, and who knows what is in a set.
    pub fn new(tables: &[Table], in_set: S) -> Self {
        Self {
            tuples: entries(tables, "tuples"),
            lines: entries(tables, "lines"),
            rules: entries(tables, "rules"),
            further: entries(tables, "further"),
            in_set,
        }
    }

    /// The slot of the first rule of a list that matches.
    pub fn rule(&self, list: u32, bank: Bank, header: &Header) -> Option<u32> {
        let found = classifier::lookup(self, list, bank as u32, header);
        (found != NO_RULE).then_some(found)
    }

    /// How many tuples each list and family has.
    pub fn tuples(&self) -> Vec<usize> {
        let mut lists: Vec<_> = self.tuples.iter().collect();
        lists.sort_by_key(|(place, _)| **place);
        let count = |list: &TupleList| list.tuples.iter().filter(|tuple| tuple.best != 0).count();
        lists.into_iter().map(|(_, list)| count(list)).collect()
    }

    /// How many lines are behind one another, at most, because those before had no room.
    pub fn longest_walk(&self) -> usize {
        let lines = self.tuples.values().map(|list| list.lines + 1).max();
        let lines = lines.unwrap_or(1);
        let is_full = |at: u32| {
            let line = self.lines.get(&Bank::A.place(at % lines));
            line.is_some_and(|line| line.behind() != 0)
        };
        let walk = |from: u32| (from..from + lines).take_while(|at| is_full(*at)).count();
        (0..lines).map(walk).max().unwrap_or(0)
    }
}

impl<S: Fn(u32, V6) -> bool> classifier::Tables for Lookup<S> {
    fn tuples(&self, place: u32) -> Option<&TupleList> {
        self.tuples.get(&place)
    }

    fn line(&self, index: u32) -> Option<&Line> {
        self.lines.get(&index).or(Some(&NOTHING))
    }

    fn further(&self, index: u32) -> Option<&Further> {
        self.further.get(&index)
    }

    fn rule(&self, index: u32) -> Option<&Rule> {
        self.rules.get(&index)
    }

    fn in_set(&self, set: u32, _: u32, address: &V6) -> bool {
        (self.in_set)(set, *address)
    }
}

fn entries<K: AnyBitPattern + std::hash::Hash + Eq, V: AnyBitPattern>(
    tables: &[Table],
    name: &str,
) -> HashMap<K, V> {
    let content = tables.iter().find(|table| table.name == name);
    let content = content.and_then(|table: &Table| Content::entries(&table.content));
    content
        .into_iter()
        .flat_map(Entries::iter)
        .map(|(key, value)| (pod_read_unaligned(&key), pod_read_unaligned(value.bytes)))
        .collect()
}
