//! `router`: an IP router for both families.

mod advertisement;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

pub use self::advertisement::RouterAdvertisement;
pub use self::routes::{Cost, Route, SpecialRoute};
use crate::addr::{InterfaceAddress, MacAddr, Prefix, ip_text};
use crate::cube::CubeContext;
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::quantity::{Bounded, Mtu};
use crate::text::{ValueCode, ValueError};
use crate::validate::{Checker, ConnectedNetworks, RouteCheck};

/// Most routes of one router, without those of its own networks.
pub const MAX_ROUTES: usize = 131_072;

/// Most addresses of one router, all ports together.
pub const MAX_ADDRESSES: usize = 1024;

/// An IP router, both families. Its ports must be declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping of router settings"
)]
#[schemars(rename = "Router")]
pub struct Spec {
    /// The ports, by name. No two of them may hold overlapping networks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Name, Port>,
    /// Static routes; the networks of the ports need none. At most 131072.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Route tables of the kernel that the router follows, one or a list: a routing daemon writes
    /// them. Static routes and connected networks come before them, then the table that is named
    /// first.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub routes_from: Vec<RoutesFrom>,
    /// Static neighbours, for hosts that do not answer ARP or neighbour discovery.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbors: Vec<Neighbor>,
}

/// A port of a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `addresses`"
)]
#[schemars(rename = "RouterPort")]
pub struct Port {
    /// Addresses of the router on this port, at least one, each with the length of its network.
    #[serde(deserialize_with = "at_least_one_address")]
    #[schemars(length(min = 1))]
    pub addresses: Vec<InterfaceAddress>,
    /// Link-layer address of the port, unicast. Default: chosen by `pcn`, the same at every apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Maximum transmission unit in bytes, 1280 to 65535. Default: 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// Answers ARP requests for addresses behind other ports (RFC 1027). Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_arp: bool,
    /// Answers neighbour solicitations for addresses behind other ports (RFC 4861, 7.2.8). Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_nd: bool,
    /// Router advertisements for the IPv6 hosts on the link. Default: none are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_advertisement: Option<RouterAdvertisement>,
    /// Transparent cubes on the port, from the outside in: the first one meets a packet from the link first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Name>,
}

/// Number of a route table of the kernel: 1 to 4294967295.
pub type TableNumber = Bounded<1, { u32::MAX }>;

/// Most routes that are taken from a table: 1 to 1048576.
pub type RouteLimit = Bounded<1, 1_048_576>;

/// A route table of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a route table such as `{ namespace: bgp, table: 100 }`"
)]
#[schemars(rename = "RouterRoutesFrom")]
pub struct RoutesFrom {
    /// The network namespace: one of the topology, or any other that `ip netns` lists. Default:
    /// that of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// The table, 1 to 4294967295. Default: 254, the main one.
    #[serde(default = "default_table", skip_serializing_if = "is_default_table")]
    #[schemars(extend("default" = 254))]
    pub table: TableNumber,
    /// Most routes of each family, 1 to 1048576: memory for them is set aside, up to 400 bytes
    /// each. Default: 131072.
    #[serde(
        default = "default_max_routes",
        skip_serializing_if = "is_default_max_routes"
    )]
    #[schemars(extend("default" = 131_072))]
    pub max_routes: RouteLimit,
}

const fn default_table() -> TableNumber {
    const MAIN: TableNumber = match TableNumber::new(254) {
        Some(number) => number,
        None => unreachable!(),
    };
    MAIN
}

fn is_default_table(table: &TableNumber) -> bool {
    *table == default_table()
}

const fn default_max_routes() -> RouteLimit {
    const ENOUGH: RouteLimit = match RouteLimit::new(131_072) {
        Some(number) => number,
        None => unreachable!(),
    };
    ENOUGH
}

fn is_default_max_routes(limit: &RouteLimit) -> bool {
    *limit == default_max_routes()
}

/// How `routesFrom` is written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema is made of it")]
enum OneOrMany {
    /// One table.
    One(RoutesFrom),
    /// Several; a route of the first counts more.
    Many(Vec<RoutesFrom>),
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RoutesFrom>, D::Error> {
    struct Tables;

    impl<'de> de::Visitor<'de> for Tables {
        type Value = Vec<RoutesFrom>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a route table such as `{ namespace: bgp, table: 100 }`, or a list of them")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let one = RoutesFrom::deserialize(de::value::MapAccessDeserializer::new(map))?;
            Ok(vec![one])
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(de::value::SeqAccessDeserializer::new(items))
        }
    }

    deserializer.deserialize_any(Tables)
}

/// A static neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a neighbour such as `{ address: 10.0.0.2, mac: \"02:00:00:00:00:02\", port: lan }`"
)]
#[schemars(rename = "RouterNeighbor")]
pub struct Neighbor {
    /// IP address of the neighbour, on a network of the port.
    #[serde(with = "ip_text")]
    #[schemars(with = "ip_text::IpText")]
    pub address: IpAddr,
    /// Link-layer address of the neighbour, unicast.
    pub mac: MacAddr,
    /// The port behind which it is.
    pub port: Name,
}

fn at_least_one_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<InterfaceAddress>, D::Error> {
    let addresses = Vec::deserialize(deserializer)?;
    if addresses.is_empty() {
        let error = ValueError::new(
            ValueCode::EmptyList,
            "a router port needs at least one address",
        );
        return Err(de::Error::custom(format_args!(
            "{:#}",
            error.help("write it like `addresses: [10.0.1.254/24]`")
        )));
    }
    Ok(addresses)
}

