//! A topology as JSON, made once: its revision, the history, which is written twice, and the record all have the same text.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::{RawValue, to_raw_value};
use topology_schema::Topology;

/// The text that was made last. One is enough: a command has one topology at a time.
static LAST: Mutex<Option<(Weak<Topology>, Arc<RawValue>)>> = Mutex::new(None);

/// The JSON of a topology.
///
/// # Errors
///
/// None: topologies always become JSON.
pub fn of(topology: &Arc<Topology>) -> serde_json::Result<Arc<RawValue>> {
    // What is there is whole, whoever panicked.
    let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, text)) = &*last()
        && known
            .upgrade()
            .is_some_and(|known| Arc::ptr_eq(&known, topology))
    {
        return Ok(Arc::clone(text));
    }
    let text: Arc<RawValue> = to_raw_value(topology)?.into();
    *last() = Some((Arc::downgrade(topology), Arc::clone(&text)));
    Ok(text)
}

/// For `#[serde(serialize_with)]`.
pub fn serialize<S: Serializer>(
    topology: &Arc<Topology>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    of(topology)
        .map_err(S::Error::custom)?
        .serialize(serializer)
}

/// The same where there may be none.
pub fn serialize_optional<S: Serializer>(
    topology: &Option<Arc<Topology>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match topology {
        Some(topology) => serialize(topology, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use topology_schema::{Source, load};

    use super::*;

    fn topology(name: &str) -> Arc<Topology> {
        let text = format!(
            "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: {name} }}\nspec: {{}}\n"
        );
        let name = "t.yaml".to_owned();
        let loaded = load(&Source { name, text }).expect("it is valid");
        loaded.0.shared()
    }

    #[test]
    fn each_topology_has_its_own_text() {
        #[derive(Serialize)]
        struct Both {
            #[serde(serialize_with = "serialize")]
            one: Arc<Topology>,
            #[serde(serialize_with = "serialize_optional")]
            other: Option<Arc<Topology>>,
        }
        let (one, other) = (topology("one"), topology("other"));
        for _ in 0..2 {
            for topology in [&one, &other] {
                let text = serde_json::to_string(topology).expect("it becomes JSON");
                assert_eq!(of(topology).expect("it becomes JSON").get(), text);
            }
        }
        let other = Some(other);
        let plain = serde_json::json!({ "one": one, "other": other });
        let both = serde_json::to_value(Both { one, other }).expect("it becomes JSON");
        assert_eq!(both, plain);
    }
}
