//! Cubes: their tables, chains and programs.

use std::collections::BTreeMap;

use ebpf_abi::{chain::CubeChain, counters::Counters};
use topology_schema::Name;

use super::{Builder, Describer, Parts};
use crate::{
    address::Address,
    cube::{Context, driver_for, index},
    graph::TopologyGraph,
    resource::{Content, Hook, Map, MapKind, MapShape, PinPath, Program},
    wiring,
};

impl<'a> Builder<'a, '_> {
    pub(super) fn cubes(&mut self) {
        let graph: &'a TopologyGraph<'_> = self.graph;
        for (name, cube) in &graph.topology().topology().spec.cubes {
            let context = Context {
                name,
                cube,
                graph,
                allocation: self.allocation,
                rules: self.rules.get(name).map(Vec::as_slice),
                down: self.down,
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
                for part in 0..driver.parts(*hook) {
                    let program = Program {
                        owner: owner.clone(),
                        object: driver.object(),
                        hook: *hook,
                        part,
                        globals: self.globals(name),
                        maps: self.cube_maps(name, &[wiring::cube_chain(name, *hook)]),
                    };
                    let pin = wiring::cube_part(name, *hook, part);
                    self.slot(
                        &owner,
                        wiring::cube_chain(name, *hook),
                        chain.part(part),
                        pin.clone(),
                    );
                    self.desired.programs.insert(pin, program);
                }
            }
            let ports = self.port_table(name, chain).into_iter();
            let ports = ports.map(|(port, value)| (index(port), value)).collect();
            let value = size_of::<ebpf_abi::port::Port>();
            let shape = MapShape::banked(MapKind::Array, value, chain.capacity);
            let map = Map {
                owner,
                shape,
                content: Content::Banked(ports),
            };
            self.desired.maps.insert(wiring::table(name, "ports"), map);
        }
        if !self.xdp.is_empty() || self.uses_xdp() {
            self.map(
                &Address::topology(),
                wiring::metadata(),
                MapKind::PerCpuArray,
                size_of::<ebpf_abi::entry::Metadata>(),
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
}
