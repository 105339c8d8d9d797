//! Both tables against a linear search.

mod prefix_set;

use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_abi::router::RouteEntry;
use proptest::prelude::*;

use crate::*;

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

/// The longest of some prefixes that contains an address.
fn linear(routes: &[(u128, u8, u32)], address: u128, bits: u8) -> RouteEntry {
    let contains = |&&(prefix, length, _): &&(u128, u8, u32)| {
        length == 0 || (prefix ^ address) >> (bits - length) == 0
    };
    let longest = routes.iter().filter(contains).max_by_key(|route| route.1);
    longest.map_or(RouteEntry::NONE, |route| RouteEntry::new(route.2, route.1))
}

/// What is done to a table.
#[derive(Clone, Debug)]
enum Change {
    Set(u128, u8, u32),
    Remove(u128, u8),
    RemoveAny(prop::sample::Index),
}

/// Prefixes that share bits with one another, of `bits` in all.
fn prefix(bits: u8) -> impl Strategy<Value = (u128, u8)> {
    let common = prop::sample::select(vec![
        0u128,
        0x2001_0db8 << 96,
        (0x2001_0db8_ffff << 80) | 0xff,
        u128::MAX,
    ]);
    let length = prop_oneof![0..=bits, prop::sample::select(vec![0, 8, 16, 24, 32])];
    (common, any::<u128>(), 0..=bits, length).prop_map(move |(common, noise, shared, length)| {
        let noise = noise.checked_shr(shared.into()).unwrap_or(0);
        let address = (common ^ noise) >> (128 - bits);
        let mask = u128::MAX.checked_shl(u32::from(bits - length)).unwrap_or(0);
        (address & mask, length)
    })
}

fn changes(bits: u8) -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => (prefix(bits), 1..50u32).prop_map(|((a, l), n)| Change::Set(a, l, n)),
        1 => prefix(bits).prop_map(|(a, l)| Change::Remove(a, l)),
        2 => any::<prop::sample::Index>().prop_map(Change::RemoveAny),
    ];
    prop::collection::vec(change, 1..80)
}

/// Addresses at the edges of prefixes.
fn probes(routes: &[(u128, u8, u32)], bits: u8) -> Vec<u128> {
    let all = u128::MAX >> (128 - bits);
    let mut probes = vec![0, all, 1, all >> 1];
    for (prefix, length, _) in routes {
        let last = prefix | all.checked_shr(u32::from(*length)).unwrap_or(0);
        probes.extend([
            *prefix,
            last,
            prefix.wrapping_sub(1) & all,
            last.wrapping_add(1) & all,
        ]);
    }
    probes
}

/// Does what a change says to the list; says what it comes to for a table.
fn apply(change: &Change, routes: &mut Vec<(u128, u8, u32)>) -> Option<(u128, u8, Option<u32>)> {
    let (address, length, number) = match change {
        Change::Set(address, length, number) => (*address, *length, Some(*number)),
        Change::Remove(address, length) => (*address, *length, None),
        Change::RemoveAny(index) if routes.is_empty() => {
            let _nothing_to_choose_from = index;
            return None;
        }
        Change::RemoveAny(index) => {
            let (address, length, _) = routes[index.index(routes.len())];
            (address, length, None)
        }
    };
    routes.retain(|route| (route.0, route.1) != (address, length));
    routes.extend(number.map(|number| (address, length, number)));
    Some((address, length, number))
}

