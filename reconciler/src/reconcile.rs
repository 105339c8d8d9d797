//! One round: read, compare, plan, execute, read again.

mod unexplained;

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use topology_schema::{Drift, Locations, Name, Spec, Topology, ValidTopology, validate};

use self::unexplained::unexplained;
use crate::{
    announce::announce,
    change::{self, Changes},
    checks::{self, Back, FailedCheck},
    commit::PendingCommit,
    desired::Desired,
    down::{Down, down},
    drift::{self, Applied, Policy},
    execute::{Outcome, execute},
    facts::facts_of_both,
    graph::TopologyGraph,
    interrupt::Interrupt,
    kernel::{self, Kernel},
    lowered::{Host, Lowerings},
    observed::{Interest, Observed},
    plan::{self, Step},
    record::Record,
    resource::Content,
    restore::restore,
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
    pub(crate) wanted: Option<ValidTopology>,
    /// What the plan was made against.
    pub(crate) observed: Observed,
    /// Links that nothing passed then.
    pub(crate) down: Down,
    /// What topologies came to when it was made.
    lowerings: Lowerings,
}

impl Plan {
    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.changes.is_empty()
    }

    /// What was applied when the plan was made.
    pub fn applied(&self) -> Option<Arc<Topology>> {
        let record = self.observed.record.as_ref();
        record.map(|record| Arc::clone(&record.topology))
    }

    /// What will be applied; `None` to remove the topology.
    pub fn wanted(&self) -> Option<Arc<Topology>> {
        self.wanted.as_ref().map(ValidTopology::shared)
    }

    /// True if anything differs, drift that stays among it.
    pub fn differs(&self) -> bool {
        !self.is_empty() || self.changes.differ()
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
    /// Done, and the kernel says so, but checks of the topology failed.
    Unhealthy {
        /// Which checks, and why.
        failures: Vec<FailedCheck>,
        /// What became of what was done.
        back: Back,
    },
    /// See [`Outcome::RolledBack`] and [`Outcome::Stuck`].
    Failed(Outcome),
}

/// What a plan does to the commit that waits for its confirmation.
#[derive(Clone, Debug)]
pub(crate) enum Commit {
    /// Leaves it.
    Keep,
    /// Sets or ends it.
    Set(Option<Box<PendingCommit>>),
}

/// Plans the way to a topology.
pub fn plan(kernel: &mut dyn Kernel, wanted: &ValidTopology) -> kernel::Result<Plan> {
    make_plan(kernel, Some(wanted), Commit::Keep)
}

/// Plans the removal of the topology.
pub fn plan_removal(kernel: &mut dyn Kernel) -> kernel::Result<Plan> {
    make_plan(kernel, None, Commit::Keep)
}

/// Plans the way to a topology, or its removal.
pub(crate) fn make_plan(
    kernel: &mut dyn Kernel,
    wanted: Option<&ValidTopology>,
    commit: Commit,
) -> kernel::Result<Plan> {
    plan_after(kernel, wanted, commit, false)
}

/// The same, after an apply that came to its end or, `unfinished`, did not: then there may be
/// more than the record says.
pub(crate) fn plan_after(
    kernel: &mut dyn Kernel,
    wanted: Option<&ValidTopology>,
    commit: Commit,
    unfinished: bool,
) -> kernel::Result<Plan> {
    plan_where(kernel, wanted, commit, unfinished, Known::default())
}

/// What is known before the kernel is read.
#[derive(Default)]
struct Known<'a> {
    /// Links that count as down, whatever has become of them.
    down: Option<&'a Down>,
    lowerings: Lowerings,
}

