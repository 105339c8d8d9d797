//! A topology as a flat list of addressed facts: what a plan's changes are about.

mod whole;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, json, value::RawValue};
use topology_schema::{Drift, Instance, RouteTarget, Topology};

pub(crate) use self::whole::whole;
use crate::{address::Address, cube::driver_for};

/// Facts by address. An object's own fact comes before those of its entries.
pub type Facts = BTreeMap<Address, Value>;

/// The member of a mapping that is a list in which order matters.
const RULES: &str = "/rules";

/// Where an item of such a list is, from 0: a field that its fact has besides those of the file.
pub const POSITION: &str = "position";

/// Takes a topology apart.
pub fn facts(topology: &Topology) -> Facts {
    facts_beside(topology, Other::Unknown)
}

/// What the facts of a topology are made beside.
#[derive(Clone, Copy)]
enum Other<'a> {
    /// Nothing: all of them are wanted.
    Unknown,
    /// Another version: only what differs is wanted, and of cubes that the other has not only the kind ([`whole`]).
    Is(Option<&'a Topology>),
}

/// The facts of both, less those of items of lists that both have alike: comparing thousands of
/// rules or routes costs no more than what differs. Of a cube that only one has, or that changes its kind, there is
/// nothing but the kind: [`whole`] says the rest.
pub fn facts_of_both(old: Option<&Topology>, new: Option<&Topology>) -> (Facts, Facts) {
    let is_one = old
        .zip(new)
        .is_some_and(|(old, new)| std::ptr::eq(old, new));
    if is_one || old == new {
        return <(Facts, Facts)>::default();
    }
    let beside = |topology: Option<&Topology>, other| {
        topology
            .map(|topology| facts_beside(topology, Other::Is(other)))
            .unwrap_or_default()
    };
    (beside(old, new), beside(new, old))
}

fn facts_beside(topology: &Topology, other: Other<'_>) -> Facts {
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
        let address = Address::cube(name);
        let same_kind = |other: &&Instance| other.kind() == cube.kind();
        match other {
            Other::Unknown => cube_facts(&address, cube, None, &mut facts),
            Other::Is(other) => {
                let other = other.and_then(|other| other.spec.cubes.get(name));
                match other.filter(same_kind) {
                    None => {
                        facts.insert(address, json!({ "kind": cube.kind().name() }));
                    }
                    other => cube_facts(&address, cube, other, &mut facts),
                }
            }
        }
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
fn cube_facts(address: &Address, cube: &Instance, other: Option<&Instance>, facts: &mut Facts) {
    let kind = cube.kind();
    let mut own = Map::from_iter([("kind".to_owned(), Value::from(kind.name()))]);
    if let Some(drift) = cube.drift {
        own.insert("drift".to_owned(), json(&drift));
    }
    if other != Some(cube) {
        let text = text(&cube.cube);
        let other = other
            .map(|other| self::text(&other.cube))
            .unwrap_or_default();
        let settings = Settings {
            address,
            lists: driver_for(kind).lists(),
            other: Fields::of(&other).member(kind.name()),
        };
        settings.facts(&Fields::of(&text).member(kind.name()), &mut own, facts);
    }
    facts.insert(address.clone(), Value::Object(own));
}

/// Settings of a cube, for taking them apart beside another version of them.
struct Settings<'a> {
    address: &'a Address,
    lists: &'a [(&'a str, &'a str)],
    other: Fields<'a>,
}

