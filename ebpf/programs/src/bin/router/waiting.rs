//! Packets that wait for a neighbour: a program cannot keep them, so they are given to whoever
//! listens, who gives them back when the neighbour is known, or when it is time to ask again.

use aya_ebpf::{
    macros::map,
    maps::{Array, RingBuf},
};
use ebpf_abi::router::{
    NeighborKey, WAITING_AGAIN, WAITING_BYTES, WAITING_FRAME, WAITING_KNOWN, Waiting,
};
use ebpf_programs::{Packet, clock, ring};

use crate::{Input, neighbor};

#[map(name = "waiting")]
static WAITING: RingBuf = RingBuf::with_byte_size(WAITING_BYTES, 0);
/// Until when somebody listens, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
#[map(name = "listening")]
static LISTENING: Array<u64> = Array::with_max_entries(1, 0);

/// Gives the packet away, as it came in. False if nobody takes it: it is still ours.
///
/// What is cut into several packets later does not wait, nor what is larger than most frames:
/// its sender will repeat it.
#[inline(always)]
pub fn give<P: Packet>(packet: &P, input: &Input, key: &NeighborKey, kind: u32) -> bool {
    let now = clock::now();
    if LISTENING.get(0).is_none_or(|until| *until <= now) || packet.is_segmented() {
        return false;
    }
    let length = packet.len();
    let header = Waiting {
        time: now,
        neighbor: *key,
        kind,
        port: input.index,
        length,
    };
    if !ring::copy::<P, Waiting, WAITING_FRAME>(&WAITING, header, packet, length) {
        return false;
    }
    if kind != WAITING_AGAIN {
        neighbor::waits(key);
    }
    true
}

/// Says that a neighbour is known for which packets wait.
#[inline(always)]
pub fn known(key: &NeighborKey, now: u64) {
    let record = Waiting {
        time: now,
        neighbor: *key,
        kind: WAITING_KNOWN,
        port: 0,
        length: 0,
    };
    // A full ring: whoever keeps the packets looks by itself, later.
    let _full = WAITING.output::<Waiting>(&record, 0);
}
