//! What is shown of tables that are made up.

use std::sync::atomic::AtomicU64;

use bytemuck::{NoUninit, Zeroable as _, bytes_of};
use ebpf_abi::{
    address::{Mac, V4, V6},
    multipath::Candidate,
    router::{NeighborKey, ROUTE_BLACKHOLE, ROUTE_GROUP, RouteKeyV4},
};

use super::*;
use crate::kernel::Entry;

#[derive(Default)]
struct Made(BTreeMap<&'static str, Vec<Entry>>);

impl Made {
    fn add<K: NoUninit, V: NoUninit>(&mut self, table: &'static str, key: K, value: V) {
        let entry = (bytes_of(&key).to_vec(), vec![bytes_of(&value).to_vec()]);
        self.0.entry(table).or_default().push(entry);
    }

    fn shown(&self) -> serde_json::Map<String, Value> {
        let ports = BTreeMap::from([(0, "lan".to_owned()), (1, "wan".to_owned())]);
        show(self, &ports)
    }
}

impl Tables for Made {
    fn entries(&self, table: &str) -> Vec<Entry> {
        self.0.get(table).cloned().unwrap_or_default()
    }

    fn memory(&self, _: &str) -> Box<dyn AsRef<[AtomicU64]>> {
        Box::new(Vec::new())
    }

    fn now(&self) -> u64 {
        10_000_000_000
    }
}

fn address(host: u8) -> V6 {
    V6::from_v4(V4::new([10, 0, 0, host]))
}

fn key(host: u8) -> NeighborKey {
    NeighborKey {
        port: 0,
        family: 4,
        address: address(host),
    }
}

#[test]
fn a_neighbor_that_is_static_and_heard_is_listed_once() {
    let mut tables = Made::default();
    let mac = |last| Mac::new([2, 0, 0, 0, 0, last]);
    tables.add(
        "static_neighbors",
        key(1),
        StaticNeighbor {
            mac: mac(1),
            pad: 0,
        },
    );
    for host in [1, 2] {
        let heard = Neighbor {
            mac: mac(9),
            heard: 5_000_000_000,
            ..Neighbor::UNKNOWN
        };
        tables.add("neighbors", key(host), heard);
    }
    assert_eq!(
        tables.shown()["neighbors"],
        json!([
            { "address": "10.0.0.1", "mac": "02:00:00:00:00:01", "port": "lan", "state": "static" },
            { "address": "10.0.0.2", "port": "lan", "state": "stale", "mac": "02:00:00:00:00:09", "age": 5 },
        ])
    );
}

#[test]
fn every_next_hop_is_listed_and_says_whether_it_is_active() {
    let mut tables = Made::default();
    let to = |second, entry| {
        (
            RouteKeyV4 {
                length: 16,
                address: V4::new([172, second, 0, 0]),
            },
            entry,
        )
    };
    for (key, entry) in [to(16, 5u32), to(17, 4)] {
        tables.add("routes_v4", key, RouteEntry::new(entry, 16));
    }
    let mut group = Group::zeroed();
    for (place, (number, cost)) in [(1u32, 1), (2, 1), (3, 7)].into_iter().enumerate() {
        let hop = Route {
            kind: ROUTE_VIA,
            port: 1,
            next_hop: address(number as u8),
            cost,
        };
        tables.add("next_hops", number, hop);
        group.members[place] = number;
    }
    let kind = |kind| Route {
        kind,
        ..Route::default()
    };
    tables.add(
        "next_hops",
        4u32,
        Route {
            cost: 2,
            ..kind(ROUTE_BLACKHOLE)
        },
    );
    tables.add("next_hops", 5u32, kind(ROUTE_GROUP));
    let active = [0, 1].map(|member| Candidate {
        member,
        address: address(member + 1),
        weight: 1,
    });
    group.spread(&active);
    tables.add("groups", 5u32, group);
    let shown = tables.shown()["routes"].clone();
    let percent = |number: usize| {
        let share = shown[number]["share"].as_str().expect("there are two");
        share
            .trim_end_matches('%')
            .parse::<u32>()
            .expect("a number")
    };
    assert_eq!(percent(0) + percent(1), 100);
    assert!(percent(0).abs_diff(50) < 6, "{shown}");
    let via = |via, share: &Value| json!({ "to": "172.16.0.0/16", "port": "wan", "type": "static", "via": via, "cost": 1, "active": true, "share": share });
    assert_eq!(
        shown,
        json!([
            via("10.0.0.1", &shown[0]["share"]),
            via("10.0.0.2", &shown[1]["share"]),
            { "to": "172.16.0.0/16", "port": "wan", "type": "static", "via": "10.0.0.3", "cost": 7, "active": false },
            { "to": "172.17.0.0/16", "type": "blackhole", "cost": 2, "active": true },
        ])
    );
}
