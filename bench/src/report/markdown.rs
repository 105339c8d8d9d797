//! For the documentation.

use std::fmt::Write as _;

use super::{Report, lines};
use crate::finding::Outcome;

/// What is between these is replaced.
const BEGIN: &str = "<!-- results: begin -->";
const END: &str = "<!-- results: end -->";

/// All rows, family by family.
pub fn table(report: &Report) -> String {
    let (met, all) = report.goals();
    let mut text = format!(
        "{}\n\n{met} of {all} goals are met by all of the interval.\n",
        report.headline()
    );
    let mut versions = report.versions.clone();
    versions.retain(|(_, version)| !version.is_empty());
    if !versions.is_empty() {
        let named: Vec<String> = versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        let _ = writeln!(text, "\nPeers: {}.", named.join(", "));
    }
    let mut family = String::new();
    for record in &report.records {
        let own = record.id.split('.').next().unwrap_or_default();
        if own != family {
            family = own.to_owned();
            let _ = write!(
                text,
                "\n### {family}\n\n| row | | `pcn` | beside | value | ratio [95 %] | null pair | goal | |\n\
                 | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | --- |\n"
            );
        }
        for (place, line) in lines(record).into_iter().enumerate() {
            let id = if place == 0 {
                format!("`{}`", line.id)
            } else {
                String::new()
            };
            let _ = writeln!(
                text,
                "| {id} | {} | {} | {} | {} | {} | {} | {} | {} |",
                line.instrument,
                line.value,
                line.against.replace('|', "/").replace('\n', " "),
                line.other,
                line.ratio,
                line.null,
                line.goal,
                line.met
            );
        }
    }
    text += &notes(report);
    text
}

fn notes(report: &Report) -> String {
    let mut text = String::new();
    for record in &report.records {
        let Outcome::Measured(finding) = &record.outcome else {
            continue;
        };
        for note in &finding.notes {
            let _ = writeln!(text, "- `{}`: {note}", record.id);
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("\n### Notes\n\n{text}")
}

/// A document in which the results are replaced; none, if it does not say where they are.
pub fn replace_section(document: &str, report: &Report) -> Option<String> {
    let begin = document.find(BEGIN)? + BEGIN.len();
    let end = document.find(END)?;
    let (before, after) = (document.get(..begin)?, document.get(end..)?);
    Some(format!("{before}\n\n{}\n{after}", table(report)))
}
