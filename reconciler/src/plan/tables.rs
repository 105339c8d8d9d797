//! Tables whose content is ours and which are not wiring, and the record.

use std::collections::BTreeSet;

use super::{
    Disruption, Op,
    planner::{Order, Planner},
};
use crate::{
    address::Address,
    record::Record,
    resource::{Content, PinPath},
};

/// Entries that are copied at most so that tables of several cubes change at once. What is larger
/// changes entry by entry: making it anew would cost more than it gives.
const REPLACED_AT_MOST: usize = 65536;

impl Planner<'_> {
    /// Entries of one cube change in place, each in one write. When more than one cube changes,
    /// or the wiring too, a packet must not meet the new entries of one and the old ones of
    /// another: then the tables are made anew, and the switch of banks brings packets to them.
    pub(super) fn choose_tables_to_replace(&mut self) {
        let (mut tables, mut owners) = (BTreeSet::new(), BTreeSet::new());
        for (path, map) in &self.desired.maps {
            let Content::Config(entries) = &map.content else {
                continue;
            };
            let same_shape = self.observed.maps.get(path).and_then(|map| map.shape);
            if same_shape != Some(map.shape) || self.diff(path).is_none_or(|diff| diff.is_empty()) {
                continue;
            }
            owners.insert(map.owner.clone());
            if entries.len() <= REPLACED_AT_MOST {
                tables.insert(path.clone());
            }
        }
        if owners.len() + usize::from(self.rewires()) > 1 {
            self.replaced.extend(tables);
        }
    }

    /// True if packets that come in will find another way than now.
    fn rewires(&self) -> bool {
        let slots = |paths: &BTreeSet<&PinPath>| -> BTreeSet<_> {
            let slots = self.observed.slots.keys();
            slots
                .filter(|slot| paths.contains(&slot.map))
                .cloned()
                .collect()
        };
        let arrays: BTreeSet<&PinPath> = self
            .observed
            .maps
            .keys()
            .filter(|path| self.desired.maps.contains_key(*path))
            .collect();
        let wanted: BTreeSet<_> = self
            .desired
            .slots
            .keys()
            .filter(|slot| arrays.contains(&slot.map))
            .cloned()
            .collect();
        let programs = self.desired.programs.iter().any(|(path, program)| {
            let running = self.observed.programs.get(path);
            running.is_some_and(|running| !self.is_running(program, running))
        });
        let ports = self.desired.maps.iter().any(|(path, map)| {
            let is_banked = matches!(map.content, Content::Banked(_));
            is_banked && self.diff(path).is_some_and(|diff| !diff.is_empty())
        });
        programs || ports || slots(&arrays) != wanted
    }

    /// Content of tables that stay.
    pub(super) fn tables(&mut self) {
        for (path, map) in &self.desired.maps {
            if !matches!(map.content, Content::Config(_)) {
                continue;
            }
            let Some(diff) = self.diff(path) else {
                continue;
            };
            if let Some((op, undo)) = diff.puts(path) {
                self.step(Order::Entries, &map.owner, op, Some(undo), Disruption::None);
            }
            if let Some((op, undo)) = diff.deletes(path) {
                self.step(Order::Removed, &map.owner, op, Some(undo), Disruption::None);
            }
        }
    }

    pub(super) fn record(&mut self, record: Option<&Record>) {
        let topology = Address::topology();
        match record {
            Some(record) if self.observed.record.as_ref() != Some(record) => {
                let undo = self
                    .observed
                    .record
                    .clone()
                    .map(|old| Op::WriteRecord(Box::new(old)));
                let op = Op::WriteRecord(Box::new(record.clone()));
                self.step(Order::Record, &topology, op, undo, Disruption::None);
            }
            Some(_) => {}
            None if !self.observed.is_empty() => {
                self.step(
                    Order::Directory,
                    &topology,
                    Op::RemoveDirectory,
                    None,
                    Disruption::None,
                );
            }
            None => {}
        }
    }
}
