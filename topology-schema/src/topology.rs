//! The document: what a topology file says, as types.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::addr::{InterfaceAddress, MacAddr, RouteTarget, ip_text};
use crate::check::Check;
use crate::endpoint::Endpoint;
use crate::instance::Instance;
use crate::name::{InterfaceName, Name};
use crate::quantity::Mtu;

/// A network of cubes and the links between them, in the shape of a Kubernetes resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a topology, which is a mapping"
)]
pub struct Topology {
    /// Version of the language.
    pub api_version: ApiVersion,
    /// What the document describes.
    pub kind: Kind,
    /// What the topology is called.
    pub metadata: Metadata,
    /// The network itself.
    pub spec: Spec,
}

/// Version of the language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(expecting = "`pcn.dev/v1alpha1`")]
pub enum ApiVersion {
    /// The first one; it may still change.
    #[default]
    #[serde(rename = "pcn.dev/v1alpha1")]
    V1Alpha1,
}

/// What a document describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(expecting = "`Topology`")]
pub enum Kind {
    /// A topology.
    #[default]
    Topology,
}

/// What a topology is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `name`"
)]
pub struct Metadata {
    /// Name of the topology. One host can run many topologies, each under its own name.
    pub name: Name,
}

/// The network: what exists, and what is linked to what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `cubes` and `links`"
)]
pub struct Spec {
    /// What happens when others change what was applied, for all objects. A cube may say otherwise beside its kind.
    /// Default: `repair`.
    #[serde(default, skip_serializing_if = "Drift::is_default")]
    #[schemars(extend("default" = "repair"))]
    pub drift: Drift,
    /// Network namespaces that `pcn` creates and owns, by name: hosts of labs, demos and tests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<Name, Namespace>,
    /// Existing interfaces of the host, by name. Only needed to set something; a link may name any interface.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub interfaces: BTreeMap<InterfaceName, Interface>,
    /// The network functions, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cubes: BTreeMap<Name, Instance>,
    /// Undirected pairs of endpoints. An endpoint is used by at most one link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// What must be reachable after an apply that changed something, or it is taken back. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// What happens when the kernel is not as it was applied. What the file asks for is applied in any case.
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
#[serde(rename_all = "camelCase", expecting = "`repair`, `warn` or `ignore`")]
pub enum Drift {
    /// The next apply brings it back.
    #[default]
    Repair,
    /// It is shown and left as it is.
    Warn,
    /// It is neither shown nor changed.
    Ignore,
}

impl Drift {
    /// The word as it is written in a topology.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Warn => "warn",
            Self::Ignore => "ignore",
        }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Spec {
    /// What happens to drift of a cube: its own word, else that for all objects.
    #[must_use]
    pub fn drift_of(&self, cube: &Name) -> Drift {
        let own = self.cubes.get(cube).and_then(|instance| instance.drift);
        own.unwrap_or(self.drift)
    }
}

/// A network namespace that `pcn` creates and owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `interfaces`"
)]
pub struct Namespace {
    /// Interfaces inside the namespace, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub interfaces: BTreeMap<InterfaceName, NamespaceInterface>,
}

/// An interface inside a namespace. Its other end is what the link names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping of interface settings"
)]
pub struct NamespaceInterface {
    /// Addresses of either family, usable at once (no duplicate address detection).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<InterfaceAddress>,
    /// Routes of the namespace through this interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<NamespaceRoute>,
    /// Link-layer address, unicast. Default: chosen by the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Maximum transmission unit in bytes, 1280 to 65535. Default: the kernel's, 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
}

/// A route of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a route such as `{ to: default, via: 10.0.0.1 }`"
)]
pub struct NamespaceRoute {
    /// Where the route leads: `default` or a network prefix.
    pub to: RouteTarget,
    /// Next hop: an address on a network of the interface.
    #[serde(with = "ip_text")]
    #[schemars(with = "ip_text::IpText")]
    pub via: IpAddr,
}

/// Settings of an existing interface of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `hook` and `through`"
)]
pub struct Interface {
    /// Where programs attach. Default: `tc`.
    #[serde(default, skip_serializing_if = "Hook::is_default")]
    #[schemars(extend("default" = "tc"))]
    pub hook: Hook,
    /// Transparent cubes between the wire and what follows, from the outside in: the first one meets an arriving
    /// packet first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Name>,
}

/// Where programs attach to a host interface.
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
#[serde(rename_all = "camelCase", expecting = "`tc`, `xdp` or `xdpGeneric`")]
pub enum Hook {
    /// Traffic control: every interface has it.
    #[default]
    Tc,
    /// The express data path in the driver: faster, needs a driver that supports it.
    Xdp,
    /// The express data path emulated by the kernel: works everywhere, gains nothing, meant for testing.
    XdpGeneric,
}

impl Hook {
    /// The hook as it is written in a topology.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdpGeneric",
        }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An undirected pair of endpoints, written as a list of two.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(expecting = "a link such as `[br1:p1, h1/eth0]`")]
pub struct Link(pub Endpoint, pub Endpoint);

impl Link {
    /// Both ends, in the order in which they are written.
    #[must_use]
    pub fn endpoints(&self) -> [&Endpoint; 2] {
        [&self.0, &self.1]
    }
}
