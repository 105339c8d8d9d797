//! The process that goes back when nobody confirms: `apply --confirm-timeout` starts it and leaves it behind.
//!
//! It is in no session of the shell it comes from, so it lives on when that is gone. It keeps nothing in memory but
//! whom it watches for: at the deadline it does what the record says, as any other command would.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use topology_schema::Name;

use super::{
    CommandResult, ExitCode, Failure,
    host::{HostArgs, LockArgs},
    output,
};
use crate::{
    commit::{self, PendingCommit, Resolved},
    kernel::Kernel,
    reconcile::Report,
};

/// What the guardian says once nothing can take it along any more.
const READY: &str = "ready";
/// Between two looks at the record: the clock runs on while the machine is suspended, sleep does not.
const PERIOD: Duration = Duration::from_millis(500);
/// The longest time between two tries to go back.
const SLOWEST: Duration = Duration::from_secs(30);
/// Failures in a row after which it gives up; the next command still goes back then.
const TRIES: u32 = 100;

/// Wait until a commit is confirmed or its time is over
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Name of the topology
    name: Name,
    /// The commit
    id: String,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Starts a guardian, and returns when it is on its own.
pub(super) fn start(
    (host, lock): (&HostArgs, &LockArgs),
    name: &Name,
    id: &str,
) -> Result<(), Failure> {
    let failed = |why: String| {
        let message = format!("start the process that goes back: {why}; nothing was applied");
        Failure::new(ExitCode::Error, message)
    };
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new(program)
        .args(["guardian", name.as_str(), id])
        .arg("--bpffs")
        .arg(&host.bpffs)
        .arg("--state")
        .arg(lock.history.state.directory())
        .args(["--history", &lock.history.keep.to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let mut line = String::new();
    let read = child
        .stdout
        .take()
        .map(|stdout| BufReader::new(stdout).read_line(&mut line));
    match read {
        Some(Ok(_)) if line.trim() == READY => Ok(()),
        _ => Err(failed("it does not start".to_owned())),
    }
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        nix::unistd::setsid().map_err(|errno| {
            Failure::new(ExitCode::Error, format!("leave the session: {errno}"))
        })?;
        output::print(&format!("{READY}\n"))?;
        let mut failures = 0;
        while failures < TRIES {
            match self.look() {
                Ok(Some(pause)) => {
                    failures = 0;
                    thread::sleep(pause);
                }
                Ok(None) => return Ok(ExitCode::Done),
                Err(failure) => {
                    failures += 1;
                    tracing::warn!(%failure, failures, "the commit cannot be taken back yet");
                    thread::sleep((PERIOD * failures).min(SLOWEST));
                }
            }
        }
        Err(Failure::silent(ExitCode::Error))
    }

    /// How long to wait before the next look; `None` once there is nothing left to watch.
    fn look(&self) -> Result<Option<Duration>, Failure> {
        let mut kernel = self.host.open(&self.name)?;
        let Some(pending) = self.mine(&mut kernel)? else {
            return Ok(None);
        };
        if let Some(left) = pending.remaining(kernel.boot_time()) {
            return Ok(Some(left.min(PERIOD)));
        }
        let _lock = self.host.lock(&self.name, &self.lock)?;
        let journal = self.host.journal(&self.lock.history);
        // Somebody may have confirmed while it waited for the lock.
        if self.mine(&mut kernel)?.is_none() {
            return Ok(None);
        }
        match commit::resolve_expired(&mut kernel, &journal, |_, _| {})? {
            Resolved::Nothing => Ok(None),
            Resolved::Waiting(_) => Ok(Some(PERIOD)),
            Resolved::WentBack(
                _,
                Report::Applied { .. } | Report::NotVerified { .. } | Report::Unhealthy { .. },
            ) => Ok(None),
            Resolved::WentBack(_, Report::Failed(outcome)) => {
                Err(Failure::new(ExitCode::RolledBack, format!("{outcome:?}")))
            }
        }
    }

    fn mine(&self, kernel: &mut dyn Kernel) -> Result<Option<Box<PendingCommit>>, Failure> {
        Ok(commit::pending(kernel)?.filter(|pending| pending.id == self.id))
    }
}
