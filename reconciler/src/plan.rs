//! From desired and observed state to the ordered steps between them. Knows no kind of cube.

use std::collections::{BTreeMap, BTreeSet};

use topology_schema::{InterfaceName, Name};

use crate::{
    address::Address,
    desired::Desired,
    observed::{self, Observed},
    record::Record,
    resource::{Attachment, Content, Map, PinPath, Program, Slot, Template, Veth},
};

/// When a step happens. Nothing carries traffic before *switch*, and nothing that carries it is
/// touched after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything new is made beside what runs.
    Prepare,
    /// The few operations that move traffic.
    Switch,
    /// What nothing points at any more goes.
    CleanUp,
}

/// What a change costs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disruption {
    /// Nothing.
    None,
    /// Tables of the data plane start empty: which.
    StateLost(String),
    /// Packets on their way may be lost.
    PacketsLost,
}

/// One operation on the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make a namespace and mark it.
    CreateNamespace(Name),
    /// Delete a namespace of ours.
    DeleteNamespace(Name),
    /// Make a pair, mark it, set it up.
    CreateVeth(InterfaceName, Veth),
    /// Bring a pair from one state to the other.
    ConfigureVeth {
        /// The pair.
        name: InterfaceName,
        /// As it is.
        from: Veth,
        /// As it should be.
        to: Veth,
    },
    /// Delete pairs of ours.
    DeleteVeths(BTreeSet<InterfaceName>),
    /// Make a map with its content and pin it.
    CreateMap(PinPath, Map),
    /// Copy what the data plane has learned.
    CopyEntries {
        /// Old map.
        from: PinPath,
        /// New map.
        to: PinPath,
    },
    /// Write and delete entries of a map.
    WriteEntries {
        /// The map.
        map: PinPath,
        /// Entries to write.
        put: BTreeMap<Vec<u8>, Template>,
        /// Keys to delete.
        delete: BTreeSet<Vec<u8>>,
    },
    /// Load a program and pin it.
    LoadProgram(PinPath, Program),
    /// Put a program into a slot.
    SetSlot(Slot, PinPath),
    /// Empty a slot.
    ClearSlot(Slot),
    /// Attach a program and pin the link.
    Attach(PinPath, Attachment),
    /// Exchange the program of a link in one step, if it still is the expected one.
    UpdateLink {
        /// The link.
        link: PinPath,
        /// The new program.
        program: PinPath,
        /// The id of the old one.
        expected: u32,
    },
    /// Detach and unpin.
    Detach(PinPath),
    /// Move a pin to another path, over what is there.
    Rename {
        /// From here.
        from: PinPath,
        /// To here.
        to: PinPath,
    },
    /// Remove a pin.
    Unpin(PinPath),
    /// Write the record of what is applied.
    WriteRecord(Box<Record>),
    /// Remove the topology's directory.
    RemoveDirectory,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub phase: Phase,
    /// What.
    pub op: Op,
    /// What takes it back; `None` where there is nothing to take back.
    pub undo: Option<Op>,
    /// For which object.
    pub address: Address,
    /// What it costs.
    pub disruption: Disruption,
}

/// The steps from what is observed to what is desired, in order. With `record`, the last step of
/// the switch notes what is applied then; without, the topology goes altogether.
pub fn steps(desired: &Desired, observed: &Observed, record: Option<&Record>) -> Vec<Step> {
    let mut planner = Planner {
        desired,
        observed,
        replaced: BTreeSet::new(),
        remade: BTreeSet::new(),
        steps: Vec::new(),
    };
    planner.leftovers();
    planner.namespaces();
    planner.veths();
    planner.maps();
    planner.programs();
    planner.slots();
    planner.links();
    planner.entries();
    planner.record(record);
    let mut steps = planner.steps;
    // Stable: within a phase, steps stay in the order in which they depend on one another.
    steps.sort_by_key(|(phase, order, _)| (*phase, *order));
    steps.into_iter().map(|(_, _, step)| step).collect()
}

/// Order within a phase.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    // Prepare.
    Sweep,
    Namespaces,
    Veths,
    Maps,
    Programs,
    // Switch: what stops goes first, so that no packet meets what is taken apart under it.
    Detach,
    State,
    Slots,
    Entries,
    Links,
    Removed,
    Record,
    // Clean up.
    Promote,
    Pins,
    Pairs,
    Spaces,
    Directory,
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    /// Maps and programs whose new version waits beside the old one.
    replaced: BTreeSet<PinPath>,
    /// Interfaces of ours that get a new index.
    remade: BTreeSet<InterfaceName>,
    steps: Vec<(Phase, Order, Step)>,
}

