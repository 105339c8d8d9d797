//! Following files: which directories to listen to, what to read again, and when.
//!
//! Directories are listened to, not files: a file that is replaced has another inode. Each one that
//! a path leads through is, with links resolved, so a link that is exchanged anywhere on the way is
//! noticed. What came is never told from events: they only say when to look.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};

use super::{resolve::resolve, settle::Settle, state::Time};

/// After an event that leaves a file whole: it was closed, or moved to its place. Who closes a file may open it again at once to
/// write the rest; what is moved to its place was whole before, and is read at once unless more happens.
const WHOLE: Duration = Duration::from_millis(10);
/// After an event that something else is likely to follow: an editor moves a file away first.
const MORE: Duration = Duration::from_millis(50);
/// However many events come.
const LONGEST: Duration = Duration::from_millis(500);
/// How long a file that is open for writing is left alone after the last write: half a file may
/// be a valid topology with half of its cubes.
const WRITER: Duration = Duration::from_secs(2);
/// What happens to directory entries on the way to a file.
const ENTRIES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);
/// What happens to files.
const FILES: AddWatchFlags = ENTRIES
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB);

/// Files and directories that are followed.
#[derive(Debug)]
pub struct Follow {
    paths: Vec<PathBuf>,
    inotify: Inotify,
    watches: HashMap<WatchDescriptor, Watched>,
    settle: Settle,
    /// The last look.
    looked: Option<Time>,
    /// Files that are open for writing, and when they were written to last.
    writing: BTreeMap<PathBuf, Time>,
}

/// What is of interest in one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Watched {
    directory: PathBuf,
    /// Entries on the way to a file.
    entries: BTreeSet<OsString>,
    /// The directory is followed itself: all topology files in it count.
    all: bool,
    /// Files are in it, not only directories and links.
    files: bool,
}

/// What paths lead to now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Survey {
    watched: BTreeMap<PathBuf, Watched>,
    /// Files as they are called, and as they are.
    files: BTreeMap<PathBuf, Option<PathBuf>>,
    /// Directories without files.
    empty: Vec<PathBuf>,
}

/// A look at all files.
#[derive(Debug)]
pub struct Look {
    /// Files to read.
    pub files: Vec<PathBuf>,
    /// Files that somebody writes at the moment.
    pub busy: Vec<PathBuf>,
    /// Directories without topology files.
    pub empty: Vec<PathBuf>,
}

impl Follow {
    /// Follows files and directories, whether they exist or not.
    pub fn new(paths: Vec<PathBuf>) -> nix::Result<Self> {
        Ok(Self {
            paths,
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            watches: HashMap::new(),
            settle: Settle::new(LONGEST),
            looked: None,
            writing: BTreeMap::new(),
        })
    }

