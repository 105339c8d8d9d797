//! Time.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;

/// Nanoseconds of `CLOCK_MONOTONIC_COARSE` (Linux 5.11): a few milliseconds coarse, and several
/// times cheaper than the precise clock in a virtual machine.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Nanoseconds from `then` to `now`. None, when another CPU noted `then` at a tick that came
/// after we asked for the time.
#[inline(always)]
pub fn elapsed(now: u64, then: u64) -> u64 {
    now.saturating_sub(then)
}
