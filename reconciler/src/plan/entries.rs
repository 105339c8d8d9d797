//! The difference between the content of a map and what it should be.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use topology_schema::InterfaceName;

use super::Op;
use crate::{
    resource::{self, Entries, PinPath, Template, TemplateView},
    rows::Rows,
};

/// The difference between wanted and running entries of one map.
#[derive(Clone, Debug)]
pub struct EntryDiff {
    /// To write: new or other values.
    pub put: BTreeMap<Vec<u8>, Template>,
    /// To delete.
    pub delete: BTreeSet<Vec<u8>>,
    before: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// An entry in which nothing is to be filled in.
fn plain<'a>((key, bytes): (&'a [u8], &'a [u8])) -> resource::Entry<'a> {
    let ifindexes = &[];
    (Cow::Borrowed(key), TemplateView { bytes, ifindexes })
}

impl EntryDiff {
    /// Compares. An array's entry that is not wanted is zero.
    pub fn new(
        wanted: Entries<'_>,
        running: &Rows,
        array: bool,
        ifindex: impl Fn(&InterfaceName) -> Option<u32>,
    ) -> Self {
        let mut diff = Self {
            put: BTreeMap::new(),
            delete: BTreeSet::new(),
            before: BTreeMap::new(),
        };
        let rows = wanted.rows();
        if rows.as_deref() == Some(running) {
            return diff;
        }
        let sorted = match &rows {
            Some(rows) => Box::new(rows.iter().map(plain)),
            None => wanted.sorted(),
        };
        // Both are in order: one walk through them side by side. There may be a million of each.
        let mut left = running.iter().peekable();
        for (key, value) in sorted {
            let key = &*key;
            while let Some((key, value)) = left.next_if(|(other, _)| *other < key) {
                diff.unwanted(key, value, array);
            }
            let running = left.next_if(|(other, _)| *other == key);
            if running.is_some_and(|(_, running)| value.is(running, &ifindex)) {
                continue;
            }
            diff.put.insert(key.to_owned(), value.to_template());
            let before = running.map(|(key, running)| (key.to_owned(), running.to_owned()));
            diff.before.extend(before);
        }
        for (key, value) in left {
            diff.unwanted(key, value, array);
        }
        diff
    }

    /// Takes in an entry that runs and is not wanted.
    fn unwanted(&mut self, key: &[u8], value: &[u8], array: bool) {
        if !array || value.iter().any(|byte| *byte != 0) {
            self.delete.insert(key.to_owned());
            self.before.insert(key.to_owned(), value.to_owned());
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

    /// The difference for some keys.
    pub(super) fn of(&self, wanted: impl Fn(&[u8]) -> bool) -> Self {
        let mut part = self.clone();
        part.put.retain(|key, _| wanted(key));
        part.delete.retain(|key| wanted(key));
        part
    }

    pub(super) fn puts(&self, map: &PinPath) -> Option<(Op, Op)> {
        let (old, new): (Vec<_>, Vec<_>) = self
            .put
            .keys()
            .partition(|key| self.before.contains_key(*key));
        let undo = Op::WriteEntries {
            map: map.clone(),
            put: self.before(old.into_iter()),
            delete: new.into_iter().cloned().collect(),
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
            put: self.before(self.delete.iter()),
            delete: BTreeSet::new(),
        };
        let op = Op::WriteEntries {
            map: map.clone(),
            put: BTreeMap::new(),
            delete: self.delete.clone(),
        };
        (!self.delete.is_empty()).then_some((op, undo))
    }

    /// What the values of keys were.
    fn before<'a>(&self, keys: impl Iterator<Item = &'a Vec<u8>>) -> BTreeMap<Vec<u8>, Template> {
        let was = |key: &Vec<u8>| {
            let value = self.before.get(key)?;
            Some((key.clone(), Template::plain(value.clone())))
        };
        keys.filter_map(was).collect()
    }
}
