//! One round for one topology: lock, compare, apply what differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use topology_schema::{Name, ValidTopology};

use super::{
    sources::Version,
    state::{Ended, Revision},
};
use crate::{
    checks::Back,
    commit::{self, Resolved},
    execute::Outcome as Executed,
    interrupt::Interrupt,
    journal::{Command, Conclusion, Journal, Operation},
    kernel::{
        self, Kernel,
        linux::{
            LinuxKernel, links,
            lock::{Lock, LockError},
            netlink::Netlink,
            netns,
        },
    },
    plan::Step,
    reconcile::{self, Plan, Report},
    record::Record,
};

/// What a round came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel is as the topology says.
    InStep {
        /// Changes made for it.
        changes: usize,
        /// What is not there yet, such as interfaces.
        pending: usize,
    },
    /// A commit waits for its confirmation: it is somebody's to confirm, and nobody else's to
    /// change.
    Waiting {
        /// The time that is left.
        left: Duration,
    },
    /// Another `pcn` changes the topology.
    Busy(String),
    /// Nothing was changed, because something is in the way.
    Failed(String),
    /// Every step was done, and the kernel shows something else.
    NotVerified(String),
    /// A step failed, and everything is as it was.
    RolledBack(String),
    /// A step failed, and not everything could be taken back.
    Stuck(String),
}

/// A round that has ended: all there is to know for logs, events and metrics.
#[derive(Clone, Debug)]
pub struct RoundReport {
    /// Which topology.
    pub topology: Name,
    /// Which revision of its file.
    pub revision: Revision,
    /// What it came to.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// The kernel's numbers of the topology's namespaces.
    pub namespaces: BTreeSet<i32>,
    /// Pins of the topology's links that are attached now.
    pub links: Vec<PathBuf>,
}

impl RoundReport {
    /// Of a round that came to no end. What it left is found by the next one.
    pub fn panicked(version: &Version) -> Self {
        Self {
            topology: version.name().clone(),
            revision: version.revision.clone(),
            outcome: Outcome::Failed("the round panicked: please report it".to_owned()),
            took: Duration::ZERO,
            namespaces: BTreeSet::new(),
            links: Vec::new(),
        }
    }
}

impl Outcome {
    /// What it means for the next round.
    pub const fn ended(&self) -> Ended {
        match self {
            Self::InStep { .. } => Ended::InStep,
            Self::Waiting { .. } => Ended::LeftAlone,
            Self::Busy(_) | Self::Failed(_) | Self::NotVerified(_) => Ended::Again,
            Self::RolledBack(_) => Ended::RolledBack,
            Self::Stuck(_) => Ended::Stuck,
        }
    }
}

/// This machine, as rounds get at it.
#[derive(Debug)]
pub struct Host {
    bpffs: PathBuf,
    journal: Journal,
    interrupt: Interrupt,
    /// What was written down of topologies that fail. Attempts go on for ever; what each of them
    /// says is worth noting once.
    failures: Mutex<BTreeMap<Name, String>>,
    /// Revisions of which a commit waited for its confirmation when it was looked at last.
    waiting: Mutex<BTreeMap<Name, Revision>>,
}

/// Why a revision is not applied that was applied before.
const UNCONFIRMED: &str = "it was not confirmed, and was taken back";

impl Host {
    /// With topologies pinned below `bpffs`.
    pub fn new(bpffs: PathBuf, journal: Journal) -> Self {
        Self {
            bpffs,
            journal,
            interrupt: Interrupt::default(),
            failures: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Where topologies are pinned.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Where rounds say what they did.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Takes back what rounds have begun, if it can be taken back.
    pub fn interrupt(&self) {
        self.interrupt.request();
    }

    /// A round on this machine.
    pub fn round(&self, version: &Version) -> RoundReport {
        let start = Instant::now();
        let outcome = self.locked(version);
        self.note_failure(version, &outcome);
        RoundReport {
            outcome,
            namespaces: namespace_ids(&version.topology),
            links: links::attached(&self.bpffs, version.name()),
            topology: version.name().clone(),
            revision: version.revision.clone(),
            took: start.elapsed(),
        }
    }

    fn locked(&self, version: &Version) -> Outcome {
        let name = version.name();
        // Waiting is the business of whoever decides when to try again.
        let _lock = match Lock::acquire(&self.bpffs, name, Duration::ZERO) {
            Ok(lock) => lock,
            Err(error @ LockError::Busy { .. }) => return Outcome::Busy(error.to_string()),
            Err(LockError::Failed(error)) => return Outcome::Failed(error.in_full()),
        };
        let mut kernel = match LinuxKernel::new(name.clone(), &self.bpffs) {
            Ok(kernel) => kernel,
            Err(error) => return Outcome::Failed(error.in_full()),
        };
        if self.was_refused(&mut kernel, version) {
            return Outcome::RolledBack(UNCONFIRMED.to_owned());
        }
        round(&mut kernel, version, &self.journal, &self.interrupt)
    }

    /// Whether a commit of this very revision waited for its confirmation, and was taken back since.
    /// To apply it again, unasked, would undo that.
    fn was_refused(&self, kernel: &mut dyn Kernel, version: &Version) -> bool {
        let Ok(record) = kernel.record() else {
            return false;
        };
        let same = is_for(record.as_ref(), version);
        let waits = record.is_some_and(|record| record.pending.is_some());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = waiting.remove(version.name());
        if waits && same {
            waiting.insert(version.name().clone(), version.revision.clone());
        }
        !waits && !same && waited.as_ref() == Some(&version.revision)
    }

    fn note_failure(&self, version: &Version, outcome: &Outcome) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Outcome::Busy(_) | Outcome::Waiting { .. } => {}
            Outcome::Failed(message) if failures.get(version.name()) == Some(message) => {}
            Outcome::Failed(message) => {
                failures.insert(version.name().clone(), message.clone());
                begin(&self.journal, version).finish(Conclusion::Failed, message);
            }
            _ => {
                failures.remove(version.name());
            }
        }
    }
}

