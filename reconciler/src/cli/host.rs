//! The kernel, as commands get at it: with privilege, with what they need, under the lock.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use topology_schema::Name;

use super::{
    exit::{ExitCode, Failure},
    output,
};
use crate::{
    journal::{self, Conclusion, History, Journal, Transaction},
    kernel::{
        self,
        linux::{
            LinuxKernel,
            lock::{Lock, LockError},
            privilege,
            probe::{self, Absence},
        },
    },
};

/// Where the kernel's objects are.
#[derive(Args, Clone, Debug)]
pub(super) struct HostArgs {
    /// Directory in bpffs that holds what runs
    #[arg(long, value_name = "DIR", env = "PCN_BPFFS", default_value = kernel::linux::pins::DEFAULT_ROOT)]
    pub(super) bpffs: PathBuf,
}

/// Where the history is.
#[derive(Args, Clone, Debug)]
pub(super) struct StateArgs {
    /// Directory of the history, which is for people only: nothing is decided by it
    #[arg(long, value_name = "DIR", env = "PCN_STATE", default_value = journal::DEFAULT_STATE)]
    pub(super) state: PathBuf,
}

/// What every command takes that changes a topology: how long to wait for the lock, how much to
/// remember.
#[derive(Args, Clone, Debug)]
pub(super) struct LockArgs {
    /// How long to wait while another pcn changes the topology: 30s, 5m, or 0 not to wait
    #[arg(long, value_name = "DURATION", env = "PCN_LOCK_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub(super) lock_timeout: Duration,
    #[command(flatten)]
    pub(super) history: HistoryArgs,
}

/// How much to remember, and where.
#[derive(Args, Clone, Debug)]
pub(super) struct HistoryArgs {
    /// Transactions that the history keeps for each topology; 0 keeps none
    #[arg(
        id = "history",
        long = "history",
        value_name = "N",
        env = "PCN_HISTORY",
        default_value_t = 100
    )]
    pub(super) keep: usize,
    #[command(flatten)]
    pub(super) state: StateArgs,
}

impl StateArgs {
    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.state
    }

    /// The history of what is pinned there.
    pub(super) fn history(&self, host: &HostArgs) -> History {
        // Reading removes nothing, so how much to keep does not matter.
        History::new(&self.state, &host.bpffs, usize::MAX)
    }
}

impl HostArgs {
    /// The kernel for a topology; refused at once if it cannot work.
    pub(super) fn open(&self, topology: &Name) -> Result<LinuxKernel, Failure> {
        self.check_access(topology)?;
        check_release()?;
        Ok(LinuxKernel::new(topology.clone(), &self.bpffs)?)
    }

    /// Refused at once if it cannot work.
    pub(super) fn check(&self) -> Result<(), Failure> {
        check_privilege()?;
        check_release()
    }