pub(crate) fn check(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let path = cube.path.key("routes");
    checker.limit("routes", spec.routes.len(), MAX_ROUTES, &path);
    let count = spec.ports.values().map(|port| port.addresses.len()).sum();
    checker.limit("addresses", count, MAX_ADDRESSES, &cube.path.key("ports"));

    check_addresses(spec, checker, cube);
    for (name, port) in &spec.ports {
        if let Some(settings) = &port.router_advertisement {
            let path = cube.port_path(name).key("routerAdvertisement");
            advertisement::check(settings, port, checker, &path);
        }
    }
    let own: BTreeSet<IpAddr> = spec
        .ports
        .values()
        .flat_map(|port| &port.addresses)
        .map(InterfaceAddress::address)
        .collect();
    let networks = ConnectedNetworks::new(spec.ports.values().flat_map(|port| &port.addresses));
    let routes = RouteCheck {
        networks: &networks,
        own: &own,
        depends_on: &cube.path,
        owner: "any port of the router",
    };
    routes::check(spec, &routes, checker, &path);
    check_neighbors(spec, checker, cube, &own);
    check_sources(spec, checker, cube);
}

fn check_sources(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    /// The kernel's own table, of the addresses it has itself.
    const LOCAL: u32 = 255;
    let mut seen = BTreeSet::new();
    for (index, from) in spec.routes_from.iter().enumerate() {
        // One may be written without a list around it.
        let path = match spec.routes_from.len() {
            1 => cube.path.key("routesFrom"),
            _ => cube.path.key("routesFrom").index(index),
        };
        if from.table.get() == LOCAL {
            let message = "table 255 holds the namespace's own addresses, no routes";
            let diagnostic = Diagnostic::error("out-of-range", &path.key("table"), message);
            checker.report(diagnostic.help("the main table is 254"));
        }
        if !seen.insert((&from.namespace, from.table)) {
            let message = "this table is listed already";
            checker.report(Diagnostic::error("duplicate-entry", &path, message));
        }
    }
}

fn check_addresses(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let mut networks: Vec<(Prefix, &Name, usize)> = Vec::new();
    let mut seen: BTreeMap<IpAddr, &Name> = BTreeMap::new();
    for (name, port) in &spec.ports {
        checker.unicast(port.mac, || cube.port_path(name).key("mac"));
        for (index, address) in port.addresses.iter().enumerate() {
            let path = || cube.port_path(name).key("addresses").index(index);
            checker.interface_address(address, path);
            checker.no_link_local(address.address(), path);
            match seen.insert(address.address(), name) {
                Some(first) => checker.report(Diagnostic::error(
                    "duplicate-address",
                    &path(),
                    format!(
                        "{} is an address of port `{first}` already",
                        address.address()
                    ),
                )),
                None => networks.push((address.network(), name, index)),
            }
        }
    }
    // Sorted like this, a network follows directly behind those that contain it.
    networks.sort_by_key(|&(network, _, _)| (network.address(), network.length()));
    let mut around: Vec<(Prefix, &Name)> = Vec::new();
    for (network, name, index) in networks {
        while around
            .last()
            .is_some_and(|(outer, _)| !outer.overlaps(&network))
        {
            around.pop();
        }
        if let Some((outer, other)) = around.iter().find(|(_, other)| *other != name) {
            checker.report(
                Diagnostic::error(
                    "overlapping-networks",
                    &cube.port_path(name).key("addresses").index(index),
                    format!("{network} overlaps {outer} of port `{other}`"),
                )
                .help("each network of a router belongs to one port"),
            );
        }
        // Many addresses on one network of one port count once.
        if around.last() != Some(&(network, name)) {
            around.push((network, name));
        }
    }
}

fn check_neighbors(
    spec: &Spec,
    checker: &mut Checker<'_>,
    cube: &CubeContext<'_>,
    own: &BTreeSet<IpAddr>,
) {
    let mut seen = BTreeSet::new();
    let mut networks = BTreeMap::new();
    for (index, neighbor) in spec.neighbors.iter().enumerate() {
        let path = cube.path.key("neighbors").index(index);
        let address = neighbor.address;
        checker.unicast(Some(neighbor.mac), || path.key("mac"));
        if !seen.insert(address) {
            let message = format!("{address} is listed as a neighbour already");
            checker.report(Diagnostic::error(
                "duplicate-entry",
                &path.key("address"),
                message,
            ));
        }
        if own.contains(&address) {
            let message = format!("{address} is an address of the router itself");
            checker.report(Diagnostic::error(
                "own-address",
                &path.key("address"),
                message,
            ));
        }
        cube.require_port(checker, &neighbor.port, || path.key("port"));
        let Some(port) = spec.ports.get(&neighbor.port) else {
            continue;
        };
        let connected = networks
            .entry(&neighbor.port)
            .or_insert_with(|| ConnectedNetworks::new(port.addresses.iter()));
        if !connected.contains(address) {
            let message = format!("{address} is on no network of port `{}`", neighbor.port);
            checker.absent(
                &[&cube.port_path(&neighbor.port)],
                Diagnostic::error("not-connected", &path.key("address"), message),
            );
        }
    }
}
