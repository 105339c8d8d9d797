//! What is made before its step comes: empty maps, programs on them, and links.
//!
//! The kernel takes its time for two things: the verifier for each program, and each link to a tcx point for an RCU grace
//! period. Neither needs what lies between in a plan, so threads do both while tables are filled. Nobody sees any of it:
//! maps and programs have no pin yet, and a link has a program that lets everything pass on
//! (`TCX_NEXT`) until its step exchanges it, which takes no grace period. All of it goes with its descriptors: with the
//! process, if that is killed, or when the plan is given up.
//!
//! What does not come off is left to its step, which fails then and says why.

use std::{
    collections::BTreeMap,
    num::NonZero,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use super::{
    LinuxKernel,
    bpf::{self, LinkTarget, ProgramRequest},
    new_map,
    object::Objects,
    programs::{Material, indices_for, link_target, load},
};
use crate::{
    parallel,
    plan::{Op, Phase, Step},
    resource::{AttachPoint, Attachment, MapShape, PinPath, Program},
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

/// What is made ahead, and for which steps.
#[derive(Default)]
pub(super) struct Ahead {
    expected: Expected,
    maps: BTreeMap<PinPath, (MapShape, Arc<OwnedFd>)>,
    programs: BTreeMap<PinPath, (Arc<Program>, Receiver<OwnedFd>)>,
    links: BTreeMap<PinPath, (LinkTarget, Receiver<OwnedFd>)>,
    given_up: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Of the steps of a plan, what can be made ahead.
#[derive(Default)]
struct Expected {
    /// Steps that make or remove interfaces: what comes after may depend on them, and they wait for the same lock as links do.
    interfaces: usize,
    maps: Vec<(PinPath, MapShape)>,
    programs: Vec<(PinPath, Arc<Program>)>,
    links: Vec<(PinPath, Attachment)>,
}

/// A program that is to be loaded.
struct Job {
    pin: PinPath,
    program: Arc<Program>,
    material: Material,
    done: Sender<OwnedFd>,
}

impl Ahead {
    /// True for steps that everything else is made after.
    pub(super) fn waits_for(op: &Op) -> bool {
        matches!(
            op,
            Op::CreateNamespace(_) | Op::CreateVeth(..) | Op::DeleteVeths(_)
        )
    }

    /// Expects these steps; with none, forgets what was expected. A plan that was begun is not begun again: what is made
    /// is only taken for a step that asks for just that.
    pub(super) fn expect(&mut self, steps: &[Step]) {
        if !steps.is_empty() && (!self.threads.is_empty() || !self.expected.programs.is_empty()) {
            return;
        }
        self.give_up();
        let mut expected = Expected::default();
        for step in steps {
            match &step.op {
                op if Self::waits_for(op) && step.phase == Phase::Prepare => {
                    expected.interfaces += 1;
                }
                Op::CreateMap(pin, map) => expected.maps.push((pin.clone(), map.shape)),
                Op::LoadProgram(pin, program) => {
                    let program = Arc::new(program.clone());
                    expected.programs.push((pin.clone(), program));
                }
                // XDP would change the way of packets before its time.
                Op::Attach(pin, attachment)
                    if matches!(
                        attachment.point,
                        AttachPoint::TcIngress | AttachPoint::TcEgress
                    ) =>
                {
                    expected.links.push((pin.clone(), attachment.clone()));
                }
                _ => {}
            }
        }
        // Without programs there is nothing worth doing beside the rest.
        if !expected.programs.is_empty() {
            self.expected = expected;
        }
    }

    /// A step that everything else is made after is done.
    pub(super) fn interface_is_done(&mut self) {
        self.expected.interfaces = self.expected.interfaces.saturating_sub(1);
    }

    /// What can be made now.
    fn due(&mut self) -> Option<Expected> {
        let due = self.expected.interfaces == 0 && !self.expected.programs.is_empty();
        due.then(|| std::mem::take(&mut self.expected))
    }

    /// A map that was made.
    pub(super) fn map(&mut self, pin: &PinPath, shape: MapShape) -> Option<Arc<OwnedFd>> {
        let (known, fd) = self.maps.remove(pin)?;
        (known == shape).then_some(fd)
    }

    /// A program that was loaded, or is being loaded.
    pub(super) fn program(&mut self, pin: &PinPath, program: &Program) -> Option<OwnedFd> {
        let (known, loaded) = self.programs.remove(pin)?;
        (*known == *program).then(|| loaded.recv().ok()).flatten()
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
        let made = parallel::map(&expected.maps, MAPS, |(pin, shape)| new_map(pin, *shape));
        for ((pin, shape), made) in expected.maps.into_iter().zip(made) {
            if let Ok(fd) = made {
                let fd = Arc::new(fd);
                maps.insert(pin.clone(), Arc::clone(&fd));
                self.ahead.maps.insert(pin, (shape, fd));
            }
        }
        let mut jobs = Vec::new();
        for (pin, program) in expected.programs {
            let Some(material) = self.material_ahead(&program, &mut maps) else {
                continue;
            };
            let (done, loaded) = channel();
            let known = (Arc::clone(&program), loaded);
            self.ahead.programs.insert(pin.clone(), known);
            jobs.push(Job {
                pin,
                program,
                material,
                done,
            });
        }
        let objects = Arc::clone(&self.objects);
        self.ahead.start_loading(jobs, &objects);
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
