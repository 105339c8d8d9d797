//! Values that are text in a topology: one road from text to value for serde, and one error that keeps its help.

use std::fmt;

/// Why a piece of text is not the value that was asked for.
///
/// The alternate form (`{:#}`) carries all three parts through [`serde::de::Error::custom`], which takes nothing but
/// text; the decoder of this crate takes it apart again. Every other reader of serde errors prints the plain form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What kind of problem this is, as a diagnostic code.
    pub code: ValueCode,
    /// One sentence that quotes the offending text.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

/// The codes of [`ValueError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueCode {
    /// Not a name.
    InvalidName,
    /// Not the name of a network interface.
    InvalidInterfaceName,
    /// Not an address of six bytes.
    InvalidMac,
    /// Not an IP address, or one without its length.
    InvalidAddress,
    /// Not a network prefix.
    InvalidPrefix,
    /// A prefix with bits set beyond its length.
    HostBitsSet,
    /// Not a duration.
    InvalidDuration,
    /// Not a rate.
    InvalidRate,
    /// Not a URL that can be checked.
    InvalidUrl,
    /// Fields that do not go together.
    ConflictingFields,
    /// One of several fields is needed.
    MissingField,
    /// Not an endpoint.
    InvalidEndpoint,
    /// A number outside of its range.
    OutOfRange,
    /// A range whose end is before its beginning.
    EmptyRange,
    /// A list without items where one is needed.
    EmptyList,
    /// A value of the wrong type.
    WrongType,
}

impl ValueCode {
    const ALL: [Self; 16] = [
        Self::InvalidName,
        Self::InvalidInterfaceName,
        Self::InvalidMac,
        Self::InvalidAddress,
        Self::InvalidPrefix,
        Self::HostBitsSet,
        Self::InvalidDuration,
        Self::InvalidRate,
        Self::InvalidEndpoint,
        Self::InvalidUrl,
        Self::ConflictingFields,
        Self::MissingField,
        Self::OutOfRange,
        Self::EmptyRange,
        Self::EmptyList,
        Self::WrongType,
    ];

    /// The code as diagnostics print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidName => "invalid-name",
            Self::InvalidInterfaceName => "invalid-interface-name",
            Self::InvalidMac => "invalid-mac",
            Self::InvalidAddress => "invalid-address",
            Self::InvalidPrefix => "invalid-prefix",
            Self::HostBitsSet => "host-bits-set",
            Self::InvalidDuration => "invalid-duration",
            Self::InvalidRate => "invalid-rate",
            Self::InvalidEndpoint => "invalid-endpoint",
            Self::InvalidUrl => "invalid-url",
            Self::ConflictingFields => "conflicting-fields",
            Self::MissingField => "missing-field",
            Self::OutOfRange => "out-of-range",
            Self::EmptyRange => "empty-range",
            Self::EmptyList => "empty-list",
            Self::WrongType => "wrong-type",
        }
    }
}

/// Separates the parts of the alternate form; a control character, so no quoted text contains it.
const SEPARATOR: char = '\u{1f}';

impl ValueError {
    pub(crate) fn new(code: ValueCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            help: None,
        }
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Takes the alternate form apart; `None` for any other text.
    pub(crate) fn from_alternate(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, SEPARATOR);
        let code = parts.next()?;
        let code = ValueCode::ALL
            .into_iter()
            .find(|known| known.as_str() == code)?;
        let message = parts.next()?.to_owned();
        let help = parts
            .next()
            .filter(|help| !help.is_empty())
            .map(str::to_owned);
        Some(Self {
            code,
            message,
            help,
        })
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            let help = self.help.as_deref().unwrap_or_default();
            return write!(
                f,
                "{}{SEPARATOR}{}{SEPARATOR}{help}",
                self.code.as_str(),
                self.message
            );
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ValueError {}

/// Text quoted for a message: bounded, and without control characters.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut quoted = String::from("`");
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            quoted.push('…');
            break;
        }
        quoted.push(if character.is_control() {
            '\u{fffd}'
        } else {
            character
        });
    }
    quoted.push('`');
    quoted
}

/// Gives a type with `FromStr<Err = ValueError>` and `Display` its serde and schema form: a string.
macro_rules! text_type {
    ($type:ty, $name:literal, expecting $expecting:literal, pattern $pattern:expr, $description:literal) => {
        text_type!($type, $name, expecting $expecting, pattern $pattern, $description,
            number |number: &dyn std::fmt::Display| Some(format!("put it in quotes: \"{number}\"")));
    };
    ($type:ty, $name:literal, expecting $expecting:literal, pattern $pattern:expr, $description:literal,
     number $number_help:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl Visitor {
                    fn number<E: serde::de::Error>(number: &dyn std::fmt::Display) -> E {
                        let help: fn(&dyn std::fmt::Display) -> Option<String> = $number_help;
                        E::custom(format_args!("{:#}", $crate::text::ValueError {
                            code: $crate::text::ValueCode::WrongType,
                            message: format!(concat!("expected ", $expecting, ", found the number {}"), number),
                            help: help(number),
                        }))
                    }
                }

                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(|error: $crate::text::ValueError| E::custom(format_args!("{error:#}")))
                    }

                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        Err(Self::number(&number))
                    }

                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$type, E> {
                        Err(Self::number(&number))
                    }

                    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<$type, E> {
                        Err(Self::number(&number))
                    }
                }

                deserializer.deserialize_str(Visitor)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description, "pattern": $pattern })
            }
        }
    };
}

pub(crate) use text_type;
