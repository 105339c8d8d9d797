//! Driver of `ddosMitigator`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_abi::{
    address::{V4, V6},
    ddos_mitigator::{HitKey, Hits, LIST_DESTINATIONS, LIST_SOURCES, PrefixV4, PrefixV6},
};
use serde_json::{Value, json};
use topology_schema::{Cube, Prefix, cube::ddos_mitigator::MAX_PREFIXES};

use super::{Context, CubeDriver, Lowered, Table, Tables};
use crate::resource::MapKind;

/// List entries that are counted; beyond that many with hits, further ones are dropped but not
/// counted.
const COUNTED: u32 = 65536;

pub(super) struct Driver;

impl CubeDriver for Driver {
    fn object(&self) -> &'static str {
        "ddos_mitigator"
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::DdosMitigator(spec) = context.cube else {
            return Lowered::default();
        };
        let (sources_v4, sources_v6) = entries(LIST_SOURCES, &spec.sources);
        let (destinations_v4, destinations_v6) = entries(LIST_DESTINATIONS, &spec.destinations);
        // A trie takes memory for what is in it, so it can be made for the most.
        let trie = |name, entries, key| {
            Table::config(
                name,
                MapKind::LpmTrie,
                MAX_PREFIXES as u32,
                (key, size_of::<HitKey>()),
                entries,
            )
        };
        let (v4, v6) = (size_of::<PrefixV4>(), size_of::<PrefixV6>());
        Lowered {
            tables: vec![
                trie("sources_v4", sources_v4, v4),
                trie("sources_v6", sources_v6, v6),
                trie("destinations_v4", destinations_v4, v4),
                trie("destinations_v6", destinations_v6, v6),
                Table::learned(
                    "hits",
                    MapKind::PerCpuHash,
                    COUNTED,
                    (size_of::<HitKey>(), size_of::<Hits>()),
                ),
            ],
            ..Lowered::default()
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
        let mut hits: BTreeMap<Vec<u8>, Hits> = BTreeMap::new();
        for (key, values) in tables.entries("hits") {
            let sum = hits.entry(key).or_default();
            for value in values
                .iter()
                .filter_map(|value| bytemuck::try_pod_read_unaligned::<Hits>(value).ok())
            {
                sum.packets += value.packets;
                sum.bytes += value.bytes;
            }
        }
        let list = |field: &str| -> Value {
            ["v4", "v6"]
                .iter()
                .flat_map(|family| {
                    let table = format!("{field}_{family}");
                    tables
                        .entries(&table)
                        .into_iter()
                        .filter_map(move |(key, values)| {
                            let name = Driver.describe(&table, &key)?.split_once('/')?.1.to_owned();
                            Some((name, values.into_iter().next()?))
                        })
                })
                .map(|(prefix, counter)| {
                    let Hits { packets, bytes } = hits.get(&counter).copied().unwrap_or_default();
                    json!({ "prefix": prefix, "packets": packets, "bytes": bytes })
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

/// The entries of a list, by family.
fn entries(list: u16, prefixes: &[Prefix]) -> (Entries, Entries) {
    let (mut v4, mut v6) = (Entries::new(), Entries::new());
    for prefix in prefixes {
        let length = u32::from(prefix.length());
        match prefix.address() {
            IpAddr::V4(address) => {
                let address = V4::new(address.octets());
                let hit = HitKey {
                    list,
                    family: 4,
                    length,
                    address: V6::from_v4(address),
                };
                v4.insert(bytes(&PrefixV4 { length, address }), bytes(&hit));
            }
            IpAddr::V6(address) => {
                let address = V6::new(address.octets());
                v6.insert(
                    bytes(&PrefixV6 { length, address }),
                    bytes(&HitKey {
                        list,
                        family: 6,
                        length,
                        address,
                    }),
                );
            }
        }
    }
    (v4, v6)
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
