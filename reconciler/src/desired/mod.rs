//! From the graph to the set of resources it needs. Pure.

mod cubes;
mod interfaces;
mod stacks;

use std::collections::{BTreeMap, BTreeSet};

use topology_schema::{InterfaceName, Name};

use crate::{
    address::Address,
    allocation::Allocation,
    cube::{CubeDriver, RuleLists, rule_lists},
    down::Down,
    graph::TopologyGraph,
    resource::{
        Attachment, Content, Hook, Map, MapKind, MapShape, Namespace, PinPath, Program, Slot,
        Template, Veth,
    },
    wiring,
};

/// Everything a topology needs of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Network namespaces.
    pub namespaces: BTreeMap<Name, Namespace>,
    /// Pairs of interfaces, by the end in the host's namespace.
    pub veths: BTreeMap<InterfaceName, Veth>,
    /// Maps.
    pub maps: BTreeMap<PinPath, Map>,
    /// Programs.
    pub programs: BTreeMap<PinPath, Program>,
    /// Which program is in which slot.
    pub slots: BTreeMap<Slot, PinPath>,
    /// Which slots belong to which link or cube in a plan.
    pub slot_owners: BTreeMap<Slot, Address>,
    /// Attachments, by the pin of their link.
    pub links: BTreeMap<PinPath, Attachment>,
    /// Who names the entries of an object's tables.
    pub describers: BTreeMap<Address, Describer>,
    /// What waits for something that is not there.
    pub pending: Vec<Pending>,
}

/// The driver of an object, asked for the names of entries.
#[derive(Clone, Copy)]
pub struct Describer(&'static dyn CubeDriver);

impl Describer {
    /// See [`CubeDriver::describe`].
    pub fn describe(self, table: &str, key: &[u8]) -> Option<String> {
        self.0.describe(table, key)
    }

    /// See [`CubeDriver::value`].
    pub fn value(self, table: &str, value: &[u8]) -> Option<serde_json::Value> {
        self.0.value(table, value)
    }
}

impl std::fmt::Debug for Describer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Describer").field(&self.0.object()).finish()
    }
}

impl PartialEq for Describer {
    fn eq(&self, other: &Self) -> bool {
        self.0.object() == other.0.object()
    }
}

impl Eq for Describer {}

/// Something that waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Pending {
    /// What waits.
    pub address: Address,
    /// For what.
    pub reason: String,
}

/// The set of resources of a topology on a host where `present` interfaces exist, and these ends of
/// links are `down`.
pub fn desired(
    graph: &TopologyGraph<'_>,
    allocation: &Allocation,
    present: &BTreeSet<InterfaceName>,
    down: &Down,
) -> Desired {
    desired_with(graph, allocation, &rule_lists(graph), present, down)
}

/// The same with the cubes' lists of rules.
pub(crate) fn desired_with(
    graph: &TopologyGraph<'_>,
    allocation: &Allocation,
    rules: &RuleLists,
    present: &BTreeSet<InterfaceName>,
    down: &Down,
) -> Desired {
    let mut builder = Builder {
        graph,
        allocation,
        rules,
        present,
        down,
        xdp: graph.xdp_cubes(),
        lowered: BTreeMap::new(),
        desired: Desired::default(),
    };
    builder.namespaces();
    builder.cubes();
    builder.stacks();
    builder.links();
    builder.interfaces();
    builder.desired.pending.sort();
    builder.desired
}

pub(crate) struct Builder<'a, 'g> {
    pub(crate) graph: &'a TopologyGraph<'g>,
    pub(crate) allocation: &'a Allocation,
    rules: &'a RuleLists,
    pub(crate) present: &'a BTreeSet<InterfaceName>,
    pub(crate) down: &'a Down,
    /// Cubes that packets reach on XDP.
    pub(crate) xdp: BTreeSet<Name>,
    /// What the drivers made of the cubes, less the tables' content.
    lowered: BTreeMap<&'a Name, Parts>,
    pub(crate) desired: Desired,
}

/// What programs of a cube need to know.
struct Parts {
    tables: Vec<&'static str>,
    globals: BTreeMap<&'static str, Template>,
}

impl Builder<'_, '_> {
    fn namespaces(&mut self) {
        let topology = self.graph.topology().topology();
        for (name, namespace) in &topology.spec.namespaces {
            let owner = Address::namespace(name);
            self.desired
                .namespaces
                .insert(name.clone(), Namespace { owner });
            for (interface, settings) in &namespace.interfaces {
                let (outer, veth) = wiring::namespace_veth(topology, name, interface, settings);
                self.desired.veths.insert(outer, veth);
            }
        }
    }

    /// Hooks on which a cube's programs are needed.
    pub(crate) fn hooks(&self, cube: &Name) -> &'static [Hook] {
        if self.xdp.contains(cube) {
            &[Hook::Tc, Hook::Xdp]
        } else {
            &[Hook::Tc]
        }
    }

    /// A cube's constants.
    fn globals(&self, name: &Name) -> BTreeMap<&'static str, Template> {
        self.lowered
            .get(name)
            .map(|parts| parts.globals.clone())
            .unwrap_or_default()
    }

    pub(crate) fn map(
        &mut self,
        owner: &Address,
        path: PinPath,
        kind: MapKind,
        value_size: usize,
        entries: u32,
    ) {
        let shape = MapShape {
            kind,
            key_size: 4,
            value_size: value_size as u32,
            max_entries: entries,
        };
        self.desired.maps.insert(
            path,
            Map {
                owner: owner.clone(),
                shape,
                content: Content::Learned,
            },
        );
    }

    fn slots_map(&mut self, owner: &Address, path: PinPath, entries: u32) {
        let shape = MapShape::banked(MapKind::ProgramArray, 4, entries);
        self.desired.maps.insert(
            path,
            Map {
                owner: owner.clone(),
                shape,
                content: Content::Slots,
            },
        );
    }

    fn slot(&mut self, owner: &Address, map: PinPath, index: u32, program: PinPath) {
        let slot = Slot { map, index };
        self.desired.slot_owners.insert(slot.clone(), owner.clone());
        self.desired.slots.insert(slot, program);
    }
}
