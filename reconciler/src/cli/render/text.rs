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
        return format!("No changes.\n{}", drift(&view.changes.drift));
    }
    let mut text = format!(
        "{}\n{}",
        paint(style::TITLE, &summary(view.changes)),
        changes(&view.changes.changes)
    );
    text.push_str(&drift(&view.changes.drift));
    if !view.changes.pending.is_empty() {
        text.push_str(&pending(&view.changes.pending));
    }
    text
}

/// The first line: how many of each action, what is drift among them.
pub fn summary(changes: &Changes) -> String {
    let counts = ACTIONS.map(|action| format!("{} to {}", changes.count(action), label(action).1));
    let drift = match changes.drift(true).count() {
        0 => String::new(),
        count => format!(" ({count} of them drift)"),
    };
    format!("Plan: {}{drift}", counts.join(", "))
}

/// One line a change.
pub fn changes<'a>(changes: impl IntoIterator<Item = &'a Change>) -> String {
    changes.into_iter().map(line).collect()
}

/// The sections of drift: what is repaired, and what stays.
pub fn drift(drift: &[Change]) -> String {
    let title = "Drift (the kernel differs from what was applied):";
    let repaired = drift.iter().filter(|change| !change.is_warning());
    let left = drift.iter().filter(|change| change.is_warning());
    section(title, repaired) + &section("Drift, not repaired (drift: warn):", left)
}

fn section<'a>(title: &str, drift: impl Iterator<Item = &'a Change>) -> String {
    match changes(drift) {
        lines if lines.is_empty() => lines,
        lines => format!("{}\n{lines}", paint(style::TITLE, title)),
    }
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
