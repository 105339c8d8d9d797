//! Protocols, types of ICMP messages, TCP flags.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text::{ValueCode, ValueError, quote, text_type};

/// A protocol by its number (RFC 5237), or all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(Option<u8>);

/// Names of protocols, as a topology has them.
const PROTOCOLS: [(&str, u8); 8] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("icmpv6", 58),
    ("gre", 47),
    ("sctp", 132),
    ("esp", 50),
    ("ah", 51),
];

impl Protocol {
    /// Every one.
    pub const ALL: Self = Self(None);
    /// TCP.
    pub const TCP: Self = Self(Some(6));
    /// ICMP.
    pub const ICMP: Self = Self(Some(1));
    /// ICMPv6.
    pub const ICMPV6: Self = Self(Some(58));

    /// The number; `None` for all.
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        self.0
    }

    /// Whether its packets have ports where TCP has them: TCP, UDP, SCTP, DCCP, UDP-Lite.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self.0, Some(6 | 17 | 33 | 132 | 136))
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    pub(super) fn is_all(&self) -> bool {
        self.0.is_none()
    }

    fn name(self) -> Option<&'static str> {
        let Some(number) = self.0 else {
            return Some("all");
        };
        let known = PROTOCOLS.iter().find(|(_, known)| *known == number);
        known.map(|(name, _)| *name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.0) {
            (Some(name), _) => f.pad(name),
            (None, number) => number.unwrap_or_default().fmt(f),
        }
    }
}

impl FromStr for Protocol {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "all" {
            return Ok(Self::ALL);
        }
        let known = PROTOCOLS.iter().find(|(name, _)| *name == text);
        known.map(|(_, number)| Self(Some(*number))).ok_or_else(|| {
            let message = format!("{} is no protocol that has a name here", quote(text));
            let error = ValueError::new(ValueCode::OutOfRange, message);
            error.help("write tcp, udp, icmp, icmpv6, gre, sctp, esp, ah, all, or its number")
        })
    }
}

/// Reads a number of 0 to `u8::MAX`, and words by `FromStr`.
macro_rules! word_or_number {
    ($type:ident, $expecting:literal, |$number:ident| $from:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match (self.name(), self.number()) {
                    (None, Some(number)) => serializer.serialize_u8(number),
                    _ => serializer.collect_str(self),
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl Visitor {
                    fn refuse<E: de::Error>(number: impl fmt::Display) -> E {
                        let message = format!("{number} is out of range: expected 0 to 255");
                        let error = ValueError::new(ValueCode::OutOfRange, message);
                        E::custom(format_args!("{error:#}"))
                    }
                }

                impl de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse()
                            .map_err(|error: ValueError| E::custom(format_args!("{error:#}")))
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        let $number = u8::try_from(number).map_err(|_| Self::refuse(number))?;
                        Ok($from)
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        let $number = u8::try_from(number).map_err(|_| Self::refuse(number))?;
                        Ok($from)
                    }
                }

                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

word_or_number!(
    Protocol,
    "a protocol such as `tcp`, or its number",
    |number| Protocol(Some(number))
);

impl JsonSchema for Protocol {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FirewallProtocol".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = PROTOCOLS
            .iter()
            .map(|(name, _)| *name)
            .chain(["all"])
            .collect();
        json_schema!({
            "description": "A protocol by name or number; `all` for every one.",
            "anyOf": [{ "enum": names }, { "type": "integer", "minimum": 0, "maximum": 255 }]
        })
    }
}

/// Type of an ICMP or ICMPv6 message: a name, whose number depends on the protocol, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IcmpType {
    /// A place in the list of names.
    Named(usize),
    /// A number.
    Number(u8),
}

/// Names with the numbers for ICMP (RFC 792, RFC 1256) and ICMPv6 (RFC 4443, RFC 4861, RFC 2710, RFC 3810).
const ICMP_TYPES: [(&str, Option<u8>, Option<u8>); 16] = [
    ("echo-request", Some(8), Some(128)),
    ("echo-reply", Some(0), Some(129)),
    ("destination-unreachable", Some(3), Some(1)),
    ("packet-too-big", None, Some(2)),
    ("time-exceeded", Some(11), Some(3)),
    ("parameter-problem", Some(12), Some(4)),
    ("redirect", Some(5), Some(137)),
    ("router-solicitation", Some(10), Some(133)),
    ("router-advertisement", Some(9), Some(134)),
    ("neighbor-solicitation", None, Some(135)),
    ("neighbor-advertisement", None, Some(136)),
    ("timestamp-request", Some(13), None),
    ("timestamp-reply", Some(14), None),
    ("mld-query", None, Some(130)),
    ("mld-report", None, Some(131)),
    ("mld2-report", None, Some(143)),
];