impl Planner<'_> {
    fn step(
        &mut self,
        order: Order,
        address: &Address,
        op: Op,
        undo: Option<Op>,
        disruption: Disruption,
    ) {
        let phase = match order {
            Order::Sweep | Order::Namespaces | Order::Veths | Order::Maps | Order::Programs => {
                Phase::Prepare
            }
            Order::Detach
            | Order::State
            | Order::Slots
            | Order::Entries
            | Order::Links
            | Order::Removed
            | Order::Record => Phase::Switch,
            Order::Promote | Order::Pins | Order::Pairs | Order::Spaces | Order::Directory => {
                Phase::CleanUp
            }
        };
        self.steps.push((
            phase,
            order,
            Step {
                phase,
                op,
                undo,
                address: address.clone(),
                disruption,
            },
        ));
    }

    /// Where an object is until the clean-up.
    fn place(&self, path: &PinPath) -> PinPath {
        if self.replaced.contains(path) {
            path.staged()
        } else {
            path.clone()
        }
    }

    /// The index an interface has and keeps.
    fn ifindex(&self, name: &InterfaceName) -> Option<u32> {
        self.observed
            .ifindex(name)
            .filter(|_| !self.remade.contains(name))
    }

    fn leftovers(&mut self) {
        for path in &self.observed.leftovers {
            self.step(
                Order::Sweep,
                &Address::topology(),
                Op::Unpin(path.clone()),
                None,
                Disruption::None,
            );
        }
    }

    fn namespaces(&mut self) {
        for (name, namespace) in &self.desired.namespaces {
            if self.observed.namespaces.get(name) != Some(&true) {
                let undo = Op::DeleteNamespace(name.clone());
                let op = Op::CreateNamespace(name.clone());
                self.step(
                    Order::Namespaces,
                    &namespace.owner,
                    op,
                    Some(undo),
                    Disruption::None,
                );
            }
        }
        for (name, ours) in &self.observed.namespaces {
            if *ours && !self.desired.namespaces.contains_key(name) {
                let op = Op::DeleteNamespace(name.clone());
                self.step(
                    Order::Spaces,
                    &Address::namespace(name),
                    op,
                    None,
                    Disruption::PacketsLost,
                );
            }
        }
    }

    fn veths(&mut self) {
        for (name, veth) in &self.desired.veths {
            let op = Op::CreateVeth(name.clone(), veth.clone());
            let undo = Op::DeleteVeths(BTreeSet::from([name.clone()]));
            match self.observed.veths.get(name) {
                None => self.step(Order::Veths, &veth.owner, op, Some(undo), Disruption::None),
                Some(observed::Veth {
                    alias,
                    peer: Some(peer),
                }) if *alias == veth.alias
                    && peer.namespace == veth.peer.namespace
                    && peer.name == veth.peer.name =>
                {
                    if *peer != veth.peer {
                        let from = Veth {
                            owner: veth.owner.clone(),
                            alias: alias.clone(),
                            peer: peer.clone(),
                        };
                        self.configure(name, &from, veth);
                    }
                }
                Some(_) => {
                    // The far end is gone or elsewhere.
                    self.remade.extend([name.clone(), veth.peer.name.clone()]);
                    let delete = Op::DeleteVeths(BTreeSet::from([name.clone()]));
                    self.step(
                        Order::Sweep,
                        &veth.owner,
                        delete,
                        None,
                        Disruption::PacketsLost,
                    );
                    self.step(
                        Order::Veths,
                        &veth.owner,
                        op,
                        Some(undo),
                        Disruption::PacketsLost,
                    );
                }
            }
        }
        let gone: BTreeSet<_> = self
            .observed
            .veths
            .keys()
            .filter(|name| !self.desired.veths.contains_key(*name))
            .cloned()
            .collect();
        if !gone.is_empty() {
            let op = Op::DeleteVeths(gone);
            self.step(
                Order::Pairs,
                &Address::topology(),
                op,
                None,
                Disruption::PacketsLost,
            );
        }
    }

    fn configure(&mut self, name: &InterfaceName, from: &Veth, to: &Veth) {
        let op = Op::ConfigureVeth {
            name: name.clone(),
            from: from.clone(),
            to: to.clone(),
        };
        let undo = Op::ConfigureVeth {
            name: name.clone(),
            from: to.clone(),
            to: from.clone(),
        };
        self.step(Order::Links, &to.owner, op, Some(undo), Disruption::None);
    }

    fn maps(&mut self) {
        for (path, map) in &self.desired.maps {
            match self.observed.maps.get(path) {
                Some(observed) if observed.shape == Some(map.shape) => {}
                Some(observed) => {
                    self.replaced.insert(path.clone());
                    let staged = path.staged();
                    let op = Op::CreateMap(staged.clone(), map.clone());
                    let learned = map.content == Content::Learned;
                    // Entries carry over when they mean the same.
                    let fits = learned
                        && observed.shape.is_some_and(|shape| {
                            shape.key_size == map.shape.key_size
                                && shape.value_size == map.shape.value_size
                                && shape.kind == map.shape.kind
                        });
                    let disruption = match &map.content {
                        Content::Learned if !fits => Disruption::StateLost(path.name().to_owned()),
                        Content::Learned | Content::Config(_) | Content::Slots => Disruption::None,
                    };
                    self.step(
                        Order::Maps,
                        &map.owner,
                        op,
                        Some(Op::Unpin(staged.clone())),
                        disruption,
                    );
                    if fits {
                        let op = Op::CopyEntries {
                            from: path.clone(),
                            to: staged.clone(),
                        };
                        self.step(Order::State, &map.owner, op, None, Disruption::None);
                    }
                    let op = Op::Rename {
                        from: staged,
                        to: path.clone(),
                    };
                    self.step(Order::Promote, &map.owner, op, None, Disruption::None);
                }
                None => {
                    let op = Op::CreateMap(path.clone(), map.clone());
                    self.step(
                        Order::Maps,
                        &map.owner,
                        op,
                        Some(Op::Unpin(path.clone())),
                        Disruption::None,
                    );
                }
            }
        }
        for path in self.observed.maps.keys() {
            if !self.desired.maps.contains_key(path) {
                self.step(
                    Order::Pins,
                    &owner_of(path),
                    Op::Unpin(path.clone()),
                    None,
                    Disruption::None,
                );
            }
        }
    }

    fn programs(&mut self) {
        for (path, program) in &self.desired.programs {
            let mut program = program.clone();
            let fingerprint = program.fingerprint(
                |name| self.ifindex(name),
                |map| {
                    let replaced = self.replaced.contains(map);
                    self.observed
                        .maps
                        .get(map)
                        .filter(|_| !replaced)
                        .map(|map| map.id)
                },
            );
            let running = self.observed.programs.get(path);
            if running.is_some_and(|running| Some(&running.fingerprint) == fingerprint.as_ref()) {
                continue;
            }
            for map in program.maps.values_mut() {
                *map = self.place(map);
            }
            let owner = program.owner.clone();
            if running.is_some() {
                self.replaced.insert(path.clone());
                let op = Op::Rename {
                    from: path.staged(),
                    to: path.clone(),
                };
                self.step(Order::Promote, &owner, op, None, Disruption::None);
            }
            let place = self.place(path);
            let undo = Op::Unpin(place.clone());
            self.step(
                Order::Programs,
                &owner,
                Op::LoadProgram(place, program),
                Some(undo),
                Disruption::None,
            );
        }
        for path in self.observed.programs.keys() {
            if !self.desired.programs.contains_key(path) {
                self.step(
                    Order::Pins,
                    &owner_of(path),
                    Op::Unpin(path.clone()),
                    None,
                    Disruption::None,
                );
            }
        }
    }

    /// True if the object at this path is made by this plan.
    fn is_new(&self, map: &PinPath) -> bool {
        self.replaced.contains(map) || !self.observed.maps.contains_key(map)
    }

    fn slots(&mut self) {
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
            } else {
                Order::Slots
            };
            self.step(order, &owner, op, Some(undo), Disruption::None);
        }
        for (slot, id) in &self.observed.slots {
            if !self.desired.slots.contains_key(slot)
                && self.desired.maps.contains_key(&slot.map)
                && !self.is_new(&slot.map)
            {
                let undo = self
                    .observed
                    .program_by_id(*id)
                    .map(|old| Op::SetSlot(slot.clone(), old.clone()));
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

    fn links(&mut self) {
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
    fn entries(&mut self) {
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

    fn record(&mut self, record: Option<&Record>) {
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

    fn puts(&self, map: &PinPath) -> Option<(Op, Op)> {
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

    fn deletes(&self, map: &PinPath) -> Option<(Op, Op)> {
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

/// Whose an object is that only its path tells.
pub(crate) fn owner_of(path: &PinPath) -> Address {
    let mut components = path.as_str().split('/');
    match (components.next(), components.next()) {
        (Some("cubes"), Some(name)) => name
            .parse()
            .map_or_else(|_| Address::topology(), |name| Address::cube(&name)),
        (Some("interfaces"), Some(name)) => {
            let name = name
                .replace("%2e", ".")
                .replace("%2f", "/")
                .replace("%25", "%");
            name.parse()
                .map_or_else(|_| Address::topology(), |name| Address::interface(&name))
        }
        _ => Address::topology(),
    }
}
