//! `./x bench`: what `pcn` costs, beside others on the same machine in the same run. See docs/performance.md.

mod before;
mod contest;
mod finding;
mod machine;
mod report;
mod rig;
mod rows;
mod statistics;

use std::{
    fs,
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use integration_tests::{lab::run_test, require};

use crate::{
    contest::Effort,
    finding::{Outcome, Record},
    machine::Machine,
    report::Report,
    rows::{Row, Scope},
};

/// Measures pcn beside its peers, in namespaces of its own. Needs root.
#[derive(Parser)]
#[command(name = "pcn-bench")]
struct Arguments {
    /// Rows or families of rows, as `--list` names them. Default: all.
    rows: Vec<String>,
    /// Lists the rows.
    #[arg(long)]
    list: bool,
    /// A first look in less than three minutes: fewer rounds, and without rows that take long.
    #[arg(long)]
    quick: bool,
    /// Keeps results that are in the folder already, and adds these.
    #[arg(long)]
    add: bool,
    /// Measures the rows with this build and with another one in turns, instead of with others
    #[arg(long, value_name = "PCN")]
    before: Option<PathBuf>,
    /// Where results are written.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// A document whose section with results is replaced.
    #[arg(long)]
    document: Option<PathBuf>,
    /// Measures nothing; writes the files from the results in the folder.
    #[arg(long)]
    report_only: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pcn-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<ExitCode> {
    let all = rows::all();
    let wanted =
        |row: &Row| arguments.rows.is_empty() || arguments.rows.iter().any(|wanted| row.is(wanted));
    // A row that is asked for by its full name is measured in a quick run, too.
    let named = |row: &Row| arguments.rows.contains(&row.id);
    if let Some(unknown) = arguments
        .rows
        .iter()
        .find(|wanted| !all.iter().any(|row| row.is(wanted)))
    {
        return Err(io::Error::other(format!(
            "no row is called {unknown}; --list names them"
        )));
    }
    let chosen: Vec<&Row> = all
        .iter()
        .filter(|row| wanted(row) && (row.quick || !arguments.quick || named(row)))
        .collect();
    let mut out = io::stdout().lock();
    if arguments.list {
        for row in chosen {
            writeln!(
                out,
                "{}  {:<30} {}",
                row.instrument.letter(),
                row.id,
                row.job
            )?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let before = read(arguments)?;
    let mut report = match before {
        Some(before) => before,
        None => Report {
            machine: Machine::look(),
            full: !arguments.quick,
            load: machine::load(),
            versions: rows::versions(),
            records: Vec::new(),
        },
    };
    if !arguments.report_only {
        if !require::root() {
            return Err(io::Error::other(
                "needs root: it makes namespaces and loads programs",
            ));
        }
        writeln!(out, "{}\n", report.headline())?;
        for row in chosen {
            let records = match &arguments.before {
                Some(other) => {
                    before::compare(other, arguments.quick, || measure(row, before::TURN))
                }
                None => measure(
                    row,
                    if arguments.quick {
                        Effort::QUICK
                    } else {
                        Effort::FULL
                    },
                ),
            };
            for record in records {
                write!(out, "{}", report::row(&record))?;
                out.flush()?;
                report.records.retain(|known| known.id != record.id);
                report.records.push(record);
            }
            // After each row: what was measured stays, whatever happens. Not all files: their intervals take seconds.
            report.save(&arguments.output)?;
        }
    }
    // The ids of records begin with those of their rows.
    let of = |row: &Row, record: &Record| {
        let rest = record.id.strip_prefix(&row.id);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let place = |record: &Record| all.iter().position(|row| of(row, record));
    report.records.sort_by_key(place);
    finish(&report, arguments)
}

/// Results that were there before, if they are to be used.
fn read(arguments: &Arguments) -> io::Result<Option<Report>> {
    if !arguments.add && !arguments.report_only {
        return Ok(None);
    }
    match fs::read_to_string(arguments.output.join("results.json")) {
        Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && arguments.add => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lines of what a row that broke has to say; all of it is on standard error.
const REASON: usize = 6;

fn measure(row: &Row, effort: Effort) -> Vec<Record> {
    let start = Instant::now();
    let mut outcomes = Vec::new();
    let result = catch_unwind(AssertUnwindSafe(|| {
        run_test(|lab| {
            outcomes = match (row.measure)(&Scope { lab, effort }) {
                Ok(findings) => findings
                    .into_iter()
                    .map(|(suffix, finding)| (suffix, Outcome::Measured(finding)))
                    .collect(),
                Err(reason) => vec![("", Outcome::NotHere(reason))],
            };
        });
    }));
    if let Err(panic) = result {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        // What is left behind makes a figure doubtful, too.
        let text: Vec<&str> = text.unwrap_or("panic").lines().take(REASON).collect();
        outcomes = vec![("", Outcome::Failed(text.join(" ")))];
    }
    let seconds = start.elapsed().as_secs_f64();
    let record = |(suffix, outcome): (&str, Outcome)| Record {
        id: format!("{}{suffix}", row.id),
        job: row.job.clone(),
        instrument: row.instrument,
        outcome,
        seconds,
    };
    outcomes.into_iter().map(record).collect()
}

fn finish(report: &Report, arguments: &Arguments) -> io::Result<ExitCode> {
    report.write(&arguments.output)?;
    let (met, all) = report.goals();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\n{met} of {all} goals are met by all of the interval. {}",
        arguments.output.join("index.html").display()
    )?;
    if let Some(path) = &arguments.document {
        let text = fs::read_to_string(path)?;
        let text = report::replace_section(&text, report).ok_or_else(|| {
            io::Error::other(format!("{}: no section for results", path.display()))
        })?;
        fs::write(path, text)?;
    }
    let failed = report
        .records
        .iter()
        .any(|record| matches!(record.outcome, Outcome::Failed(_)));
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
