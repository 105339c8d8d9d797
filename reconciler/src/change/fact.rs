//! What is said of an object or an entry.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, value::RawValue};

/// A value. That of an object that comes or goes as a whole may be large, and mostly nobody looks into it.
#[derive(Clone, Debug)]
pub enum Fact {
    /// As it is.
    Value(Value),
    /// As JSON.
    Text(Box<RawValue>),
}

impl Fact {
    /// True if nothing is said.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Value(Value::Null))
    }

    /// To look into.
    pub fn value(&self) -> Cow<'_, Value> {
        match self {
            Self::Value(value) => Cow::Borrowed(value),
            Self::Text(text) => Cow::Owned(serde_json::from_str(text.get()).unwrap_or_default()),
        }
    }
}

impl Default for Fact {
    fn default() -> Self {
        Self::Value(Value::Null)
    }
}

impl From<Value> for Fact {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl PartialEq for Fact {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Serialize for Fact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Fact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::Value)
    }
}
