//! What moves traffic: slots, links, entries of maps that stay, and the record.

use super::{
    Disruption, Op,
    entries::EntryDiff,
    owner_of,
    planner::{Order, Planner},
};
use crate::{
    address::Address,
    observed,
    record::Record,
    resource::{Attachment, Content, PinPath, Slot},
};

impl Planner<'_> {
    pub(super) fn slots(&mut self) {
        for (slot, program) in &self.desired.slots {
            let running = self.observed.slots.get(slot);
            let current = self
                .observed
                .programs
                .get(program)
                .map(|program| program.id);
            let is_new = self.is_new(&slot.map);
            if running.is_some()
                && running.copied() == current
                && !self.replaced.contains(program)
                && !is_new
            {
                continue;
            }
            let place = Slot {
                map: self.place(&slot.map),
                index: slot.index,
            };
            let undo = match running.and_then(|id| self.observed.program_by_id(*id)) {
                Some(old) if !is_new => Op::SetSlot(place.clone(), old.clone()),
                _ => Op::ClearSlot(place.clone()),
            };
            let op = Op::SetSlot(place, self.place(program));
            let owner = self
                .desired
                .slot_owners
                .get(slot)
                .cloned()
                .unwrap_or_else(Address::topology);
            // Nothing runs through a new array yet.
            let order = if is_new {
                Order::Programs
            } else if running.is_none() {
                Order::NewSlots
            } else {
                Order::Slots
            };
            self.step(order, &owner, op, Some(undo), Disruption::None);
        }
        let mut drained = false;
        for (slot, id) in &self.observed.slots {
            if !self.desired.slots.contains_key(slot)
                && self.desired.maps.contains_key(&slot.map)
                && !self.is_new(&slot.map)
            {
                let undo = self
                    .observed
                    .program_by_id(*id)
                    .map(|old| Op::SetSlot(slot.clone(), old.clone()));
                if !drained {
                    drained = true;
                    let owner = Address::topology();
                    self.step(Order::Drain, &owner, Op::Drain, None, Disruption::None);
                }
                let op = Op::ClearSlot(slot.clone());
                self.step(
                    Order::Removed,
                    &owner_of(&slot.map),
                    op,
                    undo,
                    Disruption::None,
                );
            }
        }
    }

    pub(super) fn links(&mut self) {
        for (path, attachment) in &self.desired.links {
            let mut new = attachment.clone();
            new.program = self.place(&attachment.program);
            let ifindex = self.ifindex(&attachment.interface);
            match self.observed.links.get(path) {
                Some(link)
                    if link.point == Some(attachment.point) && ifindex == Some(link.ifindex) =>
                {
                    let current = self
                        .observed
                        .programs
                        .get(&attachment.program)
                        .map(|program| program.id);
                    if current == Some(link.program) && !self.replaced.contains(&attachment.program)
                    {
                        continue;
                    }
                    let undo =
                        self.observed
                            .program_by_id(link.program)
                            .map(|old| Op::UpdateLink {
                                link: path.clone(),
                                program: old.clone(),
                                expected: 0,
                            });
                    let op = Op::UpdateLink {
                        link: path.clone(),
                        program: new.program,
                        expected: link.program,
                    };
                    self.step(Order::Links, &attachment.owner, op, undo, Disruption::None);
                }
                Some(_) => {
                    // Its interface was made anew, or it is to be attached elsewhere.
                    let detach = Op::Detach(path.clone());
                    self.step(
                        Order::Detach,
                        &attachment.owner,
                        detach,
                        None,
                        Disruption::PacketsLost,
                    );
                    self.attach(path, new);
                }
                None => self.attach(path, new),
            }
        }
        for (path, link) in &self.observed.links {
            if !self.desired.links.contains_key(path) {
                let undo = self.reattach(path, link);
                self.step(
                    Order::Detach,
                    &owner_of(path),
                    Op::Detach(path.clone()),
                    undo,
                    Disruption::None,
                );
            }
        }
    }

    fn attach(&mut self, path: &PinPath, attachment: Attachment) {
        let owner = attachment.owner.clone();
        let undo = Op::Detach(path.clone());
        self.step(
            Order::Links,
            &owner,
            Op::Attach(path.clone(), attachment),
            Some(undo),
            Disruption::None,
        );
    }

    fn reattach(&self, path: &PinPath, link: &observed::Link) -> Option<Op> {
        let (interface, _) = self
            .observed
            .interfaces
            .iter()
            .find(|(_, interface)| interface.ifindex == link.ifindex)?;
        let program = self.observed.program_by_id(link.program)?.clone();
        let attachment = Attachment {
            owner: owner_of(path),
            interface: interface.clone(),
            point: link.point?,
            program,
        };
        Some(Op::Attach(path.clone(), attachment))
    }

    /// Content of maps that stay.
    pub(super) fn entries(&mut self) {
        for (path, map) in &self.desired.maps {
            let Content::Config(wanted) = &map.content else {
                continue;
            };
            if self.is_new(path) {
                continue;
            }
            let running = self
                .observed
                .maps
                .get(path)
                .and_then(|map| map.entries.clone())
                .unwrap_or_default();
            let diff = EntryDiff::new(wanted, &running, map.shape.is_array(), |name| {
                self.ifindex(name)
            });
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