/// The same with more known: for looking whether a plan was carried out.
fn plan_where(
    kernel: &mut dyn Kernel,
    wanted: Option<&ValidTopology>,
    commit: Commit,
    unfinished: bool,
    known: Known<'_>,
) -> kernel::Result<Plan> {
    let record = kernel.record()?;
    record.as_ref().map_or(Ok(()), check_layout)?;
    let applied = record.as_ref().and_then(|record| valid_as(record, wanted));
    let before = record.as_ref().map(|record| Arc::clone(&record.allocation));
    let before = before.unwrap_or_default();
    let mut lowerings = known.lowerings;
    // What should be read follows from what was and what will be; which interfaces exist is not
    // known yet, so both are made as if all did.
    let recorded_down = record.as_ref().map(|record| record.down.clone());
    let recorded_down = recorded_down.unwrap_or_default();
    let mut interest = Interest {
        all_slots: unfinished || record.as_ref().is_none_or(|record| record.unfinished),
        ..Interest::default()
    };
    let other = applied.as_ref().filter(|applied| Some(*applied) != wanted);
    for topology in other.into_iter().chain(wanted) {
        let everywhere = Host::everywhere(topology, &before, &recorded_down);
        take_interest(&mut interest, &lowerings.of(topology, everywhere).desired);
    }
    let observed = kernel.observe(&interest)?;
    check_foreign(wanted, &observed)?;
    let present = observed.foreign_interfaces();
    let down = match (known.down, wanted) {
        (Some(known), _) => known.clone(),
        (None, Some(topology)) => down(&TopologyGraph::new(topology), &observed),
        (None, None) => Down::new(),
    };
    let lowered = wanted.map(|topology| {
        let here = Host::everywhere(topology, &before, &down).with(&present);
        lowerings.of(topology, here)
    });
    let pending = match &commit {
        Commit::Keep => record.as_ref().and_then(|record| record.pending.clone()),
        Commit::Set(pending) => pending.clone(),
    };
    let new_record = wanted
        .zip(lowered.as_ref())
        .map(|(topology, lowered)| Record {
            pending,
            down: down.clone(),
            ..Record::new(topology.shared(), Arc::clone(&lowered.allocation))
        });
    let lowered = lowered.unwrap_or_default();
    let desired = &lowered.desired;
    // Without its record, what runs is compared with what is wanted.
    let (old, applied) = match &record {
        None if !observed.is_empty() => (wanted.map(ValidTopology::topology), wanted.cloned()),
        record => (record.as_ref().map(|record| &*record.topology), applied),
    };
    let (old, new) = facts_of_both(old, wanted.map(ValidTopology::topology));
    let applied =
        applied.map(|topology| Applied::new(&topology, &before, &observed, &mut lowerings));
    let plan_for = |observed: &Observed| {
        plan::steps(desired, observed, recorded(&applied), new_record.as_ref())
    };
    let (steps, drift) = match (&applied, wanted) {
        (Some(applied), Some(wanted)) => {
            let asked_for = change::wanted(&old, &new, &[]);
            let spec = spec_on_drift(wanted, unfinished, record.as_ref(), &commit);
            let policy = Policy::new(&spec, &asked_for);
            drift::followed(applied, &observed, policy, plan_for)
        }
        _ => (plan_for(&observed), Vec::new()),
    };
    let mut changes = Changes {
        changes: change::wanted(&old, &new, &steps),
        drift,
        pending: desired.pending.clone(),
    };
    changes.drop_moot_drift();
    if wanted.is_none() {
        changes
            .changes
            .iter_mut()
            .for_each(|change| change.reason = "the topology is removed".to_owned());
    }
    if changes.is_empty() && !steps.is_empty() {
        changes
            .changes
            .push(unexplained(&observed, new_record.as_ref()));
    }
    Ok(Plan {
        topology: kernel.topology().clone(),
        changes,
        steps,
        wanted: wanted.cloned(),
        observed,
        down,
        lowerings,
    })
}

/// What the file says of drift. Where an apply did not come to its end, what looks like drift is what it left, and
/// goes whatever the file says.
fn spec_on_drift<'a>(
    wanted: &'a ValidTopology,
    unfinished: bool,
    record: Option<&Record>,
    commit: &Commit,
) -> Cow<'a, Spec> {
    let begins = matches!(commit, Commit::Set(Some(_)));
    let half_done = record.is_some_and(|record| {
        let pending = record.pending.as_ref().filter(|_| !begins);
        record.unfinished || pending.is_some_and(|pending| !pending.complete)
    });
    let spec = &wanted.topology().spec;
    if !unfinished && !half_done {
        return Cow::Borrowed(spec);
    }
    let mut spec = spec.clone();
    spec.drift = Drift::Repair;
    spec.cubes.values_mut().for_each(|cube| cube.drift = None);
    Cow::Owned(spec)
}

/// What was desired last, if that is known.
fn recorded(applied: &Option<Applied>) -> Option<&Desired> {
    applied.as_ref().and_then(Applied::recorded)
}

