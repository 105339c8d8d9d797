//! From the graph to the set of resources it needs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::{
    chain::{CubeChain, Direction, InterfaceChain, MAX_STACK},
    counters::Counters,
    entry::Entry,
    transparent,
};
use topology_schema::{Endpoint, InterfaceName, Link, Name};

use crate::{
    address::Address,
    allocation::Allocation,
    cube::{Context, CubeDriver, driver_for},
    graph::TopologyGraph,
    resource::{
        AttachPoint, Attachment, Content, Hook, Map, MapKind, MapShape, Namespace, PinPath,
        Program, Slot, Template, Veth,
    },
    wiring::{self, Hop},
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Pending {
    /// What waits.
    pub address: Address,
    /// For what.
    pub reason: String,
}

/// The set of resources of a topology on a host where `present` interfaces exist.
pub fn desired(
    graph: &TopologyGraph<'_>,
    allocation: &Allocation,
    present: &BTreeSet<InterfaceName>,
) -> Desired {
    let mut builder = Builder {
        graph,
        allocation,
        present,
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
    pub(crate) present: &'a BTreeSet<InterfaceName>,
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

impl<'a> Builder<'a, '_> {
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

    fn cubes(&mut self) {
        let graph: &'a TopologyGraph<'_> = self.graph;
        for (name, cube) in &graph.topology().topology().spec.cubes {
            let context = Context {
                name,
                cube,
                graph,
                allocation: self.allocation,
            };
            let driver = driver_for(cube.kind());
            let lowered = driver.lower(&context);
            let owner = Address::cube(name);
            let tables = lowered.tables.iter().map(|table| table.name).collect();
            self.desired
                .describers
                .insert(owner.clone(), Describer(driver));
            self.lowered.insert(
                name,
                Parts {
                    tables,
                    globals: lowered.globals,
                },
            );
            for table in lowered.tables {
                let map = Map {
                    owner: owner.clone(),
                    shape: table.shape,
                    content: table.content,
                };
                self.desired
                    .maps
                    .insert(wiring::table(name, table.name), map);
            }
            let transparent = cube.kind().is_transparent();
            let counted = if transparent {
                CubeChain::for_ports(self.allocation.attachment_limit(name) * 2).capacity
            } else {
                context.capacity()
            };
            self.map(
                &owner,
                wiring::table(name, "counters"),
                MapKind::PerCpuArray,
                size_of::<Counters>(),
                counted,
            );
            if transparent {
                continue;
            }
            let chain = CubeChain {
                capacity: context.capacity(),
            };
            for hook in self.hooks(name) {
                self.slots_map(&owner, wiring::cube_chain(name, *hook), chain.len());
                let program = Program {
                    owner: owner.clone(),
                    object: driver.object(),
                    hook: *hook,
                    globals: self.globals(name),
                    maps: self.cube_maps(name, &[wiring::cube_chain(name, *hook)]),
                };
                let pin = wiring::cube_program(name, *hook);
                self.slot(
                    &owner,
                    wiring::cube_chain(name, *hook),
                    chain.own(),
                    pin.clone(),
                );
                self.desired.programs.insert(pin, program);
            }
            let ports = self.port_table(name, chain);
            let shape = MapShape {
                kind: MapKind::Array,
                key_size: 4,
                value_size: size_of::<ebpf_abi::port::Port>() as u32,
                max_entries: chain.capacity,
            };
            let map = Map {
                owner,
                shape,
                content: Content::Config(ports),
            };
            self.desired.maps.insert(wiring::table(name, "ports"), map);
        }
        if !self.xdp.is_empty() || self.uses_xdp() {
            self.map(
                &Address::topology(),
                wiring::metadata(),
                MapKind::PerCpuArray,
                4,
                1,
            );
        }
    }

    /// True if any interface has XDP, linked or not.
    fn uses_xdp(&self) -> bool {
        self.graph
            .host_interfaces()
            .into_iter()
            .any(|interface| wiring::hook_of(self.graph.hook(interface)) == Hook::Xdp)
    }

    /// A cube's own maps and a chain, by the names the object has for them.
    pub(crate) fn cube_maps(
        &self,
        name: &Name,
        chains: &[PinPath],
    ) -> BTreeMap<&'static str, PinPath> {
        let mut maps = BTreeMap::new();
        let Some(cube) = self.graph.cube(name) else {
            return maps;
        };
        for table in self
            .lowered
            .get(name)
            .into_iter()
            .flat_map(|parts| &parts.tables)
        {
            maps.insert(*table, wiring::table(name, table));
        }
        maps.insert("counters", wiring::table(name, "counters"));
        if !cube.kind().is_transparent() {
            maps.insert("ports", wiring::table(name, "ports"));
        }
        for chain in chains {
            if chain.name() == "chain_xdp" {
                maps.insert("chain_xdp", chain.clone());
                maps.insert("metadata", wiring::metadata());
            } else {
                maps.insert("chain_tc", chain.clone());
            }
        }
        maps
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
        let shape = MapShape {
            kind: MapKind::ProgramArray,
            key_size: 4,
            value_size: 4,
            max_entries: entries,
        };
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

    /// The programs of stacks on ports: one per transparent cube, direction and hook.
    fn stacks(&mut self) {
        let graph = self.graph;
        for (endpoint, stack) in crate::allocation::stacks(graph) {
            match &endpoint {
                Endpoint::Port { cube, port } => {
                    if graph.peer(&endpoint).is_none() {
                        continue;
                    }
                    let Some(index) = self.allocation.port(cube, port) else {
                        continue;
                    };
                    let chain = wiring::chain_of(self.allocation, cube);
                    for hook in self.hooks(cube) {
                        let map = wiring::cube_chain(cube, *hook);
                        let after = |direction, position| chain.after(index, direction, position);
                        let inwards = wiring::own_program(cube, *hook);
                        self.stack(
                            &endpoint,
                            stack,
                            *hook,
                            Direction::Ingress,
                            &map,
                            &after,
                            &inwards,
                        );
                        let outwards = self.hop_out(&endpoint, *hook);
                        self.stack(
                            &endpoint,
                            stack,
                            *hook,
                            Direction::Egress,
                            &map,
                            &after,
                            &outwards,
                        );
                    }
                }
                Endpoint::Host(interface) if self.present.contains(interface) => {
                    let hook = wiring::hook_of(graph.hook(interface));
                    let after = InterfaceChain::at;
                    let owner = Address::interface(interface);
                    for hook in BTreeSet::from([hook, Hook::Tc]) {
                        self.slots_map(
                            &owner,
                            wiring::interface_chain(interface, hook),
                            InterfaceChain::LEN,
                        );
                    }
                    let map = wiring::interface_chain(interface, hook);
                    let inwards = self.hop_in(&endpoint, hook);
                    self.stack(
                        &endpoint,
                        stack,
                        hook,
                        Direction::Ingress,
                        &map,
                        &after,
                        &inwards,
                    );
                    let map = wiring::interface_chain(interface, Hook::Tc);
                    self.stack(
                        &endpoint,
                        stack,
                        Hook::Tc,
                        Direction::Egress,
                        &map,
                        &after,
                        &Hop::Pass,
                    );
                }
                Endpoint::Host(_) | Endpoint::Namespace { .. } => {}
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one stack is described by all of these"
    )]
    fn stack(
        &mut self,
        endpoint: &Endpoint,
        stack: &[Name],
        hook: Hook,
        direction: Direction,
        chain: &PinPath,
        after: &dyn Fn(Direction, u32) -> u32,
        end: &Hop,
    ) {
        let order = wiring::in_order(stack, direction);
        for (at, name) in order.iter().enumerate() {
            let (Some(position), Some(attachment), Some(cube)) = (
                self.allocation.position(endpoint, name),
                self.allocation.attachment(name, endpoint),
                self.graph.cube(name),
            ) else {
                continue;
            };
            let next = match order.get(at + 1) {
                Some(next) => {
                    Hop::Program(wiring::stack_program(endpoint, next, direction, hook), 0)
                }
                None => end.clone(),
            };
            let slot = after(direction, position);
            let owner = Address::cube(name);
            if let Hop::Program(program, _) = &next {
                self.slot(&owner, chain.clone(), slot, program.clone());
            }
            let driver = driver_for(cube.kind());
            let mut globals = self.globals(name);
            globals.insert(
                "ATTACHMENT",
                wiring::attachment(
                    direction,
                    transparent::counter_index(attachment, direction),
                    slot,
                    &next,
                ),
            );
            let program = Program {
                owner,
                object: driver.object(),
                hook,
                globals,
                maps: self.cube_maps(name, std::slice::from_ref(chain)),
            };
            self.desired.programs.insert(
                wiring::stack_program(endpoint, name, direction, hook),
                program,
            );
        }
    }

    /// The slots through which cubes hand packets to one another.
    fn links(&mut self) {
        for link in &self.graph.topology().topology().spec.links {
            let owner = Address::link(link);
            self.check_present(link, &owner);
            for endpoint in link.endpoints() {
                let Endpoint::Port { cube, port } = endpoint else {
                    continue;
                };
                let Some(index) = self.allocation.port(cube, port) else {
                    continue;
                };
                let chain = wiring::chain_of(self.allocation, cube);
                for hook in self.hooks(cube) {
                    let map = wiring::cube_chain(cube, *hook);
                    if let Hop::Program(inlet, _) = self.hop_in_port(cube, port, *hook) {
                        self.slot(&owner, map.clone(), chain.inlet(index), inlet);
                    }
                    if let Hop::Program(outlet, _) = self.first_out(endpoint, *hook) {
                        self.slot(&owner, map, chain.out(index), outlet);
                    }
                }
            }
        }
    }

    fn check_present(&mut self, link: &Link, owner: &Address) {
        for endpoint in link.endpoints() {
            if let Endpoint::Host(interface) = endpoint
                && !self.present.contains(interface)
            {
                let reason = format!("no interface {interface}");
                self.desired.pending.push(Pending {
                    address: owner.clone(),
                    reason,
                });
            }
        }
    }

    /// Entry programs and their attachments.
    fn interfaces(&mut self) {
        let graph = self.graph;
        for interface in graph.host_interfaces() {
            let endpoint = Endpoint::Host(interface.clone());
            let stack = graph.interface_stack(interface);
            let owner = Address::interface(interface);
            if !self.present.contains(interface) {
                if graph.peer(&endpoint).is_none() || !stack.is_empty() {
                    let reason = format!("no interface {interface}");
                    self.desired.pending.push(Pending {
                        address: owner,
                        reason,
                    });
                }
                continue;
            }
            let hook = graph.hook(interface);
            let point = wiring::ingress_point(hook);
            self.enter(&owner, &endpoint, interface, point, !stack.is_empty());
            if !stack.is_empty() {
                let chain = wiring::interface_chain(interface, Hook::Tc);
                self.first_of_stack(
                    &owner,
                    &endpoint,
                    stack,
                    Direction::Egress,
                    &chain,
                    Hook::Tc,
                );
                let slot = InterfaceChain::at(Direction::Egress, MAX_STACK);
                self.entry(
                    &owner,
                    interface,
                    AttachPoint::TcEgress,
                    &chain,
                    Entry { slot, port: 0 },
                );
            }
        }
        let topology = graph.topology().topology();
        for (namespace, settings) in &topology.spec.namespaces {
            for interface in settings.interfaces.keys() {
                let endpoint = Endpoint::Namespace {
                    namespace: namespace.clone(),
                    interface: interface.clone(),
                };
                let outer = wiring::outer_name(&topology.metadata.name, &endpoint.to_string());
                self.enter(
                    &Address::namespace(namespace),
                    &endpoint,
                    &outer,
                    AttachPoint::TcIngress,
                    false,
                );
            }
        }
    }

    /// The entry at which packets of an interface's link come in.
    fn enter(
        &mut self,
        owner: &Address,
        endpoint: &Endpoint,
        interface: &InterfaceName,
        point: AttachPoint,
        stacked: bool,
    ) {
        let hook = point.hook();
        let (chain, port) = match self.graph.peer(endpoint) {
            Some(Endpoint::Port { cube, port }) => {
                let Some(index) = self.allocation.port(cube, port) else {
                    return;
                };
                let slot = wiring::chain_of(self.allocation, cube).inlet(index);
                (Some((wiring::cube_chain(cube, hook), slot)), index)
            }
            _ => (None, 0),
        };
        if stacked {
            let own = wiring::interface_chain(interface, hook);
            let stack = self.graph.interface_stack(interface);
            self.first_of_stack(owner, endpoint, stack, Direction::Ingress, &own, hook);
            let slot = InterfaceChain::at(Direction::Ingress, MAX_STACK);
            self.entry(owner, interface, point, &own, Entry { slot, port });
        } else if let Some((chain, slot)) = chain {
            self.entry(owner, interface, point, &chain, Entry { slot, port });
        }
    }

    fn first_of_stack(
        &mut self,
        owner: &Address,
        endpoint: &Endpoint,
        stack: &[Name],
        direction: Direction,
        chain: &PinPath,
        hook: Hook,
    ) {
        if let Some(first) = wiring::in_order(stack, direction).first() {
            let program = wiring::stack_program(endpoint, first, direction, hook);
            self.slot(
                owner,
                chain.clone(),
                InterfaceChain::at(direction, MAX_STACK),
                program,
            );
        }
    }

    /// An entry program and its attachment.
    pub(crate) fn entry(
        &mut self,
        owner: &Address,
        interface: &InterfaceName,
        point: AttachPoint,
        chain: &PinPath,
        entry: Entry,
    ) {
        let hook = point.hook();
        let name = match hook {
            Hook::Tc => "chain_tc",
            Hook::Xdp => "chain_xdp",
        };
        let mut maps = BTreeMap::from([(name, chain.clone())]);
        if hook == Hook::Xdp {
            maps.insert("metadata", wiring::metadata());
        }
        let program = Program {
            owner: owner.clone(),
            object: "entry",
            hook,
            globals: BTreeMap::from([("ENTRY", Template::plain(bytemuck::bytes_of(&entry)))]),
            maps,
        };
        let pin = wiring::entry_program(interface, point);
        self.desired.programs.insert(pin.clone(), program);
        let attachment = Attachment {
            owner: owner.clone(),
            interface: interface.clone(),
            point,
            program: pin,
        };
        self.desired
            .links
            .insert(wiring::entry_link(interface, point), attachment);
    }
}
