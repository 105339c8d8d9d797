//! The history: a file per transaction, the newest kept. Not authoritative.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use topology_schema::{Name, Topology};

use super::Command;
use crate::{
    change::{Action, Changes},
    kernel::linux::lock::Scope,
    topology_text,
};

/// Where the history is, if nothing else is said.
pub const DEFAULT_STATE: &str = "/var/lib/pcn";

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Conclusion {
    /// Not yet; or nobody could say any more.
    Running,
    /// Everything was done, and the kernel says so.
    Applied,
    /// Everything was done, but the kernel shows something else.
    NotVerified,
    /// It failed, and what was there is back.
    RolledBack,
    /// It failed, and what was there is not back.
    Stuck,
    /// It failed before anything was changed.
    Failed,
    /// It came to no end.
    Interrupted,
}

impl Conclusion {
    /// All, in their order.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Applied,
        Self::NotVerified,
        Self::RolledBack,
        Self::Stuck,
        Self::Failed,
        Self::Interrupted,
    ];

    /// Its name in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Applied => "applied",
            Self::NotVerified => "notVerified",
            Self::RolledBack => "rolledBack",
            Self::Stuck => "stuck",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// True if what was wanted was not reached.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::Running | Self::Applied)
    }
}

/// Who asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Effective user id.
    pub uid: u32,
    /// That user's name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Who became that user with sudo, as sudo says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<String>,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.sudo, &self.user) {
            (Some(sudo), _) => f.write_str(sudo),
            (None, Some(user)) => f.write_str(user),
            (None, None) => write!(f, "uid {}", self.uid),
        }
    }
}

/// How many changes of each action, drift included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Created.
    pub create: usize,
    /// Updated in place.
    pub update: usize,
    /// Replaced.
    pub replace: usize,
    /// Deleted.
    pub delete: usize,
}

impl Summary {
    /// Counts.
    pub fn of(changes: &Changes) -> Self {
        Self {
            create: changes.count(Action::Create),
            update: changes.count(Action::Update),
            replace: changes.count(Action::Replace),
            delete: changes.count(Action::Delete),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.create, "create"),
            (self.update, "update"),
            (self.replace, "replace"),
            (self.delete, "delete"),
        ];
        let counts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, action)| format!("{count} to {action}"))
            .collect();
        f.write_str(&counts.join(", "))
    }
}

/// One attempt to change a topology.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// Counts from 1 for each topology; 0 before it is written. The file's name has it.
    #[serde(skip)]
    pub number: u64,
    /// When it began: RFC 3339, UTC.
    pub time: String,
    /// Id of the operation, as in events and logs.
    pub operation: String,
    /// Which topology.
    pub topology: Name,
    /// What did it.
    pub command: Command,
    /// Who asked for it.
    pub who: Who,
    /// The process.
    pub process: u32,
    /// Version of that `pcn`.
    pub pcn_version: String,
    /// The file.
    pub source: Option<String>,
    /// [`revision`](super::revision) of what was wanted.
    pub revision: Option<String>,
    /// How it ended.
    pub result: Conclusion,
    /// What there is to say about that.
    pub message: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Changes in numbers.
    pub summary: Summary,
    /// Changes that the file asked for.
    pub changes: Box<RawValue>,
    /// Drift that was found.
    pub drift: Value,
    /// Objects that waited.
    pub pending: Value,
    /// What was applied before.
    #[serde(serialize_with = "topology_text::serialize_optional")]
    pub before: Option<Arc<Topology>>,
    /// What was wanted; `None` where the topology was to be removed.
    #[serde(serialize_with = "topology_text::serialize_optional")]
    pub wanted: Option<Arc<Topology>>,
}

impl Transaction {
    /// Says which revision was wanted. Taking the topology's hash takes a while, so it is done when it is to be written.
    pub(super) fn revise(&mut self) {
        if self.revision.is_none() {
            self.revision = self.wanted.as_ref().map(super::revision);
        }
    }

    /// When it was over: RFC 3339, UTC; `None` while it runs.
    pub fn ended(&self) -> Option<String> {
        let time = self.ended_at()?;
        (self.result != Conclusion::Running).then(|| super::time_text(time))
    }

    /// The same as a time, for arithmetic.
    pub fn ended_at(&self) -> Option<SystemTime> {
        let begun = humantime::parse_rfc3339(&self.time).ok()?;
        begun.checked_add(Duration::from_millis(self.duration_ms))
    }

