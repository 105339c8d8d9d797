//! The conditions of a topology, shaped as Kubernetes has them: `Ready` from the kernel,
//! `Reconciling` from the lock, `Stalled` from the history.

use std::{path::Path, time::Duration};

use topology_schema::Name;

use super::{Condition, Status};
use crate::{
    commit::PendingCommit,
    journal::{self, Conclusion, History, Transaction},
    kernel::linux::lock::{Holder, Lock},
};

/// What is known of a topology beside what runs.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Who changes it now.
    pub holder: Option<Holder>,
    /// The last attempt to change it.
    pub newest: Option<Transaction>,
    /// The last attempt that succeeded.
    pub applied: Option<Transaction>,
}

impl Context {
    /// Reads it. What cannot be read is not known.
    pub fn read(history: &History, bpffs: &Path, topology: &Name) -> Self {
        let holder = Lock::holder(bpffs, topology);
        let mut newest = None;
        for mut transaction in history.newest_first(topology) {
            // While a transaction runs, it holds the lock; only the newest can.
            let may_run = newest.is_none() && holder.is_some();
            if transaction.result == Conclusion::Running && !may_run {
                transaction.result = Conclusion::Interrupted;
            }
            let is_applied = transaction.result == Conclusion::Applied;
            let applied = is_applied.then(|| transaction.clone());
            let newest = newest.get_or_insert(transaction);
            if applied.is_some() {
                return Self {
                    holder,
                    newest: Some(newest.clone()),
                    applied,
                };
            }
        }
        Self {
            holder,
            newest,
            applied: None,
        }
    }
}

impl Status {
    /// Adds what follows from the context.
    pub fn add_context(&mut self, context: &Context) {
        // A transaction that is not about what runs says nothing about it.
        self.observed_generation = context
            .applied
            .as_ref()
            .filter(|applied| applied.revision.as_ref() == Some(&self.last_applied_revision))
            .map(|applied| applied.number);
        let newest = context.newest.as_ref();
        self.last_attempted_revision = newest.and_then(|newest| newest.revision.clone());
        self.last_attempted_result = newest.map(|newest| newest.result);
        self.conditions
            .extend([reconciling(context), stalled(context)]);
    }
}

/// Only there while a commit waits: what nobody has to confirm needs no word.
pub(super) fn confirmed(pending: &PendingCommit, now: Duration) -> Condition {
    let reason = match pending.remaining(now) {
        Some(_) => "Waiting",
        None => "Expired",
    };
    Condition {
        kind: "Confirmed",
        status: "False",
        reason,
        message: pending.describe(now),
        since: None,
    }
}

fn reconciling(context: &Context) -> Condition {
    let (status, reason, message, since) = match (&context.holder, &context.newest) {
        (Some(holder), _) => {
            let since = holder.since.map(journal::time_text);
            let text = match holder.text.as_str() {
                "" => format!("process {}", holder.process),
                text => text.to_owned(),
            };
            ("True", "Progressing", format!("{text} changes it"), since)
        }
        (None, newest) => {
            let since = newest.as_ref().and_then(Transaction::ended);
            let message = "nobody changes it now".to_owned();
            ("False", "Idle", message, since)
        }
    };
    Condition {
        kind: "Reconciling",
        status,
        reason,
        message,
        since,
    }
}

fn stalled(context: &Context) -> Condition {
    let (status, reason, message) = match &context.newest {
        None => ("Unknown", "NoHistory", "there is no history".to_owned()),
        Some(newest) => (
            if newest.result.is_failure() {
                "True"
            } else {
                "False"
            },
            reason(newest.result),
            message(newest),
        ),
    };
    let since = context.newest.as_ref().and_then(Transaction::ended);
    Condition {
        kind: "Stalled",
        status,
        reason,
        message,
        since,
    }
}

const fn reason(result: Conclusion) -> &'static str {
    match result {
        Conclusion::Running => "Progressing",
        Conclusion::Applied => "Applied",
        Conclusion::NotVerified => "NotVerified",
        Conclusion::RolledBack => "RolledBack",
        Conclusion::Stuck => "RollbackFailed",
        Conclusion::Failed => "Failed",
        Conclusion::Interrupted => "Interrupted",
    }
}

fn message(newest: &Transaction) -> String {
    let Transaction {
        number, command, ..
    } = newest;
    let what = format!("transaction {number} ({})", command.name());
    let why = newest.message.lines().next().unwrap_or_default();
    match newest.result {
        Conclusion::Running => format!("{what} runs"),
        Conclusion::Applied => format!("{what} was applied"),
        Conclusion::Interrupted => format!("{what} came to no end"),
        Conclusion::NotVerified
        | Conclusion::RolledBack
        | Conclusion::Stuck
        | Conclusion::Failed => format!("{what} failed: {why}"),
    }
}
