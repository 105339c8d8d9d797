//! What `pcn` did and what it saw, for people and scripts: the history of transactions and the
//! stream of events. Nothing is decided by it, and nothing fails because it cannot be written.

mod events;
mod history;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use topology_schema::{Name, Topology};

pub use self::{
    events::{Event, Events, Follow, Kind},
    history::{Conclusion, DEFAULT_STATE, History, Summary, Transaction, Who},
};
use crate::{change::Changes, digest::Digest, kernel::linux::lock, topology_text};

/// Objects named one by one in events of one operation; more are counted.
const NAMED: usize = 20;

/// What changes a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Command {
    /// `pcn apply`
    Apply,
    /// `pcn destroy`
    Destroy,
    /// `pcn watch`
    Watch,
    /// `pcn confirm`
    Confirm,
    /// `pcn rollback`, or nobody confirmed in time
    Rollback,
}

impl Command {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Destroy => "destroy",
            Self::Watch => "watch",
            Self::Confirm => "confirm",
            Self::Rollback => "rollback",
        }
    }
}

/// The journal of one host and one bpffs.
#[derive(Clone, Debug)]
pub struct Journal {
    history: History,
    events: Events,
    warn: fn(&str),
    warned: Arc<AtomicBool>,
}

impl Journal {
    /// With history below `state`, of topologies pinned below `bpffs`. At most `keep` transactions
    /// stay per topology; 0 writes no history. What cannot be written is told to `warn`, once.
    pub fn new(state: &Path, bpffs: &Path, keep: usize, warn: fn(&str)) -> Self {
        Self {
            history: History::new(state, bpffs, keep),
            events: Events::new(Path::new(lock::DIRECTORY), bpffs),
            warn,
            warned: Arc::default(),
        }
    }

    /// The same with events in another directory than beside the locks.
    pub fn with_events_in(self, directory: &Path, bpffs: &Path) -> Self {
        Self {
            events: Events::new(directory, bpffs),
            ..self
        }
    }

    /// Past transactions.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Past events, and those to come.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Begins to change a topology; `wanted` is `None` to remove it. Nothing is written before the
    /// operation starts or finishes. Log records in between carry its id, for as long as the
    /// operation lives on this thread.
    pub fn begin(
        &self,
        topology: &Name,
        command: Command,
        source: Option<&str>,
        wanted: Option<Arc<Topology>>,
    ) -> Operation {
        let id = operation_id();
        // At the level of errors, so that every filter that lets anything through lets it
        // through.
        let span = tracing::error_span!("operation", op = %id, command = command.name(), %topology);
        Operation {
            journal: self.clone(),
            transaction: Transaction {
                number: 0,
                time: now(),
                operation: id,
                topology: topology.clone(),
                command,
                who: who(),
                process: std::process::id(),
                pcn_version: env!("CARGO_PKG_VERSION").to_owned(),
                source: source.map(ToOwned::to_owned),
                revision: None,
                result: Conclusion::Running,
                message: String::new(),
                duration_ms: 0,
                summary: Summary::default(),
                changes: raw(&[(); 0]),
                drift: Value::Array(Vec::new()),
                pending: Value::Array(Vec::new()),
                before: None,
                wanted,
            },
            begun: Instant::now(),
            started: false,
            finished: false,
            _span: span.entered(),
        }
    }

    /// Tells of something outside of an operation.
    pub fn emit(&self, topology: &Name, kind: Kind, address: Option<&str>, message: &str) {
        self.write(&Event {
            time: now(),
            op: None,
            kind,
            topology: topology.clone(),
            command: None,
            address: address.map(ToOwned::to_owned),
            message: message.to_owned(),
        });
    }

    fn write(&self, event: &Event) {
        let (kind, colon) = (
            event.kind.name(),
            if event.message.is_empty() { "" } else { ": " },
        );
        tracing::info!(
            event = kind,
            address = event.address,
            "{kind}{colon}{}",
            event.message
        );
        if let Err(error) = self.events.append(event) {
            self.complain("events", &self.events.path(&event.topology), &error);
        }
    }

    fn complain(&self, what: &str, path: &Path, error: &std::io::Error) {
        tracing::debug!(%error, path = %path.display(), "{what} not written");
        if !self.warned.swap(true, Ordering::Relaxed) {
            (self.warn)(&format!(
                "warning: {what} cannot be written to {}: {error}; everything else works without",
                path.display()
            ));
        }
    }
}

/// One attempt to change a topology. Dropped before it is finished, it is noted as interrupted;
/// dropped before it started, it never was.
#[derive(Debug)]
pub struct Operation {
    journal: Journal,
    transaction: Transaction,
    begun: Instant,
    started: bool,
    finished: bool,
    _span: tracing::span::EnteredSpan,
}

impl Operation {
    /// 16 hexadecimal digits that no other operation has.
    pub fn id(&self) -> &str {
        &self.transaction.operation
    }

