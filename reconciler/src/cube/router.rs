//! Driver of `router`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_abi::{
    address::{Mac, V4, V6},
    router::{
        IcmpBudget, NEIGHBORS, Neighbor, NeighborKey, REACHABLE_TIME, ROUTE_BROADCAST,
        ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_VIA, Route, RouteKeyV4, RouteKeyV6, RouterPort,
        STALE_TIME, StaticNeighbor,
    },
};
use serde_json::{Value, json};
use topology_schema::{
    Cube, Endpoint, InterfaceAddress, MacAddr, Name, Prefix, cube::router::Spec,
};

use super::{Context, CubeDriver, Lowered, Table, Tables, default_mac, index, room_for};
use crate::resource::MapKind;

/// Largest IP packet sent on a port for which the file says nothing, in bytes.
const DEFAULT_MTU: u16 = 1500;

/// Routes a table is made for: a trie takes memory for what is in it.
const ROUTES: u32 = 1 << 20;

/// Bytes in which the kernel sums what an ICMP error quotes.
const SCRATCH: usize = 2048;

pub(super) struct Driver;

impl CubeDriver for Driver {
    fn object(&self) -> &'static str {
        "router"
    }

    fn routes(&self) -> bool {
        true
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::Router(spec) = context.cube else {
            return Lowered::default();
        };
        let ports = spec
            .ports
            .keys()
            .filter_map(|name| {
                Some((
                    index(context.port(name)?),
                    bytes(&router_port(context, spec, name)),
                ))
            })
            .collect();
        let Routes { v4, v6 } = Routes::of(context, spec);
        let neighbors = neighbors(context, spec);
        let route = size_of::<Route>();
        let neighbor = size_of::<NeighborKey>();
        Lowered {
            tables: vec![
                Table::config(
                    "router_ports",
                    MapKind::Array,
                    context.capacity(),
                    (4, size_of::<RouterPort>()),
                    ports,
                ),
                Table::config(
                    "static_neighbors",
                    MapKind::Hash,
                    room_for(neighbors.len()),
                    (neighbor, size_of::<StaticNeighbor>()),
                    neighbors,
                ),
                Table::config(
                    "routes_v4",
                    MapKind::LpmTrie,
                    ROUTES,
                    (size_of::<RouteKeyV4>(), route),
                    v4,
                ),
                Table::config(
                    "routes_v6",
                    MapKind::LpmTrie,
                    ROUTES,
                    (size_of::<RouteKeyV6>(), route),
                    v6,
                ),
                Table::learned(
                    "neighbors",
                    MapKind::LruHash,
                    NEIGHBORS,
                    (neighbor, size_of::<Neighbor>()),
                ),
                Table::learned(
                    "icmp_budget",
                    MapKind::PerCpuArray,
                    1,
                    (4, size_of::<IcmpBudget>()),
                ),
                Table::learned("scratch", MapKind::PerCpuArray, 1, (4, SCRATCH)),
            ],
            ..Lowered::default()
        }
    }

    fn describe(&self, table: &str, key: &[u8]) -> Option<String> {
        match table {
            "routes_v4" | "routes_v6" => Some(format!("routes/{}", destination(table, key)?)),
            "static_neighbors" => Some(format!("neighbors/{}", neighbor_address(key)?.1)),
            _ => None,
        }
    }

    fn lists(&self) -> &'static [(&'static str, &'static str)] {
        &[("routes", "to"), ("neighbors", "address")]
    }

    fn show(
        &self,
        tables: &dyn Tables,
        ports: &BTreeMap<u32, String>,
    ) -> serde_json::Map<String, Value> {
        let name = |port: u32| {
            ports
                .get(&port)
                .map_or_else(|| format!("#{port}"), Clone::clone)
        };
        let mut routes = Vec::new();
        for table in ["routes_v4", "routes_v6"] {
            for (key, values) in tables.entries(table) {
                let value = values
                    .first()
                    .and_then(|value| bytemuck::try_pod_read_unaligned::<Route>(value).ok());
                let (Some(to), Some(route)) = (destination(table, &key), value) else {
                    continue;
                };
                routes.push(match route.kind {
                    ROUTE_VIA => {
                        let via = next_hop(table, route.next_hop);
                        json!({ "to": to, "port": name(route.port), "type": "static", "via": via })
                    }
                    ROUTE_LOCAL => json!({ "to": to, "port": name(route.port), "type": "local" }),
                    ROUTE_BROADCAST => {
                        json!({ "to": to, "port": name(route.port), "type": "broadcast" })
                    }
                    _ => json!({ "to": to, "port": name(route.port), "type": "connected" }),
                });
            }
        }
        let mut neighbors = Vec::new();
        for (key, values) in tables.entries("static_neighbors") {
            let value = values
                .first()
                .and_then(|value| bytemuck::try_pod_read_unaligned::<StaticNeighbor>(value).ok());
            let (Some((port, address)), Some(value)) = (neighbor_address(&key), value) else {
                continue;
            };
            let mac = MacAddr(value.mac.bytes());
            neighbors.push(
                json!({ "address": address, "mac": mac, "port": name(port), "state": "static" }),
            );
        }
        let now = tables.now();
        for (key, values) in tables.entries("neighbors") {
            let value = values
                .first()
                .and_then(|value| bytemuck::try_pod_read_unaligned::<Neighbor>(value).ok());
            let (Some((port, address)), Some(value)) = (neighbor_address(&key), value) else {
                continue;
            };
            let age = now.saturating_sub(value.confirmed);
            let entry = if value.confirmed == 0 {
                json!({ "address": address, "port": name(port), "state": "incomplete" })
            } else {
                let state = if age <= REACHABLE_TIME {
                    "reachable"
                } else if age <= STALE_TIME {
                    "stale"
                } else {
                    "expired"
                };
                let mac = MacAddr(value.mac.bytes());
                json!({ "address": address, "mac": mac, "port": name(port), "state": state, "age": age / 1_000_000_000 })
            };
            neighbors.push(entry);
        }
        neighbors.sort_by_key(|entry| (entry["port"].to_string(), entry["address"].to_string()));
        serde_json::Map::from_iter([
            ("routes".to_owned(), routes.into()),
            ("neighbors".to_owned(), neighbors.into()),
        ])
    }
}

