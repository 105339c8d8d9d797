//! Namespaces and pairs of interfaces: read and changed, ours only.

mod space;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd,
};

use topology_schema::{InterfaceName, MacAddr, Name};

use self::space::{Space, namespace_names};
use super::{
    netlink::{self, LinkInfo, Netlink, RouteInfo, VethPeer as RequestPeer, VethRequest},
    netns,
};
use crate::{
    digest::Digest,
    kernel::{Error, Result},
    observed::{self, Observed},
    resource::{Veth, VethPeer},
    wiring,
};

/// The mark on everything of a topology: the beginning of an interface's alias.
fn mark(topology: &Name) -> String {
    format!("pcn:{topology}")
}

/// Conversations with the kernel, begun when they are needed: with the host's namespace and with
/// those of the topology.
#[derive(Default)]
pub struct Interfaces {
    host: Option<Netlink>,
    inside: BTreeMap<Name, Netlink>,
}

impl Interfaces {
    fn host(&mut self) -> Result<&mut Netlink> {
        if self.host.is_none() {
            self.host = Some(Netlink::host().map_err(failed)?);
        }
        self.host
            .as_mut()
            .ok_or_else(|| Error::Call("no netlink socket".to_owned()))
    }

    fn at(&mut self, space: Option<&Name>) -> Result<&mut Netlink> {
        let Some(space) = space else {
            return self.host();
        };
        if !self.inside.contains_key(space) {
            let socket = Netlink::in_namespace(space.as_str()).map_err(failed)?;
            self.inside.insert(space.clone(), socket);
        }
        self.inside
            .get_mut(space)
            .ok_or_else(|| Error::Call(format!("no netlink socket in namespace {space}")))
    }

    /// Reads the host's interfaces, the namespaces, and our pairs with their far ends.
    pub fn observe(&mut self, topology: &Name, observed: &mut Observed) -> Result<()> {
        // A namespace of the same name may have been made anew.
        self.inside.clear();
        let links = self.host()?.links().map_err(failed)?;
        let mark = mark(topology);
        let (prefix, group) = (format!("{mark}:"), group(topology));
        let ours = |link: &LinkInfo| is_ours(link, &prefix, group);
        let by_index: BTreeMap<u32, &LinkInfo> =
            links.iter().map(|link| (link.index, link)).collect();
        let far_ends: BTreeSet<u32> = links
            .iter()
            .filter(|link| ours(link) && portal(link, &prefix))
            .filter_map(|link| link.peer_index)
            .collect();
        for link in &links {
            // Interfaces with names of no topology's concern (spaces, colons) cannot be linked.
            let Ok(name) = link.name.parse::<InterfaceName>() else {
                continue;
            };
            let mine = ours(link) || far_ends.contains(&link.index);
            observed.interfaces.insert(
                name,
                observed::Interface {
                    ifindex: link.index,
                    ours: mine,
                    up: link.up,
                    carrier: link.carrier,
                },
            );
        }
        let mut spaces = BTreeMap::new();
        for name in namespace_names() {
            let space = Space::read(&name);
            let marked = space
                .as_ref()
                .is_some_and(|space| space.mark() == Some(&mark));
            observed.namespaces.insert(name.clone(), marked);
            spaces.extend(space.map(|space| (name, space)));
        }
        for link in links.iter().filter(|link| ours(link)) {
            let Ok(name) = link.name.parse() else {
                continue;
            };
            let alias = link.alias.clone().unwrap_or_default();
            let purpose = match alias.strip_prefix(&prefix) {
                Some(purpose) => Some(purpose.to_owned()),
                None => purpose(link, topology, &spaces),
            };
            let peer = match purpose {
                Some(purpose) if purpose.contains('/') => far_in_namespace(&spaces, link, &purpose),
                _ => far_in_host(self.host()?, link, &by_index),
            };
            observed.veths.insert(name, observed::Veth { alias, peer });
        }
        Ok(())
    }

    /// Makes a namespace and marks it. It has the mark before it has its name: without, it would
    /// not be ours to delete later.
    pub fn create_namespace(&mut self, topology: &Name, name: &Name) -> Result<()> {
        self.inside.remove(name);
        netns::create_with(name.as_str(), || prepare_namespace(topology))
    }

    /// Deletes a namespace.
    pub fn delete_namespace(&mut self, name: &Name) -> Result<()> {
        self.inside.remove(name);
        netns::delete(name.as_str()).map_err(namespace_failed)
    }

