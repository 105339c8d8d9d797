//! Numbers that stay with what they were given to: ports of cubes, attachments and stack
//! positions of transparent cubes, what drivers number themselves.
//!
//! They are part of the record of what was applied, so that a port that comes does not move the
//! others: their entries, counters and programs stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use topology_schema::{Endpoint, Name};

use crate::{
    classify::RuleNumbers,
    cube::{RuleLists, driver_for, rule_lists},
    graph::TopologyGraph,
};

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
    /// What drivers number themselves, by cube and by what has the numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    runs: BTreeMap<String, BTreeMap<String, Run>>,
    /// Numbers of rules, by cube.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rules: BTreeMap<String, RuleNumbers>,
}

/// Numbers that follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    first: u32,
    count: u32,
}

impl Allocation {
    /// The numbers for a topology: those of `before` where they still apply, else the lowest
    /// free ones in the order of names.
    pub fn new(graph: &TopologyGraph<'_>, before: &Self) -> Self {
        Self::with(graph, before, &rule_lists(graph))
    }

    /// The same with the cubes' lists of rules.
    pub(crate) fn with(graph: &TopologyGraph<'_>, before: &Self, lists: &RuleLists) -> Self {
        let mut wanted = Self::default();
        for (name, cube) in &graph.topology().topology().spec.cubes {
            let driver = driver_for(cube.kind());
            let runs = driver.numbered(&cube.cube);
            if !runs.is_empty() {
                let unnumbered = |(what, count)| (what, Run { first: 0, count });
                let runs = runs.into_iter().map(unnumbered).collect();
                wanted.runs.insert(name.to_string(), runs);
            }
            if let Some(lists) = lists.get(name) {
                let before = before.rules.get(name.as_str());
                let numbers = RuleNumbers::new(lists, before);
                wanted.rules.insert(name.to_string(), numbers);
            }
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
        number_runs(&mut wanted.runs, &before.runs);
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

    /// The first number of what a driver has numbered.
    pub fn number(&self, cube: &Name, what: &str) -> Option<u32> {
        Some(self.runs.get(cube.as_str())?.get(what)?.first)
    }

    /// One more than the highest number that a driver's things have.
    pub fn number_limit(&self, cube: &Name) -> u32 {
        let runs = self.runs.get(cube.as_str()).into_iter().flatten();
        runs.map(|(_, run)| run.first + run.count)
            .max()
            .unwrap_or(0)
    }

    /// The numbers of a cube's rules; `None` for a cube without.
    pub fn rules(&self, cube: &Name) -> Option<&RuleNumbers> {
        self.rules.get(cube.as_str())
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

/// From 1 on, so that 0 can be nobody's.
fn number_runs(
    wanted: &mut BTreeMap<String, BTreeMap<String, Run>>,
    before: &BTreeMap<String, BTreeMap<String, Run>>,
) {
    for (group, members) in wanted {
        let known = before.get(group);
        // Also those of what goes: until nothing refers to it, it keeps its meaning.
        let mut taken: BTreeMap<u32, u32> = known
            .into_iter()
            .flatten()
            .map(|(_, run)| (run.first, run.first + run.count))
            .collect();
        let mut free = 1;
        for (what, run) in members {
            let same = known.and_then(|known| known.get(what));
            if let Some(same) = same.filter(|same| same.count == run.count) {
                *run = *same;
                continue;
            }
            while let Some(end) = taken.get(&free) {
                free = *end;
            }
            // The first gap that is wide enough.
            let mut first = free;
            for (start, end) in taken.range(free..) {
                if first + run.count <= *start {
                    break;
                }
                first = *end;
            }
            run.first = first;
            taken.insert(first, first + run.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(of: &[(&str, u32)]) -> BTreeMap<String, BTreeMap<String, Run>> {
        let run = |&(what, count): &(&str, u32)| (what.to_owned(), Run { first: 0, count });
        BTreeMap::from([("r".to_owned(), of.iter().map(run).collect())])
    }

    fn firsts(runs: &BTreeMap<String, BTreeMap<String, Run>>) -> Vec<(&str, u32)> {
        let runs = runs["r"].iter();
        runs.map(|(what, run)| (what.as_str(), run.first)).collect()
    }

    #[test]
    fn what_stays_keeps_its_numbers_and_those_of_what_went_are_not_given_out_at_once() {
        let mut before = runs(&[("a", 1), ("b", 3), ("c", 1)]);
        number_runs(&mut before, &BTreeMap::new());
        assert_eq!(firsts(&before), [("a", 1), ("b", 2), ("c", 5)]);
        let mut after = runs(&[("a", 1), ("c", 1), ("d", 2), ("e", 1)]);
        number_runs(&mut after, &before);
        assert_eq!(firsts(&after), [("a", 1), ("c", 5), ("d", 6), ("e", 8)]);
        let mut later = runs(&[("a", 1), ("b", 3), ("c", 2), ("f", 2)]);
        number_runs(&mut later, &after);
        assert_eq!(firsts(&later), [("a", 1), ("b", 2), ("c", 9), ("f", 11)]);
    }
}
