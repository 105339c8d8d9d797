//! What is known of the packet at hand. In a map, because a program's stack has 512 bytes.

use aya_ebpf::{bindings::bpf_fib_lookup, macros::map, maps::PerCpuArray};
use ebpf_abi::{
    counters::DropReason,
    flow::{Flow, FlowKey},
    nat::{Mapping, MappingKey, WORK_WORDS},
};
use ebpf_programs::{
    Result,
    answer::{Answer, DONE, PASS, dropped},
};

use crate::session::Search;

#[repr(C)]
pub struct Work {
    /// The packet; its key has the direction.
    pub flow: Flow,
    /// What an ICMP error quotes.
    pub quoted: Flow,
    /// The other direction's packets on the other side.
    pub reverse: FlowKey,
    pub inside: MappingKey,
    pub outside: MappingKey,
    /// The outside half that a mapping to the port inside has.
    pub own: MappingKey,
    pub mapping: Mapping,
    /// What a mapping is to have: the external address, its pool, and the rule.
    pub wanted: Mapping,
    /// The slot of the session that the packet has just begun.
    pub begun: u32,
    /// For atomic operations that are done for their order alone.
    pub fence: u64,
    pub lookup: bpf_fib_lookup,
    /// Of sessions that have expired, and of a free slot.
    pub search: Search,
}

const _: () = assert!(size_of::<Work>() <= WORK_WORDS * 8);

#[map(name = "work")]
static WORK: PerCpuArray<[u64; WORK_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's. Each handles one packet at a time.
#[inline(always)]
pub fn work() -> Result<&'static mut Work> {
    let work = WORK.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    // SAFETY: the entry belongs to this CPU, is there forever, and numbers are valid whatever
    // they are.
    Ok(unsafe { &mut *work.cast() })
}

/// The packet is to become one of the other family: `reverse` says which.
pub const OTHER_FAMILY: Answer = 2;

/// What an answer says, with the reasons that functions here give.
#[inline(always)]
pub fn result(answer: Answer) -> Result<Answer> {
    const NO_SESSION: Answer = dropped(DropReason::NoSession);
    const PORTS: Answer = dropped(DropReason::PortsExhausted);
    const SESSIONS: Answer = dropped(DropReason::SessionsExhausted);
    const NO_ADDRESS: Answer = dropped(DropReason::NoExternalAddress);
    const UNSUPPORTED: Answer = dropped(DropReason::Unsupported);
    const FRAGMENT: Answer = dropped(DropReason::FragmentUnknown);
    const NOT_FORWARDED: Answer = dropped(DropReason::NotForwarded);
    const NO_MEMORY: Answer = dropped(DropReason::NoMemory);
    match answer {
        PASS | DONE | OTHER_FAMILY => Ok(answer),
        NOT_FORWARDED => Err(DropReason::NotForwarded),
        NO_SESSION => Err(DropReason::NoSession),
        PORTS => Err(DropReason::PortsExhausted),
        SESSIONS => Err(DropReason::SessionsExhausted),
        NO_ADDRESS => Err(DropReason::NoExternalAddress),
        UNSUPPORTED => Err(DropReason::Unsupported),
        FRAGMENT => Err(DropReason::FragmentUnknown),
        NO_MEMORY => Err(DropReason::NoMemory),
        _ => Err(DropReason::Malformed),
    }
}

/// Copies a key, word by word: the compiler would call a function for what may overlap.
///
/// # Safety
/// Both must be valid, in maps and aligned to eight bytes.
#[inline(always)]
pub unsafe fn copy(to: *mut FlowKey, from: *const FlowKey) {
    const WORDS: usize = size_of::<FlowKey>() / 8;
    let (to, from) = (to.cast::<u64>(), from.cast::<u64>());
    for word in 0..WORDS {
        // SAFETY: as the caller promises.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
    }
}
