//! Driver of `bridge`.

use std::collections::BTreeMap;

use ebpf_abi::{
    address::Mac,
    bridge::{FdbEntry, FdbKey, Settings, State, flood_len},
    port::PORT_ISOLATED,
};
use serde_json::{Value, json};
use topology_schema::{Cube, MacAddr, Name};

use super::{Context, CubeDriver, Lowered, Table, Tables, index, room_for};
use crate::resource::{MapKind, Template};

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
        match spec.ports.get(port) {
            Some(settings) if settings.isolated => PORT_ISOLATED,
            _ => 0,
        }
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::Bridge(spec) = context.cube else {
            return Lowered::default();
        };
        let static_fdb: BTreeMap<_, _> = spec
            .fdb
            .iter()
            .filter_map(|entry| {
                let key = FdbKey {
                    mac: Mac::new(entry.mac.0),
                    vlan: 0,
                };
                Some((
                    bytemuck::bytes_of(&key).to_vec(),
                    index(context.port(&entry.port)?),
                ))
            })
            .collect();
        let ports = context.linked_ports();
        let numbers =
            std::iter::once(ports.len() as u32).chain(ports.iter().map(|(_, port)| *port));
        let flood = (0..)
            .zip(numbers)
            .map(|(at, number): (u32, u32)| (at, index(number)))
            .collect();
        let settings = Settings {
            aging_time: u64::from(spec.aging_time.get()) * 1_000_000_000,
        };
        let key = size_of::<FdbKey>();
        Lowered {
            tables: vec![
                Table::config(
                    "static_fdb",
                    MapKind::Hash,
                    room_for(static_fdb.len()),
                    (key, 4),
                    static_fdb,
                ),
                Table::banked("flood", flood_len(context.capacity()), 4, flood),
                Table::learned(
                    "fdb",
                    MapKind::Hash,
                    spec.fdb_size.get(),
                    (key, size_of::<FdbEntry>()),
                ),
                Table::learned("state", MapKind::Array, 1, (4, size_of::<State>())),
            ],
            globals: BTreeMap::from([("SETTINGS", Template::plain(bytemuck::bytes_of(&settings)))]),
        }
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
        &[("fdb", "mac")]
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
        let fixed = tables
            .entries("static_fdb")
            .into_iter()
            .filter_map(|(key, values)| {
                let port = bytemuck::try_pod_read_unaligned::<u32>(values.first()?).ok()?;
                Some(json!({ "mac": station(&key)?, "port": name(port), "type": "static" }))
            });
        let now = tables.now();
        let learned = tables.entries("fdb").into_iter().filter_map(|(key, values)| {
            let entry = bytemuck::try_pod_read_unaligned::<FdbEntry>(values.first()?).ok()?;
            let age = now.saturating_sub(entry.seen) / 1_000_000_000;
            Some(json!({ "mac": station(&key)?, "port": name(entry.port), "type": "learned", "age": age }))
        });
        let mut fdb: Vec<Value> = fixed.chain(learned).collect();
        fdb.sort_by_key(|entry| entry["mac"].to_string());
        serde_json::Map::from_iter([("fdb".to_owned(), fdb.into())])
    }
}

fn station(key: &[u8]) -> Option<String> {
    let key = bytemuck::try_pod_read_unaligned::<FdbKey>(key).ok()?;
    Some(MacAddr(key.mac.bytes()).to_string())
}
