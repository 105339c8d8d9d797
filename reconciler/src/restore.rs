//! After a failed apply: the kernel is as it was, or it is said what is not.

use crate::{
    execute::{Outcome, execute},
    interrupt::Interrupt,
    kernel::{self, Kernel},
    observed::Observed,
    reconcile::{self, Commit, Plan},
};

/// Looks whether taking back the steps of a plan has worked. An operation that failed may have
/// done a part all the same, and taking back may have failed, too: then the way back is planned
/// from what is there now, like any other.
pub(crate) fn restore(kernel: &mut dyn Kernel, plan: &Plan, failed: Outcome) -> Outcome {
    let (step, error, mut undo) = match failed {
        Outcome::Done { .. } => return failed,
        Outcome::RolledBack { step, error } => (step, error, Vec::new()),
        Outcome::Stuck { step, error, undo } => (step, error, undo),
    };
    match go_back(kernel, &plan.observed) {
        Ok(()) => undo.clear(),
        Err(problem) => undo.push(problem),
    }
    if undo.is_empty() {
        Outcome::RolledBack { step, error }
    } else {
        Outcome::Stuck { step, error, undo }
    }
}

/// Brings the kernel to what was applied when `before` was read.
fn go_back(kernel: &mut dyn Kernel, before: &Observed) -> kernel::Result<()> {
    let record = before.record.as_ref();
    let applied = record.and_then(reconcile::valid);
    let commit = Commit::Set(record.and_then(|record| record.pending.clone()));
    let plan = reconcile::plan_after(kernel, applied.as_ref(), commit.clone(), true)?;
    if same(&plan.observed, before) {
        return Ok(());
    }
    tracing::info!(steps = plan.steps.len(), "going back to what was applied");
    match execute(kernel, &plan.steps, &Interrupt::default(), |_, _| ()) {
        // Nothing moves traffic here for whose sake something might stay behind.
        Outcome::Done { left } => left.into_iter().next().map_or(Ok(()), Err)?,
        Outcome::RolledBack { error, .. } | Outcome::Stuck { error, .. } => return Err(error),
    }
    let again = reconcile::plan_after(kernel, applied.as_ref(), commit, true)?;
    match again.steps.first() {
        Some(step) => Err(kernel::Error::Call(format!(
            "{}: it is not as it was",
            step.address
        ))),
        None => Ok(()),
    }
}

/// True if two readings show the same. A link that was detached and attached again has another
/// id, and entries that an interest did not ask for are not there to compare.
fn same(now: &Observed, before: &Observed) -> bool {
    let comparable = |observed: &Observed, other: &Observed| {
        let mut observed = observed.clone();
        observed.links.values_mut().for_each(|link| link.id = 0);
        for (path, map) in &mut observed.maps {
            let compared = other
                .maps
                .get(path)
                .is_some_and(|map| map.entries.is_some());
            map.entries = map.entries.take().filter(|_| compared);
        }
        observed
    };
    comparable(now, before) == comparable(before, now)
}
