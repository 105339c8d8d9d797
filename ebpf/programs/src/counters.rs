//! The table `counters`: one entry per port of a standard cube, or per direction of an
//! attachment of a transparent one.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use ebpf_abi::{
    chain::MIN_PORTS,
    counters::{Counters, DROP_REASONS, DropReason},
};

use crate::Packet;

#[map(name = "counters")]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(MIN_PORTS, 0);

/// What is counted of a packet; taken before a cube changes it.
#[derive(Clone, Copy)]
pub struct Size {
    packets: u64,
    bytes: u64,
}

impl Size {
    /// The packet's size now.
    #[inline(always)]
    pub fn of<P: Packet>(packet: &P) -> Self {
        Self {
            packets: packet.segments(),
            bytes: u64::from(packet.len()),
        }
    }

    /// Packets it stands for.
    #[inline(always)]
    pub fn packets(self) -> u64 {
        self.packets
    }

    /// Bytes, with the Ethernet header.
    #[inline(always)]
    pub fn bytes(self) -> u64 {
        self.bytes
    }
}

/// Counts a packet that came in.
#[inline(always)]
pub fn received(size: Size, index: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the entry belongs to this CPU, and programs on one hook do not nest.
        unsafe {
            (*counters).rx_packets += size.packets;
            (*counters).rx_bytes += size.bytes;
        }
    }
}

/// Counts a packet that goes out.
#[inline(always)]
pub fn sent(size: Size, index: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: as in `received`.
        unsafe {
            (*counters).tx_packets += size.packets;
            (*counters).tx_bytes += size.bytes;
        }
    }
}

/// Takes back what [`sent`] counted: there was no program to jump to.
#[inline(always)]
pub fn not_sent(size: Size, index: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: as in `received`.
        unsafe {
            (*counters).tx_packets -= size.packets;
            (*counters).tx_bytes -= size.bytes;
        }
    }
}

/// Counts a drop.
#[inline(always)]
pub fn dropped(size: Size, index: u32, reason: DropReason) {
    let reason = reason as usize;
    if let Some(counters) = COUNTERS.get_ptr_mut(index)
        && reason < DROP_REASONS
    {
        // SAFETY: as in `received`; `reason` is inside the array.
        unsafe {
            let drops = (&raw mut (*counters).drops).cast::<u64>();
            *drops.add(reason) += size.packets;
        }
    }
}
