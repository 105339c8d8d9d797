//! Driver of `ddosMitigator`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_abi::{
    address::{V4, V6},
    ddos_mitigator::{
        LIST_DESTINATIONS, LIST_SOURCES, LISTS, Lengths, PrefixV4, PrefixV6, Settings,
        lengths_index,
    },
    prefix_set::{Address, Hits, Shape, room_for},
};
use serde_json::{Value, json};
use topology_schema::{Cube, Prefix};

use super::{Context, CubeDriver, Lowered, Table, Tables, index};
use crate::resource::{MapKind, Template};

pub(super) struct Driver;

impl CubeDriver for Driver {
    fn object(&self) -> &'static str {
        "ddos_mitigator"
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::DdosMitigator(spec) = context.cube else {
            return Lowered::default();
        };
        let (sources_v4, sources_v6) = entries(&spec.sources);
        let (destinations_v4, destinations_v6) = entries(&spec.destinations);
        let settings = Settings {
            sources_v4: shape::<V4>(&sources_v4),
            sources_v6: shape::<V6>(&sources_v6),
            destinations_v4: shape::<V4>(&destinations_v4),
            destinations_v6: shape::<V6>(&destinations_v6),
        };
        Lowered {
            tables: vec![
                list_v4("sources_v4", sources_v4),
                list_v6("sources_v6", sources_v6),
                list_v4("destinations_v4", destinations_v4),
                list_v6("destinations_v6", destinations_v6),
                Table::config(
                    "lengths",
                    MapKind::Array,
                    LISTS,
                    (4, size_of::<Lengths>()),
                    lengths(LIST_SOURCES, &spec.sources)
                        .chain(lengths(LIST_DESTINATIONS, &spec.destinations))
                        .collect::<Entries>(),
                ),
            ],
            globals: BTreeMap::from([("SETTINGS", Template::plain(bytes(&settings)))]),
        }
    }

    fn describe(&self, table: &str, key: &[u8]) -> Option<String> {
        let (field, family) = table.rsplit_once('_')?;
        let prefix = match family {
            "v4" => {
                let key = bytemuck::try_pod_read_unaligned::<PrefixV4>(key).ok()?;
                text(key.length, Ipv4Addr::from(key.address.bytes()).into())
            }
            "v6" => {
                let key = bytemuck::try_pod_read_unaligned::<PrefixV6>(key).ok()?;
                text(key.length, Ipv6Addr::from(key.address.bytes()).into())
            }
            _ => return None,
        };
        Some(format!("{field}/{prefix}"))
    }

    fn lists(&self) -> &'static [(&'static str, &'static str)] {
        &[("sources", ""), ("destinations", "")]
    }

    fn show(
        &self,
        tables: &dyn Tables,
        _: &BTreeMap<u32, String>,
    ) -> serde_json::Map<String, Value> {
        let list = |field: &str| -> Value {
            ["v4", "v6"]
                .iter()
                .flat_map(|family| {
                    let table = format!("{field}_{family}");
                    let mut entries = tables.entries(&table);
                    // A set has no order of its own.
                    entries.sort_by_cached_key(|(key, _)| order(key));
                    entries.into_iter().filter_map(move |(key, values)| {
                        let name = Driver.describe(&table, &key)?.split_once('/')?.1.to_owned();
                        let hits: Hits = bytemuck::try_pod_read_unaligned(values.first()?).ok()?;
                        Some(
                            json!({ "prefix": name, "packets": hits.packets, "bytes": hits.bytes }),
                        )
                    })
                })
                .collect()
        };
        ["sources", "destinations"]
            .into_iter()
            .map(|field| (field.to_owned(), list(field)))
            .collect()
    }
}

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The prefixes that a table for these entries has room for.
fn room<A: Address>(entries: &Entries) -> u32 {
    room_for::<A>(entries.len() as u32)
}

fn shape<A: Address>(entries: &Entries) -> Shape {
    Shape::new::<A>(room::<A>(entries))
}

fn list_v4(name: &'static str, entries: Entries) -> Table {
    let sizes = (size_of::<PrefixV4>(), size_of::<Hits>());
    let room = room::<V4>(&entries);
    Table::config(name, MapKind::PrefixSetV4, room, sizes, entries)
}

fn list_v6(name: &'static str, entries: Entries) -> Table {
    let sizes = (size_of::<PrefixV6>(), size_of::<Hits>());
    let room = room::<V6>(&entries);
    Table::config(name, MapKind::PrefixSetV6, room, sizes, entries)
}

/// The entries of a list, by family. What they count is the data plane's.
fn entries(prefixes: &[Prefix]) -> (Entries, Entries) {
    let (mut v4, mut v6) = (Entries::new(), Entries::new());
    for prefix in prefixes {
        let length = u32::from(prefix.length());
        let nothing = bytes(&Hits::default());
        match prefix.address() {
            IpAddr::V4(address) => {
                let address = V4::new(address.octets());
                v4.insert(bytes(&PrefixV4 { length, address }), nothing);
            }
            IpAddr::V6(address) => {
                let address = V6::new(address.octets());
                v6.insert(bytes(&PrefixV6 { length, address }), nothing);
            }
        }
    }
    (v4, v6)
}

/// The lengths of a list, for each family that it has.
fn lengths(list: u32, prefixes: &[Prefix]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let families = [(4, 32), (6, 128)].into_iter();
    families.filter_map(move |(family, longest)| {
        let mut lengths = Lengths::default();
        let prefixes = prefixes.iter();
        for prefix in prefixes.filter(|prefix| prefix.address().is_ipv4() == (family == 4)) {
            lengths.add(prefix.length().into(), longest);
        }
        let entry = (index(lengths_index(list, family)), bytes(&lengths));
        (lengths != Lengths::default()).then_some(entry)
    })
}

/// Prefixes by their address, and networks before what is in them.
fn order(key: &[u8]) -> (Vec<u8>, u32) {
    match key.split_first_chunk::<4>() {
        Some((length, address)) => (address.to_vec(), u32::from_ne_bytes(*length)),
        None => (key.to_vec(), 0),
    }
}

fn bytes<T: bytemuck::NoUninit>(value: &T) -> Vec<u8> {
    bytemuck::bytes_of(value).to_vec()
}

fn text(length: u32, address: IpAddr) -> String {
    u8::try_from(length)
        .ok()
        .and_then(|length| Prefix::containing(address, length))
        .map_or_else(
            || format!("{address}/{length}"),
            |prefix| prefix.to_string(),
        )
}
