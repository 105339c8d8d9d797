//! One round: read, compare, plan, execute, read again.

mod look;
mod unexplained;

use std::{borrow::Cow, sync::Arc};

use topology_schema::{Drift, Locations, Name, Spec, Topology, ValidTopology, validate};

use self::{look::look, unexplained::unexplained};
use crate::{
    announce::announce,
    change::{self, Change, Changes},
    checks::{self, Back, FailedCheck},
    commit::PendingCommit,
    desired::Desired,
    down::{Down, down},
    drift::{self, Applied, Policy},
    execute::{Outcome, execute},
    graph::TopologyGraph,
    interrupt::Interrupt,
    kernel::{self, Kernel},
    lowered::{Host, Lowerings},
    observed::{Interest, Observed},
    parallel,
    plan::{self, Step},
    record::Record,
    resource::Content,
    restore::restore,
    topology_text,
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

/// The same for a plan that is carried out unless something is wrong with it: what it will surely ask for is begun
/// meanwhile.
pub(crate) fn plan_to_apply(
    kernel: &mut dyn Kernel,
    wanted: &ValidTopology,
) -> kernel::Result<Plan> {
    let known = Known {
        is_applied: true,
        ..Known::default()
    };
    plan_where(kernel, Some(wanted), Commit::Keep, false, known)
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
    /// The plan is carried out unless something is wrong with it.
    is_applied: bool,
}

/// The same with more known: for looking whether a plan was carried out.
fn plan_where(
    kernel: &mut dyn Kernel,
    wanted: Option<&ValidTopology>,
    commit: Commit,
    unfinished: bool,
    mut known: Known<'_>,
) -> kernel::Result<Plan> {
    let record = kernel.record()?;
    record.as_ref().map_or(Ok(()), check_layout)?;
    let recorded_topology = record.as_ref().map(|record| Arc::clone(&record.topology));
    // What the file changes depends on two texts only: it is found while the kernel is read.
    let (asked_for, look) = parallel::beside(
        || {
            let (old, new) = (recorded_topology.as_deref(), wanted);
            let changes = change::between(old, new.map(ValidTopology::topology));
            // What is said of the topology elsewhere is made where there is time for it.
            if !changes.is_empty() {
                let _kept = new.map(|topology| topology_text::of(&topology.shared()));
            }
            changes
        },
        || look(kernel, record, wanted, unfinished, &mut known),
    );
    let look = look?;
    let Known {
        down: known_down,
        mut lowerings,
        ..
    } = known;
    let observed = &look.observed;
    let down = match (known_down, wanted) {
        (Some(known), _) => known.clone(),
        (None, Some(topology)) => down(&TopologyGraph::new(topology), observed),
        (None, None) => Down::new(),
    };
    let lowered = wanted.map(|topology| {
        let here = Host::everywhere(topology, &look.before, &down);
        lowerings.of(topology, here.with(&observed.foreign_interfaces()))
    });
    let pending = match &commit {
        Commit::Keep => look
            .record
            .as_ref()
            .and_then(|record| record.pending.clone()),
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
    // Without its record, what runs is compared with what is wanted.
    let (mut asked_for, applied) = match &look.record {
        None if !observed.is_empty() => (Vec::new(), wanted.cloned()),
        _ => (asked_for, look.applied.clone()),
    };
    let applied =
        applied.map(|topology| Applied::new(&topology, &look.before, observed, &mut lowerings));
    let plan_for = |observed: &Observed| {
        let desired = &lowered.desired;
        plan::steps(desired, observed, recorded(&applied), new_record.as_ref())
    };
    let (steps, drift) = match (&applied, wanted) {
        (Some(applied), Some(wanted)) => {
            let spec = spec_on_drift(wanted, unfinished, look.record.as_ref(), &commit);
            let policy = Policy::new(&spec, &asked_for);
            drift::followed(applied, observed, policy, plan_for)
        }
        _ => (plan_for(observed), Vec::new()),
    };
    change::say_disruption(&mut asked_for, &steps);
    let mut changes = Changes {
        changes: asked_for,
        drift,
        pending: lowered.desired.pending.clone(),
    };
    explain(&mut changes, wanted, || {
        (!steps.is_empty()).then(|| unexplained(observed, new_record.as_ref()))
    });
    Ok(Plan {
        topology: kernel.topology().clone(),
        changes,
        steps,
        wanted: wanted.cloned(),
        observed: look.observed,
        down,
        lowerings,
    })
}

/// Says of changes what the comparison cannot know: why all goes, and what steps without a change are.
fn explain(
    changes: &mut Changes,
    wanted: Option<&ValidTopology>,
    rest: impl FnOnce() -> Option<Change>,
) {
    changes.drop_moot_drift();
    if wanted.is_none() {
        for change in &mut changes.changes {
            change.reason = "the topology is removed".to_owned();
        }
    }
    if changes.is_empty() {
        changes.changes.extend(rest());
    }
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
                is_applied: false,
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
