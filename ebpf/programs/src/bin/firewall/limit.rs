//! Limits: how many packets a second a rule accepts or answers.

use aya_ebpf::{macros::map, maps::Array};
use ebpf_abi::firewall::Rate;
use ebpf_programs::{atomic, clock};

/// When the next packet of a rule is due, were they to come at the rate of its limit: in
/// nanoseconds of the data planes' clock. By slot.
#[map(name = "limits")]
static DUE: Array<u64> = Array::with_max_entries(1024, 0);

/// How often a CPU tries again when others count packets of the same rule. Then the packet counts
/// as one too many: that many at once are a flood.
const TRIES: u32 = 8;

/// Counts a packet, and says whether it is one too many.
#[inline(always)]
pub fn admit(slot: u32, rate: &Rate, packets: u64) -> bool {
    if rate.interval == 0 {
        return true;
    }
    let Some(due) = DUE.get_ptr_mut(slot) else {
        return true;
    };
    take(due, rate.interval * packets, rate.tolerance)
}

/// Moves what is due by `cost`, if it is not more than `tolerance` ahead of the time.
#[inline(always)]
pub fn take(due: *mut u64, cost: u64, tolerance: u64) -> bool {
    let now = clock::now();
    // SAFETY: the callers' entries are always there.
    let mut seen = unsafe { due.read_volatile() };
    for _ in 0..TRIES {
        let from = if seen > now { seen } else { now };
        if clock::elapsed(from, now) > tolerance {
            return false;
        }
        // SAFETY: as above.
        let found = unsafe { atomic::compare_exchange(due, seen, from + cost) };
        if found == seen {
            return true;
        }
        seen = found;
    }
    false
}
