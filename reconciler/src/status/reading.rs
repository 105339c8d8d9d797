//! A reading of the kernel, compared with what was applied.

use std::{collections::BTreeSet, sync::Arc, thread, time::Duration};

use crate::{
    address::Address,
    change::Change,
    down::down,
    drift::{self, Applied, Policy},
    graph::TopologyGraph,
    kernel::{self, Kernel},
    lowered::{Host, Lowered, Lowerings},
    observed::{Interest, Observed},
    plan, reconcile,
    record::Record,
};

/// How often what runs is read at most, and the pause before it is read again.
const READINGS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// Reads again if that fails. Readers take no lock: what is listed may be gone when it is opened,
/// because somebody applies something just then.
pub(super) fn patiently<T>(mut read: impl FnMut() -> kernel::Result<T>) -> kernel::Result<T> {
    for _ in 1..READINGS {
        match read() {
            Err(kernel::Error::Call(_)) => thread::sleep(PAUSE),
            result => return result,
        }
    }
    read()
}

/// What should be there, what is, and the difference.
pub(super) struct Reading {
    pub(super) lowered: Arc<Lowered>,
    pub(super) observed: Observed,
    pub(super) drift: Vec<Change>,
}

impl Reading {
    pub(super) fn new(
        kernel: &mut dyn Kernel,
        graph: &TopologyGraph<'_>,
        record: &Record,
    ) -> kernel::Result<Self> {
        let mut interest = Interest {
            all_slots: record.unfinished,
            ..Interest::default()
        };
        let topology = graph.topology();
        let mut lowerings = Lowerings::default();
        let on = |down| Host::everywhere(topology, &record.allocation, down);
        let everywhere = lowerings.of(topology, on(&record.down));
        reconcile::take_interest(&mut interest, &everywhere.desired);
        let observed = kernel.observe(&interest)?;
        let present = observed.foreign_interfaces();
        let here = on(&down(graph, &observed)).with(&present);
        let lowered = lowerings.of(topology, here);
        let applied = Applied::new(topology, &record.allocation, &observed, &mut lowerings);
        let policy = Policy::new(&record.topology.spec, &[]);
        let (_, drift) = drift::followed(&applied, &observed, policy, |observed| {
            plan::steps(&lowered.desired, observed, applied.recorded(), Some(record))
        });
        Ok(Self {
            lowered,
            observed,
            drift,
        })
    }

    /// Why an object or something below it is not as it was applied.
    pub(super) fn fault(&self, address: &Address) -> Option<String> {
        self.drift
            .iter()
            .find(|change| address.contains(&change.address))
            .map(|change| change.reason.clone())
    }

    /// Objects with a fault.
    pub(super) fn drifted(&self) -> BTreeSet<Address> {
        let drift = self.drift.iter();
        drift.map(|change| change.address.object()).collect()
    }
}
