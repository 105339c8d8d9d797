//! What was done and what happened, for people.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{changes_text, drift_text, pending_text, table::Table};
use crate::{
    change::Change,
    cli::output::{paint, style},
    desired::Pending,
    journal::{Event, Transaction},
};

/// A line per transaction.
pub fn table(transactions: &[Transaction]) -> String {
    let mut table = Table::new(&[
        "topology", "number", "time", "command", "result", "changes", "who", "source",
    ]);
    for transaction in transactions {
        table.row([
            transaction.topology.to_string(),
            transaction.number.to_string(),
            transaction.time.clone(),
            transaction.command.name().to_owned(),
            transaction.result.name().to_owned(),
            short(transaction),
            transaction.who.to_string(),
            transaction.source.clone().unwrap_or_default(),
        ]);
    }
    table.render("")
}

/// `+2 ~1 -/+1 -3`
fn short(transaction: &Transaction) -> String {
    let summary = &transaction.summary;
    let counts = [
        ("+", summary.create),
        ("~", summary.update),
        ("-/+", summary.replace),
        ("-", summary.delete),
    ];
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    counts
        .map(|(symbol, count)| format!("{symbol}{count}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// One transaction.
pub fn text(transaction: &Transaction) -> String {
    let Transaction {
        number, topology, ..
    } = transaction;
    let mut out = format!(
        "{}\n",
        paint(style::TITLE, &format!("Transaction {number} of {topology}"))
    );
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&format!("{name:<10} {value}\n"));
        }
    };
    field("time", &transaction.time);
    field(
        "took",
        &format!("{:.3} s", transaction.duration_ms as f64 / 1000.0),
    );
    field("command", transaction.command.name());
    field("result", transaction.result.name());
    field(
        "message",
        &transaction.message.replace('\n', "\n           "),
    );
    field("source", transaction.source.as_deref().unwrap_or_default());
    field(
        "revision",
        transaction.revision.as_deref().unwrap_or_default(),
    );
    field(
        "who",
        &format!("{} (process {})", transaction.who, transaction.process),
    );
    field("operation", &transaction.operation);
    field("pcn", &transaction.pcn_version);
    field("changes", &transaction.summary.to_string());
    out.push_str(&lists(transaction));
    out
}

/// What changed, drifted and waited. A list that this version cannot read is in the JSON only.
fn lists(transaction: &Transaction) -> String {
    let changes: Vec<Change> = serde_json::from_str(transaction.changes.get()).unwrap_or_default();
    let drift: Vec<Change> = read(&transaction.drift);
    let pending: Vec<Pending> = read(&transaction.pending);
    let mut out = changes_text(&changes);
    if !drift.is_empty() {
        out.push_str(&drift_text(&drift));
    }
    if !pending.is_empty() {
        out.push_str(&pending_text(&pending));
    }
    out
}

fn read<T: DeserializeOwned>(list: &Value) -> Vec<T> {
    Vec::deserialize(list).unwrap_or_default()
}

/// A line per event.
pub fn events(events: &[Event]) -> String {
    events.iter().map(line).collect()
}

fn line(event: &Event) -> String {
    let what = match event.command {
        Some(command) => format!("{} ({})", event.kind.name(), command.name()),
        None => event.kind.name().to_owned(),
    };
    let parts = [
        Some(paint(style::DIM, &event.time)),
        Some(event.topology.to_string()),
        Some(what),
        event.address.clone(),
        Some(event.message.clone()).filter(|message| !message.is_empty()),
        event
            .op
            .as_ref()
            .map(|op| paint(style::DIM, &format!("op={op}"))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{}\n", parts.join("  "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Command, Kind};

    #[test]
    fn events_are_lines() {
        let event = |kind, command: Option<Command>, address: Option<&str>, message: &str| Event {
            time: "2026-03-01T08:00:00.250Z".to_owned(),
            op: command.map(|_| "00c0ffee00c0ffee".to_owned()),
            kind,
            topology: "lan".parse().unwrap(),
            command,
            address: address.map(ToOwned::to_owned),
            message: message.to_owned(),
        };
        let text = events(&[
            event(Kind::Started, Some(Command::Apply), None, "1 to create"),
            event(
                Kind::DriftFound,
                Some(Command::Watch),
                Some("cube/br1"),
                "why",
            ),
            event(Kind::InterfaceAppeared, None, Some("interface/eth1"), ""),
        ]);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "2026-03-01T08:00:00.250Z  lan  started (apply)  1 to create  op=00c0ffee00c0ffee\n\
             2026-03-01T08:00:00.250Z  lan  driftFound (watch)  cube/br1  why  op=00c0ffee00c0ffee\n\
             2026-03-01T08:00:00.250Z  lan  interfaceAppeared  interface/eth1\n"
        );
    }
}
