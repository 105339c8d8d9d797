//! A plan as people and scripts see it: what changes, why, and what it costs.

mod fact;
mod order;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology_schema::{Drift, Instance, Topology};

pub use self::fact::Fact;
use crate::{
    address::Address,
    desired::Pending,
    facts::{self, Facts, facts_of_both},
    plan::{Disruption, Step},
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
    pub before: Fact,
    /// As it will be.
    pub after: Fact,
    /// Of drift: what is done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Drift>,
}

impl Change {
    /// True for drift that is only shown.
    pub fn is_warning(&self) -> bool {
        self.mode == Some(Drift::Warn)
    }
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
    /// Drift that is repaired, or drift that is not.
    pub fn drift(&self, repaired: bool) -> impl Iterator<Item = &Change> {
        let drift = self.drift.iter();
        drift.filter(move |change| change.is_warning() != repaired)
    }

    /// How many changes of an action, drift that is repaired included.
    pub fn count(&self, action: Action) -> usize {
        self.changes
            .iter()
            .chain(self.drift(true))
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

    /// True if nothing changes. There may be drift that stays.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.drift(true).next().is_none()
    }

    /// True if anything differs, drift that stays among it.
    pub fn differ(&self) -> bool {
        !self.changes.is_empty() || !self.drift.is_empty()
    }
}

/// What changes from one version of a topology to another; what that costs is not known yet.
pub fn between(old: Option<&Topology>, new: Option<&Topology>) -> Vec<Change> {
    let (before, after) = facts_of_both(old, new);
    let mut changes = wanted(before, after);
    let (old, new) = (cubes(old), cubes(new));
    for change in &mut changes {
        if change.action != Action::Update {
            let whole = |cubes: &BTreeMap<Address, &Instance>| {
                let cube = cubes.get(&change.address)?;
                Some(Fact::Text(facts::whole(cube)))
            };
            let (before, after) = (whole(&old), whole(&new));
            change.before = before.unwrap_or_else(|| std::mem::take(&mut change.before));
            change.after = after.unwrap_or_else(|| std::mem::take(&mut change.after));
        }
    }
    changes
}

fn cubes(topology: Option<&Topology>) -> BTreeMap<Address, &Instance> {
    let cubes = topology
        .into_iter()
        .flat_map(|topology| &topology.spec.cubes);
    cubes
        .map(|(name, cube)| (Address::cube(name), cube))
        .collect()
}

/// What the file asks for: the difference between the facts applied last and the new ones. What it costs is said once
/// the steps are known.
pub fn wanted(mut before: Facts, mut after: Facts) -> Vec<Change> {
    let mut changes = differences(&before, &after);
    for change in &mut changes {
        if change.action != Action::Update && change.address.is_object() {
            change.before = whole_object(&mut before, &change.address).into();
            change.after = whole_object(&mut after, &change.address).into();
        }
    }
    changes
}

/// The same, without the values of objects that come or go.
fn differences(before: &Facts, after: &Facts) -> Vec<Change> {
    let mut changes = Vec::new();
    // An object that comes or goes takes its entries along.
    let whole = whole_objects(before, after);
    // Items of lists in which order matters are compared by themselves.
    let (ordered, seen) = order::changes(before, after, &whole);
    let addresses = before.keys().chain(after.keys());
    let addresses: BTreeSet<&Address> = addresses
        .filter(|address| address.is_object() || !whole.contains(address.object_text()))
        .filter(|address| !seen.contains(address))
        .collect();
    for address in addresses {
        // What is said of the whole topology comes and goes with it.
        let whole_topology = *address == Address::topology();
        if whole_topology && (before.is_empty() || after.is_empty()) {
            continue;
        }
        let (old, new) = (before.get(address), after.get(address));
        let action = match (old, new) {
            _ if whole_topology && old != new => Action::Update,
            (None, Some(_)) => Action::Create,
            (Some(_), None) => Action::Delete,
            (Some(old), Some(new)) if old["kind"] != new["kind"] => Action::Replace,
            (Some(old), Some(new)) if old != new => Action::Update,
            _ => continue,
        };
        let reason = match action {
            Action::Create => "in the file, not applied yet",
            Action::Delete => "no longer in the file",
            Action::Replace => "another kind in the file",
            Action::Update => "changed in the file",
        };
        let value = |fact: Option<&Value>| {
            let own = fact.filter(|_| action == Action::Update || !address.is_object());
            own.cloned().unwrap_or_default()
        };
        changes.push(Change {
            address: address.clone(),
            action,
            reason: reason.to_owned(),
            disruption: String::new(),
            before: value(old).into(),
            after: value(new).into(),
            mode: None,
        });
    }
    changes.extend(ordered);
    sort(&mut changes);
    changes
}

/// Says of changes what they cost, now that the steps are known.
pub fn say_disruption(changes: &mut [Change], steps: &[Step]) {
    for change in changes {
        change.disruption = disruption(&change.address, change.action, steps);
    }
}

/// Objects that come, go or become another kind.
fn whole_objects<'a>(before: &'a Facts, after: &'a Facts) -> BTreeSet<&'a str> {
    let kind = |facts: &'a Facts, address| facts.get(address).map(|fact| &fact["kind"]);
    let addresses = before.keys().chain(after.keys());
    let objects = addresses.filter(|address| address.is_object());
    objects
        .filter(|object| kind(before, object) != kind(after, object))
        .map(Address::as_str)
        .collect()
}

/// Takes an object's fact with its entries, by field and key. Null if there is none.
fn whole_object(facts: &mut Facts, address: &Address) -> Value {
    let Some(mut whole) = facts.remove(address) else {
        return Value::Null;
    };
    // Entries sort behind their object, though not always directly.
    let entries = facts
        .range_mut(address..)
        .take_while(|(entry, _)| entry.as_str().starts_with(address.as_str()));
    for (entry, value) in entries.filter(|(entry, _)| address.contains(entry)) {
        if let Some((field, key)) = entry.field_and_key() {
            whole[field][key] = value.take();
        }
    }
    whole
}

/// What a change costs: the worst of the steps made for its object.
pub(crate) fn disruption(address: &Address, action: Action, steps: &[Step]) -> String {
    if address.is_check() {
        return "none".to_owned();
    }
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

pub(crate) fn sort(changes: &mut [Change]) {
    changes.sort_by(|a, b| (a.action, &a.address).cmp(&(b.action, &b.address)));
}
