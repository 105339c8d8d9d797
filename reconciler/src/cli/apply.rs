//! `pcn apply`

use std::{mem, path::PathBuf, time::Duration};

use clap::{ArgAction, builder::BoolishValueParser};
use topology_schema::{Name, ValidTopology};

use super::{
    CommandResult, ExitCode, Failure, commit,
    early::Early,
    files,
    host::{self, HostArgs, LockArgs},
    output, plan, report, saved, signals,
};
use crate::{
    journal::Command,
    kernel::{Kernel as _, linux::LinuxKernel},
    reconcile::{self, Plan},
    saved_plan::SavedPlan,
};

/// Plan, show, ask, execute, and read the kernel again; undoes what fails
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// A plan that `pcn plan --out` saved, instead of files: it is applied exactly, or refused with 78
    #[arg(value_name = "PLAN", required_unless_present = "files")]
    pub(super) plan: Option<PathBuf>,
    /// Topology file, directory of *.yaml and *.yml files, or `-` for stdin; repeats
    #[arg(short = 'f', long = "file", value_name = "FILE", env = "PCN_FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Go back to what runs now unless `pcn confirm` comes within this time: 60s, 5m
    #[arg(long, value_name = "DURATION", env = "PCN_CONFIRM_TIMEOUT", value_parser = confirm_timeout)]
    confirm_timeout: Option<Duration>,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Time enough to confirm.
fn confirm_timeout(text: &str) -> Result<Duration, String> {
    let timeout = host::duration(text)?;
    if timeout < Duration::from_secs(1) {
        return Err("nobody can confirm in less than 1s".to_owned());
    }
    Ok(timeout)
}

/// Whether to ask.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ConfirmArgs {
    /// Do not ask; required without a terminal
    #[arg(short, long, env = "PCN_YES", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    yes: bool,
}

impl ConfirmArgs {
    /// Refuses to go on where nobody can be asked.
    pub(super) fn check(&self, command: &str) -> Result<(), Failure> {
        if self.yes || output::can_ask() {
            return Ok(());
        }
        let message = format!(
            "there is no terminal to ask on; `pcn {command} --yes` goes ahead without asking"
        );
        Err(Failure::new(ExitCode::Usage, message))
    }

    /// Asks, unless told not to.
    pub(super) fn ask(&self, question: &str) -> Result<(), Failure> {
        if self.yes || output::confirm(question) {
            return Ok(());
        }
        Err(Failure::new(
            ExitCode::Error,
            "not confirmed; nothing was changed",
        ))
    }
}

/// What is to be applied, and how it came.
struct Target<'a> {
    wanted: &'a ValidTopology,
    /// The file it is from.
    source: String,
    /// The plan it must come to.
    saved: Option<&'a SavedPlan>,
    /// Above the plan, where there are several.
    title: Option<String>,
    /// The process ends after it.
    last: bool,
}

impl Target<'_> {
    fn name(&self) -> &Name {
        &self.wanted.metadata.name
    }
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        self.confirm.check("apply")?;
        if let Some(path) = &self.plan {
            return self.apply_saved(path);
        }
        let mut early = Early::default();
        // Of several files each has to wait for the one before, and whoever is asked may take his time.
        let begins = self.confirm.yes && self.files.len() == 1;
        let inputs = files::read_seeing(&self.files, |source| {
            if begins {
                early = Early::begin(&self.host, source);
            }
        })?;
        for (number, input) in inputs.iter().enumerate() {
            let target = Target {
                wanted: &input.topology,
                source: input.source.name.clone(),
                saved: None,
                title: (inputs.len() > 1).then(|| input.name().to_string()),
                last: number + 1 == inputs.len(),
            };
            let code = self
                .apply(&target, mem::take(&mut early))
                .map_err(|failure| plan::about(input, failure))?;
            if code != ExitCode::Done {
                return Ok(code);
            }
        }
        mem::forget(inputs);
        Ok(ExitCode::Done)
    }

    fn apply_saved(&self, path: &std::path::Path) -> CommandResult {
        let saved = saved::read(path)?;
        let target = Target {
            wanted: &saved.wanted,
            source: path.display().to_string(),
            saved: Some(&saved),
            title: None,
            last: true,
        };
        self.apply(&target, Early::default()).map_err(|failure| {
            let message = format!(
                "{}: topology {}: {}",
                path.display(),
                target.name(),
                failure.message
            );
            Failure::new(failure.code, message)
        })
    }

    fn apply(&self, target: &Target<'_>, early: Early) -> CommandResult {
        // What is shown is what is done: nobody else changes the topology in between.
        let _lock = self.host.lock(target.name(), &self.lock)?;
        let journal = self.host.journal(&self.lock.history);
        let mut kernel = match early.kernel(target.name()) {
            Some(begun) => begun,
            None => self.host.open(target.name())?,
        };
        let waiting = commit::settle(&mut kernel, &journal)?;
        if let (Some(pending), None) = (&waiting, self.confirm_timeout) {
            return Err(commit::refuse(&mut kernel, pending));
        }
        let operation = journal.begin(
            target.name(),
            Command::Apply,
            Some(&target.source),
            Some(target.wanted.shared()),
        );
        let plan = match self.plan(&mut kernel, target) {
            Ok(plan) => plan,
            Err(failure) => return Err(operation.failed(failure)),
        };
        plan::print_text(&plan, target.title.as_deref())?;
        plan::mention_unwatched(&mut kernel, target.name(), target.wanted.topology());
        if plan.is_empty() {
            // What runs stays; routes of the kernel may be other ones.
            for problem in kernel.take_routes() {
                output::note(&format!("warning: {problem}"));
            }
        }
        if plan.is_empty() && (waiting.is_none() || self.confirm_timeout.is_none()) {
            return Ok(ExitCode::Done);
        }
        if let Err(failure) = self.check(&plan) {
            return Err(operation.failed(failure));
        }
        if !plan.is_empty() {
            self.confirm
                .ask(&format!("Apply this to {}?", target.name()))?;
        }
        let result = match self.confirm_timeout {
            None => {
                let interrupt = signals::interrupt();
                report::execute(&mut kernel, &plan, &interrupt, "Applied", operation)
            }
            Some(timeout) => {
                let place = (&self.host, &self.lock);
                commit::execute(
                    place,
                    &mut kernel,
                    (target.wanted, &plan),
                    timeout,
                    operation,
                )
            }
        };
        if target.last {
            // Giving back each piece would take as long as some of the work.
            mem::forget(plan);
        }
        result
    }

    /// The plan; that which was saved, if one was.
    fn plan(&self, kernel: &mut LinuxKernel, target: &Target<'_>) -> Result<Plan, Failure> {
        // Whoever is asked may take his time.
        let plan = if self.confirm.yes {
            reconcile::plan_to_apply(kernel, target.wanted)?
        } else {
            reconcile::plan(kernel, target.wanted)?
        };
        if let Some(saved) = target.saved {
            saved::check(saved, &plan)?;
        }
        Ok(plan)
    }

    /// Refuses what cannot work before anything is changed.
    fn check(&self, plan: &Plan) -> Result<(), Failure> {
        host::check_features()?;
        match self.confirm_timeout {
            Some(_) => commit::check_way_back(plan),
            None => Ok(()),
        }
    }
}
