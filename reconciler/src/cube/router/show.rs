//! The state of a router, read back from its tables.

use std::collections::BTreeMap;

use ebpf_abi::router::{
    Neighbor, NeighborState, ROUTE_BROADCAST, ROUTE_LOCAL, ROUTE_VIA, Route, StaticNeighbor,
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
    serde_json::Map::from_iter([
        ("routes".to_owned(), routes.into()),
        ("neighbors".to_owned(), neighbors.into()),
    ])
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
