//! Packets that wait for a neighbour: a program cannot keep them, so they are given to whoever
//! listens, who gives them back when the neighbour is known, or when it is time to ask again.

use aya_ebpf::{
    macros::map,
    maps::{Array, RingBuf},
};
use ebpf_abi::router::{
    NeighborKey, WAITING_AGAIN, WAITING_BYTES, WAITING_FRAME, WAITING_KNOWN, Waiting,
};
use ebpf_programs::{Packet, clock, packet::bounded};

use crate::{Input, neighbor};

#[map(name = "waiting")]
static WAITING: RingBuf = RingBuf::with_byte_size(WAITING_BYTES, 0);
/// Until when somebody listens, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
#[map(name = "listening")]
static LISTENING: Array<u64> = Array::with_max_entries(1, 0);

#[repr(C)]
struct Record {
    header: Waiting,
    frame: [u8; WAITING_FRAME],
}

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
    if length == 0 || length > WAITING_FRAME as u32 {
        return false;
    }
    let length = bounded::<{ WAITING_FRAME as u32 }>(length);
    let Some(mut record) = WAITING.reserve::<Record>(0) else {
        return false;
    };
    let to = record.as_mut_ptr();
    // SAFETY: the reservation has room for a record. Its frame is larger than `length`.
    let copied = unsafe {
        (&raw mut (*to).header).write(Waiting {
            time: now,
            neighbor: *key,
            kind,
            port: input.index,
            length,
        });
        packet.copy_out(0, (&raw mut (*to).frame).cast(), length)
    };
    if copied.is_err() {
        record.discard(0);
        return false;
    }
    record.submit(0);
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
