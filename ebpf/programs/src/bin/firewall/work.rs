//! What is known of the packet at hand, and what answers say about it.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use ebpf_abi::{counters::DropReason, firewall::Work};
use ebpf_programs::{
    Result,
    answer::{Answer, DONE, PASS, dropped},
};

#[map(name = "work")]
static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's. Each handles one packet at a time.
#[inline(always)]
pub fn work() -> Result<&'static mut Work> {
    let work = WORK.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    // SAFETY: the entry belongs to this CPU, and programs do not nest.
    Ok(unsafe { &mut *work })
}

/// The packet is not IP.
pub const NOT_IP: Answer = 2;

/// What an answer says, with the reasons that functions here give.
#[inline(always)]
pub fn result(answer: Answer) -> Result<Answer> {
    const FRAGMENT: Answer = dropped(DropReason::FragmentUnknown);
    const SESSIONS: Answer = dropped(DropReason::SessionsExhausted);
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
