//! The planner: objects that come and go.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use topology_schema::InterfaceName;

use super::{Disruption, EntryDiff, Op, Phase, Step, owner_of};
use crate::{
    address::Address,
    desired::Desired,
    observed::{self, Observed},
    resource::{Content, MapKind, PinPath, Program, Veth},
};

/// Order within a phase.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    // Prepare.
    Sweep,
    /// The record says that an apply is under way.
    Intent,
    Namespaces,
    Veths,
    Maps,
    Programs,
    /// The bank that no packet is in.
    Standby,
    /// Interfaces of ours that are new: nobody sends to them yet.
    Attach,
    // Switch: what stops goes first, so that no packet meets what is taken apart under it.
    Detach,
    State,
    /// Entry programs that lead to both ends of a move.
    Transit,
    Entries,
    Activate,
    Links,
    Removed,
    Record,
    // Clean up.
    /// Packets that are still in the bank that was left come to their end.
    Drain,
    /// Interfaces of ours that nobody sends to any more.
    Retire,
    /// The bank that was left becomes like the other one.
    Mirror,
    /// The record says that it is done.
    Finish,
    Promote,
    Pins,
    Pairs,
    Spaces,
    Directory,
}

pub(super) struct Planner<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) applied: Option<&'a Desired>,
    /// Maps and programs whose new version waits beside the old one.
    pub(super) replaced: BTreeSet<PinPath>,
    /// Interfaces of ours that get a new index.
    pub(super) remade: BTreeSet<InterfaceName>,
    pub(super) steps: Vec<(Phase, Order, Step)>,
    /// How the content of maps differs, as far as somebody asked.
    pub(super) diffs: RefCell<BTreeMap<PinPath, Rc<EntryDiff>>>,
}

impl Planner<'_> {
    pub(super) fn step(
        &mut self,
        order: Order,
        address: &Address,
        op: Op,
        undo: Option<Op>,
        disruption: Disruption,
    ) {
        let phase = match order {
            Order::Sweep
            | Order::Intent
            | Order::Namespaces
            | Order::Veths
            | Order::Maps
            | Order::Programs
            | Order::Standby
            | Order::Attach => Phase::Prepare,
            Order::Detach
            | Order::State
            | Order::Transit
            | Order::Entries
            | Order::Activate
            | Order::Links
            | Order::Removed
            | Order::Record => Phase::Switch,
            Order::Drain
            | Order::Retire
            | Order::Mirror
            | Order::Finish
            | Order::Promote
            | Order::Pins
            | Order::Pairs
            | Order::Spaces
            | Order::Directory => Phase::CleanUp,
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
    pub(super) fn place(&self, path: &PinPath) -> PinPath {
        if self.replaced.contains(path) {
            path.staged()
        } else {
            path.clone()
        }
    }

    /// The index an interface has and keeps.
    pub(super) fn ifindex(&self, name: &InterfaceName) -> Option<u32> {
        self.observed
            .ifindex(name)
            .filter(|_| !self.remade.contains(name))
    }

    pub(super) fn leftovers(&mut self) {
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

    pub(super) fn namespaces(&mut self) {
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

    pub(super) fn veths(&mut self) {
        for (name, veth) in &self.desired.veths {
            let op = Op::CreateVeth(name.clone(), veth.clone());
            let undo = Op::DeleteVeths(BTreeSet::from([name.clone()]));
            match self.observed.veths.get(name) {
                None => self.step(Order::Veths, &veth.owner, op, Some(undo), Disruption::None),
                Some(observed::Veth {
                    alias,
                    peer: Some(peer),
                }) if peer.namespace == veth.peer.namespace && peer.name == veth.peer.name => {
                    if *peer != veth.peer || *alias != veth.alias {
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

    /// What others unpinned is pinned again before anything else is done with it.
    fn pin_again(&mut self) {
        for (path, id) in &self.observed.unpinned {
            if let Some(map) = self.desired.maps.get(path) {
                let op = Op::Pin {
                    pin: path.clone(),
                    id: *id,
                };
                let undo = Some(Op::Unpin(path.clone()));
                self.step(Order::Sweep, &map.owner, op, undo, Disruption::None);
            }
        }
    }

    pub(super) fn maps(&mut self) {
        self.pin_again();
        for (path, map) in &self.desired.maps {
            match self.observed.maps.get(path) {
                Some(observed)
                    if observed.shape == Some(map.shape) && !self.replaced.contains(path) => {}
                Some(observed) => {
                    self.replaced.insert(path.clone());
                    let staged = path.staged();
                    let op = Op::CreateMap(staged.clone(), map.clone());
                    // What is in shared memory depends on its size, and comes from elsewhere anyway.
                    let mapped = map.shape.kind == MapKind::MappedArray;
                    let learned = map.content == Content::Learned && !mapped;
                    // Entries carry over when they mean the same, and so does what is counted for them.
                    let fits = (learned || map.shape.kind.is_prefix_set())
                        && observed.shape.is_some_and(|shape| {
                            shape.key_size == map.shape.key_size
                                && shape.value_size == map.shape.value_size
                                && shape.kind == map.shape.kind
                        });
                    let disruption = match &map.content {
                        Content::Learned if !fits && !mapped => {
                            Disruption::StateLost(path.name().to_owned())
                        }
                        Content::Learned
                        | Content::Config(_)
                        | Content::Banked(_)
                        | Content::Slots => Disruption::None,
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
            let pinned = !self.observed.unpinned.contains_key(path);
            if pinned && !self.desired.maps.contains_key(path) {
                self.unpin(path);
            }
        }
    }

    pub(super) fn programs(&mut self) {
        for (path, program) in &self.desired.programs {
            let running = self.observed.programs.get(path);
            if running.is_some_and(|running| self.is_running(program, running)) {
                continue;
            }
            let program = self.placed(program);
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
                self.unpin(path);
            }
        }
    }

    /// True if a program would be loaded just as it runs.
    pub(super) fn is_running(&self, program: &Program, running: &observed::Program) -> bool {
        let fingerprint = program.fingerprint(
            |name| self.ifindex(name),
            |map| {
                let stays = !self.replaced.contains(map);
                let map = self.observed.maps.get(map).filter(|_| stays);
                map.map(|map| map.id)
            },
        );
        Some(&running.fingerprint) == fingerprint.as_ref()
    }

    /// A program on the maps as they are until the clean-up.
    pub(super) fn placed(&self, program: &Program) -> Program {
        let mut program = program.clone();
        for map in program.maps.values_mut() {
            *map = self.place(map);
        }
        program
    }

    /// Lets an object go that is not wanted any more.
    fn unpin(&mut self, path: &PinPath) {
        let op = Op::Unpin(path.clone());
        self.step(Order::Pins, &owner_of(path), op, None, Disruption::None);
    }

    /// True if the object at this path is made by this plan.
    pub(super) fn is_new(&self, map: &PinPath) -> bool {
        self.replaced.contains(map) || !self.observed.maps.contains_key(map)
    }
}
