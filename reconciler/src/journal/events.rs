//! The stream of events: a line of JSON each, in a file per topology beside its lock.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use serde::{Deserialize, Serialize};
use topology_schema::Name;

use super::{Command, Conclusion};
use crate::kernel::linux::lock::Scope;

/// Bytes after which a file makes place for another; one older file stays.
const ROTATE_AT: u64 = 1 << 20;
/// Tries to get at a file that another process rotates, a millisecond apart.
const TRIES: usize = 50;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// An operation begins to change the kernel.
    Started,
    /// It reached what was wanted.
    Applied,
    /// It removed the topology.
    Destroyed,
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
    /// Where the kernel differs from what was applied.
    DriftFound,
    /// It does not differ there any more.
    DriftRepaired,
    /// An interface that a topology names came.
    InterfaceAppeared,
    /// It went.
    InterfaceVanished,
    /// The file that is followed changed.
    FileChanged,
    /// The file that is followed is invalid; what runs stays.
    FileInvalid,
    /// Something waits for what is not there.
    Pending,
    /// Applied, until it is confirmed or its time is over.
    AwaitingConfirmation,
    /// Confirmed: it stays.
    Confirmed,
    /// Not confirmed in time, or refused: what was there before is back.
    Reverted,
    /// A check that the topology asks for was passed.
    CheckPassed,
    /// A check that the topology asks for failed.
    CheckFailed,
    /// A packet that a cube was told to report. Not kept in a file.
    Packet,
}

impl Kind {
    /// How an operation ended.
    pub(super) const fn of(conclusion: Conclusion, removed: bool) -> Self {
        match conclusion {
            Conclusion::Running => Self::Started,
            Conclusion::Applied if removed => Self::Destroyed,
            Conclusion::Applied => Self::Applied,
            Conclusion::NotVerified => Self::NotVerified,
            Conclusion::RolledBack => Self::RolledBack,
            Conclusion::Stuck => Self::Stuck,
            Conclusion::Failed => Self::Failed,
            Conclusion::Interrupted => Self::Interrupted,
        }
    }

    /// Its name in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Applied => "applied",
            Self::Destroyed => "destroyed",
            Self::NotVerified => "notVerified",
            Self::RolledBack => "rolledBack",
            Self::Stuck => "stuck",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::DriftFound => "driftFound",
            Self::DriftRepaired => "driftRepaired",
            Self::InterfaceAppeared => "interfaceAppeared",
            Self::InterfaceVanished => "interfaceVanished",
            Self::FileChanged => "fileChanged",
            Self::FileInvalid => "fileInvalid",
            Self::Pending => "pending",
            Self::AwaitingConfirmation => "awaitingConfirmation",
            Self::Confirmed => "confirmed",
            Self::Reverted => "reverted",
            Self::CheckPassed => "checkPassed",
            Self::CheckFailed => "checkFailed",
            Self::Packet => "packet",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When: RFC 3339, UTC.
    pub time: String,
    /// Which operation, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// What.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Of which topology.
    pub topology: Name,
    /// What did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// Of which object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What there is to say.
    pub message: String,
}

/// Files of events.
#[derive(Clone, Debug)]
pub struct Events {
    directory: PathBuf,
    scope: Scope,
}

impl Events {
    /// Below `directory`, for topologies pinned below `bpffs`.
    pub fn new(directory: &Path, bpffs: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            scope: Scope::new(bpffs),
        }
    }

    /// The file that a topology's events are added to.
    pub fn path(&self, topology: &Name) -> PathBuf {
        let stem = self.scope.file_stem(topology);
        self.directory.join(format!("{stem}.events"))
    }

    /// Topologies that have events, also those that do not run any more.
    pub fn topologies(&self) -> io::Result<Vec<Name>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names: Vec<Name> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                self.scope.topology(name.strip_suffix(".events")?)
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// Past events of a topology, the oldest first. Lines that are no events are left out.
    pub fn past(&self, topology: &Name) -> io::Result<Vec<Event>> {
        self.follow(topology).read_new()
    }

    /// Past events of a topology, then those to come.
    pub fn follow(&self, topology: &Name) -> Follow {
        Follow {
            path: self.path(topology),
            file: None,
            older: Some(older(&self.path(topology))),
            rest: Vec::new(),
        }
    }

    /// Adds an event, with a single write: lines of several processes do not mix.
    pub(super) fn append(&self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let path = self.path(&event.topology);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.directory)?;
        let mut file = open_current(&path)?;
        file.write_all(&line)?;
        if file.metadata()?.len() >= ROTATE_AT {
            drop(file);
            rotate(&path)?;
        }
        Ok(())
    }
}

/// The file, not to be rotated while it is held. One that was rotated while it was being opened
/// is not the file any more.
fn open_current(path: &Path) -> io::Result<Flock<File>> {
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    };
    for _ in 0..TRIES {
        match Flock::lock(open()?, FlockArg::LockSharedNonblock) {
            Ok(file) if is_at(&file, path) => return Ok(file),
            Ok(_) => {}
            Err((_, Errno::EWOULDBLOCK)) => std::thread::sleep(Duration::from_millis(1)),
            Err((_, errno)) => return Err(errno.into()),
        }
    }
    Err(io::Error::new(
        ErrorKind::TimedOut,
        "another process keeps it locked",
    ))
}

/// Makes place, if nobody else is writing or did so already.
fn rotate(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    if let Ok(file) = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        && is_at(&file, path)
        && file.metadata()?.len() >= ROTATE_AT
    {
        fs::rename(path, older(path))?;
    }
    Ok(())
}

fn older(path: &Path) -> PathBuf {
    path.with_added_extension("1")
}

/// True if a path still leads to an open file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Reads events as they come.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: Option<File>,
    /// The rotated file, until it was read.
    older: Option<PathBuf>,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Follow {
    /// Forgets everything that is there now.
    pub fn skip(&mut self) -> io::Result<()> {
        self.older = None;
        if let Some(mut file) = open_to_read(&self.path)? {
            file.seek(io::SeekFrom::End(0))?;
            self.file = Some(file);
        }
        Ok(())
    }

    /// What came since the last call.
    pub fn read_new(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        if let Some(older) = self.older.take() {
            // Opened first: should it be rotated now, nothing in it is missed.
            self.file = open_to_read(&self.path)?;
            if let Some(mut file) = open_to_read(&older)?
                && !self.file.as_ref().is_some_and(|file| is_at(file, &older))
            {
                self.read(&mut file, &mut events)?;
            }
        }
        loop {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => match open_to_read(&self.path)? {
                    Some(file) => file,
                    None => return Ok(events),
                },
            };
            // Looked at before the rest is read: nothing is added to a file that was moved away.
            let current = is_at(&file, &self.path);
            self.read(&mut file, &mut events)?;
            if current {
                self.file = Some(file);
                return Ok(events);
            }
        }
    }

    fn read(&mut self, file: &mut File, events: &mut Vec<Event>) -> io::Result<()> {
        file.read_to_end(&mut self.rest)?;
        let end = self.rest.iter().rposition(|byte| *byte == b'\n');
        let whole: Vec<u8> = self.rest.drain(..end.map_or(0, |end| end + 1)).collect();
        let lines = whole.split(|byte| *byte == b'\n');
        events.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
        Ok(())
    }
}

fn open_to_read(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
