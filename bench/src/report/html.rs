//! For a browser: one page, with a bar for each ratio, its interval, what is asked of it, and the noise.

use std::fmt::Write as _;

use super::{Report, lines, name, with_unit};
use crate::finding::{Finding, Goal, Outcome, Record, Role};

/// Width of the picture, in pixels, and of what a bar may have of it.
const WIDTH: f64 = 560.0;
/// Height of a bar's line.
const LINE: f64 = 22.0;
/// Ratios from one tenth to ten times; what is outside is at the edge.
const EDGE: f64 = 10.0;

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}\
h2{margin:2.2rem 0 .3rem}h3{margin:1.4rem 0 0;font-size:1rem}p{margin:.2rem 0 .5rem;color:#555}\
table{border-collapse:collapse}td{padding:1px 12px 1px 0;vertical-align:middle;white-space:nowrap}\
td.n{text-align:right;font-variant-numeric:tabular-nums}.missed{color:#b00020}.met{color:#1b7837}svg{display:block}";

/// The page.
pub fn page(report: &Report) -> String {
    let (met, all) = report.goals();
    let mut text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>pcn: measured</title><style>{STYLE}</style>\
         <h1>pcn, measured</h1><p>{}</p><p>{met} of {all} goals are met by all of the interval.</p>\
         <p>Bars are ratios of pcn to the other, on a logarithmic scale from 0.1 to 10; the line across the middle is 1. \
         Green is better than the other, red is worse, whichever direction that is. The thin line is the 95 % interval, the \
         grey band the noise (the same measured twice), the black mark the goal.</p>",
        escape(&report.headline())
    );
    let mut family = String::new();
    for record in &report.records {
        let own = record.id.split('.').next().unwrap_or_default();
        if own != family {
            family = own.to_owned();
            let _ = write!(text, "<h2>{}</h2>", escape(&family));
        }
        text += &row(record);
    }
    text += "</html>\n";
    text
}

fn row(record: &Record) -> String {
    let mut text = format!(
        "<h3 id=\"{0}\">{0} <small>({1})</small></h3><p>{2}</p>",
        escape(&record.id),
        record.instrument.letter(),
        escape(&record.job)
    );
    match &record.outcome {
        Outcome::NotHere(reason) => {
            let _ = write!(text, "<p>not measured: {}</p>", escape(reason));
        }
        Outcome::Failed(reason) => {
            let _ = write!(text, "<p class=\"missed\">failed: {}</p>", escape(reason));
        }
        Outcome::Measured(finding) => {
            text += "<table>";
            let words = lines(record);
            for (comparison, line) in finding.comparisons().iter().zip(words) {
                let picture = match comparison.arm {
                    Some(_) => bar(finding, comparison),
                    None => String::new(),
                };
                let other = comparison
                    .arm
                    .map(|arm| with_unit(arm.value(), finding.unit));
                let role = comparison.arm.map_or(Role::Subject, |arm| arm.role);
                let _ = write!(
                    text,
                    "<tr><td>{picture}<td class=\"n\">{}<td>{}{}<td class=\"n\">{}<td class=\"n\">{}<td>{}<td class=\"{met}\">{met}",
                    escape(&line.value),
                    role_word(role),
                    escape(&name(comparison)),
                    escape(&other.unwrap_or_default()),
                    escape(&line.ratio),
                    escape(&line.goal),
                    met = line.met,
                );
            }
            text += "</table>";
            for note in &finding.notes {
                let _ = write!(text, "<p>{}</p>", escape(note));
            }
        }
    }
    text
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Bound => "bound: ",
        Role::Own => "pcn: ",
        Role::Subject | Role::Null | Role::Peer => "",
    }
}

/// Where a ratio is.
fn place(ratio: f64) -> f64 {
    let ratio = if ratio.is_finite() && ratio > 0.0 {
        ratio
    } else {
        1.0 / EDGE
    };
    let share = ratio.ln() / EDGE.ln();
    WIDTH / 2.0 * (1.0 + share.clamp(-1.0, 1.0))
}

fn bar(finding: &Finding, comparison: &super::Comparison<'_>) -> String {
    let ratio = comparison.ratio;
    let better = (ratio.median > 1.0) == finding.unit.more_is_better();
    let (one, end) = (place(1.0), place(ratio.median));
    let colour = if better { "#5aae61" } else { "#d6604d" };
    let mut svg = format!("<svg width=\"{WIDTH}\" height=\"{LINE}\" role=\"img\">");
    if let Some(null) = finding.null() {
        let (low, high) = (place(null.low), place(null.high));
        let _ = write!(
            svg,
            "<rect x=\"{low:.1}\" y=\"0\" width=\"{:.1}\" height=\"{LINE}\" fill=\"#e4e4e4\"/>",
            (high - low).max(1.0)
        );
    }
    let _ = write!(
        svg,
        "<rect x=\"{:.1}\" y=\"5\" width=\"{:.1}\" height=\"12\" fill=\"{colour}\"/>\
         <line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"0\" y2=\"{LINE}\" stroke=\"#888\"/>\
         <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"11\" y2=\"11\" stroke=\"#111\" stroke-width=\"1.5\"/>",
        one.min(end),
        (one - end).abs().max(1.0),
        place(ratio.low),
        place(ratio.high)
    );
    if let Some(Goal::AtLeast(goal) | Goal::AtMost(goal)) = comparison.goal {
        let goal = place(goal);
        let _ = write!(
            svg,
            "<line x1=\"{goal:.1}\" x2=\"{goal:.1}\" y1=\"1\" y2=\"21\" stroke=\"#000\" stroke-width=\"3\"/>"
        );
    }
    svg + "</svg>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
