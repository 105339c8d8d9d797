//! How links become hops: which program or interface follows which, and under which names.

mod ports;

use ebpf_abi::{
    chain::{CubeChain, Direction},
    entry::Entry,
    port::{self, HOP_INTERFACE, HOP_PASS, HOP_PEER, HOP_PROGRAM},
    transparent::{Attachment, Turn},
};
use topology_schema::{
    Endpoint, Hook as InterfaceHook, InterfaceName, Name, NamespaceInterface, Topology,
};

use crate::{
    address::Address,
    allocation::Allocation,
    cube::default_mac,
    desired::Builder,
    digest::Digest,
    resource::{AttachPoint, Bank, Hook, PinPath, Program, Template, Veth, VethPeer},
};

/// MTU of a pair for which the file says nothing, in bytes.
const DEFAULT_MTU: u32 = 1500;

/// What comes next for a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    /// A program, and the port at which the packet enters the cube behind it.
    Program(PinPath, u32),
    /// An interface of the host.
    Interface(InterfaceName),
    /// The far end of an interface of ours.
    Peer(InterfaceName),
    /// The stack, or the wire.
    Pass,
    /// Nothing.
    None,
}

impl Hop {
    fn encode(&self) -> (port::Hop, Option<InterfaceName>) {
        let hop = |kind, port| port::Hop {
            kind,
            ifindex: 0,
            port,
        };
        match self {
            Self::Program(_, port) => (hop(HOP_PROGRAM, *port), None),
            Self::Interface(name) => (hop(HOP_INTERFACE, 0), Some(name.clone())),
            Self::Peer(name) => (hop(HOP_PEER, 0), Some(name.clone())),
            Self::Pass => (hop(HOP_PASS, 0), None),
            Self::None => (port::Hop::default(), None),
        }
    }
}

// Paths below the topology's directory.

pub(crate) fn table(cube: &Name, table: &str) -> PinPath {
    PinPath::new(&["cubes", cube.as_str(), table])
}

pub(crate) fn cube_chain(cube: &Name, hook: Hook) -> PinPath {
    PinPath::new(&["cubes", cube.as_str(), chain_name(hook)])
}

pub(crate) fn cube_program(cube: &Name, hook: Hook) -> PinPath {
    cube_part(cube, hook, 0)
}

/// One of the programs that a standard cube is made of.
pub(crate) fn cube_part(cube: &Name, hook: Hook, part: u32) -> PinPath {
    let file = match part {
        0 => format!("program-{}", hook.name()),
        part => format!("program-{}-{part}", hook.name()),
    };
    PinPath::new(&["cubes", cube.as_str(), &file])
}

pub(crate) fn own_program(cube: &Name, hook: Hook) -> Hop {
    Hop::Program(cube_program(cube, hook), 0)
}

pub(crate) fn interface_chain(interface: &InterfaceName, hook: Hook) -> PinPath {
    PinPath::new(&["interfaces", interface.as_str(), chain_name(hook)])
}

pub(crate) fn entry_program(interface: &InterfaceName, point: AttachPoint) -> PinPath {
    PinPath::new(&[
        "interfaces",
        interface.as_str(),
        &format!("program-{}", point.name()),
    ])
}

pub(crate) fn entry_link(interface: &InterfaceName, point: AttachPoint) -> PinPath {
    PinPath::new(&[
        "interfaces",
        interface.as_str(),
        &format!("link-{}", point.name()),
    ])
}

pub(crate) fn stack_program(
    endpoint: &Endpoint,
    cube: &Name,
    direction: Direction,
    hook: Hook,
) -> PinPath {
    stack_part(endpoint, cube, direction, hook, 0)
}

/// One of the programs that a transparent cube is made of.
pub(crate) fn stack_part(
    endpoint: &Endpoint,
    cube: &Name,
    direction: Direction,
    hook: Hook,
    part: u32,
) -> PinPath {
    let direction = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let file = match part {
        0 => format!("program-{cube}-{direction}-{}", hook.name()),
        part => format!("program-{cube}-{direction}-{}-{part}", hook.name()),
    };
    PinPath::new(&["stacks", &endpoint.to_string(), &file])
}

/// What travels with packets on XDP.
pub(crate) fn metadata() -> PinPath {
    PinPath::new(&["metadata"])
}

