//! Driver of `nat`.

mod show;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use ebpf_abi::{
    address::V6,
    chain::Direction,
    nat::{
        Contact, ContactKey, FEATURE_DESTINATION, FEATURE_FAMILIES, FEATURE_KNOWN, FEATURE_OPEN,
        FEATURE_PAIRS, FEATURE_PREFIX, FEATURE_SOURCE, FIRST_POOL, ForwardKey, LIST_NAT64,
        LIST_SNAT, Mapping, MappingKey, PORT_KINDS, Place, Pool, Ports, PrefixKey, PrefixRule,
        SWEEP_PART, SWEEP_STEP, Session, Settings, SourceKey, SourceRule, State, WORK_WORDS,
    },
};
use serde_json::Value;
use topology_schema::{
    Cube, Prefix, Seconds,
    cube::nat::{Filtering, MAX_RULES, Spec},
};

use super::{Context, CubeDriver, Lowered, Sweep, Table, Tables, index, room_for};
use crate::{
    resource::{MapKind, Template},
    rows::Rows,
};

/// Datagrams in fragments that are under way at a time.
const FRAGMENTS: u32 = 4096;
/// Entries of a port range: one for each block of it that is a power of two, at most.
const BLOCKS: usize = 30;

/// Bytes in which the data plane sums a packet (`ebpf_programs::icmp`).
const SCRATCH: usize = 2048;

pub(super) struct Driver;

impl CubeDriver for Driver {
    fn object(&self) -> &'static str {
        "nat"
    }

    fn has_second(&self, cube: &Cube, _: Direction) -> bool {
        matches!(cube, Cube::Nat(spec) if spec.prefix().is_some())
    }

    fn turns(&self, cube: &Cube) -> bool {
        matches!(cube, Cube::Nat(spec) if features(spec) & (FEATURE_SOURCE | FEATURE_DESTINATION | FEATURE_PREFIX) != 0)
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::Nat(spec) = context.cube else {
            return Lowered::default();
        };
        let sizes = Sizes::of(context, spec);
        let pools = tables::pools(context, spec);
        let settings = settings(spec, sizes.sessions);
        let trie = |name, most: usize, size, entries| {
            Table::config(name, MapKind::LpmTrie, most as u32, size, entries)
        };
        let tables = vec![
            Table::config(
                "pools",
                MapKind::Array,
                sizes.pools,
                (4, size_of::<Pool>()),
                pools
                    .iter()
                    .map(|(number, pool)| (index(*number), bytemuck::bytes_of(pool).to_vec()))
                    .collect::<Rows>(),
            ),
            trie(
                "sources",
                2 * (MAX_RULES + 1),
                (size_of::<SourceKey>(), size_of::<SourceRule>()),
                tables::sources(context, spec),
            ),
            trie(
                "forwards",
                BLOCKS * MAX_RULES,
                (size_of::<ForwardKey>(), size_of::<ebpf_abi::nat::Forward>()),
                tables::forwards(spec),
            ),
            trie(
                "prefixes",
                4 * MAX_RULES,
                (size_of::<PrefixKey>(), size_of::<PrefixRule>()),
                tables::prefixes(spec),
            ),
            hash(
                "externals",
                (size_of::<V6>(), 4),
                tables::externals(context, spec),
            ),
            hash(
                "reserved",
                (4, size_of::<Ports>()),
                tables::reserved(spec, &pools),
            ),
            // For `pcn show`: the data plane has them as constants.
            Table::config(
                "settings",
                MapKind::Array,
                1,
                (4, size_of::<Settings>()),
                BTreeMap::from([(index(0), bytemuck::bytes_of(&settings).to_vec())]),
            ),
        ];
        Lowered {
            tables: tables.into_iter().chain(sizes.learned()).collect(),
            globals: BTreeMap::from([("SETTINGS", Template::plain(bytemuck::bytes_of(&settings)))]),
        }
    }

    fn numbered(&self, cube: &Cube) -> BTreeMap<String, u32> {
        let Cube::Nat(spec) = cube else {
            return BTreeMap::new();
        };
        spec.ranges()
            .map(|range| (range.to_string(), range.count() as u32))
            .collect()
    }

    fn describe(&self, table: &str, key: &[u8]) -> Option<String> {
        match table {
            "sources" => {
                let key = bytemuck::try_pod_read_unaligned::<SourceKey>(key).ok()?;
                let prefix = prefix(key.address, key.length.checked_sub(32)?)?;
                match key.list {
                    LIST_SNAT => Some(format!("snat/{prefix}")),
                    LIST_NAT64 if prefix.length() == 0 => Some("nat64".to_owned()),
                    LIST_NAT64 => Some(format!("nat64/source/{prefix}")),
                    _ if prefix.length() == 0 => Some("masquerade".to_owned()),
                    _ => Some(format!("masquerade/{prefix}")),
                }
            }
            "forwards" => tables::forward_name(key),
            _ => None,
        }
    }

    fn lists(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("masquerade", ""),
            ("snat", "source"),
            ("dnat", "destination"),
            ("portForward", "protocol destination port"),
            ("static", "internal"),
            ("nptv6", "internal"),
            ("nat46", "internal"),
            ("nat64/source", ""),
        ]
    }

    fn flush(&self, list: &str, now: u64) -> Option<(&'static str, Vec<u8>, Vec<u8>)> {
        let state = State {
            flushed: now,
            swept: 0,
        };
        (list == "sessions").then(|| ("state", index(0), bytemuck::bytes_of(&state).to_vec()))
    }

    fn sweep(&self, list: &str, first: &mut dyn FnMut(&str) -> Option<Vec<u8>>) -> Option<Sweep> {
        if list != "sessions" {
            return None;
        }
        let bytes = first("settings")?;
        let settings: Settings = bytemuck::try_pod_read_unaligned(&bytes).ok()?;
        Some(Sweep {
            part: SWEEP_PART,
            globals: BTreeMap::from([("SETTINGS", Template::plain(bytes))]),
            tables: &["flows", "mappings", "sessions", "state", "used", "work"],
            times: settings.sessions.div_ceil(SWEEP_STEP),
        })
    }

    fn show(
        &self,
        tables: &dyn Tables,
        _: &BTreeMap<u32, String>,
    ) -> serde_json::Map<String, Value> {
        show::show(tables)
    }
}

