//! Namespaces and pairs of interfaces: read and changed, ours only.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd,
};

use topology_schema::{InterfaceName, MacAddr, Name};

use super::{
    netlink::{self, LinkInfo, Netlink, RouteInfo, VethPeer as RequestPeer, VethRequest},
    netns,
};
use crate::{
    kernel::{Error, Result},
    observed::{self, Observed},
    resource::{Veth, VethPeer},
};

/// The mark on everything of a topology: the beginning of an interface's alias.
fn mark(topology: &Name) -> String {
    format!("pcn:{topology}")
}

/// Reads the host's interfaces, the namespaces, and our pairs with their far ends.
pub fn observe(topology: &Name, observed: &mut Observed) -> Result<()> {
    let mut host = Netlink::host().map_err(failed)?;
    let links = host.links().map_err(failed)?;
    let mark = mark(topology);
    let prefix = format!("{mark}:");
    let ours = |link: &LinkInfo| link.alias.as_ref().is_some_and(|alias| alias.starts_with(&prefix));
    let by_index: BTreeMap<u32, &LinkInfo> = links.iter().map(|link| (link.index, link)).collect();
    let far_ends: BTreeSet<u32> = links
        .iter()
        .filter(|link| ours(link) && portal(link, &prefix))
        .filter_map(|link| link.peer_index)
        .collect();
    for link in &links {
        // Interfaces with names of no topology's concern (spaces, colons) cannot be linked.
        let Ok(name) = link.name.parse::<InterfaceName>() else { continue };
        let mine = ours(link) || far_ends.contains(&link.index);
        observed.interfaces.insert(name, observed::Interface { ifindex: link.index, ours: mine, up: link.up });
    }
    let mut spaces = Spaces::default();
    for name in namespace_names() {
        let marked = spaces.alias_of_loopback(&name).is_some_and(|alias| alias == mark);
        observed.namespaces.insert(name, marked);
    }
    for link in links.iter().filter(|link| ours(link)) {
        let (Ok(name), Some(alias)) = (link.name.parse(), link.alias.clone()) else { continue };
        let peer = if portal(link, &prefix) {
            far_in_host(&mut host, link, &by_index)
        } else {
            let what = alias.strip_prefix(&prefix).unwrap_or_default();
            far_in_namespace(&mut spaces, link, what)
        };
        observed.veths.insert(name, observed::Veth { alias, peer });
    }
    Ok(())
}

/// True for a pair between programs: its alias names a port, not a namespace's interface.
fn portal(link: &LinkInfo, prefix: &str) -> bool {
    link.alias.as_ref().and_then(|alias| alias.strip_prefix(prefix)).is_some_and(|what| what.contains(':'))
}

fn far_in_host(host: &mut Netlink, link: &LinkInfo, by_index: &BTreeMap<u32, &LinkInfo>) -> Option<VethPeer> {
    let far = by_index.get(&link.peer_index?)?;
    Some(VethPeer {
        namespace: None,
        name: far.name.parse().ok()?,
        mac: None,
        mtu: far.mtu,
        addresses: BTreeSet::new(),
        routes: BTreeSet::new(),
        gro: host.gro(&far.name).unwrap_or(false),
    })
}

fn far_in_namespace(spaces: &mut Spaces, link: &LinkInfo, what: &str) -> Option<VethPeer> {
    let (namespace, name) = what.split_once('/')?;
    let namespace: Name = namespace.parse().ok()?;
    let (socket, links) = spaces.enter(&namespace)?;
    let far = links.iter().find(|far| far.name == name && Some(far.index) == link.peer_index)?.clone();
    let addresses = socket.addresses(far.index).ok()?.into_iter().collect();
    let routes = socket.routes(far.index).ok()?;
    Some(VethPeer {
        namespace: Some(namespace),
        name: far.name.parse().ok()?,
        mac: far.mac.map(MacAddr),
        mtu: far.mtu,
        addresses,
        routes: routes.into_iter().map(|route| (route.destination.0, route.destination.1, route.via)).collect(),
        gro: false,
    })
}

