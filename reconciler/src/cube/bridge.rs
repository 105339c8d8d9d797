//! Driver of `bridge`.

use std::collections::BTreeMap;

use ebpf_abi::{
    address::Mac,
    bridge::{
        FEATURE_SNOOPING, FEATURE_STATIC, FEATURE_STORM_CONTROL, FEATURE_STP, FEATURE_VLANS,
        FdbEntry, FdbKey, Settings, State, flood_len,
    },
    port::{PORT_ISOLATED, PORT_MULTICAST_ROUTER},
};
use serde_json::{Value, json};
use topology_schema::{Cube, MacAddr, Name, cube::bridge::Spec};

use super::{Context, CubeDriver, Lowered, Table, Tables, index, room_for};
use crate::resource::{MapKind, Template};

mod multicast;
mod storm;
pub mod stp;
mod vlans;

pub(super) struct Driver;

impl CubeDriver for Driver {
    fn object(&self) -> &'static str {
        "bridge"
    }

    fn floods(&self) -> bool {
        true
    }

    fn port_flags(&self, cube: &Cube, port: &Name) -> u32 {
        let Cube::Bridge(spec) = cube else { return 0 };
        let Some(settings) = spec.ports.get(port) else {
            return 0;
        };
        let mut flags = 0;
        if settings.isolated {
            flags |= PORT_ISOLATED;
        }
        if settings.multicast_router {
            flags |= PORT_MULTICAST_ROUTER;
        }
        flags
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::Bridge(spec) = context.cube else {
            return Lowered::default();
        };
        let static_fdb = static_fdb(spec, context);
        let ports = context.linked_ports();
        let numbers =
            std::iter::once(ports.len() as u32).chain(ports.iter().map(|(_, port)| *port));
        let flood = (0..)
            .zip(numbers)
            .map(|(at, number): (u32, u32)| (at, index(number)))
            .collect();
        let settings = Settings {
            aging_time: u64::from(spec.aging_time.get()) * 1_000_000_000,
            features: features(spec),
        };
        let key = size_of::<FdbKey>();
        let mut tables = vec![
            Table::config(
                "static_fdb",
                MapKind::Hash,
                room_for(static_fdb.len()),
                (key, 4),
                static_fdb,
            ),
            Table::banked("flood", flood_len(context.capacity()), 4, flood),
            vlans::table(spec, context),
            storm::limits(spec, context),
            storm::state(spec, context),
            multicast::table(spec),
            Table::learned(
                "fdb",
                MapKind::Hash,
                spec.fdb_size.get(),
                (key, size_of::<FdbEntry>()),
            ),
            Table::learned("state", MapKind::Array, 1, (4, size_of::<State>())),
        ];
        tables.extend(stp::tables(spec, context));
        Lowered {
            tables,
            globals: BTreeMap::from([("SETTINGS", Template::plain(bytemuck::bytes_of(&settings)))]),
        }
    }

    fn watched(&self, cube: &Cube) -> Option<&'static str> {
        let on = matches!(cube, Cube::Bridge(spec) if spec.stp.enabled);
        on.then_some("its spanning tree stands still, so ports stay as they are and new ones discard unless they are edges")
    }

    fn describe(&self, table: &str, key: &[u8]) -> Option<String> {
        match table {
            "static_fdb" => Some(format!("fdb/{}", station(key)?)),
            _ => None,
        }
    }

    fn value(&self, table: &str, value: &[u8]) -> Option<Value> {
        let port = bytemuck::try_pod_read_unaligned::<u32>(value).ok()?;
        (table == "static_fdb").then(|| format!("port {port}").into())
    }

    fn lists(&self) -> &'static [(&'static str, &'static str)] {
        &[("fdb", "vlan mac")]
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
        let mut lists = multicast::show(tables, &name);
        lists.extend(stp::show(tables, &name));
        lists.insert("fdb".to_owned(), fdb(tables, &name).into());
        lists
    }

    fn port_details(&self, cube: &Cube, port: &Name) -> serde_json::Map<String, Value> {
        match cube {
            Cube::Bridge(spec) if spec.is_vlan_aware() => vlans::details(spec, port),
            _ => serde_json::Map::new(),
        }
    }
}

/// What the bridge's program has to have.
fn features(spec: &Spec) -> u64 {
    let mut features = 0;
    if spec.is_vlan_aware() {
        features |= FEATURE_VLANS;
    }
    if storm::is_limited(spec) {
        features |= FEATURE_STORM_CONTROL;
    }
    if spec.multicast_snooping {
        features |= FEATURE_SNOOPING;
    }
    if spec.stp.enabled {
        features |= FEATURE_STP;
    }
    if !spec.fdb.is_empty() {
        features |= FEATURE_STATIC;
    }
    features
}

fn static_fdb(spec: &Spec, context: &Context<'_>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let aware = spec.is_vlan_aware();
    let entries = spec.fdb.iter().filter_map(|entry| {
        let vlan = if aware { vlans::id(entry.vlan) } else { 0 };
        let mac = Mac::new(entry.mac.0);
        let port = context.port(&entry.port)?;
        Some((
            bytemuck::bytes_of(&FdbKey { mac, vlan }).to_vec(),
            index(port),
        ))
    });
    entries.collect()
}

/// The stations of both tables, by VLAN and address.
fn fdb(tables: &dyn Tables, name: &dyn Fn(u32) -> String) -> Vec<Value> {
    let key = |key: &[u8]| bytemuck::try_pod_read_unaligned::<FdbKey>(key).ok();
    let fixed = tables
        .entries("static_fdb")
        .into_iter()
        .filter_map(|(at, values)| {
            let (key, port) = (key(&at)?, values.first()?);
            let port = bytemuck::try_pod_read_unaligned::<u32>(port).ok()?;
            Some((key, json!({ "port": name(port), "type": "static" })))
        });
    let now = tables.now();
    let learned = tables
        .entries("fdb")
        .into_iter()
        .filter_map(|(at, values)| {
            let entry = bytemuck::try_pod_read_unaligned::<FdbEntry>(values.first()?).ok()?;
            let age = now.saturating_sub(entry.seen) / 1_000_000_000;
            let station = json!({ "port": name(entry.port), "type": "learned", "age": age });
            Some((key(&at)?, station))
        });
    let mut stations: Vec<(FdbKey, Value)> = fixed.chain(learned).collect();
    stations.sort_by_key(|(key, _)| (key.vlan, key.mac.bytes()));
    let stations = stations.into_iter().map(|(key, mut station)| {
        station["mac"] = MacAddr(key.mac.bytes()).to_string().into();
        station["vlan"] = shown(key.vlan).into();
        station
    });
    stations.collect()
}

/// A bridge that looks at no tags is one on VLAN 1.
fn shown(vlan: u16) -> u16 {
    vlan.max(1)
}

/// As in the topology's facts: VLAN 1 goes without saying.
fn station(key: &[u8]) -> Option<String> {
    let key = bytemuck::try_pod_read_unaligned::<FdbKey>(key).ok()?;
    let mac = MacAddr(key.mac.bytes());
    Some(match shown(key.vlan) {
        1 => mac.to_string(),
        vlan => format!("{vlan}/{mac}"),
    })
}
