//! One writer at a time per topology: a file lock, which the kernel frees when its holder dies.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::stat::{major, minor},
};
use topology_schema::Name;

use crate::{digest::Digest, kernel};

/// Where lock files are. They stay: removing one would let two writers lock two files.
pub const DIRECTORY: &str = "/run/pcn";
/// How often a busy lock is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The right to change a topology, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// The lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another pcn is changing this topology{}", holder.as_ref().map(|holder| format!(": {holder}")).unwrap_or_default())]
    Busy {
        /// Who, as the holder wrote it down.
        holder: Option<String>,
    },
    /// The file cannot be used.
    #[error(transparent)]
    Failed(#[from] kernel::Error),
}

impl Lock {
    /// Waits for the lock, at most `timeout`; zero does not wait.
    pub fn acquire(bpffs: &Path, topology: &Name, timeout: Duration) -> Result<Self, LockError> {
        Self::wait_for(&path(bpffs, topology), timeout)
    }

    /// The right to write routes from elsewhere into a topology's tables: no plan does that, so it
    /// is another lock.
    pub fn for_routes(bpffs: &Path, topology: &Name, timeout: Duration) -> Result<Self, LockError> {
        Self::wait_for(&path(bpffs, topology).with_extension("routes"), timeout)
    }

    /// The right to take packets out that a topology's cubes report: what one process takes, no other one gets. Does not wait.
    pub fn for_packets(bpffs: &Path, topology: &Name) -> Result<Self, LockError> {
        let path = path(bpffs, topology).with_extension("packets");
        Self::wait_for(&path, Duration::ZERO)
    }

    fn wait_for(path: &Path, timeout: Duration) -> Result<Self, LockError> {
        let deadline = Instant::now() + timeout;
        let mut file = open(path)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut locked) => {
                    // Only for people: the lock itself is the kernel's.
                    let _not_shown = write_holder(&mut locked);
                    return Ok(Self { _file: locked });
                }
                Err((mut unlocked, Errno::EWOULDBLOCK)) => {
                    if Instant::now() >= deadline {
                        return Err(LockError::Busy {
                            holder: read_holder(&mut unlocked),
                        });
                    }
                    std::thread::sleep(RETRY);
                    file = unlocked;
                }
                Err((_, errno)) => {
                    return Err(
                        kernel::Error::Call(format!("lock {}: {errno}", path.display())).into(),
                    );
                }
            }
        }
    }
}

/// Who changes a topology now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process, as the kernel says.
    pub process: u32,
    /// What it wrote down about itself.
    pub text: String,
    /// Since when: the file is written when the lock is taken.
    pub since: Option<SystemTime>,
}

impl Lock {
    /// Who holds a topology's lock; `None` if nobody does. Takes nothing and stands in nobody's
    /// way: the kernel lists its locks.
    pub fn holder(bpffs: &Path, topology: &Name) -> Option<Holder> {
        let mut file = File::open(path(bpffs, topology)).ok()?;
        let metadata = file.metadata().ok()?;
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let process = holder_of(&locks, metadata.dev(), metadata.ino())?;
        Some(Holder {
            process,
            text: read_holder(&mut file).unwrap_or_default(),
            since: metadata.modified().ok(),
        })
    }
}

/// The process that holds a lock on a file, from lines as in
/// `1: FLOCK  ADVISORY  WRITE 1234 00:19:567 0 EOF`. Those that only wait have `->` in front.
fn holder_of(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, process) = (words.next()?, words.nth(2)?);
        (kind == "FLOCK" && words.next()? == file).then(|| process.parse().ok())?
    })
}

/// Tells files of topologies apart that have the same name in different bpffs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What follows the topology's name; empty where nothing else was asked for.
    suffix: String,
}

impl Scope {
    /// Of the topologies pinned below `bpffs`.
    pub fn new(bpffs: &Path) -> Self {
        let suffix = if bpffs == Path::new(super::pins::DEFAULT_ROOT) {
            String::new()
        } else {
            format!(".{}", Digest::of(&[&bpffs.to_string_lossy()]).text(10))
        };
        Self { suffix }
    }

    /// What files about a topology are called, less their extension.
    pub fn file_stem(&self, topology: &Name) -> String {
        format!("{topology}{}", self.suffix)
    }

    /// The topology that a file is about; `None` for those of another scope.
    pub fn topology(&self, file_stem: &str) -> Option<Name> {
        // Names have no dots.
        file_stem.strip_suffix(&self.suffix)?.parse().ok()
    }
}

/// One file per topology and bpffs.
fn path(bpffs: &Path, topology: &Name) -> PathBuf {
    let stem = Scope::new(bpffs).file_stem(topology);
    Path::new(DIRECTORY).join(format!("{stem}.lock"))
}

fn open(path: &Path) -> kernel::Result<File> {
    let failed = |error: std::io::Error| {
        let text = format!("open lock {}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => kernel::Error::Permission(text),
            _ => kernel::Error::Call(text),
        }
    };
    fs::create_dir_all(DIRECTORY).map_err(failed)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed)
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    let command = std::env::args().take(2).collect::<Vec<_>>().join(" ");
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "process {} ({command})", std::process::id())
}

fn read_holder(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_list_of_locks_says_who() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 00:19:5 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 11 00:1a:5 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 12 00:19:5 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 13 00:19:5 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 14 fd:01:6 0 EOF\n";
        assert_eq!(holder_of(locks, 0x19, 5), Some(12));
        assert_eq!(holder_of(locks, 0xfd01, 6), Some(14));
        assert_eq!(holder_of(locks, 0x19, 6), None);
    }
}
