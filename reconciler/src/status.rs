//! What runs, as `pcn show` says it: read from the kernel, compared with what was applied.

mod build;
mod counters;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use topology_schema::{InterfaceName, Name, Topology};

pub use self::{build::status, counters::Traffic};
use crate::desired::Pending;

/// A topology that was applied.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the output.
    pub format_version: &'static str,
    /// Its name.
    #[serde(rename = "topology")]
    pub name: Name,
    /// What is to be said of all of it.
    pub conditions: Vec<Condition>,
    /// Its cubes.
    pub cubes: BTreeMap<Name, Cube>,
    /// Interfaces of the host that it uses.
    pub interfaces: BTreeMap<InterfaceName, Interface>,
    /// Namespaces it owns.
    pub namespaces: BTreeMap<Name, Namespace>,
    /// What waits.
    pub pending: Vec<Pending>,
    /// What was applied.
    #[serde(skip)]
    pub applied: Topology,
}

impl Status {
    /// The condition `Ready`.
    pub fn ready(&self) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.kind == "Ready")
    }
}

/// A condition, as Kubernetes has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

/// How something is, and why if not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// `ready`, `up`, `degraded`, `pending` or `unlinked`.
    pub state: &'static str,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A cube.
#[derive(Clone, Debug, Serialize)]
pub struct Cube {
    /// Its kind.
    pub kind: &'static str,
    /// `ready`, `degraded` or `pending`.
    #[serde(flatten)]
    pub state: State,
    /// Its ports by name.
    pub ports: BTreeMap<String, Port>,
    /// Where it is attached, for a transparent cube, by endpoint.
    pub attachments: BTreeMap<String, Attachment>,
    /// What the kind has to say: `routes`, `fdb`, ...
    #[serde(flatten)]
    pub lists: Map<String, Value>,
}

/// A port.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// The other end of its link.
    pub peer: Option<String>,
    /// `up`, `degraded`, `pending` or `unlinked`.
    #[serde(flatten)]
    pub state: State,
    /// Transparent cubes on it, from the outside in.
    pub through: Vec<Name>,
    /// What it counted.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// An attachment of a transparent cube.
#[derive(Clone, Debug, Serialize)]
pub struct Attachment {
    /// `up`, `degraded`, `pending` or `unlinked`.
    #[serde(flatten)]
    pub state: State,
    /// Packets towards the owner of the port or interface.
    pub ingress: Traffic,
    /// Packets away from it.
    pub egress: Traffic,
}

/// An interface of the host.
#[derive(Clone, Debug, Serialize)]
pub struct Interface {
    /// `up`, `down`, `degraded` or `pending`.
    #[serde(flatten)]
    pub state: State,
    /// Where programs attach.
    pub hook: &'static str,
    /// Transparent cubes on it, from the outside in.
    pub through: Vec<Name>,
    /// The other end of its link.
    pub peer: Option<String>,
}

/// A namespace.
#[derive(Clone, Debug, Serialize)]
pub struct Namespace {
    /// `ready` or `degraded`.
    #[serde(flatten)]
    pub state: State,
    /// Its interfaces.
    pub interfaces: BTreeMap<InterfaceName, NamespaceInterface>,
}

/// An interface in a namespace.
#[derive(Clone, Debug, Serialize)]
pub struct NamespaceInterface {
    /// The other end of its link.
    pub peer: Option<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
}
