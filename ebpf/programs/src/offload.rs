//! What a sender on this machine left for later: checksums, and cutting into segments.

use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::{bpf_skb_adjust_room, bpf_skb_change_proto, bpf_skb_store_bytes},
};
use ebpf_abi::{address::Be16, counters::DropReason, nat64::DIFFERENCE};

use crate::{
    Packet, Result,
    tc::Tc,
    wire::{ETHERTYPE_IPV6, Ethernet},
};

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

    /// [`Packet::exchange_family`]. The kernel exchanges the header, and makes segments
    /// and checksums that are left for later those of the other family. What else changes its length is room
    /// where the kernel believes the IP header to be. That may be further back, where a program has put headers
    /// in front (`bpf_skb_change_head`), but not behind the transport header.
    #[inline(always)]
    pub fn change_family(&self, ethertype: Be16, difference: i32) -> Result<()> {
        let (mode, keep) = (BPF_ADJ_ROOM_MAC as u32, u64::from(BPF_F_ADJ_ROOM_FIXED_GSO));
        let changed = if ethertype == ETHERTYPE_IPV6 {
            DIFFERENCE as i32
        } else {
            -(DIFFERENCE as i32)
        };
        let rest = difference - changed;
        // SAFETY: see below.
        unsafe {
            if bpf_skb_change_proto(self.skb(), ethertype.word(), 0) != 0
                || (rest != 0 && bpf_skb_adjust_room(self.skb(), rest, mode, keep) != 0)
            {
                return Err(DropReason::NoMemory);
            }
        }
        self.store(core::mem::offset_of!(Ethernet, ethertype), ethertype)
    }

    /// Writes bytes, and what that makes of the sum over the packet that an interface has given.
    #[inline(always)]
    pub fn store_summed<T: Copy>(&self, offset: u32, value: &T) -> Result<()> {
        let from = (&raw const *value).cast();
        let (length, flags) = (size_of::<T>() as u32, u64::from(BPF_F_RECOMPUTE_CSUM));
        // SAFETY: see below; the value is as long.
        match unsafe { bpf_skb_store_bytes(self.skb(), offset, from, length, flags) } {
            0 => Ok(()),
            _ => Err(DropReason::NoMemory),
        }
    }
}
