//! Neighbours that the topology itself tells of.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_abi::{
    address::Mac,
    router::{NeighborKey, StaticNeighbor},
};
use topology_schema::{Cube, Endpoint, MacAddr, Name, cube::router::Spec};

use super::{bytes, port_mac, words};
use crate::cube::{Context, default_mac};

/// The neighbours that need no question: those the file lists, and the hosts and routers of the
/// topology itself.
pub(super) fn neighbors(context: &Context<'_>, spec: &Spec) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut neighbors = BTreeMap::new();
    let mut add = |port: &Name, address: IpAddr, mac: MacAddr| {
        let Some(index) = context.port(port) else {
            return;
        };
        let value = StaticNeighbor {
            mac: Mac::new(mac.0),
            pad: 0,
        };
        neighbors.insert(bytes(&neighbor_key(index, address)), bytes(&value));
    };
    for (name, port) in &spec.ports {
        for endpoint in context.graph.link_neighbors(context.name, name) {
            for (address, mac) in stations(context, endpoint) {
                if port
                    .addresses
                    .iter()
                    .any(|own| own.network().contains(address))
                {
                    add(name, address, mac);
                }
            }
        }
    }
    for neighbor in &spec.neighbors {
        add(&neighbor.port, neighbor.address, neighbor.mac);
    }
    neighbors
}

/// The addresses of an endpoint that the topology itself defines.
fn stations(context: &Context<'_>, endpoint: &Endpoint) -> Vec<(IpAddr, MacAddr)> {
    let topology = context.graph.topology().topology();
    match endpoint {
        Endpoint::Namespace {
            namespace,
            interface,
        } => {
            let Some(settings) = topology
                .spec
                .namespaces
                .get(namespace)
                .and_then(|namespace| namespace.interfaces.get(interface))
            else {
                return Vec::new();
            };
            let mac = settings
                .mac
                .unwrap_or_else(|| default_mac(&topology.metadata.name, &endpoint.to_string()));
            settings
                .addresses
                .iter()
                .map(|address| (address.address(), mac))
                .collect()
        }
        Endpoint::Port { cube, port } => match context.graph.cube(cube) {
            Some(Cube::Router(spec)) => {
                let mac = port_mac(&topology.metadata.name, cube, spec, port);
                let addresses = spec
                    .ports
                    .get(port)
                    .into_iter()
                    .flat_map(|port| &port.addresses);
                addresses.map(|address| (address.address(), mac)).collect()
            }
            _ => Vec::new(),
        },
        Endpoint::Host(_) => Vec::new(),
    }
}

fn neighbor_key(port: u32, address: IpAddr) -> NeighborKey {
    NeighborKey {
        port: port as u16,
        family: if address.is_ipv4() { 4 } else { 6 },
        address: words(address),
    }
}

pub(super) fn neighbor_address(key: &[u8]) -> Option<(u32, IpAddr)> {
    let key = bytemuck::try_pod_read_unaligned::<NeighborKey>(key).ok()?;
    let address = match key.family {
        4 => Ipv4Addr::from(key.address.v4().bytes()).into(),
        _ => Ipv6Addr::from(key.address.bytes()).into(),
    };
    Some((key.port.into(), address))
}
