//! `pcn apply`

use clap::{ArgAction, builder::BoolishValueParser};

use super::{
    CommandResult, ExitCode, Failure, exit,
    files::{self, FileArgs, Input},
    host::{self, HostArgs, LockArgs},
    output, plan, render,
    steps::{self, Progress},
};
use crate::{
    execute::Outcome,
    journal::{Command, Conclusion, Operation},
    kernel::{self, Kernel},
    plan::Step,
    reconcile::{self, Plan, Report},
};

/// Plan, show, ask, execute, and read the kernel again; undoes what fails
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    host: HostArgs,
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

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        self.confirm.check("apply")?;
        let inputs = files::read(&self.files.files)?;
        for input in &inputs {
            let title = if inputs.len() > 1 {
                Some(input.name().to_string())
            } else {
                None
            };
            let code = self
                .apply(input, title.as_deref())
                .map_err(|failure| plan::about(input, failure))?;
            if code != ExitCode::Done {
                return Ok(code);
            }
        }
        Ok(ExitCode::Done)
    }

    fn apply(&self, input: &Input, title: Option<&str>) -> CommandResult {
        // What is shown is what is done: nobody else changes the topology in between.
        let _lock = self.host.lock(input.name(), &self.lock)?;
        let journal = self.host.journal(&self.lock);
        let operation = journal.begin(
            input.name(),
            Command::Apply,
            Some(&input.source.name),
            Some(input.topology.topology()),
        );
        let mut kernel = self.host.open(input.name())?;
        let plan = match reconcile::plan(&mut kernel, &input.topology) {
            Ok(plan) => plan,
            Err(error) => return Err(operation.failed(error.into())),
        };
        plan::print_text(&plan, title)?;
        if plan.is_empty() {
            return Ok(ExitCode::Done);
        }
        if let Err(failure) = host::check_features() {
            return Err(operation.failed(failure));
        }
        self.confirm
            .ask(&format!("Apply this to {}?", input.name()))?;
        execute(&mut kernel, &plan, "Applied", operation)
    }
}

impl Operation {
    /// It failed before anything was changed.
    pub(super) fn failed(self, failure: Failure) -> Failure {
        self.finish(Conclusion::Failed, &failure.message);
        failure
    }
}

/// How an operation ended that came to this exit code.
fn conclusion(result: &CommandResult) -> (Conclusion, &str) {
    let (code, message) = match result {
        Ok(code) => (*code, ""),
        Err(failure) => (failure.code, failure.message.as_str()),
    };
    let conclusion = match code {
        ExitCode::Done => Conclusion::Applied,
        ExitCode::NotVerified => Conclusion::NotVerified,
        ExitCode::RolledBack => Conclusion::RolledBack,
        ExitCode::Stuck => Conclusion::Stuck,
        _ => Conclusion::Failed,
    };
    (conclusion, message)
}

/// Runs a plan with progress on stderr, and says what came of it.
pub(super) fn execute(
    kernel: &mut dyn Kernel,
    plan: &Plan,
    done: &str,
    mut operation: Operation,
) -> CommandResult {
    let before = kernel.record()?.map(|record| record.topology);
    operation.start(&plan.changes, before.as_ref());
    let mut progress = Progress::new(plan.steps.len());
    let report = reconcile::apply(kernel, plan, |number, step| progress.starts(number, step));
    match &report {
        Ok(Report::Failed(_)) | Err(_) => progress.failed(),
        Ok(Report::Applied { .. } | Report::NotVerified { .. }) => progress.done(),
    }
    let result = conclude(plan, report, done);
    let (conclusion, message) = conclusion(&result);
    operation.finish(conclusion, message);
    result
}

fn conclude(plan: &Plan, report: kernel::Result<Report>, done: &str) -> CommandResult {
    let name = &plan.topology;
    match report {
        Ok(Report::Applied { left }) => {
            for error in &left {
                let help = "traffic is right; the next apply tries again";
                output::note(&format!(
                    "warning: clean-up failed ({help}): {}",
                    exit::explain(error)
                ));
            }
            output::inform(&format!("{done} {name}: {}.", summary(plan)));
            Ok(ExitCode::Done)
        }
        Ok(Report::NotVerified { remaining }) => {
            let remaining = format!(
                "{}{}{}",
                render::changes_text(&remaining.changes),
                render::changes_text(&remaining.drift),
                if remaining.pending.is_empty() {
                    String::new()
                } else {
                    render::pending_text(&remaining.pending)
                }
            );
            Err(Failure::new(
                ExitCode::NotVerified,
                format!(
                    "every step was done, but the kernel shows something else:\n{remaining}\
                     something else changes the same objects; see `pcn plan`, then apply again"
                ),
            ))
        }
        Ok(Report::Failed(outcome)) => Err(failed(outcome)),
        Err(error) => {
            let message = format!(
                "every step was done, but the kernel cannot be read again: {}",
                exit::explain(&error)
            );
            Err(Failure::new(ExitCode::NotVerified, message))
        }
    }
}

