//! Lists in which order matters: what came, went, changed, and moved.
//!
//! An item that was given a name is known by it, another one by what it says. So one that comes in
//! front of others is one change, although the places of all others are new.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::{Action, Change};
use crate::{
    address::Address,
    facts::{Facts, POSITION},
};

/// An item: its address and its fact.
type Item<'a> = (&'a Address, &'a Value);

/// The changes of all such lists, and the addresses of their items; less those of objects that come or go as a whole.
pub(super) fn changes<'a>(
    before: &'a Facts,
    after: &'a Facts,
    whole: &BTreeSet<&str>,
) -> (Vec<Change>, BTreeSet<&'a Address>) {
    let (old, new) = (lists(before, whole), lists(after, whole));
    let items = old.values().chain(new.values()).flatten();
    let seen = items.map(|(address, _)| *address).collect();
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let none = Vec::new();
    let mut changes = Vec::new();
    for name in names {
        let old = old.get(name).unwrap_or(&none);
        let new = new.get(name).unwrap_or(&none);
        changes.extend(of_list(old, new));
    }
    (changes, seen)
}

/// The lists by what is in front of the items' keys, each in its order.
fn lists<'a>(facts: &'a Facts, whole: &BTreeSet<&str>) -> BTreeMap<&'a str, Vec<Item<'a>>> {
    let mut lists: BTreeMap<&str, Vec<Item<'_>>> = BTreeMap::new();
    let items = facts
        .iter()
        .filter(|(address, _)| !whole.contains(address.object_text()));
    for (address, fact) in items.filter(|(_, fact)| !fact[POSITION].is_null()) {
        if let Some((list, _)) = address.as_str().rsplit_once('/') {
            lists.entry(list).or_default().push((address, fact));
        }
    }
    for items in lists.values_mut() {
        items.sort_by_key(|(_, fact)| position(fact));
    }
    lists
}

fn position(fact: &Value) -> u64 {
    fact[POSITION].as_u64().unwrap_or_default()
}

/// The fact without the place.
fn content(fact: &Value) -> Value {
    let mut fact = fact.clone();
    if let Some(fields) = fact.as_object_mut() {
        fields.remove(POSITION);
    }
    fact
}

/// What an item is known by: its name, or all that it says.
fn identity(fact: &Value) -> String {
    match fact["name"].as_str() {
        Some(name) => format!("name {name}"),
        None => content(fact).to_string(),
    }
}

fn of_list(old: &[Item<'_>], new: &[Item<'_>]) -> Vec<Change> {
    let pairs = pairs(old, new);
    let stays = increasing(&pairs.iter().flatten().copied().collect::<Vec<_>>());
    let kept: BTreeSet<usize> = pairs.iter().flatten().copied().collect();
    let mut gone: BTreeMap<&Address, &Value> = old
        .iter()
        .enumerate()
        .filter(|(at, _)| !kept.contains(at))
        .map(|(_, (address, fact))| (*address, *fact))
        .collect();
    let change = |action, address: &Address, reason: String, before: Value, after: Value| Change {
        address: address.clone(),
        action,
        reason,
        disruption: String::new(),
        before: before.into(),
        after: after.into(),
        mode: None,
    };
    let mut changes = Vec::new();
    for ((address, fact), pair) in new.iter().zip(&pairs) {
        let Some(at) = pair else {
            // Where something else was, it has changed.
            changes.push(match gone.remove(*address) {
                Some(was) => change(
                    Action::Update,
                    address,
                    "changed in the file".to_owned(),
                    was.clone(),
                    (*fact).clone(),
                ),
                None => change(
                    Action::Create,
                    address,
                    "in the file, not applied yet".to_owned(),
                    Value::Null,
                    (*fact).clone(),
                ),
            });
            continue;
        };
        let was = old[*at].1;
        let moved = !stays.contains(at);
        let changed = content(was) != content(fact);
        let reason = match (moved, changed) {
            (false, false) => continue,
            (false, true) => "changed in the file".to_owned(),
            (true, _) => {
                let what = if changed {
                    "changed and moved"
                } else {
                    "moved"
                };
                format!(
                    "{what} in the file: place {} -> {}",
                    position(was),
                    position(fact)
                )
            }
        };
        let mut before = was.clone();
        if !moved {
            // Others came or went in front of it.
            before[POSITION] = fact[POSITION].clone();
        }
        changes.push(change(
            Action::Update,
            address,
            reason,
            before,
            (*fact).clone(),
        ));
    }
    for (address, fact) in gone {
        let reason = "no longer in the file".to_owned();
        let after = Value::Null;
        changes.push(change(Action::Delete, address, reason, fact.clone(), after));
    }
    changes
}

