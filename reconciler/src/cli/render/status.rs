//! What runs, for people.

use std::collections::BTreeSet;

use serde_json::Value;
use topology_schema::Name;

use super::{pending_text, table::Table};
use crate::{
    cli::output::{paint, style},
    status::{Condition, Cube, Rate, State, Status, Traffic},
};

/// A line of the list of all topologies.
pub struct Row(Vec<String>);

impl Row {
    /// Of a topology that can be read.
    pub fn of(status: &Status) -> Self {
        let (ready, reason) = status
            .ready()
            .map_or(("Unknown", ""), |ready| (ready.status, ready.reason));
        Self(vec![
            status.name.to_string(),
            ready.to_owned(),
            reason.to_owned(),
            status.cubes.len().to_string(),
            status.applied.spec.links.len().to_string(),
            status.namespaces.len().to_string(),
            status.pending.len().to_string(),
        ])
    }

    /// Of one that cannot.
    pub fn unknown(name: &Name, condition: &Condition) -> Self {
        let mut cells = vec![
            name.to_string(),
            condition.status.to_owned(),
            condition.message.clone(),
        ];
        cells.resize(7, String::new());
        Self(cells)
    }
}

/// All topologies.
pub fn list(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "topology",
        "ready",
        "reason",
        "cubes",
        "links",
        "namespaces",
        "pending",
    ]);
    for Row(cells) in rows {
        table.row(cells.clone());
    }
    table.render("")
}

/// One topology.
pub fn text(status: &Status) -> String {
    let mut out = format!(
        "{}\n",
        paint(style::TITLE, &format!("Topology {}", status.name))
    );
    for condition in &status.conditions {
        out.push_str(&self::condition(condition));
    }
    let generation = match status.observed_generation {
        Some(number) => format!(
            " (generation {number}: `pcn history show {} {number}`)",
            status.name
        ),
        None => String::new(),
    };
    let revision = &status.last_applied_revision;
    out.push_str(&format!("Revision: {revision}{generation}\n"));
    if let (Some(attempted), Some(result)) = (
        &status.last_attempted_revision,
        status.last_attempted_result,
    ) && attempted != revision
    {
        out.push_str(&format!("Last attempt: {attempted} ({})\n", result.name()));
    }
    for (name, item) in &status.cubes {
        out.push('\n');
        cube(&mut out, name, item);
    }
    interfaces(&mut out, status);
    namespaces(&mut out, status);
    if !status.pending.is_empty() {
        out.push_str(&format!("\n{}", pending_text(&status.pending)));
    }
    out
}

fn condition(condition: &Condition) -> String {
    let Condition {
        kind,
        status,
        reason,
        message,
        since,
    } = condition;
    let since = since
        .as_ref()
        .map(|since| format!(", since {since}"))
        .unwrap_or_default();
    format!("{kind}: {status} ({reason}: {message}{since})\n")
}

fn cube(out: &mut String, name: &Name, cube: &Cube) {
    let title = paint(style::TITLE, &format!("cube/{name}"));
    out.push_str(&format!("{title}  {}  {}\n", cube.kind, state(&cube.state)));
    let rated = cube.traffics().any(|traffic| traffic.rates.is_some());
    let details: BTreeSet<&str> = cube
        .ports
        .values()
        .flat_map(|port| port.details.keys().map(String::as_str))
        .collect();
    let mut own = vec!["port", "peer", "state", "through"];
    own.extend(&details);
    let mut ports = Table::new(&columns(&own, rated));
    for (port, item) in &cube.ports {
        let mut own = vec![
            port.clone(),
            item.peer.clone().unwrap_or_default(),
            state(&item.state),
            names(&item.through),
        ];
        own.extend(
            details
                .iter()
                .map(|key| item.details.get(*key).map(in_a_line).unwrap_or_default()),
        );
        ports.row(own.into_iter().chain(numbers(&item.traffic, rated)));
    }
    let mut attachments = Table::new(&columns(&["attached to", "direction", "state"], rated));
    for (endpoint, item) in &cube.attachments {
        for (direction, traffic) in [("ingress", &item.ingress), ("egress", &item.egress)] {
            let own = [endpoint.clone(), direction.to_owned(), state(&item.state)];
            attachments.row(own.into_iter().chain(numbers(traffic, rated)));
        }
    }
    for table in [ports, attachments] {
        if !table.is_empty() {
            out.push_str(&table.render("  "));
        }
    }
    if !cube.tables.is_empty() {
        let tables = cube.tables.iter().map(|(name, table)| {
            let entries = table
                .entries
                .map_or("?".to_owned(), |count| count.to_string());
            format!("{name} {entries}/{}", table.capacity)
        });
        let tables: Vec<String> = tables.collect();
        out.push_str(&format!("  tables: {}\n", tables.join(", ")));
    }
    for (list, entries) in &cube.lists {
        entries_of(out, list, entries);
    }
}

