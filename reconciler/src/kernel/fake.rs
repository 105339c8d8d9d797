//! A kernel in memory: for tests of everything above the [`Kernel`] trait.

use std::{collections::BTreeMap, time::Duration};

use topology_schema::{Check, InterfaceName, Name};

use super::{Entry, Error, Kernel, Result};
use crate::{
    interrupt::Interrupt,
    observed::{self, Interest, Observed},
    plan::Op,
    record::Record,
    resource::{Attachment, Bank, Entries, PinPath, Program},
    wiring,
};

/// The kernel in memory. It refuses what the real one would refuse: an object that is there
/// already, one that is missing, a slot for a program that is not loaded.
#[derive(Clone, Debug)]
pub struct FakeKernel {
    topology: Name,
    state: Observed,
    next_id: u32,
    /// Operations so far, those that failed too.
    pub history: Vec<Op>,
    /// What [`Kernel::boot_time`] says.
    pub boot_time: Duration,
    /// Why every check fails.
    pub unreachable: Option<String>,
}

impl FakeKernel {
    /// A host with these interfaces.
    pub fn new(topology: Name, interfaces: impl IntoIterator<Item = InterfaceName>) -> Self {
        let mut this = Self {
            topology,
            state: Observed::default(),
            next_id: 1,
            history: Vec::new(),
            boot_time: Duration::ZERO,
            unreachable: None,
        };
        for name in interfaces {
            this.add_interface(name, false);
        }
        this
    }

    /// Adds an interface that is not ours.
    pub fn plug(&mut self, name: InterfaceName) {
        self.add_interface(name, false);
    }

    /// Removes an interface that is not ours, as when a driver is unloaded: its links stay, with
    /// no interface.
    pub fn unplug(&mut self, name: &InterfaceName) {
        if let Some(interface) = self.state.interfaces.remove(name) {
            self.forget_index(interface.ifindex);
        }
    }

    /// All that there is.
    pub fn state(&self) -> &Observed {
        &self.state
    }

    /// To change behind the reconciler's back.
    pub fn state_mut(&mut self) -> &mut Observed {
        &mut self.state
    }

    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    fn add_interface(&mut self, name: InterfaceName, ours: bool) {
        let ifindex = self.id();
        self.state.interfaces.insert(
            name,
            observed::Interface {
                ifindex,
                ours,
                up: true,
                carrier: true,
            },
        );
    }

    fn forget_index(&mut self, ifindex: u32) {
        for link in self
            .state
            .links
            .values_mut()
            .filter(|link| link.ifindex == ifindex)
        {
            link.ifindex = 0;
        }
    }

    fn load(&mut self, path: &PinPath, program: &Program) -> Result<()> {
        if self.state.programs.contains_key(path) {
            return refuse("pin", path, "File exists");
        }
        let fingerprint = program
            .fingerprint(
                |name| self.state.ifindex(name),
                |map| self.state.maps.get(map).map(|map| map.id),
            )
            .ok_or_else(|| {
                Error::Call(format!(
                    "load program {path}: a map or an interface is missing"
                ))
            })?;
        let id = self.id();
        self.state
            .programs
            .insert(path.clone(), observed::Program { id, fingerprint });
        Ok(())
    }

    fn program_id(&self, path: &PinPath) -> Result<u32> {
        match self.state.programs.get(path) {
            Some(program) => Ok(program.id),
            None => refuse("open", path, "No such file or directory"),
        }
    }

    fn attach(&mut self, path: &PinPath, attachment: &Attachment) -> Result<()> {
        if self.state.links.contains_key(path) {
            return refuse("pin", path, "File exists");
        }
        let program = self.program_id(&attachment.program)?;
        let Some(ifindex) = self.state.ifindex(&attachment.interface) else {
            return refuse("attach to", &attachment.interface, "No such device");
        };
        let id = self.id();
        self.state.links.insert(
            path.clone(),
            observed::Link {
                id,
                program,
                ifindex,
                point: Some(attachment.point),
            },
        );
        Ok(())
    }

    fn unpin(&mut self, path: &PinPath) {
        self.state.leftovers.remove(path);
        self.state.programs.remove(path);
        self.state.links.remove(path);
        if self.state.maps.remove(path).is_some() {
            self.state.slots.retain(|slot, _| slot.map != *path);
            if *path == wiring::active() {
                self.state.active = Bank::default();
            }
        }
    }

