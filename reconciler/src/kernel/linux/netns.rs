//! Named network namespaces, laid out as `ip netns` lays them out: a namespace `NAME` is an nsfs file bind-mounted on
//! `/run/netns/NAME`, so both tools see each other's work.
//!
//! A thread that enters a namespace is started for that and ends with it; no thread of the caller ever changes its
//! namespace, and nothing forks.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    panic,
    path::{Path, PathBuf},
    thread,
};

use caps::Capability;
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs, statfs},
};

use super::privilege::Raised;

#[cfg(test)]
mod tests;

/// Where named namespaces live.
const DIRECTORY: &str = "/run/netns";
/// The namespace of the thread that opens it.
const OF_THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// Why something about a network namespace could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be a file name in `/run/netns`.
    #[error(
        "`{name}` cannot name a network namespace: it must be 1 to 255 bytes, without `/` and NUL, and not `.` or `..`"
    )]
    Name {
        /// The name as given.
        name: String,
    },
    /// There is a file, but no namespace is mounted on it; left behind by a creator that was killed half-way.
    #[error("{path} is a file, but no network namespace is mounted on it", path = path.display())]
    NotANamespace {
        /// The file.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{call} {object}: {source}")]
    Call {
        /// What was being done, for example `bind mount a new network namespace on`.
        call: &'static str,
        /// The file, namespace or value it was done to.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// True if the namespace (or the file behind it) is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Name { .. } => false,
            Self::NotANamespace { .. } => true,
            Self::Call { source, .. } => source.kind() == io::ErrorKind::NotFound,
        }
    }

    /// True if the namespace was there already.
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

/// Creates the namespace `name`, empty but for its loopback interface, which is down.
///
/// A file without a namespace on it, as a killed creator leaves behind, is taken over.
///
/// # Errors
///
/// [`Error::is_exists`] if there is such a namespace; otherwise the call that failed, and then no file stays behind.
pub fn create(name: &str) -> Result<(), Error> {
    create_with(name, || Ok(()))
}

/// The same, and does something inside before the namespace has its name: a creator that is killed leaves either
/// nothing or a namespace that is prepared.
///
/// # Errors
///
/// As for [`create`]; or that of `prepare`, and then there is no such namespace.
pub fn create_with<E: From<Error> + Send>(
    name: &str,
    prepare: impl FnOnce() -> Result<(), E> + Send,
) -> Result<(), E> {
    let path = path(name)?;
    // Held until the namespace is mounted: two creators of one name cannot meet between file and mount.
    let _lock = prepare_directory()?;
    on_a_thread(name, || {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(failed("unshare the network for namespace", name))?;
        prepare()?;
        mount_this_thread(&path).map_err(E::from)
    })?
}

/// Gives the calling thread's namespace a name.
fn mount_this_thread(path: &Path) -> Result<(), Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path);
    match file {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_leftover(path) => {}
        other => drop(other.map_err(failed("create", path))?),
    }
    mount(
        Some(OF_THIS_THREAD),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(failed("bind mount a new network namespace on", path))
    .inspect_err(|_| {
        // The first error is the one to tell; a file that stays is taken over by the next creator.
        let _ = fs::remove_file(path);
    })
}

/// Deletes the namespace `name`: it leaves the directory at once, and the kernel frees it, with every interface in it,
/// when the last process or socket inside has gone. One that is already gone is no error.
///
/// # Errors
///
/// The call that failed.
pub fn delete(name: &str) -> Result<(), Error> {
    let path = path(name)?;
    let _admin = Raised::admin();
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: nothing is mounted there, only the file is left.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(failed("unmount", &path)(errno)),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the file of a namespace that is gone, as a killed [`delete`] leaves it behind; nothing else.
pub fn remove_leftover(name: &str) {
    if let Ok(path) = path(name)
        && is_leftover(&path)
    {
        // Without a namespace on it, it is in nobody's way.
        let _ = fs::remove_file(&path);
    }
}

/// Whether there is a namespace `name`. A file in `/run/netns` without a namespace mounted on it does not count.
pub fn exists(name: &str) -> bool {
    path(name)
        .is_ok_and(|path| statfs(&path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC))
}

/// Processes whose network is the namespace `name`, in the order of their numbers; none if it cannot be told.
pub fn processes(name: &str) -> Vec<u32> {
    // Whose capabilities are more than ours is seen with it only.
    let _ptrace = Raised::new(Capability::CAP_SYS_PTRACE);
    let identity = |found: Metadata| (found.dev(), found.ino());
    let Some(namespace) = path(name)
        .ok()
        .and_then(|path| fs::metadata(path).ok())
        .map(identity)
    else {
        return Vec::new();
    };
    let mut found: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process: &u32| {
            fs::metadata(format!("/proc/{process}/ns/net"))
                .is_ok_and(|found| identity(found) == namespace)
        })
        .collect();
    found.sort_unstable();
    found
}

