//! The state of a router, read back from its tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::atomic::Ordering,
};

use bytemuck::Pod;
use ebpf_abi::{
    fib::V4_PENDING,
    multipath::{BUCKETS, Group},
    router::{
        Neighbor, NeighborState, ROUTE_BROADCAST, ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_VIA, Route,
        RouteEntry, StaticNeighbor,
    },
};
use serde_json::{Value, json};
use topology_schema::{MacAddr, cube::router::Port};

use super::{
    neighbors::neighbor_address,
    routes::{destination, kind_name, next_hop},
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
    let next_hops = NextHops::read(tables, "next_hops", "groups");
    let mut routes = Vec::new();
    for table in ["routes_v4", "fib_v4", "routes_v6", "fib_v6"] {
        for (key, values) in tables.entries(table) {
            let entry = values
                .first()
                .and_then(|value| bytemuck::try_pod_read_unaligned::<RouteEntry>(value).ok());
            let (Some(to), Some(entry)) = (destination(table, &key), entry) else {
                continue;
            };
            let ways = next_hops.ways(entry.next_hop());
            routes.extend(ways.map(|way| way.shown(to.address().is_ipv4(), json!(to), &name)));
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

/// What there is to show of a port: the router's addresses there.
pub(super) fn port(port: &Port) -> serde_json::Map<String, Value> {
    serde_json::Map::from_iter([("addresses".to_owned(), json!(port.addresses))])
}

/// What routes lead to, by number.
struct NextHops {
    routes: BTreeMap<u32, Route>,
    groups: BTreeMap<u32, Group>,
}

impl NextHops {
    fn read(tables: &dyn Tables, next_hops: &str, groups: &str) -> Self {
        let mut routes: BTreeMap<u32, Route> = numbered(tables, next_hops);
        routes.retain(|_, route| route.kind != 0);
        Self {
            routes,
            groups: numbered(tables, groups),
        }
    }

    /// The next hops of a route, active or not.
    fn ways(&self, number: u32) -> impl Iterator<Item = Way<'_>> {
        let group = self.groups.get(&number);
        let members = group.into_iter().flat_map(|group| {
            let members = group.members.iter().enumerate();
            let members = members.filter(|(_, number)| **number != 0);
            members.map(|(place, number)| (*number, group.share(place)))
        });
        let alone = group.is_none().then_some((number, BUCKETS));
        members.chain(alone).filter_map(|(number, share)| {
            let route = self.routes.get(&number)?;
            Some(Way { route, share })
        })
    }
}

/// All values of a table by number.
fn numbered<T: Pod>(tables: &dyn Tables, table: &str) -> BTreeMap<u32, T> {
    let entries = tables.entries(table).into_iter();
    let values = entries.filter_map(|(key, values)| {
        let number = u32::from_ne_bytes(key.try_into().ok()?);
        let value = bytemuck::try_pod_read_unaligned(values.first()?).ok()?;
        Some((number, value))
    });
    values.collect()
}

/// One next hop of a route.
struct Way<'a> {
    route: &'a Route,
    /// Of [`BUCKETS`] that flows are sorted into, how many are sent there: none if it is not
    /// active.
    share: usize,
}

impl Way<'_> {
    fn shown(&self, is_v4: bool, to: Value, name: &impl Fn(u32) -> String) -> Value {
        let Route { kind, port, .. } = *self.route;
        let sort = match kind {
            ROUTE_VIA => "static",
            ROUTE_LOCAL => "local",
            ROUTE_BROADCAST => "broadcast",
            ROUTE_CONNECTED => "connected",
            kind => kind_name(kind),
        };
        let leads_on = matches!(
            kind,
            ROUTE_VIA | ROUTE_LOCAL | ROUTE_BROADCAST | ROUTE_CONNECTED
        );
        let mut shown = json!({ "to": to });
        if leads_on {
            shown["port"] = name(port).into();
        }
        shown["type"] = sort.into();
        if kind == ROUTE_VIA {
            shown["via"] = json!(next_hop(is_v4, self.route.next_hop));
        }
        if self.route.cost != 0 {
            shown["cost"] = self.route.cost.into();
        }
        shown["active"] = (self.share != 0).into();
        if !matches!(self.share, 0 | BUCKETS) {
            shown["share"] = format!("{}%", (self.share * 100 + BUCKETS / 2) / BUCKETS).into();
        }
        shown
    }
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
    let fixed: BTreeSet<Vec<u8>> = tables
        .entries("static_neighbors")
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    // Of those that are static, what is heard does not count.
    let learned = tables.entries("neighbors").into_iter();
    for (key, values) in learned.filter(|(key, _)| !fixed.contains(key)) {
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
    next_hops: NextHops,
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
            next_hops: NextHops::read(tables, "dynamic_next_hops", "dynamic_groups"),
            shown,
            count,
            pending,
        })
    }

    fn routes(&self, name: &impl Fn(u32) -> String) -> Vec<Value> {
        let routes = self.shown.iter().flat_map(|(address, entry)| {
            let to = format!("{address}/{}", entry.length());
            let ways = self.next_hops.ways(entry.next_hop());
            ways.map(move |way| {
                let mut shown = way.shown(address.is_ipv4(), to.clone().into(), name);
                if way.route.kind == ROUTE_VIA {
                    shown["type"] = "dynamic".into();
                }
                shown
            })
        });
        routes.collect()
    }
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

#[cfg(test)]
mod tests;
