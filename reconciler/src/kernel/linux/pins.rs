//! The topology's directory in bpffs.
//!
//! bpffs has symbolic links, and may be open to others. So no path is followed by its text alone:
//! a directory is opened without following links, must be in a bpffs and ours, and what is done in
//! it is done relative to its descriptor. Nothing outside of it can be reached.

mod directory;

use std::{
    cell::RefCell,
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    dir::Type,
    errno::Errno,
    mount::{MsFlags, mount},
    unistd::UnlinkatFlags,
};

use self::directory::{Directory, Kind};
use super::{bpf, call, privilege::Raised};
use crate::{
    kernel::{Error, Result},
    resource::PinPath,
};

pub use self::directory::is_bpffs;

/// Where bpffs is, if the environment does not say otherwise.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/pcn";

/// The directory of one topology.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    topology: String,
    /// The directory that was used last: pins are used one directory after the other.
    last: RefCell<Option<(String, Arc<Directory>)>>,
}

impl Pins {
    /// The directory of a topology below `root`.
    pub fn new(root: &Path, topology: &str) -> Self {
        Self {
            root: root.to_owned(),
            topology: topology.to_owned(),
            last: RefCell::new(None),
        }
    }

    /// The path of an object, for messages.
    pub fn path(&self, pin: &PinPath) -> PathBuf {
        self.root.join(&self.topology).join(pin.as_str())
    }

    /// Opens a pinned object.
    pub fn open(&self, pin: &PinPath) -> Result<OwnedFd> {
        let path = self.path(pin);
        let Some(directory) = self.parent(pin)? else {
            return Err(failed("open", &path, Errno::ENOENT));
        };
        // The kernel would follow a link.
        if directory.kind(pin.name())? == Some(Kind::Link) {
            return Err(directory::is_link(&path));
        }
        bpf::open_at(directory.as_fd(), pin.name(), &path).map_err(call)
    }

    /// Whether an object is pinned there.
    pub fn exists(&self, pin: &PinPath) -> Result<bool> {
        let Some(directory) = self.parent(pin)? else {
            return Ok(false);
        };
        match directory.kind(pin.name())? {
            Some(Kind::Link) => Err(directory::is_link(&self.path(pin))),
            found => Ok(found.is_some()),
        }
    }

    /// Pins an object, and makes the directories above it.
    pub fn pin(&self, object: BorrowedFd<'_>, pin: &PinPath) -> Result<()> {
        let directory = self.make_parent(pin)?;
        bpf::pin_at(object, directory.as_fd(), pin.name(), &self.path(pin)).map_err(call)
    }

    /// All pins, in no order. Anything else there is refused.
    pub fn list(&self) -> Result<Vec<PinPath>> {
        let mut pins = Vec::new();
        let Some(top) = self.topology_directory()? else {
            return Ok(pins);
        };
        let mut directories = vec![(String::new(), top)];
        while let Some((prefix, directory)) = directories.pop() {
            for (name, kind) in directory.entries()? {
                match kind {
                    Kind::Directory => {
                        if let Some(child) = directory.child(&name)? {
                            directories.push((format!("{prefix}{name}/"), child));
                        }
                    }
                    Kind::File => pins.push(PinPath::found(format!("{prefix}{name}"))),
                    Kind::Link => return Err(directory::is_link(&directory.path().join(name))),
                }
            }
        }
        Ok(pins)
    }

    /// Pins in the directory of one, itself among them.
    pub fn beside(&self, pin: &PinPath) -> Result<Vec<PinPath>> {
        let Some(directory) = self.parent(pin)? else {
            return Ok(Vec::new());
        };
        let parent = parent_of(pin);
        let files = directory.entries()?.into_iter();
        Ok(files
            .filter(|(_, kind)| *kind == Kind::File)
            .map(|(name, _)| PinPath::found(format!("{parent}/{name}")))
            .collect())
    }

    /// Removes a pin; one that is gone already is no error.
    pub fn remove(&self, pin: &PinPath) -> Result<()> {
        if let Some(directory) = self.parent(pin)? {
            directory.unlink(pin.name(), UnlinkatFlags::NoRemoveDir)?;
            drop(directory);
            self.last.replace(None);
            self.remove_empty_parents(pin)?;
        }
        Ok(())
    }

    /// Moves a pin over another one.
    pub fn rename(&self, from: &PinPath, to: &PinPath) -> Result<()> {
        let path = self.path(from);
        let Some(source) = self.parent(from)? else {
            return Err(failed("rename", &path, Errno::ENOENT));
        };
        let target = self.make_parent(to)?;
        nix::fcntl::renameat(source.as_fd(), from.name(), target.as_fd(), to.name())
            .map_err(|errno| failed("rename", &path, errno))
    }