/// The link-layer address of a router's port.
pub(crate) fn port_mac(topology: &Name, cube: &Name, spec: &Spec, port: &Name) -> MacAddr {
    spec.ports
        .get(port)
        .and_then(|port| port.mac)
        .unwrap_or_else(|| default_mac(topology, &format!("{cube}:{port}")))
}

fn router_port(context: &Context<'_>, spec: &Spec, name: &Name) -> RouterPort {
    let topology = &context.graph.topology().topology().metadata.name;
    let mac = port_mac(topology, context.name, spec, name).0;
    let port = &spec.ports[name];
    let first = |v4: bool| {
        port.addresses
            .iter()
            .map(InterfaceAddress::address)
            .find(|address| address.is_ipv4() == v4)
    };
    RouterPort {
        mac: Mac::new(mac),
        mtu: port.mtu.map_or(DEFAULT_MTU, |mtu| {
            u16::try_from(mtu.get()).unwrap_or(u16::MAX)
        }),
        address_v4: match first(true) {
            Some(IpAddr::V4(address)) => V4::new(address.octets()),
            _ => V4::default(),
        },
        address_v6: match first(false) {
            Some(IpAddr::V6(address)) => V6::new(address.octets()),
            _ => V6::UNSPECIFIED,
        },
        link_local: V6::new(link_local(mac)),
    }
}

/// The modified EUI-64 address (RFC 4291, 2.5.6 and appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> [u8; 16] {
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ]
}

