//! Ports that a rule names.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::port::{PortRange, parse};
use crate::text::{ValueCode, ValueError};

/// Ports: one, a range, or a list of both, with at least one item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports(Vec<PortRange>);

impl Ports {
    /// These; `None` for none.
    #[must_use]
    pub fn new(ranges: Vec<PortRange>) -> Option<Self> {
        (!ranges.is_empty()).then_some(Self(ranges))
    }

    /// The ranges, as they are written.
    #[must_use]
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [range] => range.serialize(serializer),
            ranges => ranges.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Ports;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, a range such as \"80-90\", or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Ports, E> {
                parse(text).map(|range| Ports(vec![range]))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Ports, E> {
                parse(&number.to_string()).map(|range| Ports(vec![range]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Ports, E> {
                parse(&number.to_string()).map(|range| Ports(vec![range]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, items: A) -> Result<Ports, A::Error> {
                let ranges: Vec<PortRange> = Vec::deserialize(SeqAccessDeserializer::new(items))?;
                Ports::new(ranges).ok_or_else(|| {
                    let error = ValueError::new(ValueCode::EmptyList, "the list has no port");
                    let error = error.help("leave the field out to match all ports");
                    de::Error::custom(format_args!("{error:#}"))
                })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FirewallPorts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let range = generator.subschema_for::<PortRange>();
        json_schema!({
            "description": "A port, a range, or a list of them: `80`, `\"80-90\"`, `[80, \"90-99\"]`.",
            "anyOf": [range, { "type": "array", "items": range, "minItems": 1 }]
        })
    }
}
