//! Giving packets to user space, through a ring buffer: a header of the cube's, then the packet.

use aya_ebpf::maps::RingBuf;

use crate::{Packet, packet::bounded};

/// What is in the ring: `H`, then room for a packet of `N` bytes, a power of two.
#[repr(C)]
struct Record<H, const N: usize> {
    header: H,
    packet: [u8; N],
}

/// Copies a packet of `length` bytes into the ring. False if it does not fit, or the ring is full:
/// it is still ours.
#[inline(always)]
pub fn copy<P: Packet, H: Copy + 'static, const N: usize>(
    ring: &RingBuf,
    header: H,
    packet: &P,
    length: u32,
) -> bool {
    const { assert!(N == 512 || N == 2048) };
    if length == 0 || length > N as u32 {
        return false;
    }
    let length = match N {
        512 => bounded::<512>(length),
        _ => bounded::<2048>(length),
    };
    let Some(mut record) = ring.reserve::<Record<H, N>>(0) else {
        return false;
    };
    let to = record.as_mut_ptr();
    // SAFETY: the reservation has room for a record. Its packet is not smaller than `length`.
    let copied = unsafe {
        (&raw mut (*to).header).write(header);
        packet.copy_out(0, (&raw mut (*to).packet).cast(), length)
    };
    if copied.is_err() {
        record.discard(0);
        return false;
    }
    record.submit(0);
    true
}