proptest! {
    #[test]
    fn v4_finds_the_longest_prefix(changes in changes(32)) {
        let words = memory(words_for_v4(100));
        let mut writer = V4Writer::open(&words).unwrap();
        let mut routes = Vec::new();
        for change in &changes {
            let Some((address, length, number)) = apply(change, &mut routes) else { continue };
            match number {
                Some(number) => { writer.set(&words, address as u32, RouteEntry::new(number, length)).unwrap(); }
                None => { writer.remove(&words, address as u32, length).unwrap(); }
            }
            writer.recycle();
            for address in probes(&routes, 32) {
                prop_assert_eq!(lookup_v4(&words, address as u32), linear(&routes, address, 32));
            }
        }
        check_v4(&words, &writer, &mut routes)?;
    }

    #[test]
    fn v6_finds_the_longest_prefix(changes in changes(128)) {
        let words = memory(words_for_v6(100));
        let mut writer = V6Writer::open(&words).unwrap();
        let mut routes = Vec::new();
        for change in &changes {
            let Some((address, length, number)) = apply(change, &mut routes) else { continue };
            match number {
                Some(number) => { writer.set(&words, address, RouteEntry::new(number, length)).unwrap(); }
                None => { writer.remove(&words, address, length); }
            }
            for address in probes(&routes, 128) {
                prop_assert_eq!(lookup_v6(&words, address), linear(&routes, address, 128));
            }
        }
        check_v6(&words, &writer, &mut routes)?;
    }
}

/// What was written can be read back, loaded at once, and taken away to the last word.
fn check_v4(
    words: &Words,
    writer: &V4Writer,
    routes: &mut [(u128, u8, u32)],
) -> Result<(), TestCaseError> {
    routes.sort_by_key(|route| (route.0, route.1));
    let sorted: Vec<(u32, RouteEntry)> = routes
        .iter()
        .map(|(address, length, number)| (*address as u32, RouteEntry::new(*number, *length)))
        .collect();
    let mut listed: Vec<_> = routes_v4(words).collect();
    listed.sort_by_key(|(address, entry)| (*address, entry.length()));
    prop_assert_eq!(&listed, &sorted);
    prop_assert_eq!(writer.len(), sorted.len());
    prop_assert!(is_sound_v4(words));
    let loaded = memory(words.len());
    load_v4(&loaded, &sorted).unwrap();
    for address in probes(routes, 32) {
        prop_assert_eq!(
            lookup_v4(&loaded, address as u32),
            linear(routes, address, 32)
        );
    }
    let mut again = V4Writer::open(&loaded).unwrap();
    for (address, entry) in sorted {
        prop_assert_eq!(
            again.remove(&loaded, address, entry.length() as u8),
            Ok(true)
        );
    }
    let root = &loaded[..ebpf_abi::fib::ROOT as usize];
    prop_assert!(root.iter().all(|word| word.load(Ordering::Relaxed) == 0));
    Ok(())
}