/// Opens the namespace `name`. The descriptor keeps it alive and can be given to the kernel as the place where an
/// interface is to go; it is closed on exec.
///
/// # Errors
///
/// [`Error::is_not_found`] if there is no such namespace.
pub fn open(name: &str) -> Result<OwnedFd, Error> {
    let path = path(name)?;
    let file = File::open(&path).map_err(failed("open network namespace", &path))?;
    let found = fstatfs(&file).map_err(failed("look at network namespace", &path))?;
    if found.filesystem_type() == NSFS_MAGIC {
        Ok(file.into())
    } else {
        Err(Error::NotANamespace { path })
    }
}

/// What tells a namespace from others that have or had its name; `None` if there is none.
pub fn identity(name: &str) -> Option<u64> {
    let namespace = File::from(open(name).ok()?);
    Some(namespace.metadata().ok()?.ino())
}

/// Runs `work` on a thread of its own inside the namespace `name`, and returns what it returns. A descriptor opened by
/// `work` stays in that namespace; so do sockets. A panic in `work` is passed on.
///
/// # Errors
///
/// [`Error::is_not_found`] if there is no such namespace; otherwise why it could not be entered. Then `work` has not
/// run.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let namespace = open(name)?;
    on_a_thread(name, || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)
            .map_err(failed("enter network namespace", name))?;
        Ok(work())
    })?
}

/// Writes `value` to the kernel setting `path` (below `/proc/sys`, with slashes: `net/ipv4/ip_forward`), as seen from
/// the given namespace, or from the calling thread's own for `None`.
///
/// # Errors
///
/// That the namespace cannot be entered, or that the setting is missing ([`Error::is_not_found`]) or refuses the value.
pub fn write_sysctl(namespace: Option<&str>, path: &str, value: &str) -> Result<(), Error> {
    let write = || fs::write(format!("/proc/sys/{path}"), value);
    let (written, place) = match namespace {
        Some(name) => (inside(name, write)?, format!(" in namespace {name}")),
        None => (write(), String::new()),
    };
    written.map_err(|source| Error::Call {
        call: "write",
        object: format!("{value} to sysctl {path}{place}"),
        source,
    })
}

/// The file of the namespace `name`.
fn path(name: &str) -> Result<PathBuf, Error> {
    if name.is_empty()
        || name.len() > 255
        || name == "."
        || name == ".."
        || name.contains(['/', '\0'])
    {
        return Err(Error::Name {
            name: name.to_owned(),
        });
    }
    Ok(Path::new(DIRECTORY).join(name))
}

/// Makes [`DIRECTORY`] what `ip netns` expects, a shared mount, so that a namespace that is unmounted here goes away in
/// every mount namespace. Returns the directory, locked against other creators (`ip netns` takes the same lock).
fn prepare_directory() -> Result<File, Error> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(DIRECTORY);
    made.map_err(failed("create", Path::new(DIRECTORY)))?;
    let directory = File::open(DIRECTORY).map_err(failed("open", Path::new(DIRECTORY)))?;
    directory
        .lock()
        .map_err(failed("lock", Path::new(DIRECTORY)))?;
    let _admin = Raised::admin();
    let share = || {
        mount(
            None::<&str>,
            DIRECTORY,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    let shared = match share() {
        // It is not a mount point yet.
        Err(Errno::EINVAL) => {
            let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(DIRECTORY), DIRECTORY, None::<&str>, bind, None::<&str>)
                .map_err(failed("bind mount onto itself", Path::new(DIRECTORY)))?;
            share()
        }
        other => other,
    };
    shared.map_err(failed("make a shared mount of", Path::new(DIRECTORY)))?;
    Ok(directory)
}

/// Whether `path` is an empty regular file without a namespace on it.
fn is_leftover(path: &Path) -> bool {
    let empty_file =
        fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0);
    empty_file && statfs(path).is_ok_and(|found| found.filesystem_type() != NSFS_MAGIC)
}

/// Runs `work` on a new thread and waits for it.
fn on_a_thread<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let privileged = || {
            let _admin = Raised::admin();
            work()
        };
        let thread = thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, privileged)
            .map_err(failed("start a thread for namespace", name))?;
        Ok(thread
            .join()
            .unwrap_or_else(|panicked| panic::resume_unwind(panicked)))
    })
}

/// The error of a failed `call` on `object`.
fn failed<E: Into<io::Error>>(
    call: &'static str,
    object: impl AsRef<Path>,
) -> impl FnOnce(E) -> Error {
    move |source| Error::Call {
        call,
        object: object.as_ref().display().to_string(),
        source: source.into(),
    }
}
