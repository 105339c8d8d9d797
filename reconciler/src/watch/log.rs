//! What the log says of rounds.

use std::time::Duration;

use super::round::{Outcome, RoundReport};

/// One line for each round that did something.
pub fn ended(report: &RoundReport, next: Option<Duration>) {
    let RoundReport {
        topology,
        revision,
        outcome,
        took,
        ..
    } = report;
    let milliseconds = took.as_millis();
    let again = next.map_or_else(
        || "no further attempt until the file or its interfaces change".to_owned(),
        |next| format!("next round in {:.1} s", next.as_secs_f64()),
    );
    match outcome {
        Outcome::InStep {
            changes: 0,
            pending,
        } => tracing::debug!(%topology, %revision, pending, milliseconds, "in step"),
        Outcome::InStep { changes, pending } => {
            tracing::info!(%topology, %revision, changes, pending, milliseconds, "applied");
        }
        Outcome::Waiting { left } => {
            let left = left.as_secs();
            tracing::debug!(%topology, left, "a commit waits for its confirmation: left alone");
        }
        Outcome::Busy(message) => {
            tracing::info!(%topology, %revision, milliseconds, "{message}; {again}");
        }
        Outcome::Failed(message) | Outcome::NotVerified(message) => {
            tracing::error!(%topology, %revision, milliseconds, "{message}; {again}");
        }
        Outcome::RolledBack(message) => {
            tracing::error!(%topology, %revision, milliseconds, "rolled back: {message}; {again}");
        }
        Outcome::Stuck(message) => {
            tracing::error!(%topology, %revision, milliseconds, "rollback failed: {message}; {again}");
        }
    }
}
