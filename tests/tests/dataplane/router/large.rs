//! Large route tables: what data planes find in them, a million addresses at a time.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use bytemuck::bytes_of;
use ebpf_abi::{
    address::V6,
    fib::BUCKET,
    lookup::{self, Settings},
    router::{RouteEntry, RouteKeyV4, RouteKeyV6, Routing},
};
use integration_tests::{
    cube::{Globals, Kind},
    packet::{Packet, ether, ipv4, ipv6, udp},
    require,
    test_run::{Gso, Hook, Verdict},
};

use super::*;

/// Addresses looked up with one run.
const BATCH: usize = 1 << 16;

/// A generator of numbers, the same at every run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

/// Prefixes with lengths as they are on the Internet: from /8 to /24, most of them long, and a few
/// longer ones.
fn prefixes_v4(count: usize) -> Vec<(u32, RouteEntry)> {
    let mut random = Random(1);
    let mut routes = BTreeMap::new();
    while routes.len() < count {
        let length = match random.next() % 100 {
            0 => 8 + random.next() % 8,
            1..=9 => 16 + random.next() % 4,
            10..=39 => 20 + random.next() % 4,
            40..=98 => 24,
            _ => 25 + random.next() % 8,
        } as u8;
        let address = random.next() as u32 & u32::MAX << (32 - length);
        let number = 1 + random.next() as u32 % 1000;
        routes.insert((address, length), RouteEntry::new(number, length));
    }
    let sorted = routes
        .into_iter()
        .map(|((address, _), entry)| (address, entry));
    sorted.collect()
}

/// The same for IPv6, below 2000::/3.
fn prefixes_v6(count: usize) -> Vec<(u128, RouteEntry)> {
    let mut random = Random(2);
    let mut routes = BTreeMap::new();
    while routes.len() < count {
        let length = match random.next() % 100 {
            0..=4 => 20 + random.next() % 9,
            5..=24 => 29 + random.next() % 4,
            25..=44 => 33 + random.next() % 15,
            45..=94 => 48,
            95..=97 => 49 + random.next() % 16,
            _ => 65 + random.next() % 64,
        } as u8;
        // Not all of them far from one another.
        let address = match random.next() % 2 {
            0 => random.wide() >> 3 | 1 << 125,
            _ => random.wide() >> 20 | 0x20010 << 108,
        } & u128::MAX << (128 - length);
        let number = 1 + random.next() as u32 % 1000;
        routes.insert((length, address), RouteEntry::new(number, length));
    }
    let sorted = routes
        .into_iter()
        .map(|((_, address), entry)| (address, entry));
    sorted.collect()
}

/// The longest prefix of each address by one walk through all prefixes in order: an oracle that has
/// nothing in common with the tables. `last` is the last address of a prefix.
fn longest<A: Ord + Copy>(
    routes: &[(A, RouteEntry)],
    questions: &mut [A],
    last: impl Fn(A, u32) -> A,
) -> Vec<RouteEntry> {
    let mut routes = routes.to_vec();
    routes.sort_unstable_by_key(|(address, entry)| (*address, entry.length()));
    questions.sort_unstable();
    let mut routes = routes.into_iter().peekable();
    // Those that contain where the walk is, each inside the one before.
    let mut around: Vec<(A, RouteEntry)> = Vec::new();
    let mut answers = Vec::new();
    for question in questions {
        while let Some((address, entry)) = routes.next_if(|(address, _)| address <= question) {
            while around.pop_if(|(end, _)| *end < address).is_some() {}
            around.push((last(address, entry.length()), entry));
        }
        while around.pop_if(|(end, _)| end < question).is_some() {}
        answers.push(around.last().map_or(RouteEntry::NONE, |(_, entry)| *entry));
    }
    answers
}

/// Asks for a million addresses, and compares with the oracle.
fn compare<A: Ord + Copy + std::fmt::Debug>(
    looker: &Looker,
    routes: &[(A, RouteEntry)],
    questions: &mut [A],
    last: impl Fn(A, u32) -> A,
    word: impl Fn(A) -> V6,
) {
    let expected = longest(routes, questions, last);
    for (questions, expected) in questions.chunks(BATCH).zip(expected.chunks(BATCH)) {
        let words: Vec<V6> = questions.iter().map(|question| word(*question)).collect();
        let (answers, _) = looker.ask(&words);
        for ((question, answer), expected) in questions.iter().zip(answers).zip(expected) {
            assert_eq!(answer, *expected, "{question:x?}");
        }
    }
}

