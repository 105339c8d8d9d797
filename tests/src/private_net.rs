//! A network namespace for one thread: nothing a test sends reaches the machine's own interfaces.

use std::{panic, thread};

use nix::{
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare},
    unistd::Pid,
};
use reconciler::kernel::linux::netlink::Netlink;

/// The loopback interface.
pub const LOOPBACK: u32 = 1;

/// Runs `work` on a thread of its own, in a network namespace of its own, on one CPU (so that
/// what is per CPU stays in one place). The namespace goes with the thread.
pub fn run<T: Send>(work: impl FnOnce(&mut Netlink) -> T + Send) -> T {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root can make a network namespace");
        stay_on_this_cpu();
        let mut netlink = Netlink::host().expect("netlink in a new namespace");
        netlink.set_up(LOOPBACK).expect("loopback is there");
        work(&mut netlink)
    };
    let result = thread::scope(|scope| scope.spawn(inside).join());
    result.unwrap_or_else(|panic| panic::resume_unwind(panic))
}

fn stay_on_this_cpu() {
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread).expect("a thread may ask where it runs");
    let cpu = (0..CpuSet::count())
        .find(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .expect("there is a CPU");
    let mut one = CpuSet::new();
    one.set(cpu).expect("a CPU that is allowed");
    sched_setaffinity(this_thread, &one).expect("a thread may choose among its CPUs");
}
