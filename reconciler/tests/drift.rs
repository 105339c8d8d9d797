//! What a topology says of drift, on random topologies whose kernel others have changed.

#[path = "support/shape.rs"]
mod shape;

use std::collections::BTreeSet;

use proptest::prelude::*;
use reconciler::{
    address::Address,
    kernel::fake::FakeKernel,
    reconcile::{plan, plan_removal},
    resource::PinPath,
};
use shape::{applied, host, shape};
use topology_schema::{Drift, Locations, ValidTopology, validate};

/// The topology with another word on drift.
fn told(topology: ValidTopology, drift: Drift) -> ValidTopology {
    let mut topology = topology.into_inner();
    topology.spec.drift = drift;
    let (topology, _) = validate(topology, &Locations::none()).expect("as valid as before");
    topology
}

/// What others do to the kernel; the number says to which object of its kind.
#[derive(Clone, Copy, Debug)]
enum Damage {
    EntryGone,
    EntryChanged,
    EntryAdded,
    MapGone,
    MapReplaced,
    ProgramGone,
    ProgramReplaced,
    SlotEmptied,
    SlotOverwritten,
    LinkGone,
    LinkDetached,
    LinkUpdated,
    VethGone,
    VethChanged,
    AliasGone,
    NamespaceGone,
    StrangerPinned,
}

const DAMAGES: [Damage; 17] = [
    Damage::EntryGone,
    Damage::EntryChanged,
    Damage::EntryAdded,
    Damage::MapGone,
    Damage::MapReplaced,
    Damage::ProgramGone,
    Damage::ProgramReplaced,
    Damage::SlotEmptied,
    Damage::SlotOverwritten,
    Damage::LinkGone,
    Damage::LinkDetached,
    Damage::LinkUpdated,
    Damage::VethGone,
    Damage::VethChanged,
    Damage::AliasGone,
    Damage::NamespaceGone,
    Damage::StrangerPinned,
];

fn damages() -> impl Strategy<Value = Vec<(Damage, prop::sample::Index)>> {
    let one = (
        prop::sample::select(DAMAGES.to_vec()),
        any::<prop::sample::Index>(),
    );
    prop::collection::vec(one, 1..5)
}

/// The chosen key of a map, if it has any.
fn pick<K: Clone>(keys: impl Iterator<Item = K>, at: prop::sample::Index) -> Option<K> {
    let keys: Vec<K> = keys.collect();
    (!keys.is_empty()).then(|| at.get(&keys).clone())
}

fn happen(kernel: &mut FakeKernel, damage: Damage, at: prop::sample::Index) -> Option<()> {
    const FOREIGN: u32 = 4_000_000;
    let state = kernel.state_mut();
    match damage {
        Damage::EntryGone | Damage::EntryChanged | Damage::EntryAdded => {
            let filled = state.maps.iter_mut().filter_map(|(path, map)| {
                // Arrays have all their entries, always.
                let array = map.shape?.is_array();
                let entries = map.entries.as_mut().filter(|entries| !entries.is_empty())?;
                Some((path.clone(), array, entries))
            });
            let mut filled: Vec<_> = filled.collect();
            if filled.is_empty() {
                return None;
            }
            let chosen = at.index(filled.len());
            let (_, array, entries) = &mut filled[chosen];
            let key = pick(entries.iter().map(|(key, _)| key.to_owned()), at)?;
            let mut value = entries.get(&key)?.to_owned();
            match damage {
                Damage::EntryGone if *array => {
                    value.fill(0);
                    entries.insert(&key, &value);
                }
                Damage::EntryGone => entries.remove(&key),
                Damage::EntryChanged => {
                    value.iter_mut().for_each(|byte| *byte ^= 0x55);
                    entries.insert(&key, &value);
                }
                _ => {
                    let mut new = key.clone();
                    // Zeros are what an array has anyway.
                    if *array && value.iter().all(|byte| *byte == 0) {
                        value.fill(0x55);
                    }
                    *new.last_mut()? ^= 0x40;
                    entries.insert(&new, &value);
                }
            }
        }
        Damage::MapGone => {
            let path = pick(state.maps.keys().cloned(), at)?;
            state.maps.remove(&path);
            state.slots.retain(|slot, _| slot.map != path);
        }
        Damage::MapReplaced => {
            let path = pick(state.maps.keys().cloned(), at)?;
            let map = state.maps.get_mut(&path)?;
            map.id = FOREIGN;
            map.shape = None;
            map.entries = None;
            state.slots.retain(|slot, _| slot.map != path);
        }
        Damage::ProgramGone => {
            let path = pick(state.programs.keys().cloned(), at)?;
            state.programs.remove(&path);
        }
        Damage::ProgramReplaced => {
            let path = pick(state.programs.keys().cloned(), at)?;
            let program = state.programs.get_mut(&path)?;
            program.id = FOREIGN;
            program.fingerprint = "foreign".to_owned();
        }
        Damage::SlotEmptied => {
            let slot = pick(state.slots.keys().cloned(), at)?;
            state.slots.remove(&slot);
        }
        Damage::SlotOverwritten => {
            let banks = state
                .slots
                .get_mut(&pick(state.slots.keys().cloned(), at)?)?;
            banks[at.index(2)] = Some(FOREIGN);
        }
        Damage::LinkGone => {
            let path = pick(state.links.keys().cloned(), at)?;
            state.links.remove(&path);
        }
        Damage::LinkDetached => {
            state
                .links
                .get_mut(&pick(state.links.keys().cloned(), at)?)?
                .ifindex = 0
        }
        Damage::LinkUpdated => {
            state
                .links
                .get_mut(&pick(state.links.keys().cloned(), at)?)?
                .program = FOREIGN
        }
        Damage::VethGone => {
            let name = pick(state.veths.keys().cloned(), at)?;
            let far = state.veths.remove(&name)?.peer?;
            kernel.unplug(&name);
            if far.namespace.is_none() {
                kernel.unplug(&far.name);
            }
        }
        Damage::VethChanged => {
            let veth = state
                .veths
                .get_mut(&pick(state.veths.keys().cloned(), at)?)?;
            veth.peer.as_mut()?.mtu += 1;
        }
        Damage::AliasGone => {
            let veth = state
                .veths
                .get_mut(&pick(state.veths.keys().cloned(), at)?)?;
            veth.alias.clear();
        }
        Damage::NamespaceGone => {
            let name = pick(state.namespaces.keys().cloned(), at)?;
            state.namespaces.remove(&name);
            let inside = state.veths.iter().filter(|(_, veth)| {
                veth.peer
                    .as_ref()
                    .is_some_and(|peer| peer.namespace.as_ref() == Some(&name))
            });
            for veth in inside.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                kernel.state_mut().veths.remove(&veth);
                kernel.unplug(&veth);
            }
        }
        Damage::StrangerPinned => {
            let program = state.programs.values().next()?.clone();
            let path = PinPath::new(&["cubes", "shield", "program-stranger"]);
            state.programs.insert(path, program);
        }
    }
    Some(())
}