fn check_v6(
    words: &Words,
    writer: &V6Writer,
    routes: &mut [(u128, u8, u32)],
) -> Result<(), TestCaseError> {
    routes.sort_by_key(|route| (route.1, route.0));
    let sorted: Vec<(u128, RouteEntry)> = routes
        .iter()
        .map(|(address, length, number)| (*address, RouteEntry::new(*number, *length)))
        .collect();
    let mut listed: Vec<_> = routes_v6(words).collect();
    listed.sort_by_key(|(address, entry)| (entry.length(), *address));
    prop_assert_eq!(&listed, &sorted);
    prop_assert_eq!(writer.len(), sorted.len());
    prop_assert!(is_sound_v6(words));
    let loaded = memory(words.len());
    load_v6(&loaded, &sorted).unwrap();
    for address in probes(routes, 128) {
        prop_assert_eq!(lookup_v6(&loaded, address), linear(routes, address, 128));
    }
    let mut again = V6Writer::open(&loaded).unwrap();
    for (address, entry) in sorted {
        prop_assert!(again.remove(&loaded, address, entry.length() as u8));
    }
    // Nothing is left but how the memory is divided.
    let left = |(at, word): (usize, &AtomicU64)| {
        let at_prefix = at >= 256 && at % 4 < 2;
        let behind = at >= words.len() - 500;
        let value = word.load(Ordering::Relaxed);
        (value != 0 && !at_prefix && !behind && !(4..7).contains(&at)).then_some((at, value))
    };
    prop_assert_eq!(loaded.iter().enumerate().find_map(left), None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn there_is_room_for_as_many_routes_as_a_table_is_for(
        most in 1..60usize,
        numbers in prop::collection::vec((prefix(32), 1..50u32, any::<prop::sample::Index>()), 1..600),
    ) {
        let words = memory(words_for_v4(most));
        let mut writer = V4Writer::open(&words).unwrap();
        let mut routes: Vec<(u128, u8, u32)> = Vec::new();
        let mut made = 0;
        for ((address, length), number, victim) in numbers {
            if routes.len() == most {
                let (address, length, _) = routes.swap_remove(victim.index(most));
                let mut removed = writer.remove(&words, address as u32, length);
                if removed.is_err() {
                    writer.make_room(&words, || Ok::<_, Full>(())).unwrap();
                    removed = writer.remove(&words, address as u32, length);
                }
                prop_assert_eq!(removed, Ok(true));
            }
            routes.retain(|route| (route.0, route.1) != (address, length));
            routes.push((address, length, number));
            let entry = RouteEntry::new(number, length);
            if writer.set(&words, address as u32, entry).is_err() {
                writer.make_room(&words, || Ok::<_, Full>(())).unwrap();
                made += 1;
                prop_assert!(writer.set(&words, address as u32, entry).is_ok(), "{made}");
            }
            if made % 8 == 7 {
                prop_assert!(is_sound_v4(&words));
                for address in probes(&routes, 32) {
                    prop_assert_eq!(lookup_v4(&words, address as u32), linear(&routes, address, 32));
                }
            }
        }
        check_v4(&words, &writer, &mut routes)?;
        // Who goes on with it finds the same parts of it free.
        let again = V4Writer::open(&words).unwrap();
        prop_assert_eq!(again.routes().collect::<Vec<_>>(), writer.routes().collect::<Vec<_>>());
    }
}

#[test]
fn whoever_looks_up_meanwhile_finds_the_old_route_or_the_new_one() {
    let words = memory(words_for_v4(40));
    let mut writer = V4Writer::open(&words).unwrap();
    // One that stays at each level, and others that come, go and turn among them.
    let stays = [(0x0a00_0000, 8), (0x0a01_2000, 20), (0x0a01_2a40, 27)];
    for (address, length) in stays {
        writer
            .set(&words, address, RouteEntry::new(1, length))
            .unwrap();
    }
    let rounds = AtomicU64::new(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                for (address, length) in [(0x0aff_0001, 8), (0x0a01_2f01, 20), (0x0a01_2a41, 27)] {
                    assert_eq!(lookup_v4(&words, address), RouteEntry::new(1, length));
                }
                let turns = lookup_v4(&words, 0x0a01_2a81);
                assert!([20, 24, 26].contains(&turns.length()), "{turns:?}");
                assert!([1, 2, 3].contains(&turns.next_hop()), "{turns:?}");
                rounds.fetch_add(1, Ordering::Release);
            }
        });
        let wait = || {
            let now = rounds.load(Ordering::Acquire);
            while rounds.load(Ordering::Acquire) < now + 2 {
                std::thread::yield_now();
            }
            Ok::<_, Full>(())
        };
        for number in 0..20_000u32 {
            let (address, length) = match number % 5 {
                0 => (0x0a01_2a80, 26),
                1 => (0x0a01_2a00, 24),
                2 => (0x0a01_2b00 + ((number % 64) << 2), 30),
                3 => (0x0a01_0000 + ((number % 32) << 8), 24),
                _ => (0x0a01_2a00 + number % 64, 32),
            };
            let entry = RouteEntry::new(2 + number % 2, length);
            let change = |writer: &mut V4Writer| match number / 5 % 2 {
                0 if writer.len() < 40 => writer.set(&words, address, entry),
                _ => writer.remove(&words, address, length),
            };
            if change(&mut writer).is_err() {
                writer.make_room(&words, wait).unwrap();
                change(&mut writer).unwrap();
            }
        }
        done.store(true, Ordering::Release);
    });
    assert!(rounds.load(Ordering::Relaxed) > 10);
    assert!(is_sound_v4(&words));
}

