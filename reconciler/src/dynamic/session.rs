//! One router, and what it hears of the tables that it follows.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    time::{Duration, Instant},
};

use topology_schema::{Name, cube::router};

use super::{Destination, Known, Resolver, Taken, Writer, read};
use crate::kernel::{
    self,
    linux::{
        dynamic::DynamicTables,
        lock::{Lock, LockError},
        netlink::TableMonitor,
        netns,
    },
};

/// Announcements that are read before what they say is written.
const BATCH: usize = 16_384;
/// Between two attempts at what failed, such as opening a namespace that is not there yet.
const AGAIN: Duration = Duration::from_millis(500);
/// After an announcement that says too little, this is how long the table is left alone before
/// it is read again: there may be many of these.
const SETTLE: Duration = Duration::from_millis(50);

/// One router that follows tables.
pub(super) struct Router {
    topology: Name,
    cube: Name,
    spec: router::Spec,
    resolver: Resolver,
    sources: Vec<Source>,
    known: Known,
    tables: DynamicTables,
    writer: Writer,
    /// See [`DynamicTables::begin_writing`].
    number: u64,
    /// What is known and not written yet.
    changed: BTreeSet<Destination>,
    /// What cannot be used, and was said.
    said: Option<String>,
}

/// One table of the kernel.
#[derive(Default)]
struct Source {
    monitor: Option<TableMonitor>,
    /// Of which namespace.
    namespace: Option<u64>,
    /// When it has to be read as a whole.
    read_at: Option<Instant>,
    problem: Option<String>,
}

/// What tells a namespace from others with its name; `None` for the host's.
fn identity(from: &router::RoutesFrom) -> Option<u64> {
    netns::identity(from.namespace.as_ref()?.as_str())
}

impl Router {
    /// Begins; what is in its tables already stays until more is known.
    pub(super) fn open(
        root: &Path,
        topology: &Name,
        cube: &Name,
        spec: router::Spec,
        resolver: Resolver,
    ) -> kernel::Result<Self> {
        let tables = DynamicTables::open(root, topology, cube)?;
        let writer = Writer::open(&tables)?;
        let sources = spec.routes_from.iter().map(|_| Source {
            read_at: Some(Instant::now()),
            ..Source::default()
        });
        let sources = sources.collect();
        Ok(Self {
            topology: topology.clone(),
            cube: cube.clone(),
            spec,
            resolver,
            sources,
            known: Known::default(),
            tables,
            writer,
            number: 0,
            changed: BTreeSet::new(),
            said: None,
        })
    }

    /// True if it still has these settings, and its tables.
    pub(super) fn is_as(&self, spec: &router::Spec, resolver: &Resolver) -> bool {
        self.spec.routes_from == spec.routes_from
            && self.resolver == *resolver
            && self.tables.is_current()
    }

