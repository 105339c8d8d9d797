//! The tables that routes are in, by how many there are.

use std::collections::BTreeMap;

use ebpf_abi::{
    fib::BUCKET,
    multipath::Group,
    router::{Route, RouteEntry, RouteKeyV4, RouteKeyV6, Routing},
};
use topology_schema::cube::router::{RoutesFrom, Spec};

use super::routes::Routes;
use crate::{
    cube::{Context, Table, room_for},
    resource::MapKind,
};

/// Routes a trie is made for: it takes memory for what is in it.
const ROUTES: u32 = 1 << 20;

/// IPv4 routes that the kernel's trie is good for: from here on a lookup in memory is three times as fast.
const SMALL_V4: usize = 64;
/// IPv6 routes, likewise: before that, the binary search over lengths takes longer.
const SMALL_V6: usize = 1024;

/// Different next hops of routes from elsewhere.
const DYNAMIC_NEXT_HOPS: u32 = 4096;

/// All tables of routes and next hops, and which of them are in use.
pub(super) fn routes(context: &Context<'_>, spec: &Spec) -> (Vec<Table>, Routing) {
    let Routes {
        next_hops,
        groups,
        v4,
        v6,
    } = Routes::of(context, spec);
    let (v4, fib_v4) = by_size(v4, SMALL_V4);
    let (v6, fib_v6) = by_size(v6, SMALL_V6);
    let dynamic: usize = spec.routes_from.iter().map(most_routes).sum();
    let [dynamic_v4, dynamic_v6] = dynamic_tables(dynamic);
    let routing = Routing {
        large_v4: u32::from(!fib_v4.is_empty()),
        large_v6: u32::from(!fib_v6.is_empty()),
        dynamic: u32::from(dynamic != 0),
        groups: u32::from(!groups.is_empty() || dynamic != 0),
    };
    let route = size_of::<RouteEntry>();
    let next_hop = (4, size_of::<Route>());
    let keys = (size_of::<RouteKeyV4>(), size_of::<RouteKeyV6>());
    let room = next_hops_for(context);
    let group = (4, size_of::<Group>());
    let group_room = room_for(groups.len());
    let dynamic_room = if dynamic == 0 { 1 } else { DYNAMIC_NEXT_HOPS };
    let tables = vec![
        Table::config("next_hops", MapKind::Array, room, next_hop, next_hops),
        Table::config("groups", MapKind::Hash, group_room, group, groups),
        Table::config("routes_v4", MapKind::LpmTrie, ROUTES, (keys.0, route), v4),
        Table::config("routes_v6", MapKind::LpmTrie, ROUTES, (keys.1, route), v6),
        fib_table_v4(fib_v4),
        fib_table_v6(fib_v6),
        dynamic_v4,
        dynamic_v6,
        Table::learned("dynamic_next_hops", MapKind::Array, dynamic_room, next_hop),
        Table::learned("dynamic_groups", MapKind::Hash, dynamic_room, group),
    ];
    (tables, routing)
}

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Routes for the kernel's trie, and routes for a table in shared memory.
fn by_size(routes: Entries, small: usize) -> (Entries, Entries) {
    if routes.len() > small {
        (Entries::new(), routes)
    } else {
        (routes, Entries::new())
    }
}

fn fib_table_v4(routes: Entries) -> Table {
    let prefixes = routes.keys().filter_map(|key| {
        let key = bytemuck::try_pod_read_unaligned::<RouteKeyV4>(key).ok()?;
        let address = u32::from_be_bytes(key.address.bytes());
        Some((address, key.length as u8))
    });
    let words = match routes.len() {
        0 => 1,
        _ => fib::words_for_prefixes_v4(prefixes) as u32,
    };
    let sizes = (size_of::<RouteKeyV4>(), size_of::<RouteEntry>());
    Table::config("fib_v4", MapKind::FibV4, words, sizes, routes)
}

fn fib_table_v6(routes: Entries) -> Table {
    let buckets = match routes.len() {
        0 => 1,
        // With room for a quarter more, so that most changes are writes.
        routes => fib::words_for_v6((routes + routes / 4).next_power_of_two())
            .div_ceil(BUCKET as usize) as u32,
    };
    let sizes = (size_of::<RouteKeyV6>(), size_of::<RouteEntry>());
    Table::config("fib_v6", MapKind::FibV6, buckets, sizes, routes)
}

fn most_routes(from: &RoutesFrom) -> usize {
    from.max_routes.get() as usize
}

/// Memory for this many routes of each family from elsewhere.
fn dynamic_tables(routes: usize) -> [Table; 2] {
    let bucket = BUCKET as usize;
    let (v4, v6) = match routes {
        0 => (1, 1),
        _ => (
            fib::words_for_v4(routes) as u32,
            fib::words_for_v6(routes).div_ceil(bucket) as u32,
        ),
    };
    [
        Table::memory("dynamic_v4", v4, size_of::<u64>()),
        Table::memory("dynamic_v6", v6, bucket * size_of::<u64>()),
    ]
}

/// Room for next hops: twice as much when it is full, so that most changes are writes.
fn next_hops_for(context: &Context<'_>) -> u32 {
    let limit = context.allocation.number_limit(context.name);
    limit.next_power_of_two().max(256)
}