/// A program that looks up in one table.
struct Looker {
    cube: Cube,
}

impl Looker {
    fn new(table: u32, entries: &[(&str, usize)]) -> Self {
        let settings = Settings {
            table,
            count: BATCH as u32,
        };
        let globals = Globals::from([("SETTINGS".to_owned(), bytes_of(&settings).to_vec())]);
        let mut capacities =
            BTreeMap::from([("questions", BATCH as u32), ("answers", BATCH as u32)]);
        capacities.extend(
            entries
                .iter()
                .map(|(table, entries)| (*table, *entries as u32)),
        );
        let cube = Kind::parse("lookup").load(Hook::Tc, &globals, &capacities);
        Self { cube }
    }

    /// Asks for addresses, at most [`BATCH`]; says how long that took.
    fn ask(&self, addresses: &[V6]) -> (Vec<RouteEntry>, Duration) {
        self.cube.write_array("questions", addresses);
        let start = Instant::now();
        self.cube.run(0, &[0; 64], Default::default());
        let took = start.elapsed();
        (self.cube.read_array("answers", addresses.len()), took)
    }
}

/// Nanoseconds of one lookup: the best of several runs, less what the rest takes.
fn measure(looker: &Looker, addresses: &[V6]) -> f64 {
    let nothing = Looker::new(lookup::NOWHERE, &[]);
    let best = |looker: &Looker| {
        let runs = (0..7).map(|_| looker.ask(addresses).1);
        runs.min().expect("several").as_nanos() as f64 / addresses.len() as f64
    };
    best(looker) - best(&nothing)
}

fn v4_word(address: u32) -> V6 {
    word(Ipv4Addr::from(address).into())
}

fn v6_word(address: u128) -> V6 {
    word(Ipv6Addr::from(address).into())
}

/// Addresses inside routes and anywhere.
fn questions_v4(routes: &[(u32, RouteEntry)], random: &mut Random) -> Vec<u32> {
    let mut question = |_| {
        let anywhere = random.next() as u32;
        match random.next() % 4 {
            0 => anywhere,
            _ => {
                let (address, entry) = routes[random.next() as usize % routes.len()];
                address | anywhere.checked_shr(entry.length()).unwrap_or(0)
            }
        }
    };
    (0..BATCH).map(&mut question).collect()
}

fn questions_v6(routes: &[(u128, RouteEntry)], random: &mut Random) -> Vec<u128> {
    let mut question = |_| {
        let anywhere = random.wide();
        match random.next() % 4 {
            0 => anywhere >> 3 | 1 << 125,
            _ => {
                let (address, entry) = routes[random.next() as usize % routes.len()];
                address | anywhere.checked_shr(entry.length()).unwrap_or(0)
            }
        }
    };
    (0..BATCH).map(&mut question).collect()
}

#[test]
fn a_million_v4_routes_are_looked_up_as_a_linear_search_would() {
    if !require::root() {
        return;
    }
    let routes = prefixes_v4(1_000_000);
    for (table, name) in [
        (lookup::FIB_V4, "fib_v4"),
        (lookup::DYNAMIC_V4, "dynamic_v4"),
    ] {
        let words = fib::words_for_v4(routes.len());
        let looker = Looker::new(table, &[(name, words)]);
        let memory = looker.cube.memory(name);
        let start = Instant::now();
        fib::load_v4(memory.as_ref(), &routes).expect("there is room");
        let took = start.elapsed();
        println!("{name}: 1,000,000 routes in {took:?}, {} MiB", words >> 17);
        assert!(took < Duration::from_millis(1500), "{took:?}");
        let mut random = Random(3);
        let mut questions: Vec<u32> = (0..16)
            .flat_map(|_| questions_v4(&routes, &mut random))
            .collect();
        let last = |address: u32, length| address | u32::MAX.checked_shr(length).unwrap_or(0);
        compare(&looker, &routes, &mut questions, last, v4_word);
        let mut writer = fib::V4Writer::open(memory.as_ref()).expect("it is a table");
        let start = Instant::now();
        for (address, entry) in routes.iter().step_by(1009) {
            let other = RouteEntry::new(entry.next_hop() + 1, entry.length() as u8);
            writer
                .set(memory.as_ref(), *address, other)
                .expect("it is there");
        }
        let each = start.elapsed() / (routes.len() as u32 / 1009);
        println!("{name}: one route changed in {each:?}");
        assert!(each < Duration::from_millis(1), "{each:?}");
    }
}

