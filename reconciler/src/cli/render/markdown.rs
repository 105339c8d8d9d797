//! Plans for the comments of pull requests.

use std::fmt::Write as _;

use super::{View, label, text::summary, values};
use crate::change::Change;

/// The plan as GitHub-flavoured Markdown.
pub fn markdown(view: &View<'_>) -> String {
    let mut out = format!("### Plan for `{}`\n\n", view.topology);
    if view.changes.is_empty() {
        out.push_str("No changes.\n");
    } else {
        out.push_str(&format!(
            "{}\n",
            summary(view.changes).trim_start_matches("Plan: ")
        ));
    }
    if !view.changes.changes.is_empty() {
        table(&mut out, &view.changes.changes);
    }
    if view.changes.drift(true).next().is_some() {
        out.push_str("\n#### Drift (the kernel differs from what was applied)\n");
        table(&mut out, view.changes.drift(true));
    }
    if view.changes.drift(false).next().is_some() {
        out.push_str("\n#### Drift, not repaired (`drift: warn`)\n");
        table(&mut out, view.changes.drift(false));
    }
    if !view.changes.pending.is_empty() {
        out.push_str("\n#### Pending (applied once what is missing is there)\n\n");
        for pending in &view.changes.pending {
            out.push_str(&format!(
                "- {}: {}\n",
                code(pending.address.as_str()),
                escape(&pending.reason)
            ));
        }
    }
    warnings(&mut out, view);
    details(
        &mut out,
        view.changes.changes.iter().chain(&view.changes.drift),
    );
    out
}

fn table<'a>(out: &mut String, changes: impl IntoIterator<Item = &'a Change>) {
    out.push_str("\n| action | address | why | disruption |\n| --- | --- | --- | --- |\n");
    for change in changes {
        let (symbol, word) = label(change.action);
        let address = code(change.address.as_str());
        let (reason, disruption) = (escape(&change.reason), escape(&change.disruption));
        out.push_str(&format!(
            "| `{symbol}` {word} | {address} | {reason} | {disruption} |\n"
        ));
    }
}

fn warnings(out: &mut String, view: &View<'_>) {
    let warnings = view
        .warnings
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if warnings.is_empty() {
        return;
    }
    out.push_str("\n#### Warnings\n\n");
    for warning in warnings {
        let message = escape(warning["message"].as_str().unwrap_or_default());
        let place = format!(
            "{}:{}",
            warning["file"].as_str().unwrap_or_default(),
            warning["line"]
        );
        out.push_str(&format!("- {message} ({})\n", code(&place)));
    }
}

/// Old and new values, folded away.
fn details<'a>(out: &mut String, changes: impl Iterator<Item = &'a Change>) {
    let mut lines = String::new();
    for change in changes {
        let values = values(change);
        if !values.is_empty() {
            let (symbol, _) = label(change.action);
            lines.push_str(&format!("{symbol} {}  {values}\n", change.address));
        }
    }
    if lines.is_empty() {
        return;
    }
    // A fence longer than any in the text.
    let longest = lines
        .split(|character| character != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let written = write!(
        out,
        "\n<details><summary>Values</summary>\n\n{fence}text\n{lines}{fence}\n\n</details>\n"
    );
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

/// Text in a cell or a list.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if matches!(
            character,
            '|' | '\\' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '#' | '~'
        ) {
            escaped.push('\\');
        }
        escaped.push(if character == '\n' { ' ' } else { character });
    }
    escaped
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}
