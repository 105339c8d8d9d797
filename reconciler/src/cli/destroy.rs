//! `pcn destroy`

use std::path::PathBuf;

use topology_schema::Name;

use super::{
    CommandResult, ExitCode, Failure,
    apply::ConfirmArgs,
    commit, files,
    host::{HostArgs, LockArgs},
    output, plan, report, signals,
};
use crate::{journal::Command, kernel::Kernel, observed::Interest, reconcile};

/// Remove everything of a topology and nothing else
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Name of the topology
    #[arg(value_name = "NAME", required_unless_present = "files")]
    pub(super) name: Option<Name>,
    /// Take the names from these files or directories, or `-` for stdin; repeats
    #[arg(short = 'f', long = "file", value_name = "FILE", env = "PCN_FILE")]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    host: HostArgs,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        self.confirm.check("destroy")?;
        let names = match &self.name {
            Some(name) => vec![name.clone()],
            None => files::read(&self.files)?
                .iter()
                .map(|input| input.name().clone())
                .collect(),
        };
        for name in &names {
            let code = self.destroy(name).map_err(|failure| {
                Failure::new(
                    failure.code,
                    format!("topology {name}: {}", failure.message),
                )
            })?;
            if code != ExitCode::Done {
                return Ok(code);
            }
        }
        Ok(ExitCode::Done)
    }

    fn destroy(&self, name: &Name) -> CommandResult {
        let _lock = self.host.lock(name, &self.lock)?;
        let journal = self.host.journal(&self.lock.history);
        let operation = journal.begin(name, Command::Destroy, None, None);
        let mut kernel = self.host.open(name)?;
        if kernel.observe(&Interest::default())?.is_empty() {
            output::print(&format!(
                "Topology {name} is not applied: nothing to destroy.\n"
            ))?;
            return Ok(ExitCode::Done);
        }
        commit::check_none_waits(&mut kernel)?;
        let plan = match reconcile::plan_removal(&mut kernel) {
            Ok(plan) => plan,
            Err(error) => return Err(operation.failed(error.into())),
        };
        plan::print_text(&plan, None)?;
        self.confirm.ask(&format!("Destroy {name}?"))?;
        let interrupt = signals::interrupt();
        report::execute(&mut kernel, &plan, &interrupt, "Destroyed", operation)
    }
}
