//! Does what the data planes leave to user space: keeps the packets that routers give away until
//! their neighbours are known, lets routers advertise themselves, and runs the spanning trees of
//! bridges.
//!
//! A thread of its own: a round may take seconds, a packet must not. When it ends, however it
//! ends, the routers drop such packets again, and ports keep the states they have, as they do when
//! nothing of ours runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, RandomState},
    io,
    os::fd::AsFd as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use topology_schema::Name;

use super::{
    advertise::Schedule,
    complete::complete,
    queue::{Packet, Queue},
    trees::{self, Trees},
};
use crate::{
    kernel::{
        Error,
        linux::{
            tap::Tap,
            trees::Applied,
            waiting::{WaitingRoom, rooms},
        },
    },
    worker::{Inbox, Worker},
};

/// For how long a cube gives packets away without being asked again. When this process is killed,
/// what is given away in that time is lost.
const LISTEN: Duration = Duration::from_millis(1500);
/// How often it is asked.
const RENEW: Duration = Duration::from_millis(500);
/// How often cubes are looked for although nothing was applied: somebody may have removed a table
/// by hand.
const LOOK: Duration = Duration::from_secs(10);
/// How often what is given away is read before others have their turn.
const TURNS: usize = 16;

/// The thread, as others see it. There is none before there is a cube that gives packets away.
#[derive(Debug)]
pub struct Keeper {
    bpffs: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    NotNeeded,
    Runs(Worker<Wishes>),
    Impossible,
}

#[derive(Debug, Default)]
struct Wishes {
    topologies: BTreeSet<Name>,
}

impl Keeper {
    /// For topologies that are pinned below `bpffs`.
    pub const fn new(bpffs: PathBuf) -> Self {
        Self {
            bpffs,
            state: State::NotNeeded,
        }
    }

    /// Something was applied: its cubes are to be listened to.
    pub fn follow(&mut self, topology: &Name) {
        let needed =
            || !rooms(&self.bpffs, topology).is_empty() || trees::wanted(&self.bpffs, topology);
        if matches!(self.state, State::NotNeeded) && needed() {
            let warn = |error: &io::Error| {
                tracing::warn!(
                    "the first packets to unknown neighbours are dropped: {error}; spanning trees stand still"
                );
            };
            let keeps = Tap::is_possible().inspect_err(warn).is_ok();
            self.state = match start(self.bpffs.clone(), keeps) {
                Ok(running) => State::Runs(running),
                Err(error) => {
                    warn(&error);
                    State::Impossible
                }
            };
        }
        if let State::Runs(running) = &self.state {
            running.wish(|wishes| {
                wishes.topologies.insert(topology.clone());
            });
        }
    }
}

fn start(bpffs: PathBuf, keeps: bool) -> io::Result<Worker<Wishes>> {
    Worker::start("keeper", move |inbox| {
        let work = Work {
            keeps,
            inbox,
            applied: Vec::new(),
            next_look: Instant::now(),
            rooms: BTreeMap::new(),
            trees: Trees::new(bpffs.clone()),
            reported: BTreeSet::new(),
            bpffs,
        };
        work.run();
    })
}

struct Work {
    bpffs: PathBuf,
    /// There is a way back for packets that wait.
    keeps: bool,
    inbox: Inbox<Wishes>,
    /// What was applied to each topology when cubes were looked for.
    applied: Vec<Option<u32>>,
    /// When they are looked for again.
    next_look: Instant,
    rooms: BTreeMap<(Name, Name), Room>,
    trees: Trees,
    /// What was said; it is not said again.
    reported: BTreeSet<String>,
}

struct Room {
    kernel: WaitingRoom,
    queue: Queue,
    advertising: Schedule,
}

impl Work {
    fn run(mut self) {
        let mut renew = Instant::now();
        loop {
            let woken = self.inbox.drain();
            let Some(topologies) = self.inbox.read(|wishes| wishes.topologies.clone()) else {
                break;
            };
            if woken || renew <= Instant::now() {
                renew = Instant::now() + RENEW;
                self.look_after_an_apply(&topologies, woken);
                self.renew();
            }
            let mut wait = renew.saturating_duration_since(Instant::now());
            for room in self.rooms.values_mut() {
                if let Err(error) = room.turn().and(room.advertise()) {
                    report(&mut self.reported, waiting(&error));
                }
                wait = wait.min(room.pause());
            }
            let Self {
                trees, reported, ..
            } = &mut self;
            trees.turn(&mut |problem| report(reported, of_trees(&problem)));
            wait = wait.min(trees.pause());
            self.wait(wait);
        }
        for room in self.rooms.values_mut() {
            room.end();
        }
        self.trees.end();
    }

    /// Looks for cubes when there may be other ones than last time.
    fn look_after_an_apply(&mut self, topologies: &BTreeSet<Name>, woken: bool) {
        let applied = |topology| Applied::id(&self.bpffs, topology);
        let applied: Vec<_> = topologies.iter().map(applied).collect();
        let now = Instant::now();
        if woken || applied != self.applied || self.next_look <= now {
            self.look(topologies);
            self.applied = applied;
            self.next_look = now + LOOK;
        }
    }

