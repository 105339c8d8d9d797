//! For spreadsheets: each value that was measured, and what they come to.

use std::fmt::Write as _;

use super::{Report, name};
use crate::finding::Outcome;

/// A field; quoted, so that it may hold commas.
fn field(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\"").replace('\n', " "))
}

/// One line for each value.
pub fn samples(report: &Report) -> String {
    let mut text = String::from("row,arm,role,unit,round,value,steal\n");
    for record in &report.records {
        let Outcome::Measured(finding) = &record.outcome else {
            continue;
        };
        for arm in &finding.arms {
            for (round, value) in arm.samples.iter().enumerate() {
                let steal = finding.steal.get(round).copied().unwrap_or(0.0);
                let _ = writeln!(
                    text,
                    "{},{},{:?},{},{round},{value},{steal:.4}",
                    record.id,
                    field(&arm.name),
                    arm.role,
                    finding.unit.symbol()
                );
            }
        }
    }
    text
}

/// One line for each comparison.
pub fn results(report: &Report) -> String {
    let mut text = String::from(
        "row,job,instrument,unit,value,against,other,ratio,low,high,null_low,null_high,goal,met,reason\n",
    );
    for record in &report.records {
        let start = format!(
            "{},{},{}",
            record.id,
            field(&record.job),
            record.instrument.letter()
        );
        let finding = match &record.outcome {
            Outcome::Measured(finding) => finding,
            Outcome::NotHere(reason) | Outcome::Failed(reason) => {
                let _ = writeln!(text, "{start},,,,,,,,,,,,{}", field(reason));
                continue;
            }
        };
        let null = finding.null();
        let null = |pick: fn(&crate::statistics::Interval) -> f64| {
            null.as_ref()
                .map(|null| pick(null).to_string())
                .unwrap_or_default()
        };
        for comparison in finding.comparisons() {
            let other = comparison.arm.map(|arm| arm.value().to_string());
            let ratio = comparison.ratio;
            let _ = writeln!(
                text,
                "{start},{},{},{},{},{},{},{},{},{},{},{},",
                finding.unit.symbol(),
                finding.value().median,
                field(&name(&comparison)),
                other.unwrap_or_default(),
                ratio.median,
                ratio.low,
                ratio.high,
                null(|null| null.low),
                null(|null| null.high),
                comparison
                    .goal
                    .map(|goal| goal.to_string())
                    .unwrap_or_default(),
                comparison
                    .met
                    .map(|met| met.to_string())
                    .unwrap_or_default()
            );
        }
    }
    text
}
