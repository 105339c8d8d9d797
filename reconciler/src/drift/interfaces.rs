//! Interfaces of the host that come, go, and come again.

use std::collections::{BTreeMap, BTreeSet};

use topology_schema::{Endpoint, InterfaceName};

use super::{Applied, Event, Finding, matches};
use crate::{address::Address, desired::Desired, observed::Observed, plan, resource::PinPath};

/// What became of the interfaces of a topology. `everywhere` is what it comes to where all of
/// them exist.
pub(super) fn events(
    names: &BTreeSet<InterfaceName>,
    everywhere: &Desired,
    observed: &Observed,
) -> BTreeMap<InterfaceName, Event> {
    let present = observed.foreign_interfaces();
    let mut events = BTreeMap::new();
    for name in names {
        let used = everywhere.links.values().any(|at| at.interface == *name);
        if !used {
            continue;
        }
        let noted = noted_index(name, everywhere, observed);
        let was_there = noted.is_some() || has_pins(name, observed);
        let event = match (was_there, present.contains(name)) {
            (false, true) => Event::Appeared,
            (true, false) => Event::Vanished,
            (true, true) if noted.is_some_and(|noted| Some(noted) != observed.ifindex(name)) => {
                Event::MadeAnew
            }
            _ => continue,
        };
        events.insert(name.clone(), event);
    }
    events
}

/// The index that running tables have for an interface, if they say anything of it.
fn noted_index(name: &InterfaceName, everywhere: &Desired, observed: &Observed) -> Option<u32> {
    for (path, map) in &everywhere.maps {
        let entries = map.content.entries();
        let Some(entries) = entries.filter(|entries| entries.has_indices()) else {
            continue;
        };
        let Some(running) = observed.maps.get(path).and_then(|map| map.entries.as_ref()) else {
            continue;
        };
        for (key, template) in entries.iter() {
            let at = template.ifindexes.iter().find(|(_, of)| of == name);
            let Some(((offset, _), bytes)) = at.zip(running.get(&key)) else {
                continue;
            };
            let index = bytes.get(*offset..*offset + 4)?.try_into().ok()?;
            let index = u32::from_ne_bytes(index);
            if index != 0 && matches(template, bytes, |_| None) {
                return Some(index);
            }
        }
    }
    None
}

/// True if anything of an interface is pinned.
fn has_pins(name: &InterfaceName, observed: &Observed) -> bool {
    let owner = Address::interface(name);
    let of = |path: &PinPath| plan::owner_of(path) == owner;
    observed.links.keys().any(of)
        || observed.programs.keys().any(of)
        || observed.maps.keys().any(of)
}

pub(super) fn findings(applied: &Applied) -> Vec<Finding> {
    let carriers = applied.carriers.iter().map(carrier);
    let events = applied.events.iter().map(|(name, event)| {
        let reason = match event {
            Event::Appeared => format!("interface {name} has appeared"),
            Event::Vanished => {
                format!("interface {name} is gone: what was attached to it goes, too")
            }
            Event::MadeAnew => {
                format!("interface {name} was made anew: nothing is attached to it yet")
            }
        };
        Finding::update(&Address::interface(name), reason)
    });
    events.chain(carriers).collect()
}

/// A link that nothing passes any more, or that something passes again.
fn carrier((end, down): (&Endpoint, &bool)) -> Finding {
    let address = match end {
        Endpoint::Host(name) => Address::interface(name),
        Endpoint::Namespace { namespace, .. } => Address::namespace(namespace),
        Endpoint::Port { cube, .. } => Address::cube(cube),
    };
    let reason = if *down {
        format!("{end} has no carrier: routes give way that lead there")
    } else {
        format!("{end} has a carrier again: routes lead there again")
    };
    Finding::update(&address, reason)
}
