//! `pcn rollback`

use topology_schema::Name;

use super::{
    CommandResult, ExitCode, Failure, commit,
    host::{HostArgs, LockArgs},
    plan, report, signals,
};
use crate::commit as waiting;

/// Take back at once what `apply --confirm-timeout` applied
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
        let name = commit::choose(&self.host, self.name.as_ref(), "rollback")?;
        let _lock = self.host.lock(&name, &self.lock)?;
        let journal = self.host.journal(&self.lock.history);
        let mut kernel = self.host.open(&name)?;
        let Some(pending) = waiting::pending(&mut kernel)? else {
            return Err(Failure::new(
                ExitCode::Error,
                format!(
                    "topology {name}: nothing waits for a confirmation, so there is nothing to take back; \
                     `pcn history {name}` lists what was applied before, and \
                     `pcn history show {name} N -o yaml | pcn apply --yes -f -` applies it again"
                ),
            ));
        };
        let plan = waiting::plan_back(&mut kernel, &pending)?;
        plan::print_text(&plan, None)?;
        signals::ignore();
        let report = report::with_progress(plan.steps.len(), |progress| {
            waiting::go_back(&mut kernel, &plan, &journal, "asked for", progress)
        });
        report::conclude(&plan, report, "Taken back")
    }
}
