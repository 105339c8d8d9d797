//! The command line: one file per command, one place that knows them all.

mod apply;
mod commit;
mod completion;
mod confirm;
mod destroy;
mod diff;
mod doctor;
mod early;
mod events;
mod exit;
pub(crate) mod files;
mod flush;
mod graph;
mod guardian;
mod history;
mod host;
mod man;
mod metrics;
mod output;
mod plan;
pub mod render;
mod report;
mod rollback;
mod saved;
mod schema;
mod show;
mod signals;
mod steps;
mod validate;
mod watch;

use std::{
    ffi::OsString,
    panic::{self, AssertUnwindSafe},
};

use clap::{
    ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::BoolishValueParser, error::ErrorKind, parser::ValueSource,
};

pub use self::exit::{CommandResult, ExitCode, Failure};

/// Version of every JSON output; additive changes raise its second number.
pub const FORMAT_VERSION: &str = "1.0";

/// In-kernel network functions from a YAML topology
#[derive(Debug, Parser)]
#[command(
    name = "pcn",
    version,
    max_term_width = 100,
    after_help = "Results go to stdout, everything else to stderr. Every flag can be set by PCN_<FLAG>; the flag wins."
)]
struct Cli {
    /// Say more on stderr; repeats
    #[arg(short, long, global = true, action = ArgAction::Count, env = "PCN_VERBOSE")]
    verbose: u8,
    /// Filter of log messages, as in `reconciler=debug`
    #[arg(long, global = true, value_name = "FILTER", env = "PCN_LOG")]
    log: Option<String>,
    /// Form of log messages; both have the operation's id
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "PCN_LOG_FORMAT"
    )]
    log_format: Format,
    /// Say nothing on stderr but warnings and errors: no progress, no notes
    #[arg(short, long, global = true, env = "PCN_QUIET", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Validate(validate::Args),
    Plan(plan::Args),
    Apply(apply::Args),
    Confirm(confirm::Args),
    Rollback(rollback::Args),
    Diff(diff::Args),
    Show(show::Args),
    Events(events::Args),
    History(history::Args),
    Metrics(metrics::Args),
    Flush(flush::Args),
    Destroy(destroy::Args),
    Watch(watch::Args),
    Graph(graph::Args),
    Schema(schema::Args),
    Completion(completion::Args),
    Man(man::Args),
    Doctor(doctor::Args),
    #[command(hide = true)]
    Guardian(guardian::Args),
}

/// Text for people or JSON for scripts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people; may change
    #[default]
    Text,
    /// For scripts; a contract
    Json,
}

/// The definition of the command line, for completion, manual and reference.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs `pcn` with the arguments of this process.
pub fn main() -> std::process::ExitCode {
    run(std::env::args_os()).into()
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    start_log(&cli);
    if cli.quiet {
        output::be_quiet();
    }
    // The panic itself was reported when it happened. Applies that panic take back what they did.
    let result = panic::catch_unwind(AssertUnwindSafe(|| cli.command.run())).unwrap_or_else(|_| {
        Err(Failure::new(
            ExitCode::Error,
            "internal error: please report it",
        ))
    });
    match result {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message.is_empty() {
                let error = output::paint(output::style::DELETE, "error:");
                output::note(&format!("{error} {}", failure.message));
            }
            failure.code
        }
    }
}

impl Command {
    fn run(&self) -> CommandResult {
        match self {
            Self::Validate(args) => args.run(),
            Self::Plan(args) => args.run(),
            Self::Apply(args) => args.run(),
            Self::Confirm(args) => args.run(),
            Self::Rollback(args) => args.run(),
            Self::Diff(args) => args.run(),
            Self::Show(args) => args.run(),
            Self::Events(args) => args.run(),
            Self::History(args) => args.run(),
            Self::Metrics(args) => args.run(),
            Self::Flush(args) => args.run(),
            Self::Destroy(args) => args.run(),
            Self::Watch(args) => args.run(),
            Self::Graph(args) => args.run(),
            Self::Schema(args) => args.run(),
            Self::Completion(args) => args.run(),
            Self::Man(args) => args.run(),
            Self::Doctor(args) => args.run(),
            Self::Guardian(args) => args.run(),
        }
    }

    /// Where a name (or a saved plan) or files are asked for, a name leaves files from the
    /// environment alone. What is given beside files, if both are.
    fn name_and_files(&mut self, files_from: Option<ValueSource>) -> Option<&'static str> {
        let (what, named, files) = match self {
            Self::Apply(args) => ("PLAN", args.plan.is_some(), &mut args.files),
            Self::Destroy(args) => ("NAME", args.name.is_some(), &mut args.files),
            Self::Graph(args) => ("NAME", args.name.is_some(), &mut args.files),
            _ => return None,
        };
        if named && files_from == Some(ValueSource::EnvVariable) {
            files.clear();
        }
        (named && !files.is_empty()).then_some(what)
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let mut command = Cli::command();
    let parsed = command
        .try_get_matches_from_mut(arguments)
        .and_then(|matches| {
            let mut cli = Cli::from_arg_matches(&matches)?;
            let files_from = match matches.subcommand() {
                Some(("apply" | "destroy" | "graph", sub)) => sub.value_source("files"),
                _ => None,
            };
            if let Some(what) = cli.command.name_and_files(files_from) {
                let message = format!("give a {what} or `--file`, not both");
                return Err(command.error(ErrorKind::ArgumentConflict, message));
            }
            Ok(cli)
        });
    parsed.map_err(|error| {
        let text = error.render().to_string();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                output::print(&text).map_or_else(|failure| failure.code, |()| ExitCode::Done)
            }
            _ => {
                output::note_raw(&text);
                ExitCode::Usage
            }
        }
    })
}

fn start_log(cli: &Cli) {
    use tracing_subscriber::EnvFilter;
    // What works unattended has nobody else to tell.
    let unattended = u8::from(matches!(cli.command, Command::Watch(_)));
    let level = match cli.verbose + unattended {
        0 => "error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = cli
        .log
        .as_deref()
        .filter(|filter| !filter.is_empty())
        .unwrap_or(level);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|error| {
        output::note(&format!("warning: log filter `{filter}`: {error}"));
        EnvFilter::new(level)
    });
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // Fails if there is a subscriber already, as in tests: then that one is right.
    let _already_there = match cli.log_format {
        Format::Text => log.try_init(),
        Format::Json => log
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .try_init(),
    };
}