    /// Makes a pair, configures the far end, sets both up.
    pub fn create_veth(
        &mut self,
        topology: &Name,
        name: &InterfaceName,
        veth: &Veth,
    ) -> Result<()> {
        let space = veth.peer.namespace.as_ref();
        let fd = space
            .map(|space| netns::open(space.as_str()))
            .transpose()
            .map_err(namespace_failed)?;
        let request = VethRequest {
            name: name.as_str(),
            alias: &veth.alias,
            group: group(topology),
            mac: None,
            mtu: Some(veth.peer.mtu),
            peer: RequestPeer {
                name: veth.peer.name.as_str(),
                netns: fd.as_ref().map(AsFd::as_fd),
                mac: veth.peer.mac.map(|mac| mac.0),
                mtu: Some(veth.peer.mtu),
            },
        };
        let created = self.host()?.create_veth(&request).map_err(failed)?;
        let configured = self.configure_new(&veth.peer, created.peer_index);
        if configured.is_err() {
            self.host()?.delete_link(created.index).map_err(failed)?;
        }
        configured
    }

    fn configure_new(&mut self, peer: &VethPeer, index: u32) -> Result<()> {
        let socket = self.at(peer.namespace.as_ref())?;
        if peer.namespace.is_none() {
            socket.set_addr_gen_none(index).map_err(failed)?;
        }
        socket.set_up(index).map_err(failed)?;
        // A veth takes frames redirected on XDP once its peer has GRO; the kernel notes that only
        // of a peer that is up.
        if peer.gro {
            socket.set_gro(peer.name.as_str(), true).map_err(failed)?;
        }
        let empty = VethPeer {
            addresses: BTreeSet::new(),
            routes: BTreeSet::new(),
            ..peer.clone()
        };
        change_addresses(socket, index, &empty, peer)
    }

    /// Brings a pair from one state to another.
    pub fn configure_veth(&mut self, from: &Veth, to: &Veth) -> Result<()> {
        let marks = (from.alias.as_str(), to.alias.as_str());
        let (from, to) = (&from.peer, &to.peer);
        let socket = self.at(to.namespace.as_ref())?;
        let Some(link) = socket.link(to.name.as_str()).map_err(failed)? else {
            return Err(Error::Call(format!(
                "configure {}: no such interface",
                to.name
            )));
        };
        if from.mac != to.mac
            && let Some(mac) = to.mac
        {
            socket.set_mac(link.index, mac.0).map_err(failed)?;
        }
        if from.gro != to.gro {
            socket.set_gro(to.name.as_str(), to.gro).map_err(failed)?;
        }
        if from.mtu != to.mtu {
            socket.set_mtu(link.index, to.mtu).map_err(failed)?;
        }
        // Routes go with an interface that somebody set down, and cannot come back before it is up.
        if !from.up {
            socket.set_up(link.index).map_err(failed)?;
        }
        change_addresses(socket, link.index, from, to)?;
        let Some(near) = link.peer_index else {
            return Ok(());
        };
        let host = self.host()?;
        if marks.0 != marks.1 {
            host.set_alias(near, marks.1).map_err(failed)?;
            host.set_addr_gen_none(near).map_err(failed)?;
        }
        if !from.up {
            host.set_up(near).map_err(failed)?;
        }
        // The near end takes frames as large as the far end sends.
        if from.mtu != to.mtu {
            host.set_mtu(near, to.mtu).map_err(failed)?;
            host.set_addr_gen_none(near).map_err(failed)?;
        }
        Ok(())
    }

    /// Deletes pairs of ours.
    pub fn delete_veths(&mut self, topology: &Name, names: &BTreeSet<InterfaceName>) -> Result<()> {
        let host = self.host()?;
        let (prefix, group) = (format!("{}:", mark(topology)), group(topology));
        // Asked again at the last moment: an interface of that name may be somebody else's by now.
        let ours: Vec<u32> = host
            .links()
            .map_err(failed)?
            .into_iter()
            .filter(|link| names.contains(link.name.as_str()))
            .filter(|link| is_ours(link, &prefix, group))
            .map(|link| link.index)
            .collect();
        match ours.as_slice() {
            [] => Ok(()),
            [one] => host.delete_link(*one).map_err(failed),
            many => host.delete_links(many).map_err(failed),
        }
    }
}

/// The group that interfaces of a topology are in: a second mark, from before the alias is there, and after somebody
/// has taken it away.
fn group(topology: &Name) -> u32 {
    let MacAddr([_, a, b, c, d, _]) = Digest::of(&["group", topology.as_str()]).mac();
    // 0 is the group of all others.
    u32::from_be_bytes([a, b, c, d]) | 1
}

fn is_ours(link: &LinkInfo, prefix: &str, group: u32) -> bool {
    let marked = |alias: &String| alias.starts_with(prefix);
    link.alias.as_ref().is_some_and(marked) || link.group == group
}

/// What an interface without our alias is for, by its name, which stands for it: `NAMESPACE/INTERFACE`.
fn purpose(link: &LinkInfo, topology: &Name, spaces: &BTreeMap<Name, Space>) -> Option<String> {
    let mut purposes = spaces.iter().flat_map(|(space, inside)| {
        let far = inside.links.values();
        far.map(move |far| format!("{space}/{}", far.name))
    });
    purposes.find(|purpose| wiring::outer_name(topology, purpose).as_str() == link.name)
}

