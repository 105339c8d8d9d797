//! Plans for scripts.

use serde_json::{Map, Value, json};

use super::{ACTIONS, View, label};
use crate::cli::FORMAT_VERSION;

/// One plan.
pub fn json(view: &View<'_>) -> Value {
    let counts = ACTIONS.map(|action| {
        (
            label(action).1.to_owned(),
            Value::from(view.changes.count(action)),
        )
    });
    json!({
        "formatVersion": FORMAT_VERSION,
        "topology": view.topology,
        "summary": Map::from_iter(counts),
        "changes": view.changes.changes,
        "drift": view.changes.drift,
        "pending": view.changes.pending,
        "warnings": view.warnings,
    })
}

/// Several plans: `{formatVersion, plans}`; only where more than one file is given.
pub fn json_of_all(plans: Vec<Value>) -> Value {
    json!({ "formatVersion": FORMAT_VERSION, "plans": plans })
}