impl Settings<'_> {
    fn facts(&self, settings: &Fields<'_>, own: &mut Map<String, Value>, facts: &mut Facts) {
        for (field, value) in &settings.0 {
            match Shape::of(value) {
                Shape::Object => self.members(field, value, facts),
                Shape::Array => {
                    let by = self.by(field).unwrap_or("");
                    self.items((field, by), value, self.other.get(field), facts);
                }
                Shape::Scalar => {
                    own.insert(field.clone(), parsed(value));
                }
            }
        }
    }

    fn members(&self, field: &str, value: &RawValue, facts: &mut Facts) {
        let other = self.other.member(field);
        for (key, member) in &Fields::of(value.get()).0 {
            let path = format!("{field}/{key}");
            match (Shape::of(member), self.by(&path).or_else(|| self.by(field))) {
                (Shape::Array, Some(by)) => {
                    self.items((&path, by), member, other.get(key), facts);
                }
                _ => {
                    facts.insert(self.address.entry(field, key), parsed(member));
                }
            }
        }
    }

    fn by(&self, path: &str) -> Option<&str> {
        let mut lists = self.lists.iter();
        lists.find(|(list, _)| *list == path).map(|(_, by)| *by)
    }

    /// The items of a list that are not alike in both, and those of their names.
    fn items(
        &self,
        (path, by): (&str, &str),
        list: &RawValue,
        other: Option<&RawValue>,
        facts: &mut Facts,
    ) {
        let is_ordered = path.ends_with(RULES);
        let (items, others) = (Items::of(list), other.map(Items::of).unwrap_or_default());
        let [middle, other_middle] = items.middles(&others);
        let mut keys = BTreeSet::new();
        if !is_ordered {
            keys.extend(
                items
                    .parsed(middle.clone())
                    .map(|(at, item)| key_of(&item, by, at)),
            );
            keys.extend(
                others
                    .parsed(other_middle)
                    .map(|(at, item)| key_of(&item, by, at)),
            );
        }
        let all = if keys.is_empty() {
            middle.clone()
        } else {
            0..items.0.len()
        };
        for (index, mut item) in items.parsed(all) {
            let key = key_of(&item, by, index);
            if is_ordered {
                if let Some(fields) = item.as_object_mut() {
                    fields.insert(POSITION.to_owned(), index.into());
                }
                facts.insert(self.address.entry(path, &key), item);
            } else if middle.contains(&index) || keys.contains(&key) {
                together(
                    facts.entry(self.address.entry(path, &key)).or_default(),
                    item,
                );
            }
        }
    }
}

/// Items of a list, not parsed yet.
#[derive(Default)]
struct Items<'a>(Vec<&'a RawValue>);

impl<'a> Items<'a> {
    fn of(list: &'a RawValue) -> Self {
        Self(serde_json::from_str(list.get()).unwrap_or_default())
    }

    /// What is between the items that both lists begin with and those that both end with.
    fn middles(&self, other: &Self) -> [Range<usize>; 2] {
        let same = |(one, other): &(&&RawValue, &&RawValue)| one.get() == other.get();
        let front = self.0.iter().zip(&other.0).take_while(same).count();
        let (rest, other_rest) = (&self.0[front..], &other.0[front..]);
        let back = rest.iter().rev().zip(other_rest.iter().rev());
        let back = back.take_while(same).count();
        [self, other].map(|list| front..list.0.len() - back)
    }

    fn parsed(&self, range: Range<usize>) -> impl Iterator<Item = (usize, Value)> {
        let items = range.clone().zip(&self.0[range]);
        items.map(|(index, item)| (index, parsed(item)))
    }
}

/// Fields of an object in their order, their values not parsed yet.
#[derive(Default)]
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// None of what is no object.
    fn of(text: &'a str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    fn get(&self, field: &str) -> Option<&'a RawValue> {
        let mut fields = self.0.iter();
        fields
            .find(|(name, _)| name == field)
            .map(|(_, value)| *value)
    }

    /// The fields of an object that is a field.
    fn member(&self, field: &str) -> Self {
        self.get(field)
            .map(|value| Self::of(value.get()))
            .unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// What a JSON text is.
enum Shape {
    Object,
    Array,
    Scalar,
}

impl Shape {
    fn of(value: &RawValue) -> Self {
        match value.get().as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            _ => Self::Scalar,
        }
    }
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

fn parsed(value: &RawValue) -> Value {
    serde_json::from_str(value.get()).unwrap_or_default()
}

/// Topology types always become JSON.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The same, as a value.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
