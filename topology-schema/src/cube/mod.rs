//! The kinds of cubes: one file per kind, all with the same names inside (`Spec`, `check`).

pub mod bridge;
pub mod ddos_mitigator;
pub mod firewall;
pub mod forwarder;
pub mod hello;
pub mod hello_transparent;
pub mod nat;
pub mod router;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::validate::Checker;

/// Most ports that one cube may have.
pub const MAX_PORTS: usize = 1024;

/// A network function and its settings, keyed by its kind: `{ bridge: {} }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    expecting = "a cube such as `{ bridge: {} }`"
)]
pub enum Cube {
    /// A learning Ethernet switch.
    Bridge(bridge::Spec),
    /// Drops packets by their source or destination, as early as possible.
    DdosMitigator(ddos_mitigator::Spec),
    /// Accepts, drops or rejects packets by rules, and tracks connections.
    Firewall(firewall::Spec),
    /// Sends what enters one port out of another one.
    Forwarder(forwarder::Spec),
    /// The template of a standard cube: forwards between its two ports.
    Hello(hello::Spec),
    /// The template of a transparent cube: lets packets pass or drops them.
    HelloTransparent(hello_transparent::Spec),
    /// Network address translation.
    Nat(nat::Spec),
    /// An IP router, both families.
    Router(router::Spec),
}

/// The kind of a cube.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CubeKind {
    /// See [`bridge`].
    Bridge,
    /// See [`ddos_mitigator`].
    DdosMitigator,
    /// See [`firewall`].
    Firewall,
    /// See [`forwarder`].
    Forwarder,
    /// See [`hello`].
    Hello,
    /// See [`hello_transparent`].
    HelloTransparent,
    /// See [`nat`].
    Nat,
    /// See [`router`].
    Router,
}

impl CubeKind {
    /// Every kind, in the order of their names.
    pub const ALL: [Self; 8] = [
        Self::Bridge,
        Self::DdosMitigator,
        Self::Firewall,
        Self::Forwarder,
        Self::Hello,
        Self::HelloTransparent,
        Self::Nat,
        Self::Router,
    ];

    /// The kind as it is written in a topology.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::DdosMitigator => "ddosMitigator",
            Self::Firewall => "firewall",
            Self::Forwarder => "forwarder",
            Self::Hello => "hello",
            Self::HelloTransparent => "helloTransparent",
            Self::Nat => "nat",
            Self::Router => "router",
        }
    }

    /// Whether cubes of this kind have no ports and sit in a `through` list.
    #[must_use]
    pub const fn is_transparent(self) -> bool {
        match self {
            Self::Bridge | Self::Forwarder | Self::Hello | Self::Router => false,
            Self::DdosMitigator | Self::Firewall | Self::HelloTransparent | Self::Nat => true,
        }
    }

    /// Whether ports must be declared under `ports:`; where not, a port exists because a link names it.
    #[must_use]
    pub const fn declares_ports(self) -> bool {
        match self {
            Self::Router => true,
            Self::Bridge
            | Self::DdosMitigator
            | Self::Firewall
            | Self::Forwarder
            | Self::Hello
            | Self::HelloTransparent
            | Self::Nat => false,
        }
    }
}

impl fmt::Display for CubeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Cube {
    /// The kind of this cube.
    #[must_use]
    pub fn kind(&self) -> CubeKind {
        match self {
            Self::Bridge(_) => CubeKind::Bridge,
            Self::DdosMitigator(_) => CubeKind::DdosMitigator,
            Self::Firewall(_) => CubeKind::Firewall,
            Self::Forwarder(_) => CubeKind::Forwarder,
            Self::Hello(_) => CubeKind::Hello,
            Self::HelloTransparent(_) => CubeKind::HelloTransparent,
            Self::Nat(_) => CubeKind::Nat,
            Self::Router(_) => CubeKind::Router,
        }
    }

    /// The transparent cubes on a port, from the outside in; empty for a port without settings.
    #[must_use]
    pub fn through(&self, port: &Name) -> &[Name] {
        let through = match self {
            Self::Bridge(spec) => spec.ports.get(port).map(|port| &port.through),
            Self::Forwarder(spec) => spec.ports.get(port).map(|port| &port.through),
            Self::Hello(spec) => spec.ports.get(port).map(|port| &port.through),
            Self::Router(spec) => spec.ports.get(port).map(|port| &port.through),
            Self::DdosMitigator(_)
            | Self::Firewall(_)
            | Self::HelloTransparent(_)
            | Self::Nat(_) => None,
        };
        through.map_or(&[], Vec::as_slice)
    }

    /// The ports that `ports:` names, in order.
    pub fn configured_ports(&self) -> Box<dyn ExactSizeIterator<Item = &Name> + '_> {
        match self {
            Self::Bridge(spec) => Box::new(spec.ports.keys()),
            Self::Forwarder(spec) => Box::new(spec.ports.keys()),
            Self::Hello(spec) => Box::new(spec.ports.keys()),
            Self::Router(spec) => Box::new(spec.ports.keys()),
            Self::DdosMitigator(_)
            | Self::Firewall(_)
            | Self::HelloTransparent(_)
            | Self::Nat(_) => Box::new(std::iter::empty()),
        }
    }

    /// Whether `ports:` names the port.
    #[must_use]
    pub fn configures_port(&self, port: &Name) -> bool {
        match self {
            Self::Bridge(spec) => spec.ports.contains_key(port),
            Self::Forwarder(spec) => spec.ports.contains_key(port),
            Self::Hello(spec) => spec.ports.contains_key(port),
            Self::Router(spec) => spec.ports.contains_key(port),
            Self::DdosMitigator(_)
            | Self::Firewall(_)
            | Self::HelloTransparent(_)
            | Self::Nat(_) => false,
        }
    }

    /// The rules of the kind on its own fields.
    pub(crate) fn check(&self, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
        match self {
            Self::Bridge(spec) => bridge::check(spec, checker, cube),
            Self::DdosMitigator(spec) => ddos_mitigator::check(spec, checker, cube),
            Self::Firewall(spec) => firewall::check(spec, checker, cube),
            Self::Forwarder(spec) => forwarder::check(spec, checker, cube),
            Self::Hello(spec) => hello::check(spec, checker, cube),
            Self::HelloTransparent(spec) => hello_transparent::check(spec, checker, cube),
            Self::Nat(spec) => nat::check(spec, checker, cube),
            Self::Router(spec) => router::check(spec, checker, cube),
        }
    }
}

pub(crate) use crate::validate::CubeContext;

/// Settings of a port that has none but its stack of transparent cubes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `through`"
)]
pub struct PlainPort {
    /// Transparent cubes on the port, from the outside in: the first one meets a packet from the link first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Name>,
}
