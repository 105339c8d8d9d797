//! Counts what arrives and frees it. The next frame is kept if user space asks for it.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{classifier, map, xdp},
    maps::{Array, PerCpuArray},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::bench::{FRAME, Kept};
use ebpf_programs::{Packet, tc::Tc, xdp::Xdp};

/// Frames that arrived, by CPU.
#[map(name = "arrived")]
static ARRIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map(name = "kept")]
static KEPT: Array<Kept> = Array::with_max_entries(1, 0);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    take(&Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    take(&Xdp::new(&context)) as u32
}

#[inline(always)]
fn take<P: Packet>(packet: &P) -> i32 {
    if let Some(arrived) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: the entry belongs to this CPU.
        unsafe { *arrived += 1 };
    }
    if let Some(kept) = KEPT.get_ptr_mut(0) {
        // SAFETY: the kernel keeps the entry while the program runs; user space asks for one frame at a time.
        unsafe {
            if (*kept).wanted != 0
                && let Ok(frame) = packet.load::<[u8; FRAME]>(0)
            {
                (*kept).frame = frame;
                (*kept).length = packet.len();
                (*kept).wanted = 0;
            }
        }
    }
    P::DROP
}
