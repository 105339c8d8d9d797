//! Storm control: how many frames for everyone, for groups and for unknown stations a port may
//! send.

use aya_ebpf::{macros::map, maps::Array};
use ebpf_abi::{
    address::Mac,
    bridge::{
        FEATURE_STORM_CONTROL, STORM_BROADCAST, STORM_MULTICAST, STORM_SORTS,
        STORM_UNKNOWN_UNICAST, StormLimits,
    },
    chain::{MIN_PORTS, in_bank},
    counters::DropReason,
};
use ebpf_programs::{Packet, Result, atomic, clock, tc::Tc};

use crate::has;

/// The limits of each port. Once per bank.
#[map(name = "storm_limits")]
static LIMITS: Array<StormLimits> = Array::with_max_entries(in_bank(MIN_PORTS, 0), 0);

/// When the next frame of a port and a sort is due, were they sent at the rate of the limit: in
/// nanoseconds of `CLOCK_MONOTONIC_COARSE`.
#[map(name = "storm_state")]
static DUE: Array<u64> = Array::with_max_entries(MIN_PORTS * STORM_SORTS as u32, 0);

/// How often a CPU tries again when others count frames of the same port and sort. Then the frame
/// counts as one too many: that many at once are a storm.
const TRIES: u32 = 8;

/// Counts a frame that is about to be flooded, and refuses it if there were too many.
#[inline(always)]
pub fn admit(packet: &Tc, destination: Mac, input: u32, now: u64) -> Result<()> {
    if !has(FEATURE_STORM_CONTROL) {
        return Ok(());
    }
    let sort = if destination == Mac::BROADCAST {
        STORM_BROADCAST
    } else if destination.is_group() {
        STORM_MULTICAST
    } else {
        STORM_UNKNOWN_UNICAST
    };
    let Some(limits) = LIMITS.get(in_bank(input, packet.bank())) else {
        return Ok(());
    };
    let limit = limits.sorts[sort % STORM_SORTS];
    if limit.interval == 0 {
        return Ok(());
    }
    let Some(due) = DUE.get_ptr_mut(input * STORM_SORTS as u32 + sort as u32) else {
        return Ok(());
    };
    let cost = limit.interval * packet.segments();
    // SAFETY: the entry is always there.
    let mut seen = unsafe { due.read_volatile() };
    for _ in 0..TRIES {
        let from = if seen > now { seen } else { now };
        if clock::elapsed(from, now) > limit.tolerance {
            return Err(DropReason::StormControl);
        }
        // SAFETY: as above.
        let found = unsafe { atomic::compare_exchange(due, seen, from + cost) };
        if found == seen {
            return Ok(());
        }
        seen = found;
    }
    Err(DropReason::StormControl)
}
