//! What was applied last: kept in a pinned map, with the numbers given out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use topology_schema::Topology;

use crate::{allocation::Allocation, commit::PendingCommit, down::Down, topology_text};

/// The record; copies are cheap. It says what was asked for, never what is there: that is always read from the
/// kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`ebpf_abi::LAYOUT_VERSION`] of the `pcn` that wrote it.
    pub layout_version: u32,
    /// Version of the `pcn` that wrote it.
    pub pcn_version: String,
    /// Stands for the data planes of that `pcn`: other ones are an upgrade, not drift.
    #[serde(default)]
    pub build: String,
    /// The topology.
    #[serde(serialize_with = "topology_text::serialize")]
    pub topology: Arc<Topology>,
    /// The numbers.
    pub allocation: Arc<Allocation>,
    /// What was down when it was applied ([`crate::down`]).
    #[serde(default, skip_serializing_if = "Down::is_empty")]
    pub down: Down,
    /// An apply began and did not come to its end: there may be more than the record says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unfinished: bool,
    /// What is taken back unless somebody confirms it in time. It lives and dies with what runs,
    /// and is no part of what was asked for: it is never drift, and no plan changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Box<PendingCommit>>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !value
}

impl Record {
    /// A record of this version of `pcn`.
    pub fn new(topology: Arc<Topology>, allocation: Arc<Allocation>) -> Self {
        Self {
            layout_version: ebpf_abi::LAYOUT_VERSION,
            build: crate::objects::build(),
            pcn_version: env!("CARGO_PKG_VERSION").to_owned(),
            topology,
            allocation,
            down: Down::new(),
            unfinished: false,
            pending: None,
        }
    }
}