fn failed(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Done { .. } => Failure::silent(ExitCode::Done),
        Outcome::RolledBack { step, error } => Failure::new(
            ExitCode::RolledBack,
            format!(
                "{}\nEverything is back as it was.{}",
                what(&step, &error),
                help(&error)
            ),
        ),
        Outcome::Stuck { step, error, undo } => {
            let undo: Vec<String> = undo
                .iter()
                .map(|error| exit::indent(&exit::explain(error)))
                .collect();
            Failure::new(
                ExitCode::Stuck,
                format!(
                    "{}\nNot everything could be taken back:\n{}\n\
                     `pcn plan` shows where the kernel differs now; `pcn apply` tries again from there.",
                    what(&step, &error),
                    undo.join("\n")
                ),
            )
        }
    }
}

fn what(step: &Step, error: &kernel::Error) -> String {
    format!(
        "{}: {}: {}",
        step.address,
        steps::describe(&step.op),
        exit::explain(error)
    )
}

fn help(error: &kernel::Error) -> &'static str {
    match error {
        kernel::Error::Verifier { .. } => {
            " The kernel refused a program of pcn: please report it, with `pcn doctor`."
        }
        kernel::Error::Permission(_) | kernel::Error::Unsupported(_) => {
            " `pcn doctor` says what is missing."
        }
        kernel::Error::Call(_) | kernel::Error::Newer { .. } | kernel::Error::Foreign(_) => "",
    }
}

fn summary(plan: &Plan) -> String {
    let all = plan.changes.changes.len() + plan.changes.drift.len();
    let pending = match plan.changes.pending.len() {
        0 => String::new(),
        count => format!(", {count} pending"),
    };
    let word = if all == 1 { "change" } else { "changes" };
    format!("{all} {word}{pending}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use topology_schema::{Name, Source, ValidTopology, load};

    use super::*;
    use crate::{
        journal::Journal,
        kernel::{Entry, Error, fake::FakeKernel},
        observed::{Interest, Observed},
        plan::Op,
        record::Record,
        resource::PinPath,
    };

    /// A kernel that refuses operations, or says it did them and did not.
    struct Broken {
        kernel: FakeKernel,
        works: usize,
        lies: bool,
        refuses: std::ops::Range<usize>,
        count: usize,
    }

    impl Kernel for Broken {
        fn topology(&self) -> &Name {
            self.kernel.topology()
        }
        fn record(&mut self) -> kernel::Result<Option<Record>> {
            self.kernel.record()
        }
        fn observe(&mut self, interest: &Interest) -> kernel::Result<Observed> {
            self.kernel.observe(interest)
        }
        fn read(&mut self, map: &PinPath) -> kernel::Result<Vec<Entry>> {
            self.kernel.read(map)
        }
        fn now(&self) -> u64 {
            0
        }
        fn apply(&mut self, op: &Op) -> kernel::Result<()> {
            let number = self.count;
            self.count += 1;
            if self.refuses.contains(&number) {
                let log = "R1 invalid mem access".to_owned();
                return Err(Error::Verifier {
                    message: "program br1: Permission denied".to_owned(),
                    log,
                });
            }
            if self.lies && number >= self.works {
                Ok(())
            } else {
                self.kernel.apply(op)
            }
        }
    }

    fn apply(lies: bool, refuses: std::ops::Range<usize>) -> CommandResult {
        let text = "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: { name: a }\n\
                    spec: { cubes: { br1: { bridge: {} } }, links: [[br1:p, eth0]] }\n";
        let source = Source {
            name: "a.yaml".to_owned(),
            text: text.to_owned(),
        };
        let wanted: ValidTopology = load(&source).unwrap().0;
        let kernel = FakeKernel::new("a".parse().unwrap(), ["eth0".parse().unwrap()]);
        let mut kernel = Broken {
            kernel,
            works: 3,
            lies,
            refuses,
            count: 0,
        };
        let plan = reconcile::plan(&mut kernel, &wanted).unwrap();
        // Nothing can be written below a file, and nothing fails for it.
        let nowhere = Path::new("/dev/null/pcn");
        let journal = Journal::new(nowhere, nowhere, 10, |_| {}).with_events_in(nowhere, nowhere);
        let name = "a".parse().unwrap();
        let operation = journal.begin(&name, Command::Apply, None, plan.wanted());
        execute(&mut kernel, &plan, "Applied", operation)
    }

    #[test]
    fn the_report_decides_the_exit_code() {
        assert_eq!(apply(false, 0..0), Ok(ExitCode::Done));

        let failure = apply(true, 0..0).unwrap_err();
        assert_eq!(failure.code, ExitCode::NotVerified);
        assert!(failure.message.contains("cube/br1"), "{failure}");

        let failure = apply(false, 4..5).unwrap_err();
        assert_eq!(failure.code, ExitCode::RolledBack);
        assert!(failure.message.starts_with("cube/br1: "), "{failure}");
        assert!(
            failure.message.contains("  R1 invalid mem access"),
            "{failure}"
        );
        assert!(
            failure.message.contains("Everything is back as it was."),
            "{failure}"
        );

        let failure = apply(false, 4..100).unwrap_err();
        assert_eq!(failure.code, ExitCode::Stuck);
        assert!(
            failure
                .message
                .contains("Not everything could be taken back"),
            "{failure}"
        );
    }
}