/// Which bank is active.
pub(crate) fn active() -> PinPath {
    PinPath::new(&["active"])
}

/// The entry program for an interface while it moves: packets that come into `active` go where
/// `old` leads, those that come into the other bank where `new` does. `None` if both lead to
/// the same place.
pub(crate) fn transitional(old: &Program, new: &Program, active: Bank) -> Option<Program> {
    let (ours, theirs) = match active {
        Bank::A => (old, new),
        Bank::B => (new, old),
    };
    let (first, second) = chain_names(new.hook);
    let half = size_of::<Entry>();
    let (first_entry, second_entry) = (ours.globals.get(ENTRY)?, theirs.globals.get(ENTRY)?);
    let bytes = [&first_entry.bytes[..half], &second_entry.bytes[half..]].concat();
    let mut program = new.clone();
    program.maps.insert(first, ours.maps.get(first)?.clone());
    program
        .maps
        .insert(second, theirs.maps.get(second)?.clone());
    program.globals.insert(ENTRY, Template::plain(bytes));
    let same = program.maps == old.maps && program.globals == old.globals;
    (!same && old.hook == new.hook).then_some(program)
}

/// The read-only global of an entry program.
pub(crate) const ENTRY: &str = "ENTRY";

/// The names that an entry program has for the chains of the two banks.
pub(crate) fn chain_names(hook: Hook) -> (&'static str, &'static str) {
    match hook {
        Hook::Tc => ("chain_tc", "chain_tc_1"),
        Hook::Xdp => ("chain_xdp", "chain_xdp_1"),
    }
}

/// True if a chain is pinned here.
pub(crate) fn is_chain(path: &PinPath) -> bool {
    [Hook::Tc, Hook::Xdp]
        .into_iter()
        .any(|hook| path.name() == chain_name(hook))
}

fn chain_name(hook: Hook) -> &'static str {
    chain_names(hook).0
}

/// The hook of an interface's programs.
pub(crate) fn hook_of(hook: InterfaceHook) -> Hook {
    ingress_point(hook).hook()
}

/// Where arriving packets meet an interface's programs.
pub(crate) fn ingress_point(hook: InterfaceHook) -> AttachPoint {
    match hook {
        InterfaceHook::Tc => AttachPoint::TcIngress,
        InterfaceHook::Xdp => AttachPoint::Xdp,
        InterfaceHook::XdpGeneric => AttachPoint::XdpGeneric,
    }
}

/// A cube's chain.
pub(crate) fn chain_of(allocation: &Allocation, cube: &Name) -> CubeChain {
    CubeChain::for_ports(allocation.port_limit(cube))
}

/// A stack in the order in which packets of a direction meet it.
pub(crate) fn in_order(stack: &[Name], direction: Direction) -> Vec<&Name> {
    match direction {
        Direction::Ingress => stack.iter().collect(),
        Direction::Egress => stack.iter().rev().collect(),
    }
}

/// The constants of a transparent program.
pub(crate) fn attachment(direction: Direction, counter: u32, slot: u32, next: &Hop) -> Template {
    let (hop, interface) = next.encode();
    let constants = Attachment {
        direction: direction as u32,
        counter,
        slot,
        hop,
    };
    let offset = std::mem::offset_of!(Attachment, hop) + std::mem::offset_of!(port::Hop, ifindex);
    Template {
        bytes: bytemuck::bytes_of(&constants).to_vec(),
        ifindexes: interface.into_iter().map(|name| (offset, name)).collect(),
    }
}

/// The constants of where packets turn round.
pub(crate) fn turn(slot: u32, port: u32) -> Template {
    Template::plain(bytemuck::bytes_of(&Turn { on: 1, slot, port }))
}

/// The constants of the way back of a transparent program: what follows the cube in the other
/// direction, and the port with which a packet goes there. `None`: through the interface itself.
pub(crate) fn back(slot: u32, next: Option<&Hop>, port: u32) -> Template {
    let Some(next) = next else {
        return attachment(Direction::Ingress, 0, 0, &Hop::Pass);
    };
    let hop = match next {
        Hop::Program(program, _) => Hop::Program(program.clone(), port),
        other => other.clone(),
    };
    attachment(Direction::Ingress, 0, slot, &hop)
}

