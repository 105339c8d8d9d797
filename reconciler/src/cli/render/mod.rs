//! Plans as text, JSON and Markdown. Pure: the same plan gives the same bytes.

pub mod graph;
pub mod history;
mod json;
mod markdown;
pub mod status;
mod table;
mod text;

use std::fmt::{self, Write as _};

use serde_json::Value;
use topology_schema::Name;

pub use self::{
    json::{json, json_of_all},
    markdown::markdown,
    text::{
        changes as changes_text, drift as drift_text, pending as pending_text,
        summary as summary_text, text,
    },
};
use crate::{
    change::{Action, Change, Changes, Fact},
    reconcile,
};

/// What is shown of a plan.
pub struct View<'a> {
    /// For which topology.
    pub topology: &'a Name,
    /// What changes.
    pub changes: &'a Changes,
    /// What is hardly meant in the file, as `validate` puts it: a list.
    pub warnings: Value,
}

impl<'a> View<'a> {
    /// A plan without warnings.
    pub fn new(plan: &'a reconcile::Plan) -> Self {
        Self {
            topology: &plan.topology,
            changes: &plan.changes,
            warnings: Value::Array(Vec::new()),
        }
    }
}

/// Actions in the order in which the summary counts them.
const ACTIONS: [Action; 4] = [
    Action::Create,
    Action::Update,
    Action::Replace,
    Action::Delete,
];

/// An action's symbol and word.
fn label(action: Action) -> (&'static str, &'static str) {
    match action {
        Action::Create => ("+", "create"),
        Action::Update => ("~", "update"),
        Action::Replace => ("-/+", "replace"),
        Action::Delete => ("-", "delete"),
    }
}

/// What changes, in one line: `field: old -> new` for each field that differs, else the value
/// that comes or goes. Empty if there is nothing to say.
fn values(change: &Change) -> String {
    if let (nothing, Fact::Text(text)) | (Fact::Text(text), nothing) =
        (&change.before, &change.after)
        && nothing.is_null()
    {
        return shortened(text.get());
    }
    match (&*change.before.value(), &*change.after.value()) {
        (Value::Null, value) | (value, Value::Null) if is_nothing(value) => String::new(),
        (Value::Null, value) | (value, Value::Null) => shortened(value),
        (Value::Object(before), Value::Object(after)) => {
            let mut fields: Vec<&String> = before.keys().chain(after.keys()).collect();
            fields.sort();
            fields.dedup();
            let changed = fields
                .into_iter()
                .filter(|field| before.get(*field) != after.get(*field));
            let side = |value: Option<&Value>| {
                value.map_or_else(|| "(unset)".to_owned(), Value::to_string)
            };
            changed
                .map(|field| {
                    format!(
                        "{field}: {} -> {}",
                        side(before.get(field)),
                        side(after.get(field))
                    )
                })
                .collect::<Vec<_>>()
                .join(", ")
        }
        (before, after) => format!("{before} -> {after}"),
    }
}

/// Longest value in a line; JSON has all of it.
const VALUE_LENGTH: usize = 160;

/// The beginning of a value's text: that of an object that comes may have thousands of rules.
fn shortened(value: impl fmt::Display) -> String {
    let mut beginning = Beginning::default();
    // It ends with an error where the rest is not wanted.
    let _full = write!(beginning, "{value}");
    beginning.0
}

/// Takes the beginning of a text, and says that there was more.
#[derive(Default)]
struct Beginning(String, usize);

impl fmt::Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = VALUE_LENGTH - self.1;
        match text.char_indices().nth(left) {
            Some((end, _)) => {
                self.0.push_str(&text[..end]);
                self.0.push_str("...");
                Err(fmt::Error)
            }
            None => {
                self.0.push_str(text);
                self.1 += text.chars().count();
                Ok(())
            }
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}
