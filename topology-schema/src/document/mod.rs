//! A YAML text as a tree of values, each with its place.
//!
//! `serde-saphyr` decodes straight into types and so stops at the first problem. Here the events of the parser below it
//! (`granit-parser`) are kept as a tree, so that everything that is wrong can be said at once and with its place.

mod beside;
mod place;
mod read;

use std::borrow::Cow;

use crate::diagnostic::Location;
use crate::path::{Path, Segment};

pub(crate) use read::read;

/// Largest text that is read, in bytes.
pub const MAX_BYTES: usize = 64 << 20;
/// Deepest nesting of lists and mappings. The language itself needs nine.
pub const MAX_DEPTH: usize = 32;
/// Most values in a document, those that aliases repeat counted each time.
pub const MAX_VALUES: u64 = 2_000_000;
/// Most aliases (`*name`) in a document.
pub const MAX_ALIASES: usize = 1000;

/// Entries of a mapping that are found as fast without an order.
const FEW: usize = 16;

/// Position of a node in [`Document`].
pub(crate) type NodeId = usize;

/// A text, read. What stands in it as it is meant is not copied.
#[derive(Debug, Default)]
pub(crate) struct Document<'t> {
    nodes: Vec<Node<'t>>,
    root: NodeId,
}

#[derive(Debug)]
pub(crate) struct Node<'t> {
    pub(crate) value: Value<'t>,
    pub(crate) location: Location,
    /// Values in it with itself, aliases expanded.
    weight: u64,
    /// Levels of lists and mappings in it.
    height: usize,
}

#[derive(Debug)]
pub(crate) enum Value<'t> {
    Scalar(Scalar<'t>),
    List(Vec<NodeId>),
    Map(Map<'t>),
}

#[derive(Debug)]
pub(crate) struct Scalar<'t> {
    pub(crate) text: Cow<'t, str>,
    /// Without quotes, so that it may mean a number or the like.
    plain: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Map<'t> {
    pub(crate) entries: Vec<Entry<'t>>,
    /// Positions of the entries, sorted by key; empty where there are [`FEW`], which are looked through.
    order: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Entry<'t> {
    pub(crate) key: Cow<'t, str>,
    pub(crate) key_location: Location,
    pub(crate) value: NodeId,
}

/// What a scalar means by the core schema of YAML 1.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

impl<'t> Map<'t> {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry<'t>> {
        if self.order.is_empty() {
            return self.entries.iter().find(|entry| entry.key == key);
        }
        let found = self
            .order
            .binary_search_by(|&position| self.entries[position].key.as_ref().cmp(key))
            .ok()?;
        Some(&self.entries[self.order[found]])
    }
}

impl Scalar<'_> {
    pub(crate) fn meaning(&self) -> Meaning {
        if !self.plain {
            return Meaning::Text;
        }
        match self.text.as_ref() {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            // Not `yes`, `on` and the like: in YAML 1.2 these are text.
            "true" | "True" | "TRUE" => Meaning::Bool(true),
            "false" | "False" | "FALSE" => Meaning::Bool(false),
            text => number(text).unwrap_or(Meaning::Text),
        }
    }
}

fn number(text: &str) -> Option<Meaning> {
    let radix = |prefix: &str, radix| {
        text.strip_prefix(prefix)
            .and_then(|digits| u64::from_str_radix(digits, radix).ok())
    };
    if let Some(value) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Some(Meaning::Unsigned(value));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let value = text
            .parse()
            .map(Meaning::Unsigned)
            .or_else(|_| text.parse().map(Meaning::Signed));
        return value.ok().or_else(|| text.parse().ok().map(Meaning::Float));
    }
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(Meaning::Float(f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" => return Some(Meaning::Float(f64::NAN)),
        _ => {}
    }
    // Rust reads more as a number than YAML does: `inf`, `NaN`.
    let digits = unsigned
        .trim_start_matches('.')
        .starts_with(|c: char| c.is_ascii_digit());
    if digits
        && unsigned
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
    {
        return text.parse().ok().map(Meaning::Float);
    }
    None
}

impl<'t> Document<'t> {
    pub(crate) fn node(&self, id: NodeId) -> &Node<'t> {
        &self.nodes[id]
    }

    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    /// The place of a path, or of the nearest thing around it that exists.
    pub(crate) fn locate(&self, path: &Path) -> Option<Location> {
        let mut node = self.nodes.get(self.root)?;
        let mut location = node.location;
        for segment in path.segments() {
            let (place, id) = match (segment, &node.value) {
                (Segment::Key(key), Value::Map(map)) => match map.get(key) {
                    Some(entry) => (entry.key_location, entry.value),
                    None => break,
                },
                (Segment::Index(index), Value::List(items)) => match items.get(*index) {
                    Some(&id) => (self.nodes[id].location, id),
                    None => break,
                },
                (
                    Segment::Key(_) | Segment::Index(_),
                    Value::Scalar(_) | Value::List(_) | Value::Map(_),
                ) => break,
            };
            node = &self.nodes[id];
            location = if matches!(node.value, Value::Scalar(_)) {
                node.location
            } else {
                place
            };
        }
        Some(location)
    }
}
