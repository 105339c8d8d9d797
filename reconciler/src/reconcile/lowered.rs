//! What a topology comes to on this host.

use std::collections::BTreeSet;

use topology_schema::{InterfaceName, ValidTopology};

use crate::{
    allocation::Allocation,
    desired::{Desired, desired},
    down::Down,
    graph::TopologyGraph,
};

/// A topology's resources, and the numbers in them.
pub(super) struct Lowered {
    pub(super) desired: Desired,
    pub(super) allocation: Allocation,
}

impl Lowered {
    /// On a host where these interfaces exist; `None`: all that the topology names.
    pub(super) fn new(
        topology: &ValidTopology,
        before: &Allocation,
        present: Option<&BTreeSet<InterfaceName>>,
        down: &Down,
    ) -> Self {
        let graph = TopologyGraph::new(topology);
        let allocation = Allocation::new(&graph, before);
        let desired = match present {
            Some(present) => desired(&graph, &allocation, present, down),
            None => desired(
                &graph,
                &allocation,
                &graph.host_interfaces().into_iter().cloned().collect(),
                down,
            ),
        };
        Self {
            desired,
            allocation,
        }
    }
}
