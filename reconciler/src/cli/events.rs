//! `pcn events`

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use clap::{ArgAction, builder::BoolishValueParser};
use serde_json::json;
use topology_schema::Name;

use super::{
    CommandResult, ExitCode, FORMAT_VERSION, Failure, Format,
    host::{self, HostArgs},
    output, render,
};
use crate::{
    journal::{self, Event, Events, Follow},
    kernel::linux::{lock, pause::Pause},
    reports::Reports,
};

/// How often files are looked at while they are followed.
const PERIOD: Duration = Duration::from_millis(200);

/// Show what happened to topologies: applies, failures, drift, interfaces that came and went; with
/// `--follow` also packets that firewalls are told to log
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Name of the topology; all without it
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    /// Go on with what happens from now on, until interrupted
    #[arg(long, env = "PCN_FOLLOW", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    follow: bool,
    /// Leave out what is longer ago: 10m, 24h, or 0 for nothing of the past
    #[arg(long, value_name = "DURATION", env = "PCN_SINCE", value_parser = host::duration)]
    since: Option<Duration>,
    /// Form of the result; JSON is an object a line, the first of which has the version
    #[arg(short, long, value_enum, default_value_t, env = "PCN_OUTPUT")]
    output: Format,
    #[command(flatten)]
    host: HostArgs,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        // Before anything is printed, so that no signal is too early.
        let pause = Pause::new().map_err(|error| unreadable(&error))?;
        let events = Events::new(Path::new(lock::DIRECTORY), &self.host.bpffs);
        let mut reader = Reader::new(events, self.name.clone());
        let oldest = self.since.map(|since| {
            let time = SystemTime::now().checked_sub(since);
            journal::time_text(time.unwrap_or(SystemTime::UNIX_EPOCH))
        });
        if self.output == Format::Json {
            output::print_line(&json!({ "formatVersion": FORMAT_VERSION, "type": "version" }))?;
        }
        let mut past = reader.read()?;
        past.retain(|event| oldest.as_ref().is_none_or(|oldest| event.time >= *oldest));
        if past.is_empty() && !self.follow && self.output == Format::Text {
            output::inform("No events.");
        }
        self.print(&past)?;
        while self.follow && pause.wait(PERIOD) {
            let mut events = reader.read()?;
            events.extend(reader.packets(&self.host.bpffs));
            self.print(&events)?;
        }
        Ok(ExitCode::Done)
    }

    fn print(&self, events: &[Event]) -> Result<(), Failure> {
        match self.output {
            Format::Text => output::print(&render::history::events(events)),
            Format::Json => events.iter().try_for_each(|event| {
                output::print_line(&serde_json::to_value(event).unwrap_or_default())
            }),
        }
    }
}

/// Reads the files of one topology, or of all that have one.
struct Reader {
    events: Events,
    only: Option<Name>,
    follows: BTreeMap<Name, Follow>,
    reports: BTreeMap<Name, Reports>,
}

impl Reader {
    fn new(events: Events, only: Option<Name>) -> Self {
        Self {
            events,
            only,
            follows: BTreeMap::new(),
            reports: BTreeMap::new(),
        }
    }

    /// What is new since the last call, the oldest first.
    fn read(&mut self) -> Result<Vec<Event>, Failure> {
        let names = match &self.only {
            Some(name) => vec![name.clone()],
            None => self
                .events
                .topologies()
                .map_err(|error| unreadable(&error))?,
        };
        let mut all = Vec::new();
        for name in names {
            let follow = self
                .follows
                .entry(name)
                .or_insert_with_key(|name| self.events.follow(name));
            all.extend(follow.read_new().map_err(|error| unreadable(&error))?);
        }
        // Stable: what one process wrote in a millisecond stays in its order.
        all.sort_by(|a, b| a.time.cmp(&b.time));
        Ok(all)
    }
}

impl Reader {
    /// Packets that cubes of the same topologies have reported meanwhile.
    fn packets(&mut self, root: &Path) -> Vec<Event> {
        let mut packets = Vec::new();
        for name in self.follows.keys() {
            let reports = self
                .reports
                .entry(name.clone())
                .or_insert_with(|| Reports::new(root, name));
            let had_obstacle = reports.obstacle().is_some();
            packets.extend(reports.read());
            if let Some(holder) = reports.obstacle().filter(|_| !had_obstacle) {
                output::note(&format!(
                    "Packets that {name} reports go to one reader, which is {holder}. This one shows them once that has ended."
                ));
            }
        }
        packets
    }
}

fn unreadable(error: &io::Error) -> Failure {
    host::unreadable("events", Path::new(lock::DIRECTORY), error)
}
