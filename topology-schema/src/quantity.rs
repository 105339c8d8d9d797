//! Quantities with a unit or a range.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text::{ValueCode, ValueError, quote, text_type};

/// A span of time in whole seconds, at least one.
///
/// Its text is a number of hours, minutes and seconds in that order, each optional: `300s`, `5m`, `1h30m`. A bare number
/// is refused, since nobody can tell its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(u32);

impl Seconds {
    /// A duration of that many seconds; `None` for zero, and beyond what can be written (116 years).
    #[must_use]
    pub const fn new(seconds: u32) -> Option<Self> {
        if seconds == 0 || seconds > LONGEST {
            None
        } else {
            Some(Self(seconds))
        }
    }

    /// The number of seconds.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    pub(crate) const FIVE: Self = Self(5);
    pub(crate) const ONE_MINUTE: Self = Self(60);
    pub(crate) const FOUR_MINUTES: Self = Self(240);
    pub(crate) const FIVE_MINUTES: Self = Self(300);
    pub(crate) const TEN_MINUTES: Self = Self(600);
    pub(crate) const TWO_HOURS_FOUR_MINUTES: Self = Self(7440);
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 <= MAX_COUNT {
            return write!(f, "{}s", self.0);
        }
        let mut rest = self.0;
        for (unit, seconds) in UNITS {
            let count = (rest / seconds).min(MAX_COUNT);
            rest -= count * seconds;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

/// The units with their seconds, in the order in which they are written.
const UNITS: [(char, u32); 3] = [('h', 3600), ('m', 60), ('s', 1)];

/// Largest count before one unit: six digits keep the sum below 2^32.
const MAX_COUNT: u32 = 999_999;

/// `999999h999999m999999s`
const LONGEST: u32 = MAX_COUNT * (3600 + 60 + 1);

impl FromStr for Seconds {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid = |help: String| {
            ValueError::new(
                ValueCode::InvalidDuration,
                format!("{} is no duration", quote(text)),
            )
            .help(help)
        };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid(format!("say the unit: {text}s")));
        }
        if text.ends_with("ms") {
            return Err(invalid(
                "whole seconds are the smallest unit: 300s".to_owned(),
            ));
        }
        let mut total = 0_u32;
        let mut rest = text;
        for (unit, seconds) in UNITS {
            if let Some((count, after)) = rest.split_once(unit) {
                let digits = count.bytes().all(|byte| byte.is_ascii_digit());
                let count = count
                    .parse::<u32>()
                    .ok()
                    .filter(|&count| digits && count <= MAX_COUNT);
                total += count
                    .ok_or_else(|| invalid("write it like 300s, 5m or 1h30m".to_owned()))?
                    * seconds;
                rest = after;
            }
        }
        if !rest.is_empty() || text.is_empty() {
            return Err(invalid("write it like 300s, 5m or 1h30m".to_owned()));
        }
        Self::new(total).ok_or_else(|| invalid("it must be at least 1s".to_owned()))
    }
}

text_type!(
    Seconds,
    "Seconds",
    expecting "a duration such as `300s`",
    pattern "^(?=.*[1-9])([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$",
    "Duration in whole seconds, at least one: `300s`, `5m`, `1h30m`. A bare number is refused.",
    number |number| Some(format!("say the unit: {number}s"))
);

/// A rate in packets per second, 1 to 10000000.
///
/// Its text is the number with its unit: `1000/s`. A bare number is refused, since nobody can tell its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketRate(u32);

impl PacketRate {
    /// The highest.
    pub const MAX: u32 = 10_000_000;

    /// A rate of that many packets per second; `None` for zero and beyond the highest.
    #[must_use]
    pub const fn new(per_second: u32) -> Option<Self> {
        if per_second == 0 || per_second > Self::MAX {
            None
        } else {
            Some(Self(per_second))
        }
    }

    /// Packets per second.
    #[must_use]
    pub const fn per_second(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PacketRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl FromStr for PacketRate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid = |help: String| {
            ValueError::new(
                ValueCode::InvalidRate,
                format!("{} is no rate in packets per second", quote(text)),
            )
            .help(help)
        };
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits(text) {
            return Err(invalid(format!("say the unit: {text}/s")));
        }
        let number = text.strip_suffix("/s").filter(|number| digits(number));
        let number = number.filter(|number| !number.starts_with('0'));
        number
            .and_then(|number| number.parse().ok())
            .and_then(Self::new)
            .ok_or_else(|| invalid(format!("write it like 1000/s, at most {}/s", Self::MAX)))
    }
}

text_type!(
    PacketRate,
    "PacketRate",
    expecting "a rate such as `1000/s`",
    pattern "^([1-9][0-9]{0,6}|10000000)/s$",
    "Rate in packets per second, 1 to 10000000: `1000/s`. A bare number is refused.",
    number |number| Some(format!("say the unit: {number}/s"))
);

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bounded<const MIN: u32, const MAX: u32>(u32);

/// Maximum transmission unit in bytes, without the Ethernet header: 1280 (the least that IPv6 allows) to 65535.
pub type Mtu = Bounded<1280, 65535>;

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// The number, if it is in the range.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number >= MIN && number <= MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Display for Bounded<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Bounded<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const MIN: u32, const MAX: u32>;

        impl<const MIN: u32, const MAX: u32> Visitor<MIN, MAX> {
            fn refuse<E: de::Error>(number: impl fmt::Display) -> E {
                let message = format!(
                    "{number} is out of range: expected a whole number from {MIN} to {MAX}"
                );
                E::custom(format_args!(
                    "{:#}",
                    ValueError::new(ValueCode::OutOfRange, message)
                ))
            }
        }

        impl<const MIN: u32, const MAX: u32> de::Visitor<'_> for Visitor<MIN, MAX> {
            type Value = Bounded<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                u32::try_from(number)
                    .ok()
                    .and_then(Bounded::new)
                    .ok_or_else(|| Self::refuse(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                u32::try_from(number)
                    .ok()
                    .and_then(Bounded::new)
                    .ok_or_else(|| Self::refuse(number))
            }
        }

        deserializer.deserialize_u32(Visitor)
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Bounded<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("From{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}
