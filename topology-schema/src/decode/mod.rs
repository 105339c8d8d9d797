//! From located nodes to types, going on after a problem.
//!
//! A value that cannot be decoded is reported and left out, and what is around it is decoded again without it. What is
//! missing only because it was left out is no problem of its own. So serde's derived code, which stops at the first
//! problem, gives all of them. Where one of a few words must be given and another one was, one of the few stands in for it: what is
//! around it is then still looked at by the rules.

mod deserializer;
mod error;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;

use crate::diagnostic::Diagnostic;
use crate::document::{Document, NodeId, Value};
use crate::path::Path;
use deserializer::NodeDeserializer;
use error::{DecodeError, Problem};

pub(crate) use error::unknown_field;

/// Most problems that are reported about the structure of one document.
pub(crate) const MAX_PROBLEMS: usize = 200;

/// Most nodes that are visited: bounds the time that decoding again and again can take.
const MAX_VISITS: usize = 20_000_000;

/// Decodes parts of one document and collects what is wrong with them.
pub(crate) struct Decoder<'d> {
    context: Context<'d>,
    pub(crate) problems: Vec<Diagnostic>,
    /// What was left out; rules about absence must not be applied there.
    pub(crate) damaged: Vec<Path>,
}

/// What all deserializers of a document share.
struct Context<'d> {
    document: &'d Document<'d>,
    /// Entries and items that are left out, by collection and position.
    pruned: HashSet<(NodeId, usize)>,
    /// Entries that somebody else reads.
    skipped: HashSet<(NodeId, usize)>,
    /// Words that are known where an unknown one was left out.
    known: HashMap<(NodeId, usize), &'static str>,
    /// Entries for which such a word stands in, because something must be there.
    standing_in: HashMap<(NodeId, usize), &'static str>,
    visits: Cell<usize>,
}

impl Context<'_> {
    fn has_pruned(&self, node: NodeId) -> bool {
        let count = match &self.document.node(node).value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.len(),
            Value::Map(map) => map.entries.len(),
        };
        !self.pruned.is_empty()
            && (0..count).any(|position| self.pruned.contains(&(node, position)))
    }
}

impl<'d> Decoder<'d> {
    pub(crate) fn new(document: &'d Document<'d>) -> Self {
        let context = Context {
            document,
            pruned: HashSet::new(),
            skipped: HashSet::new(),
            known: HashMap::new(),
            standing_in: HashMap::new(),
            visits: Cell::new(0),
        };
        Self {
            context,
            problems: Vec::new(),
            damaged: Vec::new(),
        }
    }

    /// Decodes one value; `None` if too little of it is right.
    pub(crate) fn decode<T: DeserializeOwned>(&mut self, node: NodeId, path: &Path) -> Option<T> {
        loop {
            let error = match T::deserialize(NodeDeserializer {
                context: &self.context,
                node,
            }) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let innermost = error.trail.first().copied();
            let stood_in =
                innermost.is_some_and(|step| self.context.standing_in.remove(&step).is_some());
            let place = self.place(node, path, &error);
            if !stood_in && !self.is_consequence(&place, &error.problem) {
                self.problems.push(self.describe(&place, &error));
            }
            if self.stand_in(&place, &error) {
                continue;
            }
            self.damaged.push(place.path);
            let again =
                innermost.is_some_and(|step| !self.exhausted() && self.context.pruned.insert(step));
            if !again {
                self.damaged.push(path.clone());
                return None;
            }
        }
    }

    /// True if what is missing is an unknown word that was left out, for which a known one stands in from now on.
    fn stand_in(&mut self, place: &Place, error: &DecodeError) -> bool {
        match (&error.problem, error.trail.first()) {
            (Problem::UnknownVariant { expected, .. }, Some(step)) if !error.at_key => {
                if let Some(word) = expected.first() {
                    self.context.known.insert(*step, word);
                }
                false
            }
            (Problem::MissingField(field), _) => {
                let Value::Map(map) = &self.context.document.node(place.node).value else {
                    return false;
                };
                let position = map.entries.iter().position(|entry| entry.key == *field);
                let Some(step) = position.map(|position| (place.node, position)) else {
                    return false;
                };
                // Once: a word that needs settings does not do.
                let Some(word) = self.context.known.remove(&step) else {
                    return false;
                };
                self.context.pruned.remove(&step);
                self.context.standing_in.insert(step, word);
                true
            }
            _ => false,
        }
    }

    /// Leaves an entry of a mapping out of what is decoded: it is read apart from the rest.
    pub(crate) fn skip(&mut self, map: NodeId, position: usize) {
        self.context.skipped.insert((map, position));
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic, damaged: Path) {
        self.problems.push(diagnostic);
        self.damaged.push(damaged);
    }

    /// That a value is not a collection of the kind that is expected.
    pub(crate) fn wrong_type(&self, node: NodeId, expected: &str, path: &Path) -> Diagnostic {
        let error = NodeDeserializer {
            context: &self.context,
            node,
        }
        .refuse(expected);
        error
            .problem
            .describe(path, &|_| false)
            .at(Some(self.context.document.node(node).location))
    }

    /// Whether it is time to give up.
    pub(crate) fn exhausted(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS || self.context.visits.get() > MAX_VISITS
    }

    fn place(&self, node: NodeId, path: &Path, error: &DecodeError) -> Place {
        let mut place = Place {
            node,
            path: path.clone(),
            location: self.context.document.locate(path),
        };
        for &(parent, position) in error.trail.iter().rev() {
            match &self.context.document.node(parent).value {
                Value::Map(map) => {
                    let entry = &map.entries[position];
                    place.path = place.path.key(&entry.key);
                    place.node = entry.value;
                    place.location = Some(entry.key_location);
                }
                Value::List(items) => {
                    place.path = place.path.index(position);
                    place.node = items[position];
                    place.location = Some(self.context.document.node(items[position]).location);
                }
                Value::Scalar(_) => {}
            }
        }
        let at = self.context.document.node(place.node);
        let by_value = matches!(at.value, Value::Scalar(_)) || error.problem.is_about_value();
        if !error.at_key && by_value && at.location.line != 0 {
            place.location = Some(at.location);
        }
        place
    }

    /// Whether something is missing only because it was left out.
    fn is_consequence(&self, place: &Place, problem: &Problem) -> bool {
        let Value::Map(map) = &self.context.document.node(place.node).value else {
            return problem.is_absence() && self.context.has_pruned(place.node);
        };
        match problem {
            Problem::MissingField(field) => map.get(field).is_some(),
            other => other.is_absence() && self.context.has_pruned(place.node),
        }
    }

    fn describe(&self, place: &Place, error: &DecodeError) -> Diagnostic {
        let around = error
            .trail
            .first()
            .map(|&(parent, _)| &self.context.document.node(parent).value);
        let is_present =
            |name: &str| matches!(around, Some(Value::Map(map)) if map.get(name).is_some());
        error
            .problem
            .describe(&place.path, &is_present)
            .at(place.location)
    }
}

struct Place {
    node: NodeId,
    path: Path,
    location: Option<crate::diagnostic::Location>,
}