#[test]
fn a_million_v6_routes_are_looked_up_as_a_linear_search_would() {
    if !require::root() {
        return;
    }
    let routes = prefixes_v6(1_000_000);
    let words = fib::words_for_v6(routes.len());
    let looker = Looker::new(lookup::FIB_V6, &[("fib_v6", words / BUCKET as usize)]);
    let memory = looker.cube.memory("fib_v6");
    let start = Instant::now();
    fib::load_v6(memory.as_ref(), &routes).expect("there is room");
    let took = start.elapsed();
    println!("fib_v6: 1,000,000 routes in {took:?}, {} MiB", words >> 17);
    let mut random = Random(4);
    let mut questions: Vec<u128> = (0..16)
        .flat_map(|_| questions_v6(&routes, &mut random))
        .collect();
    let last = |address: u128, length| address | u128::MAX.checked_shr(length).unwrap_or(0);
    compare(&looker, &routes, &mut questions, last, v6_word);
    let mut writer = fib::V6Writer::open(memory.as_ref()).expect("it is a table");
    let start = Instant::now();
    for (address, entry) in routes.iter().step_by(1009) {
        let other = RouteEntry::new(entry.next_hop() + 1, entry.length() as u8);
        writer
            .set(memory.as_ref(), *address, other)
            .expect("it is there");
    }
    let each = start.elapsed() / (routes.len() as u32 / 1009);
    println!("fib_v6: one route changed in {each:?}");
    assert!(each < Duration::from_millis(1), "{each:?}");
}

/// Not a test: figures for docs/decisions/0017-routes.md.
#[test]
#[ignore = "measures; run alone on an idle machine"]
fn figures() {
    if !require::root() {
        return;
    }
    println!("routes | trie v4 | fib v4 | dynamic v4 | trie v6 | fib v6 (ns per lookup)");
    for count in [1, 16, 64, 256, 1000, 4000, 16_000, 100_000, 1_000_000] {
        let mut random = Random(5);
        let v4 = prefixes_v4(count);
        let questions: Vec<V6> = questions_v4(&v4, &mut random)
            .into_iter()
            .map(v4_word)
            .collect();
        let trie = Looker::new(lookup::TRIE_V4, &[("routes_v4", count)]);
        for (address, entry) in &v4 {
            let key = RouteKeyV4 {
                length: entry.length(),
                address: V4::new(address.to_be_bytes()),
            };
            trie.cube.write("routes_v4", key, *entry);
        }
        let trie = measure(&trie, &questions);
        let [fast, small] = [
            (lookup::FIB_V4, "fib_v4"),
            (lookup::DYNAMIC_V4, "dynamic_v4"),
        ]
        .map(|(table, name)| {
            let words = fib::words_for_v4(count);
            let looker = Looker::new(table, &[(name, words)]);
            let memory = looker.cube.memory(name);
            fib::load_v4(memory.as_ref(), &v4).expect("there is room");
            measure(&looker, &questions)
        });
        let v6 = prefixes_v6(count);
        let questions: Vec<V6> = questions_v6(&v6, &mut random)
            .into_iter()
            .map(v6_word)
            .collect();
        let trie_v6 = Looker::new(lookup::TRIE_V6, &[("routes_v6", count)]);
        for (address, entry) in &v6 {
            let key = RouteKeyV6 {
                length: entry.length(),
                address: V6::new(address.to_be_bytes()),
            };
            trie_v6.cube.write("routes_v6", key, *entry);
        }
        let trie_v6 = measure(&trie_v6, &questions);
        let words = fib::words_for_v6(count);
        let looker = Looker::new(lookup::FIB_V6, &[("fib_v6", words / BUCKET as usize)]);
        fib::load_v6(looker.cube.memory("fib_v6").as_ref(), &v6).expect("there is room");
        let fib_v6 = measure(&looker, &questions);
        println!("{count} | {trie:.0} | {fast:.0} | {small:.0} | {trie_v6:.0} | {fib_v6:.0}");
    }
}