/// Both route tables.
#[derive(Default)]
struct Routes {
    v4: BTreeMap<Vec<u8>, Vec<u8>>,
    v6: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Routes {
    /// Static routes first: where a connected network is the same, that one counts.
    fn of(context: &Context<'_>, spec: &Spec) -> Self {
        let mut routes = Self::default();
        for route in &spec.routes {
            let behind = spec.ports.iter().find(|(_, port)| {
                port.addresses
                    .iter()
                    .any(|address| address.network().contains(route.via))
            });
            let Some(port) = behind.and_then(|(name, _)| context.port(name)) else {
                continue;
            };
            routes.add(
                &route.to.prefix(route.via),
                ROUTE_VIA,
                port,
                Some(route.via),
            );
        }
        for (name, port) in &spec.ports {
            let Some(index) = context.port(name) else {
                continue;
            };
            // In reverse, so that the first address of a network is the one that speaks on it.
            for address in port.addresses.iter().rev() {
                routes.add(
                    &address.network(),
                    ROUTE_CONNECTED,
                    index,
                    Some(address.address()),
                );
            }
            for address in &port.addresses {
                routes.add_own(address, index);
            }
        }
        routes
    }

    /// The host routes of an address: itself, and the broadcast addresses of its network
    /// (RFC 1812, 5.3.5.2; a /31 has none, RFC 3021).
    fn add_own(&mut self, address: &InterfaceAddress, port: u32) {
        if let IpAddr::V4(v4) = address.address()
            && address.length() < 31
        {
            let mask = u32::MAX
                .checked_shr(u32::from(address.length()))
                .unwrap_or(0);
            for broadcast in [u32::from(v4) & !mask, u32::from(v4) | mask] {
                if let Some(prefix) = Prefix::containing(Ipv4Addr::from(broadcast).into(), 32) {
                    self.add(&prefix, ROUTE_BROADCAST, port, None);
                }
            }
        }
        let length = if address.address().is_ipv4() { 32 } else { 128 };
        if let Some(prefix) = Prefix::containing(address.address(), length) {
            self.add(&prefix, ROUTE_LOCAL, port, None);
        }
    }

    fn add(&mut self, to: &Prefix, kind: u32, port: u32, next_hop: Option<IpAddr>) {
        let length = u32::from(to.length());
        let route = Route {
            kind,
            port,
            next_hop: next_hop.map_or(V6::UNSPECIFIED, words),
        };
        match to.address() {
            IpAddr::V4(address) => {
                self.v4.insert(
                    bytes(&RouteKeyV4 {
                        length,
                        address: V4::new(address.octets()),
                    }),
                    bytes(&route),
                );
            }
            IpAddr::V6(address) => {
                self.v6.insert(
                    bytes(&RouteKeyV6 {
                        length,
                        address: V6::new(address.octets()),
                    }),
                    bytes(&route),
                );
            }
        }
    }
}

/// The neighbours that need no question: those the file lists, and the hosts and routers of the
/// topology itself.
fn neighbors(context: &Context<'_>, spec: &Spec) -> BTreeMap<Vec<u8>, Vec<u8>> {
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

fn neighbor_address(key: &[u8]) -> Option<(u32, IpAddr)> {
    let key = bytemuck::try_pod_read_unaligned::<NeighborKey>(key).ok()?;
    let address = match key.family {
        4 => Ipv4Addr::from(key.address.v4().bytes()).into(),
        _ => Ipv6Addr::from(key.address.bytes()).into(),
    };
    Some((key.port.into(), address))
}

fn destination(table: &str, key: &[u8]) -> Option<Prefix> {
    let (length, address) = if table == "routes_v4" {
        let key = bytemuck::try_pod_read_unaligned::<RouteKeyV4>(key).ok()?;
        (key.length, Ipv4Addr::from(key.address.bytes()).into())
    } else {
        let key = bytemuck::try_pod_read_unaligned::<RouteKeyV6>(key).ok()?;
        (key.length, Ipv6Addr::from(key.address.bytes()).into())
    };
    Prefix::containing(address, u8::try_from(length).ok()?)
}

fn next_hop(table: &str, address: V6) -> IpAddr {
    if table == "routes_v4" {
        Ipv4Addr::from(address.v4().bytes()).into()
    } else {
        Ipv6Addr::from(address.bytes()).into()
    }
}

fn words(address: IpAddr) -> V6 {
    match address {
        IpAddr::V4(address) => V6::from_v4(V4::new(address.octets())),
        IpAddr::V6(address) => V6::new(address.octets()),
    }
}

fn bytes<T: bytemuck::NoUninit>(value: &T) -> Vec<u8> {
    bytemuck::bytes_of(value).to_vec()
}