fn hash(name: &'static str, sizes: (usize, usize), entries: BTreeMap<Vec<u8>, Vec<u8>>) -> Table {
    Table::config(name, MapKind::Hash, room_for(entries.len()), sizes, entries)
}

/// What the settings ask for.
fn features(spec: &Spec) -> u64 {
    let features = [
        (
            FEATURE_SOURCE,
            !spec.masquerade.is_off() || !spec.snat.is_empty(),
        ),
        (
            FEATURE_DESTINATION,
            !spec.dnat.is_empty() || !spec.port_forward.is_empty(),
        ),
        (
            FEATURE_PREFIX,
            !spec.static_prefixes.is_empty() || !spec.nptv6.is_empty(),
        ),
        (
            FEATURE_OPEN,
            spec.filtering != Filtering::AddressAndPortDependent,
        ),
        (FEATURE_KNOWN, spec.filtering == Filtering::AddressDependent),
        (FEATURE_FAMILIES, spec.prefix().is_some()),
        (FEATURE_PAIRS, !spec.nat46.is_empty()),
    ];
    features
        .into_iter()
        .filter_map(|(feature, on)| on.then_some(feature))
        .sum()
}

fn settings(spec: &Spec, sessions: u32) -> Settings {
    let nanoseconds = |seconds: Seconds| u64::from(seconds.get()) * 1_000_000_000;
    let (timeouts, prefix) = (&spec.timeouts, spec.prefix());
    Settings {
        features: features(spec),
        tcp_established: nanoseconds(timeouts.tcp_established),
        tcp_transitory: nanoseconds(timeouts.tcp_transitory),
        udp: nanoseconds(timeouts.udp),
        icmp: nanoseconds(timeouts.icmp),
        other: nanoseconds(timeouts.other),
        sessions,
        prefix_length: prefix.map_or(0, |prefix| prefix.length().into()),
        prefix: prefix.map_or(V6::UNSPECIFIED, |prefix| words(prefix.address())),
    }
}

