//! The same results for people, for spreadsheets, for a browser and for the documentation.

mod csv;
mod html;
mod markdown;
mod text;

use std::{fs, io, path::Path};

pub use self::{markdown::replace_section, text::row};
use crate::{
    finding::{Comparison, Finding, Outcome, Record, Unit},
    machine::Machine,
    statistics::Interval,
};

/// What a run came to.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// False for a short run.
    pub full: bool,
    /// Runnable threads when it began.
    pub load: f64,
    /// Versions of those that `pcn` is compared with, by name.
    pub versions: Vec<(String, String)>,
    /// Row by row.
    pub records: Vec<Record>,
}

impl Report {
    /// Writes what was measured into a folder: all that the other files are made of.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        fs::write(folder.join("results.json"), json)
    }

    /// Writes all files into a folder.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        self.save(folder)?;
        for (name, text) in [
            ("table.txt", text::table(self)),
            ("table.md", markdown::table(self)),
            ("samples.csv", csv::samples(self)),
            ("results.csv", csv::results(self)),
            ("index.html", html::page(self)),
        ] {
            fs::write(folder.join(name), text)?;
        }
        Ok(())
    }

    /// Goals that were reached, and all.
    pub fn goals(&self) -> (usize, usize) {
        let met: Vec<bool> = self
            .records
            .iter()
            .filter_map(|record| match &record.outcome {
                Outcome::Measured(finding) => Some(finding),
                Outcome::NotHere(_) | Outcome::Failed(_) => None,
            })
            .flat_map(Finding::comparisons)
            .filter_map(|comparison| comparison.met)
            .collect();
        (met.iter().filter(|met| **met).count(), met.len())
    }

    /// One line about the machine.
    pub fn headline(&self) -> String {
        let Machine {
            kernel,
            cpu,
            cpus,
            mitigations,
            pcn,
            date,
        } = &self.machine;
        format!(
            "pcn {pcn}, Linux {kernel}, {cpus} × {cpu}; {mitigations}; load {:.1}; {date}{}",
            self.load,
            if self.full { "" } else { "; quick run" }
        )
    }
}

/// One line of a table.
struct Line {
    id: String,
    instrument: String,
    value: String,
    against: String,
    other: String,
    ratio: String,
    null: String,
    goal: String,
    met: &'static str,
}

/// The lines of a row: one for each comparison.
fn lines(record: &Record) -> Vec<Line> {
    let line = |value: String, against: String| Line {
        id: record.id.clone(),
        instrument: record.instrument.letter().to_string(),
        value,
        against,
        other: String::new(),
        ratio: String::new(),
        null: String::new(),
        goal: String::new(),
        met: "",
    };
    match &record.outcome {
        Outcome::NotHere(reason) => vec![line("not here".to_owned(), reason.clone())],
        Outcome::Failed(reason) => vec![line("failed".to_owned(), reason.clone())],
        Outcome::Measured(finding) => finding
            .comparisons()
            .iter()
            .map(|comparison| Line {
                other: comparison
                    .arm
                    .map(|arm| with_unit(arm.value(), finding.unit))
                    .unwrap_or_default(),
                ratio: match comparison.arm {
                    Some(_) => percent(&comparison.ratio),
                    None => String::new(),
                },
                null: finding
                    .null()
                    .map(|null| percent(&null))
                    .unwrap_or_default(),
                goal: goal(comparison, finding.unit),
                met: word(comparison.met),
                ..line(
                    with_unit(finding.value().median, finding.unit),
                    name(comparison),
                )
            })
            .collect(),
    }
}

fn goal(comparison: &Comparison<'_>, unit: Unit) -> String {
    use crate::finding::Goal;
    match comparison.goal {
        Some(goal @ (Goal::MoreBy(_) | Goal::Below(_))) => format!("{goal} {}", unit.symbol()),
        Some(goal) => goal.to_string(),
        None => String::new(),
    }
}

fn word(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    }
}

/// Who the subject is compared with.
fn name(comparison: &Comparison<'_>) -> String {
    match comparison.arm {
        Some(arm) if arm.version.is_empty() => arm.name.clone(),
        Some(arm) => format!("{} {}", arm.name, arm.version),
        None => "itself".to_owned(),
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".to_owned()
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn with_unit(value: f64, unit: Unit) -> String {
    format!("{} {}", number(value), unit.symbol())
        .trim_end()
        .to_owned()
}

/// A ratio with its interval.
fn percent(interval: &Interval) -> String {
    let Interval { median, low, high } = interval;
    format!("{} [{}, {}]", number(*median), number(*low), number(*high))
}

#[cfg(test)]
mod tests;
