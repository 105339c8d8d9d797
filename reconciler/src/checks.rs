//! Checks of a topology that was applied: what does not answer takes the apply back.

use std::fmt;

use crate::{
    interrupt::Interrupt,
    kernel::{self, Kernel},
    reconcile::{self, Commit, Plan, Report},
};

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCheck {
    /// What was tried, and from where.
    pub check: String,
    /// Why it failed.
    pub why: String,
}

impl fmt::Display for FailedCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "check failed: {}: {}", self.check, self.why)
    }
}

/// What became of an apply whose checks failed.
#[derive(Debug)]
pub enum Back {
    /// It is taken back: what was applied before runs again.
    Gone,
    /// It stays: the same topology was applied before, so there is nothing else to go back to.
    Nowhere,
    /// It could not be taken back, at least not whole.
    Failed(Box<Report>),
    /// What was applied before is not valid for this version of `pcn`, so it stays.
    Invalid,
}

/// Tries the checks of what a plan led to. One that fails takes it back.
pub(crate) fn verdict(
    kernel: &mut dyn Kernel,
    plan: &Plan,
    interrupt: &Interrupt,
    left: Vec<kernel::Error>,
) -> kernel::Result<Report> {
    let wanted = plan.wanted();
    let checks = wanted.as_ref().map(|wanted| wanted.spec.checks.as_slice());
    let checks = checks.unwrap_or_default();
    if checks.is_empty() {
        return Ok(Report::Applied { left });
    }
    let results = kernel.check(checks, interrupt);
    let failures: Vec<FailedCheck> = checks
        .iter()
        .zip(results)
        .filter_map(|(check, result)| {
            Some(FailedCheck {
                check: check.to_string(),
                why: result.err()?,
            })
        })
        .collect();
    if failures.is_empty() {
        return Ok(Report::Applied { left });
    }
    let back = take_back(kernel, plan)?;
    Ok(Report::Unhealthy { failures, back })
}

/// Goes from what a plan led to back to what was applied when it was made.
fn take_back(kernel: &mut dyn Kernel, plan: &Plan) -> kernel::Result<Back> {
    let before = plan.observed.record.as_ref();
    if before.map(|record| &record.topology) == plan.wanted().as_ref() {
        return Ok(Back::Nowhere);
    }
    let previous = before.map(reconcile::valid);
    let Some(previous) = previous.map_or(Some(None), |valid| valid.map(Some)) else {
        return Ok(Back::Invalid);
    };
    let pending = before.and_then(|record| record.pending.clone());
    let way = reconcile::make_plan(kernel, previous.as_ref(), Commit::Set(pending))?;
    // Whoever interrupts now wants what is done here anyway.
    match reconcile::carry_out(kernel, &way, &Interrupt::default(), |_, _| {})? {
        Report::Applied { .. } => Ok(Back::Gone),
        other => Ok(Back::Failed(Box::new(other))),
    }
}
