//! Sets of prefixes against a map of the standard library.

use std::collections::BTreeMap;

use ebpf_abi::{
    address::{V4, V6},
    prefix_set::{Address, BUCKET, Hits, Shape, room_for},
};
use proptest::prelude::*;

use super::memory;
use crate::{Full, PrefixSet, Prefixes};

/// Two buckets, twice: most prefixes are not where they belong.
const TINY: Shape = Shape { mask: 1, copies: 1 };
/// Enough for all that a test adds, and crowded.
const CROWDED: Shape = Shape {
    mask: 31,
    copies: 3,
};

#[derive(Clone, Debug)]
enum Change {
    Insert(u8, u32),
    Remove(prop::sample::Index),
    Count(prop::sample::Index, u64, u64),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<prop::sample::Index>;
    let change = prop_oneof![
        4 => (any::<u8>(), 0..=32u32).prop_map(|(byte, length)| Change::Insert(byte, length)),
        2 => index().prop_map(Change::Remove),
        2 => (index(), 0..9u64, 0..900u64).prop_map(|(at, packets, bytes)| Change::Count(at, packets, bytes)),
    ];
    prop::collection::vec(change, 1..200)
}

/// A prefix that is its own network.
fn v4(byte: u8, length: u32) -> (V4, u32) {
    (V4::new([byte, 7, byte, byte]).network(length), length)
}

fn v6(byte: u8, length: u32) -> (V6, u32) {
    let length = length * 4;
    (V6::new([byte; 16]).network(length), length)
}

fn as_a_map<A: Prefixes + Ord + std::fmt::Debug>(
    shape: Shape,
    changes: Vec<Change>,
    prefix: impl Fn(u8, u32) -> (A, u32),
) -> Result<(), TestCaseError> {
    let words = memory((shape.buckets() * BUCKET) as usize);
    let set = PrefixSet::open(&words, shape).expect("the memory is as large");
    let most = ((shape.mask + 1) * A::SLOTS) as usize;
    let mut model: BTreeMap<(A, u32), Hits> = BTreeMap::new();
    for change in changes {
        let picked = |at: prop::sample::Index, model: &BTreeMap<(A, u32), Hits>| {
            let keys: Vec<_> = model.keys().copied().collect();
            (!keys.is_empty()).then(|| keys[at.index(keys.len())])
        };
        match change {
            Change::Insert(byte, length) => {
                let (address, length) = prefix(byte, length);
                let full = model.len() == most && !model.contains_key(&(address, length));
                let expected = if full { Err(Full) } else { Ok(()) };
                prop_assert_eq!(set.insert(address, length), expected);
                if !full {
                    model.entry((address, length)).or_default();
                }
            }
            Change::Remove(at) => {
                if let Some((address, length)) = picked(at, &model) {
                    set.remove(address, length);
                    set.remove(address, length);
                    model.remove(&(address, length));
                }
            }
            Change::Count(at, packets, bytes) => {
                if let Some((address, length)) = picked(at, &model) {
                    let hits = Hits { packets, bytes };
                    prop_assert!(set.count(address, length, hits));
                    let sum = model.entry((address, length)).or_default();
                    sum.packets += packets;
                    sum.bytes += bytes;
                }
            }
        }
        let there: BTreeMap<_, _> = set.entries::<A>().collect();
        prop_assert_eq!(&there, &model);
        prop_assert!(set.is_sound::<A>());
    }
    Ok(())
}

proptest! {
    #[test]
    fn holds_what_a_map_does(changes in changes()) {
        for shape in [TINY, CROWDED] {
            as_a_map(shape, changes.clone(), v4)?;
            as_a_map(shape, changes.clone(), v6)?;
        }
    }
}

/// Each prefix has a place, and half of them change at once.
fn exchange<A: Prefixes + Ord + std::fmt::Debug>(prefix: impl Fn(u32) -> (A, u32)) {
    const COUNT: u32 = 100_000;
    let shape = Shape::new::<A>(room_for::<A>(COUNT));
    let words = memory((shape.buckets() * BUCKET) as usize);
    let set = PrefixSet::open(&words, shape).expect("the memory is as large");
    for turn in 0..3 {
        for number in 0..COUNT {
            let (address, length) = prefix(turn * COUNT + number);
            set.insert(address, length).expect("there is room");
        }
        for number in 0..turn.min(1) * COUNT {
            let (address, length) = prefix((turn - 1) * COUNT + number);
            set.remove(address, length);
        }
        assert!(set.is_sound::<A>());
        assert_eq!(set.entries::<A>().count(), COUNT as usize);
        let behind = (0..=shape.mask).filter(|bucket| A::behind(set.bucket(*bucket)));
        let behind = behind.count() as u32;
        // A miss mostly reads one line.
        assert!(behind * 4 < shape.mask, "{behind} of {}", shape.mask + 1);
    }
}

#[test]
fn all_prefixes_are_exchanged_at_once() {
    exchange(|number| (V4::new(number.to_be_bytes()), 32));
    exchange(|number| (V4::new((number << 8).to_be_bytes()), 24));
    exchange(|number| (V6::new((u128::from(number) << 64).to_be_bytes()), 64));
    exchange(|number| {
        (
            V6::new(u128::from(number.wrapping_mul(0x9e37_79b9)).to_be_bytes()),
            128,
        )
    });
}

#[test]
fn memory_that_others_wrote_is_not_sound() {
    let shape = CROWDED;
    let fresh = || {
        let words = memory((shape.buckets() * BUCKET) as usize);
        let set = PrefixSet::open(&words, shape).expect("the memory is as large");
        for byte in 0..60 {
            let (address, length) = v4(byte, 32);
            set.insert(address, length).expect("there is room");
        }
        words
    };
    let sound = |words: &[_]| {
        let set = PrefixSet::open(words, shape).expect("the memory is as large");
        set.is_sound::<V4>()
    };
    assert!(sound(&fresh()));
    let mut found = 0;
    for word in 0..(shape.buckets() * BUCKET) as usize {
        let words = fresh();
        let is_prefix = word % BUCKET as usize <= 1;
        let old = words[word].load(std::sync::atomic::Ordering::Relaxed);
        words[word].store(old ^ 1 << 56 ^ 3, std::sync::atomic::Ordering::Relaxed);
        // Counters may be anything.
        let counts = !is_prefix && sound(&words);
        found += u32::from(is_prefix && !sound(&words));
        assert!(is_prefix || counts, "word {word}");
    }
    assert!(found > 200, "{found}");
}
