//! For terminals.

use std::fmt::Write as _;

use super::{Line, Report, lines};
use crate::finding::{Outcome, Record};

/// All rows.
pub fn table(report: &Report) -> String {
    let mut text = format!("{}\n\n", report.headline());
    text += &header();
    for record in &report.records {
        text += &row(record);
    }
    let (met, all) = report.goals();
    let _ = writeln!(
        text,
        "\n{met} of {all} goals are met by all of the interval"
    );
    text
}

fn header() -> String {
    format!(
        "{:<30} {:>13} {:<44} {:>13} {:<22} {:<20} {:<12} {}\n",
        "row", "pcn", "beside", "value", "ratio [95 %]", "null [95 %]", "goal", ""
    )
}

/// The lines of a row, and its notes.
pub fn row(record: &Record) -> String {
    let mut text = String::new();
    for (place, line) in lines(record).into_iter().enumerate() {
        let Line {
            id,
            value,
            against,
            other,
            ratio,
            null,
            goal,
            met,
            ..
        } = line;
        let id = if place == 0 { id } else { String::new() };
        let line = format!(
            "{id:<30} {value:>13} {against:<44} {other:>13} {ratio:<22} {null:<20} {goal:<12} {met}"
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Outcome::Measured(finding) = &record.outcome {
        for note in &finding.notes {
            let _ = writeln!(text, "{:<30} {note}", "");
        }
        if finding.discarded > 0 {
            let _ = writeln!(
                text,
                "{:<30} {} rounds left out: the hypervisor took time",
                "", finding.discarded
            );
        }
    }
    text
}