    /// Removes the whole directory: what is left in it is ours.
    pub fn remove_all(&self) -> Result<()> {
        self.last.replace(None);
        let Some(root) = Directory::open(&self.root)? else {
            return Ok(());
        };
        if let Some(top) = root.child(&self.topology)? {
            empty(&top)?;
        }
        root.unlink(&self.topology, UnlinkatFlags::RemoveDir)
    }

    fn topology_directory(&self) -> Result<Option<Directory>> {
        match Directory::open(&self.root)? {
            Some(root) => root.child(&self.topology),
            None => Ok(None),
        }
    }

    /// The directory of an object, if it is there.
    fn parent(&self, pin: &PinPath) -> Result<Option<Arc<Directory>>> {
        let parent = parent_of(pin);
        if let Some((last, directory)) = &*self.last.borrow()
            && last == parent
        {
            return Ok(Some(Arc::clone(directory)));
        }
        let Some(mut directory) = self.topology_directory()? else {
            return Ok(None);
        };
        for name in components(parent) {
            match directory.child(name)? {
                Some(child) => directory = child,
                None => return Ok(None),
            }
        }
        let directory = Arc::new(directory);
        self.last
            .replace(Some((parent.to_owned(), Arc::clone(&directory))));
        Ok(Some(directory))
    }

    fn make_parent(&self, pin: &PinPath) -> Result<Arc<Directory>> {
        if let Some(directory) = self.parent(pin)? {
            return Ok(directory);
        }
        let mut directory = Directory::make(&self.root)?.make_child(&self.topology)?;
        for name in components(parent_of(pin)) {
            directory = directory.make_child(name)?;
        }
        Ok(Arc::new(directory))
    }

    /// Directories that became empty go, the topology's own too: it stands for a topology that
    /// is there.
    fn remove_empty_parents(&self, pin: &PinPath) -> Result<()> {
        let mut names: Vec<&str> = components(parent_of(pin)).collect();
        while let Some(name) = names.pop() {
            let inner = PinPath::found([&names[..], &[name]].concat().join("/"));
            let Some(directory) = self.parent(&inner)? else {
                continue;
            };
            if directory.unlink(name, UnlinkatFlags::RemoveDir).is_err() {
                return Ok(());
            }
            self.last.replace(None);
        }
        if let Some(root) = Directory::open(&self.root)? {
            // It stays while anything is in it.
            let _not_empty = root.unlink(&self.topology, UnlinkatFlags::RemoveDir);
        }
        Ok(())
    }
}

/// Removes everything in a directory of ours. A link goes, not what it leads to.
fn empty(directory: &Directory) -> Result<()> {
    for (name, kind) in directory.entries()? {
        if kind == Kind::Directory
            && let Some(child) = directory.child(&name)?
        {
            empty(&child)?;
            directory.unlink(&name, UnlinkatFlags::RemoveDir)?;
        } else {
            directory.unlink(&name, UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(())
}

/// The part of a pin's path before its name; empty for one directly in the topology's directory.
fn parent_of(pin: &PinPath) -> &str {
    pin.as_str()
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent)
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// Topologies that have a directory.
pub fn topologies(root: &Path) -> Result<Vec<String>> {
    let Some(root) = Directory::open(root)? else {
        return Ok(Vec::new());
    };
    let entries = root.entries()?.into_iter();
    let mut names: Vec<String> = entries
        .filter(|(_, kind)| *kind == Kind::Directory)
        .map(|(name, _)| name)
        .collect();
    names.sort();
    Ok(names)
}

/// Makes sure that `root` is in a bpffs: mounts one where the kernel wants it if need be.
pub fn ensure_mounted(root: &Path) -> Result<()> {
    let existing = directory::existing(root);
    if directory::in_bpffs(existing)? {
        return Ok(());
    }
    let point = Path::new("/sys/fs/bpf");
    let target = if root.starts_with(point) { point } else { root };
    let io = |error: std::io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        failed("create", target, errno)
    };
    fs::create_dir_all(target).map_err(io)?;
    if fs::read_dir(target).map_err(io)?.next().is_some() {
        return Err(Error::Foreign(format!(
            "{} is not in a bpffs, and there are other files in it; name an empty directory or one in a bpffs",
            target.display()
        )));
    }
    let _admin = Raised::admin();
    mount(
        Some("bpf"),
        target,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0700"),
    )
    .map_err(|errno| failed("mount bpffs on", target, errno))
}

fn failed(what: &str, path: &Path, errno: Errno) -> Error {
    let text = format!("{what} {}: {}", path.display(), errno.desc());
    match errno {
        Errno::EPERM | Errno::EACCES => Error::Permission(text),
        _ => Error::Call(text),
    }
}

/// The kind that a directory's entry says it is of; `None` if it has to be asked for.
fn kind_of(found: Type) -> Option<Kind> {
    match found {
        Type::Directory => Some(Kind::Directory),
        Type::File => Some(Kind::File),
        Type::Symlink => Some(Kind::Link),
        _ => None,
    }
}
