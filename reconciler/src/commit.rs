//! Commits that wait for a confirmation and are taken back without one (a confirmed commit, RFC 6241, 8.4).
//!
//! The record says what waits, until when, and what comes back. It is pinned beside what runs, so both end with the
//! machine. Whoever looks first after the deadline goes back: the guardian process that `apply` left behind, or, if that
//! was killed, the next command.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use topology_schema::{ApiVersion, Kind, Locations, Metadata, Name, Spec, Topology, validate};

use crate::{
    digest::Digest,
    execute::Outcome,
    interrupt::Interrupt,
    journal::{Command, Conclusion, Journal},
    kernel::{self, Kernel},
    plan::{Op, Step},
    reconcile::{self, Commit, Plan, Report},
    record::Record,
};

/// A commit that waits for its confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingCommit {
    /// Tells it from every other, one that prolongs it among them.
    pub id: String,
    /// When it is taken back, in nanoseconds of [`Kernel::boot_time`]: suspended time counts, and setting the clock
    /// changes nothing.
    pub deadline: u64,
    /// How long it was given, in seconds.
    pub seconds: u64,
    /// What comes back; `None` if nothing was applied before.
    pub previous: Option<Arc<Topology>>,
    /// False until the apply has come to its end: one that was killed in the middle cannot be confirmed.
    pub complete: bool,
    /// The user who applied it.
    pub by: String,
}

impl PendingCommit {
    /// The time that is left; `None` once the deadline has passed.
    pub fn remaining(&self, now: Duration) -> Option<Duration> {
        Duration::from_nanos(self.deadline)
            .checked_sub(now)
            .filter(|left| !left.is_zero())
    }

    /// What there is to say of it, as a sentence without a full stop.
    pub fn describe(&self, now: Duration) -> String {
        let by = &self.by;
        match self.remaining(now) {
            Some(left) => format!(
                "what {by} applied waits for a confirmation and goes back in {}s",
                left.as_secs_f64().ceil()
            ),
            None => format!(
                "what {by} applied was not confirmed within {}s; \
                 the next command that changes something takes it back first",
                self.seconds
            ),
        }
    }
}

/// What became of a commit that waits.
#[derive(Debug)]
pub enum Resolved {
    /// None waits.
    Nothing,
    /// There is time left. Whoever is not the one to confirm it leaves the topology alone.
    Waiting(Box<PendingCommit>),
    /// The deadline has passed: the way back, and what came of it.
    WentBack(Box<Plan>, Report),
}

/// What became of a confirmation.
#[derive(Debug)]
pub enum Confirmed {
    /// What runs stays.
    Done,
    /// Nothing waits.
    Nothing,
    /// The apply was killed before it was done: there is nothing whole to confirm.
    Incomplete(Duration),
    /// The deadline had passed: the way back, and what came of it.
    TooLate(Box<Plan>, Report),
}

/// The commit that waits, if there is one, past its deadline or not.
pub fn pending(kernel: &mut dyn Kernel) -> kernel::Result<Option<Box<PendingCommit>>> {
    let record = kernel.record()?;
    if let Some(record) = &record {
        reconcile::check_layout(record)?;
    }
    Ok(record.and_then(|record| record.pending))
}

/// Takes back a commit whose deadline has passed. Needs the topology's lock.
pub fn resolve_expired(
    kernel: &mut dyn Kernel,
    journal: &Journal,
    progress: impl FnMut(usize, &Step),
) -> kernel::Result<Resolved> {
    let Some(pending) = pending(kernel)? else {
        return Ok(Resolved::Nothing);
    };
    if pending.remaining(kernel.boot_time()).is_some() {
        return Ok(Resolved::Waiting(pending));
    }
    let plan = plan_back(kernel, &pending)?;
    let report = go_back(kernel, &plan, journal, "nobody confirmed in time", progress)?;
    Ok(Resolved::WentBack(Box::new(plan), report))
}

/// Plans the way to what was applied before the commit. When that is done, none waits any more.
pub fn plan_back(kernel: &mut dyn Kernel, pending: &PendingCommit) -> kernel::Result<Plan> {
    let Some(previous) = &pending.previous else {
        return reconcile::plan_removal(kernel);
    };
    match validate(previous.clone(), &Locations::none()) {
        Ok((previous, _)) => reconcile::make_plan(kernel, Some(&previous), Commit::Set(None)),
        Err(problems) => Err(kernel::Error::Call(format!(
            "what was applied before is not valid for this version of pcn ({} problems); \
             confirm what runs, or apply something else with the version that applied it",
            problems.iter().count()
        ))),
    }
}

/// Runs a plan made by [`plan_back`]; `why` is for the history. Checks of the topology do not hold it up: there is
/// nothing further to go back to.
pub fn go_back(
    kernel: &mut dyn Kernel,
    plan: &Plan,
    journal: &Journal,
    why: &str,
    progress: impl FnMut(usize, &Step),
) -> kernel::Result<Report> {
    let mut operation = journal.begin(&plan.topology, Command::Rollback, None, plan.wanted());
    operation.start(&plan.changes, plan.applied());
    let report = reconcile::carry_out(kernel, plan, &Interrupt::default(), progress);
    let (conclusion, message) = match &report {
        Ok(Report::Applied { .. }) => (Conclusion::Applied, why.to_owned()),
        Ok(Report::NotVerified { .. }) => (Conclusion::NotVerified, why.to_owned()),
        Ok(Report::Failed(Outcome::RolledBack { error, .. })) => {
            (Conclusion::RolledBack, error.to_string())
        }
        Ok(Report::Failed(Outcome::Stuck { error, .. })) => (Conclusion::Stuck, error.to_string()),
        // Going back runs no checks, and fails with more than this.
        Ok(Report::Unhealthy { .. } | Report::Failed(Outcome::Done { .. })) => {
            (Conclusion::Failed, String::new())
        }
        Err(error) => (Conclusion::NotVerified, error.to_string()),
    };
    operation.finish(conclusion, &message);
    report
}

