//! `pcn show`

use clap::ValueEnum;
use serde_json::{Value, json};
use topology_schema::{Name, to_yaml};

use super::{
    CommandResult, ExitCode, FORMAT_VERSION, Failure,
    host::HostArgs,
    output,
    render::status::{self as text, Row},
};
use crate::status::{Condition, Status, status};

/// Show what runs: all topologies, or one with its ports, counters and tables
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Name of the topology; all without it
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t, env = "PCN_OUTPUT")]
    output: Output,
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
    /// The topology that was applied
    Yaml,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        match &self.name {
            Some(name) => self.one(name)?,
            None => self.all()?,
        }
        Ok(ExitCode::Done)
    }

    fn one(&self, name: &Name) -> Result<(), Failure> {
        let mut kernel = self.host.open(name)?;
        let Some(status) = status(&mut kernel)? else {
            return Err(self.host.not_applied(name)?);
        };
        match self.output {
            Output::Text => output::print(&text::text(&status)),
            Output::Json => output::print_json(&to_json(&status)?),
            Output::Yaml => output::print(&to_yaml(&status.applied)),
        }
    }

    fn all(&self) -> Result<(), Failure> {
        let mut found = Vec::new();
        for name in self.host.topologies()? {
            let mut kernel = self.host.open(&name)?;
            let status = status(&mut kernel).map_err(|error| error.to_string());
            found.push((name, status));
        }
        match self.output {
            Output::Text if found.is_empty() => {
                output::inform("Nothing is applied.");
                Ok(())
            }
            Output::Text => output::print(&text::list(&found.iter().map(row).collect::<Vec<_>>())),
            Output::Json => {
                let topologies: Vec<Value> = found.iter().map(summary).collect();
                output::print_json(
                    &json!({ "formatVersion": FORMAT_VERSION, "topologies": topologies }),
                )
            }
            Output::Yaml => {
                let documents = found.iter().filter_map(|(_, status)| {
                    Some(to_yaml(&status.as_ref().ok()?.as_ref()?.applied))
                });
                output::print(&documents.collect::<Vec<_>>().join("---\n"))
            }
        }
    }
}

type Found = (Name, Result<Option<Status>, String>);

/// What is there of a topology that cannot be shown.
fn unknown(status: &Result<Option<Status>, String>) -> Condition {
    let message = match status {
        Err(error) => error.clone(),
        Ok(_) => {
            "leftovers of an apply that did not come to its end; apply again, or destroy".to_owned()
        }
    };
    Condition {
        kind: "Ready",
        status: "Unknown",
        reason: "NotReadable",
        message,
    }
}

fn row((name, status): &Found) -> Row {
    match status {
        Ok(Some(status)) => Row::of(status),
        other => Row::unknown(name, &unknown(other)),
    }
}

fn summary((name, status): &Found) -> Value {
    match status {
        Ok(Some(status)) => json!({
            "topology": name,
            "conditions": status.conditions,
            "cubes": status.cubes.len(),
            "links": status.applied.spec.links.len(),
            "namespaces": status.namespaces.len(),
            "pending": status.pending,
        }),
        other => json!({ "topology": name, "conditions": [unknown(other)] }),
    }
}

fn to_json(status: &Status) -> Result<Value, Failure> {
    serde_json::to_value(status)
        .map_err(|error| Failure::new(ExitCode::Error, format!("write JSON: {error}")))
}
