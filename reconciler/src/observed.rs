//! What the kernel has: the same vocabulary as [`desired`](crate::desired), with the kernel's
//! ids.

use std::collections::{BTreeMap, BTreeSet};

use topology_schema::{InterfaceName, Name};

use crate::{
    record::Record,
    resource::{AttachPoint, Bank, MapShape, PinPath, Slot, VethPeer},
    rows::Rows,
};

/// A reading of the kernel, for one topology.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// What was applied last.
    pub record: Option<Record>,
    /// All interfaces of the host's namespace.
    pub interfaces: BTreeMap<InterfaceName, Interface>,
    /// All named namespaces; true for those that carry our mark.
    pub namespaces: BTreeMap<Name, bool>,
    /// Pairs that carry our mark.
    pub veths: BTreeMap<InterfaceName, Veth>,
    /// Pinned maps, and those that should be.
    pub maps: BTreeMap<PinPath, Map>,
    /// Pinned programs.
    pub programs: BTreeMap<PinPath, Program>,
    /// Which program (id) is in which slot, in each bank.
    pub slots: BTreeMap<Slot, [Option<u32>; 2]>,
    /// The bank that packets come into.
    pub active: Bank,
    /// Pinned links.
    pub links: BTreeMap<PinPath, Link>,
    /// Maps that programs still have, though others removed their pins: the kernel's ids.
    pub unpinned: BTreeMap<PinPath, u32>,
    /// Pins that an apply left behind before it was done.
    pub leftovers: BTreeSet<PinPath>,
}

impl Observed {
    /// The index of an interface.
    pub fn ifindex(&self, name: &InterfaceName) -> Option<u32> {
        self.interfaces.get(name).map(|interface| interface.ifindex)
    }

    /// Interfaces that exist and are not ours.
    pub fn foreign_interfaces(&self) -> BTreeSet<InterfaceName> {
        self.interfaces
            .iter()
            .filter(|(_, interface)| !interface.ours)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// True if nothing of the topology is there.
    pub fn is_empty(&self) -> bool {
        self.record.is_none()
            && self.veths.is_empty()
            && self.maps.is_empty()
            && self.programs.is_empty()
            && self.links.is_empty()
            && self.leftovers.is_empty()
            && !self.namespaces.values().any(|ours| *ours)
    }

    /// The pin of a program.
    pub fn program_by_id(&self, id: u32) -> Option<&PinPath> {
        self.programs
            .iter()
            .find(|(_, program)| program.id == id)
            .map(|(path, _)| path)
    }
}

/// An interface of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index.
    pub ifindex: u32,
    /// Part of a pair of this topology.
    pub ours: bool,
    /// Administratively up.
    pub up: bool,
    /// It has a carrier: the other end is there.
    pub carrier: bool,
}

/// A pair of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth {
    /// The mark.
    pub alias: String,
    /// The far end; `None` if it cannot be read.
    pub peer: Option<VethPeer>,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The kernel's id.
    pub id: u32,
    /// What it was made with; `None` for a type we do not make.
    pub shape: Option<MapShape>,
    /// Its content, if it was asked for.
    pub entries: Option<Rows>,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The kernel's id.
    pub id: u32,
    /// Its name, which says what went into it.
    pub fingerprint: String,
}

/// An attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's id of the link.
    pub id: u32,
    /// The kernel's id of the program.
    pub program: u32,
    /// The interface; 0 once it is gone.
    pub ifindex: u32,
    /// Where on it; `None` for a kind we do not make.
    pub point: Option<AttachPoint>,
}

/// Which parts of the kernel's state are worth reading: reading all of it would cost.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    /// Maps whose content is ours.
    pub contents: BTreeSet<PinPath>,
    /// The maps of programs: where one is not pinned any more, the program has it still.
    pub uses: BTreeMap<PinPath, BTreeSet<PinPath>>,
    /// Slots that have, had or should have a program.
    pub slots: BTreeSet<Slot>,
    /// All other slots, too: after an apply that did not come to its end.
    pub all_slots: bool,
}
