//! Numbers that stay with what they were given to: ports of cubes, attachments and stack
//! positions of transparent cubes.
//!
//! They are part of the record of what was applied, so that a port that comes does not move the
//! others: their entries, counters and programs stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use topology_schema::{Endpoint, Name};

use crate::graph::TopologyGraph;

/// The numbers of one topology.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// Port indices by cube and port.
    #[serde(default)]
    ports: BTreeMap<String, BTreeMap<String, u32>>,
    /// Attachment indices by transparent cube and the endpoint it is attached to.
    #[serde(default)]
    attachments: BTreeMap<String, BTreeMap<String, u32>>,
    /// Places in a stack by endpoint and transparent cube.
    #[serde(default)]
    positions: BTreeMap<String, BTreeMap<String, u32>>,
    /// The stacks by endpoint, as the file writes them.
    #[serde(default)]
    orders: BTreeMap<String, Vec<String>>,
}

impl Allocation {
    /// The numbers for a topology: those of `before` where they still apply, else the lowest
    /// free ones in the order of names.
    pub fn new(graph: &TopologyGraph<'_>, before: &Self) -> Self {
        let mut wanted = Self::default();
        for (name, cube) in &graph.topology().topology().spec.cubes {
            if cube.kind().is_transparent() {
                wanted.attachments.entry(name.to_string()).or_default();
            } else {
                wanted.ports.insert(
                    name.to_string(),
                    graph
                        .ports(name)
                        .map(|port| (port.to_string(), 0))
                        .collect(),
                );
            }
        }
        for (endpoint, stack) in stacks(graph) {
            let endpoint = endpoint.to_string();
            for name in stack {
                wanted
                    .attachments
                    .entry(name.to_string())
                    .or_default()
                    .insert(endpoint.clone(), 0);
                wanted
                    .positions
                    .entry(endpoint.clone())
                    .or_default()
                    .insert(name.to_string(), 0);
            }
            let order = stack.iter().map(ToString::to_string).collect();
            wanted.orders.insert(endpoint, order);
        }
        number(&mut wanted.ports, &before.ports);
        number(&mut wanted.attachments, &before.attachments);
        number(&mut wanted.positions, &before.positions);
        wanted.renumber_reordered(before);
        wanted
    }

    /// Gives all members of a stack new places when those that stay change their order: rewired
    /// in place, they would lead to one another in a circle, or past one another, for a moment.
    fn renumber_reordered(&mut self, before: &Self) {
        for (endpoint, order) in &self.orders {
            let Some(old) = before.orders.get(endpoint) else {
                continue;
            };
            let stay: Vec<_> = order.iter().filter(|name| old.contains(name)).collect();
            let stayed: Vec<_> = old.iter().filter(|name| order.contains(name)).collect();
            let (Some(places), Some(used)) = (
                self.positions.get_mut(endpoint),
                before.positions.get(endpoint),
            ) else {
                continue;
            };
            if stay == stayed {
                continue;
            }
            let used: BTreeSet<u32> = used.values().copied().collect();
            let free = (0..).filter(|place| !used.contains(place));
            places
                .values_mut()
                .zip(free)
                .for_each(|(place, free)| *place = free);
        }
    }

    /// The index of a port.
    pub fn port(&self, cube: &Name, port: &Name) -> Option<u32> {
        self.ports.get(cube.as_str())?.get(port.as_str()).copied()
    }

    /// All ports of a cube with their indices.
    pub fn ports(&self, cube: &Name) -> impl Iterator<Item = (&str, u32)> {
        self.ports
            .get(cube.as_str())
            .into_iter()
            .flatten()
            .map(|(port, index)| (port.as_str(), *index))
    }

    /// One more than the highest port index of a cube.
    pub fn port_limit(&self, cube: &Name) -> u32 {
        self.ports(cube)
            .map(|(_, index)| index + 1)
            .max()
            .unwrap_or(0)
    }

    /// The index of an attachment.
    pub fn attachment(&self, cube: &Name, endpoint: &Endpoint) -> Option<u32> {
        self.attachments
            .get(cube.as_str())?
            .get(&endpoint.to_string())
            .copied()
    }

    /// All attachments of a transparent cube: endpoint and index.
    pub fn attachments(&self, cube: &Name) -> impl Iterator<Item = (&str, u32)> {
        self.attachments
            .get(cube.as_str())
            .into_iter()
            .flatten()
            .map(|(endpoint, index)| (endpoint.as_str(), *index))
    }

    /// One more than the highest attachment index of a transparent cube.
    pub fn attachment_limit(&self, cube: &Name) -> u32 {
        self.attachments(cube)
            .map(|(_, index)| index + 1)
            .max()
            .unwrap_or(0)
    }

    /// The place of a transparent cube in an endpoint's stack: which slot, not which order.
    pub fn position(&self, endpoint: &Endpoint, cube: &Name) -> Option<u32> {
        self.positions
            .get(&endpoint.to_string())?
            .get(cube.as_str())
            .copied()
    }
}

/// All stacks: of ports and of host interfaces, as the file writes them.
pub fn stacks<'a>(graph: &TopologyGraph<'a>) -> Vec<(Endpoint, &'a [Name])> {
    let spec = &graph.topology().topology().spec;
    let ports = spec.cubes.iter().flat_map(|(name, cube)| {
        cube.configured_ports().map(move |port| {
            (
                Endpoint::Port {
                    cube: name.clone(),
                    port: port.clone(),
                },
                cube.through(port),
            )
        })
    });
    let interfaces = spec
        .interfaces
        .iter()
        .map(|(name, settings)| (Endpoint::Host(name.clone()), settings.through.as_slice()));
    ports
        .chain(interfaces)
        .filter(|(_, stack)| !stack.is_empty())
        .collect()
}

fn number(
    wanted: &mut BTreeMap<String, BTreeMap<String, u32>>,
    before: &BTreeMap<String, BTreeMap<String, u32>>,
) {
    for (group, members) in wanted {
        let known = before.get(group);
        // Also those of members that go: for a moment, both are there.
        let mut taken: BTreeSet<u32> = known
            .into_iter()
            .flatten()
            .map(|(_, number)| *number)
            .collect();
        let mut free = 0;
        for (member, index) in members {
            if let Some(number) = known.and_then(|known| known.get(member)) {
                *index = *number;
                continue;
            }
            while !taken.insert(free) {
                free += 1;
            }
            *index = free;
        }
    }
}
