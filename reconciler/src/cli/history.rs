//! `pcn history`

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use topology_schema::{Name, to_yaml};

use super::{
    CommandResult, ExitCode, FORMAT_VERSION, Failure, Format,
    host::{self, HostArgs, StateArgs},
    output, render,
};
use crate::journal::{Conclusion, History, Transaction};

/// Show what was done to topologies, the newest first; `history show N` says all of one
/// transaction
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    show: Option<Show>,
    /// Name of the topology; all without it
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t, env = "PCN_OUTPUT")]
    output: Format,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Show {
    Show(One),
}

/// Show one transaction; `-o yaml` is the topology that was applied then, which `apply -f -` takes
#[derive(clap::Args, Debug)]
#[command(allow_missing_positional = true)]
struct One {
    /// Name of the topology; may be left out if only one has a history
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    /// Number of the transaction
    #[arg(value_name = "N", required = true)]
    number: u64,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t, env = "PCN_OUTPUT")]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Where the history is, and of which bpffs.
#[derive(clap::Args, Debug)]
struct Place {
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people; may change
    #[default]
    Text,
    /// For scripts; a contract
    Json,
    /// The topology that was applied then
    Yaml,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        if let Some(Show::Show(one)) = &self.show {
            return one.run();
        }
        let history = self.place.history();
        let names = match &self.name {
            Some(name) => vec![name.clone()],
            None => self.place.topologies(&history)?,
        };
        let mut transactions = Vec::new();
        for name in &names {
            transactions.extend(self.place.read(&history, name)?);
        }
        // Stable: a topology's own are in the order of their numbers already.
        transactions.sort_by(|a, b| b.time.cmp(&a.time));
        match self.output {
            Format::Text if transactions.is_empty() => output::inform("No history."),
            Format::Text => output::print(&render::history::table(&transactions))?,
            Format::Json => {
                let list: Vec<Value> = transactions.iter().map(summary).collect();
                let list = json!({ "formatVersion": FORMAT_VERSION, "transactions": list });
                output::print_json(&list)?;
            }
        }
        Ok(ExitCode::Done)
    }
}

impl Place {
    fn history(&self) -> History {
        self.state.history(&self.host)
    }

    fn topologies(&self, history: &History) -> Result<Vec<Name>, Failure> {
        history
            .topologies()
            .map_err(|error| self.unreadable(&error))
    }

    fn read(&self, history: &History, name: &Name) -> Result<Vec<Transaction>, Failure> {
        let numbers = history.numbers(name);
        let mut transactions = Vec::new();
        for number in numbers.map_err(|error| self.unreadable(&error))? {
            match history.read(name, number) {
                Ok(transaction) => transactions.push(transaction),
                Err(error) => output::note(&format!(
                    "warning: transaction {number} of {name} is left out: {error}"
                )),
            }
        }
        transactions.reverse();
        host::see_interrupted(&mut transactions, &self.host.bpffs);
        Ok(transactions)
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        host::unreadable("history", self.state.directory(), error)
    }
}

impl One {
    fn run(&self) -> CommandResult {
        let history = self.place.history();
        let name = self.topology(&history)?;
        let transaction = self.read(&history, &name)?;
        match self.output {
            Output::Text => output::print(&render::history::text(&transaction))?,
            Output::Json => output::print_json(&whole(&transaction))?,
            Output::Yaml => output::print(&yaml(&transaction)?)?,
        }
        Ok(ExitCode::Done)
    }

    fn topology(&self, history: &History) -> Result<Name, Failure> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let mut names = self.place.topologies(history)?;
        let number = self.number;
        match (names.pop(), names.is_empty()) {
            (Some(name), true) => Ok(name),
            (None, _) => Err(Failure::new(ExitCode::Error, "there is no history")),
            (Some(last), false) => {
                names.push(last);
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                let message = format!(
                    "several topologies have a history: {}; say which: `pcn history show NAME {number}`",
                    names.join(", ")
                );
                Err(Failure::new(ExitCode::Usage, message))
            }
        }
    }

    fn read(&self, history: &History, name: &Name) -> Result<Transaction, Failure> {
        let number = self.number;
        let numbers = history.numbers(name).unwrap_or_default();
        let read = history.read(name, number).map_err(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                return self.place.unreadable(&error);
            }
            let help = match (numbers.first(), numbers.last()) {
                (Some(first), Some(last)) => format!("it has {first} to {last}"),
                _ => "it has no history".to_owned(),
            };
            let message = format!("topology {name} has no transaction {number}; {help}");
            Failure::new(ExitCode::Error, message)
        })?;
        // Only the newest can be running still.
        let mut transactions = vec![read];
        if numbers.last() == Some(&number) {
            host::see_interrupted(&mut transactions, &self.place.host.bpffs);
        } else if transactions[0].result == Conclusion::Running {
            transactions[0].result = Conclusion::Interrupted;
        }
        Ok(transactions.remove(0))
    }
}

/// What ran once the transaction was over.
fn yaml(transaction: &Transaction) -> Result<String, Failure> {
    let number = transaction.number;
    let message = match transaction.after() {
        Ok(Some(topology)) => return Ok(to_yaml(topology)),
        Ok(None) => format!("after transaction {number}, nothing of the topology was applied"),
        Err(result) => format!(
            "transaction {number} ended as `{}`: nobody knows what ran then; \
             `-o json` has what it was to be (`wanted`) and what was there (`before`)",
            result.name()
        ),
    };
    Err(Failure::new(ExitCode::Error, message))
}

/// All of a transaction.
fn whole(transaction: &Transaction) -> Value {
    let mut value = json!({ "formatVersion": FORMAT_VERSION, "number": transaction.number });
    if let (Some(all), Ok(Value::Object(fields))) =
        (value.as_object_mut(), serde_json::to_value(transaction))
    {
        all.extend(fields);
    }
    value
}

/// The same without what may be long.
fn summary(transaction: &Transaction) -> Value {
    let mut value = whole(transaction);
    if let Some(fields) = value.as_object_mut() {
        for long in [
            "formatVersion",
            "changes",
            "drift",
            "pending",
            "before",
            "wanted",
        ] {
            fields.shift_remove(long);
        }
    }
    value
}
