//! A rule: what it matches, and what it does.

use std::collections::BTreeSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::address::AddressMatch;
use super::ports::Ports;
use super::protocol::{IcmpType, Protocol, TcpFlags};
use crate::name::Name;
use crate::quantity::{Bounded, PacketRate};
use crate::text::{ValueCode, ValueError};

/// A rule. It matches packets for which all of its fields hold; what it does not say, it does not ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a rule such as `{ protocol: tcp, destinationPort: 22, action: accept }`"
)]
#[schemars(rename = "FirewallRule")]
pub struct Rule {
    /// What the rule is called in plans, events and outputs; it keeps its counters while it has this name. Default: its
    /// place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Why the rule is there, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Where the packet comes from: a network, a set (`@name`), or `not:` one of them. A network speaks of its own
    /// family, negated too; a set speaks of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<AddressMatch>,
    /// Where the packet goes to, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<AddressMatch>,
    /// The protocol: `tcp`, `udp`, `icmp`, `icmpv6`, `gre`, `sctp`, `esp`, `ah`, `all` or a number. Default: `all`.
    #[serde(default, skip_serializing_if = "Protocol::is_all")]
    #[schemars(extend("default" = "all"))]
    pub protocol: Protocol,
    /// Ports the packet comes from: `80`, `"80-90"`, `[80, "90-99"]`. Needs a protocol with ports. At most 15 ports and
    /// ranges, those of both sides together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<Ports>,
    /// Ports the packet goes to, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<Ports>,
    /// Type of an ICMP or ICMPv6 message: a name such as `echo-request`, or a number. Needs that protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<IcmpType>,
    /// TCP flags that must be set, and those that must not be: `"SYN,!ACK"`. Needs `protocol: tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<TcpFlags>,
    /// What the packet is to the connection it belongs to, one or a list: `new`, `established`, `related`, `invalid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<States>,
    /// What happens to packets that match.
    pub action: Action,
    /// Packets that match are reported by `pcn events`. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// How many packets a second the rule accepts, or answers if it rejects: the others are dropped. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

/// Families of IP that a rule may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Rule {
    /// The families that the rule's fields leave; none if they contradict each other.
    #[must_use]
    pub fn families(&self) -> Families {
        let mut families = Families { v4: true, v6: true };
        let mut only = |v4: bool| {
            families.v4 &= v4;
            families.v6 &= !v4;
        };
        for address in [&self.source, &self.destination].into_iter().flatten() {
            if let Some(prefix) = address.target().prefix() {
                only(prefix.address().is_ipv4());
            }
        }
        match self.protocol {
            Protocol::ICMP => only(true),
            Protocol::ICMPV6 => only(false),
            _ => {}
        }
        families
    }
}

/// What happens to a packet.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "camelCase", expecting = "`accept`, `drop` or `reject`")]
#[schemars(rename = "FirewallAction")]
pub enum Action {
    /// It goes on.
    #[default]
    Accept,
    /// It is dropped.
    Drop,
    /// It is dropped, and its sender is told: TCP by a reset, everything else by an ICMP error.
    Reject,
}

impl Action {
    /// The word in a topology.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}

/// What a packet is to the connection it belongs to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(
    rename_all = "camelCase",
    expecting = "`new`, `established`, `related` or `invalid`"
)]
#[schemars(rename = "FirewallState")]
pub enum State {
    /// It begins one, or belongs to one that was not answered yet.
    New,
    /// It belongs to one that was answered.
    Established,
    /// It is an ICMP error about one.
    Related,
    /// It belongs to none and cannot begin one.
    Invalid,
}

/// One state or several, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States(BTreeSet<State>);

impl States {
    /// These; `None` for none.
    #[must_use]
    pub fn new(states: impl IntoIterator<Item = State>) -> Option<Self> {
        let states: BTreeSet<State> = states.into_iter().collect();
        (!states.is_empty()).then_some(Self(states))
    }

    /// The states, in order.
    pub fn iter(&self) -> impl Iterator<Item = State> {
        self.0.iter().copied()
    }

    /// Whether the state is among them.
    #[must_use]
    pub fn contains(&self, state: State) -> bool {
        self.0.contains(&state)
    }
}

impl Serialize for States {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for States {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = States;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a state such as `new`, or a list of states")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<States, E> {
                let state = State::deserialize(de::value::StrDeserializer::new(text))?;
                Ok(States(BTreeSet::from([state])))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, items: A) -> Result<States, A::Error> {
                let states = Vec::deserialize(SeqAccessDeserializer::new(items))?;
                States::new(states).ok_or_else(|| {
                    let error = ValueError::new(ValueCode::EmptyList, "no packet has no state");
                    let error = error.help("leave `state` out to match packets in any state");
                    de::Error::custom(format_args!("{error:#}"))
                })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for States {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FirewallStates".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let state = generator.subschema_for::<State>();
        json_schema!({
            "description": "A state, or a list of states.",
            "anyOf": [state, { "type": "array", "items": state, "minItems": 1 }]
        })
    }
}

/// Most packets that may come at once: 1 to 1000000.
pub type LimitRange = Bounded<1, 1_000_000>;

/// How many packets a second, and how many at once: `10/s`, or `{ rate: 10/s, burst: 20 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Packets a second in the long run.
    pub rate: PacketRate,
    /// Packets that may come at once. Default: those of a tenth of a second, at least 5.
    pub burst: Option<LimitRange>,
}

impl Limit {
    /// Packets that may come at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        let default = (self.rate.per_second() / 10).max(5);
        self.burst.map_or(default, LimitRange::get)
    }
}

/// A limit with more than its rate.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a limit such as `{ rate: 10/s, burst: 20 }`"
)]
struct LimitFields {
    /// Packets a second in the long run.
    rate: PacketRate,
    /// Packets that may come at once, 1 to 1000000. Default: those of a tenth of a second, at least 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<LimitRange>,
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { rate, burst } = *self;
        match burst {
            None => rate.serialize(serializer),
            burst => LimitFields { rate, burst }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a limit such as `10/s`, or `{ rate: 10/s, burst: 20 }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Limit, E> {
                let rate = PacketRate::deserialize(de::value::StrDeserializer::new(text))?;
                Ok(Limit { rate, burst: None })
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Limit, E> {
                let rate = PacketRate::deserialize(de::value::U64Deserializer::new(number))?;
                Ok(Limit { rate, burst: None })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Limit, A::Error> {
                let LimitFields { rate, burst } =
                    LimitFields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Limit { rate, burst })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FirewallLimit".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rate = generator.subschema_for::<PacketRate>();
        let fields = LimitFields::json_schema(generator);
        json_schema!({
            "description": "Packets a second: `10/s`, or `{ rate: 10/s, burst: 20 }` to say also how many may come at once.",
            "anyOf": [rate, fields]
        })
    }
}