fn begin(journal: &Journal, version: &Version) -> Operation {
    let source = version.file.display().to_string();
    let wanted = version.topology.shared();
    journal.begin(version.name(), Command::Watch, Some(&source), Some(wanted))
}

/// Whether that is what was applied last.
fn is_for(record: Option<&Record>, version: &Version) -> bool {
    record.is_some_and(|record| *record.topology == *version.topology.topology())
}

/// Compares and applies. The caller holds the topology's lock. What is changed is written to the
/// journal.
pub fn round(
    kernel: &mut dyn Kernel,
    version: &Version,
    journal: &Journal,
    interrupt: &Interrupt,
) -> Outcome {
    let same = kernel
        .record()
        .is_ok_and(|record| is_for(record.as_ref(), version));
    match commit::resolve_expired(kernel, journal, |_, _| {}) {
        Ok(Resolved::WentBack(..)) if same => return Outcome::RolledBack(UNCONFIRMED.to_owned()),
        Ok(Resolved::Nothing | Resolved::WentBack(..)) => {}
        Ok(Resolved::Waiting(pending)) => {
            let left = pending.remaining(kernel.boot_time()).unwrap_or_default();
            return Outcome::Waiting { left };
        }
        Err(error) => return Outcome::Failed(error.in_full()),
    }
    let planned =
        reconcile::plan(kernel, &version.topology).and_then(|plan| Ok((plan, kernel.record()?)));
    let (plan, before) = match planned {
        Ok(planned) => planned,
        Err(error) => return Outcome::Failed(error.in_full()),
    };
    if plan.is_empty() {
        let pending = plan.changes.pending.len();
        return Outcome::InStep {
            changes: 0,
            pending,
        };
    }
    let mut operation = begin(journal, version);
    operation.start(
        &plan.changes,
        before.as_ref().map(|record| Arc::clone(&record.topology)),
    );
    let outcome = outcome(&plan, reconcile::apply(kernel, &plan, interrupt, |_, _| {}));
    let (conclusion, message) = match &outcome {
        Outcome::InStep { .. } | Outcome::Waiting { .. } => (Conclusion::Applied, ""),
        Outcome::Busy(message) | Outcome::Failed(message) => (Conclusion::Failed, message.as_str()),
        Outcome::NotVerified(message) => (Conclusion::NotVerified, message.as_str()),
        Outcome::RolledBack(message) => (Conclusion::RolledBack, message.as_str()),
        Outcome::Stuck(message) => (Conclusion::Stuck, message.as_str()),
    };
    operation.finish(conclusion, message);
    outcome
}

fn outcome(plan: &Plan, report: kernel::Result<Report>) -> Outcome {
    let pending = plan.changes.pending.len();
    let changes = plan.changes.changes.len() + plan.changes.drift(true).count();
    match report {
        Ok(Report::Applied { left }) => {
            for error in left {
                tracing::warn!(
                    "clean-up failed, the next round tries again: {}",
                    error.in_full()
                );
            }
            Outcome::InStep { changes, pending }
        }
        Ok(Report::NotVerified { remaining }) => {
            let all = remaining.changes.iter().chain(&remaining.drift);
            let differ: Vec<String> = all.map(|change| change.address.to_string()).collect();
            Outcome::NotVerified(format!(
                "every step was done, but the kernel shows something else: {}",
                differ.join(", ")
            ))
        }
        Ok(Report::Unhealthy { failures, back }) => {
            let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
            let message = failures.join("; ");
            match back {
                Back::Gone => Outcome::RolledBack(message),
                Back::Nowhere | Back::Invalid => Outcome::NotVerified(message),
                Back::Failed(_) => Outcome::Stuck(format!("{message}; it could not be taken back")),
            }
        }
        Ok(Report::Failed(Executed::RolledBack { step, error })) => {
            Outcome::RolledBack(what(&step, &error))
        }
        Ok(Report::Failed(Executed::Stuck { step, error, undo })) => {
            let undo: Vec<String> = undo.iter().map(kernel::Error::in_full).collect();
            Outcome::Stuck(format!(
                "{}; not everything could be taken back: {}",
                what(&step, &error),
                undo.join("; ")
            ))
        }
        // `Report::Failed` never holds what is done.
        Ok(Report::Failed(Executed::Done { .. })) => Outcome::InStep { changes, pending },
        Err(error) => Outcome::NotVerified(format!(
            "every step was done, but the kernel cannot be read again: {}",
            error.in_full()
        )),
    }
}

fn what(step: &Step, error: &kernel::Error) -> String {
    format!("{}: {}", step.address, error.in_full())
}

/// Under which numbers the kernel announces what happens in a topology's namespaces. Without them
/// it is noticed at the next interval.
fn namespace_ids(wanted: &ValidTopology) -> BTreeSet<i32> {
    let names = wanted.topology().spec.namespaces.keys();
    let Ok(mut host) = Netlink::host() else {
        return BTreeSet::new();
    };
    names
        .filter_map(|name| {
            let namespace = netns::open(name.as_str()).ok()?;
            host.namespace_id(namespace.as_fd()).ok().flatten()
        })
        .collect()
}