/// For each new item, which old one it was.
fn pairs(old: &[Item<'_>], new: &[Item<'_>]) -> Vec<Option<usize>> {
    let mut known: BTreeMap<String, VecDeque<usize>> = BTreeMap::new();
    for (at, (_, fact)) in old.iter().enumerate() {
        known.entry(identity(fact)).or_default().push_back(at);
    }
    new.iter()
        .map(|(_, fact)| known.get_mut(&identity(fact))?.pop_front())
        .collect()
}

/// A longest sequence of these numbers that increases: what is in it has not moved.
fn increasing(numbers: &[usize]) -> BTreeSet<usize> {
    // The last of the best sequence of each length, by place; and what is before each.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous = vec![None; numbers.len()];
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers[*end] < *number);
        previous[at] = length.checked_sub(1).map(|shorter| ends[shorter]);
        if length == ends.len() {
            ends.push(at);
        } else {
            ends[length] = at;
        }
    }
    let mut stays = BTreeSet::new();
    let mut next = ends.last().copied();
    while let Some(at) = next {
        stays.insert(numbers[at]);
        next = previous[at];
    }
    stays
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Rules by name, or in brackets by what they say.
    fn facts(rules: &str) -> Facts {
        let words = rules.split_whitespace().enumerate();
        words
            .map(|(at, word)| {
                let cube = Address::cube(&"fw".parse().expect("a name"));
                let (key, mut fact) = match word.strip_prefix('[') {
                    Some(says) => (at.to_string(), json!({ "says": says })),
                    None => {
                        let (name, says) = word.split_once('=').unwrap_or((word, ""));
                        (name.to_owned(), json!({ "name": name, "says": says }))
                    }
                };
                fact[POSITION] = at.into();
                (cube.entry("ingress/rules", &key), fact)
            })
            .collect()
    }

    fn changed(before: &str, after: &str) -> Vec<String> {
        let (before, after) = (facts(before), facts(after));
        let (changes, seen) = changes(&before, &after, &BTreeSet::new());
        assert_eq!(
            seen.len(),
            before
                .keys()
                .chain(after.keys())
                .collect::<BTreeSet<_>>()
                .len()
        );
        let mut texts: Vec<String> = changes
            .iter()
            .map(|change| {
                let key = change
                    .address
                    .as_str()
                    .rsplit('/')
                    .next()
                    .unwrap_or_default();
                let place = change.reason.split("place ").nth(1).unwrap_or_default();
                format!("{:?} {key} {place}", change.action)
                    .trim_end()
                    .to_owned()
            })
            .collect();
        texts.sort();
        texts
    }

    #[test]
    fn one_change_is_one_change() {
        let none: [&str; 0] = [];
        for (before, after, changes) in [
            ("a b c", "a b c", none.as_slice()),
            ("a b c", "x a b c", &["Create x"]),
            ("[p [q [r", "[new [p [q [r", &["Create 0"]),
            ("a b c", "b c", &["Delete a"]),
            ("[p [q [r", "[q [r", &["Delete 0"]),
            ("a b c d", "d a b c", &["Update d 3 -> 0"]),
            ("[p [q [r [s", "[q [r [s [p", &["Update 3 0 -> 3"]),
            ("a=1 b c", "a=2 b c", &["Update a"]),
            ("[p [q", "[other [q", &["Update 0"]),
            ("a=1 b c", "b c a=2", &["Update a 0 -> 2"]),
            ("", "a", &["Create a"]),
        ] {
            assert_eq!(changed(before, after), changes, "{before} -> {after}");
        }
    }
}
