//! What is read before a plan is made.

use std::{collections::BTreeSet, sync::Arc};

use topology_schema::{Name, ValidTopology};

use super::{Known, take_interest, valid};
use crate::{
    allocation::Allocation,
    desired::Desired,
    kernel::{self, Kernel},
    lowered::Host,
    observed::{Interest, Observed},
    plan,
    record::Record,
};

/// What there is before anything is compared.
pub(super) struct Look {
    pub(super) record: Option<Record>,
    /// What was applied, if this version still takes it.
    pub(super) applied: Option<ValidTopology>,
    /// The numbers that were given out.
    pub(super) before: Arc<Allocation>,
    pub(super) observed: Observed,
}

/// Reads of the kernel what the topologies, the recorded one and the new one, come to.
pub(super) fn look(
    kernel: &mut dyn Kernel,
    mut record: Option<Record>,
    wanted: Option<&ValidTopology>,
    unfinished: bool,
    known: &mut Known<'_>,
) -> kernel::Result<Look> {
    let applied = record.as_ref().and_then(|record| valid_as(record, wanted));
    if let (Some(record), Some(applied)) = (&mut record, &applied) {
        // Where both are the same, they are compared by their place from here on.
        record.topology = applied.shared();
    }
    let before = record.as_ref().map(|record| Arc::clone(&record.allocation));
    let before = before.unwrap_or_default();
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
        let lowered = known.lowerings.of(topology, everywhere);
        take_interest(&mut interest, &lowered.desired);
        if known.is_applied && record.is_none() && is_large(&lowered.desired) {
            let nothing = Observed::default();
            kernel.foresee(&plan::steps(&lowered.desired, &nothing, None, None));
        }
    }
    let mut observed = kernel.observe(&interest)?;
    if let (Some(seen), Some(record)) = (&mut observed.record, &record)
        && seen.topology == record.topology
    {
        seen.topology = Arc::clone(&record.topology);
    }
    check_foreign(wanted, &observed)?;
    Ok(Look {
        record,
        applied,
        before,
        observed,
    })
}

/// Entries of a table from which the rest of a plan takes so long that it is worth beginning before. Otherwise interfaces
/// and links, which wait for grace periods of RCU, would only wait longer while the verifier is busy.
const MANY: usize = 1024;

fn is_large(desired: &Desired) -> bool {
    let mut contents = desired.maps.values().map(|map| map.content.entries());
    contents.any(|entries| entries.is_some_and(|entries| entries.len() >= MANY))
}

/// The recorded topology, if this version still takes it; what is wanted is known to be valid.
fn valid_as(record: &Record, wanted: Option<&ValidTopology>) -> Option<ValidTopology> {
    match wanted {
        Some(wanted) if wanted.shared() == record.topology => Some(wanted.clone()),
        _ => valid(record),
    }
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
