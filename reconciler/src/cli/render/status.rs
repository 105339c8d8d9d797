//! What runs, for people.

use serde_json::Value;
use topology_schema::Name;

use super::{pending_text, table::Table};
use crate::{
    cli::output::{paint, style},
    status::{Condition, Cube, State, Status, Traffic},
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
        let Condition {
            kind,
            status,
            reason,
            message,
        } = condition;
        out.push_str(&format!("{kind}: {status} ({reason}: {message})\n"));
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

fn cube(out: &mut String, name: &Name, cube: &Cube) {
    let title = paint(style::TITLE, &format!("cube/{name}"));
    out.push_str(&format!("{title}  {}  {}\n", cube.kind, state(&cube.state)));
    let mut ports = Table::new(&[
        "port",
        "peer",
        "state",
        "through",
        "rx packets",
        "rx bytes",
        "tx packets",
        "tx bytes",
        "drops",
    ]);
    for (port, item) in &cube.ports {
        let own = [
            port.clone(),
            item.peer.clone().unwrap_or_default(),
            item.state.state.to_owned(),
            names(&item.through),
        ];
        ports.row(own.into_iter().chain(numbers(&item.traffic)));
    }
    let mut attachments = Table::new(&[
        "attached to",
        "direction",
        "state",
        "rx packets",
        "rx bytes",
        "tx packets",
        "tx bytes",
        "drops",
    ]);
    for (endpoint, item) in &cube.attachments {
        for (direction, traffic) in [("ingress", &item.ingress), ("egress", &item.egress)] {
            let own = [
                endpoint.clone(),
                direction.to_owned(),
                item.state.state.to_owned(),
            ];
            attachments.row(own.into_iter().chain(numbers(traffic)));
        }
    }
    for table in [ports, attachments] {
        if !table.is_empty() {
            out.push_str(&table.render("  "));
        }
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

fn numbers(traffic: &Traffic) -> [String; 5] {
    let drops = traffic
        .drops
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"));
    [
        traffic.rx.packets.to_string(),
        traffic.rx.bytes.to_string(),
        traffic.tx.packets.to_string(),
        traffic.tx.bytes.to_string(),
        drops.collect::<Vec<_>>().join(", "),
    ]
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