/// One conversation per namespace, begun when it is needed.
#[derive(Default)]
struct Spaces(BTreeMap<Name, Option<(Netlink, Vec<LinkInfo>)>>);

impl Spaces {
    fn enter(&mut self, name: &Name) -> Option<(&mut Netlink, &[LinkInfo])> {
        let entry = self.0.entry(name.clone()).or_insert_with(|| {
            let mut socket = Netlink::in_namespace(name.as_str()).ok()?;
            let links = socket.links().ok()?;
            Some((socket, links))
        });
        entry.as_mut().map(|(socket, links)| (socket, links.as_slice()))
    }

    fn alias_of_loopback(&mut self, name: &Name) -> Option<String> {
        let (_, links) = self.enter(name)?;
        links.iter().find(|link| link.loopback)?.alias.clone()
    }
}

/// Named namespaces whose names a topology could use.
fn namespace_names() -> Vec<Name> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Makes a namespace and marks it.
pub fn create_namespace(topology: &Name, name: &Name) -> Result<()> {
    netns::create(name.as_str()).map_err(namespace_failed)?;
    let marked = mark_namespace(topology, name);
    if marked.is_err() {
        // Without the mark it would not be ours to delete later.
        netns::delete(name.as_str()).map_err(namespace_failed)?;
    }
    marked
}

fn mark_namespace(topology: &Name, name: &Name) -> Result<()> {
    let mut socket = Netlink::in_namespace(name.as_str()).map_err(failed)?;
    let links = socket.links().map_err(failed)?;
    let Some(loopback) = links.iter().find(|link| link.loopback) else {
        return Err(Error::Call(format!("namespace {name} has no loopback interface")));
    };
    socket.set_alias(loopback.index, &mark(topology)).map_err(failed)?;
    socket.set_up(loopback.index).map_err(failed)
}

/// Deletes a namespace.
pub fn delete_namespace(name: &Name) -> Result<()> {
    netns::delete(name.as_str()).map_err(namespace_failed)
}

/// Makes a pair, configures the far end, sets both up.
pub fn create_veth(name: &InterfaceName, veth: &Veth) -> Result<()> {
    let mut host = Netlink::host().map_err(failed)?;
    let space = veth.peer.namespace.as_ref();
    let fd = space.map(|space| netns::open(space.as_str())).transpose().map_err(namespace_failed)?;
    let request = VethRequest {
        name: name.as_str(),
        alias: &veth.alias,
        mac: None,
        mtu: Some(veth.peer.mtu),
        peer: RequestPeer {
            name: veth.peer.name.as_str(),
            netns: fd.as_ref().map(AsFd::as_fd),
            mac: veth.peer.mac.map(|mac| mac.0),
            mtu: Some(veth.peer.mtu),
        },
    };
    let created = host.create_veth(&request).map_err(failed)?;
    let configured = configure_new(&mut host, &veth.peer, created.peer_index);
    if configured.is_err() {
        host.delete_link(created.index).map_err(failed)?;
    }
    configured
}

fn configure_new(host: &mut Netlink, peer: &VethPeer, index: u32) -> Result<()> {
    match &peer.namespace {
        Some(space) => {
            let mut inside = Netlink::in_namespace(space.as_str()).map_err(failed)?;
            let path = format!("net/ipv6/conf/{}/accept_dad", peer.name);
            // Its addresses are usable at once, the link-local one too. Without IPv6 there is
            // nothing to set.
            let _no_ipv6 = netns::write_sysctl(Some(space.as_str()), &path, "0");
            inside.set_up(index).map_err(failed)?;
            let empty = VethPeer { addresses: BTreeSet::new(), routes: BTreeSet::new(), ..peer.clone() };
            change_addresses(&mut inside, index, &empty, peer)
        }
        None => {
            host.set_addr_gen_none(index).map_err(failed)?;
            if peer.gro {
                host.set_gro(peer.name.as_str(), true).map_err(failed)?;
            }
            host.set_up(index).map_err(failed)
        }
    }
}

