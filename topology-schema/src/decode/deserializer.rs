//! The serde data model over located nodes.

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::Context;
use super::error::{DecodeError, Problem};
use crate::document::{Entry, Meaning, NodeId, Scalar, Value};

#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'c> {
    pub(super) context: &'c Context<'c>,
    pub(super) node: NodeId,
}

impl<'c> NodeDeserializer<'c> {
    fn value(self) -> &'c Value<'c> {
        self.context.visits.set(self.context.visits.get() + 1);
        &self.context.document.node(self.node).value
    }

    /// The error that says what the node is instead of what is expected.
    pub(super) fn refuse(self, expected: &str) -> DecodeError {
        let found = match self.value() {
            Value::List(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => Unexpected::Unit,
                Meaning::Bool(value) => Unexpected::Bool(value),
                Meaning::Unsigned(value) => Unexpected::Unsigned(value),
                Meaning::Signed(value) => Unexpected::Signed(value),
                Meaning::Float(value) => Unexpected::Float(value),
                Meaning::Text => Unexpected::Str(&scalar.text),
            },
        };
        de::Error::invalid_type(found, &expected)
    }

    fn visit_scalar<'de, V: Visitor<'de>>(
        scalar: &Scalar<'_>,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match scalar.meaning() {
            Meaning::Null => visitor.visit_unit(),
            Meaning::Bool(value) => visitor.visit_bool(value),
            Meaning::Unsigned(value) => visitor.visit_u64(value),
            Meaning::Signed(value) => visitor.visit_i64(value),
            Meaning::Float(value) => visitor.visit_f64(value),
            Meaning::Text => visitor.visit_str(&scalar.text),
        }
    }

    /// Positions of the entries or items that are not left out.
    fn remaining(self, count: usize) -> Remaining<'c> {
        Remaining {
            context: self.context,
            node: self.node,
            next: 0,
            count,
            value: None,
        }
    }

    fn visit_list<'de, V: Visitor<'de>>(
        self,
        items: &[NodeId],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(Items {
            items,
            remaining: self.remaining(items.len()),
        })
    }
}

impl<'de, 'c> Deserializer<'de> for NodeDeserializer<'c> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value() {
            Value::Scalar(scalar) => Self::visit_scalar(scalar, visitor),
            Value::List(items) => self.visit_list(items, visitor),
            Value::Map(map) => visitor.visit_map(Entries {
                entries: &map.entries,
                remaining: self.remaining(map.entries.len()),
            }),
        }
    }

    /// Being there is being some: an optional field is left out, not set to nothing.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value() {
            Value::List(items) if items.len() > length => {
                let expected = (&visitor as &dyn Expected).to_string();
                Err(DecodeError::new(Problem::WrongLength {
                    expected,
                    found: items.len(),
                }))
            }
            Value::List(items) => self.visit_list(items, visitor),
            Value::Scalar(_) | Value::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value() {
            // Derived code would take a list for the fields in their order.
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            Value::Scalar(_) | Value::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value() {
            Value::Scalar(scalar) if scalar.meaning() == Meaning::Text => visitor
                .visit_enum(StrDeserializer::new(&scalar.text))
                .map_err(|error: DecodeError| needs_settings(error, scalar)),
            Value::Scalar(scalar) => Self::visit_scalar(scalar, visitor),
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            Value::Map(map) => {
                let mut remaining = self.remaining(map.entries.len());
                match (remaining.advance(), remaining.advance()) {
                    (Some(position), None) => visitor.visit_enum(Tagged {
                        entry: &map.entries[position],
                        position,
                        deserializer: self,
                    }),
                    _ => {
                        let expected = (&visitor as &dyn Expected).to_string();
                        let skipped =
                            |position| self.context.skipped.contains(&(self.node, position));
                        let found = (0..map.entries.len()).filter(|position| !skipped(*position));
                        Err(DecodeError::new(Problem::NotOneKey {
                            expected,
                            found: found.count(),
                        }))
                    }
                }
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq map
        identifier
    }
}

/// A kind that has settings, given as a bare word.
fn needs_settings(error: DecodeError, scalar: &Scalar<'_>) -> DecodeError {
    match error.problem {
        Problem::WrongType {
            found, expected, ..
        } if found == "a single word" => DecodeError::new(Problem::WrongType {
            found: format!("only the word `{}`", scalar.text),
            expected: if expected == "newtype variant" {
                "a mapping".to_owned()
            } else {
                expected
            },
            help: Some(format!(
                "write `{}: ` with its settings behind it",
                scalar.text
            )),
        }),
        _ => error,
    }
}

struct Remaining<'c> {
    context: &'c Context<'c>,
    node: NodeId,
    next: usize,
    count: usize,
    value: Option<(usize, NodeId)>,
}

