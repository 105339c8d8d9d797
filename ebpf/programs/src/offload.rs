//! What a sender on this machine left for later: checksums, and cutting into segments.

use aya_ebpf::{
    bindings::{BPF_F_ADJ_ROOM_FIXED_GSO, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::bpf_skb_adjust_room,
};
use ebpf_abi::counters::DropReason;

use crate::{Result, tc::Tc};

/// Bytes that [`Tc::forget_checksum`] takes away: more than Ethernet and IP headers have, those
/// of IPv6 with a few extensions. A multiple of 4.
const FRONT: i32 = 248;

// SAFETY of the blocks below: `skb` is the context the kernel called the program with, valid
// while it runs.
impl Tc {
    /// Makes the kernel forget that it was to write a checksum: what is in its place stays.
    ///
    /// It forgets when data before that place is taken away (`skb_postpull_rcsum`): so the front
    /// is, up to behind the longest IP header, and put back. What is there afterwards is
    /// undefined; the packet must be longer than [`FRONT`] and its Ethernet header.
    #[inline(always)]
    pub fn forget_checksum(&self) -> Result<()> {
        let mode = BPF_ADJ_ROOM_MAC as u32;
        // SAFETY: see below.
        let result = unsafe {
            bpf_skb_adjust_room(self.skb(), -FRONT, mode, 0)
                | bpf_skb_adjust_room(self.skb(), FRONT, mode, 0)
        };
        match result {
            0 => Ok(()),
            _ => Err(DropReason::NoMemory),
        }
    }

    /// Makes the TCP segments that this buffer stands for fit into IP packets of `limit` bytes,
    /// of which `headers` are in front of their payload. Segments that are datagrams stay.
    #[inline(always)]
    pub fn shrink_segments(&self, headers: u32, limit: u32) -> Result<()> {
        /// The kernel's limit for one step, and steps enough for segments of jumbo frames.
        const STEP: u32 = 0xfff;
        const STEPS: u32 = 2;
        // SAFETY: see below.
        let size = unsafe { (*self.skb()).gso_size };
        if limit <= headers || size + headers <= limit {
            return Err(DropReason::TooBig);
        }
        let mut excess = size + headers - limit;
        for _ in 0..STEPS {
            let step = if excess > STEP { STEP } else { excess };
            if step == 0 {
                break;
            }
            let step = (step & STEP) as i32;
            let (mode, keep) = (BPF_ADJ_ROOM_MAC as u32, u64::from(BPF_F_ADJ_ROOM_FIXED_GSO));
            // Room makes segments smaller (`skb_decrease_gso_size`); taking it away again need
            // not make them larger.
            // SAFETY: see below.
            let result = unsafe {
                bpf_skb_adjust_room(self.skb(), step, mode, 0)
                    | bpf_skb_adjust_room(self.skb(), -step, mode, keep)
            };
            if result != 0 {
                return Err(DropReason::TooBig);
            }
            excess -= step as u32;
        }
        match excess {
            0 => Ok(()),
            _ => Err(DropReason::TooBig),
        }
    }
}
