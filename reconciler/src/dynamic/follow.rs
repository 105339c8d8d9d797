//! Follows tables of the kernel while `pcn watch` runs.
//!
//! A thread of its own: a round may take seconds, and a hundred thousand routes are no reason for
//! one. It reads what the kernel announces, many routes at a time, and writes them into the
//! routers' tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Instant,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use topology_schema::Name;

use super::{routers, session::Router};
use crate::{
    kernel::linux::LinuxKernel,
    worker::{Inbox, Worker},
};

/// The thread, as others see it. There is none before there is a router that follows a table.
#[derive(Debug)]
pub struct Follower {
    bpffs: PathBuf,
    running: Option<Worker<Wishes>>,
}

#[derive(Debug, Default)]
struct Wishes {
    /// Topologies of which something was applied.
    applied: BTreeSet<Name>,
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
            match start(self.bpffs.clone()) {
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

fn start(bpffs: PathBuf) -> std::io::Result<Worker<Wishes>> {
    Worker::start("routes", move |inbox| {
        let work = Work {
            bpffs,
            inbox,
            routers: BTreeMap::new(),
        };
        work.run();
    })
}

struct Work {
    bpffs: PathBuf,
    inbox: Inbox<Wishes>,
    routers: BTreeMap<(Name, Name), Router>,
}

impl Work {
    fn run(mut self) {
        loop {
            self.inbox.drain();
            let applied = self
                .inbox
                .read(|wishes| std::mem::take(&mut wishes.applied));
            let Some(applied) = applied else { return };
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
            let same = same.is_some_and(|router| router.is_as(&spec, &resolver));
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
        let mut sources = vec![PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN)];
        let monitors = self.routers.values().flat_map(Router::descriptors);
        sources.extend(monitors.map(|monitor| PollFd::new(monitor, PollFlags::POLLIN)));
        // A signal is somebody else's to notice.
        let _interrupted = poll(&mut sources, timeout);
    }
}