    /// Opens what came, and closes what went.
    fn look(&mut self, topologies: &BTreeSet<Name>) {
        let Self {
            trees,
            reported,
            keeps,
            ..
        } = self;
        // Without a way back into bridges nothing could be said.
        if *keeps {
            trees.look(topologies, &mut |problem| {
                report(reported, of_trees(&problem))
            });
        }
        self.rooms.retain(|_, room| room.kernel.is_current());
        for topology in topologies {
            for cube in rooms(&self.bpffs, topology) {
                let key = (topology.clone(), cube);
                if self.rooms.contains_key(&key) {
                    continue;
                }
                match WaitingRoom::open(&self.bpffs, &key.0, &key.1) {
                    Ok(kernel) => {
                        let room = Room {
                            kernel,
                            queue: Queue::default(),
                            advertising: Schedule::default(),
                        };
                        self.rooms.insert(key, room);
                    }
                    Err(error) => report(&mut self.reported, waiting(&error)),
                }
            }
        }
        for room in self.rooms.values_mut() {
            let now = room.kernel.now();
            room.advertising.set(room.kernel.advertisements(), now);
        }
    }

    /// Asks cubes to go on giving away what is for us.
    fn renew(&mut self) {
        let Self {
            trees,
            reported,
            keeps,
            rooms,
            ..
        } = self;
        if *keeps {
            trees.renew(LISTEN, &mut |problem| report(reported, of_trees(&problem)));
        }
        for room in rooms.values_mut() {
            room.kernel.close_unused();
            if !*keeps {
                continue;
            }
            let until = room.kernel.now() + LISTEN.as_nanos() as u64;
            if let Err(error) = room.kernel.listen(until) {
                report(reported, waiting(&error));
            }
        }
    }

    fn wait(&self, longest: Duration) {
        let timeout = if self.rooms.is_empty() && self.trees.is_empty() {
            PollTimeout::NONE
        } else {
            let pause = longest.as_micros().div_ceil(1000);
            PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)
        };
        let mut sources = vec![PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN)];
        for room in self.rooms.values() {
            sources.push(PollFd::new(room.kernel.as_fd(), PollFlags::POLLIN));
        }
        let of_trees = self.trees.descriptors();
        sources.extend(of_trees.map(|source| PollFd::new(source, PollFlags::POLLIN)));
        // A signal is somebody else's to notice.
        let _interrupted = poll(&mut sources, timeout);
    }
}

impl Room {
    /// Takes what was given away and gives back what is due.
    fn turn(&mut self) -> crate::kernel::Result<()> {
        let mut result = Ok(());
        for _ in 0..TURNS {
            let Self { kernel, queue, .. } = self;
            let mut back: Vec<Packet> = Vec::new();
            kernel.read(|header, frame| back.extend(queue.take(&header, frame)));
            back.extend(queue.due(kernel.now(), |key| kernel.neighbor(key)));
            if back.is_empty() {
                break;
            }
            for packet in back {
                result = result.and(give_back(kernel, packet));
            }
        }
        result
    }

    /// Sends the router advertisements that are due.
    fn advertise(&mut self) -> crate::kernel::Result<()> {
        let random = |limit: u64| RandomState::new().hash_one(()) % limit.max(1);
        let frames = self.advertising.due(self.kernel.now(), random);
        let mut result = Ok(());
        for (port, frame) in frames {
            result = result.and(self.kernel.send(port, &frame));
        }
        result
    }

    /// How long there is nothing to do.
    fn pause(&self) -> Duration {
        let now = self.kernel.now();
        let due = [self.queue.next_due(), self.advertising.next_due()];
        due.into_iter()
            .flatten()
            .min()
            .map_or(Duration::MAX, |due| {
                Duration::from_nanos(due.saturating_sub(now))
            })
    }

    /// The cube decides what becomes of what is still here.
    fn end(&mut self) {
        // What cannot be asked ends by itself.
        let _alone = self.kernel.listen(0);
        let Self { kernel, queue, .. } = self;
        let mut back = Vec::new();
        kernel.read(|header, frame| back.extend(queue.take(&header, frame)));
        back.extend(queue.clear());
        for packet in back {
            // There is nobody left to hear of it.
            let _lost = give_back(kernel, packet);
        }
    }
}

fn give_back(kernel: &mut WaitingRoom, mut packet: Packet) -> crate::kernel::Result<()> {
    complete(&mut packet.frame);
    kernel.give_back(packet.port, &packet.frame)
}

fn waiting(error: &Error) -> String {
    format!("packets that wait for neighbours: {error}")
}

fn of_trees(problem: &str) -> String {
    format!("spanning tree: {problem}")
}

fn report(reported: &mut BTreeSet<String>, problem: String) {
    if !reported.contains(&problem) {
        tracing::warn!("{problem}");
        // Whatever it is, saying a hundred different things does not help.
        if reported.len() < 100 {
            reported.insert(problem);
        }
    }
}
