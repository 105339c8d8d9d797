//! What is made before its step comes: maps, programs on them, and links.
//!
//! The kernel takes its time for two things: the verifier for each program, and each link to a tcx point for an RCU grace
//! period. Neither needs what lies between in a plan, so threads do both while tables are filled, which is done ahead, too, where there are
//! many entries. Where nothing was applied before, maps and programs are begun while the plan is still made. Nobody sees any of it:
//! maps and programs have no pin yet, and a link has a program that lets everything pass on
//! (`TCX_NEXT`) until its step exchanges it, which takes no grace period. All of it goes with its descriptors: with the
//! process, if that is killed, or when the plan is given up.
//!
//! What does not come off is left to its step, which fails then and says why.

mod expected;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    num::NonZero,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use topology_schema::InterfaceName;

use self::expected::Expected;
use super::{
    LinuxKernel,
    bpf::{self, LinkTarget, ProgramRequest},
    maps, new_map,
    object::Objects,
    programs::{Material, indices_for, link_target, load},
};
use crate::{
    parallel,
    plan::{Op, Step},
    resource::{Content, Map, PinPath, Program},
};

/// Threads that load programs, at most: the verifier takes memory for each.
const LOADERS: usize = 4;
/// Maps that one thread makes at least.
const MAPS: usize = 8;
/// `BPF_PROG_TYPE_SCHED_CLS`
const SCHED_CLS: u32 = 3;
/// `r0 = TCX_NEXT; exit`: the packet is the next program's, or the host's.
const PASS_ON: [u8; 16] = [
    0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0,
];

/// Entries from which a map is filled ahead.
const MANY: usize = 256;

/// What is made ahead, and for which steps.
#[derive(Default)]
pub(super) struct Ahead {
    expected: Expected,
    maps: BTreeMap<PinPath, Made>,
    programs: BTreeMap<PinPath, Loading>,
    links: BTreeMap<PinPath, (LinkTarget, Receiver<OwnedFd>)>,
    given_up: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A map that was made.
struct Made {
    map: Map,
    fd: Arc<OwnedFd>,
    /// True once all entries are in it; held by whoever writes them.
    filled: Arc<Mutex<bool>>,
}

/// A program that is being loaded.
struct Loading {
    program: Arc<Program>,
    /// What it is loaded onto and with, of what may turn out to be something else.
    maps: BTreeSet<PinPath>,
    indices: BTreeMap<InterfaceName, u32>,
    loaded: Receiver<OwnedFd>,
}

/// A program that is to be loaded.
struct Job {
    pin: PinPath,
    program: Arc<Program>,
    material: Material,
    done: Sender<OwnedFd>,
}

impl Made {
    /// Takes it for this map, if it can be: it has the same content, or none yet.
    fn becomes(&mut self, map: &Map) -> bool {
        if self.map.shape == map.shape && self.map.content == Content::Learned {
            self.map = map.clone();
        }
        self.map == *map
    }
}

impl Ahead {
    /// True for steps that everything else is made after.
    pub(super) fn waits_for(op: &Op) -> bool {
        matches!(
            op,
            Op::CreateNamespace(_) | Op::CreateVeth(..) | Op::DeleteVeths(_)
        )
    }

    /// Expects these steps; with none, forgets what was expected. What was made already and is not what they ask for is let
    /// go, and the rest of it not made again.
    pub(super) fn expect(&mut self, steps: &[Step]) {
        let mut expected = Expected::of(steps);
        // Without programs there is nothing worth doing beside the rest.
        if expected.programs.is_empty() {
            self.give_up();
            return;
        }
        self.keep(&mut expected);
        self.expected = expected;
    }

    /// Expects steps before it is known what there is: without links, which packets would notice though nothing is decided.
    /// Programs that name an interface which is still to be made are left out when they are begun, or have another index
    /// in them when their step comes, and are not taken then.
    pub(super) fn foresee(&mut self, steps: &[Step]) {
        let mut expected = Expected {
            interfaces: 0,
            links: BTreeMap::new(),
            foreseen: true,
            ..Expected::of(steps)
        };
        self.keep(&mut expected);
        self.expected = expected;
    }

