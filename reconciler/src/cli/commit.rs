//! Commits that wait for a confirmation, as commands meet them.

use std::time::Duration;

use topology_schema::{Name, ValidTopology};

use super::{
    CommandResult, ExitCode, Failure, guardian,
    host::{HostArgs, LockArgs},
    output, report, signals,
};
use crate::{
    checks::Back,
    commit::{self, Begun, PendingCommit, Resolved},
    execute::Outcome,
    journal::{self, Journal, Operation},
    kernel::{Kernel, linux::netns},
    plan::Op,
    reconcile::{Plan, Report},
};

/// Takes back what nobody confirmed in time, before anything else is done. What still waits comes back.
pub(super) fn settle(
    kernel: &mut dyn Kernel,
    journal: &Journal,
) -> Result<Option<Box<PendingCommit>>, Failure> {
    match commit::resolve_expired(kernel, journal, |_, _| {})? {
        Resolved::Nothing => Ok(None),
        Resolved::Waiting(pending) => Ok(Some(pending)),
        Resolved::WentBack(plan, report) => {
            let name = &plan.topology;
            output::note(&format!(
                "The commit of {name} was not confirmed in time and is taken back first."
            ));
            report::conclude(&plan, Ok(report), "Taken back")?;
            Ok(None)
        }
    }
}

/// Why something cannot be done while a commit waits.
pub(super) fn refuse(kernel: &mut dyn Kernel, pending: &PendingCommit) -> Failure {
    let name = kernel.topology();
    let message = format!(
        "{}; `pcn confirm {name}` keeps it, `pcn rollback {name}` takes it back, \
         `pcn apply --confirm-timeout` changes it and gives more time",
        pending.describe(kernel.boot_time())
    );
    Failure::new(ExitCode::Error, message)
}

/// Refuses while there is time to confirm: what was promised to come back must not be lost on the way.
pub(super) fn check_none_waits(kernel: &mut dyn Kernel) -> Result<(), Failure> {
    match commit::pending(kernel)? {
        Some(pending) if pending.remaining(kernel.boot_time()).is_some() => {
            Err(refuse(kernel, &pending))
        }
        _ => Ok(()),
    }
}

/// Says on stderr that a commit waits.
pub(super) fn mention(kernel: &mut dyn Kernel) -> Result<(), Failure> {
    if let Some(pending) = commit::pending(kernel)? {
        let text = pending.describe(kernel.boot_time());
        output::note(&format!("Topology {}: {text}.", kernel.topology()));
    }
    Ok(())
}

/// Topologies with a commit that waits.
fn waiting(host: &HostArgs) -> Result<Vec<Name>, Failure> {
    let mut names = Vec::new();
    for name in host.topologies()? {
        if commit::pending(&mut host.open(&name)?)?.is_some() {
            names.push(name);
        }
    }
    Ok(names)
}

/// The topology that is meant: the one that is named, or the only one with a commit that waits.
pub(super) fn choose(host: &HostArgs, name: Option<&Name>, command: &str) -> Result<Name, Failure> {
    if let Some(name) = name {
        return match host.topologies()?.contains(name) {
            true => Ok(name.clone()),
            false => Err(host.not_applied(name)?),
        };
    }
    match waiting(host)?.as_slice() {
        [] => Err(nothing_waits(None)),
        [only] => Ok(only.clone()),
        several => {
            let names: Vec<&str> = several.iter().map(Name::as_str).collect();
            let message = format!(
                "several topologies wait for a confirmation: {}; say which: `pcn {command} NAME`",
                names.join(", ")
            );
            Err(Failure::new(ExitCode::Usage, message))
        }
    }
}

/// There is no commit to confirm or to take back.
pub(super) fn nothing_waits(name: Option<&Name>) -> Failure {
    let message = match name {
        Some(name) => format!("topology {name}: nothing waits for a confirmation"),
        None => "nothing waits for a confirmation".to_owned(),
    };
    Failure::new(ExitCode::Error, message)
}

/// Refuses what could not be taken back: processes of a namespace that goes would stay in the old one, cut off, when
/// one of that name comes back.
pub(super) fn check_way_back(plan: &Plan) -> Result<(), Failure> {
    for step in &plan.steps {
        let Op::DeleteNamespace(name) = &step.op else {
            continue;
        };
        let processes = netns::processes(name.as_str());
        if !processes.is_empty() {
            let processes: Vec<String> = processes.iter().map(ToString::to_string).collect();
            let message = format!(
                "namespace/{name}: this cannot be taken back, so --confirm-timeout refuses it: the namespace would go, \
                 and its processes ({}) would not be in the one that comes back; \
                 end them first, or apply without --confirm-timeout",
                processes.join(", ")
            );
            return Err(Failure::new(ExitCode::Error, message));
        }
    }
    Ok(())
}

/// Runs the plan that was shown, to the topology that is wanted; it is taken back unless it is confirmed in time.
pub(super) fn execute(
    place: (&HostArgs, &LockArgs),
    kernel: &mut dyn Kernel,
    (wanted, shown): (&ValidTopology, &Plan),
    timeout: Duration,
    mut operation: Operation,
) -> CommandResult {
    let interrupt = signals::interrupt_without_hangup();
    let begun = match commit::begin(kernel, timeout, &journal::who().to_string()) {
        Ok(begun) => begun,
        Err(error) => return Err(operation.failed(error.into())),
    };
    let plan = match prepare(place, kernel, (wanted, shown), &begun) {
        Ok(plan) => plan,
        Err(failure) => {
            begun.withdraw(kernel)?;
            return Err(operation.failed(failure));
        }
    };
    operation.start(&shown.changes, shown.applied());
    let report = report::run(kernel, &plan, &interrupt);
    let name = &plan.topology;
    let left = begun.pending.remaining(kernel.boot_time());
    let seconds = left.unwrap_or_default().as_secs_f64().ceil();
    let undone = matches!(
        &report,
        Ok(Report::Failed(Outcome::RolledBack { .. })
            | Report::Unhealthy {
                back: Back::Gone,
                ..
            })
    );
    let concluded = operation.ended(report::conclude(shown, report, "Applied"));
    if undone {
        begun.withdraw(kernel)?;
        return concluded;
    }
    match concluded {
        Ok(code) => {
            output::note(&format!(
                "It goes back in {seconds}s unless `pcn confirm {name}` comes before; \
                 `pcn rollback {name}` takes it back at once."
            ));
            Ok(code)
        }
        Err(failure) => {
            let message = format!(
                "{}\nIt goes back in {seconds}s (`pcn rollback {name}`: at once).",
                failure.message
            );
            Err(Failure::new(failure.code, message))
        }
    }
}

/// The guardian watches, and the plan is made again, now that the record says what waits.
fn prepare(
    place: (&HostArgs, &LockArgs),
    kernel: &mut dyn Kernel,
    (wanted, shown): (&ValidTopology, &Plan),
    begun: &Begun,
) -> Result<Plan, Failure> {
    guardian::start(place, kernel.topology(), &begun.pending.id)?;
    let plan = begun.plan(kernel, wanted)?;
    let moves = |plan: &Plan| -> Vec<_> {
        let steps = plan.steps.iter();
        steps
            .filter(|step| !matches!(step.op, Op::WriteRecord(_) | Op::MarkRecord { .. }))
            .cloned()
            .collect()
    };
    if moves(&plan) == moves(shown) {
        return Ok(plan);
    }
    Err(Failure::new(
        ExitCode::Error,
        "the kernel changed since the plan was shown; nothing was applied, apply again",
    ))
}