    /// What was applied once it was over: `Err` if nobody knows, `Ok(None)` if nothing was.
    pub fn after(&self) -> Result<Option<&Topology>, Conclusion> {
        match self.result {
            Conclusion::Applied | Conclusion::NotVerified => Ok(self.wanted.as_deref()),
            Conclusion::RolledBack | Conclusion::Failed => Ok(self.before.as_deref()),
            Conclusion::Running | Conclusion::Stuck | Conclusion::Interrupted => Err(self.result),
        }
    }
}

/// Past transactions.
#[derive(Clone, Debug)]
pub struct History {
    state: PathBuf,
    scope: Scope,
    keep: usize,
}

impl History {
    /// Below `state`, for topologies pinned below `bpffs`.
    pub fn new(state: &Path, bpffs: &Path, keep: usize) -> Self {
        Self {
            state: state.to_owned(),
            scope: Scope::new(bpffs),
            keep,
        }
    }

    /// Where the transactions of a topology are.
    pub fn directory(&self, topology: &Name) -> PathBuf {
        self.state.join(self.scope.file_stem(topology))
    }

    /// Topologies that have a history, also those that do not run any more.
    pub fn topologies(&self) -> io::Result<Vec<Name>> {
        let mut names: Vec<Name> = list(&self.state)?
            .iter()
            .filter_map(|name| self.scope.topology(name))
            .filter(|name| self.numbers(name).is_ok_and(|numbers| !numbers.is_empty()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Numbers of the transactions of a topology, in their order.
    pub fn numbers(&self, topology: &Name) -> io::Result<Vec<u64>> {
        let mut numbers: Vec<u64> = list(&self.directory(topology))?
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads a transaction. One that is broken is an error of kind `InvalidData`.
    pub fn read(&self, topology: &Name, number: u64) -> io::Result<Transaction> {
        let text = fs::read(self.path(topology, number))?;
        let transaction: Transaction = serde_json::from_slice(&text)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(Transaction {
            number,
            ..transaction
        })
    }

    /// Transactions of a topology, the newest first. What cannot be read is left out.
    pub fn newest_first(&self, topology: &Name) -> impl Iterator<Item = Transaction> {
        let numbers = self.numbers(topology).unwrap_or_default();
        numbers.into_iter().rev().filter_map(move |number| {
            let read = self.read(topology, number);
            read.inspect_err(|error| tracing::warn!(number, %error, "transaction not read"))
                .ok()
        })
    }

    /// Writes a transaction under the next number, and removes the oldest.
    pub(super) fn create(&self, transaction: &Transaction) -> io::Result<u64> {
        if self.keep == 0 {
            return Ok(0);
        }
        let directory = self.directory(&transaction.topology);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        let temporary = self.write(transaction)?;
        let numbers = self.numbers(&transaction.topology)?;
        let mut number = numbers.last().map_or(1, |last| last + 1);
        // A hard link fails where a rename would overwrite: no two writers share a number.
        let linked = loop {
            match fs::hard_link(&temporary, self.path(&transaction.topology, number)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                other => break other,
            }
        };
        let removed = fs::remove_file(&temporary);
        linked.and(removed)?;
        self.prune(&transaction.topology, &numbers);
        Ok(number)
    }

    /// Writes a transaction over itself.
    pub(super) fn replace(&self, transaction: &Transaction) -> io::Result<()> {
        let temporary = self.write(transaction)?;
        fs::rename(
            temporary,
            self.path(&transaction.topology, transaction.number),
        )
    }

    /// Writes a temporary file, down to the disk.
    fn write(&self, transaction: &Transaction) -> io::Result<PathBuf> {
        let directory = self.directory(&transaction.topology);
        let path = directory.join(format!(".{}.tmp", transaction.operation));
        let mut file: File = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        let written = file
            .write_all(&serde_json::to_vec(transaction)?)
            .and_then(|()| file.sync_all());
        if let Err(error) = written {
            let _full_disk = fs::remove_file(&path);
            return Err(error);
        }
        Ok(path)
    }

    /// Removes the oldest of those that were there before a new one. The last that was applied
    /// stays, however many failed since.
    fn prune(&self, topology: &Name, before: &[u64]) {
        let surplus = (before.len() + 1).saturating_sub(self.keep);
        let applied = |number: &u64| {
            self.read(topology, *number)
                .is_ok_and(|transaction| transaction.result == Conclusion::Applied)
        };
        let kept = if surplus == 0 {
            None
        } else {
            before.iter().rev().copied().find(applied)
        };
        for number in before.iter().take(surplus) {
            if Some(*number) != kept {
                let _next_time = fs::remove_file(self.path(topology, *number));
            }
        }
    }

    fn path(&self, topology: &Name, number: u64) -> PathBuf {
        self.directory(topology).join(format!("{number:06}.json"))
    }
}

/// Names in a directory; none if there is no such directory.
fn list(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}
