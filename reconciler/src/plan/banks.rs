//! The wiring, in two banks: what differs is written in the bank that no packet is in, one write
//! makes that bank active, and then the other one becomes like it.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    Disruption, EntryDiff, Op, owner_of,
    planner::{Order, Planner},
};
use crate::{
    address::Address,
    resource::{Bank, Content, PinPath, Slot},
    rows::Rows,
    wiring,
};

/// What a bank lacks.
struct Difference {
    address: Address,
    op: Op,
    undo: Option<Op>,
}

/// How the active bank comes to be right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// It is.
    None,
    /// The other bank becomes active.
    To(Bank),
}

impl Planner<'_> {
    /// Plans both banks. They differ only while a plan is executed, or after one that was not.
    pub(super) fn banks(&mut self) -> Switch {
        self.new_slots();
        let active = self.observed.active;
        let stale = self.differences(active);
        // Without the map that says which bank is active, entry programs follow one that is lost:
        // they are exchanged one by one, and both banks must be right before.
        if self.is_new(&wiring::active()) {
            let standby = self.differences(active.other());
            self.write(Order::Entries, stale);
            self.write(Order::Entries, standby);
            return Switch::None;
        }
        if stale.is_empty() && self.moved_entries().len() < 2 {
            let differences = self.differences(active.other());
            self.write(Order::Mirror, differences);
            return Switch::None;
        }
        let standby = active.other();
        let differences = self.differences(standby);
        self.write(Order::Standby, differences);
        let topology = Address::topology();
        let op = Op::Activate {
            bank: standby,
            drain: false,
        };
        let undo = Op::Activate {
            bank: active,
            drain: true,
        };
        self.step(Order::Activate, &topology, op, Some(undo), Disruption::None);
        self.step(Order::Drain, &topology, Op::Drain, None, Disruption::None);
        self.write(Order::Mirror, stale);
        Switch::To(standby)
    }

    fn write(&mut self, order: Order, differences: Vec<Difference>) {
        for Difference { address, op, undo } in differences {
            let undo = undo.filter(|_| order != Order::Mirror);
            self.step(order, &address, op, undo, Disruption::None);
        }
    }

    /// Slots of arrays that are new: nothing runs through them yet.
    fn new_slots(&mut self) {
        for (slot, program) in &self.desired.slots {
            if !self.is_new(&slot.map) {
                continue;
            }
            let place = Slot {
                map: self.place(&slot.map),
                index: slot.index,
            };
            let owner = self.owner(slot);
            for bank in Bank::ALL {
                let op = Op::SetSlot(place.clone(), bank, self.place(program));
                self.step(Order::Standby, &owner, op, None, Disruption::None);
            }
        }
    }

    /// Where a bank differs from what is desired, in arrays that stay.
    fn differences(&self, bank: Bank) -> Vec<Difference> {
        let mut differences = self.wrong_slots(bank);
        differences.extend(self.unwanted_slots(bank));
        for (path, map) in &self.desired.maps {
            if !matches!(map.content, Content::Banked(_)) {
                continue;
            }
            let Some(diff) = self.diff(path) else {
                continue;
            };
            let diff = diff.of(|key| Bank::of_key(key) == Some(bank));
            // What goes makes room for what comes.
            for (op, undo) in diff.deletes(path).into_iter().chain(diff.puts(path)) {
                differences.push(Difference {
                    address: map.owner.clone(),
                    op,
                    undo: Some(undo),
                });
            }
        }
        differences
    }

    fn wrong_slots(&self, bank: Bank) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (slot, program) in &self.desired.slots {
            if self.is_new(&slot.map) {
                continue;
            }
            let running = self.observed.slots.get(slot);
            let running = running.and_then(|banks| banks[bank as usize]);
            let current = self.observed.programs.get(program);
            if running.is_some()
                && running == current.map(|program| program.id)
                && !self.replaced.contains(program)
            {
                continue;
            }
            let old = running.and_then(|id| self.observed.program_by_id(id));
            differences.push(Difference {
                address: self.owner(slot),
                op: Op::SetSlot(slot.clone(), bank, self.place(program)),
                undo: Some(match old {
                    Some(old) => Op::SetSlot(slot.clone(), bank, old.clone()),
                    None => Op::ClearSlot(slot.clone(), bank),
                }),
            });
        }
        differences
    }

    fn unwanted_slots(&self, bank: Bank) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (slot, banks) in &self.observed.slots {
            let Some(id) = banks[bank as usize] else {
                continue;
            };
            if self.desired.slots.contains_key(slot)
                || !self.desired.maps.contains_key(&slot.map)
                || self.is_new(&slot.map)
            {
                continue;
            }
            let old = self.observed.program_by_id(id);
            differences.push(Difference {
                address: owner_of(&slot.map),
                op: Op::ClearSlot(slot.clone(), bank),
                undo: old.map(|old| Op::SetSlot(slot.clone(), bank, old.clone())),
            });
        }
        differences
    }

    fn owner(&self, slot: &Slot) -> Address {
        let owner = self.desired.slot_owners.get(slot);
        owner.cloned().unwrap_or_else(Address::topology)
    }

    /// How the content of a map of ours that stays differs from what is desired.
    pub(super) fn diff(&self, path: &PinPath) -> Option<Rc<EntryDiff>> {
        let map = self.desired.maps.get(path)?;
        let wanted = map.content.entries()?;
        if self.is_new(path) {
            return None;
        }
        let mut diffs = self.diffs.borrow_mut();
        let diff = diffs.entry(path.clone()).or_insert_with(|| {
            let running = self.observed.maps.get(path);
            let running = running.and_then(|map| map.entries.as_ref());
            Rc::new(EntryDiff::new(
                wanted,
                running.unwrap_or(&Rows::default()),
                map.shape.is_array(),
                |name| self.ifindex(name),
            ))
        });
        Some(Rc::clone(diff))
    }

    /// Links whose entry program is to lead elsewhere.
    pub(super) fn moved_entries(&self) -> BTreeSet<&PinPath> {
        let links = self.desired.links.iter();
        links
            .filter(|(path, attachment)| {
                self.observed.links.contains_key(*path)
                    && self.transitional(&attachment.program, Bank::A).is_some()
            })
            .map(|(path, _)| path)
            .collect()
    }
}
