//! A cube of a topology: what it does, and what can be said of every cube beside that.

use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::cube::Cube;
use crate::topology::Drift;

/// Fields that stand beside a cube's kind.
pub(crate) const FIELDS: [&str; 1] = ["drift"];

/// A cube with its settings, keyed by its kind, and what concerns cubes of all kinds beside it:
/// `{ bridge: {}, drift: warn }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// The network function and its settings.
    #[serde(flatten)]
    pub cube: Cube,
    /// What happens when others change what was applied of this cube. Default: what the topology says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
}

impl From<Cube> for Instance {
    fn from(cube: Cube) -> Self {
        Self { cube, drift: None }
    }
}

impl Deref for Instance {
    type Target = Cube;

    fn deref(&self) -> &Cube {
        &self.cube
    }
}

/// The schema of the kinds, with the other fields allowed in each: one kind, and nothing that is not known.
impl JsonSchema for Instance {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cube".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Cube::json_schema(generator);
        let mut drift = generator.subschema_for::<Drift>();
        drift.insert(
            "description".to_owned(),
            "What happens when others change what was applied of this cube. Default: what the topology says.".into(),
        );
        let kinds = schema
            .get_mut("oneOf")
            .and_then(serde_json::Value::as_array_mut);
        for kind in kinds.into_iter().flatten() {
            if let Some(properties) = kind["properties"].as_object_mut() {
                properties.insert("drift".to_owned(), drift.clone().to_value());
            }
        }
        schema
    }
}
