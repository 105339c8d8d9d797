//! What a topology wants done about drift: the planner is shown the kernel as if what is to stay
//! were as it was applied, so it plans nothing for it.
//!
//! What a step needs cannot stay broken. If a plan refers to anything that is only made believe,
//! the drift of that object is repaired after all.

use std::collections::BTreeSet;

use topology_schema::{Drift, Name, Spec};

use super::{Applied, mask::Mask};
use crate::{address::Address, change::Change, observed::Observed, plan::Step};

/// Which objects' drift stays.
#[derive(Debug)]
pub struct Policy<'a> {
    spec: &'a Spec,
    /// Objects whose drift is repaired whatever the file says of drift: it says something else
    /// of them now, or a step needs them.
    repaired: BTreeSet<Address>,
}

/// The steps that a topology's word on drift leaves, and the drift with what is done about it.
/// `plan` makes the steps for a reading of the kernel.
pub fn followed(
    applied: &Applied,
    observed: &Observed,
    mut policy: Policy<'_>,
    plan: impl Fn(&Observed) -> Vec<Step>,
) -> (Vec<Step>, Vec<Change>) {
    let mut steps = plan(observed);
    // Without steps the kernel is as it should be.
    if steps.is_empty() {
        return (steps, Vec::new());
    }
    let mut drift = super::find(applied, observed, &steps);
    // Without its record, what a topology wanted is not known.
    if !applied.recorded || policy.repairs_all(&drift) {
        return (steps, drift);
    }
    loop {
        let mut mask = Mask::new(applied, observed, &policy);
        mask.all();
        steps = plan(&mask.observed);
        let needed = mask.needed(&steps);
        if needed.is_empty() {
            break;
        }
        let known = policy.repaired.len();
        policy.repaired.extend(needed);
        debug_assert!(
            known < policy.repaired.len(),
            "what is repaired is not made believe"
        );
    }
    drift.retain_mut(|change| {
        let mode = policy.mode(&change.address.object());
        change.mode = Some(mode);
        mode != Drift::Ignore
    });
    (steps, drift)
}

impl<'a> Policy<'a> {
    /// What the file says, which also changes these objects.
    pub fn new(spec: &'a Spec, changes: &[Change]) -> Self {
        let repaired = changes.iter().map(|change| change.address.object());
        Self {
            spec,
            repaired: repaired.collect(),
        }
    }

    /// What happens to drift of an object.
    pub(super) fn mode(&self, object: &Address) -> Drift {
        if self.repaired.contains(object) {
            return Drift::Repair;
        }
        let cube = object.as_str().strip_prefix("cube/");
        match cube.and_then(|name| name.parse::<Name>().ok()) {
            Some(name) => self.spec.drift_of(&name),
            None => self.spec.drift,
        }
    }

    fn repairs_all(&self, drift: &[Change]) -> bool {
        drift
            .iter()
            .all(|change| self.mode(&change.address.object()) == Drift::Repair)
    }
}