/// Sizes of what the data plane learns. These tables belong together: a session knows its mapping,
/// a mapping its port. So when one of them is made anew, all of them must be: each has a few
/// entries more than it needs, by the size of the others.
struct Sizes {
    sessions: u32,
    pools: u32,
    /// Entries of `contacts`: as many as sessions where somebody asks for them.
    contacts: u32,
}

impl Sizes {
    fn of(context: &Context<'_>, spec: &Spec) -> Self {
        let addresses = context.allocation.number_limit(context.name);
        let sessions = spec.sessions.get().next_power_of_two();
        Self {
            sessions,
            contacts: if spec.filtering == Filtering::AddressDependent {
                sessions
            } else {
                1
            },
            pools: FIRST_POOL
                + if addresses == 0 {
                    0
                } else {
                    addresses.next_power_of_two().max(64)
                },
        }
    }

    fn learned(&self) -> impl Iterator<Item = Table> {
        let (by_sessions, by_pools) = (self.sessions.ilog2(), self.pools.ilog2());
        let sessions = self.sessions + by_pools;
        let hash = |name, entries, key, value| {
            Table::learned(name, MapKind::PreallocatedHash, entries, (key, value))
        };
        let array =
            |name, entries, value| Table::learned(name, MapKind::Array, entries, (4, value));
        let key = size_of::<ebpf_abi::flow::FlowKey>();
        [
            array("sessions", sessions, size_of::<Session>()),
            hash("flows", 2 * sessions, key, size_of::<Place>()),
            hash(
                "mappings",
                2 * sessions,
                size_of::<MappingKey>(),
                size_of::<Mapping>(),
            ),
            array(
                "used",
                self.pools * PORT_KINDS + by_sessions,
                size_of::<Ports>(),
            ),
            Table::learned(
                "contacts",
                MapKind::LruHash,
                self.contacts,
                (size_of::<ContactKey>(), size_of::<Contact>()),
            ),
            array("state", 1, size_of::<State>()),
            Table::learned("hands", MapKind::PerCpuArray, 1, (4, 4)),
            Table::learned("scratch", MapKind::PerCpuArray, 1, (4, SCRATCH)),
            Table::learned("work", MapKind::PerCpuArray, 1, (4, 8 * WORK_WORDS)),
            Table::learned(
                "fragments",
                MapKind::LruHash,
                FRAGMENTS,
                (
                    size_of::<ebpf_abi::flow::FragmentKey>(),
                    size_of::<ebpf_abi::flow::FragmentPorts>(),
                ),
            ),
        ]
        .into_iter()
    }
}

/// The number of the pool of an entry's first address.
fn pool_number(context: &Context<'_>, range: topology_schema::AddressRange) -> Option<u32> {
    let number = context
        .allocation
        .number(context.name, &range.to_string())?;
    Some(FIRST_POOL + number - 1)
}

/// An address as the data plane has it.
fn words(address: IpAddr) -> V6 {
    V6::new(match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}

/// The same for people.
fn address(words: V6) -> IpAddr {
    Ipv6Addr::from(words.bytes()).to_canonical()
}

/// Bits of a prefix as the data plane counts them.
fn bits(prefix: &Prefix) -> u32 {
    let family = if prefix.address().is_ipv4() { 96 } else { 0 };
    family + u32::from(prefix.length())
}

/// A prefix of the data plane's; IPv4 prefixes have 96 bits or more.
fn prefix(words: V6, bits: u32) -> Option<Prefix> {
    let address = address(words);
    let length = if address.is_ipv4() && bits >= 96 {
        bits - 96
    } else {
        bits
    };
    Prefix::containing(address, length.try_into().ok()?)
}

/// Addresses that belong to whoever the cube sits on, as far as the topology knows them.
type Own = BTreeSet<IpAddr>;
