//! Links and interfaces: the slots between cubes, entry programs and their attachments.

use std::collections::BTreeMap;

use ebpf_abi::{
    chain::{Direction, InterfaceChain, MAX_STACK},
    entry::Entry,
};
use topology_schema::{Endpoint, InterfaceName, Link};

use super::{Builder, Pending};
use crate::{
    address::Address,
    resource::{AttachPoint, Attachment, Hook, MapKind, PinPath, Program, Template},
    wiring::{self, Hop},
};

impl Builder<'_, '_> {
    /// The slots through which cubes hand packets to one another.
    pub(super) fn links(&mut self) {
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
    pub(super) fn interfaces(&mut self) {
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
                    Entry {
                        slot,
                        ..Entry::default()
                    },
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
        let to = |slot| Entry {
            slot,
            port,
            flags: 0,
        };
        if stacked {
            let own = wiring::interface_chain(interface, hook);
            let stack = self.graph.interface_stack(interface);
            self.first_of_stack(owner, endpoint, stack, Direction::Ingress, &own, hook);
            let slot = InterfaceChain::at(Direction::Ingress, MAX_STACK);
            self.entry(owner, interface, point, &own, to(slot));
        } else if let Some((chain, slot)) = chain {
            self.entry(owner, interface, point, &chain, to(slot));
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
        let (first, second) = wiring::chain_names(hook);
        let mut maps = BTreeMap::from([
            (first, chain.clone()),
            (second, chain.clone()),
            ("active", wiring::active()),
        ]);
        if hook == Hook::Xdp {
            maps.insert("metadata", wiring::metadata());
        }
        let program = Program {
            owner: owner.clone(),
            object: "entry",
            hook,
            part: 0,
            globals: BTreeMap::from([(
                wiring::ENTRY,
                Template::plain(bytemuck::bytes_of(&[entry; 2])),
            )]),
            maps,
        };
        let topology = Address::topology();
        self.map(&topology, wiring::active(), MapKind::Array, 4, 1);
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
