//! `firewall`: accepts, drops or rejects packets by rules, and knows the connections they belong to.

mod address;
mod check;
mod crowd;
mod ports;
mod protocol;
mod rule;
mod shadow;
mod timeouts;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::address::{AddressMatch, Target};
pub(crate) use self::check::check;
pub use self::ports::Ports;
pub use self::protocol::{IcmpType, Protocol, TCP_FLAGS, TcpFlags};
pub use self::rule::{Action, Families, Limit, LimitRange, Rule, State, States};
pub use self::timeouts::Timeouts;
use crate::addr::Prefix;
use crate::name::Name;
use crate::quantity::Bounded;

/// Most rules of one chain.
pub const MAX_RULES: usize = 16_384;

/// Most prefixes in the sets of one firewall, all of them together.
pub const MAX_PREFIXES: usize = 1_000_000;

/// Most sets of one firewall.
pub const MAX_SETS: usize = 32;

/// Most separate ports and ranges of ports of one rule, those of both sides together.
pub const MAX_RANGES: usize = 15;

/// Connections that a firewall remembers: 1024 to 1048576.
pub type Sessions = Bounded<1024, 1_048_576>;

/// Accepts, drops or rejects packets by rules, in both directions, and tracks connections. Transparent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping of firewall settings"
)]
#[schemars(rename = "Firewall")]
pub struct Spec {
    /// Whether connections are tracked. Without it, rules cannot ask for a `state`. Default: true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(extend("default" = true))]
    pub conntrack: bool,
    /// Packets of established connections, and ICMP errors about connections, pass without meeting the rules. Default: true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(extend("default" = true))]
    pub accept_established: bool,
    /// Whether TCP segments must be in the windows that the two ends have told each other; others are `invalid`. Needs
    /// `conntrack`. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tcp_window_check: bool,
    /// Whether ARP and IPv6 neighbour discovery (ICMPv6 133 to 136) pass without meeting the rules, or are filtered like
    /// everything else. Default: `pass`.
    #[serde(default, skip_serializing_if = "NeighborDiscovery::is_default")]
    #[schemars(extend("default" = "pass"))]
    pub neighbor_discovery: NeighborDiscovery,
    /// Sets of networks of both families, by name: rules refer to them as `@name`. At most 32 sets with 1000000 networks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<Name, Vec<Prefix>>,
    /// What happens to packets towards the owner of the port or interface.
    #[serde(default, skip_serializing_if = "Chain::is_default")]
    pub ingress: Chain,
    /// What happens to packets away from the owner of the port or interface.
    #[serde(default, skip_serializing_if = "Chain::is_default")]
    pub egress: Chain,
    /// For how long connections are remembered in which nothing happens.
    #[serde(default, skip_serializing_if = "Timeouts::is_default")]
    pub timeouts: Timeouts,
    /// Most connections that are remembered, 1024 to 1048576. Default: 65536.
    #[serde(
        default = "default_sessions",
        skip_serializing_if = "is_default_sessions"
    )]
    #[schemars(extend("default" = 65_536))]
    pub sessions: Sessions,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            conntrack: true,
            accept_established: true,
            tcp_window_check: false,
            neighbor_discovery: NeighborDiscovery::default(),
            sets: BTreeMap::new(),
            ingress: Chain::default(),
            egress: Chain::default(),
            timeouts: Timeouts::default(),
            sessions: default_sessions(),
        }
    }
}

impl Spec {
    /// The two chains with the names of their fields.
    #[must_use]
    pub fn chains(&self) -> [(&'static str, &Chain); 2] {
        [("ingress", &self.ingress), ("egress", &self.egress)]
    }
}

/// What happens to ARP and neighbour discovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", expecting = "`pass` or `filter`")]
#[schemars(rename = "FirewallNeighborDiscovery")]
pub enum NeighborDiscovery {
    /// It passes.
    #[default]
    Pass,
    /// ARP is dropped unless the chain's default is `accept`; ICMPv6 133 to 136 meet the rules.
    Filter,
}

impl NeighborDiscovery {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The rules for one direction: the first one that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `default` and `rules`"
)]
#[schemars(rename = "FirewallChain")]
pub struct Chain {
    /// What happens to a packet that no rule matches. Default: `accept`.
    #[serde(default, skip_serializing_if = "is_accept")]
    #[schemars(extend("default" = "accept"))]
    pub default: Action,
    /// Packets that no rule matches are reported by `pcn events`. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// The rules, in their order. At most 16384.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Chain {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_accept(action: &Action) -> bool {
    *action == Action::Accept
}

const fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_yes(on: &bool) -> bool {
    *on
}

const fn default_sessions() -> Sessions {
    const ENOUGH: Sessions = match Sessions::new(65_536) {
        Some(number) => number,
        None => unreachable!(),
    };
    ENOUGH
}

fn is_default_sessions(sessions: &Sessions) -> bool {
    *sessions == default_sessions()
}
