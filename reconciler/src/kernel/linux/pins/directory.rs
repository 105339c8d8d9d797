//! Directories in bpffs that are ours, by descriptor.

use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2},
    sys::{
        stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat},
        statfs::{BPF_FS_MAGIC, fstatfs, statfs},
    },
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};

use super::{failed, kind_of};
use crate::kernel::{Error, Result};

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// An object, pinned.
    File,
    /// A symbolic link.
    Link,
}

/// A directory in a bpffs that belongs to this user and that nobody else may change.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory of all topologies; `None` if it is not there, or not in a bpffs yet.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let Some(fd) = open(AT_FDCWD, path, path, ResolveFlag::RESOLVE_NO_SYMLINKS)? else {
            return Ok(None);
        };
        if !is_in_bpffs(&fd, path)? {
            return Ok(None);
        }
        let this = Self {
            fd,
            path: path.to_owned(),
        };
        let found = this.stat()?;
        this.check_owner(&found)?;
        // In one that is sticky, others can only add what is theirs, and that is refused.
        if found.st_mode & 0o022 != 0 && found.st_mode & libc::S_ISVTX == 0 {
            return Err(Error::Foreign(format!(
                "{} may be written by others; `chmod 0700 {}` makes it safe",
                path.display(),
                path.display()
            )));
        }
        Ok(Some(this))
    }

    /// The same, and makes it with the directories above it.
    pub(super) fn make(path: &Path) -> Result<Self> {
        let above = existing(path);
        if above != path {
            let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS;
            let fd = open(AT_FDCWD, above, above, resolve)?
                .ok_or_else(|| failed("open", above, Errno::ENOENT))?;
            if !is_in_bpffs(&fd, above)? {
                return Err(Error::Foreign(format!(
                    "{} is not in a bpffs",
                    above.display()
                )));
            }
            let mut directory = Self {
                fd,
                path: above.to_owned(),
            };
            for name in path.strip_prefix(above).into_iter().flatten() {
                directory = directory.make_child(&name.to_string_lossy())?;
            }
            return Ok(directory);
        }
        Self::open(path)?
            .ok_or_else(|| Error::Foreign(format!("{} is not in a bpffs", path.display())))
    }

    /// A directory in this one; `None` if it is not there.
    pub(super) fn child(&self, name: &str) -> Result<Option<Self>> {
        let path = self.path.join(name);
        let within = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let Some(fd) = open(self.as_fd(), Path::new(name), &path, within)? else {
            return Ok(None);
        };
        let child = Self { fd, path };
        let found = child.stat()?;
        child.check_owner(&found)?;
        if found.st_mode & 0o077 != 0 {
            return Err(Error::Foreign(format!(
                "{} is open to others; `chmod 0700 {}` makes it safe",
                child.path.display(),
                child.path.display()
            )));
        }
        Ok(Some(child))
    }

    /// The same, and makes it.
    pub(super) fn make_child(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        match mkdirat(self.as_fd(), name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed("create", &path, errno)),
        }
        let made = self.child(name)?;
        made.ok_or_else(|| failed("open", &path, Errno::ENOENT))
    }

    /// Names and kinds of what is in it.
    pub(super) fn entries(&self) -> Result<Vec<(String, Kind)>> {
        let failed = |errno| failed("list", &self.path, errno);
        let again = open(
            self.as_fd(),
            Path::new("."),
            &self.path,
            ResolveFlag::RESOLVE_BENEATH,
        )?
        .ok_or_else(|| failed(Errno::ENOENT))?;
        let mut directory = Dir::from_fd(again).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in directory.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type().and_then(kind_of) {
                Some(kind) => Some(kind),
                None => self.kind(&name)?,
            };
            entries.extend(kind.map(|kind| (name, kind)));
        }
        Ok(entries)
    }

    /// What is there under a name.
    pub(super) fn kind(&self, name: &str) -> Result<Option<Kind>> {
        match fstatat(self.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(
                match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
                    SFlag::S_IFDIR => Kind::Directory,
                    SFlag::S_IFLNK => Kind::Link,
                    _ => Kind::File,
                },
            )),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(failed("look at", &self.path.join(name), errno)),
        }
    }

    /// Removes what is there under a name, if anything is.
    pub(super) fn unlink(&self, name: &str, flags: UnlinkatFlags) -> Result<()> {
        match unlinkat(self.as_fd(), name, flags) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(failed("remove", &self.path.join(name), errno)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn stat(&self) -> Result<FileStat> {
        fstat(self.as_fd()).map_err(|errno| failed("look at", &self.path, errno))
    }

    fn check_owner(&self, found: &FileStat) -> Result<()> {
        if found.st_uid == geteuid().as_raw() {
            return Ok(());
        }
        Err(Error::Foreign(format!(
            "{} belongs to user {}, and pcn runs as user {}",
            self.path.display(),
            found.st_uid,
            geteuid()
        )))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a directory; `None` if it is not there.
fn open(at: impl AsFd, path: &Path, whole: &Path, resolve: ResolveFlag) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    match openat2(at, path, how) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::ELOOP) => Err(is_link(whole)),
        Err(Errno::ENOTDIR) => Err(Error::Foreign(format!(
            "{} is no directory, and was not made by pcn",
            whole.display()
        ))),
        Err(Errno::EXDEV) => Err(Error::Foreign(format!(
            "{} is a mount of its own, and was not made by pcn",
            whole.display()
        ))),
        Err(Errno::EACCES) => Err(Error::Permission(format!(
            "open {}: {}{}",
            whole.display(),
            Errno::EACCES.desc(),
            owner(whole)
        ))),
        Err(errno) => Err(failed("open", whole, errno)),
    }
}

/// Whose a directory is that cannot be opened.
fn owner(path: &Path) -> String {
    match path.symlink_metadata() {
        Ok(found) => format!(" (it belongs to user {})", found.uid()),
        Err(_) => String::new(),
    }
}

/// The error for a symbolic link.
pub(super) fn is_link(path: &Path) -> Error {
    Error::Foreign(format!(
        "{}: a symbolic link is in the way, and pcn follows none to its pins; see who made it, and remove it",
        path.display()
    ))
}

/// The path itself, or the nearest one above it that is there.
pub(super) fn existing(path: &Path) -> &Path {
    let there = |path: &&Path| path.symlink_metadata().is_ok();
    path.ancestors().find(there).unwrap_or(Path::new("/"))
}

/// True if a directory is in a bpffs.
pub(super) fn in_bpffs(path: &Path) -> Result<bool> {
    match open(AT_FDCWD, path, path, ResolveFlag::RESOLVE_NO_SYMLINKS)? {
        Some(fd) => is_in_bpffs(&fd, path),
        None => Ok(false),
    }
}

fn is_in_bpffs(fd: &OwnedFd, path: &Path) -> Result<bool> {
    let stat = fstatfs(fd).map_err(|errno| failed("look at", path, errno))?;
    Ok(stat.filesystem_type() == BPF_FS_MAGIC)
}

/// True if a path is in a bpffs.
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}
