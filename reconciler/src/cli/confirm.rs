//! `pcn confirm`

use topology_schema::Name;

use super::{
    CommandResult, ExitCode, Failure, commit,
    host::{HostArgs, LockArgs},
    output, report,
};
use crate::commit::{Confirmed, confirm};

/// Keep what `apply --confirm-timeout` applied
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Name of the topology; not needed if only one waits
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    host: HostArgs,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        let name = commit::choose(&self.host, self.name.as_ref(), "confirm")?;
        let _lock = self.host.lock(&name, &self.lock)?;
        let journal = self.host.journal(&self.lock.history);
        let mut kernel = self.host.open(&name)?;
        match confirm(&mut kernel, &journal, |_, _| {})? {
            Confirmed::Done => {
                output::print(&format!("Confirmed {name}.\n"))?;
                Ok(ExitCode::Done)
            }
            Confirmed::Nothing => Err(commit::nothing_waits(Some(&name))),
            Confirmed::Incomplete(left) => Err(Failure::new(
                ExitCode::Error,
                format!(
                    "topology {name}: the apply was ended before it was done, so there is nothing whole to confirm; \
                     it goes back in {}s, or at once with `pcn rollback {name}`",
                    left.as_secs_f64().ceil()
                ),
            )),
            Confirmed::TooLate(plan, report) => {
                report::conclude(&plan, Ok(report), "Taken back")?;
                Err(Failure::new(
                    ExitCode::Error,
                    format!(
                        "topology {name}: too late, the time to confirm is over; it was taken back"
                    ),
                ))
            }
        }
    }
}
