//! What rows are built of: frames, ways between namespaces, programs that send and count.

pub mod frames;
pub mod hosts;
pub mod meter;
pub mod path;
pub mod probe;
pub mod traffic;
pub mod watch;

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// The CPU on which things are measured: the last one, which has the fewest interrupts.
pub fn quiet_cpu() -> usize {
    std::thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1)
}

/// Keeps the calling thread on one CPU.
pub fn stay_on_one_cpu() {
    stay_on_one_cpu_of(quiet_cpu());
}

/// The same with a choice.
pub fn stay_on_one_cpu_of(cpu: usize) {
    let mut one = CpuSet::new();
    // A machine that forbids it measures with more noise.
    if one.set(cpu).is_ok() {
        let _refused = sched_setaffinity(Pid::from_raw(0), &one);
    }
}
