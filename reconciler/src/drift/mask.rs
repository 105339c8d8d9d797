//! The kernel as the planner sees it where drift stays: as it was applied.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use topology_schema::{Drift, InterfaceName, Name};

use super::{Applied, Policy};
use crate::{
    address::Address,
    observed::{self, Observed},
    plan::{self, Op, Step},
    resource::{Entries, PinPath, Slot, TemplateView, Veth},
    wiring,
};

/// Ids and indices that the kernel never gives: counted down from here.
const NEVER: u32 = u32::MAX;

/// The kernel, and what is made believe of it.
pub(super) struct Mask<'a> {
    applied: &'a Applied,
    policy: &'a Policy<'a>,
    pub(super) observed: Observed,
    interfaces: BTreeMap<InterfaceName, Address>,
    namespaces: BTreeMap<Name, Address>,
    pins: BTreeMap<PinPath, Address>,
    slots: BTreeMap<Slot, Address>,
    next: u32,
}

impl<'a> Mask<'a> {
    pub(super) fn new(applied: &'a Applied, observed: &Observed, policy: &'a Policy<'a>) -> Self {
        Self {
            applied,
            policy,
            observed: observed.clone(),
            interfaces: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            pins: BTreeMap::new(),
            slots: BTreeMap::new(),
            next: NEVER,
        }
    }

    /// True if drift of an object stays. Interfaces that come and go are followed.
    fn stays(&self, owner: &Address) -> bool {
        let followed = self
            .applied
            .events
            .keys()
            .any(|name| *owner == Address::interface(name));
        !followed && self.policy.mode(owner) != Drift::Repair
    }

    fn number(&mut self) -> u32 {
        self.next -= 1;
        self.next
    }

    pub(super) fn all(&mut self) {
        self.namespaces();
        self.veths();
        self.maps();
        self.entries();
        self.programs();
        self.slots();
        self.links();
        self.strangers();
    }

    fn namespaces(&mut self) {
        for (name, namespace) in &self.applied.lowered.desired.namespaces {
            if self.stays(&namespace.owner) && self.observed.namespaces.get(name) != Some(&true) {
                self.observed.namespaces.insert(name.clone(), true);
                self.namespaces
                    .insert(name.clone(), namespace.owner.clone());
            }
        }
    }

    fn veths(&mut self) {
        for (name, veth) in &self.applied.lowered.desired.veths {
            if !self.stays(&veth.owner) {
                continue;
            }
            let believed = observed::Veth {
                alias: veth.alias.clone(),
                peer: Some(veth.peer.clone()),
            };
            if self.observed.veths.get(name) == Some(&believed) {
                continue;
            }
            self.observed.veths.insert(name.clone(), believed);
            let far = (veth.peer.namespace.is_none()).then(|| veth.peer.name.clone());
            for end in std::iter::once(name.clone()).chain(far) {
                if self.observed.ifindex(&end).is_none() {
                    let interface = observed::Interface {
                        ifindex: self.number(),
                        ours: true,
                        up: true,
                        carrier: true,
                    };
                    self.observed.interfaces.insert(end.clone(), interface);
                }
                self.interfaces.insert(end, veth.owner.clone());
            }
        }
    }

