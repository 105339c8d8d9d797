//! `pcn watch`: keeps the kernel as files say, until it is told to stop.
//!
//! One thread waits for files, the kernel's announcements, signals and ends of rounds, and asks
//! [`state`] what to do; rounds run on threads of their own. Everything that decides is apart from
//! everything that waits: [`state`], [`concern`] and [`settle`] know neither clock nor kernel.

pub mod advertise;
pub mod backoff;
pub mod complete;
pub mod concern;
mod detached;
pub mod follow;
mod keeper;
mod listen;
mod log;
pub mod queue;
mod resolve;
mod round;
pub mod settle;
mod signals;
pub mod sources;
pub mod state;
mod systemd;
mod tree;
mod trees;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io, mem,
    os::fd::AsFd as _,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use topology_schema::Name;

pub use self::round::{Host, Outcome, RoundReport, round};
use self::{
    backoff::Backoff,
    detached::Detached,
    follow::Follow,
    keeper::Keeper,
    listen::Listener,
    signals::Signals,
    sources::{Sources, Version},
    state::{Machine, Next, Policy, Revision, Time},
    systemd::Systemd,
};
use crate::{dynamic::follow::Follower, journal::Kind, kernel::linux::links};

/// Between a failure and the next attempt.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    cap: Duration::from_secs(60),
};
/// Rounds of different topologies that run at once.
const AT_ONCE: usize = 4;
/// How long a round may take before this process counts as hung; and how long one that runs is
/// waited for at the end.
const LONGEST_ROUND: Duration = Duration::from_secs(120);

/// How long a round may go on once this process is to stop, before it is taken back.
const PATIENCE: Duration = Duration::from_secs(45);

/// What to follow, and how often to look without being told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Files and directories.
    pub files: Vec<PathBuf>,
    /// Between two rounds of a topology.
    pub interval: Duration,
    /// Between two looks at the files.
    pub poll: Duration,
}

/// The watch cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{call}: {source}")]
    Call {
        /// What was being done.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It was told to stop, and a round did not end.
    #[error("a round still runs after {} s; what it does is not ended", LONGEST_ROUND.as_secs())]
    Hung,
}

/// Follows files until SIGTERM or SIGINT. `each` hears of every round.
pub fn run(settings: &Settings, host: Host, each: impl FnMut(&RoundReport)) -> Result<(), Error> {
    Watch::new(settings, host, each)?.run()
}

struct Watch<F> {
    start: Instant,
    settings: Settings,
    host: Arc<Host>,
    each: F,
    signals: Signals,
    follow: Follow,
    sources: Sources,
    look_due: Time,
    listener: Listener,
    detached: Detached,
    machine: Machine,
    versions: BTreeMap<Name, Vec<Version>>,
    ends: (Sender<RoundReport>, Receiver<RoundReport>),
    keeper: Keeper,
    routes: Follower,
    systemd: Systemd,
}

impl<F: FnMut(&RoundReport)> Watch<F> {
    fn new(settings: &Settings, host: Host, each: F) -> Result<Self, Error> {
        let policy = Policy {
            interval: settings.interval,
            backoff: BACKOFF,
            at_once: AT_ONCE,
        };
        let follow = Follow::new(settings.files.clone())
            .map_err(|errno| failed("listen for changed files (inotify)")(errno.into()))?;
        let keeper = Keeper::new(host.bpffs().to_owned());
        let routes = Follower::new(host.bpffs().to_owned());
        Ok(Self {
            start: Instant::now(),
            settings: settings.clone(),
            host: Arc::new(host),
            each,
            signals: Signals::catch().map_err(failed("catch signals"))?,
            follow,
            sources: Sources::default(),
            look_due: Time::ZERO,
            listener: Listener::new(),
            detached: Detached::default(),
            machine: Machine::new(policy, RandomState::new().hash_one(0)),
            versions: BTreeMap::new(),
            ends: mpsc::channel(),
            keeper,
            routes,
            systemd: Systemd::new(),
        })
    }

