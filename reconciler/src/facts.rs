//! A topology as a flat list of addressed facts: what a plan's changes are about.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use topology_schema::{Drift, Instance, RouteTarget, Topology};

use crate::{address::Address, cube::driver_for};

/// Facts by address. An object's own fact comes before those of its entries.
pub type Facts = BTreeMap<Address, Value>;

/// The member of a mapping that is a list in which order matters.
const RULES: &str = "rules";

/// Where an item of such a list is, from 0: a field that its fact has besides those of the file.
pub const POSITION: &str = "position";

/// Takes a topology apart.
pub fn facts(topology: &Topology) -> Facts {
    let mut facts = namespaces(topology);
    let spec = &topology.spec;
    if spec.drift != Drift::default() {
        facts.insert(Address::topology(), json!({ "drift": spec.drift }));
    }
    for (name, interface) in &spec.interfaces {
        facts.insert(Address::interface(name), json(interface));
    }
    for link in &spec.links {
        facts.insert(Address::link(link), Value::Object(Map::new()));
    }
    for (index, check) in spec.checks.iter().enumerate() {
        facts.insert(Address::check(check, index), json(check));
    }
    for (name, cube) in &spec.cubes {
        cube_facts(&Address::cube(name), cube, &mut facts);
    }
    facts
}

/// The facts of its namespaces alone.
pub(crate) fn namespaces(topology: &Topology) -> Facts {
    let namespaces = topology.spec.namespaces.iter();
    let facts = namespaces.map(|(name, namespace)| (Address::namespace(name), json(namespace)));
    facts.collect()
}

/// The fact of the cube itself holds its kind and scalar settings; each item of a list and each
/// member of a map is a fact of its own.
fn cube_facts(address: &Address, cube: &Instance, facts: &mut Facts) {
    let kind = cube.kind();
    let mut own = Map::from_iter([("kind".to_owned(), Value::from(kind.name()))]);
    if let Some(drift) = cube.drift {
        own.insert("drift".to_owned(), json(&drift));
    }
    let settings = match json(&cube.cube) {
        Value::Object(mut tagged) => tagged.remove(kind.name()).unwrap_or_default(),
        _ => Value::Null,
    };
    let Value::Object(settings) = settings else {
        facts.insert(address.clone(), Value::Object(own));
        return;
    };
    let lists = driver_for(kind).lists();
    let by = |path: &str| {
        let mut lists = lists.iter();
        lists.find(|(list, _)| *list == path).map(|(_, by)| *by)
    };
    for (field, value) in settings {
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    let path = format!("{field}/{key}");
                    match (member, by(&path).or_else(|| by(&field))) {
                        (Value::Array(items), Some(by)) => {
                            let is_ordered = key == RULES;
                            for (index, mut item) in items.into_iter().enumerate() {
                                let key = key_of(&item, by, index);
                                if is_ordered && let Some(fields) = item.as_object_mut() {
                                    fields.insert(POSITION.to_owned(), index.into());
                                }
                                facts.insert(address.entry(&path, &key), item);
                            }
                        }
                        (member, _) => {
                            facts.insert(address.entry(&field, &key), member);
                        }
                    }
                }
            }
            Value::Array(items) => {
                let by = by(&field).unwrap_or("");
                for (index, item) in items.into_iter().enumerate() {
                    let entry = address.entry(&field, &key_of(&item, by, index));
                    together(facts.entry(entry).or_default(), item);
                }
            }
            scalar => {
                own.insert(field, scalar);
            }
        }
    }
    facts.insert(address.clone(), Value::Object(own));
}

/// Items of one name, such as routes to one network, are one fact.
fn together(fact: &mut Value, item: Value) {
    match fact {
        Value::Null => *fact = item,
        Value::Array(items) => items.push(item),
        _ => {
            let first = fact.take();
            *fact = Value::Array(vec![first, item]);
        }
    }
}

/// How an item is told from its neighbours: by one field, or by several, of which those before the
/// last may be left out. A default route is named by its prefix: there may be one of each family.
fn key_of(item: &Value, by: &str, index: usize) -> String {
    if let Some((outer, inner)) = by.split_once(' ') {
        let inner = key_of(item, inner, index);
        return match &item[outer] {
            Value::Null => inner,
            Value::String(outer) => format!("{outer}/{inner}"),
            outer => format!("{outer}/{inner}"),
        };
    }
    let key = if by.is_empty() { item } else { &item[by] };
    let text = match key {
        Value::String(text) => text.as_str(),
        Value::Number(number) => return number.to_string(),
        _ => return index.to_string(),
    };
    let via = item["via"].as_str().and_then(|via| via.parse().ok());
    match (text.parse::<RouteTarget>(), via) {
        (Ok(target), Some(via)) => target.prefix(via).to_string(),
        _ => text.to_owned(),
    }
}

/// Topology types always become JSON.
fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
