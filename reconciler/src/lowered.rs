//! What a topology comes to on a host: its resources, and the numbers in them.
//!
//! A plan asks for it several times: to know what to read, what runs, what should run, and whether
//! that is so afterwards. Mostly that is the same, so it is kept for as long as a plan.

use std::{collections::BTreeSet, sync::Arc};

use topology_schema::{InterfaceName, ValidTopology};

use crate::{
    allocation::Allocation,
    cube::rule_lists,
    desired::{Desired, desired_with},
    down::Down,
    graph::TopologyGraph,
};

/// A topology's resources, and the numbers in them.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    pub(crate) desired: Desired,
    pub(crate) allocation: Arc<Allocation>,
}

/// What a topology is lowered for.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// The numbers that were given out before.
    pub(crate) before: Arc<Allocation>,
    /// Interfaces that exist, of those that the topology names.
    pub(crate) present: BTreeSet<InterfaceName>,
    /// Ends of links that nothing passes.
    pub(crate) down: Down,
}

impl Host {
    /// Where all interfaces exist that the topology names.
    pub(crate) fn everywhere(
        topology: &ValidTopology,
        before: &Arc<Allocation>,
        down: &Down,
    ) -> Self {
        let graph = TopologyGraph::new(topology);
        Self {
            before: Arc::clone(before),
            present: graph.host_interfaces().into_iter().cloned().collect(),
            down: down.clone(),
        }
    }

    /// With only these interfaces, among others.
    pub(crate) fn with(mut self, exist: &BTreeSet<InterfaceName>) -> Self {
        self.present.retain(|name| exist.contains(name));
        self
    }
}

/// What was lowered so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lowerings(Vec<(ValidTopology, Host, Arc<Lowered>)>);

impl Lowerings {
    /// A topology on a host.
    pub(crate) fn of(&mut self, topology: &ValidTopology, host: Host) -> Arc<Lowered> {
        if let Some(known) = self.known(topology, &host) {
            return known;
        }
        let graph = TopologyGraph::new(topology);
        let lists = rule_lists(&graph);
        let allocation = self.allocation(topology, &host).unwrap_or_else(|| {
            let allocation = Allocation::with(&graph, &host.before, &lists);
            if allocation == *host.before {
                Arc::clone(&host.before)
            } else {
                Arc::new(allocation)
            }
        });
        let desired = desired_with(&graph, &allocation, &lists, &host.present, &host.down);
        let lowered = Arc::new(Lowered {
            desired,
            allocation,
        });
        self.0.push((topology.clone(), host, Arc::clone(&lowered)));
        lowered
    }

    fn known(&self, topology: &ValidTopology, host: &Host) -> Option<Arc<Lowered>> {
        let same = |known: &Host| known.present == host.present && known.down == host.down;
        let mut all = self.numbered(topology, host);
        all.find(|(known, _)| same(known))
            .map(|(_, lowered)| Arc::clone(lowered))
    }

    /// The numbers do not depend on what is there, and those given out once stay.
    fn allocation(&self, topology: &ValidTopology, host: &Host) -> Option<Arc<Allocation>> {
        let mut all = self.numbered(topology, host);
        all.next()
            .map(|(_, lowered)| Arc::clone(&lowered.allocation))
    }

    fn numbered<'a>(
        &'a self,
        topology: &'a ValidTopology,
        host: &'a Host,
    ) -> impl Iterator<Item = (&'a Host, &'a Arc<Lowered>)> {
        let numbers = move |known: &Host, lowered: &Lowered| {
            known.before == host.before || lowered.allocation == host.before
        };
        let all = self
            .0
            .iter()
            .filter(move |(known, on, lowered)| known == topology && numbers(on, lowered));
        all.map(|(_, host, lowered)| (host, lowered))
    }
}
