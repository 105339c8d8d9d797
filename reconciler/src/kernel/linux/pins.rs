//! The topology's directory in bpffs.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::{
    kernel::{Error, Result},
    resource::PinPath,
};

/// Where bpffs is, if the environment does not say otherwise.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/pcn";

/// The directory of one topology.
#[derive(Clone, Debug)]
pub struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// The directory of a topology below `root`.
    pub fn new(root: &Path, topology: &str) -> Self {
        Self {
            directory: root.join(topology),
        }
    }

    /// The path of an object.
    pub fn path(&self, pin: &PinPath) -> PathBuf {
        self.directory.join(pin.as_str())
    }

    /// Makes the directories above an object.
    pub fn prepare(&self, pin: &PinPath) -> Result<PathBuf> {
        let path = self.path(pin);
        if let Some(parent) = path.parent() {
            create_directories(parent)?;
        }
        Ok(path)
    }

    /// All pins, in no order.
    pub fn list(&self) -> Result<Vec<PinPath>> {
        let mut pins = Vec::new();
        let mut directories = vec![self.directory.clone()];
        while let Some(directory) = directories.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("list", &directory, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed("list", &directory, &error))?;
                let kind = entry
                    .file_type()
                    .map_err(|error| failed("list", &entry.path(), &error))?;
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file()
                    && let Ok(relative) = entry.path().strip_prefix(&self.directory)
                {
                    pins.push(PinPath::found(relative.to_string_lossy().into_owned()));
                }
            }
        }
        Ok(pins)
    }

    /// Removes a pin; one that is gone already is no error.
    pub fn remove(&self, pin: &PinPath) -> Result<()> {
        let path = self.path(pin);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed("unpin", &path, &error))
            }
            _ => {
                self.remove_empty_parents(&path);
                Ok(())
            }
        }
    }

    /// Moves a pin over another one.
    pub fn rename(&self, from: &PinPath, to: &PinPath) -> Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        fs::rename(&from, &to).map_err(|error| failed("rename", &from, &error))
    }

    /// Removes the whole directory: what is left in it is ours.
    pub fn remove_all(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed("remove", &self.directory, &error))
            }
            _ => Ok(()),
        }
    }

    /// Directories that became empty go, the topology's own too: it stands for a topology that
    /// is there.
    fn remove_empty_parents(&self, path: &Path) {
        let mut parent = path.parent();
        while let Some(directory) = parent
            && directory.starts_with(&self.directory)
            && fs::remove_dir(directory).is_ok()
        {
            parent = directory.parent();
        }
    }
}

/// Topologies that have a directory.
pub fn topologies(root: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", root, &error)),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// Makes sure that `root` is in a bpffs: mounts one where the kernel wants it if need be.
pub fn ensure_mounted(root: &Path) -> Result<()> {
    let existing = root
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    if is_bpffs(existing) {
        return Ok(());
    }
    let point = Path::new("/sys/fs/bpf");
    let target = if root.starts_with(point) { point } else { root };
    fs::create_dir_all(target).map_err(|error| failed("create", target, &error))?;
    mount(
        Some("bpf"),
        target,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0700"),
    )
    .map_err(|errno| failed("mount bpffs on", target, &errno.into()))
}

/// True if a path is in a bpffs.
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

/// Makes directories that only root may enter. A directory of somebody else in the way is
/// refused.
fn create_directories(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.uid() == nix::unistd::geteuid().as_raw() => return Ok(()),
        Ok(_) => {
            return Err(Error::Foreign(format!(
                "{} belongs to another user",
                path.display()
            )));
        }
        Err(_) => {}
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("create", path, &error))
}

fn failed(call: &str, path: &Path, error: &io::Error) -> Error {
    let text = format!("{call} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::PermissionDenied => Error::Permission(text),
        _ => Error::Call(text),
    }
}
