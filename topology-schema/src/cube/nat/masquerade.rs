//! Who is masqueraded: everybody, nobody, or some networks.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::addr::Prefix;

/// `true`, `false`, or a list of inside networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// `true` for everybody, `false` for nobody.
    Switch(bool),
    /// These networks.
    Prefixes(Vec<Prefix>),
}

impl Default for Masquerade {
    fn default() -> Self {
        Self::Switch(false)
    }
}

impl Masquerade {
    /// Whether nobody is masqueraded.
    #[must_use]
    pub fn is_off(&self) -> bool {
        match self {
            Self::Switch(on) => !on,
            Self::Prefixes(prefixes) => prefixes.is_empty(),
        }
    }
}

impl Serialize for Masquerade {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Switch(on) => serializer.serialize_bool(*on),
            Self::Prefixes(prefixes) => prefixes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Masquerade {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Masquerade;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or a list of networks such as [10.0.0.0/8]")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Masquerade, E> {
                Ok(Masquerade::Switch(on))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, items: A) -> Result<Masquerade, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(items))
                    .map(Masquerade::Prefixes)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Masquerade {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NatMasquerade".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let prefix = generator.subschema_for::<Prefix>();
        json_schema!({
            "description": "`true`, `false`, or a list of inside networks: `[10.0.0.0/8]`.",
            "anyOf": [{ "type": "boolean" }, { "type": "array", "items": prefix }]
        })
    }
}
