//! The state of a router, read back from its tables.

use std::{collections::BTreeMap, net::IpAddr, sync::atomic::Ordering};

use ebpf_abi::fib::V4_PENDING;
use ebpf_abi::router::{
    Neighbor, NeighborState, ROUTE_BROADCAST, ROUTE_LOCAL, ROUTE_VIA, Route, RouteEntry,
    StaticNeighbor,
};
use serde_json::{Value, json};
use topology_schema::MacAddr;

use super::{
    neighbors::neighbor_address,
    routes::{destination, next_hop},
};
use crate::cube::Tables;

/// Routes and neighbours, each list of them as JSON.
pub(super) fn show(
    tables: &dyn Tables,
    ports: &BTreeMap<u32, String>,
) -> serde_json::Map<String, Value> {
    let name = |port: u32| {
        ports
            .get(&port)
            .map_or_else(|| format!("#{port}"), Clone::clone)
    };
    let next_hops = next_hops(tables, "next_hops");
    let mut routes = Vec::new();
    for table in ["routes_v4", "fib_v4", "routes_v6", "fib_v6"] {
        for (key, values) in tables.entries(table) {
            let value = values
                .first()
                .and_then(|value| bytemuck::try_pod_read_unaligned::<RouteEntry>(value).ok())
                .and_then(|entry| next_hops.get(&entry.next_hop()));
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
    let dynamic = Dynamic::read(tables);
    routes.extend(dynamic.iter().flat_map(|dynamic| dynamic.routes(&name)));
    let neighbors = neighbors(tables, &name);
    let mut lists = serde_json::Map::from_iter([
        ("routes".to_owned(), routes.into()),
        ("neighbors".to_owned(), neighbors.into()),
    ]);
    if let Some(dynamic) = dynamic {
        let summary = json!({ "count": dynamic.count, "pending": dynamic.pending });
        lists.insert("dynamicRoutes".to_owned(), summary);
    }
    lists
}

/// Static neighbours and those heard.
fn neighbors(tables: &dyn Tables, name: &impl Fn(u32) -> String) -> Vec<Value> {
    let mut neighbors = Vec::new();
    for (key, values) in tables.entries("static_neighbors") {
        let value = values
            .first()
            .and_then(|value| bytemuck::try_pod_read_unaligned::<StaticNeighbor>(value).ok());
        let (Some((port, address)), Some(value)) = (neighbor_address(&key), value) else {
            continue;
        };
        let mac = MacAddr(value.mac.bytes());
        neighbors
            .push(json!({ "address": address, "mac": mac, "port": name(port), "state": "static" }));
    }
    let now = tables.now();
    for (key, values) in tables.entries("neighbors") {
        let value = values
            .first()
            .and_then(|value| bytemuck::try_pod_read_unaligned::<Neighbor>(value).ok());
        let (Some((port, address)), Some(value)) = (neighbor_address(&key), value) else {
            continue;
        };
        let state = state_name(value.state(now));
        let mut entry = json!({ "address": address, "port": name(port), "state": state });
        if value.heard != 0 {
            let age = now.saturating_sub(value.heard.max(value.confirmed));
            entry["mac"] = json!(MacAddr(value.mac.bytes()));
            entry["age"] = json!(age / 1_000_000_000);
        }
        neighbors.push(entry);
    }
    neighbors.sort_by_key(|entry| (entry["port"].to_string(), entry["address"].to_string()));
    neighbors
}

/// Routes from tables of the kernel.
struct Dynamic {
    next_hops: BTreeMap<u32, Route>,
    /// The first of them, in order.
    shown: Vec<(IpAddr, RouteEntry)>,
    count: usize,
    pending: u64,
}

impl Dynamic {
    /// Routes that are listed; of more there is the number.
    const LISTED: usize = 10_000;

    /// `None` if the router follows no table.
    fn read(tables: &dyn Tables) -> Option<Self> {
        let (v4, v6) = (tables.memory("dynamic_v4"), tables.memory("dynamic_v6"));
        let (v4, v6) = ((*v4).as_ref(), (*v6).as_ref());
        let pending = v4.get(V4_PENDING as usize)?.load(Ordering::Acquire);
        let v4 = fib::routes_v4(v4);
        let v4 = v4.map(|(address, entry)| (IpAddr::from(address.to_be_bytes()), entry));
        let v6 = fib::routes_v6(v6);
        let v6 = v6.map(|(address, entry)| (IpAddr::from(address.to_be_bytes()), entry));
        let mut shown: Vec<_> = v4.chain(v6).collect();
        let count = shown.len();
        shown.sort_unstable_by_key(|(address, entry)| (*address, entry.length()));
        shown.truncate(Self::LISTED);
        Some(Self {
            next_hops: next_hops(tables, "dynamic_next_hops"),
            shown,
            count,
            pending,
        })
    }

    fn routes(&self, name: &impl Fn(u32) -> String) -> Vec<Value> {
        let routes = self.shown.iter().filter_map(|(address, entry)| {
            let route = self.next_hops.get(&entry.next_hop())?;
            let table = if address.is_ipv4() {
                "routes_v4"
            } else {
                "routes_v6"
            };
            let (to, via) = (
                format!("{address}/{}", entry.length()),
                next_hop(table, route.next_hop),
            );
            Some(json!({ "to": to, "port": name(route.port), "type": "dynamic", "via": via }))
        });
        routes.collect()
    }
}

/// What routes lead to, by number.
fn next_hops(tables: &dyn Tables, table: &str) -> BTreeMap<u32, Route> {
    let entries = tables.entries(table).into_iter();
    let next_hops = entries.filter_map(|(key, values)| {
        let number = u32::from_ne_bytes(key.try_into().ok()?);
        let route = bytemuck::try_pod_read_unaligned::<Route>(values.first()?).ok()?;
        Some((number, route))
    });
    next_hops.filter(|(_, route)| route.kind != 0).collect()
}

/// The names of RFC 4861, 7.3.2, and two of ours.
fn state_name(state: NeighborState) -> &'static str {
    match state {
        NeighborState::Incomplete => "incomplete",
        NeighborState::Failed => "failed",
        NeighborState::Reachable => "reachable",
        NeighborState::Stale => "stale",
        NeighborState::Delay => "delay",
        NeighborState::Probe => "probe",
        NeighborState::Expired => "expired",
    }
}
