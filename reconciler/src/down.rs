//! Ends of links that nothing passes now, as far as tables depend on it: an interface is gone, set
//! down, or has no carrier.
//!
//! Like interfaces that are not there, this is a matter of the host, not of the file: what is
//! desired follows from both. What it was is in the record, so that a carrier that goes is no drift
//! of the tables that are written for it.

use std::collections::BTreeSet;

use topology_schema::{Drift, Endpoint, Topology};

use crate::{cube::driver_for, graph::TopologyGraph, observed::Observed, wiring};

/// Ends of links: interfaces that ports of cubes lead to.
pub type Down = BTreeSet<Endpoint>;

/// Those of a topology that any cube asks about.
pub fn down(graph: &TopologyGraph<'_>, observed: &Observed) -> Down {
    let topology = graph.topology().topology();
    let mut down = Down::new();
    for (cube, instance) in &topology.spec.cubes {
        let ports = driver_for(instance.kind()).depends_on_links_of(&instance.cube);
        let peers = ports.into_iter().filter_map(|port| {
            graph.peer(&Endpoint::Port {
                cube: cube.clone(),
                port: port.clone(),
            })
        });
        down.extend(
            peers
                .filter(|end| is_down(topology, observed, end))
                .cloned(),
        );
    }
    down
}

fn is_down(topology: &Topology, observed: &Observed, end: &Endpoint) -> bool {
    match end {
        Endpoint::Port { .. } => false,
        Endpoint::Host(name) => {
            let interface = observed.interfaces.get(name);
            !interface.is_some_and(|interface| interface.up && interface.carrier)
        }
        // A pair of ours is made, and set up again where somebody set it down.
        Endpoint::Namespace { .. } if topology.spec.drift == Drift::Repair => false,
        Endpoint::Namespace { .. } => {
            let outer = wiring::outer_name(&topology.metadata.name, &end.to_string());
            let interface = observed.interfaces.get(&outer);
            interface.is_some_and(|interface| !interface.up || !interface.carrier)
        }
    }
}
