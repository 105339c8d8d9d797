//! Hashes in banks: whatever changes is written where no packet is, and one write switches.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use reconciler::{
    address::Address,
    desired::Desired,
    execute::{Outcome, execute},
    interrupt::Interrupt,
    kernel::{Kernel, fake::FakeKernel},
    observed::{Interest, Observed},
    plan::{Op, Step, steps},
    resource::{Bank, Content, Map, MapKind, MapShape, PinPath},
    rows::Rows,
};

type Entries = BTreeMap<u8, u8>;

fn path() -> PinPath {
    PinPath::new(&["cubes", "fw", "buckets"])
}

/// A hash whose keys are a word and an index, and the map that says which bank is active.
fn desired(entries: &Entries) -> Desired {
    let key = |key: u8| [[key; 4], u32::from(key % 3).to_ne_bytes()].concat();
    let entries = entries
        .iter()
        .map(|(at, value)| (key(*at), vec![*value; 8]));
    let shape = MapShape {
        kind: MapKind::Hash,
        key_size: 8,
        value_size: 8,
        max_entries: 512,
    };
    let active = Map {
        owner: Address::topology(),
        shape: MapShape {
            kind: MapKind::Array,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
        },
        content: Content::Learned,
    };
    let buckets = Map {
        owner: Address::cube(&"fw".parse().expect("a name")),
        shape,
        content: Content::Banked(entries.collect::<Rows>().into()),
    };
    Desired {
        maps: BTreeMap::from([(path(), buckets), (PinPath::new(&["active"]), active)]),
        ..Desired::default()
    }
}

fn kernel() -> FakeKernel {
    FakeKernel::new("t".parse().expect("a name"), [])
}

fn observe(kernel: &mut FakeKernel) -> Observed {
    let interest = Interest {
        contents: BTreeSet::from([path()]),
        ..Interest::default()
    };
    kernel.observe(&interest).expect("it can be read")
}

fn plan(kernel: &mut FakeKernel, entries: &Entries) -> Vec<Step> {
    steps(&desired(entries), &observe(kernel), None, None)
        .into_iter()
        .filter(|step| step.op != Op::RemoveDirectory)
        .collect()
}

fn run(kernel: &mut FakeKernel, steps: &[Step]) {
    let outcome = execute(kernel, steps, &Interrupt::default(), |_, _| ());
    assert!(matches!(outcome, Outcome::Done { left } if left.is_empty()));
}

/// What packets of a bank find.
fn content(kernel: &FakeKernel, bank: Bank) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entries = kernel.state().maps[&path()].entries.as_ref();
    entries
        .expect("it was read")
        .iter()
        .filter(|(key, _)| Bank::of_key(key) == Some(bank))
        .map(|(key, value)| (key[..4].to_vec(), value.to_vec()))
        .collect()
}

fn wanted(entries: &Entries) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entry = |(key, value): (&u8, &u8)| (vec![*key; 4], vec![*value; 8]);
    entries.iter().map(entry).collect()
}

proptest! {
    /// Whichever step packets come at, they find the old content or the new.
    #[test]
    fn packets_find_the_old_or_the_new(
        before in prop::collection::btree_map(any::<u8>(), any::<u8>(), 0..20),
        after in prop::collection::btree_map(any::<u8>(), any::<u8>(), 0..20),
    ) {
        let mut kernel = kernel();
        let first = plan(&mut kernel, &before);
        run(&mut kernel, &first);
        for bank in Bank::ALL {
            prop_assert_eq!(content(&kernel, bank), wanted(&before));
        }
        let change = plan(&mut kernel, &after);
        prop_assert_eq!(change.is_empty(), before == after);
        let mut switched = false;
        for step in &change {
            run(&mut kernel, std::slice::from_ref(step));
            switched |= matches!(step.op, Op::Activate { .. });
            let active = kernel.state().active;
            let expected = if switched { &after } else { &before };
            prop_assert_eq!(content(&kernel, active), wanted(expected));
        }
        for bank in Bank::ALL {
            prop_assert_eq!(content(&kernel, bank), wanted(&after));
        }
        prop_assert!(plan(&mut kernel, &after).is_empty());
    }

    /// Taken back step by step, the old content is found all the time.
    #[test]
    fn the_way_back_is_the_same(
        before in prop::collection::btree_map(any::<u8>(), any::<u8>(), 0..20),
        after in prop::collection::btree_map(any::<u8>(), any::<u8>(), 0..20),
        stop in any::<prop::sample::Index>(),
    ) {
        let mut kernel = kernel();
        let first = plan(&mut kernel, &before);
        run(&mut kernel, &first);
        let change = plan(&mut kernel, &after);
        let until = change.iter().position(|step| matches!(step.op, Op::Drain));
        let until = until.map_or(0, |until| stop.index(until + 1));
        for step in &change[..until] {
            run(&mut kernel, std::slice::from_ref(step));
        }
        for undo in change[..until].iter().rev().filter_map(|step| step.undo.as_ref()) {
            kernel.apply(undo).expect("it can be taken back");
        }
        for bank in Bank::ALL {
            prop_assert_eq!(content(&kernel, bank), wanted(&before));
        }
    }
}