    /// Readable when something was announced.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let monitors = self
            .sources
            .iter()
            .filter_map(|source| source.monitor.as_ref());
        monitors.map(|monitor| monitor.as_fd())
    }

    /// A namespace may be another one with the same name: what is heard is of the old one, and
    /// keeps it alive.
    pub(super) fn check_namespaces(&mut self) {
        for (source, from) in self.sources.iter_mut().zip(&self.spec.routes_from) {
            let now = identity(from);
            if source.monitor.is_some() && source.namespace != now {
                source.monitor = None;
                source.read_at = Some(Instant::now());
            }
        }
    }

    /// Takes what was announced and writes it. When to try again.
    pub(super) fn turn(&mut self, root: &Path) -> Option<Instant> {
        let mut more = false;
        for index in 0..self.sources.len() {
            more |= self.hear(index);
            let due = self.sources[index].read_at;
            if due.is_some_and(|due| due <= Instant::now()) {
                self.read_whole(index);
            }
        }
        if !self.changed.is_empty() && !self.write(root) {
            return Some(Instant::now() + AGAIN / 10);
        }
        if more {
            return Some(Instant::now());
        }
        self.sources
            .iter()
            .filter_map(|source| source.read_at)
            .min()
    }

    /// Takes what was announced. True if there is more.
    fn hear(&mut self, index: usize) -> bool {
        let source = &mut self.sources[index];
        let Some(monitor) = &mut source.monitor else {
            return false;
        };
        let (news, more) = match monitor.read(BATCH) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(topology = %self.topology, cube = %self.cube, "{error}");
                source.monitor = None;
                source.read_at = Some(Instant::now() + AGAIN);
                return false;
            }
        };
        for news in news {
            match self.known.note(index, news) {
                Some(destination) => self.changed.extend(destination),
                None => {
                    let again = Instant::now() + SETTLE;
                    source.read_at.get_or_insert(again);
                }
            }
        }
        more
    }

    /// Reads a whole table, and listens from before that on.
    fn read_whole(&mut self, index: usize) {
        let from = &self.spec.routes_from[index];
        let source = &mut self.sources[index];
        if source.monitor.is_none() {
            let namespace = from.namespace.as_ref().map(Name::as_str);
            match TableMonitor::open(namespace, from.table.get()) {
                Ok(monitor) => {
                    source.monitor = Some(monitor);
                    source.namespace = identity(from);
                }
                Err(error) => return self.postpone(index, error.to_string()),
            }
        }
        match read(from) {
            Ok(routes) => {
                source.read_at = None;
                source.problem = None;
                self.changed.extend(self.known.replace(index, routes));
                if self.number == 0 {
                    // What was there before may be gone meanwhile.
                    self.changed.extend(self.writer.destinations());
                    self.number = u64::MAX;
                }
            }
            Err(problem) => self.postpone(index, problem),
        }
    }

    fn postpone(&mut self, index: usize, problem: String) {
        let source = &mut self.sources[index];
        source.monitor = None;
        source.read_at = Some(Instant::now() + AGAIN);
        // A namespace that is gone has no routes.
        self.changed.extend(self.known.replace(index, Vec::new()));
        if source.problem.as_ref() != Some(&problem) {
            tracing::warn!(topology = %self.topology, cube = %self.cube, "routes are not followed yet: {problem}");
            source.problem = Some(problem);
        }
    }

    /// Writes what changed. False if somebody else writes.
    fn write(&mut self, root: &Path) -> bool {
        let _lock = match Lock::for_routes(root, &self.topology, Duration::ZERO) {
            Ok(lock) => lock,
            Err(LockError::Busy { .. }) => return false,
            Err(LockError::Failed(error)) => {
                tracing::warn!(topology = %self.topology, cube = %self.cube, "{error}");
                return false;
            }
        };
        let start = Instant::now();
        let mut taken = Taken {
            cube: self.cube.to_string(),
            ..Taken::default()
        };
        if let Err(error) = self.write_changed(&mut taken) {
            tracing::warn!(topology = %self.topology, cube = %self.cube, "routes: {error}");
            return true;
        }
        tracing::debug!(topology = %self.topology, cube = %self.cube, changed = taken.changed, routes = taken.routes, took = ?start.elapsed(), "routes");
        let sentence = taken.sentence();
        if sentence.is_some() && sentence != self.said {
            tracing::warn!(topology = %self.topology, "{}", sentence.clone().unwrap_or_default());
        }
        self.said = sentence.or(self.said.take());
        true
    }

    fn write_changed(&mut self, taken: &mut Taken) -> kernel::Result<()> {
        if self.tables.writer() != self.number {
            // Somebody wrote since: what is there must be read again, and be as is known.
            self.writer = Writer::open(&self.tables)?;
            self.number = self.tables.begin_writing();
            self.changed.extend(self.writer.destinations());
            self.changed
                .extend(self.known.all().map(|(destination, _)| *destination));
        }
        let changed = std::mem::take(&mut self.changed);
        self.writer
            .update(&self.tables, &self.known, &self.resolver, &changed, taken)
    }
}
