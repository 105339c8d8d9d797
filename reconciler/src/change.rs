//! A plan as people and scripts see it: what changes, why, and what it costs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    address::Address,
    desired::{Desired, Pending},
    facts::Facts,
    observed::Observed,
    plan::{Disruption, EntryDiff, Step},
};

/// What happens to an object or an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It goes. Listed first: removals must not be overlooked.
    Delete,
    /// It goes and comes again.
    Replace,
    /// It changes in place.
    Update,
    /// It comes.
    Create,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Of what.
    pub address: Address,
    /// How.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// `none`, `state lost (TABLES)` or `packets lost`.
    pub disruption: String,
    /// As it was.
    pub before: Value,
    /// As it will be.
    pub after: Value,
}

/// What a plan comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Changes {
    /// What the file asks for.
    pub changes: Vec<Change>,
    /// Where the kernel differs from what was applied last.
    pub drift: Vec<Change>,
    /// What waits for something.
    pub pending: Vec<Pending>,
}

impl Changes {
    /// How many changes of an action, drift included.
    pub fn count(&self, action: Action) -> usize {
        self.changes
            .iter()
            .chain(&self.drift)
            .filter(|change| change.action == action)
            .count()
    }

    /// Drift of what the file changes anyway is not repaired, so it is not listed.
    pub(crate) fn drop_moot_drift(&mut self) {
        let changes = &self.changes;
        let is_moot = |drift: &Change| {
            changes.iter().any(|change| match change.action {
                Action::Update => change.address == drift.address,
                Action::Create | Action::Replace | Action::Delete => {
                    change.address.contains(&drift.address)
                }
            })
        };
        self.drift.retain(|drift| !is_moot(drift));
    }

    /// True if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.drift.is_empty()
    }
}

/// What the file asks for: the difference between the facts applied last and the new ones.
pub fn wanted(before: &Facts, after: &Facts, steps: &[Step]) -> Vec<Change> {
    let mut changes = Vec::new();
    let addresses: BTreeSet<&Address> = before.keys().chain(after.keys()).collect();
    // An object that comes or goes takes its entries along.
    let mut whole = BTreeSet::new();
    for address in addresses {
        if !address.is_object() && whole.contains(&address.object()) {
            continue;
        }
        let (old, new) = (before.get(address), after.get(address));
        let action = match (old, new) {
            (None, Some(_)) => Action::Create,
            (Some(_), None) => Action::Delete,
            (Some(old), Some(new)) if old["kind"] != new["kind"] => Action::Replace,
            (Some(old), Some(new)) if old != new => Action::Update,
            _ => continue,
        };
        if action != Action::Update {
            whole.insert(address.clone());
        }
        let disruption = disruption(address, action, steps);
        let reason = match action {
            Action::Create => "in the file, not applied yet",
            Action::Delete => "no longer in the file",
            Action::Replace => "another kind in the file",
            Action::Update => "changed in the file",
        };
        changes.push(Change {
            address: address.clone(),
            action,
            reason: reason.to_owned(),
            disruption,
            before: old.map_or(Value::Null, |fact| {
                whole_object(before, address, fact, action)
            }),
            after: new.map_or(Value::Null, |fact| {
                whole_object(after, address, fact, action)
            }),
        });
    }
    sort(&mut changes);
    changes
}

/// An object's fact; for one that comes or goes, with its entries, by field and key.
fn whole_object(facts: &Facts, address: &Address, fact: &Value, action: Action) -> Value {
    let mut whole = fact.clone();
    if action == Action::Update {
        return whole;
    }
    // Entries sort behind their object, though not always directly.
    let entries = facts
        .range(address..)
        .take_while(|(entry, _)| entry.as_str().starts_with(address.as_str()));
    for (entry, value) in entries.filter(|(entry, _)| *entry != address && address.contains(entry))
    {
        if let Some((field, key)) = entry.field_and_key() {
            whole[field][key] = value.clone();
        }
    }
    whole
}

