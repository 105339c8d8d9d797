//! Pinned links, looked at without their topology: whether they still attach something.

use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use topology_schema::Name;

use super::bpf::{self, LinkInfo};

/// How the names of links' pins begin.
const PREFIX: &str = "link-";

/// Pins of a topology's links that attach something.
pub fn attached(root: &Path, topology: &Name) -> Vec<PathBuf> {
    let interfaces = root.join(topology.as_str()).join("interfaces");
    let mut links = entries(&interfaces)
        .flat_map(|interface| entries(&interface))
        .filter(|path| is_link(path) && is_attached(path))
        .collect::<Vec<_>>();
    links.sort();
    links
}

/// True if the link is pinned and attached to an interface. What cannot be told counts as attached: a round will tell.
pub fn is_attached(pin: &Path) -> bool {
    match bpf::open(pin) {
        Ok(link) => bpf::info::<LinkInfo>(link.as_fd()).map_or(true, |info| info.ifindex != 0),
        Err(error) => error.errno() != libc::ENOENT,
    }
}

fn is_link(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(PREFIX))
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}