/// A router with static routes in large tables, and dynamic ones beside them.
#[test]
fn the_longer_prefix_counts_and_of_equal_ones_the_static_one() {
    if !require::root() {
        return;
    }
    let routing = Routing {
        large_v4: 1,
        large_v6: 1,
        dynamic: 1,
        groups: 0,
    };
    let globals = Globals::from([("ROUTING".to_owned(), bytes_of(&routing).to_vec())]);
    for hook in Hook::ALL {
        let buckets = fib::words_for_v6(100) as u32 / BUCKET;
        let capacities = BTreeMap::from([
            ("fib_v4", fib::words_for_v4(100) as u32),
            ("dynamic_v4", fib::words_for_v4(100) as u32),
            ("fib_v6", buckets),
            ("dynamic_v6", buckets),
            ("dynamic_next_hops", 16),
        ]);
        let cube = Kind::parse("router").load(hook, &globals, &capacities);
        four_ports(&cube);
        know_neighbors(&cube);
        fill(&cube);
        for (destination, port) in [
            ([172, 16, 5, 5], Some(1)),
            ([172, 17, 5, 5], Some(2)),
            ([172, 18, 5, 5], Some(1)),
            ([10, 0, 2, 2], Some(2)),
            ([203, 0, 113, 1], None),
            ([198, 51, 100, 9], Some(2)),
        ] {
            let packet = ether(A, mac(0)) / ipv4(v4(0, 2), destination.into()) / udp(1, 2);
            assert_eq!(leaves(&cube, &packet), port, "{destination:?} on {hook:?}");
        }
        for (destination, port) in [
            ("2001:db8:900:5::5", Some(1)),
            ("2001:db8:900:7::5", Some(2)),
            ("2001:db8:2::2", Some(2)),
            ("3fff::1", None),
            ("2001:db8:a00::1", Some(2)),
        ] {
            let destination: Ipv6Addr = destination.parse().expect("an address");
            let packet = ether(A, mac(0)) / ipv6(v6(0, 2), destination) / udp(1, 2);
            assert_eq!(leaves(&cube, &packet), port, "{destination} on {hook:?}");
        }
    }
}

/// Two next hops of each sort, and the routes to them.
fn fill(cube: &Cube) {
    let via = |port: u8, address: IpAddr| route(ROUTE_VIA, port, address);
    let connected = route(ROUTE_CONNECTED, 2, v4(2, 1).into());
    cube.write("next_hops", 21u32, via(1, v4(1, 2).into()));
    cube.write("next_hops", 22u32, connected);
    cube.write("next_hops", 23u32, via(1, v6(1, 2).into()));
    cube.write("dynamic_next_hops", 1u32, via(2, v4(2, 2).into()));
    cube.write("dynamic_next_hops", 2u32, via(2, v6(2, 2).into()));
    let add_v4 = |table: &str, routes: &[([u8; 4], u8, u32)]| {
        let memory = cube.memory(table);
        let mut writer = fib::V4Writer::open(memory.as_ref()).expect("it is a table");
        for (address, length, number) in routes {
            let entry = RouteEntry::new(*number, *length);
            let address = u32::from_be_bytes(*address);
            writer
                .set(memory.as_ref(), address, entry)
                .expect("there is room");
        }
    };
    let fixed = [
        ([172, 16, 0, 0], 12, 21),
        ([10, 0, 2, 0], 24, 22),
        ([172, 18, 0, 0], 16, 21),
    ];
    add_v4("fib_v4", &fixed);
    let dynamic = [
        ([172, 16, 0, 0], 12, 1),
        ([172, 17, 0, 0], 16, 1),
        ([172, 18, 0, 0], 16, 1),
        ([198, 51, 100, 0], 24, 1),
    ];
    add_v4("dynamic_v4", &dynamic);
    let add_v6 = |table: &str, routes: &[(&str, u8, u32)]| {
        let memory = cube.memory(table);
        let mut writer = fib::V6Writer::open(memory.as_ref()).expect("it is a table");
        for (address, length, number) in routes {
            let address: Ipv6Addr = address.parse().expect("an address");
            let entry = RouteEntry::new(*number, *length);
            writer
                .set(memory.as_ref(), address.to_bits(), entry)
                .expect("there is room");
        }
    };
    cube.write(
        "next_hops",
        24u32,
        route(ROUTE_CONNECTED, 2, v6(2, 1).into()),
    );
    add_v6(
        "fib_v6",
        &[("2001:db8:900::", 48, 23), ("2001:db8:2::", 64, 24)],
    );
    let dynamic = [
        ("2001:db8:900::", 48, 2),
        ("2001:db8:900:7::", 64, 2),
        ("2001:db8:a00::", 40, 2),
    ];
    add_v6("dynamic_v6", &dynamic);
}

/// The port at which a packet leaves: its source address says so.
fn leaves(cube: &Cube, packet: &Packet) -> Option<u8> {
    let run = cube.run(0, &packet.bytes(), Gso::default());
    let source = run.packet.get(6..12).expect("a frame");
    let left = (run.verdict == Verdict::Redirect).then_some(());
    left.and_then(|()| (1..PORTS).find(|port| mac(*port) == source))
}