/// True for a pair between programs: its alias names a port, not a namespace's interface.
fn portal(link: &LinkInfo, prefix: &str) -> bool {
    link.alias
        .as_ref()
        .and_then(|alias| alias.strip_prefix(prefix))
        .is_some_and(|what| what.contains(':'))
}

/// The MTU of a pair: both ends have the same, unless somebody changed one.
fn smaller_mtu(near: &LinkInfo, far: &LinkInfo) -> u32 {
    near.mtu.min(far.mtu)
}

fn far_in_host(
    host: &mut Netlink,
    link: &LinkInfo,
    by_index: &BTreeMap<u32, &LinkInfo>,
) -> Option<VethPeer> {
    let far = by_index.get(&link.peer_index?)?;
    Some(VethPeer {
        namespace: None,
        name: far.name.parse().ok()?,
        mac: None,
        mtu: smaller_mtu(link, far),
        addresses: BTreeSet::new(),
        routes: BTreeSet::new(),
        up: link.up && far.up,
        gro: host.gro(&far.name).unwrap_or(false),
    })
}

/// Inside a new namespace.
fn prepare_namespace(topology: &Name) -> Result<()> {
    // Addresses are usable at once, those that the kernel makes too. Without IPv6 there is
    // nothing to set.
    let _no_ipv6 = netns::write_sysctl(None, "net/ipv6/conf/default/accept_dad", "0");
    let mut socket = Netlink::host().map_err(failed)?;
    let links = socket.links().map_err(failed)?;
    let Some(loopback) = links.iter().find(|link| link.loopback) else {
        return Err(Error::Call(
            "a new namespace has no loopback interface".to_owned(),
        ));
    };
    socket
        .set_alias(loopback.index, &mark(topology))
        .map_err(failed)?;
    socket.set_up(loopback.index).map_err(failed)
}

impl From<netns::Error> for Error {
    fn from(error: netns::Error) -> Self {
        namespace_failed(error)
    }
}

fn far_in_namespace(
    spaces: &BTreeMap<Name, Space>,
    link: &LinkInfo,
    what: &str,
) -> Option<VethPeer> {
    let (namespace, name) = what.split_once('/')?;
    let (namespace, space) = spaces.get_key_value(namespace)?;
    let far = space
        .links
        .get(&link.peer_index?)
        .filter(|far| far.name == name)?;
    let addresses = space
        .addresses
        .get(&far.index)
        .into_iter()
        .flatten()
        .copied()
        .collect();
    let routes = space.routes.get(&far.index).into_iter().flatten();
    Some(VethPeer {
        namespace: Some(namespace.clone()),
        name: far.name.parse().ok()?,
        mac: far.mac.map(MacAddr),
        mtu: smaller_mtu(link, far),
        addresses,
        routes: routes
            .map(|route| (route.destination.0, route.destination.1, route.via))
            .collect(),
        up: link.up && far.up,
        gro: false,
    })
}

/// Routes go before the addresses they depend on, and come after them.
fn change_addresses(
    socket: &mut Netlink,
    index: u32,
    from: &VethPeer,
    to: &VethPeer,
) -> Result<()> {
    let route = |(address, length, via): &(_, u8, _)| RouteInfo {
        destination: (*address, *length),
        via: *via,
    };
    for gone in from.routes.difference(&to.routes).map(route) {
        socket
            .delete_route(index, gone.destination, gone.via)
            .map_err(failed)?;
    }
    for (address, length) in from.addresses.difference(&to.addresses) {
        socket
            .delete_address(index, *address, *length)
            .map_err(failed)?;
    }
    for (address, length) in to.addresses.difference(&from.addresses) {
        socket
            .add_address(index, *address, *length)
            .map_err(failed)?;
    }
    if to.routes.is_empty() {
        return Ok(());
    }
    // The kernel drops routes whose address went: what should be there is read anew.
    let running: BTreeSet<_> = socket
        .routes(index)
        .map_err(failed)?
        .into_iter()
        .map(|route| (route.destination.0, route.destination.1, route.via))
        .collect();
    for new in to.routes.difference(&running).map(route) {
        socket
            .add_route(index, new.destination, new.via)
            .map_err(failed)?;
    }
    Ok(())
}

fn failed(error: netlink::Error) -> Error {
    let text = error.to_string();
    match error {
        netlink::Error::Refused { errno, .. } if errno == libc::EPERM => Error::Permission(text),
        _ => Error::Call(text),
    }
}

fn namespace_failed(error: netns::Error) -> Error {
    Error::Call(error.to_string())
}