    fn resolve<'t>(&self, template: TemplateView<'t>) -> Option<Cow<'t, [u8]>> {
        template.resolve(|name| self.applied.ifindex(&self.observed, name))
    }

    /// Whose interface bytes refer to that is made believe.
    fn refers(&self, template: TemplateView<'_>) -> Option<&Address> {
        let mut names = template.ifindexes.iter().map(|(_, name)| name);
        names.find_map(|name| self.interfaces.get(name))
    }

    fn maps(&mut self) {
        for (path, map) in &self.applied.lowered.desired.maps {
            let shape = self.observed.maps.get(path).map(|map| map.shape);
            if self.stays(&map.owner) && self.observed.unpinned.remove(path).is_some() {
                self.pins.insert(path.clone(), map.owner.clone());
            }
            if !self.stays(&map.owner) || shape == Some(Some(map.shape)) {
                continue;
            }
            let believed = observed::Map {
                id: self.number(),
                shape: Some(map.shape),
                entries: None,
            };
            self.observed.maps.insert(path.clone(), believed);
            self.pins.insert(path.clone(), map.owner.clone());
        }
    }

    fn entries(&mut self) {
        for (path, map) in &self.applied.lowered.desired.maps {
            let Some(wanted) = map.content.entries() else {
                continue;
            };
            let stays = self.stays(&map.owner);
            let Some(mut entries) = self.observed.maps.get(path).map(|map| map.entries.clone())
            else {
                continue;
            };
            if stays {
                let running = entries.take().unwrap_or_default();
                let believed = wanted.iter().filter_map(|(key, template)| {
                    // What an interface of the host does is followed, drift or not.
                    let value = self
                        .resolve(template)
                        .or_else(|| running.get(&key).map(Cow::Borrowed));
                    Some((key, value?))
                });
                entries = Some(believed.collect());
            } else {
                for (key, template) in wanted
                    .iter()
                    .filter(|(_, value)| self.refers(*value).is_some())
                {
                    if let (Some(value), Some(entries)) = (self.resolve(template), &mut entries) {
                        entries.insert(&key, &value);
                    }
                }
            }
            if let Some(map) = self.observed.maps.get_mut(path) {
                map.entries = entries;
            }
        }
    }

    fn programs(&mut self) {
        for (path, program) in &self.applied.lowered.desired.programs {
            let stays = self.stays(&program.owner);
            // A program on what is made believe runs on what was there before.
            let globals = program.globals.values();
            let on_interfaces = globals.filter_map(|value| self.refers(value.view())).next();
            let on_maps = || program.maps.values().find_map(|map| self.pins.get(map));
            let depends = on_interfaces.or_else(on_maps).cloned();
            let running = self.observed.programs.get(path).cloned();
            if !stays && (depends.is_none() || running.is_none()) {
                continue;
            }
            let fingerprint = program.fingerprint(
                |name| self.applied.ifindex(&self.observed, name),
                |map| self.observed.maps.get(map).map(|map| map.id),
            );
            let Some(fingerprint) = fingerprint else {
                continue;
            };
            if running
                .as_ref()
                .is_some_and(|running| running.fingerprint == fingerprint)
            {
                continue;
            }
            let id = running.map_or_else(|| self.number(), |running| running.id);
            let believed = observed::Program { id, fingerprint };
            self.observed.programs.insert(path.clone(), believed);
            self.pins.insert(
                path.clone(),
                depends.unwrap_or_else(|| program.owner.clone()),
            );
        }
    }

    fn slots(&mut self) {
        for (slot, program) in &self.applied.lowered.desired.slots {
            let owner = self.applied.lowered.desired.slot_owners.get(slot);
            let owner = owner.cloned().unwrap_or_else(Address::topology);
            let hangs = self
                .pins
                .get(&slot.map)
                .or_else(|| self.pins.get(program))
                .cloned();
            let id = self
                .observed
                .programs
                .get(program)
                .map(|program| program.id);
            if let Some(id) = id
                && (hangs.is_some() || self.stays(&owner))
                && self.observed.slots.get(slot) != Some(&[Some(id); 2])
            {
                self.observed.slots.insert(slot.clone(), [Some(id); 2]);
                self.slots.insert(slot.clone(), hangs.unwrap_or(owner));
            }
        }
    }

    fn links(&mut self) {
        for (path, attachment) in &self.applied.lowered.desired.links {
            let interface = self.interfaces.get(&attachment.interface);
            let hangs = interface
                .or_else(|| self.pins.get(&attachment.program))
                .cloned();
            if hangs.is_none() && !self.stays(&attachment.owner) {
                continue;
            }
            let ifindex = self.applied.ifindex(&self.observed, &attachment.interface);
            let program = self.observed.programs.get(&attachment.program);
            let (Some(ifindex), Some(program)) = (ifindex, program.map(|program| program.id))
            else {
                continue;
            };
            let running = self.observed.links.get(path);
            let believed = observed::Link {
                id: running.map_or(NEVER, |link| link.id),
                program,
                ifindex,
                point: Some(attachment.point),
            };
            if running != Some(&believed) {
                self.observed.links.insert(path.clone(), believed);
                let owner = hangs.unwrap_or_else(|| attachment.owner.clone());
                self.pins.insert(path.clone(), owner);
            }
        }
    }

    /// What others put into our place stays, too.
    fn strangers(&mut self) {
        let desired = &self.applied.lowered.desired;
        let stays = |path: &PinPath| self.stays(&plan::owner_of(path));
        let mut observed = self.observed.clone();
        observed
            .maps
            .retain(|path, _| desired.maps.contains_key(path) || !stays(path));
        observed
            .programs
            .retain(|path, _| desired.programs.contains_key(path) || !stays(path));
        observed
            .links
            .retain(|path, _| desired.links.contains_key(path) || !stays(path));
        observed.namespaces.retain(|name, ours| {
            !*ours
                || desired.namespaces.contains_key(name)
                || !self.stays(&Address::namespace(name))
        });
        observed
            .slots
            .retain(|slot, _| desired.slots.contains_key(slot) || !stays(&slot.map));
        let stay = self.stays(&Address::topology());
        observed
            .veths
            .retain(|name, _| desired.veths.contains_key(name) || !stay);
        self.observed = observed;
    }

    /// Owners of what is made believe and the steps need.
    pub(super) fn needed(&self, steps: &[Step]) -> BTreeSet<Address> {
        let mut needed = BTreeSet::new();
        for op in steps.iter().map(|step| &step.op) {
            self.needs(op, &mut needed);
        }
        needed
    }

    fn needs(&self, op: &Op, needed: &mut BTreeSet<Address>) {
        let mut interface =
            |name: &InterfaceName| needed.extend(self.interfaces.get(name).cloned());
        match op {
            Op::CreateMap(_, map) => {
                let entries = map.content.entries().into_iter();
                entries
                    .flat_map(Entries::values)
                    .for_each(|value| of_template(value, &mut interface));
            }
            Op::WriteEntries { put, .. } => {
                put.values()
                    .for_each(|value| of_template(value.view(), &mut interface));
            }
            Op::LoadProgram(_, program) => {
                program
                    .globals
                    .values()
                    .for_each(|value| of_template(value.view(), &mut interface));
            }
            Op::Attach(_, attachment) => interface(&attachment.interface),
            Op::ConfigureVeth { name, .. } => interface(name),
            Op::DeleteVeths(names) => names.iter().for_each(interface),
            Op::CreateVeth(_, Veth { peer, .. }) => {
                let space = peer.namespace.as_ref();
                needed.extend(space.and_then(|space| self.namespaces.get(space).cloned()));
            }
            Op::CreateNamespace(name) | Op::DeleteNamespace(name) => {
                needed.extend(self.namespaces.get(name).cloned());
            }
            Op::SetSlot(slot, ..) | Op::ClearSlot(slot, _) => {
                needed.extend(self.slots.get(slot).cloned());
            }
            _ => {}
        }
        for pin in pins_of(op) {
            needed.extend(self.pins.get(&pin).cloned());
        }
    }
}

fn of_template(template: TemplateView<'_>, interface: &mut impl FnMut(&InterfaceName)) {
    template
        .ifindexes
        .iter()
        .for_each(|(_, name)| interface(name));
}

/// The pins that an operation opens, or takes to be free.
fn pins_of(op: &Op) -> Vec<PinPath> {
    let pins: Vec<&PinPath> = match op {
        Op::CreateMap(pin, _) | Op::Detach(pin) | Op::Pin { pin, .. } | Op::Unpin(pin) => vec![pin],
        Op::CopyEntries { from, to } | Op::Rename { from, to } => vec![from, to],
        Op::WriteEntries { map, .. } => vec![map],
        Op::LoadProgram(pin, program) => {
            std::iter::once(pin).chain(program.maps.values()).collect()
        }
        Op::SetSlot(slot, _, program) => vec![&slot.map, program],
        Op::ClearSlot(slot, _) => vec![&slot.map],
        Op::Attach(link, attachment) => vec![link, &attachment.program],
        Op::UpdateLink { link, program, .. } => vec![link, program],
        Op::Activate { .. } => return vec![wiring::active()],
        _ => Vec::new(),
    };
    pins.into_iter().cloned().collect()
}
