//! The table `mdb`: groups, members, routers and queriers, as they were heard.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_abi::bridge::{GROUP_ANY, MDB_SIZE, MdbEntry, MdbKey, NO_PORT};
use serde_json::{Map, Value, json};
use topology_schema::cube::bridge::Spec;

use super::shown;
use crate::{
    cube::{Table, Tables},
    resource::MapKind,
};

/// Small where nobody reads it.
pub(super) fn table(spec: &Spec) -> Table {
    let entries = if spec.multicast_snooping { MDB_SIZE } else { 1 };
    let layout = (size_of::<MdbKey>(), size_of::<MdbEntry>());
    Table::learned("mdb", MapKind::Hash, entries, layout)
}

/// The members of groups, and where routers are. Nothing on a bridge that does not snoop and has
/// not done so.
pub(super) fn show(tables: &dyn Tables, name: &dyn Fn(u32) -> String) -> Map<String, Value> {
    let now = tables.now();
    let mut entries: Vec<(MdbKey, u64)> = tables
        .entries("mdb")
        .into_iter()
        .filter_map(|(key, values)| {
            let key = bytemuck::try_pod_read_unaligned::<MdbKey>(&key).ok()?;
            let entry = bytemuck::try_pod_read_unaligned::<MdbEntry>(values.first()?).ok()?;
            let left = entry.until.checked_sub(now)? / 1_000_000_000;
            (key.port != NO_PORT).then_some((key, left))
        })
        .collect();
    entries.sort_by_key(|(key, _)| (key.vlan, key.family, key.address.bytes(), key.port));
    let mut lists = Map::new();
    for (list, routers) in [("multicastGroups", false), ("multicastRouters", true)] {
        let entries = entries
            .iter()
            .filter(|(key, _)| (key.address == GROUP_ANY) == routers);
        let entries: Vec<Value> = entries
            .map(|(key, left)| {
                let mut entry = json!({
                    "port": name(key.port), "vlan": shown(key.vlan), "expires": left
                });
                if routers {
                    entry["family"] = if key.family == 4 { "ipv4" } else { "ipv6" }.into();
                } else {
                    entry["group"] = group(key).to_string().into();
                }
                entry
            })
            .collect();
        if !entries.is_empty() {
            lists.insert(list.to_owned(), entries.into());
        }
    }
    lists
}

fn group(key: &MdbKey) -> IpAddr {
    if key.family == 4 {
        Ipv4Addr::from(key.address.v4().bytes()).into()
    } else {
        Ipv6Addr::from(key.address.bytes()).into()
    }
}
