//! From a guess at a topology to what can be begun before the topology is read.
//!
//! A first apply of many rules reads, checks and compiles them before it knows a single program for sure. Which programs
//! there will be follows from a few of the rules, mostly, and from how many there are. So programs are begun on maps of the
//! sizes that are to be expected; what turns out to be something else is let go, and made when its step comes.

use std::collections::BTreeSet;

use topology_schema::{InterfaceName, ValidTopology};

use crate::{
    allocation::Allocation,
    cube::driver_for,
    desired::{Desired, desired},
    down::Down,
    graph::TopologyGraph,
    observed::Observed,
    plan::{self, Step},
    resource::Content,
    wiring,
};

/// The steps that the topology will need where nothing was applied: with maps without content. `topology` lacks `left_out`
/// items of a list that has at least `kept` in it. `None` if nobody knows what that list's cube needs with them.
pub(crate) fn steps(topology: &ValidTopology, kept: usize, left_out: usize) -> Option<Vec<Step>> {
    let graph = TopologyGraph::new(topology);
    let present: BTreeSet<InterfaceName> = graph.host_interfaces().into_iter().cloned().collect();
    let allocation = Allocation::new(&graph, &Allocation::default());
    let mut desired = desired(&graph, &allocation, &present, &Down::new());
    grow(&mut desired, topology, kept, left_out)?;
    for map in desired.maps.values_mut() {
        if matches!(map.content, Content::Config(_) | Content::Banked(_)) {
            map.content = Content::Learned;
        }
    }
    Some(plan::steps(&desired, &Observed::default(), None, None))
}

/// Gives the tables of the cube that has the list the sizes that they will have.
fn grow(
    desired: &mut Desired,
    topology: &ValidTopology,
    kept: usize,
    left_out: usize,
) -> Option<()> {
    let mut grown = Vec::new();
    for (name, cube) in &topology.spec.cubes {
        let entries = |table: &str| {
            let map = desired.maps.get(&wiring::table(name, table));
            map.and_then(|map| map.content.entries())
        };
        let driver = driver_for(cube.kind());
        let sizes = driver.grown(&cube.cube, (kept, left_out), &entries);
        grown.extend(sizes.map(|sizes| (name, sizes)));
    }
    // Of two lists, nobody knows which one it is.
    let [(name, sizes)] = grown.as_slice() else {
        return None;
    };
    for (table, max_entries) in sizes {
        let map = desired.maps.get_mut(&wiring::table(name, table))?;
        map.shape.max_entries = *max_entries;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use topology_schema::{Source, load, sketch};

    use super::*;
    use crate::{
        plan::Op,
        resource::{MapShape, PinPath, Program},
    };

    type Made = (BTreeMap<PinPath, MapShape>, BTreeMap<PinPath, Program>);

    fn made(steps: &[Step]) -> Made {
        let mut made = Made::default();
        for step in steps {
            match &step.op {
                Op::CreateMap(pin, map) => drop(made.0.insert(pin.clone(), map.shape)),
                Op::LoadProgram(pin, program) => drop(made.1.insert(pin.clone(), program.clone())),
                _ => {}
            }
        }
        made
    }

    fn source(rules: &str) -> Source {
        let text = format!(
            "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: t }}\nspec:\n  cubes:\n    \
             fw: {{ firewall: {{ conntrack: false, ingress: {{ default: drop, rules: [\n{rules}] }} }} }}\n    \
             r: {{ router: {{ ports: {{ a: {{ addresses: [10.0.0.1/24], through: [fw] }} }} }} }}\n  links: [[r:a, eth0]]\n"
        );
        let name = "t.yaml".to_owned();
        Source { name, text }
    }

    #[test]
    fn rules_that_are_alike_need_what_was_expected() {
        for count in [1200_u32, 10_000] {
            let rule = |at: u32| {
                let [_, a, b, c] = at.to_be_bytes();
                format!(
                    "{{ destination: 20.{a}.{b}.{c}/32, protocol: udp, destinationPort: {}, action: accept }},\n",
                    5000 + at % 7
                )
            };
            let source = source(&(0..count).map(rule).collect::<String>());
            let sketch = sketch(&source).expect("there are many rules");
            let (few, _) = load(&sketch.source).expect("a guess");
            let expected = steps(&few, sketch.kept, sketch.left_out).expect("a firewall's rules");
            let (topology, _) = load(&source).expect("it is valid");
            let graph = TopologyGraph::new(&topology);
            let present = graph.host_interfaces().into_iter().cloned().collect();
            let allocation = Allocation::new(&graph, &Allocation::default());
            let desired = desired(&graph, &allocation, &present, &Down::new());
            let steps = plan::steps(&desired, &Observed::default(), None, None);
            assert_eq!(made(&expected), made(&steps));
        }
    }
}
