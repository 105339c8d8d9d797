//! From desired and observed state to the ordered steps between them. Knows no kind of cube.

mod attachments;
mod banks;
mod entries;
mod planner;
mod tables;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use topology_schema::{InterfaceName, Name};

pub use self::entries::EntryDiff;
use self::planner::Planner;
use crate::{
    address::Address,
    desired::Desired,
    observed::Observed,
    parallel,
    record::Record,
    resource::{Attachment, Bank, Map, PinPath, Program, Slot, Template, Veth},
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
    SetSlot(Slot, Bank, PinPath),
    /// Empty a slot.
    ClearSlot(Slot, Bank),
    /// Let packets come into a bank from now on: the one write that moves traffic.
    Activate {
        /// The bank.
        bank: Bank,
        /// Wait until no packet is in the other one.
        drain: bool,
    },
    /// Wait until every program that runs now has come to its end: a packet on its way must not
    /// find the rest of the way gone.
    Drain,
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
    /// Pin a map that others unpinned.
    Pin {
        /// Where.
        pin: PinPath,
        /// The kernel's id of the map.
        id: u32,
    },
    /// Remove a pin.
    Unpin(PinPath),
    /// Write the record of what is applied.
    WriteRecord(Box<Record>),
    /// Note in the record that an apply is under way, or that none is: one small write, however much
    /// is recorded.
    MarkRecord {
        /// See [`Record::unfinished`].
        unfinished: bool,
    },
    /// Remove the topology's directory.
    RemoveDirectory,
}

impl Op {
    /// True if the operation is more than one call to the kernel, so that one that failed may
    /// have done a part. Its undo takes back a part as well as the whole.
    pub fn may_be_half_done(&self) -> bool {
        match self {
            Self::CreateNamespace(_)
            | Self::CreateVeth(..)
            | Self::ConfigureVeth { .. }
            | Self::CreateMap(..)
            | Self::LoadProgram(..)
            | Self::WriteEntries { .. }
            | Self::CopyEntries { .. }
            | Self::Activate { .. }
            | Self::WriteRecord(_) => true,
            Self::DeleteNamespace(_)
            | Self::DeleteVeths(_)
            | Self::SetSlot(..)
            | Self::ClearSlot(..)
            | Self::Drain
            | Self::Attach(..)
            | Self::UpdateLink { .. }
            | Self::Detach(_)
            | Self::Rename { .. }
            | Self::Pin { .. }
            | Self::Unpin(_)
            | Self::MarkRecord { .. }
            | Self::RemoveDirectory => false,
        }
    }
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
/// the switch notes what is applied then; without, the topology goes altogether. `applied` is
/// what was desired last, if that is known.
pub fn steps(
    desired: &Desired,
    observed: &Observed,
    applied: Option<&Desired>,
    record: Option<&Record>,
) -> Vec<Step> {
    let mut planner = Planner {
        desired,
        observed,
        applied,
        replaced: BTreeSet::new(),
        remade: BTreeSet::new(),
        steps: Vec::new(),
        diffs: RefCell::new(large_differences(desired, observed)),
    };
    planner.leftovers();
    planner.namespaces();
    planner.veths();
    planner.choose_tables_to_replace();
    planner.maps();
    planner.programs();
    let switches = planner.banks();
    planner.links(switches);
    planner.tables();
    planner.record(record);
    let mut steps = planner.steps;
    // Stable: within a phase, steps stay in the order in which they depend on one another.
    steps.sort_by_key(|(phase, order, _)| (*phase, *order));
    steps.into_iter().map(|(_, _, step)| step).collect()
}

/// Entries from which a map is compared beside others.
const MANY: usize = 1024;

/// How large maps differ from what is desired, all that are there. In none of them are indices to be filled in.
fn large_differences(desired: &Desired, observed: &Observed) -> BTreeMap<PinPath, Rc<EntryDiff>> {
    let maps = desired.maps.iter().filter_map(|(path, map)| {
        let wanted = map.content.entries()?;
        let running = observed.maps.get(path)?.entries.as_ref()?;
        let large = wanted.len() >= MANY && !wanted.has_indices();
        large.then_some((path, wanted, running, map.shape.is_array()))
    });
    let maps: Vec<_> = maps.collect();
    let differences = parallel::map(&maps, 1, |(_, wanted, running, array)| {
        EntryDiff::new(*wanted, running, *array, |_| None)
    });
    let paths = maps.into_iter().map(|(path, ..)| path.clone());
    paths.zip(differences.into_iter().map(Rc::new)).collect()
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
