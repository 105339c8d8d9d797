//! The JSON Schema of the whole document, from the types themselves.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::Value;

use crate::topology::Topology;

/// The JSON Schema (draft 2020-12) of a topology.
///
/// What it refuses, [`parse`](crate::parse) refuses. The converse holds but for what no pattern can say: bits beyond
/// the length of a prefix, the exact form of IPv6 addresses, and the rules of [`validate`](crate::validate).
#[must_use]
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with_transform(WithoutNull);
    let mut schema = settings.into_generator().into_root_schema_for::<Topology>();
    schema.insert(
        "$id".to_owned(),
        "https://pcn.dev/schema/v1alpha1/topology.schema.json".into(),
    );
    schema.into()
}

/// An optional field is left out, not set to null.
#[derive(Clone, Debug)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        let Some(Value::Array(alternatives)) = object.get_mut("anyOf") else {
            return;
        };
        alternatives.retain(|alternative| alternative.get("type") != Some(&Value::from("null")));
        if let [Value::Object(only)] = alternatives.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
}