impl Remaining<'_> {
    fn advance(&mut self) -> Option<usize> {
        while self.next < self.count {
            let position = self.next;
            self.next += 1;
            let at = (self.node, position);
            if !self.context.pruned.contains(&at) && !self.context.skipped.contains(&at) {
                return Some(position);
            }
        }
        None
    }
}

struct Items<'c> {
    items: &'c [NodeId],
    remaining: Remaining<'c>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(position) = self.remaining.advance() else {
            return Ok(None);
        };
        let deserializer = NodeDeserializer {
            context: self.remaining.context,
            node: self.items[position],
        };
        seed.deserialize(deserializer)
            .map(Some)
            .map_err(|error| error.within(self.remaining.node, position))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.remaining.count - self.remaining.next)
    }
}

struct Entries<'c> {
    entries: &'c [Entry<'c>],
    remaining: Remaining<'c>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some(position) = self.remaining.advance() else {
            return Ok(None);
        };
        let Entry { key, value, .. } = &self.entries[position];
        self.remaining.value = Some((position, *value));
        let deserializer: StrDeserializer<'_, DecodeError> = key.as_ref().into_deserializer();
        seed.deserialize(deserializer)
            .map(Some)
            .map_err(|error| error.within(self.remaining.node, position).at_key())
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let Some((position, node)) = self.remaining.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let step = (self.remaining.node, position);
        if let Some(word) = self.remaining.context.standing_in.get(&step) {
            let deserializer: StrDeserializer<'_, DecodeError> = word.into_deserializer();
            return seed
                .deserialize(deserializer)
                .map_err(|error| error.within(step.0, step.1));
        }
        let deserializer = NodeDeserializer {
            context: self.remaining.context,
            node,
        };
        seed.deserialize(deserializer)
            .map_err(|error| error.within(self.remaining.node, position))
    }
}

/// The single entry of a mapping whose key says what the value is.
struct Tagged<'c> {
    entry: &'c Entry<'c>,
    position: usize,
    deserializer: NodeDeserializer<'c>,
}

impl<'c> Tagged<'c> {
    fn inner(&self) -> NodeDeserializer<'c> {
        NodeDeserializer {
            context: self.deserializer.context,
            node: self.entry.value,
        }
    }

    fn within(&self, error: DecodeError) -> DecodeError {
        error.within(self.deserializer.node, self.position)
    }
}

impl<'de, 'c> de::EnumAccess<'de> for Tagged<'c> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), DecodeError> {
        let deserializer: StrDeserializer<'_, DecodeError> =
            self.entry.key.as_ref().into_deserializer();
        match seed.deserialize(deserializer) {
            Ok(variant) => Ok((variant, self)),
            Err(error) => Err(self.within(error).at_key()),
        }
    }
}

impl<'de> de::VariantAccess<'de> for Tagged<'_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        let word = &self.entry.key;
        Err(DecodeError::new(Problem::WrongType {
            found: "a mapping".to_owned(),
            expected: format!("the word `{word}` alone"),
            help: Some(format!("write `{word}`")),
        }))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        seed.deserialize(self.inner())
            .map_err(|error| self.within(error))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.inner()
            .deserialize_tuple(length, visitor)
            .map_err(|error| self.within(error))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.inner()
            .deserialize_struct("", fields, visitor)
            .map_err(|error| self.within(error))
    }
}
