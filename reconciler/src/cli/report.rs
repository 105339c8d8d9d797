//! What came of a plan: one report decides the text and the exit code.

use super::{
    CommandResult, ExitCode, Failure, output, render,
    steps::{self, Progress},
};
use crate::{
    checks::{Back, FailedCheck},
    execute::Outcome,
    interrupt::Interrupt,
    journal::{Conclusion, Operation},
    kernel::{self, Kernel},
    plan::Step,
    reconcile::{self, Plan, Report},
};

impl Operation {
    /// It failed before anything was changed.
    pub(super) fn failed(self, failure: Failure) -> Failure {
        self.finish(Conclusion::Failed, &failure.message);
        failure
    }

    /// It ended with this.
    pub(super) fn ended(self, result: CommandResult) -> CommandResult {
        let (code, message) = match &result {
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
        self.finish(conclusion, message);
        result
    }
}

/// Runs a plan with progress on stderr, and says what came of it.
pub(super) fn execute(
    kernel: &mut dyn Kernel,
    plan: &Plan,
    interrupt: &Interrupt,
    done: &str,
    mut operation: Operation,
) -> CommandResult {
    // Programs are loaded while the history is written.
    kernel.prepare(&plan.steps);
    operation.start(&plan.changes, plan.applied());
    let report = run(kernel, plan, interrupt);
    operation.ended(conclude(plan, report, done))
}

/// Runs a plan with progress on stderr.
pub(super) fn run(
    kernel: &mut dyn Kernel,
    plan: &Plan,
    interrupt: &Interrupt,
) -> kernel::Result<Report> {
    with_progress(plan.steps.len(), |progress| {
        reconcile::apply(kernel, plan, interrupt, progress)
    })
}

/// Shows the progress of what `work` does, in `total` steps.
pub(super) fn with_progress(
    total: usize,
    work: impl FnOnce(&mut dyn FnMut(usize, &Step)) -> kernel::Result<Report>,
) -> kernel::Result<Report> {
    let mut progress = Progress::new(total);
    let report = work(&mut |number, step| progress.starts(number, step));
    match &report {
        Ok(Report::Failed(_)) | Err(_) => progress.failed(),
        Ok(Report::Applied { .. } | Report::NotVerified { .. } | Report::Unhealthy { .. }) => {
            progress.done();
        }
    }
    report
}

/// What a report means to people and scripts; `done` is the word for a success.
pub(super) fn conclude(plan: &Plan, report: kernel::Result<Report>, done: &str) -> CommandResult {
    let name = &plan.topology;
    match report {
        Ok(Report::Applied { left }) => {
            for error in &left {
                let help = "traffic is right; the next apply tries again";
                output::note(&format!(
                    "warning: clean-up failed ({help}): {}",
                    error.in_full()
                ));
            }
            output::inform(&format!("{done} {name}: {}.", summary(plan)));
            Ok(ExitCode::Done)
        }
        Ok(Report::NotVerified { remaining }) => {
            let remaining = format!(
                "{}{}{}",
                render::changes_text(&remaining.changes),
                render::drift_text(&remaining.drift),
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
        Ok(Report::Unhealthy { failures, back }) => Err(unhealthy(&failures, back)),
        Ok(Report::Failed(outcome)) => Err(failed(outcome)),
        Err(error) => {
            let message = format!(
                "every step was done, but the kernel cannot be read again: {}",
                error.in_full()
            );
            Err(Failure::new(ExitCode::NotVerified, message))
        }
    }
}

fn unhealthy(failures: &[FailedCheck], back: Back) -> Failure {
    let failures: String = failures
        .iter()
        .map(|failure| format!("{failure}\n"))
        .collect();
    let (code, what) = match back {
        Back::Gone => (
            ExitCode::RolledBack,
            "Everything is back as it was.".to_owned(),
        ),
        Back::Nowhere => (
            ExitCode::NotVerified,
            "It stays: the same topology was applied before, so there is nothing to go back to."
                .to_owned(),
        ),
        Back::Invalid => (
            ExitCode::NotVerified,
            "It stays: what was applied before is not valid for this version of pcn.".to_owned(),
        ),
        Back::Failed(report) => {
            let why = match *report {
                Report::Failed(outcome) => failed(outcome).message,
                _ => "the kernel shows something else afterwards; see `pcn plan`".to_owned(),
            };
            (
                ExitCode::Stuck,
                format!("It could not be taken back: {why}"),
            )
        }
    };
    Failure::new(code, format!("{failures}{what}"))
}

fn failed(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Done { .. } => Failure::silent(ExitCode::Done),
        Outcome::RolledBack {
            step,
            error: kernel::Error::Interrupted,
        } => Failure::new(
            ExitCode::RolledBack,
            format!(
                "interrupted before: {}: {}\nEverything is back as it was.",
                step.address,
                steps::describe(&step.op)
            ),
        ),
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
                .map(|error| kernel::indent(&error.in_full()))
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
        error.in_full()
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
        kernel::Error::Call(_)
        | kernel::Error::Newer { .. }
        | kernel::Error::Foreign(_)
        | kernel::Error::Interrupted
        | kernel::Error::Panic(_) => "",
    }
}

fn summary(plan: &Plan) -> String {
    let all = plan.changes.changes.len() + plan.changes.drift(true).count();
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
        journal::{Command, Journal},
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
        fn boot_time(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
        fn check(
            &mut self,
            checks: &[topology_schema::Check],
            interrupt: &Interrupt,
        ) -> Vec<Result<(), String>> {
            self.kernel.check(checks, interrupt)
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
        execute(
            &mut kernel,
            &plan,
            &Interrupt::default(),
            "Applied",
            operation,
        )
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
