//! `pcn plan`

use std::{mem, path::PathBuf};

use caps::Capability;
use clap::{ArgAction, ValueEnum, builder::BoolishValueParser};
use serde_json::Value;
use topology_schema::{Name, Topology};

use super::{
    CommandResult, ExitCode, Failure, commit,
    files::{self, FileArgs, Input},
    host::HostArgs,
    output,
    render::{self, View},
    saved,
};
use crate::{
    kernel::linux::{LinuxKernel, privilege},
    reconcile::{self, Plan},
    status,
};

/// Show what `apply` would do to the running kernel; changes nothing
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// Form of the result; several files give one JSON object with a list `plans`
    #[arg(short, long, value_enum, default_value_t, env = "PCN_OUTPUT")]
    output: Output,
    /// End with 2 if there are changes, or drift that is not repaired
    #[arg(long, env = "PCN_DETAILED_EXITCODE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    detailed_exitcode: bool,
    /// Save the plan of one topology to a file, for `pcn apply FILE`
    #[arg(long, value_name = "FILE", env = "PCN_OUT")]
    out: Option<PathBuf>,
    /// Load every new program into the kernel's verifier, and attach none
    #[arg(long, env = "PCN_VERIFY", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    verify: bool,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people; may change
    #[default]
    Text,
    /// For scripts; a contract
    Json,
    /// For pull requests
    Markdown,
}

/// A file and the way to it.
struct Planned {
    input: Input,
    plan: Plan,
    /// What was read with it is as large as the plan, and ends with it.
    _kernel: LinuxKernel,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        if self.out.is_some() {
            // The file may be where root needs it.
            privilege::keep(Capability::CAP_DAC_OVERRIDE);
        }
        let inputs = files::read(&self.files.files)?;
        if self.out.is_some() && inputs.len() != 1 {
            let message = "`--out` saves the plan of one topology: give one file at a time";
            return Err(Failure::new(ExitCode::Usage, message));
        }
        let mut planned = Vec::new();
        for input in inputs {
            let mut kernel = self.host.open(input.name())?;
            let plan = reconcile::plan(&mut kernel, &input.topology)
                .map_err(|error| about(&input, error.into()))?;
            if self.verify {
                verify(&mut kernel, &plan).map_err(|failure| about(&input, failure))?;
            }
            commit::mention(&mut kernel).map_err(|failure| about(&input, failure))?;
            mention_unwatched(&mut kernel, &plan.topology, input.topology.topology());
            planned.push(Planned {
                input,
                plan,
                _kernel: kernel,
            });
        }
        self.print(&planned)?;
        if let (Some(path), Some(planned)) = (&self.out, planned.first()) {
            saved::write(path, &planned.plan, render::json(&planned.view()))?;
        }
        let changes = planned.iter().any(|planned| planned.plan.differs());
        // The process ends here: giving back each piece would take as long as some of the work.
        mem::forget(planned);
        Ok(if changes && self.detailed_exitcode {
            ExitCode::Differences
        } else {
            ExitCode::Done
        })
    }

    fn print(&self, planned: &[Planned]) -> Result<(), Failure> {
        match self.output {
            Output::Text => planned.iter().try_for_each(|Planned { plan, .. }| {
                let title = if planned.len() > 1 {
                    Some(&plan.topology)
                } else {
                    None
                };
                print_text(plan, title.map(ToString::to_string).as_deref())
            }),
            Output::Json => {
                let mut plans: Vec<Value> = planned
                    .iter()
                    .map(|planned| render::json(&planned.view()))
                    .collect();
                match (plans.pop(), plans.is_empty()) {
                    (Some(only), true) => output::print_json(&only),
                    (last, _) => {
                        plans.extend(last);
                        output::print_json(&render::json_of_all(plans))
                    }
                }
            }
            Output::Markdown => {
                let texts: Vec<String> = planned
                    .iter()
                    .map(|planned| render::markdown(&planned.view()))
                    .collect();
                output::print(&texts.join("\n"))
            }
        }
    }
}

impl Planned {
    fn view(&self) -> View<'_> {
        View {
            warnings: self.input.warnings.to_json(&self.input.source.name),
            ..View::new(&self.plan)
        }
    }
}

/// Says what stands still for want of a watch.
pub(super) fn mention_unwatched(kernel: &mut LinuxKernel, name: &Name, wanted: &Topology) {
    for still in status::unwatched(kernel, wanted) {
        output::note(&format!("topology {name}: {still}; start `pcn watch`"));
    }
}

/// Prints a plan for people. Without changes what is pending goes to stderr, so that `No changes.`
/// stays all there is.
pub(super) fn print_text(plan: &Plan, title: Option<&str>) -> Result<(), Failure> {
    let title = title
        .map(|name| format!("Topology {name}:\n"))
        .unwrap_or_default();
    output::print(&format!("{title}{}", render::text(&View::new(plan))))?;
    if plan.changes.is_empty() && !plan.changes.pending.is_empty() {
        output::note_raw(&render::pending_text(&plan.changes.pending));
    }
    Ok(())
}

/// The verifier's opinion of all new programs.
fn verify(kernel: &mut LinuxKernel, plan: &Plan) -> Result<(), Failure> {
    let programs = match kernel.verify(&plan.steps)? {
        0 => "there is no new program".to_owned(),
        1 => "the verifier accepts the new program".to_owned(),
        count => format!("the verifier accepts all {count} new programs"),
    };
    output::inform(&format!("{}: {programs}", plan.topology));
    Ok(())
}

/// Says which file a failure is about.
pub(super) fn about(input: &Input, failure: Failure) -> Failure {
    Failure::new(
        failure.code,
        format!(
            "{}: topology {}: {}",
            input.source.name,
            input.name(),
            failure.message
        ),
    )
}
