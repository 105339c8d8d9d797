//! What runs, as `pcn show` says it: read from the kernel, compared with what was applied.

mod build;
mod conditions;
mod counters;
mod rates;
mod reading;
mod tables;
mod unwatched;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Map, Value};
use topology_schema::{InterfaceName, Name, Topology};

pub use self::{
    build::{overview, status},
    conditions::Context,
    counters::{Rate, Rates, Traffic},
    unwatched::unwatched,
};
use crate::{address::Address, desired::Pending, journal::Conclusion};

/// A topology that was applied.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the output.
    pub format_version: &'static str,
    /// Its name.
    #[serde(rename = "topology")]
    pub name: Name,
    /// What is to be said of all of it: `Ready`, `Reconciling`, `Stalled`.
    pub conditions: Vec<Condition>,
    /// Number of the transaction that applied what was applied last, if the history has it.
    pub observed_generation: Option<u64>,
    /// [`revision`](crate::journal::revision) of what was applied last.
    pub last_applied_revision: String,
    /// Revision of the last attempt, if the history has one that was no removal.
    pub last_attempted_revision: Option<String>,
    /// How that attempt ended.
    pub last_attempted_result: Option<Conclusion>,
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
    pub applied: Arc<Topology>,
    /// Objects that are not as they were applied.
    #[serde(skip)]
    drift: BTreeSet<Address>,
}

impl Status {
    /// The condition `Ready`.
    pub fn ready(&self) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.kind == "Ready")
    }

    /// Objects that are not as they were applied.
    pub fn drift_objects(&self) -> usize {
        self.drift.len()
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
    /// Since when it has this status, where that is known: RFC 3339, UTC.
    #[serde(rename = "lastTransitionTime", skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// How something is, and why if not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// `ready`, `up`, `down`, `failed`, `pending` or `unlinked`.
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
    /// `ready`, `failed` or `pending`.
    #[serde(flatten)]
    pub state: State,
    /// Its ports by name.
    pub ports: BTreeMap<String, Port>,
    /// Where it is attached, for a transparent cube, by endpoint.
    pub attachments: BTreeMap<String, Attachment>,
    /// How full its tables are that can be full, by name.
    pub tables: BTreeMap<String, Table>,
    /// What the kind has to say: `routes`, `fdb`, ...
    #[serde(flatten)]
    pub lists: Map<String, Value>,
}

impl Cube {
    /// Everything that is counted at it.
    pub fn traffics(&self) -> impl Iterator<Item = &Traffic> {
        let ports = self.ports.values().map(|port| &port.traffic);
        let attachments = self.attachments.values();
        ports.chain(attachments.flat_map(|at| [&at.ingress, &at.egress]))
    }
}

/// How full a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Entries that are in it; `None` if they were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Entries there is room for.
    pub capacity: u32,
}

/// A port.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// The other end of its link.
    pub peer: Option<String>,
    /// `up`, `down`, `failed`, `pending` or `unlinked`.
    #[serde(flatten)]
    pub state: State,
    /// Transparent cubes on it, from the outside in.
    pub through: Vec<Name>,
    /// What the kind has to say of the port: `vlans`, ...
    #[serde(flatten)]
    pub details: Map<String, Value>,
    /// What it counted.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// An attachment of a transparent cube.
#[derive(Clone, Debug, Serialize)]
pub struct Attachment {
    /// `up`, `down`, `failed`, `pending` or `unlinked`.
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
    /// `up`, `down`, `failed` or `pending`.
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
    /// `ready` or `failed`.
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
