//! Driver of `router`: its tables and ports.

mod announce;
mod multipath;
mod neighbors;
mod routes;
mod show;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ebpf_abi::{
    address::{Mac, V4, V6},
    router::{
        Advertisement, IcmpBudget, NEIGHBORS, Neighbor, NeighborKey, PART_FRAGMENT, PART_LINK,
        Pieces, ROUTER_PORT_PROXY_ARP, ROUTER_PORT_PROXY_ND, ROUTER_PORT_TURNS, RouterPort,
        Settings, StaticNeighbor, WAITING_BYTES,
    },
};
use serde_json::Value;
use topology_schema::{
    Cube, Endpoint, InterfaceAddress, MacAddr, Name,
    cube::router::{Port, Spec},
};

use self::{
    neighbors::{neighbor_address, neighbors},
    routes::destination,
};
use super::{
    Context, CubeDriver, Lowered, Table, Tables, default_mac, driver_for, index, room_for,
};
use crate::{
    resource::{Hook, MapKind, Template},
    rows::Rows,
    wiring::chain_of,
};

/// Largest IP packet sent on a port for which the file says nothing, in bytes.
const DEFAULT_MTU: u16 = 1500;

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

    fn parts(&self, hook: Hook) -> u32 {
        match hook {
            Hook::Tc => PART_FRAGMENT + 1,
            Hook::Xdp => PART_LINK + 1,
        }
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::Router(spec) = context.cube else {
            return Lowered::default();
        };
        let ports: Rows = spec
            .ports
            .keys()
            .filter_map(|name| {
                Some((
                    index(context.port(name)?),
                    bytes(&router_port(context, spec, name)),
                ))
            })
            .collect();
        let neighbors = neighbors(context, spec);
        let settings = Settings {
            parts: chain_of(context.allocation, context.name).part(1),
            seed: seed(context),
        };
        let neighbor = size_of::<NeighborKey>();
        let (mut tables, routing) = tables::routes(context, spec);
        tables.extend([
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
            Table::learned("pieces", MapKind::PerCpuArray, 1, (4, size_of::<Pieces>())),
            Table::config(
                "advertisements",
                MapKind::Hash,
                room_for(0),
                (4, size_of::<Advertisement>()),
                announce::advertisements(context, spec),
            ),
            Table::learned(
                "advertised",
                MapKind::Array,
                context.capacity(),
                (4, size_of::<u64>()),
            ),
            Table::learned("waiting", MapKind::RingBuf, WAITING_BYTES, (0, 0)),
            Table::learned("listening", MapKind::Array, 1, (4, size_of::<u64>())),
        ]);
        Lowered {
            tables,
            globals: BTreeMap::from([
                ("ROUTING", Template::plain(bytes(&routing))),
                ("SETTINGS", Template::plain(bytes(&settings))),
            ]),
        }
    }

    fn announcements(&self, context: &Context<'_>, port: &Name) -> Vec<Vec<u8>> {
        let Cube::Router(spec) = context.cube else {
            return Vec::new();
        };
        let topology = &context.graph.topology().topology().metadata.name;
        let mac = port_mac(topology, context.name, spec, port).0;
        let settings = spec.ports.get(port);
        settings.map_or_else(Vec::new, |settings| announce::all(settings, mac))
    }

    fn depends_on_links_of<'a>(&self, cube: &'a Cube) -> BTreeSet<&'a Name> {
        let Cube::Router(spec) = cube else {
            return BTreeSet::new();
        };
        multipath::ports(spec)
    }

    fn numbered(&self, cube: &Cube) -> BTreeMap<String, u32> {
        let Cube::Router(spec) = cube else {
            return BTreeMap::new();
        };
        routes::next_hops(spec)
    }

    fn describe(&self, table: &str, key: &[u8]) -> Option<String> {
        match table {
            "routes_v4" | "routes_v6" | "fib_v4" | "fib_v6" => {
                Some(format!("routes/{}", destination(table, key)?))
            }
            "static_neighbors" => Some(format!("neighbors/{}", neighbor_address(key)?.1)),
            _ => None,
        }
    }

    fn value(&self, table: &str, value: &[u8]) -> Option<Value> {
        match table {
            "routes_v4" | "routes_v6" | "fib_v4" | "fib_v6" => routes::value(value),
            "next_hops" => routes::next_hop_value(value),
            "groups" => multipath::value(value),
            "static_neighbors" => {
                let value = bytemuck::try_pod_read_unaligned::<StaticNeighbor>(value).ok()?;
                Some(MacAddr(value.mac.bytes()).to_string().into())
            }
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
        show::show(tables, ports)
    }

    fn port_details(&self, cube: &Cube, port: &Name) -> serde_json::Map<String, Value> {
        let Cube::Router(spec) = cube else {
            return serde_json::Map::new();
        };
        spec.ports
            .get(port)
            .map_or_else(Default::default, show::port)
    }
}

/// The link-layer address of a router's port.
pub(crate) fn port_mac(topology: &Name, cube: &Name, spec: &Spec, port: &Name) -> MacAddr {
    spec.ports
        .get(port)
        .and_then(|port| port.mac)
        .unwrap_or_else(|| default_mac(topology, &format!("{cube}:{port}")))
}

/// What the hashes of flows begin with: the same at every apply.
fn seed(context: &Context<'_>) -> u32 {
    let topology = &context.graph.topology().topology().metadata.name;
    let [_, rest @ .., last] = default_mac(topology, &format!("{}:flows", context.name)).0;
    let [a, b, c, _] = rest;
    u32::from_be_bytes([a, b, c, last])
}

fn router_port(context: &Context<'_>, spec: &Spec, name: &Name) -> RouterPort {
    let topology = &context.graph.topology().topology().metadata.name;
    let mac = port_mac(topology, context.name, spec, name).0;
    let port = &spec.ports[name];
    // A port without an address of the family sends errors from another port's: the router's identifier
    // (RFC 1812, 4.3.2.4). Translated packets have a family that the link may not have.
    let addresses = spec.ports.values().flat_map(|port| &port.addresses);
    let first = |v4: bool| {
        port.addresses
            .iter()
            .chain(addresses.clone())
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
        flags: [
            (turns(context, name, port), ROUTER_PORT_TURNS),
            (port.proxy_arp, ROUTER_PORT_PROXY_ARP),
            (port.proxy_nd, ROUTER_PORT_PROXY_ND),
        ]
        .into_iter()
        .filter_map(|(on, flag)| on.then_some(flag))
        .sum(),
    }
}

/// True if packets for the port's addresses must leave through its stack.
fn turns(context: &Context<'_>, name: &Name, port: &Port) -> bool {
    let endpoint = Endpoint::Port {
        cube: context.name.clone(),
        port: name.clone(),
    };
    let mut cubes = port.through.iter();
    context.graph.peer(&endpoint).is_some()
        && cubes.any(|name| {
            let cube = context.graph.cube(name);
            cube.is_some_and(|cube| driver_for(cube.kind()).turns(cube))
        })
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

fn words(address: IpAddr) -> V6 {
    match address {
        IpAddr::V4(address) => V6::from_v4(V4::new(address.octets())),
        IpAddr::V6(address) => V6::new(address.octets()),
    }
}

fn bytes<T: bytemuck::NoUninit>(value: &T) -> Vec<u8> {
    bytemuck::bytes_of(value).to_vec()
}