    /// Keeps what was made and is among what is expected, lets the rest go, and expects no more what is there.
    fn keep(&mut self, expected: &mut Expected) {
        let maps = &mut self.maps;
        maps.retain(|pin, made| expected.maps.get(pin).is_some_and(|map| made.becomes(map)));
        self.programs.retain(|pin, loading| {
            expected.programs.get(pin) == Some(&loading.program)
                && loading.maps.iter().all(|map| maps.contains_key(map))
        });
        expected.maps.retain(|pin, _| !maps.contains_key(pin));
        let (programs, links) = (&self.programs, &self.links);
        expected
            .programs
            .retain(|pin, _| !programs.contains_key(pin));
        expected.links.retain(|pin, _| !links.contains_key(pin));
    }

    /// A step that everything else is made after is done.
    pub(super) fn interface_is_done(&mut self) {
        self.expected.interfaces = self.expected.interfaces.saturating_sub(1);
    }

    /// What can be made now.
    fn due(&mut self) -> Option<Expected> {
        let due = self.expected.interfaces == 0
            && !(self.expected.programs.is_empty() && self.expected.links.is_empty());
        due.then(|| std::mem::take(&mut self.expected))
    }

    /// A map that was made, and whether its entries are in it.
    pub(super) fn map(&mut self, pin: &PinPath, map: &Map) -> Option<(Arc<OwnedFd>, bool)> {
        let made = self.maps.remove(pin).filter(|made| made.map == *map)?;
        // Who begins is who writes all: others wait here.
        let mut filled = made.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let fill = !*filled && is_filled_ahead(map);
        *filled |= fill && fill_map(&made.fd, map).is_ok();
        let filled = *filled;
        Some((made.fd, filled))
    }

    /// A program that was loaded, or is being loaded.
    pub(super) fn program(
        &mut self,
        pin: &PinPath,
        program: &Program,
        indices: &BTreeMap<InterfaceName, u32>,
    ) -> Option<OwnedFd> {
        let known = self.programs.remove(pin)?;
        let same = *known.program == *program && known.indices == *indices;
        same.then(|| known.loaded.recv().ok()).flatten()
    }

    /// A link that was made, or is being made.
    pub(super) fn link(&mut self, pin: &PinPath, target: LinkTarget) -> Option<OwnedFd> {
        let (known, made) = self.links.remove(pin)?;
        (known == target).then(|| made.recv().ok()).flatten()
    }

    /// Lets everything go that no step has taken.
    fn give_up(&mut self) {
        self.expected = Expected::default();
        self.given_up.store(true, Ordering::Relaxed);
        self.programs.clear();
        self.links.clear();
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened.
            let _panicked = thread.join();
        }
        self.maps.clear();
        self.given_up = Arc::default();
    }

