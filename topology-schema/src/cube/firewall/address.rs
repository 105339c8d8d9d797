//! Which addresses a rule matches.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::addr::{PREFIX, Prefix, pattern};
use crate::name::Name;
use crate::text::{ValueError, text_type};

/// The name of a set.
const SET: &str = "(?=.{1,32}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?";

/// A network, or a set of networks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// One network.
    Prefix(Prefix),
    /// The set with this name.
    Set(Name),
}

impl Target {
    /// The network, if it is one.
    #[must_use]
    pub fn prefix(&self) -> Option<Prefix> {
        match self {
            Self::Prefix(prefix) => Some(*prefix),
            Self::Set(_) => None,
        }
    }

    /// The set's name, if it is one.
    #[must_use]
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::Prefix(_) => None,
            Self::Set(name) => Some(name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Set(name) => write!(f, "@{name}"),
        }
    }
}

impl FromStr for Target {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.strip_prefix('@') {
            Some(name) => name.parse().map(Self::Set),
            None => text.parse().map(Self::Prefix),
        }
    }
}

text_type!(
    Target,
    "FirewallTarget",
    expecting "a network such as `10.0.0.0/8`, or a set such as `@name`",
    pattern pattern(&format!("({PREFIX})|@{SET}")),
    "A network, or a set of networks as `@name`. A bare address means one host.",
    number |_| None
);

/// Which addresses a rule matches: those of a target, or all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressMatch {
    /// Those of the target.
    Is(Target),
    /// The others: of a network, those of its family; of a set, those of both.
    Not(Target),
}

impl AddressMatch {
    /// What it speaks of.
    #[must_use]
    pub fn target(&self) -> &Target {
        match self {
            Self::Is(target) | Self::Not(target) => target,
        }
    }

    /// Whether it matches what is outside of the target.
    #[must_use]
    pub fn is_negated(&self) -> bool {
        matches!(self, Self::Not(_))
    }
}

/// How a negation is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "`{ not: 10.0.0.0/8 }`")]
struct Negation {
    /// What is not matched.
    not: Target,
}

impl Serialize for AddressMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Is(target) => target.serialize(serializer),
            Self::Not(target) => Negation {
                not: target.clone(),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AddressMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = AddressMatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a network, a set such as `@name`, or `{ not: 10.0.0.0/8 }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AddressMatch, E> {
                Target::deserialize(StrDeserializer::new(text)).map(AddressMatch::Is)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<AddressMatch, A::Error> {
                Negation::deserialize(MapAccessDeserializer::new(map))
                    .map(|negation| AddressMatch::Not(negation.not))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for AddressMatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FirewallAddressMatch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let target = generator.subschema_for::<Target>();
        let negation = Negation::json_schema(generator);
        json_schema!({
            "description": "A network, a set of networks (`@name`), or what is in neither: `{ not: 10.0.0.0/8 }`.",
            "anyOf": [target, negation]
        })
    }
}
