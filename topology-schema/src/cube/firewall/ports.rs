//! Ports, and ranges of them.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text::{ValueCode, ValueError, quote};

/// 0 to 65535.
const PORT: &str = r"(0|[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])";

/// One port or several that follow one another: `80`, `80-90`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports from `first` to `last`, both included; none if `last` is the lower one.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Self {
        Self { first, last }
    }

    /// The first port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(f);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let port = |port: &str| {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let plain = digits && (port == "0" || !port.starts_with('0'));
            port.parse().ok().filter(|_| plain)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (port(first), port(last)) {
            (Some(first), Some(last)) => Ok(Self { first, last }),
            _ => Err(ValueError::new(
                ValueCode::OutOfRange,
                format!("{} is no port and no range of ports", quote(text)),
            )
            .help("write it like 80 or \"80-90\", with numbers from 0 to 65535")),
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            serializer.serialize_u16(self.first)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = PortRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, or a range such as \"80-90\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortRange, E> {
                parse(text)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortRange, E> {
                parse(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortRange, E> {
                parse(&number.to_string())
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

fn parse<E: de::Error>(text: &str) -> Result<PortRange, E> {
    text.parse()
        .map_err(|error: ValueError| E::custom(format_args!("{error:#}")))
}

impl JsonSchema for PortRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FirewallPortRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Port from 0 to 65535, or a range of them: `80`, `\"80-90\"`.",
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 65535 },
                { "type": "string", "pattern": format!("^{PORT}(-{PORT})?$") },
            ]
        })
    }
}

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

    /// Whether they are written as a list.
    pub(super) fn is_list(&self) -> bool {
        self.0.len() > 1
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
