//! The kernel's objects of one lab, told from those of others by their pins.
//!
//! Maps that only programs hold (their read-only globals) go with the programs and need no look.
//! And they get none on purpose: a process that opens maps by id, like `bpftool prog show`, while
//! the last pin of a program array goes makes the kernel schedule the clearing of the array twice
//! and run it once (`prog_array_map_clear`), so that the array is never freed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::AsFd,
    path::Path,
};

use crate::wait;
use reconciler::kernel::linux::bpf::{self, Kind, LinkInfo, MapInfo, ProgramInfo};

/// Ids by pin.
pub type Ids = BTreeMap<String, u32>;

/// Ids by kind.
#[derive(Debug, Default)]
pub(super) struct Objects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

/// The ids of everything pinned below a directory, by path.
pub(super) fn ids(root: &Path) -> Ids {
    pins(root)
        .into_iter()
        .map(|pin| (pin.name, pin.id))
        .collect()
}

struct Pin {
    name: String,
    kind: Kind,
    id: u32,
}

fn pins(root: &Path) -> Vec<Pin> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            } else {
                found.extend(pin(root, &entry.path()));
            }
        }
    }
    found
}

/// `None` if the pin went away meanwhile.
fn pin(root: &Path, path: &Path) -> Option<Pin> {
    let fd = bpf::open(path).ok()?;
    let fd = fd.as_fd();
    let file = path.file_name()?.to_str()?;
    let (kind, id) = if file.starts_with("program-") {
        (Kind::Program, bpf::info::<ProgramInfo>(fd).ok()?.id)
    } else if file.starts_with("link-") {
        (Kind::Link, bpf::info::<LinkInfo>(fd).ok()?.id)
    } else {
        (Kind::Map, bpf::info::<MapInfo>(fd).ok()?.id)
    };
    Some(Pin {
        name: path.strip_prefix(root).ok()?.to_str()?.to_owned(),
        kind,
        id,
    })
}

impl Objects {
    /// Adds what is pinned below a directory.
    pub(super) fn add_pinned(&mut self, root: &Path) {
        for Pin { kind, id, .. } in pins(root) {
            let set = match kind {
                Kind::Program => &mut self.programs,
                Kind::Map => &mut self.maps,
                Kind::Link => &mut self.links,
            };
            set.insert(id);
        }
    }

    /// Insists that the kernel has freed all of them; it does so with a delay.
    pub(super) fn assert_gone(&self) {
        for (kind, ours) in [
            (Kind::Link, &self.links),
            (Kind::Program, &self.programs),
            (Kind::Map, &self.maps),
        ] {
            let mut left = BTreeSet::new();
            let gone = wait::within(wait::PATIENCE, || {
                let all: BTreeSet<u32> = bpf::ids(kind)
                    .expect("root can list ids")
                    .into_iter()
                    .collect();
                left = all.intersection(ours).copied().collect();
                left.is_empty().then_some(())
            });
            assert!(
                gone.is_some(),
                "{kind:?} objects with these ids are left: {left:?}"
            );
        }
    }
}
