//! What is known of the packet at hand, and how functions that are programs of their own answer.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use ebpf_abi::{counters::DropReason, firewall::Work};
use ebpf_programs::Result;

#[map(name = "work")]
static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's. Each handles one packet at a time.
#[inline(always)]
pub fn work() -> Result<&'static mut Work> {
    let work = WORK.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    // SAFETY: the entry belongs to this CPU, and programs do not nest.
    Ok(unsafe { &mut *work })
}

/// What a function that is a program of its own says: a number, as the verifier does not follow
/// an enum from one function to another.
pub type Answer = i64;

/// The packet passes as it is.
pub const PASS: Answer = 0;
/// What was to be done is done.
pub const DONE: Answer = 1;
/// The packet is not IP.
pub const NOT_IP: Answer = 2;

/// A reason to drop the packet, as an answer.
#[inline(always)]
pub fn answer(result: Result<Answer>) -> Answer {
    match result {
        Ok(answer) => answer,
        Err(reason) => -1 - (reason as i64),
    }
}

/// The same the other way round.
#[inline(always)]
pub fn result(answer: Answer) -> Result<Answer> {
    const FRAGMENT: Answer = -1 - (DropReason::FragmentUnknown as i64);
    const SESSIONS: Answer = -1 - (DropReason::SessionsExhausted as i64);
    match answer {
        PASS | DONE | NOT_IP => Ok(answer),
        FRAGMENT => Err(DropReason::FragmentUnknown),
        SESSIONS => Err(DropReason::SessionsExhausted),
        _ => Err(DropReason::Malformed),
    }
}

/// What was noted, which neither the compiler nor the verifier is to remember: what they know of it doubles what the
/// verifier walks afterwards.
#[inline(always)]
pub fn forgotten(noted: &u8) -> u8 {
    // SAFETY: it is a reference.
    unsafe { (&raw const *noted).read_volatile() }
}
