//! Several next hops for one prefix: which of them are active, and which packets each of them gets.

use std::collections::{BTreeMap, BTreeSet};

use bytemuck::Zeroable as _;
use ebpf_abi::{
    address::V6,
    multipath::{Candidate, Group, MEMBERS},
    router::ROUTE_VIA,
};
use serde_json::Value;
use topology_schema::{
    Endpoint, Name,
    cube::router::{Route, Spec},
};

use super::{
    routes::{NextHop, fixed, same_prefix},
    words,
};
use crate::cube::Context;

/// What a group is called in the record.
pub(super) fn name(next_hops: &[NextHop<'_>]) -> String {
    let names: Vec<String> = next_hops.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Ports whose state decides which next hops are active.
pub(super) fn ports(spec: &Spec) -> BTreeSet<&Name> {
    let mut prefixes: Vec<_> = spec.routes.iter().map(Route::prefix).collect();
    prefixes.sort_unstable();
    if prefixes.windows(2).all(|pair| pair[0] != pair[1]) {
        return BTreeSet::new();
    }
    let fixed = fixed(spec);
    let routes = fixed.chunk_by(same_prefix);
    let several = routes.filter(|route| route.len() > 1).flatten();
    several.filter_map(|(_, next_hop)| next_hop.port).collect()
}

/// A group of next hops in the order of their costs, with their numbers. Active are those of the
/// least cost that can be reached. Where none can, those of the least cost stay: packets are lost
/// either way, and go nowhere else.
pub(super) fn group(context: &Context<'_>, members: &[(u32, NextHop<'_>)]) -> Group {
    let reachable = members
        .iter()
        .find(|(_, next_hop)| is_reachable(context, next_hop));
    let (cost, all) = match (reachable, members.first()) {
        (Some((_, next_hop)), _) => (next_hop.cost, false),
        (None, Some((_, next_hop))) => (next_hop.cost, true),
        (None, None) => return Group::zeroed(),
    };
    let mut group = Group::zeroed();
    let mut active = Vec::new();
    for (place, (number, next_hop)) in members.iter().take(MEMBERS).enumerate() {
        group.members[place] = *number;
        if next_hop.cost == cost && (all || is_reachable(context, next_hop)) {
            active.push(Candidate {
                member: place as u8,
                address: next_hop.address.map_or(V6::UNSPECIFIED, words),
                weight: 1,
            });
        }
    }
    group.spread(&active);
    group
}

/// False if the port leads nowhere, or to an interface without a carrier.
fn is_reachable(context: &Context<'_>, next_hop: &NextHop<'_>) -> bool {
    let Some(port) = next_hop.port else {
        return true;
    };
    let endpoint = Endpoint::Port {
        cube: context.name.clone(),
        port: port.clone(),
    };
    let peer = context.graph.peer(&endpoint);
    next_hop.kind == ROUTE_VIA && peer.is_some_and(|peer| !context.down.contains(peer))
}

/// A group as people may read it: how many of its buckets each next hop has, by number.
pub(super) fn value(value: &[u8]) -> Option<Value> {
    let group = bytemuck::try_pod_read_unaligned::<Group>(value).ok()?;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for bucket in group.buckets {
        let number = group.members[usize::from(bucket) % MEMBERS];
        *counts.entry(format!("next hop {number}")).or_default() += 1;
    }
    serde_json::to_value(counts).ok()
}