#[test]
fn a_table_that_is_full_says_so_and_goes_on() {
    let words = memory(words_for_v4(0) + 3 * 256);
    let mut writer = V4Writer::open(&words).unwrap();
    let mut added = 0;
    for number in 0..1000u32 {
        let address = number << 16 | 0x0100;
        if writer.set(&words, address, RouteEntry::new(1, 24)) == Ok(true) {
            added += 1;
            assert_eq!(lookup_v4(&words, address | 7).next_hop(), 1);
        }
    }
    assert!(added > 3 && added < 200, "{added}");
    assert_eq!(writer.len(), added);
    assert_eq!(routes_v4(&words).count(), added);
    let words = memory(words_for_v6(16));
    let mut writer = V6Writer::open(&words).unwrap();
    let refused = (0..2000u128)
        .filter(|number| writer.set(&words, number << 80, RouteEntry::new(1, 48)) == Err(Full))
        .count();
    assert!(refused > 0);
    assert_eq!(writer.len(), 2000 - refused);
    for (address, entry) in writer.routes() {
        assert_eq!(lookup_v6(&words, address | 9), entry);
    }
}

#[test]
fn a_word_that_others_wrote_is_found() {
    let routes = [
        (0x0a00_0000, RouteEntry::new(1, 8)),
        (0x0a01_0000, RouteEntry::new(2, 24)),
    ];
    let words = memory(words_for_v4(10));
    load_v4(&words, &routes).unwrap();
    assert!(is_sound_v4(&words));
    for at in [
        0x0a00,
        0x0a01,
        0x0b00,
        ebpf_abi::fib::V4_BLOCKS as usize,
        words.len() - 1,
    ] {
        let before = words[at].fetch_xor(1, Ordering::Relaxed);
        assert!(!is_sound_v4(&words), "word {at}");
        words[at].store(before, Ordering::Relaxed);
    }
    let routes = [
        (0x2001 << 112, RouteEntry::new(1, 32)),
        (0x2001 << 112, RouteEntry::new(2, 48)),
    ];
    let words = memory(words_for_v6(10));
    load_v6(&words, &routes).unwrap();
    assert!(is_sound_v6(&words));
    let used = |word: &&AtomicU64| word.load(Ordering::Relaxed) != 0;
    let count = words.iter().filter(used).count();
    assert!(count > 8, "{count}");
    let slot = words.iter().skip(256).position(|word| used(&word)).unwrap() + 256;
    words[slot].fetch_xor(1 << 60, Ordering::Relaxed);
    assert!(!is_sound_v6(&words));
}

#[test]
fn neighbours_by_the_hundred_thousand_seldom_wait_for_room() {
    const COUNT: u32 = 100_000;
    let words = memory(words_for_v4(COUNT as usize));
    let mut writer = V4Writer::open(&words).unwrap();
    let mut waits = 0;
    let routes: Vec<_> = (0..COUNT)
        .map(|number| {
            let entry = RouteEntry::new(1 + number % 2, 24);
            (0x1400_0000 + (number << 8), entry)
        })
        .collect();
    for (address, entry) in &routes {
        while writer.set(&words, *address, *entry) == Err(Full) {
            writer.make_room(&words, || Ok::<_, Full>(())).unwrap();
            waits += 1;
        }
    }
    assert!(is_sound_v4(&words));
    assert_eq!(writer.routes().collect::<Vec<_>>(), routes);
    for (address, entry) in &routes {
        while writer.remove(&words, *address, entry.length() as u8) == Err(Full) {
            writer.make_room(&words, || Ok::<_, Full>(())).unwrap();
            waits += 1;
        }
    }
    assert!(writer.is_empty());
    // Each means waiting for a grace period of the kernel.
    assert!(waits < 20, "{waits}");
}
