//! Plans for terminals.

use anstyle::Style;

use super::{ACTIONS, View, label, values};
use crate::{
    change::{Action, Change, Changes},
    cli::output::{paint, style},
    desired::Pending,
};

/// The whole plan. One line if nothing changes: what is pending is not part of it then, see
/// [`pending`].
pub fn text(view: &View<'_>) -> String {
    if view.changes.is_empty() {
        return "No changes.\n".to_owned();
    }
    let mut text = format!(
        "{}\n{}",
        paint(style::TITLE, &summary(view.changes)),
        changes(&view.changes.changes)
    );
    if !view.changes.drift.is_empty() {
        text.push_str(&drift(&view.changes.drift));
    }
    if !view.changes.pending.is_empty() {
        text.push_str(&pending(&view.changes.pending));
    }
    text
}

/// The first line: how many of each action, what is drift among them.
pub fn summary(changes: &Changes) -> String {
    let counts = ACTIONS.map(|action| format!("{} to {}", changes.count(action), label(action).1));
    let drift = match changes.drift.len() {
        0 => String::new(),
        count => format!(" ({count} of them drift)"),
    };
    format!("Plan: {}{drift}", counts.join(", "))
}

/// One line a change.
pub fn changes(changes: &[Change]) -> String {
    changes.iter().map(line).collect()
}

/// The section of drift.
pub fn drift(drift: &[Change]) -> String {
    let title = paint(
        style::TITLE,
        "Drift (the kernel differs from what was applied):",
    );
    format!("{title}\n{}", changes(drift))
}

/// The section of what waits.
pub fn pending(pending: &[Pending]) -> String {
    let title = paint(
        style::TITLE,
        "Pending (applied once what is missing is there):",
    );
    let lines: String = pending
        .iter()
        .map(|object| format!("  {}  {}\n", object.address, object.reason))
        .collect();
    format!("{title}\n{lines}")
}

fn line(change: &Change) -> String {
    let (symbol, word) = label(change.action);
    let action = paint(color(change.action), &format!("{symbol:>3} {word:<7}"));
    let values = values(change);
    let gap = if values.is_empty() { "" } else { "  " };
    let why = paint(
        style::DIM,
        &format!("({}; disruption: {})", change.reason, change.disruption),
    );
    format!("{action}  {}{gap}{values}  {why}\n", change.address)
}

fn color(action: Action) -> Style {
    match action {
        Action::Create => style::CREATE,
        Action::Update => style::UPDATE,
        Action::Replace | Action::Delete => style::DELETE,
    }
}
