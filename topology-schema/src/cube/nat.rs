//! `nat`: network address translation, for both families.

mod check;
mod families;
mod masquerade;

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::check::check;
pub use self::families::Nat64;
pub use self::masquerade::Masquerade;
use crate::addr::{Prefix, ip_text};
use crate::address_range::AddressRange;
use crate::port::PortRange;
use crate::quantity::{Bounded, Seconds};

/// Most external addresses of all entries of `snat` together.
pub const MAX_ADDRESSES: usize = 1024;
/// Most entries of any of the lists.
pub const MAX_RULES: usize = 4096;

/// Translates addresses: what leaves through it is inside, what comes in is outside. Transparent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping of NAT settings such as `{ masquerade: true }`"
)]
#[schemars(rename = "Nat")]
pub struct Spec {
    /// Who gets the address of the port or interface that the cube sits on: `true` for everybody, `false` for nobody, or a
    /// list of inside networks. Default: false.
    #[serde(default, skip_serializing_if = "Masquerade::is_off")]
    pub masquerade: Masquerade,
    /// Who gets other external addresses. The longest prefix counts, and all of them come before `masquerade`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snat: Vec<Snat>,
    /// External addresses that lead to an inside host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dnat: Vec<Dnat>,
    /// Ports of external addresses that lead to an inside host. They come before `dnat`, and one protocol before all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_forward: Vec<PortForward>,
    /// Networks that are translated one to one, address by address, in both directions and for all protocols, without
    /// sessions.
    #[serde(default, rename = "static", skip_serializing_if = "Vec::is_empty")]
    pub static_prefixes: Vec<PrefixPair>,
    /// The same for IPv6 in a way that leaves checksums as they are (RFC 6296). Prefixes of 64 bits at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nptv6: Vec<PrefixPair>,
    /// IPv6 hosts that talk to IPv4 hosts (RFC 6146). The cube sits where their packets come in, and where the answers
    /// do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat64: Option<Nat64>,
    /// IPv6 hosts that IPv4 hosts talk to: networks with as many hosts, one of each family. They know the IPv4 hosts by
    /// the prefix of `nat64`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nat46: Vec<PrefixPair>,
    /// Who may send to an external port that an inside host has (RFC 4787, 5). Default: endpointIndependent.
    #[serde(default, skip_serializing_if = "Filtering::is_default")]
    pub filtering: Filtering,
    /// How long sessions are remembered.
    #[serde(default, skip_serializing_if = "Timeouts::is_default")]
    pub timeouts: Timeouts,
    /// Most sessions at a time, 16 to 1048576: memory for them is set aside. Default: 65536.
    #[serde(
        default = "default_sessions",
        skip_serializing_if = "is_default_sessions"
    )]
    #[schemars(extend("default" = 65_536))]
    pub sessions: Sessions,
}

/// Sessions there is room for: 16 to 1048576.
pub type Sessions = Bounded<16, 1_048_576>;

/// The default of [`Spec::sessions`].
pub const DEFAULT_SESSIONS: Sessions = match Sessions::new(65_536) {
    Some(sessions) => sessions,
    None => unreachable!(),
};

const fn default_sessions() -> Sessions {
    DEFAULT_SESSIONS
}

fn is_default_sessions(sessions: &Sessions) -> bool {
    *sessions == DEFAULT_SESSIONS
}

/// External addresses for an inside network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "an entry such as `{ source: 10.0.0.0/8, to: 203.0.113.10 }`"
)]
#[schemars(rename = "NatSnat")]
pub struct Snat {
    /// The inside network.
    pub source: Prefix,
    /// One external address or a range. An inside host always gets the same one.
    pub to: AddressRange,
}

/// An inside host for an external address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "an entry such as `{ destination: 203.0.113.10, to: 10.0.0.10 }`"
)]
#[schemars(rename = "NatDnat")]
pub struct Dnat {
    /// The external address.
    #[serde(with = "ip_text")]
    #[schemars(with = "ip_text::IpText")]
    pub destination: IpAddr,
    /// The inside address.
    #[serde(with = "ip_text")]
    #[schemars(with = "ip_text::IpText")]
    pub to: IpAddr,
}

