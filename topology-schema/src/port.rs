//! Ports of transport protocols.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text::{ValueCode, ValueError, quote};

/// 0 to 65535.
const PORT: &str = r"(0|[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])";

/// One port or several that follow one another: `80`, `8000-8010`. 0 is among them: packets may have it, though nobody may
/// use it (RFC 6335, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports from `first` to `last`, both included; `None` if there are none.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first > last {
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
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let plain = digits && (text == "0" || !text.starts_with('0'));
            text.parse::<u16>().ok().filter(|_| plain)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = port(first).zip(port(last)).ok_or_else(|| invalid(text))?;
        Self::new(first, last).ok_or_else(|| {
            let message = format!("there is no port in {text}: the first number is the larger");
            ValueError::new(ValueCode::EmptyRange, message)
                .help(format!("write it as {last}-{first}"))
        })
    }
}

fn invalid(text: &str) -> ValueError {
    let message = format!("{} is no port and no range of ports", quote(text));
    ValueError::new(ValueCode::OutOfRange, message)
        .help("write it like 80 or \"80-90\", with numbers from 0 to 65535")
}

/// The same as an error of a deserializer.
pub(crate) fn parse<E: de::Error>(text: &str) -> Result<PortRange, E> {
    text.parse()
        .map_err(|error: ValueError| E::custom(format_args!("{error:#}")))
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

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortRange, E> {
                parse(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortRange, E> {
                parse(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortRange, E> {
                parse(text)
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
            "description": "Port from 0 to 65535, or a range of them: `80`, `\"80-90\"`.",
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 65535 },
                { "type": "string", "pattern": format!("^{PORT}(-{PORT})?$") },
            ]
        })
    }
}
