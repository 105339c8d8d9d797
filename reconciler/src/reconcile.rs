//! One round: read, compare, plan, execute, read again.

use std::collections::BTreeSet;

use topology_schema::{Locations, Name, Spec, Topology, ValidTopology, validate};

use crate::{
    allocation::Allocation,
    change::{self, Changes},
    desired::{Desired, desired},
    execute::{Outcome, execute},
    facts::{Facts, facts},
    graph::TopologyGraph,
    kernel::{self, Kernel},
    observed::{Interest, Observed},
    plan::{self, Op, Step},
    record::Record,
    resource::Content,
};

/// What is to be done, and what it means.
#[derive(Debug)]
pub struct Plan {
    /// For which topology.
    pub topology: Name,
    /// For people and scripts.
    pub changes: Changes,
    /// For the kernel.
    pub steps: Vec<Step>,
    /// What will be applied; `None` to remove the topology.
    wanted: Option<ValidTopology>,
}

impl Plan {
    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.changes.is_empty()
    }
}

/// What an apply came to.
#[derive(Debug)]
pub enum Report {
    /// Done, and the kernel says so.
    Applied {
        /// Clean-up that failed.
        left: Vec<kernel::Error>,
    },
    /// Done, but the kernel shows something else.
    NotVerified {
        /// What still differs.
        remaining: Changes,
    },
    /// See [`Outcome::RolledBack`] and [`Outcome::Stuck`].
    Failed(Outcome),
}

/// Plans the way to a topology.
pub fn plan(kernel: &mut dyn Kernel, wanted: &ValidTopology) -> kernel::Result<Plan> {
    make_plan(kernel, Some(wanted))
}

/// Plans the removal of the topology.
pub fn plan_removal(kernel: &mut dyn Kernel) -> kernel::Result<Plan> {
    make_plan(kernel, None)
}

fn make_plan(kernel: &mut dyn Kernel, wanted: Option<&ValidTopology>) -> kernel::Result<Plan> {
    let record = kernel.record()?;
    check_layout(&record)?;
    let applied = record.as_ref().and_then(valid);
    let before = record.as_ref().map(|record| record.allocation.clone()).unwrap_or_default();
    // What should be read follows from what was and what will be; which interfaces exist is not
    // known yet, so both are made as if all did.
    let mut interest = Interest::default();
    let everything = |topology: &ValidTopology| {
        let graph = TopologyGraph::new(topology);
        let allocation = Allocation::new(&graph, &before);
        let all = graph.host_interfaces().into_iter().cloned().collect();
        (desired(&graph, &allocation, &all), allocation)
    };
    for topology in applied.iter().chain(wanted) {
        take_interest(&mut interest, &everything(topology).0);
    }
    let observed = kernel.observe(&interest)?;
    check_foreign(wanted, &observed)?;
    let present = observed.foreign_interfaces();
    let of = |topology: Option<&ValidTopology>| -> (Desired, Option<Record>) {
        let Some(topology) = topology else { return Default::default() };
        let graph = TopologyGraph::new(topology);
        let allocation = Allocation::new(&graph, &before);
        let desired = desired(&graph, &allocation, &present);
        (desired, Some(Record::new(topology.topology().clone(), allocation)))
    };
    let (desired, new_record) = of(wanted);
    let steps = plan::steps(&desired, &observed, new_record.as_ref());
    let facts_of = |topology: Option<&Topology>| topology.map(facts).unwrap_or_default();
    let old: Facts = facts_of(record.as_ref().map(|record| &record.topology));
    let new: Facts = facts_of(wanted.map(ValidTopology::topology));
    let changes = Changes {
        changes: change::wanted(&old, &new, &steps),
        drift: if wanted.is_some() { drift(&of(applied.as_ref()).0, &observed, &steps) } else { Vec::new() },
        pending: desired.pending,
    };
    Ok(Plan { topology: kernel.topology().clone(), changes, steps, wanted: wanted.cloned() })
}

/// Runs a plan and checks what came of it.
pub fn apply(kernel: &mut dyn Kernel, plan: &Plan, progress: impl FnMut(usize, &Step)) -> kernel::Result<Report> {
    match execute(kernel, &plan.steps, progress) {
        Outcome::Done { left } => {
            let again = make_plan(kernel, plan.wanted.as_ref())?;
            let unfinished = again.steps.iter().any(|step| step.phase != plan::Phase::CleanUp);
            if unfinished {
                return Ok(Report::NotVerified { remaining: again.changes });
            }
            Ok(Report::Applied { left })
        }
        failed => Ok(Report::Failed(failed)),
    }
}

fn drift(applied: &Desired, observed: &Observed, steps: &[Step]) -> Vec<change::Change> {
    // Without steps the kernel is as it should be, whatever it looks like.
    if steps.is_empty() { Vec::new() } else { change::drift(applied, observed, steps) }
}

fn take_interest(interest: &mut Interest, desired: &Desired) {
    interest.slots.extend(desired.slots.keys().cloned());
    let config = desired.maps.iter().filter(|(_, map)| matches!(map.content, Content::Config(_)));
    interest.contents.extend(config.map(|(path, _)| path.clone()));
}

/// The recorded topology, if this version still takes it.
pub(crate) fn valid(record: &Record) -> Option<ValidTopology> {
    validate(record.topology.clone(), &Locations::none()).ok().map(|(topology, _)| topology)
}

fn check_layout(record: &Option<Record>) -> kernel::Result<()> {
    match record {
        Some(record) if record.layout_version > ebpf_abi::LAYOUT_VERSION => Err(kernel::Error::Newer {
            topology: record.topology.metadata.name.to_string(),
            version: record.pcn_version.clone(),
            layout: record.layout_version,
        }),
        _ => Ok(()),
    }
}

/// Refuses before anything is touched: what exists and is not ours is never taken over.
fn check_foreign(wanted: Option<&ValidTopology>, observed: &Observed) -> kernel::Result<()> {
    let Some(topology) = wanted else { return Ok(()) };
    let foreign: BTreeSet<&Name> =
        observed.namespaces.iter().filter(|(_, ours)| !**ours).map(|(name, _)| name).collect();
    match topology.topology().spec.namespaces.keys().find(|name| foreign.contains(name)) {
        Some(name) => Err(kernel::Error::Foreign(format!(
            "namespace/{name}: a network namespace of that name exists and was not made by this topology; \
             choose another name, or remove it with `ip netns delete {name}` if nothing needs it"
        ))),
        None => Ok(()),
    }
}

/// An empty topology of that name: what is wanted when all is to go.
pub fn nothing(name: &Name) -> Topology {
    Topology {
        api_version: Default::default(),
        kind: Default::default(),
        metadata: topology_schema::Metadata { name: name.clone() },
        spec: Spec::default(),
    }
}

/// True if the plan needs the kernel to load a program.
pub fn loads_programs(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step.op, Op::LoadProgram(..)))
}
