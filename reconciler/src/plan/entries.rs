//! The difference between the content of a map and what it should be.

use std::collections::{BTreeMap, BTreeSet};

use topology_schema::InterfaceName;

use super::Op;
use crate::resource::{PinPath, Template};

/// The difference between wanted and running entries of one map.
pub struct EntryDiff {
    /// To write: new or other values.
    pub put: BTreeMap<Vec<u8>, Template>,
    /// To delete.
    pub delete: BTreeSet<Vec<u8>>,
    before: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl EntryDiff {
    /// Compares. An array's entry that is not wanted is zero.
    pub fn new(
        wanted: &BTreeMap<Vec<u8>, Template>,
        running: &BTreeMap<Vec<u8>, Vec<u8>>,
        array: bool,
        ifindex: impl Fn(&InterfaceName) -> Option<u32>,
    ) -> Self {
        let same = |key: &Vec<u8>, value: &Template| {
            let resolved = value.resolve(&ifindex);
            resolved.is_some() && running.get(key) == resolved.as_ref()
        };
        let put: BTreeMap<_, _> = wanted
            .iter()
            .filter(|(key, value)| !same(key, value))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let unwanted = running.iter().filter(|(key, _)| !wanted.contains_key(*key));
        let delete: BTreeSet<_> = unwanted
            .filter(|(_, value)| !array || value.iter().any(|byte| *byte != 0))
            .map(|(key, _)| key.clone())
            .collect();
        let before = running
            .iter()
            .filter(|(k, _)| put.contains_key(*k) || delete.contains(*k))
            .map(|(k, v)| (k.clone(), v.clone()));
        let before = before.collect();
        Self {
            put,
            delete,
            before,
        }
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.delete.is_empty()
    }

    /// True if a key stays and its value does not.
    pub(super) fn changes_values(&self) -> bool {
        self.put.keys().any(|key| self.before.contains_key(key))
    }

    /// Leaves out other keys.
    pub(super) fn retain(&mut self, wanted: impl Fn(&[u8]) -> bool) {
        self.put.retain(|key, _| wanted(key));
        self.delete.retain(|key| wanted(key));
    }

    pub(super) fn puts(&self, map: &PinPath) -> Option<(Op, Op)> {
        let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .put
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .partition(|(key, _)| self.before.contains_key(key));
        let undo = Op::WriteEntries {
            map: map.clone(),
            put: old
                .keys()
                .filter_map(|key| {
                    Some((key.clone(), Template::plain(self.before.get(key)?.clone())))
                })
                .collect(),
            delete: new.into_keys().collect(),
        };
        let op = Op::WriteEntries {
            map: map.clone(),
            put: self.put.clone(),
            delete: BTreeSet::new(),
        };
        (!self.put.is_empty()).then_some((op, undo))
    }

    pub(super) fn deletes(&self, map: &PinPath) -> Option<(Op, Op)> {
        let undo = Op::WriteEntries {
            map: map.clone(),
            put: self
                .delete
                .iter()
                .filter_map(|key| {
                    Some((key.clone(), Template::plain(self.before.get(key)?.clone())))
                })
                .collect(),
            delete: BTreeSet::new(),
        };
        let op = Op::WriteEntries {
            map: map.clone(),
            put: BTreeMap::new(),
            delete: self.delete.clone(),
        };
        (!self.delete.is_empty()).then_some((op, undo))
    }
}