    /// What cannot be read must not look as if it were not there.
    fn check_access(&self, topology: &Name) -> Result<(), Failure> {
        check_privilege()?;
        for directory in [self.bpffs.clone(), self.bpffs.join(topology.as_str())] {
            match fs::read_dir(&directory) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    let owner = fs::symlink_metadata(&directory).map(|found| found.uid());
                    let owner = owner.map_or_else(
                        |_| String::new(),
                        |uid| format!(" (it belongs to user {uid})"),
                    );
                    let message =
                        format!("{}: {error}{owner}; run pcn as root", directory.display());
                    return Err(Failure::new(ExitCode::NotPermitted, message));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Topologies that run here.
    pub(super) fn topologies(&self) -> Result<Vec<Name>, Failure> {
        check_privilege()?;
        Ok(kernel::linux::topologies(&self.bpffs)?)
    }

    /// The right to change a topology.
    pub(super) fn lock(&self, topology: &Name, wait: &LockArgs) -> Result<Lock, Failure> {
        check_privilege()?;
        check_release()?;
        Lock::acquire(&self.bpffs, topology, wait.lock_timeout).map_err(|error| match error {
            LockError::Busy { .. } => {
                let seconds = wait.lock_timeout.as_secs_f64();
                let waited = if seconds > 0.0 {
                    format!(" (waited {seconds}s)")
                } else {
                    String::new()
                };
                let help = "try again when it is done, or wait longer with --lock-timeout";
                Failure::new(ExitCode::Busy, format!("{error}{waited}\n{help}"))
            }
            LockError::Failed(error) => error.into(),
        })
    }

    /// Where a command that changes something says what it does.
    pub(super) fn journal(&self, history: &HistoryArgs) -> Journal {
        Journal::new(
            &history.state.state,
            &self.bpffs,
            history.keep,
            output::note,
        )
    }

    /// A message for a topology that does not run.
    pub(super) fn not_applied(&self, name: &Name) -> Result<Failure, Failure> {
        let others: Vec<String> = self.topologies()?.iter().map(ToString::to_string).collect();
        let help = if others.is_empty() {
            "nothing is applied".to_owned()
        } else {
            format!("applied: {}", others.join(", "))
        };
        Ok(Failure::new(
            ExitCode::Error,
            format!("topology {name} is not applied here; {help}"),
        ))
    }
}

/// Tells transactions that run from those whose process is gone: while one runs, it holds the
/// lock, and only the newest of a topology can.
pub(super) fn see_interrupted(newest_first: &mut [Transaction], bpffs: &Path) {
    for (place, transaction) in newest_first.iter_mut().enumerate() {
        let runs = || Lock::holder(bpffs, &transaction.topology).is_some();
        if transaction.result == Conclusion::Running && (place > 0 || !runs()) {
            transaction.result = Conclusion::Interrupted;
        }
    }
}

/// History or events that cannot be read.
pub(super) fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let text = format!("read {what} in {}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Failure::new(ExitCode::NotPermitted, format!("{text}; run pcn as root"))
        }
        _ => Failure::new(ExitCode::Error, text),
    }
}

/// Refuses what cannot work for want of privilege, and gives up what is not needed. Files that
/// only root may read are read before.
fn check_privilege() -> Result<(), Failure> {
    let needs = privilege::NEEDS.iter().filter(|need| need.required);
    let missing: Vec<String> = needs
        .filter(|need| !privilege::is_permitted(need.capability))
        .map(|need| need.capability.to_string())
        .collect();
    if missing.is_empty() {
        return Ok(privilege::restrict()?);
    }
    let message = format!(
        "not permitted: {} missing; run pcn as root",
        missing.join(", ")
    );
    Err(Failure::new(ExitCode::NotPermitted, message))
}

fn check_release() -> Result<(), Failure> {
    let (major, minor) = probe::MINIMUM;
    match probe::version() {
        Some(version) if version < probe::MINIMUM => {
            let message = format!(
                "this kernel is Linux {}.{}, pcn needs {major}.{minor} (tcx links); `pcn doctor` says what is missing",
                version.0, version.1
            );
            Err(Failure::new(ExitCode::Unsupported, message))
        }
        _ => Ok(()),
    }
}

/// Checks every feature before anything is changed.
pub(super) fn check_features() -> Result<(), Failure> {
    let mut problems = Vec::new();
    let mut code = ExitCode::Error;
    for probe in probe::probes() {
        let Err(absence) = probe.result else { continue };
        if matches!(absence, Absence::Missing(_)) {
            code = ExitCode::Unsupported;
        }
        problems.push(format!("{}: {absence} (needs {})", probe.name, probe.needs));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(code, problems.join("\n")))
    }
}

/// A duration such as `30s`; `0` needs no unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| "write a duration such as 30s, 5m or 0".to_owned())?;
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "" if number == 0 => Some(1),
        "" => return Err(format!("write it with its unit: {number}s")),
        _ => None,
    };
    milliseconds
        .and_then(|unit: u64| number.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(|| "write a duration such as 30s, 5m or 0".to_owned())
}