    /// Starts a thread. If there is none to be had, what it would have made is left to the steps.
    fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        self.threads.extend(thread);
    }

    fn start_links(&mut self, links: Vec<(PinPath, LinkTarget)>) {
        let mut jobs = Vec::new();
        for (pin, target) in links {
            let (done, made) = channel();
            jobs.push((target, done));
            self.links.insert(pin, (target, made));
        }
        let given_up = Arc::clone(&self.given_up);
        // One after the other: the kernel does no two at once.
        self.start("links", move || {
            let Ok(program) = passing_on() else { return };
            for (target, done) in jobs {
                let made = bpf::create_link(program.as_fd(), target);
                if made.is_ok_and(|link| done.send(link).is_err())
                    || given_up.load(Ordering::Relaxed)
                {
                    return;
                }
            }
        });
    }

    /// Fills large maps, the last first: who carries out the steps begins with the first.
    fn start_filling(&mut self) {
        let mut jobs = Vec::new();
        for made in self.maps.values().rev() {
            if is_filled_ahead(&made.map) {
                let filled = Arc::clone(&made.filled);
                jobs.push((made.map.clone(), Arc::clone(&made.fd), filled));
            }
        }
        if jobs.is_empty() {
            return;
        }
        let given_up = Arc::clone(&self.given_up);
        self.start("tables", move || {
            for (map, fd, filled) in jobs {
                if given_up.load(Ordering::Relaxed) {
                    return;
                }
                let mut filled = filled.lock().unwrap_or_else(PoisonError::into_inner);
                *filled = *filled || fill_map(&fd, &map).is_ok();
            }
        });
    }

    fn start_loading(&mut self, jobs: Vec<Job>, objects: &Arc<Objects>) {
        let (put, take) = channel();
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let count = count.min(LOADERS).min(jobs.len());
        for job in jobs {
            // The other end is here.
            let _open = put.send(job);
        }
        drop(put);
        let take = Arc::new(Mutex::new(take));
        for _ in 0..count {
            let (take, objects) = (Arc::clone(&take), Arc::clone(objects));
            let given_up = Arc::clone(&self.given_up);
            self.start("programs", move || {
                while let Some(job) = next(&take) {
                    if given_up.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(fd) = load(&objects, &job.pin, &job.program, &job.material) {
                        // Nobody may want it any more.
                        let _given_up = job.done.send(fd);
                    }
                }
            });
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// What is to be done next; all of it has been said.
fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
    jobs.recv().ok()
}

/// Whether a map has entries that are worth a thread, and none that depends on interfaces.
fn is_filled_ahead(map: &Map) -> bool {
    let entries = map.content.entries();
    entries.is_some_and(|entries| entries.len() >= MANY && !entries.has_indices())
}

/// Writes the entries of such a map.
fn fill_map(fd: &OwnedFd, map: &Map) -> io::Result<()> {
    match map.content.entries().and_then(|entries| entries.rows()) {
        Some(rows) => maps::put(fd.as_fd(), &map.shape, &rows),
        None => Ok(()),
    }
}

/// A program that does nothing.
fn passing_on() -> bpf::Result<OwnedFd> {
    bpf::load_program(&ProgramRequest {
        name: "pcn_pass_on",
        program_type: SCHED_CLS,
        attach_type: 0,
        instructions: &PASS_ON,
        license: c"Apache-2.0".to_bytes_with_nul(),
        btf: None,
    })
}

impl LinuxKernel {
    /// Begins with what was expected, once the interfaces are there.
    pub(super) fn go_ahead(&mut self) {
        let Some(expected) = self.ahead.due() else {
            return;
        };
        let mut links = Vec::new();
        for (pin, attachment) in expected.links {
            if let Ok(ifindex) = self.ifindex(&attachment.interface) {
                links.push((pin, link_target(attachment.point, ifindex)));
            }
        }
        if !links.is_empty() {
            self.ahead.start_links(links);
        }
        let mut maps = BTreeMap::new();
        for (pin, made) in &self.ahead.maps {
            maps.insert(pin.clone(), Arc::clone(&made.fd));
        }
        let new: Vec<(PinPath, Map)> = expected.maps.into_iter().collect();
        let made = parallel::map(&new, MAPS, |(pin, map)| new_map(pin, map.shape));
        for ((pin, map), made) in new.into_iter().zip(made) {
            if let Ok(fd) = made {
                let fd = Arc::new(fd);
                maps.insert(pin.clone(), Arc::clone(&fd));
                let filled = Arc::default();
                self.ahead.maps.insert(pin, Made { map, fd, filled });
            }
        }
        let mut jobs = Vec::new();
        for (pin, program) in expected.programs {
            let made = |map: &&PinPath| self.ahead.maps.contains_key(*map);
            let own: BTreeSet<PinPath> = program.maps.values().filter(made).cloned().collect();
            if expected.foreseen && !program.maps.values().all(|map| own.contains(map)) {
                continue;
            }
            let Some(material) = self.material_ahead(&program, &mut maps) else {
                continue;
            };
            let (done, loaded) = channel();
            let loading = Loading {
                program: Arc::clone(&program),
                maps: own,
                indices: material.indices.clone(),
                loaded,
            };
            self.ahead.programs.insert(pin.clone(), loading);
            jobs.push(Job {
                pin,
                program,
                material,
                done,
            });
        }
        let objects = Arc::clone(&self.objects);
        self.ahead.start_loading(jobs, &objects);
        self.ahead.start_filling();
    }

    /// What a program is loaded onto, if all of it is there. `maps` are those that were opened before.
    fn material_ahead(
        &mut self,
        program: &Program,
        maps: &mut BTreeMap<PinPath, Arc<OwnedFd>>,
    ) -> Option<Material> {
        let mut own = BTreeMap::new();
        for (name, pin) in &program.maps {
            if !maps.contains_key(pin) {
                maps.insert(pin.clone(), Arc::new(self.open(pin).ok()?));
            }
            own.insert(*name, Arc::clone(&maps[pin]));
        }
        let indices = indices_for(program, |name| self.ifindex(name)).ok()?;
        Some(Material { maps: own, indices })
    }
}
