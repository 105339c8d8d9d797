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

/// The entry of a port or an attachment, for who counts several times: it is looked up once.
#[derive(Clone, Copy)]
pub struct Entry(*mut Counters);

impl Entry {
    /// None if there is no such entry.
    #[inline(always)]
    pub fn of(index: u32) -> Option<Self> {
        COUNTERS.get_ptr_mut(index).map(Self)
    }

    /// Counts a packet that came in.
    #[inline(always)]
    pub fn received(self, size: Size) {
        // SAFETY: the entry belongs to this CPU and stays, and programs on one hook do not nest.
        unsafe {
            (*self.0).rx_packets += size.packets;
            (*self.0).rx_bytes += size.bytes;
        }
    }

    /// Counts a packet that goes out.
    #[inline(always)]
    pub fn sent(self, size: Size) {
        // SAFETY: as in `received`.
        unsafe {
            (*self.0).tx_packets += size.packets;
            (*self.0).tx_bytes += size.bytes;
        }
    }

    /// Takes back what [`sent`](Self::sent) counted: there was no program to jump to.
    #[inline(always)]
    pub fn not_sent(self, size: Size) {
        // SAFETY: as in `received`.
        unsafe {
            (*self.0).tx_packets -= size.packets;
            (*self.0).tx_bytes -= size.bytes;
        }
    }

    /// Counts a drop.
    #[inline(always)]
    pub fn dropped(self, size: Size, reason: DropReason) {
        let reason = reason as usize;
        if reason < DROP_REASONS {
            // SAFETY: as in `received`; `reason` is inside the array.
            unsafe {
                let drops = (&raw mut (*self.0).drops).cast::<u64>();
                *drops.add(reason) += size.packets;
            }
        }
    }
}

/// Counts a packet that came in.
#[inline(always)]
pub fn received(size: Size, index: u32) {
    if let Some(entry) = Entry::of(index) {
        entry.received(size);
    }
}

/// Counts a packet that goes out.
#[inline(always)]
pub fn sent(size: Size, index: u32) {
    if let Some(entry) = Entry::of(index) {
        entry.sent(size);
    }
}

/// Takes back what [`sent`] counted: there was no program to jump to.
#[inline(always)]
pub fn not_sent(size: Size, index: u32) {
    if let Some(entry) = Entry::of(index) {
        entry.not_sent(size);
    }
}

/// Counts a drop.
#[inline(always)]
pub fn dropped(size: Size, index: u32, reason: DropReason) {
    if let Some(entry) = Entry::of(index) {
        entry.dropped(size, reason);
    }
}