/// A commit that has begun: what the record says from now on, and what it said.
#[derive(Debug)]
pub struct Begun {
    /// The commit, not complete.
    pub pending: Box<PendingCommit>,
    before: Option<Record>,
}

/// Notes, before anything moves, that what follows is taken back after `timeout`. One that waits already is prolonged,
/// and still goes back to what was before the first. Needs the topology's lock.
///
/// # Errors
/// If the way back could not be gone, or the record cannot be written.
pub fn begin(kernel: &mut dyn Kernel, timeout: Duration, by: &str) -> kernel::Result<Begun> {
    let before = kernel.record()?;
    let previous = match &before {
        Some(record) => match &record.pending {
            Some(earlier) => earlier.previous.clone(),
            None => Some(record.topology.clone()),
        },
        None => None,
    };
    let now = kernel.boot_time();
    let deadline = u64::try_from((now + timeout).as_nanos()).unwrap_or(u64::MAX);
    let number = std::process::id().to_string();
    let pending = Box::new(PendingCommit {
        id: Digest::of(&[&number, &now.as_nanos().to_string()]).text(12),
        deadline,
        seconds: timeout.as_secs(),
        previous,
        complete: false,
        by: by.to_owned(),
    });
    if pending.previous.is_some() {
        // Refused now rather than at the deadline.
        plan_back(kernel, &pending)?;
    }
    // Where nothing is recorded there may be what an apply left that was killed.
    let record = before.clone().unwrap_or_else(|| Record {
        unfinished: true,
        ..Record::new(Arc::new(empty(kernel.topology())), Arc::default())
    });
    write(kernel, record, Some(pending.clone()))?;
    Ok(Begun { pending, before })
}

impl Begun {
    /// Plans the way to a topology; when that is done, the commit is complete.
    pub fn plan(
        &self,
        kernel: &mut dyn Kernel,
        wanted: &topology_schema::ValidTopology,
    ) -> kernel::Result<Plan> {
        let pending = PendingCommit {
            complete: true,
            ..(*self.pending).clone()
        };
        reconcile::make_plan(kernel, Some(wanted), Commit::Set(Some(Box::new(pending))))
    }

    /// Ends a commit of which nothing is left in the kernel. One that it was to prolong still waits, with the new
    /// deadline.
    pub fn withdraw(self, kernel: &mut dyn Kernel) -> kernel::Result<()> {
        match self.before {
            Some(Record {
                pending: Some(ref earlier),
                ..
            }) => {
                let pending = PendingCommit {
                    complete: earlier.complete,
                    ..*self.pending
                };
                write_over(kernel, self.before, Some(Box::new(pending)))
            }
            Some(_) => write_over(kernel, self.before, None),
            None => {
                let plan = reconcile::plan_removal(kernel)?;
                for step in &plan.steps {
                    kernel.apply(&step.op)?;
                }
                Ok(())
            }
        }
    }
}

/// Keeps what runs. Needs the topology's lock. Past the deadline it goes back instead: two answers to one question
/// would be worse than a late one.
pub fn confirm(
    kernel: &mut dyn Kernel,
    journal: &Journal,
    progress: impl FnMut(usize, &Step),
) -> kernel::Result<Confirmed> {
    match resolve_expired(kernel, journal, progress)? {
        Resolved::Nothing => Ok(Confirmed::Nothing),
        Resolved::WentBack(plan, report) => Ok(Confirmed::TooLate(plan, report)),
        Resolved::Waiting(pending) if !pending.complete => Ok(Confirmed::Incomplete(
            pending.remaining(kernel.boot_time()).unwrap_or_default(),
        )),
        Resolved::Waiting(_) => {
            let record = kernel.record()?;
            let wanted = record.as_ref().map(|record| Arc::clone(&record.topology));
            let operation =
                journal.begin(&kernel.topology().clone(), Command::Confirm, None, wanted);
            write_over(kernel, record, None)?;
            operation.finish(Conclusion::Applied, "");
            Ok(Confirmed::Done)
        }
    }
}

fn write_over(
    kernel: &mut dyn Kernel,
    record: Option<Record>,
    pending: Option<Box<PendingCommit>>,
) -> kernel::Result<()> {
    record.map_or(Ok(()), |record| write(kernel, record, pending))
}

fn write(
    kernel: &mut dyn Kernel,
    record: Record,
    pending: Option<Box<PendingCommit>>,
) -> kernel::Result<()> {
    kernel.apply(&Op::WriteRecord(Box::new(Record { pending, ..record })))
}

/// A topology with nothing in it.
fn empty(name: &Name) -> Topology {
    Topology {
        api_version: ApiVersion::default(),
        kind: Kind::default(),
        metadata: Metadata { name: name.clone() },
        spec: Spec::default(),
    }
}