    /// The kernel is about to be changed from what was applied `before`.
    pub fn start(&mut self, changes: &Changes, before: Option<Arc<Topology>>) {
        let transaction = &mut self.transaction;
        transaction.summary = Summary::of(changes);
        transaction.changes = raw(&changes.changes);
        transaction.drift = json(&changes.drift);
        transaction.pending = json(&changes.pending);
        transaction.before = before;
        transaction.revise();
        self.started = true;
        let text = self.transaction.summary.to_string();
        self.emit(Kind::Started, None, &text);
        let drift = changes.drift.iter();
        self.emit_all(
            Kind::DriftFound,
            drift.map(|drift| (drift.address.as_str(), drift.reason.as_str())),
        );
        self.journal.create(&mut self.transaction);
    }

    /// It is over. The first line of `message` says what there is to say beyond the result.
    pub fn finish(mut self, result: Conclusion, message: &str) {
        self.conclude(result, message);
    }

    /// Tells of something that is part of the operation.
    pub fn emit(&self, kind: Kind, address: Option<&str>, message: &str) {
        self.journal.write(&Event {
            time: now(),
            op: Some(self.transaction.operation.clone()),
            kind,
            topology: self.transaction.topology.clone(),
            command: Some(self.transaction.command),
            address: address.map(ToOwned::to_owned),
            message: message.to_owned(),
        });
    }

    fn emit_all<'a>(&self, kind: Kind, objects: impl ExactSizeIterator<Item = (&'a str, &'a str)>) {
        let count = objects.len();
        for (address, message) in objects.take(NAMED) {
            self.emit(kind, Some(address), message);
        }
        if count > NAMED {
            self.emit(kind, None, &format!("and {} more", count - NAMED));
        }
    }

    fn conclude(&mut self, result: Conclusion, message: &str) {
        self.finished = true;
        let transaction = &mut self.transaction;
        transaction.result = result;
        transaction.message = message.to_owned();
        transaction.duration_ms = self.begun.elapsed().as_millis() as u64;
        transaction.revise();
        if self.transaction.number == 0 {
            self.journal.create(&mut self.transaction);
        } else {
            self.journal.replace(&self.transaction);
        }
        if result == Conclusion::Applied {
            let waiting = texts(&self.transaction.pending);
            self.emit_all(
                Kind::Pending,
                waiting.iter().map(|(a, b)| (a.as_str(), b.as_str())),
            );
            // Drift that the topology says to leave is only shown.
            let drift = self.transaction.drift.as_array().into_iter().flatten();
            let repaired = drift.filter(|change| change["mode"] != "warn").cloned();
            let repaired = texts(&Value::Array(repaired.collect()));
            self.emit_all(
                Kind::DriftRepaired,
                repaired.iter().map(|(a, b)| (a.as_str(), b.as_str())),
            );
        }
        let removed = self.transaction.wanted.is_none();
        let took = format!("in {:.3} s", self.begun.elapsed().as_secs_f64());
        let first = message.lines().next().unwrap_or(&took);
        self.emit(Kind::of(result, removed), None, first);
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.started && !self.finished {
            self.conclude(Conclusion::Interrupted, "it came to no end");
        }
    }
}

impl Journal {
    fn create(&self, transaction: &mut Transaction) {
        match self.history.create(transaction) {
            Ok(number) => transaction.number = number,
            Err(error) => self.complain_of_history(transaction, &error),
        }
    }

    fn replace(&self, transaction: &Transaction) {
        if let Err(error) = self.history.replace(transaction) {
            self.complain_of_history(transaction, &error);
        }
    }

    fn complain_of_history(&self, transaction: &Transaction, error: &std::io::Error) {
        let path: PathBuf = self.history.directory(&transaction.topology);
        self.complain("history", &path, error);
    }
}

/// Stands for a topology's document: the same document has the same.
pub fn revision(topology: &Arc<Topology>) -> String {
    let text = topology_text::of(topology);
    let text = text.as_ref().map_or("", |text| text.get());
    let mut digest = Digest::new();
    digest.add(text.as_bytes());
    digest.text(12)
}

/// The time, as it stands in files and outputs: RFC 3339, UTC, milliseconds. Such texts sort as
/// the times do.
pub fn now() -> String {
    time_text(SystemTime::now())
}

/// The same of any time.
pub fn time_text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn operation_id() -> String {
    let mut digest = Digest::new();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    digest.add(&since.unwrap_or_default().as_nanos().to_le_bytes());
    digest.add(&std::process::id().to_le_bytes());
    // Several operations of one process may begin within a tick of the clock.
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    digest.add(&COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    digest.hex(16)
}

/// Who runs this process.
pub fn who() -> Who {
    let uid = Uid::effective();
    let user = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let sudo = std::env::var("SUDO_USER")
        .ok()
        .filter(|name| !name.is_empty());
    Who {
        uid: uid.as_raw(),
        user,
        sudo,
    }
}

/// Values of ours always become JSON.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// The same as text.
fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_default()
}

/// Addresses and reasons of a list of changes or pending objects.
fn texts(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list.as_array()
        .into_iter()
        .flatten()
        .map(|item| (text(&item["address"]), text(&item["reason"])))
        .collect()
}

#[cfg(test)]
mod tests;