/// The name of the host's end of a pair: 15 characters are too few for two names, so it is a
/// hash; the alias says what it is.
pub(crate) fn outer_name(topology: &Name, what: &str) -> InterfaceName {
    let name = format!(
        "pcn{}",
        Digest::of(&["veth", topology.as_str(), what]).text(11)
    );
    interface_name(name)
}

fn interface_name(name: String) -> InterfaceName {
    name.parse()
        .expect("15 letters and digits are an interface name")
}

/// Our mark on an interface: whose it is and what for.
pub(crate) fn alias(topology: &Name, what: &str) -> String {
    format!("pcn:{topology}:{what}")
}

/// The pair that leads into a namespace.
pub(crate) fn namespace_veth(
    topology: &Topology,
    namespace: &Name,
    interface: &InterfaceName,
    settings: &NamespaceInterface,
) -> (InterfaceName, Veth) {
    let name = &topology.metadata.name;
    let what = format!("{namespace}/{interface}");
    let peer = VethPeer {
        namespace: Some(namespace.clone()),
        name: interface.clone(),
        mac: Some(settings.mac.unwrap_or_else(|| default_mac(name, &what))),
        mtu: settings.mtu.map_or(DEFAULT_MTU, |mtu| mtu.get()),
        addresses: settings
            .addresses
            .iter()
            .map(|address| (address.address(), address.length()))
            .collect(),
        routes: settings
            .routes
            .iter()
            .map(|route| {
                let to = route.to.prefix(route.via);
                (to.address(), to.length(), route.via)
            })
            .collect(),
        up: true,
        gro: false,
    };
    let veth = Veth {
        owner: Address::namespace(namespace),
        alias: alias(name, &what),
        peer,
    };
    (outer_name(name, &what), veth)
}

impl Builder<'_, '_> {
    /// What follows a cube's port on its link, past the port's own stack.
    pub(crate) fn hop_out(&self, endpoint: &Endpoint, hook: Hook) -> Hop {
        match self.graph.peer(endpoint) {
            Some(Endpoint::Port { cube, port }) => self.hop_in_port(cube, port, hook),
            Some(Endpoint::Host(interface)) if self.present.contains(interface) => {
                Hop::Interface(interface.clone())
            }
            Some(namespace @ Endpoint::Namespace { .. }) => {
                let topology = &self.graph.topology().topology().metadata.name;
                Hop::Peer(outer_name(topology, &namespace.to_string()))
            }
            Some(Endpoint::Host(_)) | None => Hop::None,
        }
    }

    /// What a packet meets first that comes in at a port.
    pub(crate) fn hop_in_port(&self, cube: &Name, port: &Name, hook: Hook) -> Hop {
        let Some(index) = self.allocation.port(cube, port) else {
            return Hop::None;
        };
        let stack = self
            .graph
            .cube(cube)
            .map_or(&[][..], |cube| cube.through(port));
        let endpoint = Endpoint::Port {
            cube: cube.clone(),
            port: port.clone(),
        };
        match in_order(stack, Direction::Ingress).first() {
            Some(first) => Hop::Program(
                stack_program(&endpoint, first, Direction::Ingress, hook),
                index,
            ),
            None => Hop::Program(cube_program(cube, hook), index),
        }
    }

    /// What follows a host interface's ingress stack.
    pub(crate) fn hop_in(&self, endpoint: &Endpoint, hook: Hook) -> Hop {
        match self.graph.peer(endpoint) {
            Some(Endpoint::Port { cube, port }) => self.hop_in_port(cube, port, hook),
            _ => Hop::Pass,
        }
    }

    /// What follows the cube itself on a port: the port's stack, or what is behind it. The port
    /// number is the one behind the stack.
    pub(crate) fn first_out(&self, endpoint: &Endpoint, hook: Hook) -> Hop {
        let Endpoint::Port { cube, port } = endpoint else {
            return Hop::None;
        };
        let behind = self.hop_out(endpoint, hook);
        let stack = self
            .graph
            .cube(cube)
            .map_or(&[][..], |cube| cube.through(port));
        match in_order(stack, Direction::Egress).first() {
            Some(first) if behind != Hop::None => {
                let port = match behind {
                    Hop::Program(_, port) => port,
                    Hop::Interface(_) | Hop::Peer(_) | Hop::Pass | Hop::None => 0,
                };
                Hop::Program(
                    stack_program(endpoint, first, Direction::Egress, hook),
                    port,
                )
            }
            _ => behind,
        }
    }
}