/// A list of the kind: objects become rows, with a column for every field that any of them has.
fn entries_of(out: &mut String, list: &str, entries: &Value) {
    let Some(entries) = entries.as_array() else {
        out.push_str(&format!("  {list}: {entries}\n"));
        return;
    };
    let mut fields: Vec<&str> = Vec::new();
    for field in entries
        .iter()
        .filter_map(Value::as_object)
        .flat_map(serde_json::Map::keys)
    {
        if !fields.contains(&field.as_str()) {
            fields.push(field);
        }
    }
    out.push_str(&format!("  {list}: {}\n", entries.len()));
    if fields.is_empty() {
        return;
    }
    let mut table = Table::new(&fields);
    for entry in entries {
        table.row(fields.iter().map(|field| plain(&entry[field])));
    }
    out.push_str(&table.render("    "));
}

fn interfaces(out: &mut String, status: &Status) {
    if status.interfaces.is_empty() {
        return;
    }
    let mut table = Table::new(&["interface", "state", "hook", "through", "peer"]);
    for (name, item) in &status.interfaces {
        let peer = item.peer.clone().unwrap_or_default();
        table.row([
            name.to_string(),
            state(&item.state),
            item.hook.to_owned(),
            names(&item.through),
            peer,
        ]);
    }
    out.push_str(&format!(
        "\n{}\n{}",
        paint(style::TITLE, "Interfaces"),
        table.render("  ")
    ));
}

fn namespaces(out: &mut String, status: &Status) {
    if status.namespaces.is_empty() {
        return;
    }
    let mut table = Table::new(&["namespace", "state", "interface", "peer", "addresses"]);
    for (name, item) in &status.namespaces {
        if item.interfaces.is_empty() {
            table.row([
                name.to_string(),
                state(&item.state),
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
        for (interface, inside) in &item.interfaces {
            table.row([
                name.to_string(),
                state(&item.state),
                interface.to_string(),
                inside.peer.clone().unwrap_or_default(),
                inside.addresses.join(" "),
            ]);
        }
    }
    out.push_str(&format!(
        "\n{}\n{}",
        paint(style::TITLE, "Namespaces"),
        table.render("  ")
    ));
}

fn state(state: &State) -> String {
    match &state.reason {
        Some(reason) => format!("{} ({reason})", state.state),
        None => state.state.to_owned(),
    }
}

fn names(names: &[Name]) -> String {
    names
        .iter()
        .map(Name::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

fn columns<'a>(own: &[&'a str], rated: bool) -> Vec<&'a str> {
    let counted: &[&str] = if rated {
        &[
            "rx packets",
            "rx packets/s",
            "rx bit/s",
            "tx packets",
            "tx packets/s",
            "tx bit/s",
            "drops",
        ]
    } else {
        &["rx packets", "rx bytes", "tx packets", "tx bytes", "drops"]
    };
    own.iter().chain(counted).copied().collect()
}

fn numbers(traffic: &Traffic, rated: bool) -> Vec<String> {
    let drops = traffic
        .drops
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"));
    let drops = drops.collect::<Vec<_>>().join(", ");
    let Traffic { rx, tx, rates, .. } = traffic;
    if !rated {
        let counts = [rx.packets, rx.bytes, tx.packets, tx.bytes];
        return counts
            .iter()
            .map(ToString::to_string)
            .chain([drops])
            .collect();
    }
    let side = |packets: u64, rate: Option<Rate>| match rate {
        Some(rate) => [
            packets.to_string(),
            scaled(rate.packets_per_second),
            scaled(rate.bits_per_second),
        ],
        None => [packets.to_string(), String::new(), String::new()],
    };
    side(rx.packets, rates.map(|rates| rates.rx))
        .into_iter()
        .chain(side(tx.packets, rates.map(|rates| rates.tx)))
        .chain([drops])
        .collect()
}

/// Three digits and a decimal prefix: `1.23k`.
fn scaled(value: f64) -> String {
    let (mut value, mut prefix) = (value, "");
    for next in ["k", "M", "G", "T"] {
        // What would be rounded to 1000 has the next prefix.
        if value < 999.5 {
            break;
        }
        (value, prefix) = (value / 1000.0, next);
    }
    let decimals = match value {
        _ if prefix.is_empty() => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{prefix}")
}

/// `tagged 10 20-30, untagged 1`
fn in_a_line(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| format!("{key} {}", in_a_line(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => plain(other),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (7.4, "7"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1234.0, "1.23k"),
            (99_960.0, "100k"),
            (12_345_678.0, "12.3M"),
            (5e15, "5000T"),
        ] {
            assert_eq!(scaled(value), text);
        }
    }
}
