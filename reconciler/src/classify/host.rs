//! The data plane's lookup on the tables of [`tables`](super::tables()), without a kernel: for
//! tests.

use std::collections::HashMap;

use bytemuck::{AnyBitPattern, pod_read_unaligned};
use ebpf_abi::{
    address::V6,
    classifier::{self, Bucket, BucketKey, FilterLine, Header, NO_RULE, Rule, TupleList},
};

use crate::{
    cube::Table,
    resource::{Bank, Content, Entries},
};

/// The tables in memory.
pub struct Lookup<S> {
    tuples: HashMap<u32, TupleList>,
    filter: HashMap<u32, FilterLine>,
    buckets: HashMap<BucketKey, Bucket>,
    rules: HashMap<u32, Rule>,
    in_set: S,
}

impl<S: Fn(u32, V6) -> bool> Lookup<S> {
    /// From tables, and who knows what is in a set.
    pub fn new(tables: &[Table], in_set: S) -> Self {
        Self {
            tuples: entries(tables, "tuples"),
            filter: entries(tables, "filter"),
            buckets: entries(tables, "buckets"),
            rules: entries(tables, "rules"),
            in_set,
        }
    }

    /// The slot of the first rule of a list that matches.
    pub fn rule(&self, list: u32, bank: Bank, header: &Header) -> Option<u32> {
        let found = classifier::lookup(self, list, bank as u32, header);
        (found != NO_RULE).then_some(found)
    }

    /// How many parts of buckets a lookup reads at most, for each list and family.
    pub fn tuples(&self) -> Vec<usize> {
        let mut lists: Vec<_> = self.tuples.iter().collect();
        lists.sort_by_key(|(place, _)| **place);
        let count = |list: &TupleList| list.tuples.iter().filter(|tuple| tuple.best != 0).count();
        lists.into_iter().map(|(_, list)| count(list)).collect()
    }

    /// How many rules are in each bucket's part, the fullest first.
    pub fn parts(&self) -> usize {
        let parts = self.buckets.keys().map(|key| key.part as usize + 1);
        parts.max().unwrap_or(0)
    }
}

impl<S: Fn(u32, V6) -> bool> classifier::Tables for Lookup<S> {
    fn tuples(&self, place: u32) -> Option<&TupleList> {
        self.tuples.get(&place)
    }

    fn filter(&self, index: u32) -> Option<&FilterLine> {
        self.filter.get(&index)
    }

    fn bucket(&self, key: &BucketKey) -> Option<&Bucket> {
        self.buckets.get(key)
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