    fn run(mut self) -> Result<(), Error> {
        tracing::info!(files = ?self.settings.files, "watching");
        while !self.signals.stop() {
            let now = self.now();
            if self.signals.take_reload() {
                tracing::info!("reloading");
                self.systemd.reloading();
                self.look(now);
                self.machine.reload(now);
            }
            if self.look_due <= now || self.follow.due().is_some_and(|due| due <= now) {
                self.look(now);
            }
            if self.listener.due().is_some_and(|due| due <= now) {
                self.announce(now);
            }
            if self.detached.due().is_some_and(|due| due <= now) {
                self.look_at_links(now);
            }
            let next = self.start_rounds(now);
            self.tell_systemd(now);
            self.wait(now, next)?;
            self.read_news()?;
            self.take_ends();
        }
        self.stop()
    }

    fn now(&self) -> Time {
        self.start.elapsed()
    }

    /// Waits for something to happen, or for the time to do something.
    fn wait(&self, now: Time, next: Option<Time>) -> Result<(), Error> {
        let due = [
            Some(self.look_due),
            self.follow.due(),
            self.listener.due(),
            self.detached.due(),
            next,
        ]
        .into_iter()
        .chain([self.systemd.due()])
        .flatten()
        .min()
        .unwrap_or(now);
        // Rounded up: waking too early is waking twice.
        let pause = due.saturating_sub(now).as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        let mut sources = vec![
            PollFd::new(self.follow.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let monitor = self.listener.descriptor();
        sources.extend(monitor.map(|monitor| PollFd::new(monitor, PollFlags::POLLIN)));
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(failed("wait for events")(errno.into())),
        }
    }

    fn read_news(&mut self) -> Result<(), Error> {
        let now = self.now();
        self.signals.drain();
        self.follow
            .read_events(now)
            .map_err(|errno| failed("read what happened to files")(errno.into()))?;
        for noted in self.listener.read(now) {
            for (topology, interface) in &noted.came {
                self.emit(topology, Kind::InterfaceAppeared, Some(interface), "");
            }
            for (topology, interface) in &noted.went {
                self.emit(topology, Kind::InterfaceVanished, Some(interface), "");
            }
        }
        Ok(())
    }

    fn emit(&self, topology: &Name, kind: Kind, interface: Option<&str>, message: &str) {
        let address = interface.map(|interface| format!("interface/{interface}"));
        tracing::info_span!("watch", %topology).in_scope(|| {
            let journal = self.host.journal();
            journal.emit(topology, kind, address.as_deref(), message);
        });
    }

    /// Reads all files again.
    fn look(&mut self, now: Time) {
        self.look_due = now + self.settings.poll;
        self.listener.open(now);
        let look = self.follow.look(now);
        let versions = self.sources.read(&look);
        self.tell_invalid();
        for (name, version) in versions {
            self.listener.concerns.follow(&version.topology);
            let surroundings = self.listener.concerns.surroundings(&name);
            let revision = version.revision.clone();
            if self.machine.wanted(now, &name, revision, surroundings) {
                let text = format!("{}, revision {}", version.file.display(), version.revision);
                self.emit(&name, Kind::FileChanged, None, &text);
                let versions = self.versions.entry(name).or_default();
                versions.retain(|old| old.revision != version.revision);
                versions.push(version);
            }
        }
    }

    fn tell_invalid(&mut self) {
        for (name, file) in self.sources.take_invalid() {
            let file = file.display().to_string();
            self.emit(&name, Kind::FileInvalid, None, &file);
        }
    }

    /// Passes on what was announced.
    fn announce(&mut self, now: Time) {
        for name in self.listener.take_concerned() {
            let surroundings = self.listener.concerns.surroundings(&name);
            self.machine.announced(now, &name, surroundings);
        }
    }

    /// Has topologies repaired whose programs somebody detached.
    fn look_at_links(&mut self, now: Time) {
        for name in self.detached.look(now, links::is_attached) {
            tracing::debug!(topology = %name, "something was detached");
            let surroundings = self.listener.concerns.surroundings(&name);
            self.machine.announced(now, &name, surroundings);
        }
    }

    /// Starts what is due. Returns when to ask again.
    fn start_rounds(&mut self, now: Time) -> Option<Time> {
        loop {
            match self.machine.next(now) {
                Next::Wait(until) => return until,
                Next::Start(name, revision) => self.start_round(&name, &revision),
            }
        }
    }

    fn start_round(&mut self, name: &Name, revision: &Revision) {
        self.detached.leave(name);
        let versions = self.versions.entry(name.clone()).or_default();
        let Some(version) = versions
            .iter()
            .find(|version| version.revision == *revision)
        else {
            // The machine knows only what it was given.
            return self
                .machine
                .ended(self.start.elapsed(), name, state::Ended::Again);
        };
        let (version, host) = (version.clone(), Arc::clone(&self.host));
        let (end, wake) = (self.ends.0.clone(), self.signals.waker());
        let work = move || {
            // One that panics has ended, too.
            let round = panic::catch_unwind(AssertUnwindSafe(|| host.round(&version)));
            let report = round.unwrap_or_else(|_| RoundReport::panicked(&version));
            // Without a receiver the watch is over.
            let _over = end.send(report);
            wake.wake();
        };
        if let Err(error) = thread::Builder::new().name("round".to_owned()).spawn(work) {
            tracing::error!(topology = %name, "cannot start a thread: {error}");
            self.machine
                .ended(self.start.elapsed(), name, state::Ended::Again);
        }
    }

    fn take_ends(&mut self) {
        while let Ok(mut report) = self.ends.1.try_recv() {
            let now = self.now();
            let links = mem::take(&mut report.links);
            let name = &report.topology;
            self.detached.follow(name, links);
            self.machine.ended(now, name, report.outcome.ended());
            self.listener
                .concerns
                .set_namespaces(name, report.namespaces.clone());
            log::ended(
                &report,
                self.machine.due(name).map(|due| due.saturating_sub(now)),
            );
            self.forget_versions(name);
            self.keeper.follow(name);
            self.routes.follow(name);
            (self.each)(&report);
        }
    }

    /// Keeps the versions that may still be asked for.
    fn forget_versions(&mut self, name: &Name) {
        let Some(versions) = self.versions.get_mut(name) else {
            return;
        };
        versions.retain(|version| self.machine.needs(name, &version.revision));
    }

    fn tell_systemd(&mut self, now: Time) {
        self.systemd.status(&self.machine);
        if self.machine.settled(now) {
            self.systemd.ready();
        }
        let hung = self
            .machine
            .running_since()
            .is_some_and(|since| now.saturating_sub(since) > LONGEST_ROUND);
        if !hung {
            self.systemd.alive(now);
        }
    }

    /// Waits for rounds that run. What runs in the kernel stays.
    fn stop(mut self) -> Result<(), Error> {
        self.systemd.stopping();
        let deadline = self.now() + LONGEST_ROUND;
        let interrupt = self.now() + PATIENCE;
        while self.machine.running() > 0 {
            let now = self.now();
            if now >= interrupt {
                self.host.interrupt();
            }
            let due = if now < interrupt { interrupt } else { deadline };
            let left = due.saturating_sub(now);
            match self.ends.1.recv_timeout(left) {
                Ok(report) => {
                    self.machine.ended(
                        self.start.elapsed(),
                        &report.topology,
                        report.outcome.ended(),
                    );
                    log::ended(&report, None);
                    (self.each)(&report);
                }
                Err(_) if now < interrupt => {}
                Err(_) => return Err(Error::Hung),
            }
        }
        tracing::info!("stopped; what was applied keeps running");
        Ok(())
    }
}

fn failed(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Call { call, source }
}