impl IcmpType {
    /// The number for the protocol; `None` if it has no such message.
    #[must_use]
    pub fn number_for(self, protocol: Protocol) -> Option<u8> {
        match (self, protocol) {
            (Self::Number(number), _) => Some(number),
            (Self::Named(index), Protocol::ICMP) => ICMP_TYPES[index].1,
            (Self::Named(index), Protocol::ICMPV6) => ICMP_TYPES[index].2,
            (Self::Named(_), _) => None,
        }
    }

    fn number(self) -> Option<u8> {
        match self {
            Self::Named(_) => None,
            Self::Number(number) => Some(number),
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Named(index) => Some(ICMP_TYPES[index].0),
            Self::Number(_) => None,
        }
    }
}

impl fmt::Display for IcmpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(index) => f.pad(ICMP_TYPES[*index].0),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl FromStr for IcmpType {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let known = ICMP_TYPES.iter().position(|(name, _, _)| *name == text);
        known.map(Self::Named).ok_or_else(|| {
            let names = ICMP_TYPES.iter().map(|(name, _, _)| *name);
            let near = crate::suggest::closest(text, names);
            let message = format!("{} is no type of ICMP message", quote(text));
            let error = ValueError::new(ValueCode::OutOfRange, message);
            match near {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error.help("write a name such as echo-request, or the number"),
            }
        })
    }
}

word_or_number!(
    IcmpType,
    "a type of ICMP message such as `echo-request`, or its number",
    |number| IcmpType::Number(number)
);

impl JsonSchema for IcmpType {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FirewallIcmpType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = ICMP_TYPES.iter().map(|(name, _, _)| *name).collect();
        json_schema!({
            "description": "Type of an ICMP or ICMPv6 message, by name or number.",
            "anyOf": [{ "enum": names }, { "type": "integer", "minimum": 0, "maximum": 255 }]
        })
    }
}

/// Names of TCP's flags, from the lowest bit on (RFC 9293, 3.1).
pub const TCP_FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// TCP flags that must be set, and those that must not be: `SYN,!ACK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpFlags {
    /// Bits that must be set.
    pub set: u8,
    /// Bits that must not be set.
    pub clear: u8,
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (bits, sign) in [(self.set, ""), (self.clear, "!")] {
            for (bit, name) in TCP_FLAGS.iter().enumerate() {
                if bits & 1 << bit != 0 {
                    write!(f, "{separator}{sign}{name}")?;
                    separator = ",";
                }
            }
        }
        Ok(())
    }
}

impl FromStr for TcpFlags {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut flags = Self { set: 0, clear: 0 };
        for word in text.split(',') {
            let (bits, name) = match word.strip_prefix('!') {
                Some(name) => (&mut flags.clear, name),
                None => (&mut flags.set, word),
            };
            let bit = TCP_FLAGS.iter().position(|known| *known == name);
            let bit = bit.ok_or_else(|| {
                let message = format!("{} is no list of TCP flags", quote(text));
                ValueError::new(ValueCode::OutOfRange, message).help(
                    "write it like \"SYN,!ACK\", of FIN, SYN, RST, PSH, ACK, URG, ECE and CWR",
                )
            })?;
            *bits |= 1 << bit;
        }
        Ok(flags)
    }
}

text_type!(
    TcpFlags,
    "FirewallTcpFlags",
    expecting "TCP flags such as `SYN,!ACK`",
    pattern "^!?(FIN|SYN|RST|PSH|ACK|URG|ECE|CWR)(,!?(FIN|SYN|RST|PSH|ACK|URG|ECE|CWR))*$",
    "TCP flags that must be set, and with `!` those that must not be: `SYN,!ACK`.",
    number |_| None
);
