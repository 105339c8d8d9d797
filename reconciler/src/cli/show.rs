//! `pcn show`

use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Value, json};
use topology_schema::{Name, to_yaml};

use super::{
    CommandResult, ExitCode, FORMAT_VERSION, Failure,
    host::{HostArgs, StateArgs},
    output::{self, Screen},
    render::status::{self as text, Row},
};
use crate::{
    journal,
    kernel::linux::pause::Pause,
    status::{Condition, Context, Status, overview, status},
};

/// Show what runs: all topologies, or one with its ports, counters and tables
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Name of the topology; all without it
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    /// One cube alone, or one of its lists, as in nat/sessions
    #[arg(value_name = "CUBE[/LIST]", requires = "name")]
    what: Option<String>,
    /// Show it again and again, with rates, until interrupted; JSON is a document a line
    #[arg(
        short, long,
        value_name = "SECONDS",
        env = "PCN_WATCH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        value_parser = period
    )]
    watch: Option<Duration>,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t, env = "PCN_OUTPUT")]
    output: Output,
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
    /// The topology that was applied
    Yaml,
}

/// What there is of a topology.
type Found = (Name, Result<Option<Status>, String>);

/// A look at one topology, or at all.
enum Look {
    One(Box<Status>),
    All(Vec<Found>),
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        match self.watch {
            Some(period) => self.again_and_again(period)?,
            None => self.print(&self.look()?)?,
        }
        Ok(ExitCode::Done)
    }

    fn again_and_again(&self, period: Duration) -> Result<(), Failure> {
        let pause = Pause::new()
            .map_err(|error| Failure::new(ExitCode::Error, format!("wait: {error}")))?;
        let mut screen = Screen::new(self.output == Output::Text);
        let mut before: Option<(Look, Instant)> = None;
        loop {
            let now = Instant::now();
            let mut look = self.look()?;
            if let (Look::One(status), Some((Look::One(before), then))) = (&mut look, &before) {
                status.add_rates(before, now - *then);
            }
            match self.output {
                Output::Json => output::print_line(&self.json(&look)?)?,
                Output::Text | Output::Yaml => screen.show(&self.text(&look))?,
            }
            before = Some((look, now));
            // Looking took time, too.
            if !pause.wait(period.saturating_sub(now.elapsed())) {
                return Ok(());
            }
        }
    }

    fn look(&self) -> Result<Look, Failure> {
        match &self.name {
            Some(name) => self.one(name),
            None => self.all(),
        }
    }

    fn one(&self, name: &Name) -> Result<Look, Failure> {
        let mut kernel = self.host.open(name)?;
        let Some(mut status) = status(&mut kernel)? else {
            return Err(self.host.not_applied(name)?);
        };
        status.add_context(&self.context(name));
        if let Some(what) = &self.what {
            narrow(&mut status, what)?;
        }
        Ok(Look::One(Box::new(status)))
    }

    fn all(&self) -> Result<Look, Failure> {
        let mut found = Vec::new();
        for name in self.host.topologies()? {
            let mut kernel = self.host.open(&name)?;
            let mut status = overview(&mut kernel).map_err(|error| error.to_string());
            if let Ok(Some(status)) = &mut status {
                status.add_context(&self.context(&name));
            }
            found.push((name, status));
        }
        Ok(Look::All(found))
    }

    fn context(&self, name: &Name) -> Context {
        Context::read(&self.state.history(&self.host), &self.host.bpffs, name)
    }

    fn print(&self, look: &Look) -> Result<(), Failure> {
        if let (Look::All(found), Output::Text) = (look, self.output)
            && found.is_empty()
        {
            output::inform("Nothing is applied.");
            return Ok(());
        }
        match self.output {
            Output::Json => output::print_json(&self.json(look)?),
            Output::Text | Output::Yaml => output::print(&self.text(look)),
        }
    }

    fn text(&self, look: &Look) -> String {
        match (look, self.output) {
            (Look::One(status), Output::Yaml) => to_yaml(&status.applied),
            (Look::One(status), _) => text::text(status),
            (Look::All(found), Output::Yaml) => {
                let documents = found.iter().filter_map(|(_, status)| {
                    Some(to_yaml(&status.as_ref().ok()?.as_ref()?.applied))
                });
                documents.collect::<Vec<_>>().join("---\n")
            }
            (Look::All(found), _) => text::list(&found.iter().map(row).collect::<Vec<_>>()),
        }
    }

    fn json(&self, look: &Look) -> Result<Value, Failure> {
        let mut value = match look {
            Look::One(status) => serde_json::to_value(status)
                .map_err(|error| Failure::new(ExitCode::Error, format!("write JSON: {error}")))?,
            Look::All(found) => {
                let topologies: Vec<Value> = found.iter().map(summary).collect();
                json!({ "formatVersion": FORMAT_VERSION, "topologies": topologies })
            }
        };
        if self.watch.is_some() {
            value["time"] = journal::now().into();
        }
        Ok(value)
    }
}

/// Leaves one cube, or one of its lists.
fn narrow(status: &mut Status, what: &str) -> Result<(), Failure> {
    let (cube, list) = what
        .split_once('/')
        .map_or((what, None), |(cube, list)| (cube, Some(list)));
    let name = status.name.clone();
    status.cubes.retain(|name, _| name.as_str() == cube);
    let Some(found) = status.cubes.values_mut().next() else {
        let message = format!("topology {name} has no cube `{cube}`");
        return Err(Failure::new(ExitCode::Error, message));
    };
    if let Some(list) = list {
        found.lists.retain(|name, _| name == list);
        if found.lists.is_empty() {
            let message = format!("cube/{cube}: a {} has no list `{list}`", found.kind);
            return Err(Failure::new(ExitCode::Error, message));
        }
    }
    Ok(())
}

/// Seconds, with or without a fraction.
fn period(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .trim_end_matches('s')
        .parse()
        .map_err(|_| "write seconds, as in 2 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|period| (Duration::from_millis(10)..=Duration::from_secs(86_400)).contains(period))
        .ok_or_else(|| "from 0.01 to 86400 seconds".to_owned())
}

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
        since: None,
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
            "observedGeneration": status.observed_generation,
            "lastAppliedRevision": status.last_applied_revision,
            "lastAttemptedRevision": status.last_attempted_revision,
            "lastAttemptedResult": status.last_attempted_result,
            "cubes": status.cubes.len(),
            "links": status.applied.spec.links.len(),
            "namespaces": status.namespaces.len(),
            "pending": status.pending,
        }),
        other => json!({ "topology": name, "conditions": [unknown(other)] }),
    }
}
