//! `pcn watch`, and applies while packets pass: how soon a change is felt, what it costs those packets, what it takes to wait.

mod change;
mod live;
mod upkeep;

use self::{
    change::{one_route, one_rule},
    live::{replace, structure},
    upkeep::{drift, idle, start},
};
use super::{Findings, Row, Scope};
use crate::finding::Instrument;

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add =
        |id: String, job: String, count: usize, measure: fn(&Scope<'_>, usize) -> Findings| {
            let row = Row::several(id, Instrument::Control, job, move |scope| {
                Ok(measure(scope, count))
            });
            rows.push(if count > 1000 { row.long() } else { row });
        };
    for (name, count) in [("10", 10), ("10k", 10_000)] {
        add(
            format!("daemon.change.rules-{name}"),
            format!(
                "one of {count} rules becomes another one: from the new file until the first packet that feels it, `pcn watch`"
            ),
            count,
            one_rule,
        );
    }
    add(
        "daemon.change.routes-1k".to_owned(),
        "one of 1000 routes comes or goes: from the new file until the first packet that feels it, `pcn watch`"
            .to_owned(),
        1000,
        one_route,
    );
    add(
        "daemon.drift".to_owned(),
        "somebody detaches a program: until `pcn watch` has repaired it and packets pass again"
            .to_owned(),
        10,
        drift,
    );
    add(
        "daemon.start.rules-1k".to_owned(),
        "from the start of `pcn watch` until the first packet passes a router with 1000 rules, from nothing".to_owned(),
        1000,
        start,
    );
    for (name, count) in [("10", 10), ("10k", 10_000)] {
        let job = format!("`pcn watch` with nothing to do, {count} rules: CPU, memory, repairs");
        let row = Row::several(
            format!("daemon.idle.rules-{name}"),
            Instrument::Control,
            job,
            move |scope| Ok(idle(scope, count)),
        );
        rows.push(row.long());
    }
    for (id, job, measure) in [
        (
            "live.structure",
            "`pcn apply` with which a cube comes into a chain while packets pass; and packets lost, doubled or wrong",
            structure as fn(&Scope<'_>) -> Findings,
        ),
        (
            "live.replace",
            "programs, cubes and entries are replaced while packets pass: packets lost, doubled or wrong",
            replace,
        ),
    ] {
        rows.push(Row::several(id, Instrument::Control, job, move |scope| {
            Ok(measure(scope))
        }));
    }
    rows
}
