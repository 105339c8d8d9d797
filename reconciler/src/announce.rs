//! What ports say of themselves once they are live: that their addresses are there now. It is sent
//! once, when a plan was carried out, and nothing depends on it: hosts that miss it ask, later.

use topology_schema::{Endpoint, InterfaceName, Link, Name, Topology, ValidTopology};

use crate::{
    address::Address,
    change::Action,
    cube::{Context, driver_for},
    graph::TopologyGraph,
    kernel::Kernel,
    plan::Op,
    reconcile::Plan,
};

/// Sends what follows from a plan that was carried out.
pub(crate) fn announce(kernel: &mut dyn Kernel, plan: &Plan) {
    let Some(wanted) = &plan.wanted else {
        return;
    };
    // Whatever cannot be sent is not worth more than a remark: nothing is wrong with what runs.
    for (cube, port, frame) in due(kernel, plan, wanted) {
        if let Err(error) = kernel.send(&cube, port, &frame) {
            tracing::debug!(%cube, port, %error, "an announcement was not sent");
        }
    }
}

fn due(kernel: &mut dyn Kernel, plan: &Plan, wanted: &ValidTopology) -> Vec<(Name, u32, Vec<u8>)> {
    let Ok(Some(record)) = kernel.record() else {
        return Vec::new();
    };
    let graph = TopologyGraph::new(wanted);
    let mut due = Vec::new();
    for (name, cube) in &wanted.topology().spec.cubes {
        let context = Context {
            name,
            cube,
            graph: &graph,
            allocation: &record.allocation,
            rules: None,
            down: &record.down,
        };
        for (port, index) in context.linked_ports() {
            let Ok(port) = port.parse::<Name>() else {
                continue;
            };
            if !is_live_now(plan, wanted.topology(), &graph, name, &port) {
                continue;
            }
            let frames = driver_for(cube.kind()).announcements(&context, &port);
            due.extend(frames.into_iter().map(|frame| (name.clone(), index, frame)));
        }
    }
    due
}

/// True if the plan made the port, gave it other settings, or connected it.
fn is_live_now(
    plan: &Plan,
    topology: &Topology,
    graph: &TopologyGraph<'_>,
    cube: &Name,
    port: &Name,
) -> bool {
    let end = Endpoint::Port {
        cube: cube.clone(),
        port: port.clone(),
    };
    let own = Address::cube(cube);
    let settings = own.entry("ports", port.as_str());
    let is_link = |link: &&Link| link.endpoints().contains(&&end);
    let link = topology.spec.links.iter().find(is_link).map(Address::link);
    let changed = plan.changes.changes.iter().any(|change| {
        let made = matches!(change.action, Action::Create | Action::Replace);
        change.address == settings
            || Some(&change.address) == link.as_ref()
            || (change.address == own && made)
    });
    let attached = |interface: &InterfaceName| {
        plan.steps.iter().any(|step| {
            matches!(&step.op, Op::Attach(_, attachment) if attachment.interface == *interface)
        })
    };
    changed || matches!(graph.peer(&end), Some(Endpoint::Host(interface)) if attached(interface))
}