    fn rename(&mut self, from: &PinPath, to: &PinPath) -> Result<()> {
        if let Some(program) = self.state.programs.remove(from) {
            self.state.programs.insert(to.clone(), program);
        } else if let Some(map) = self.state.maps.remove(from) {
            self.state.maps.insert(to.clone(), map);
            let slots = std::mem::take(&mut self.state.slots);
            self.state.slots = slots
                .into_iter()
                .filter(|(slot, _)| slot.map != *to)
                .map(|(mut slot, id)| {
                    if slot.map == *from {
                        slot.map = to.clone();
                    }
                    (slot, id)
                })
                .collect();
        } else {
            return refuse("rename", from, "No such file or directory");
        }
        Ok(())
    }

    fn create_map(&mut self, path: &PinPath, map: &crate::resource::Map) -> Result<()> {
        if self.state.maps.contains_key(path) {
            return refuse("pin", path, "File exists");
        }
        let mut entries = Vec::new();
        for (key, value) in map.content.entries().into_iter().flat_map(Entries::iter) {
            let Some(value) = value.resolve(|name| self.state.ifindex(name)) else {
                return refuse("fill", path, "an interface is missing");
            };
            entries.push((key, value.into_owned()));
        }
        let id = self.id();
        self.state.maps.insert(
            path.clone(),
            observed::Map {
                id,
                shape: Some(map.shape),
                entries: Some(entries.into_iter().collect()),
            },
        );
        Ok(())
    }

    fn write(
        &mut self,
        path: &PinPath,
        put: &BTreeMap<Vec<u8>, crate::resource::Template>,
        delete: &std::collections::BTreeSet<Vec<u8>>,
    ) -> Result<()> {
        let mut values = Vec::new();
        for (key, value) in put {
            match value.resolve(|name| self.state.ifindex(name)) {
                Some(value) => values.push((key, value.into_owned())),
                None => return refuse("write", path, "an interface is missing"),
            }
        }
        let Some(map) = self.state.maps.get_mut(path) else {
            return refuse("open", path, "No such file or directory");
        };
        let entries = map.entries.get_or_insert_default();
        for (key, value) in values {
            entries.insert(key, &value);
        }
        delete.iter().for_each(|key| entries.remove(key));
        Ok(())
    }
}

fn refuse<T>(call: &str, object: impl std::fmt::Display, why: &str) -> Result<T> {
    Err(Error::Call(format!("{call} {object}: {why}")))
}

impl Kernel for FakeKernel {
    fn topology(&self) -> &Name {
        &self.topology
    }

    fn record(&mut self) -> Result<Option<Record>> {
        Ok(self.state.record.clone())
    }

    fn observe(&mut self, _interest: &Interest) -> Result<Observed> {
        let mut observed = self.state.clone();
        observed.leftovers = observed
            .maps
            .keys()
            .chain(observed.programs.keys())
            .filter(|path| path.is_staged())
            .cloned()
            .collect();
        observed.maps.retain(|path, _| !path.is_staged());
        observed.programs.retain(|path, _| !path.is_staged());
        observed.slots.retain(|slot, _| !slot.map.is_staged());
        Ok(observed)
    }

    fn read(&mut self, map: &PinPath) -> Result<Vec<Entry>> {
        let entries = self
            .state
            .maps
            .get(map)
            .and_then(|map| map.entries.clone())
            .unwrap_or_default();
        Ok(entries
            .iter()
            .map(|(key, value)| (key.to_vec(), vec![value.to_vec()]))
            .collect())
    }

    fn now(&self) -> u64 {
        0
    }

    fn boot_time(&self) -> Duration {
        self.boot_time
    }

    fn check(
        &mut self,
        checks: &[Check],
        _interrupt: &Interrupt,
    ) -> Vec<std::result::Result<(), String>> {
        let result = self.unreachable.clone().map_or(Ok(()), Err);
        vec![result; checks.len()]
    }

