//! Both tables against a linear search.

use std::sync::atomic::AtomicU64;

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
    fn v4_finds_the_longest_prefix(changes in changes(32), stride in prop::sample::select(vec![4u32, 8])) {
        let words = memory(words_for_v4(400, stride));
        let mut writer = V4Writer::open(&words, stride).unwrap();
        let mut routes = Vec::new();
        for change in &changes {
            let Some((address, length, number)) = apply(change, &mut routes) else { continue };
            match number {
                Some(number) => { writer.set(&words, address as u32, RouteEntry::new(number, length)).unwrap(); }
                None => { writer.remove(&words, address as u32, length); }
            }
            writer.recycle();
            for address in probes(&routes, 32) {
                prop_assert_eq!(lookup_v4(&words, stride, address as u32), linear(&routes, address, 32));
            }
        }
        check_v4(&words, stride, &writer, &mut routes)?;
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
    stride: u32,
    writer: &V4Writer,
    routes: &mut [(u128, u8, u32)],
) -> Result<(), TestCaseError> {
    routes.sort_by_key(|route| (route.1, route.0));
    let sorted: Vec<(u32, RouteEntry)> = routes
        .iter()
        .map(|(address, length, number)| (*address as u32, RouteEntry::new(*number, *length)))
        .collect();
    let mut listed: Vec<_> = routes_v4(words).collect();
    listed.sort_by_key(|(address, entry)| (entry.length(), *address));
    prop_assert_eq!(&listed, &sorted);
    prop_assert_eq!(writer.len(), sorted.len());
    prop_assert!(is_sound_v4(words, stride));
    let loaded = memory(words.len());
    load_v4(&loaded, stride, &sorted).unwrap();
    for address in probes(routes, 32) {
        prop_assert_eq!(
            lookup_v4(&loaded, stride, address as u32),
            linear(routes, address, 32)
        );
    }
    let mut again = V4Writer::open(&loaded, stride).unwrap();
    for (address, entry) in sorted {
        prop_assert!(again.remove(&loaded, address, entry.length() as u8));
    }
    let root = &loaded[..ebpf_abi::fib::ROOT as usize];
    prop_assert!(
        root.iter()
            .all(|word| word.load(std::sync::atomic::Ordering::Relaxed) == 0)
    );
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
        let value = word.load(std::sync::atomic::Ordering::Relaxed);
        (value != 0 && !at_prefix && !behind && !(4..7).contains(&at)).then_some((at, value))
    };
    prop_assert_eq!(loaded.iter().enumerate().find_map(left), None);
    Ok(())
}

#[test]
fn a_table_that_is_full_says_so_and_goes_on() {
    let words = memory(words_for_v4(0, 8) + 3 * 256);
    let mut writer = V4Writer::open(&words, 8).unwrap();
    let mut added = 0;
    for number in 0..1000u32 {
        let address = number << 16 | 0x0100;
        if writer.set(&words, address, RouteEntry::new(1, 24)) == Ok(true) {
            added += 1;
            assert_eq!(lookup_v4(&words, 8, address | 7).next_hop(), 1);
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
    let words = memory(words_for_v4(10, 8));
    load_v4(&words, 8, &routes).unwrap();
    assert!(is_sound_v4(&words, 8));
    for at in [
        0x0a00,
        0x0a01,
        0x0b00,
        ebpf_abi::fib::V4_BLOCKS as usize,
        words.len() - 1,
    ] {
        let before = words[at].fetch_xor(1, std::sync::atomic::Ordering::Relaxed);
        assert!(!is_sound_v4(&words, 8), "word {at}");
        words[at].store(before, std::sync::atomic::Ordering::Relaxed);
    }
    let routes = [
        (0x2001 << 112, RouteEntry::new(1, 32)),
        (0x2001 << 112, RouteEntry::new(2, 48)),
    ];
    let words = memory(words_for_v6(10));
    load_v6(&words, &routes).unwrap();
    assert!(is_sound_v6(&words));
    let used = |word: &&AtomicU64| word.load(std::sync::atomic::Ordering::Relaxed) != 0;
    let count = words.iter().filter(used).count();
    assert!(count > 8, "{count}");
    let slot = words.iter().skip(256).position(|word| used(&word)).unwrap() + 256;
    words[slot].fetch_xor(1 << 60, std::sync::atomic::Ordering::Relaxed);
    assert!(!is_sound_v6(&words));
}
