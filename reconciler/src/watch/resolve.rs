//! What a path depends on: each directory entry that is looked up on the way, links included.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// As many links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// The way of a path.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Directories, without links in their paths, and what is looked up in each.
    pub steps: Vec<(PathBuf, OsString)>,
    /// Where it ends; `None` if something on the way is not there.
    pub end: Option<PathBuf>,
}

/// Follows a path as the kernel does. Whatever changes where it leads, or whether it leads
/// anywhere, is a change to one of the entries.
pub fn resolve(path: &Path) -> io::Result<Way> {
    let mut left: VecDeque<OsString> = VecDeque::new();
    prepend(&mut left, &std::path::absolute(path)?);
    let mut way = Way::default();
    let mut place = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            place.pop();
            continue;
        }
        let next = place.join(&name);
        way.steps.push((place.clone(), name));
        let Ok(found) = fs::symlink_metadata(&next) else {
            return Ok(way);
        };
        if !found.is_symlink() {
            place = next;
            continue;
        }
        let Ok(target) = fs::read_link(&next) else {
            return Ok(way);
        };
        links += 1;
        if links > MAX_LINKS {
            return Ok(way);
        }
        if target.is_absolute() {
            place = PathBuf::from("/");
        }
        prepend(&mut left, &target);
    }
    way.end = Some(place);
    Ok(way)
}

fn prepend(left: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}