/// Runs a plan, reads the kernel again, and runs the topology's checks; if one fails, what was applied before comes
/// back. An interrupt takes it back, too, until the checks have succeeded; not during clean-up.
pub fn apply(
    kernel: &mut dyn Kernel,
    plan: &Plan,
    interrupt: &Interrupt,
    progress: impl FnMut(usize, &Step),
) -> kernel::Result<Report> {
    let report = carry_out(kernel, plan, interrupt, progress)?;
    match report {
        Report::Applied { left } => checks::verdict(kernel, plan, interrupt, left),
        other => Ok(other),
    }
}

/// Runs a plan and reads the kernel again.
pub(crate) fn carry_out(
    kernel: &mut dyn Kernel,
    plan: &Plan,
    interrupt: &Interrupt,
    progress: impl FnMut(usize, &Step),
) -> kernel::Result<Report> {
    match execute(kernel, &plan.steps, interrupt, progress) {
        Outcome::Done { left } => {
            take_routes(kernel);
            // A carrier that comes or goes meanwhile is the next plan's.
            let wanted = plan.wanted.as_ref();
            let known = Known {
                down: Some(&plan.down),
                lowerings: plan.lowerings.clone(),
            };
            let again = plan_where(kernel, wanted, Commit::Keep, false, known)?;
            let unfinished = again
                .steps
                .iter()
                .any(|step| step.phase != plan::Phase::CleanUp);
            if unfinished {
                return Ok(Report::NotVerified {
                    remaining: again.changes,
                });
            }
            announce(kernel, plan);
            Ok(Report::Applied { left })
        }
        failed => Ok(Report::Failed(restore(kernel, plan, failed))),
    }
}

/// Takes routes from the kernel's tables, and says what cannot be used.
pub(crate) fn take_routes(kernel: &mut dyn Kernel) {
    for problem in kernel.take_routes() {
        tracing::warn!("{problem}");
    }
}

/// What is worth reading for a topology.
pub(crate) fn take_interest(interest: &mut Interest, desired: &Desired) {
    interest.slots.extend(desired.slots.keys().cloned());
    for (path, program) in &desired.programs {
        let maps = interest.uses.entry(path.clone()).or_default();
        maps.extend(program.maps.values().cloned());
    }
    let config = desired
        .maps
        .iter()
        .filter(|(_, map)| matches!(map.content, Content::Config(_) | Content::Banked(_)));
    interest
        .contents
        .extend(config.map(|(path, _)| path.clone()));
}

/// The recorded topology, if this version still takes it; what is wanted is known to be valid.
fn valid_as(record: &Record, wanted: Option<&ValidTopology>) -> Option<ValidTopology> {
    match wanted {
        Some(wanted) if *wanted.topology() == *record.topology => Some(wanted.clone()),
        _ => valid(record),
    }
}

/// The recorded topology, if this version still takes it.
pub(crate) fn valid(record: &Record) -> Option<ValidTopology> {
    validate(Arc::clone(&record.topology), &Locations::none())
        .ok()
        .map(|(topology, _)| topology)
}

/// Refuses what a newer `pcn` applied.
pub(crate) fn check_layout(record: &Record) -> kernel::Result<()> {
    if record.layout_version <= ebpf_abi::LAYOUT_VERSION {
        return Ok(());
    }
    Err(kernel::Error::Newer {
        topology: record.topology.metadata.name.to_string(),
        version: record.pcn_version.clone(),
        layout: record.layout_version,
    })
}

/// Refuses before anything is touched: what exists and is not ours is never taken over.
fn check_foreign(wanted: Option<&ValidTopology>, observed: &Observed) -> kernel::Result<()> {
    let Some(topology) = wanted else {
        return Ok(());
    };
    let foreign: BTreeSet<&Name> = observed
        .namespaces
        .iter()
        .filter(|(_, ours)| !**ours)
        .map(|(name, _)| name)
        .collect();
    match topology
        .topology()
        .spec
        .namespaces
        .keys()
        .find(|name| foreign.contains(name))
    {
        Some(name) => Err(kernel::Error::Foreign(format!(
            "namespace/{name}: a network namespace of that name exists and was not made by this topology; \
             choose another name, or remove it with `ip netns delete {name}` if nothing needs it"
        ))),
        None => Ok(()),
    }
}