/// An inside host for ports of an external address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "an entry such as `{ protocol: tcp, destination: 203.0.113.2, port: 443, to: 10.0.0.10 }`"
)]
#[schemars(rename = "NatPortForward")]
pub struct PortForward {
    /// Default: all.
    #[serde(default, skip_serializing_if = "ForwardProtocol::is_all")]
    pub protocol: ForwardProtocol,
    /// The external address.
    #[serde(with = "ip_text")]
    #[schemars(with = "ip_text::IpText")]
    pub destination: IpAddr,
    /// The external port, or a range of them.
    pub port: PortRange,
    /// The inside address.
    #[serde(with = "ip_text")]
    #[schemars(with = "ip_text::IpText")]
    pub to: IpAddr,
    /// The inside port; for a range the first of them. Default: the external port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_port: Option<Bounded<1, 65535>>,
}

/// Which protocol is forwarded.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", expecting = "`tcp`, `udp` or `all`")]
#[schemars(rename = "NatForwardProtocol")]
pub enum ForwardProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Both.
    #[default]
    All,
}

impl ForwardProtocol {
    /// The protocol as it is written in a topology.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::All => "all",
        }
    }

    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// Two networks with as many hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "an entry such as `{ internal: 10.0.0.0/24, external: 203.0.113.0/24 }`"
)]
#[schemars(rename = "NatPrefixPair")]
pub struct PrefixPair {
    /// The network as it is inside.
    pub internal: Prefix,
    /// The network as it is known outside.
    pub external: Prefix,
}

/// Who may send to an external port that an inside host has (RFC 4787, 5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(
    rename_all = "camelCase",
    expecting = "`endpointIndependent`, `addressDependent` or `addressAndPortDependent`"
)]
#[schemars(rename = "NatFiltering")]
pub enum Filtering {
    /// Everybody, as long as the inside host uses it.
    #[default]
    EndpointIndependent,
    /// Whom the inside host has sent to, from any port.
    AddressDependent,
    /// Whom the inside host has sent to, from exactly there to exactly there.
    AddressAndPortDependent,
}

impl Spec {
    /// Ranges of external addresses that have ports: those of `snat` and `nat64`.
    pub fn ranges(&self) -> impl Iterator<Item = AddressRange> {
        let snat = self.snat.iter().map(|entry| entry.to);
        snat.chain(self.nat64.as_ref().and_then(|nat64| nat64.to))
    }

    /// The addresses that stand for IPv4 addresses, if packets are translated from one family to the other.
    #[must_use]
    pub fn prefix(&self) -> Option<Prefix> {
        match &self.nat64 {
            Some(nat64) => Some(nat64.prefix),
            None => (!self.nat46.is_empty()).then_some(Prefix::WELL_KNOWN_NAT64),
        }
    }
}

impl Filtering {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How long sessions without packets are remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    default,
    expecting = "a mapping such as `{ udp: 5m }`"
)]
#[schemars(rename = "NatTimeouts")]
pub struct Timeouts {
    /// An established TCP connection (RFC 5382, REQ-5: at least 2h4m). Default: 7440s.
    pub tcp_established: Seconds,
    /// A TCP connection that is being opened or closed (RFC 5382, REQ-5: at least 4m). Default: 240s.
    pub tcp_transitory: Seconds,
    /// UDP (RFC 4787, REQ-5: at least 2m, 5m recommended). Default: 300s.
    pub udp: Seconds,
    /// Echo and other ICMP queries (RFC 5508, REQ-2: at least 60s). Default: 60s.
    pub icmp: Seconds,
    /// Other protocols. Default: 600s.
    pub other: Seconds,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_established: Seconds::TWO_HOURS_FOUR_MINUTES,
            tcp_transitory: Seconds::FOUR_MINUTES,
            udp: Seconds::FIVE_MINUTES,
            icmp: Seconds::ONE_MINUTE,
            other: Seconds::TEN_MINUTES,
        }
    }
}

impl Timeouts {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