fn damage(kernel: &mut FakeKernel, damages: &[(Damage, prop::sample::Index)]) {
    for (damage, at) in damages {
        // Where there is nothing of a kind, nothing happens to it.
        let _nothing = happen(kernel, *damage, *at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn repaired_drift_is_gone(shape in shape(), damages in damages()) {
        let topology = shape.topology();
        let mut kernel = host();
        applied(&mut kernel, &topology);
        let calm = kernel.state().clone();
        damage(&mut kernel, &damages);
        let made = applied(&mut kernel, &topology);
        prop_assert!(made.changes.changes.is_empty(), "drift looks like a change: {:#?}", made.changes.changes);
        prop_assert_eq!(made.steps.is_empty(), made.changes.drift.is_empty(), "{:#?}", made);
        let again = plan(&mut kernel, &topology).expect("a plan");
        prop_assert!(again.steps.is_empty() && !again.differs(), "{:#?}", again);
        prop_assert_eq!(kernel.state().maps.keys().collect::<Vec<_>>(), calm.maps.keys().collect::<Vec<_>>());
        prop_assert_eq!(kernel.state().veths.keys().collect::<Vec<_>>(), calm.veths.keys().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_repaired_is_not_touched(shape in shape(), damages in damages(), warn in any::<bool>()) {
        let mode = if warn { Drift::Warn } else { Drift::Ignore };
        let topology = told(shape.topology(), mode);
        let mut kernel = host();
        applied(&mut kernel, &topology);
        let calm = kernel.state().clone();
        damage(&mut kernel, &damages);
        let damaged = kernel.state().clone();
        let made = plan(&mut kernel, &topology).expect("a plan");
        prop_assert!(made.steps.is_empty(), "{:#?}", made);
        prop_assert!(made.is_empty());
        prop_assert_eq!(made.differs(), warn && damaged != calm, "{:#?}", made.changes);
        prop_assert!(made.changes.drift.iter().all(|change| change.mode == Some(Drift::Warn)));
        // It can be removed all the same.
        let removal = plan_removal(&mut kernel).expect("a plan");
        prop_assert!(!removal.steps.is_empty());
    }

    #[test]
    fn what_the_file_changes_works_beside_drift_that_stays(
        before in shape(), after in shape(), damages in damages(),
    ) {
        let (before, after) = (told(before.topology(), Drift::Ignore), told(after.topology(), Drift::Ignore));
        let mut kernel = host();
        applied(&mut kernel, &before);
        damage(&mut kernel, &damages);
        applied(&mut kernel, &after);
        prop_assert!(plan(&mut kernel, &after).expect("a plan").is_empty());
        // Told to repair, it is as if nothing had happened.
        let repaired = told(after, Drift::Repair);
        applied(&mut kernel, &repaired);
        let mut calm = host();
        applied(&mut calm, &before);
        applied(&mut calm, &repaired);
        prop_assert_eq!(kernel.state().maps.keys().collect::<Vec<_>>(), calm.state().maps.keys().collect::<Vec<_>>());
        prop_assert!(!plan(&mut kernel, &repaired).expect("a plan").differs());
    }

    #[test]
    fn only_what_drifted_is_named(shape in shape(), at in any::<prop::sample::Index>()) {
        let topology = shape.topology();
        let mut kernel = host();
        applied(&mut kernel, &topology);
        let Some(name) = pick(kernel.state().namespaces.keys().cloned(), at) else { return Ok(()) };
        damage(&mut kernel, &[(Damage::NamespaceGone, at)]);
        let made = plan(&mut kernel, &topology).expect("a plan");
        let named: BTreeSet<Address> = made.changes.drift.iter().map(|change| change.address.clone()).collect();
        prop_assert_eq!(named, BTreeSet::from([Address::namespace(&name)]), "{:#?}", made.changes);
    }
}