    fn apply(&mut self, op: &Op) -> Result<()> {
        self.history.push(op.clone());
        match op {
            Op::CreateNamespace(name) => {
                if self.state.namespaces.insert(name.clone(), true).is_some() {
                    return refuse("create namespace", name, "File exists");
                }
            }
            Op::DeleteNamespace(name) => {
                self.state.namespaces.remove(name);
                let is_inside = |veth: &observed::Veth| {
                    veth.peer
                        .as_ref()
                        .is_some_and(|peer| peer.namespace.as_ref() == Some(name))
                };
                let inside: Vec<_> = self
                    .state
                    .veths
                    .iter()
                    .filter(|(_, veth)| is_inside(veth))
                    .map(|(name, _)| name.clone())
                    .collect();
                self.delete_veths(&inside);
            }
            Op::CreateVeth(name, veth) => {
                if self.state.interfaces.contains_key(name) {
                    return refuse("create veth", name, "File exists");
                }
                if veth
                    .peer
                    .namespace
                    .as_ref()
                    .is_some_and(|namespace| !self.state.namespaces.contains_key(namespace))
                {
                    return refuse("create veth", name, "no such namespace");
                }
                self.add_interface(name.clone(), true);
                if veth.peer.namespace.is_none() {
                    self.add_interface(veth.peer.name.clone(), true);
                }
                let veth = observed::Veth {
                    alias: veth.alias.clone(),
                    peer: Some(veth.peer.clone()),
                };
                self.state.veths.insert(name.clone(), veth);
            }
            Op::ConfigureVeth { name, to, .. } => match self.state.veths.get_mut(name) {
                Some(veth) => {
                    veth.alias = to.alias.clone();
                    veth.peer = Some(to.peer.clone());
                }
                None => return refuse("configure veth", name, "No such device"),
            },
            Op::DeleteVeths(names) => self.delete_veths(names),
            Op::CreateMap(path, map) => self.create_map(path, map)?,
            Op::CopyEntries { .. } => {}
            Op::WriteEntries { map, put, delete } => self.write(map, put, delete)?,
            Op::LoadProgram(path, program) => self.load(path, program)?,
            Op::SetSlot(slot, bank, program) => {
                let id = self.program_id(program)?;
                if !self.state.maps.contains_key(&slot.map) {
                    return refuse("open", &slot.map, "No such file or directory");
                }
                self.state.slots.entry(slot.clone()).or_default()[*bank as usize] = Some(id);
            }
            Op::Drain => {}
            Op::ClearSlot(slot, bank) => {
                let banks = self.state.slots.entry(slot.clone()).or_default();
                banks[*bank as usize] = None;
                self.state.slots.retain(|_, banks| *banks != [None; 2]);
            }
            Op::Activate { bank, .. } => self.state.active = *bank,
            Op::Attach(path, attachment) => self.attach(path, attachment)?,
            Op::UpdateLink {
                link,
                program,
                expected,
            } => {
                let program = self.program_id(program)?;
                match self.state.links.get_mut(link) {
                    Some(link) if *expected == 0 || link.program == *expected => {
                        link.program = program
                    }
                    Some(_) => return refuse("update link", link, "Operation not permitted"),
                    None => return refuse("open", link, "No such file or directory"),
                }
            }
            Op::Detach(path) => self.unpin(path),
            Op::Rename { from, to } => self.rename(from, to)?,
            Op::Pin { pin, .. } => {
                if self.state.unpinned.remove(pin).is_none() {
                    return refuse("pin", pin, "File exists");
                }
            }
            Op::Unpin(path) => self.unpin(path),
            Op::WriteRecord(record) => self.state.record = Some((**record).clone()),
            Op::MarkRecord { unfinished } => match &mut self.state.record {
                Some(record) => record.unfinished = *unfinished,
                None => return refuse("mark", "the record", "No such file or directory"),
            },
            Op::RemoveDirectory => self.state.record = None,
        }
        Ok(())
    }
}

impl FakeKernel {
    fn delete_veths<'a>(&mut self, names: impl IntoIterator<Item = &'a InterfaceName>) {
        for name in names {
            let far = self.state.veths.remove(name).and_then(|veth| veth.peer);
            let far = far
                .filter(|peer| peer.namespace.is_none())
                .map(|peer| peer.name);
            for end in std::iter::once(name.clone()).chain(far) {
                self.unplug(&end);
            }
        }
    }
}
