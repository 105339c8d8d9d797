//! Everything that reaches the kernel, behind one trait.

pub mod fake;
pub mod fault;
pub mod linux;

use std::{sync::atomic::AtomicU64, time::Duration};

use topology_schema::{Check, Name};

use crate::{
    interrupt::Interrupt,
    observed::{Interest, Observed},
    plan::{Op, Step},
    record::Record,
    resource::{PinPath, Program},
};

/// An operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call was refused.
    #[error("{0}")]
    Call(String),
    /// The verifier refused a program.
    #[error("{message}")]
    Verifier {
        /// Which program, and the kernel's error.
        message: String,
        /// The end of the verifier's log.
        log: String,
    },
    /// Not enough privilege.
    #[error("{0}")]
    Permission(String),
    /// The kernel lacks a feature.
    #[error("{0}")]
    Unsupported(String),
    /// What runs was made by a newer `pcn`.
    #[error(
        "topology {topology} was applied by pcn {version}, whose layout (version {layout}) this pcn does not know; \
         use that version, or remove the topology with it"
    )]
    Newer {
        /// The topology.
        topology: String,
        /// The other version.
        version: String,
        /// Its layout.
        layout: u32,
    },
    /// Something in the way is not ours.
    #[error("{0}")]
    Foreign(String),
    /// Somebody asked to stop before the step.
    #[error("interrupted")]
    Interrupted,
    /// `pcn` itself is wrong.
    #[error("internal error: {0}; please report it")]
    Panic(String),
}

impl Error {
    /// What happened, with the end of the verifier's log if it is the verifier's.
    pub fn in_full(&self) -> String {
        match self {
            Self::Verifier { message, log } if !log.is_empty() => {
                format!("{message}\nthe verifier's last words:\n{}", indent(log))
            }
            other => other.to_string(),
        }
    }
}

/// Each line two columns further in.
pub(crate) fn indent(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

/// Result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A key and its values.
pub type Entry = (Vec<u8>, Vec<Vec<u8>>);

/// The kernel, as the reconciler needs it. One topology at a time.
pub trait Kernel {
    /// Which topology this is about.
    fn topology(&self) -> &Name;

    /// What was applied last.
    fn record(&mut self) -> Result<Option<Record>>;

    /// Reads everything that is the topology's, and the host's interfaces.
    fn observe(&mut self, interest: &Interest) -> Result<Observed>;

    /// All entries of a map: for those that are per CPU, the values of all CPUs.
    fn read(&mut self, map: &PinPath) -> Result<Vec<Entry>>;

    /// How many entries a map has.
    fn count(&mut self, map: &PinPath) -> Result<u64> {
        Ok(self.read(map)?.len() as u64)
    }

    /// What a map shares with user space, as words. Nothing, if it is of another kind.
    fn memory(&mut self, _map: &PinPath) -> Result<Box<dyn AsRef<[AtomicU64]>>> {
        Ok(Box::new(Vec::new()))
    }

    /// Nanoseconds of the data planes' clock, `CLOCK_MONOTONIC_COARSE`.
    fn now(&self) -> u64;

    /// Time since the machine was started, suspended or not (`CLOCK_BOOTTIME`).
    fn boot_time(&self) -> Duration;

    /// Tries checks of the applied topology, all at once, each until it succeeds or its time is over. For each, why it
    /// failed.
    fn check(
        &mut self,
        checks: &[Check],
        interrupt: &Interrupt,
    ) -> Vec<std::result::Result<(), String>>;

    /// Sends a frame out of a standard cube's port, through all that filters what leaves there.
    fn send(&mut self, _cube: &Name, _port: u32, _frame: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Runs a program that is pinned nowhere, `times` times on one frame, which each run finds as the one before left it.
    fn run(&mut self, _program: &Program, _frame: &[u8], _times: u32) -> Result<()> {
        Ok(())
    }

    /// Lets routers take the routes that are in the kernel's tables now (`routesFrom`). Says what
    /// cannot be used; nothing that was applied depends on it.
    fn take_routes(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Hears which steps come next, so that what nobody sees until its step is done can be made beforehand and beside one
    /// another. With no steps, what was made and not used is let go. Nothing depends on it: each step is still asked for
    /// with [`apply`](Self::apply), and fails there if it fails.
    fn prepare(&mut self, _steps: &[Step]) {}

    /// Hears which steps will come as far as that can be known before the kernel was read, while the plan is made. What
    /// comes with them otherwise is as if this had never been called.
    fn foresee(&mut self, _steps: &[Step]) {}

    /// Does one thing.
    fn apply(&mut self, op: &Op) -> Result<()>;
}