    /// Takes in what happened since the last time.
    pub fn read_events(&mut self, now: Time) -> nix::Result<()> {
        loop {
            match self.inotify.read_events() {
                Ok(events) => events.iter().for_each(|event| self.note(now, event)),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// When to look; `None`: after the next event.
    pub fn due(&self) -> Option<Time> {
        let written = self.writing.values().map(|last| *last + WRITER).min();
        self.settle.due().into_iter().chain(written).min()
    }

    /// Where paths lead now. From here on every change to that is an event.
    pub fn look(&mut self, now: Time) -> Look {
        self.settle.done();
        self.looked = Some(now);
        let mut survey = self.survey();
        // What changes between a survey and listening to what it found would not be noticed.
        for _ in 0..4 {
            self.listen(&survey);
            let again = self.survey();
            if again == survey {
                break;
            }
            survey = again;
        }
        self.writing.retain(|_, last| now < *last + WRITER);
        let (busy, files) = survey.files.into_iter().partition(|(_, real)| {
            real.as_ref()
                .is_some_and(|real| self.writing.contains_key(real))
        });
        let names = |files: BTreeMap<PathBuf, _>| files.into_keys().collect();
        Look {
            files: names(files),
            busy: names(busy),
            empty: survey.empty,
        }
    }

    fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        for path in &self.paths {
            match survey.add(path) {
                Some(directory) if directory.is_dir() => survey.add_directory(path, &directory),
                file => {
                    survey.files.insert(path.clone(), file);
                }
            }
        }
        survey
    }

    /// Listens to what a survey found, and to nothing else. One inode has one watch, so nothing is
    /// added for a directory that is listened to already, and a new one in its place is noticed.
    fn listen(&mut self, survey: &Survey) {
        let mut watches: HashMap<WatchDescriptor, Watched> = HashMap::new();
        // Two paths may lead to one directory; the last one decides what is heard of it.
        let (files, ways): (Vec<_>, Vec<_>) =
            survey.watched.values().partition(|watched| watched.files);
        for watched in ways.into_iter().chain(files) {
            let events = if watched.files { FILES } else { ENTRIES };
            match self.inotify.add_watch(&watched.directory, events) {
                Ok(descriptor) => {
                    let merged = watches.entry(descriptor).or_default();
                    merged.entries.extend(watched.entries.iter().cloned());
                    merged.all |= watched.all;
                    merged.files |= watched.files;
                    merged.directory.clone_from(&watched.directory);
                }
                // Gone since the survey, or not ours to read. The slow look at everything remains.
                Err(errno) => {
                    tracing::debug!(directory = %watched.directory.display(), %errno, "cannot listen");
                }
            }
        }
        for descriptor in self.watches.keys().filter(|old| !watches.contains_key(old)) {
            let _gone_with_its_directory = self.inotify.rm_watch(*descriptor);
        }
        self.watches = watches;
    }

    /// Nothing else has happened for a while.
    fn is_quiet(&self, now: Time) -> bool {
        let rested = self.looked.is_none_or(|looked| now >= looked + MORE);
        rested && self.settle.due().is_none()
    }

    fn note(&mut self, now: Time, event: &InotifyEvent) {
        let has = |flag| event.mask.contains(flag);
        if has(AddWatchFlags::IN_Q_OVERFLOW) {
            return self.settle.event(now, WHOLE);
        }
        let Some(watched) = self.watches.get(&event.wd) else {
            return;
        };
        let Some(name) = &event.name else {
            // The directory itself went.
            if event.mask.intersects(
                AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF
                    | AddWatchFlags::IN_IGNORED
                    | AddWatchFlags::IN_UNMOUNT,
            ) {
                self.settle.event(now, MORE);
            }
            return;
        };
        if !(watched.entries.contains(name) || watched.all && is_topology_file(name)) {
            return;
        }
        let path = watched.directory.join(name);
        if has(AddWatchFlags::IN_MODIFY) || has(AddWatchFlags::IN_CREATE) && is_being_written(&path)
        {
            // Looked at when it is closed.
            self.writing.insert(path, now);
        } else if !has(AddWatchFlags::IN_ATTRIB) || !self.writing.contains_key(&path) {
            self.writing.remove(&path);
            let gone = AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE;
            let quiet = if event.mask.intersects(gone) {
                MORE
            } else if has(AddWatchFlags::IN_MOVED_TO) && self.is_quiet(now) {
                Duration::ZERO
            } else {
                WHOLE
            };
            self.settle.event(now, quiet);
        }
    }
}

impl AsFd for Follow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Survey {
    /// Adds the way to a file or directory, and returns where it ends.
    fn add(&mut self, path: &Path) -> Option<PathBuf> {
        let way = resolve(path).ok()?;
        let last = way.steps.len().saturating_sub(1);
        for (number, (directory, entry)) in way.steps.into_iter().enumerate() {
            let watched = self.at(&directory);
            watched.entries.insert(entry);
            watched.files |= number == last;
        }
        way.end
    }

    /// Adds a directory that is followed, and its files.
    fn add_directory(&mut self, path: &Path, directory: &Path) {
        let watched = self.at(directory);
        watched.all = true;
        watched.files = true;
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let names: BTreeSet<OsString> = entries
            .map(|entry| entry.file_name())
            .filter(|name| is_topology_file(name))
            .collect();
        let mut found = false;
        for file in names.iter().map(|name| path.join(name)) {
            let real = self.add(&file);
            if !real.as_ref().is_some_and(|real| real.is_dir()) {
                self.files.insert(file, real);
                found = true;
            }
        }
        if !found {
            self.empty.push(path.to_owned());
        }
    }

    fn at(&mut self, directory: &Path) -> &mut Watched {
        let watched = self.watched.entry(directory.to_owned()).or_default();
        watched.directory = directory.to_owned();
        watched
    }
}

/// As `-f` takes them from a directory.
fn is_topology_file(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// A new file will be closed by its writer; a new link will not, it is whole.
fn is_being_written(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(number: u64) -> Time {
        Duration::from_millis(number)
    }

    /// When a file is looked at after what happened to it.
    #[test]
    fn what_is_moved_to_its_place_is_looked_at_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("t.yaml"), folder.path().join("new"));
        let replace = || {
            fs::write(&new, "").unwrap();
            fs::rename(&new, &path).unwrap();
        };
        fs::write(&path, "").unwrap();
        let mut follow = Follow::new(vec![path.clone()]).unwrap();
        follow.look(ms(0));
        replace();
        follow.read_events(ms(1000)).unwrap();
        assert_eq!(follow.due(), Some(ms(1000)));
        follow.look(ms(1000));
        assert_eq!(follow.due(), None);
        // One after the other: they are merged.
        replace();
        follow.read_events(ms(1020)).unwrap();
        assert_eq!(follow.due(), Some(ms(1020) + WHOLE));
        follow.look(ms(1030));
        // Whoever closes a file may open it again.
        fs::write(&path, "more").unwrap();
        follow.read_events(ms(2000)).unwrap();
        assert_eq!(follow.due(), Some(ms(2000) + WHOLE));
        // More happens: a replacement in between changes nothing.
        replace();
        follow.read_events(ms(2004)).unwrap();
        assert_eq!(follow.due(), Some(ms(2004) + WHOLE));
        follow.look(ms(2100));
        // Moved away first, as editors do.
        fs::rename(&path, &new).unwrap();
        follow.read_events(ms(3000)).unwrap();
        assert_eq!(follow.due(), Some(ms(3000) + MORE));
        fs::rename(&new, &path).unwrap();
        follow.read_events(ms(3001)).unwrap();
        assert_eq!(follow.due(), Some(ms(3001) + WHOLE));
    }
}