/// Brings a pair's far end from one state to another.
pub fn configure_veth(from: &VethPeer, to: &VethPeer) -> Result<()> {
    let mut socket = match &to.namespace {
        Some(space) => Netlink::in_namespace(space.as_str()).map_err(failed)?,
        None => Netlink::host().map_err(failed)?,
    };
    let Some(link) = socket.link(to.name.as_str()).map_err(failed)? else {
        return Err(Error::Call(format!("configure {}: no such interface", to.name)));
    };
    if from.mac != to.mac
        && let Some(mac) = to.mac
    {
        socket.set_mac(link.index, mac.0).map_err(failed)?;
    }
    if from.mtu != to.mtu {
        socket.set_mtu(link.index, to.mtu).map_err(failed)?;
        set_near_mtu(&link, to.mtu)?;
    }
    if from.gro != to.gro {
        socket.set_gro(to.name.as_str(), to.gro).map_err(failed)?;
    }
    change_addresses(&mut socket, link.index, from, to)
}

/// The near end takes frames as large as the far end sends.
fn set_near_mtu(far: &LinkInfo, mtu: u32) -> Result<()> {
    let mut host = Netlink::host().map_err(failed)?;
    match far.peer_index {
        Some(near) => {
            host.set_mtu(near, mtu).map_err(failed)?;
            host.set_addr_gen_none(near).map_err(failed)
        }
        None => Ok(()),
    }
}

/// Routes go before the addresses they depend on, and come after them.
fn change_addresses(socket: &mut Netlink, index: u32, from: &VethPeer, to: &VethPeer) -> Result<()> {
    let route = |(address, length, via): &(_, u8, _)| RouteInfo { destination: (*address, *length), via: *via };
    for gone in from.routes.difference(&to.routes).map(route) {
        socket.delete_route(index, gone.destination, gone.via).map_err(failed)?;
    }
    for (address, length) in from.addresses.difference(&to.addresses) {
        socket.delete_address(index, *address, *length).map_err(failed)?;
    }
    for (address, length) in to.addresses.difference(&from.addresses) {
        socket.add_address(index, *address, *length).map_err(failed)?;
    }
    // The kernel drops routes whose address went: what should be there is read anew.
    let running: BTreeSet<_> = socket
        .routes(index)
        .map_err(failed)?
        .into_iter()
        .map(|route| (route.destination.0, route.destination.1, route.via))
        .collect();
    for new in to.routes.difference(&running).map(route) {
        socket.add_route(index, new.destination, new.via).map_err(failed)?;
    }
    Ok(())
}

/// Deletes pairs of ours.
pub fn delete_veths(topology: &Name, names: &BTreeSet<InterfaceName>) -> Result<()> {
    let mut host = Netlink::host().map_err(failed)?;
    let prefix = format!("{}:", mark(topology));
    // Asked again at the last moment: an interface of that name may be somebody else's by now.
    let ours: Vec<u32> = host
        .links()
        .map_err(failed)?
        .into_iter()
        .filter(|link| names.iter().any(|name| name.as_str() == link.name))
        .filter(|link| link.alias.as_ref().is_some_and(|alias| alias.starts_with(&prefix)))
        .map(|link| link.index)
        .collect();
    match ours.as_slice() {
        [] => Ok(()),
        [one] => host.delete_link(*one).map_err(failed),
        many => host.delete_links(many).map_err(failed),
    }
}

fn failed(error: netlink::Error) -> Error {
    let text = error.to_string();
    match error {
        netlink::Error::Refused { errno, .. } if errno as i32 == libc::EPERM => Error::Permission(text),
        _ => Error::Call(text),
    }
}

fn namespace_failed(error: netns::Error) -> Error {
    Error::Call(error.to_string())
}
