//! What a program costs, by the kernel's test run. The generator writes the packet before each run, so that all of them find
//! it as it came; what that costs by itself is measured with a program behind it that does nothing.

use std::{os::fd::BorrowedFd, time::Duration};

use ebpf_abi::bench::{Bound, COUNTED_CUBES, FRAME, WORK_COUNT, WORK_JUMP, WORK_NONE, WORK_PARSE};
use integration_tests::{
    cube::Cube,
    packet::difference,
    test_run::{Hook, Verdict},
};
use nix::time::{ClockId, clock_gettime};
use reconciler::kernel::linux::bpf;

use super::{
    frames::Frames,
    stay_on_one_cpu,
    traffic::{bound, generator, lead_to, template},
};

/// Runs of one sample. The same for all: what a test run costs besides is then the same too, and is taken off with what the
/// generator costs.
const REPEAT: u32 = 50_000;

/// A program with packets for it.
pub struct Meter {
    hook: Hook,
    generator: Cube,
    template: [u8; FRAME],
    /// What the generator leads to, where that is not pinned somewhere.
    _behind: Vec<Cube>,
}

impl Meter {
    /// Of a program that is there.
    pub fn new(hook: Hook, frames: &Frames, program: BorrowedFd<'_>) -> Self {
        let generator = generator(hook, frames, 0);
        lead_to(&generator, program);
        Self {
            hook,
            generator,
            template: template(frames),
            _behind: Vec::new(),
        }
    }

    /// Of nothing: the generator alone.
    pub fn of_nothing(hook: Hook, frames: &Frames) -> Self {
        Self::of_bound(hook, frames, 0, WORK_NONE)
    }

    /// Of what every forwarder does: reads headers and an entry of an array, and sends.
    pub fn of_parsing(hook: Hook, frames: &Frames) -> Self {
        Self::of_bound(hook, frames, 1, WORK_PARSE)
    }

    /// Of counting what sixteen cubes in a row count, in one program.
    pub fn of_counting(hook: Hook, frames: &Frames) -> Self {
        Self::of_bound(hook, frames, 1, WORK_COUNT)
    }

    /// Of the jumps of as many cubes.
    pub fn of_jumping(hook: Hook, frames: &Frames) -> Self {
        let sends = Bound {
            ifindex: 1,
            work: WORK_NONE,
        };
        let jumps = Bound {
            work: WORK_JUMP,
            ..sends
        };
        let mut programs = vec![bound(hook, sends)];
        for place in 0..COUNTED_CUBES as usize {
            let next = bound(hook, jumps);
            lead_to(&next, programs[place].program());
            programs.push(next);
        }
        let first = &programs[COUNTED_CUBES as usize];
        let meter = Self::new(hook, frames, first.program());
        Self {
            _behind: programs,
            ..meter
        }
    }

    fn of_bound(hook: Hook, frames: &Frames, ifindex: u32, work: u32) -> Self {
        let behind = bound(hook, Bound { ifindex, work });
        let meter = Self::new(hook, frames, behind.program());
        Self {
            _behind: vec![behind],
            ..meter
        }
    }

    /// What the program says to the next packet, and the packet as it left it.
    pub fn once(&self) -> (Verdict, Vec<u8>) {
        let program = self.generator.program();
        let (verdict, packet) =
            bpf::test_run(program, &self.template, &mut []).expect("the kernel runs the program");
        let verdict = match (self.hook, verdict as i32) {
            (Hook::Tc, 7) | (Hook::Xdp, 4) => Verdict::Redirect,
            (Hook::Tc, 2) | (Hook::Xdp, 1) => Verdict::Drop,
            (Hook::Tc, -1) | (Hook::Xdp, 2) => Verdict::Pass,
            _ => Verdict::Unknown(verdict),
        };
        (verdict, packet)
    }

    /// Insists on what becomes of the next packet, before anything is measured.
    pub fn check(&self, verdict: Verdict, packet: &[u8]) {
        let (said, left) = self.once();
        assert_eq!(said, verdict, "the packet that is measured goes elsewhere");
        if let Some(difference) = difference(packet, &left) {
            panic!("the packet that is measured is another one: {difference}");
        }
    }

    /// Nanoseconds of a run, with the generator's: of the CPU's time, so that what else runs on it does not count.
    pub fn sample(&self) -> f64 {
        stay_on_one_cpu();
        let start = cpu_time();
        bpf::test_run_repeated(self.generator.program(), &self.template, REPEAT)
            .expect("the kernel runs the program");
        (cpu_time() - start) / f64::from(REPEAT)
    }
}

/// Nanoseconds that the calling thread has run.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    Duration::from(time).as_nanos() as f64
}
