//! Tables whose content is ours and which are not wiring, and the record.

use std::collections::BTreeSet;

use super::{
    Disruption, Op,
    planner::{Order, Planner},
};
use crate::{
    address::Address,
    record::Record,
    resource::{Content, MapKind},
};

/// Entries that are copied at most so that tables of several cubes change at once. What is larger
/// changes entry by entry: making it anew would cost more than it gives.
const REPLACED_AT_MOST: usize = 65536;

impl Planner<'_> {
    /// Entries of one cube change in place, each in one write. When more than one cube changes,
    /// or the wiring too, a packet must not meet the new entries of one and the old ones of
    /// another: then the tables are made anew, and the switch of banks brings packets to them.
    ///
    /// Exact-match tables in which keys only come and go stay: what comes is written before the
    /// switch and what goes is deleted after it, so for packets of either side nothing changes
    /// but what they could not use before or cannot any more.
    pub(super) fn choose_tables_to_replace(&mut self) {
        let (mut tables, mut owners) = (BTreeSet::new(), BTreeSet::new());
        let (reshaped, mut staying) = (self.reshaped(), BTreeSet::new());
        for (path, map) in &self.desired.maps {
            let Content::Config(entries) = &map.content else {
                continue;
            };
            let same_shape = self.observed.maps.get(path).and_then(|map| map.shape);
            let Some(diff) = self.diff(path).filter(|diff| !diff.is_empty()) else {
                continue;
            };
            let exact = map.shape.kind == MapKind::Hash || map.shape.kind.is_prefix_set();
            let in_place = exact && !diff.changes_values();
            if same_shape != Some(map.shape) || in_place {
                continue;
            }
            // Entries may refer to those of a table that is made anew.
            if reshaped.contains(&map.owner) {
                self.replaced.insert(path.clone());
            }
            owners.insert(map.owner.clone());
            if entries.len() <= REPLACED_AT_MOST {
                tables.insert(path.clone());
            } else {
                staying.insert(map.owner.clone());
            }
        }
        // Nor may entries that stay refer to those of a table that waits beside.
        tables.retain(|path| {
            let owner = self.desired.maps.get(path).map(|map| &map.owner);
            owner.is_none_or(|owner| !staying.contains(owner))
        });
        if owners.len() + usize::from(self.rewires()) > 1 {
            self.replaced.extend(tables);
        }
    }

    /// Objects of which a table with content of ours is made anew, because it is another one.
    fn reshaped(&self) -> BTreeSet<Address> {
        let tables = self.desired.maps.iter();
        let reshaped = tables.filter(|(path, map)| {
            let running = self.observed.maps.get(*path);
            matches!(map.content, Content::Config(_))
                && running.is_some_and(|running| running.shape != Some(map.shape))
        });
        reshaped.map(|(_, map)| map.owner.clone()).collect()
    }

    /// True if packets that come in will find another way than now.
    fn rewires(&self) -> bool {
        let (desired, observed) = (self.desired, self.observed);
        let comes = desired.slots.keys().any(|slot| {
            observed.maps.contains_key(&slot.map) && !observed.slots.contains_key(slot)
        });
        let goes = observed
            .slots
            .keys()
            .any(|slot| desired.maps.contains_key(&slot.map) && !desired.slots.contains_key(slot));
        let program = desired.programs.iter().any(|(path, program)| {
            let running = observed.programs.get(path);
            running.is_some_and(|running| !self.is_running(program, running))
        });
        let port = desired.maps.iter().any(|(path, map)| {
            let is_banked = matches!(map.content, Content::Banked(_));
            is_banked && self.diff(path).is_some_and(|diff| !diff.is_empty())
        });
        comes || goes || program || port
    }

    /// Content of tables that stay. Entries that others refer to are in tables whose names sort
    /// before theirs: they come first and go last.
    pub(super) fn tables(&mut self) {
        let mut removed = Vec::new();
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
            removed.extend(diff.deletes(path).map(|(op, undo)| (&map.owner, op, undo)));
        }
        for (owner, op, undo) in removed.into_iter().rev() {
            self.step(Order::Removed, owner, op, Some(undo), Disruption::None);
        }
    }

    /// The record says what is applied. While banks are written it says so, because then there is
    /// more than what is applied.
    pub(super) fn record(&mut self, record: Option<&Record>) {
        let topology = Address::topology();
        let in_banks =
            |(_, order, _): &(_, Order, _)| matches!(order, Order::Standby | Order::Mirror);
        let banks = self.steps.iter().any(in_banks);
        let write = |record: &Record, unfinished| {
            let unfinished = unfinished || record.unfinished;
            Op::WriteRecord(Box::new(Record {
                unfinished,
                ..record.clone()
            }))
        };
        let old = self.observed.record.as_ref();
        match record {
            Some(record) => {
                let undo = old.map(|old| write(old, false));
                let was_unfinished = old.is_some_and(|old| old.unfinished);
                let mark = |unfinished| Op::MarkRecord { unfinished };
                if old.is_some() && banks && !was_unfinished {
                    let undo = Some(mark(false));
                    self.step(Order::Intent, &topology, mark(true), undo, Disruption::None);
                }
                let says_so = |old: &Record| {
                    let unfinished = record.unfinished;
                    *record
                        == Record {
                            unfinished,
                            ..old.clone()
                        }
                };
                let done = old.is_some_and(says_so);
                if !done {
                    let op = write(record, banks);
                    self.step(Order::Record, &topology, op, undo, Disruption::None);
                }
                if banks || (done && was_unfinished) {
                    self.step(
                        Order::Finish,
                        &topology,
                        mark(false),
                        None,
                        Disruption::None,
                    );
                }
            }
            None if !self.observed.is_empty() => {
                let op = Op::RemoveDirectory;
                self.step(Order::Directory, &topology, op, None, Disruption::None);
            }
            None => {}
        }
    }
}
