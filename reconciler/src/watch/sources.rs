//! From files to topologies. What cannot be read, is invalid or contradicts another file is
//! reported, once, and what was valid before stays: nothing is ever removed on doubt.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use topology_schema::{Name, Source, ValidTopology, load};

use super::{follow::Look, state::Revision};
use crate::{cli::files, journal};

/// A valid revision of a topology.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its file.
    pub file: PathBuf,
    /// [`journal::revision`] of what it says: spaces and comments make no other one.
    pub revision: Revision,
    /// What it says.
    pub topology: Arc<ValidTopology>,
}

impl Version {
    /// The topology's name.
    pub fn name(&self) -> &Name {
        &self.topology.topology().metadata.name
    }
}

/// What is known of all files.
#[derive(Debug, Default)]
pub struct Sources {
    files: BTreeMap<PathBuf, File>,
    /// What was reported of names and directories; only what is new is reported.
    reported: BTreeSet<String>,
    /// Names of topologies that a file had.
    known: BTreeSet<Name>,
    /// Files that turned invalid, by the name of the topology that they had.
    invalid: Vec<(Name, PathBuf)>,
}

#[derive(Debug, Default)]
struct File {
    /// What was read last, or why it could not be read.
    seen: Option<Result<Content, String>>,
    /// The last valid version, while the file is there.
    version: Option<Version>,
}

/// SHA-256 of a text.
type Content = [u8; 32];

/// What became of a file since it was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Same,
    Valid,
    Invalid,
}

impl Sources {
    /// Files that turned invalid since the last time this was asked.
    pub fn take_invalid(&mut self) -> Vec<(Name, PathBuf)> {
        std::mem::take(&mut self.invalid)
    }

    /// Reads all files again, and returns the valid version of each topology that only one file
    /// claims.
    pub fn read(&mut self, look: &Look) -> BTreeMap<Name, Version> {
        let there: BTreeSet<&PathBuf> = look.files.iter().chain(&look.busy).collect();
        for (path, file) in &mut self.files {
            if !there.contains(path) {
                let message = "it is not in its directory any more".to_owned();
                file.cannot_be_read(
                    path,
                    Unreadable {
                        message,
                        gone: true,
                    },
                );
            }
        }
        for path in &look.files {
            let file = self.files.entry(path.clone()).or_default();
            if file.read(path) == Read::Invalid
                && let Some(version) = &file.version
            {
                self.invalid.push((version.name().clone(), path.clone()));
            }
        }
        self.files
            .retain(|path, file| there.contains(path) || file.version.is_some());
        let mut claims: BTreeMap<Name, Vec<&PathBuf>> = BTreeMap::new();
        for (path, file) in &self.files {
            if let Some(version) = &file.version {
                claims.entry(version.name().clone()).or_default().push(path);
            }
        }
        let versions = claims
            .iter()
            .filter_map(|(name, paths)| match paths.as_slice() {
                [path] => Some((name.clone(), self.files.get(*path)?.version.clone()?)),
                _ => None,
            })
            .collect();
        let problems = problems(look, &claims, &self.known);
        for problem in problems.difference(&self.reported) {
            tracing::error!("{problem}");
        }
        self.known.extend(claims.into_keys());
        self.reported = problems;
        versions
    }
}

/// What is wrong between files, as sentences.
fn problems(
    look: &Look,
    claims: &BTreeMap<Name, Vec<&PathBuf>>,
    known: &BTreeSet<Name>,
) -> BTreeSet<String> {
    let show = |path: &PathBuf| path.display().to_string();
    let empty = look.empty.iter().map(|directory| {
        format!(
            "{}: no *.yaml or *.yml in this directory",
            directory.display()
        )
    });
    let twice = claims
        .iter()
        .filter(|(_, paths)| paths.len() > 1)
        .map(|(name, paths)| {
            let paths: Vec<String> = paths.iter().map(|path| show(path)).collect();
            format!(
                "topology {name} is in several files: {}; what runs stays until it is in one only",
                paths.join(", ")
            )
        });
    let gone = known
        .iter()
        .filter(|name| !claims.contains_key(*name))
        .map(|name| {
            format!(
                "topology {name} is in no file any more; what runs stays; \
                 `pcn destroy {name}` removes it"
            )
        });
    empty.chain(twice).chain(gone).collect()
}

impl File {
    fn read(&mut self, path: &Path) -> Read {
        let source = match read(path) {
            Ok(source) => source,
            Err(problem) => {
                self.cannot_be_read(path, problem);
                return Read::Same;
            }
        };
        let content = Sha256::digest(source.text.as_bytes()).into();
        if self.seen == Some(Ok(content)) {
            return Read::Same;
        }
        let file = path.display();
        let read = match load(&source) {
            Ok((topology, warnings)) => {
                files::report(&warnings, &source);
                let revision = Revision(journal::revision(&topology.shared()));
                tracing::debug!(%file, %revision, "read");
                let topology = Arc::new(topology);
                self.version = Some(Version {
                    file: path.to_owned(),
                    revision,
                    topology,
                });
                Read::Valid
            }
            Err(problems) => {
                files::report(&problems, &source);
                tracing::error!(%file, "not a valid topology; what runs stays");
                Read::Invalid
            }
        };
        self.seen = Some(Ok(content));
        read
    }

    fn cannot_be_read(&mut self, path: &Path, problem: Unreadable) {
        if problem.gone {
            self.version = None;
        }
        if !matches!(&self.seen, Some(Err(message)) if *message == problem.message) {
            let message = &problem.message;
            tracing::error!(file = %path.display(), "cannot be read, what runs stays: {message}");
        }
        self.seen = Some(Err(problem.message));
    }
}

/// Why a file cannot be read.
struct Unreadable {
    message: String,
    /// It is not there: it claims no topology's name any more.
    gone: bool,
}

/// Reads a regular file. Others could keep the reader waiting for ever.
fn read(path: &Path) -> Result<Source, Unreadable> {
    let unreadable = |message: String| Unreadable {
        message,
        gone: false,
    };
    match fs::metadata(path) {
        Ok(file) if file.is_file() => {
            files::read_source(path).map_err(|failure| unreadable(failure.message))
        }
        Ok(_) => Err(unreadable("not a file".to_owned())),
        Err(error) => Err(Unreadable {
            message: error.to_string(),
            gone: error.kind() == io::ErrorKind::NotFound,
        }),
    }
}
