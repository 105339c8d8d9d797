//! VLAN identifiers, and sets of them.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quantity::Bounded;
use crate::text::{ValueCode, ValueError, quote};

/// VLAN identifier, 1 to 4094: 0 stands for no VLAN and 4095 is reserved (IEEE 802.1Q-2022, table 9-2).
pub type VlanId = Bounded<1, 4094>;

/// 1 to 4094.
const ID: &str = "([1-9][0-9]{0,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-4])";

/// One VLAN or several that follow one another: `10`, `20-30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanRange {
    first: VlanId,
    last: VlanId,
}

impl VlanRange {
    /// The VLANs from `first` to `last`, both included; none if `last` is the lower one.
    #[must_use]
    pub const fn new(first: VlanId, last: VlanId) -> Self {
        Self { first, last }
    }

    /// The first VLAN.
    #[must_use]
    pub const fn first(self) -> VlanId {
        self.first
    }

    /// The last VLAN.
    #[must_use]
    pub const fn last(self) -> VlanId {
        self.last
    }

    /// The identifiers, in order.
    pub fn ids(self) -> impl Iterator<Item = u16> {
        let id = |id: VlanId| u16::try_from(id.get()).unwrap_or(u16::MAX);
        id(self.first)..=id(self.last)
    }
}

impl fmt::Display for VlanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(f);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for VlanRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let id = |id: &str| {
            let plain = !id.starts_with('0') && id.bytes().all(|byte| byte.is_ascii_digit());
            id.parse().ok().filter(|_| plain).and_then(VlanId::new)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (id(first), id(last)) {
            (Some(first), Some(last)) => Ok(Self { first, last }),
            _ => Err(ValueError::new(
                ValueCode::OutOfRange,
                format!("{} is no VLAN and no range of VLANs", quote(text)),
            )
            .help("write it like 10 or 20-30, with numbers from 1 to 4094")),
        }
    }
}

impl Serialize for VlanRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            self.first.serialize(serializer)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for VlanRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        fn parse<E: de::Error>(text: &str) -> Result<VlanRange, E> {
            text.parse()
                .map_err(|error: ValueError| E::custom(format_args!("{error:#}")))
        }

        impl de::Visitor<'_> for Visitor {
            type Value = VlanRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a VLAN or a range of VLANs, such as 10 or 20-30")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<VlanRange, E> {
                parse(text)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<VlanRange, E> {
                parse(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<VlanRange, E> {
                parse(&number.to_string())
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for VlanRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VlanRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "VLAN identifier from 1 to 4094, or a range of them: `10`, `20-30`.",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 4094 },
                { "type": "string", "pattern": format!("^{ID}(-{ID})?$") },
            ]
        })
    }
}

/// A set of VLANs: `all`, or a list of identifiers and ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VlanSet {
    /// 1 to 4094.
    #[default]
    All,
    /// These.
    Ranges(Vec<VlanRange>),
}

impl VlanSet {
    /// The ranges; that of all VLANs for `all`.
    #[must_use]
    pub fn ranges(&self) -> &[VlanRange] {
        const ALL: [VlanRange; 1] = match (VlanId::new(1), VlanId::new(4094)) {
            (Some(first), Some(last)) => [VlanRange { first, last }],
            _ => unreachable!(),
        };
        match self {
            Self::All => &ALL,
            Self::Ranges(ranges) => ranges,
        }
    }

    /// Whether the VLAN is in the set.
    #[must_use]
    pub fn contains(&self, vlan: VlanId) -> bool {
        self.ranges()
            .iter()
            .any(|range| range.first <= vlan && vlan <= range.last)
    }

    pub(crate) fn is_all(&self) -> bool {
        *self == Self::All
    }
}

impl Serialize for VlanSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Ranges(ranges) => ranges.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for VlanSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = VlanSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all` or a list of VLANs such as [10, 20-30]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<VlanSet, E> {
                match text {
                    "all" => Ok(VlanSet::All),
                    _ => Err(E::invalid_type(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, items: A) -> Result<VlanSet, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(VlanSet::Ranges)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for VlanSet {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VlanSet".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let range = generator.subschema_for::<VlanRange>();
        json_schema!({
            "description": "`all`, or a list of VLANs and ranges of VLANs: `[10, 20-30]`.",
            "anyOf": [{ "const": "all" }, { "type": "array", "items": range }]
        })
    }
}
