//! Follows tables of the kernel while `pcn watch` runs.
//!
//! A thread of its own: a round may take seconds, and a hundred thousand routes are no reason for
//! one. It reads what the kernel announces, many routes at a time, and writes them into the
//! routers' tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use topology_schema::Name;

use super::{routers, session::Router};
use crate::kernel::linux::LinuxKernel;

/// The thread, as others see it. There is none before there is a router that follows a table.
#[derive(Debug)]
pub struct Follower {
    bpffs: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    wishes: Arc<Mutex<Wishes>>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Wishes {
    /// Topologies of which something was applied.
    applied: BTreeSet<Name>,
    stop: bool,
}

impl Follower {
    /// For topologies that are pinned below `bpffs`.
    pub const fn new(bpffs: PathBuf) -> Self {
        Self {
            bpffs,
            running: None,
        }
    }

    /// A round of this topology has ended.
    pub fn follow(&mut self, topology: &Name) {
        if self.running.is_none() {
            if !needs_following(&self.bpffs, topology) {
                return;
            }
            match Running::start(self.bpffs.clone()) {
                Ok(running) => self.running = Some(running),
                Err(error) => {
                    tracing::warn!("routes of the kernel's tables are not followed: {error}");
                }
            }
        }
        if let Some(running) = &self.running {
            running.wish(|wishes| {
                wishes.applied.insert(topology.clone());
            });
        }
    }
}

fn needs_following(root: &Path, topology: &Name) -> bool {
    let kernel = LinuxKernel::new(topology.clone(), root);
    let routers = kernel.and_then(|mut kernel| routers(&mut kernel));
    routers.is_ok_and(|routers| !routers.is_empty())
}

impl Running {
    fn start(bpffs: PathBuf) -> io::Result<Self> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let wishes = Arc::<Mutex<Wishes>>::default();
        let work = Work {
            bpffs,
            wishes: Arc::clone(&wishes),
            woken,
            routers: BTreeMap::new(),
        };
        let thread = thread::Builder::new()
            .name("routes".to_owned())
            .spawn(|| work.run())?;
        Ok(Self {
            wishes,
            waker,
            thread: Some(thread),
        })
    }

    fn wish(&self, wish: impl FnOnce(&mut Wishes)) {
        wish(&mut self.wishes.lock().unwrap_or_else(PoisonError::into_inner));
        // A full socket has woken it already.
        let _full = (&self.waker).write(&[1]);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.wish(|wishes| wishes.stop = true);
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _panicked = thread.join();
        }
    }
}

struct Work {
    bpffs: PathBuf,
    wishes: Arc<Mutex<Wishes>>,
    woken: UnixStream,
    routers: BTreeMap<(Name, Name), Router>,
}

impl Work {
    fn run(mut self) {
        loop {
            self.drain();
            let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
            let (stop, applied) = (wishes.stop, std::mem::take(&mut wishes.applied));
            drop(wishes);
            if stop {
                return;
            }
            for topology in applied {
                self.look(&topology);
            }
            let mut due = None;
            for router in self.routers.values_mut() {
                let next = router.turn(&self.bpffs);
                due = due.into_iter().chain(next).min();
            }
            self.wait(due);
        }
    }

    /// Finds out what of a topology has to be followed from now on.
    fn look(&mut self, topology: &Name) {
        let kernel = LinuxKernel::new(topology.clone(), &self.bpffs);
        let found = kernel.and_then(|mut kernel| routers(&mut kernel));
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%topology, "routes of the kernel's tables: {error}");
                return;
            }
        };
        let names: BTreeSet<&Name> = found.iter().map(|(cube, ..)| cube).collect();
        self.routers
            .retain(|(of, cube), _| of != topology || names.contains(cube));
        for (cube, spec, resolver) in found {
            let key = (topology.clone(), cube.clone());
            let same = self.routers.get(&key);
            let same = same.is_some_and(|router| router.is_as(&self.bpffs, &spec, &resolver));
            if same {
                if let Some(router) = self.routers.get_mut(&key) {
                    router.check_namespaces();
                }
                continue;
            }
            match Router::open(&self.bpffs, topology, &cube, spec, resolver) {
                Ok(router) => {
                    self.routers.insert(key, router);
                }
                Err(error) => {
                    self.routers.remove(&key);
                    tracing::warn!(%topology, %cube, "routes of the kernel's tables: {error}");
                }
            }
        }
    }

    fn wait(&self, due: Option<Instant>) {
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
        });
        let mut sources = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        let monitors = self.routers.values().flat_map(Router::descriptors);
        sources.extend(monitors.map(|monitor| PollFd::new(monitor, PollFlags::POLLIN)));
        // A signal is somebody else's to notice.
        let _interrupted = poll(&mut sources, timeout);
    }

    fn drain(&mut self) {
        let mut bytes = [0; 64];
        while (&self.woken).read(&mut bytes).is_ok_and(|count| count > 0) {}
    }
}
