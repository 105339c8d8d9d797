//! Ports of transport protocols.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text::{ValueCode, ValueError, quote};

/// One port or several that follow one another: `80`, `8000-8010`. Never 0 (RFC 6335, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports from `first` to `last`, both included; `None` if there are none or 0 is among them.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last {
            None
        } else {
            Some(Self { first, last })
        }
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

    /// Whether the two have a port in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
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
        let port = |text: &str| {
            let digits = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|_| digits)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        port(first)
            .zip(port(last))
            .and_then(|(first, last)| Self::new(first, last))
            .ok_or_else(|| invalid(&quote(text)))
    }
}

fn invalid(what: &str) -> ValueError {
    ValueError::new(
        ValueCode::OutOfRange,
        format!("{what} is no port and no range of ports"),
    )
    .help("write a port from 1 to 65535, or two with the lower one first: 8000-8010")
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
                f.write_str("a port or a range of ports such as `8000-8010`")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortRange, E> {
                u16::try_from(number)
                    .ok()
                    .and_then(|port| PortRange::new(port, port))
                    .ok_or_else(|| E::custom(format_args!("{:#}", invalid(&number.to_string()))))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortRange, E> {
                Err(E::custom(format_args!(
                    "{:#}",
                    invalid(&number.to_string())
                )))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortRange, E> {
                text.parse()
                    .map_err(|error| E::custom(format_args!("{error:#}")))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for PortRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A port, 1 to 65535, or a range of ports such as `8000-8010`.",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": "^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$" }
            ]
        })
    }
}