/// Where the kernel differs from what was applied last, object by object and entry by entry.
pub fn drift(applied: &Desired, observed: &Observed, steps: &[Step]) -> Vec<Change> {
    let mut found: BTreeMap<Address, (Action, String)> = BTreeMap::new();
    let mut note = |address: Address, action: Action, reason: String| {
        found.entry(address).or_insert((action, reason));
    };
    for (name, namespace) in &applied.namespaces {
        match observed.namespaces.get(name) {
            Some(true) => {}
            Some(false) => note(
                namespace.owner.clone(),
                Action::Create,
                "the namespace is not ours any more".into(),
            ),
            None => note(
                namespace.owner.clone(),
                Action::Create,
                "the namespace is gone".into(),
            ),
        }
    }
    for (name, veth) in &applied.veths {
        match observed.veths.get(name) {
            None => note(
                veth.owner.clone(),
                Action::Update,
                format!("its interface {name} is gone"),
            ),
            Some(found) if found.peer.as_ref() != Some(&veth.peer) => {
                note(
                    veth.owner.clone(),
                    Action::Update,
                    format!("its interface {name} was changed"),
                );
            }
            Some(_) => {}
        }
    }
    for (path, map) in &applied.maps {
        let Some(running) = observed.maps.get(path) else {
            note(
                map.owner.clone(),
                Action::Update,
                format!("its table {} is gone", path.name()),
            );
            continue;
        };
        let (Some(wanted), Some(entries)) = (&map.content.entries(), &running.entries) else {
            continue;
        };
        let diff = EntryDiff::new(wanted, entries, map.shape.is_array(), |name| {
            observed.ifindex(name)
        });
        let keys = diff
            .put
            .keys()
            .map(|key| (key, entries.contains_key(key)))
            .chain(diff.delete.iter().map(|key| (key, true)));
        for (key, there) in keys {
            let address = describe(applied, path, key).unwrap_or_else(|| map.owner.clone());
            let (action, reason) = match (there && !map.shape.is_array(), diff.delete.contains(key))
            {
                (_, true) => (
                    Action::Delete,
                    "the entry was added to the kernel by others",
                ),
                (true, _) => (Action::Update, "the entry was changed in the kernel"),
                (false, _) if map.shape.is_array() => {
                    (Action::Update, "the entry was changed in the kernel")
                }
                (false, _) => (Action::Create, "the entry is missing in the kernel"),
            };
            note(address, action, format!("{reason} (table {})", path.name()));
        }
    }
    let upgraded = observed
        .record
        .as_ref()
        .is_some_and(|record| record.build != crate::objects::build());
    for (path, program) in &applied.programs {
        let fingerprint = program.fingerprint(
            |name| observed.ifindex(name),
            |map| observed.maps.get(map).map(|map| map.id),
        );
        match observed.programs.get(path) {
            None => note(
                program.owner.clone(),
                Action::Update,
                format!("its program {path} is gone"),
            ),
            Some(running) if !upgraded && fingerprint.as_ref() != Some(&running.fingerprint) => {
                note(
                    program.owner.clone(),
                    Action::Update,
                    format!("its program {path} is another one"),
                );
            }
            Some(_) => {}
        }
    }
    for (slot, program) in &applied.slots {
        let expected = observed.programs.get(program).map(|program| program.id);
        if expected.is_some() && observed.slots.get(slot) != Some(&[expected; 2]) {
            let owner = applied
                .slot_owners
                .get(slot)
                .cloned()
                .unwrap_or_else(Address::topology);
            note(
                owner,
                Action::Update,
                format!("slot {slot} does not lead to {program}"),
            );
        }
    }
    for (path, attachment) in &applied.links {
        let owner = attachment.owner.clone();
        let point = attachment.point.name();
        let expected = observed
            .programs
            .get(&attachment.program)
            .map(|program| program.id);
        match observed.links.get(path) {
            None => note(
                owner,
                Action::Update,
                format!("nothing is attached to {} at {point}", attachment.interface),
            ),
            Some(link) if observed.ifindex(&attachment.interface) != Some(link.ifindex) => {
                note(
                    owner,
                    Action::Update,
                    format!(
                        "{} was made anew: nothing is attached at {point}",
                        attachment.interface
                    ),
                );
            }
            Some(link) if expected.is_some_and(|expected| expected != link.program) => {
                note(
                    owner,
                    Action::Update,
                    format!(
                        "another program is attached to {} at {point}",
                        attachment.interface
                    ),
                );
            }
            Some(_) => {}
        }
    }
    let mut changes: Vec<Change> = found
        .into_iter()
        .map(|(address, (action, reason))| Change {
            disruption: disruption(&address, action, steps),
            address,
            action,
            reason,
            before: Value::Null,
            after: Value::Null,
        })
        .collect();
    sort(&mut changes);
    changes
}

/// The address of a table's entry, if people have a name for it.
fn describe(applied: &Desired, path: &crate::resource::PinPath, key: &[u8]) -> Option<Address> {
    let owner = &applied.maps.get(path)?.owner;
    Some(owner.below(&applied.describers.get(owner)?.describe(path.name(), key)?))
}

/// What a change costs: the worst of the steps made for its object.
fn disruption(address: &Address, action: Action, steps: &[Step]) -> String {
    if matches!(action, Action::Delete | Action::Replace) && address.is_object() {
        return "packets lost".to_owned();
    }
    let mut lost = Vec::new();
    for step in steps.iter().filter(|step| step.address.contains(address)) {
        match &step.disruption {
            Disruption::None => {}
            Disruption::StateLost(what) if !lost.contains(what) => lost.push(what.clone()),
            Disruption::StateLost(_) => {}
            Disruption::PacketsLost => return "packets lost".to_owned(),
        }
    }
    if lost.is_empty() {
        "none".to_owned()
    } else {
        format!("state lost ({})", lost.join(", "))
    }
}

fn sort(changes: &mut [Change]) {
    changes.sort_by(|a, b| (a.action, &a.address).cmp(&(b.action, &b.address)));
}
