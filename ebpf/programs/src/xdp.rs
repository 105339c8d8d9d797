//! Packets on XDP.

use aya_ebpf::{
    EbpfContext,
    bindings::{xdp_action, xdp_md},
    helpers::{bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes},
    macros::map,
    maps::{PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use ebpf_abi::{
    address::Be16,
    chain::{CubeChain, in_bank},
    counters::DropReason,
    entry::Metadata,
};

use crate::{
    Packet, Result,
    packet::{Tag, context_pointer},
    tc::Tc,
    wire::{ETHERNET_LENGTH, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, TaggedEthernet, VlanTag},
};

#[map(name = "chain_xdp")]
static CHAIN: ProgramArray =
    ProgramArray::with_max_entries(in_bank(CubeChain::for_ports(0).len(), 0), 0);

/// What travels with a packet from program to program: XDP has no control block. Shared by all
/// programs of a topology; a CPU handles one packet at a time.
#[map(name = "metadata")]
static METADATA: PerCpuArray<Metadata> = PerCpuArray::with_max_entries(1, 0);

/// Bytes of a tag.
const TAG_LENGTH: u32 = size_of::<VlanTag>() as u32;

/// A frame in a driver's buffer.
pub struct Xdp {
    frame: *mut xdp_md,
    /// What travels with the frame, looked up once.
    port: u32,
    bank: u32,
}

impl Xdp {
    /// The packet of an XDP program.
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Self {
        let (port, bank) = METADATA
            .get(0)
            .map_or((0, 0), |metadata| (metadata.port, metadata.bank));
        Self {
            frame: context.as_ptr().cast(),
            port,
            bank,
        }
    }
}

// SAFETY of the blocks below: `frame` is the context the kernel called the program with, valid
// while it runs; the verifier checks each access and each helper's arguments.
impl Packet for Xdp {
    const XDP: bool = true;
    const PASS: i32 = xdp_action::XDP_PASS as i32;
    const DROP: i32 = xdp_action::XDP_DROP as i32;

    #[inline(always)]
    fn start(&self) -> usize {
        context_pointer!(self.frame, xdp_md, data)
    }

    #[inline(always)]
    fn end(&self) -> usize {
        context_pointer!(self.frame, xdp_md, data_end)
    }

    #[inline(always)]
    fn pull(&self, _length: u32) -> Result<()> {
        Err(DropReason::Malformed)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        (self.end() - self.start()) as u32
    }

    #[inline(always)]
    fn segments(&self) -> u64 {
        1
    }

    #[inline(always)]
    fn is_segmented(&self) -> bool {
        false
    }

    #[inline(always)]
    fn wire_ip_length(&self, ip_length: u32, _headers: impl FnOnce() -> u32) -> u32 {
        ip_length
    }

    #[inline(always)]
    fn tagged(&self) -> bool {
        self.load::<Ethernet>(0)
            .is_ok_and(|ethernet| matches!(ethernet.ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ))
    }

    #[inline(always)]
    fn customer_tag(&self, ethernet: &Ethernet) -> Result<Tag> {
        if ethernet.ethertype != ETHERTYPE_VLAN {
            return Ok(Tag::none(ethernet.ethertype));
        }
        let tag = self.load::<VlanTag>(ETHERNET_LENGTH)?;
        Ok(Tag {
            present: true,
            control: tag.control.get(),
            ethertype: tag.ethertype,
            offset: (ETHERNET_LENGTH + size_of::<VlanTag>()) as u16,
        })
    }

    #[inline(always)]
    fn push_tag(&self, control: u16) -> Result<()> {
        let ethernet = self.load::<Ethernet>(0)?;
        self.prepend(TAG_LENGTH)?;
        self.store(
            0,
            TaggedEthernet {
                ethernet: Ethernet {
                    ethertype: ETHERTYPE_VLAN,
                    ..ethernet
                },
                tag: VlanTag {
                    control: Be16::new(control),
                    ethertype: ethernet.ethertype,
                },
            },
        )
    }

    #[inline(always)]
    fn pop_tag(&self) -> Result<()> {
        let TaggedEthernet { ethernet, tag } = self.load::<TaggedEthernet>(0)?;
        // SAFETY: see above.
        if unsafe { bpf_xdp_adjust_head(self.frame, TAG_LENGTH as i32) } != 0 {
            return Err(DropReason::NoMemory);
        }
        self.store(
            0,
            Ethernet {
                ethertype: tag.ethertype,
                ..ethernet
            },
        )
    }

    #[inline(always)]
    fn port(&self) -> u32 {
        self.port
    }

    #[inline(always)]
    fn bank(&self) -> u32 {
        self.bank
    }

    #[inline(always)]
    fn inherited_bank(&self) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn enter(&mut self, port: u32, bank: u32) {
        self.port = port;
        self.bank = bank;
        if let Some(metadata) = METADATA.get_ptr_mut(0) {
            // SAFETY: the entry belongs to this CPU.
            unsafe {
                *metadata = Metadata {
                    port,
                    bank,
                    noted: 0,
                }
            }
        }
    }

    #[inline(always)]
    fn set_returning(&mut self, _returning: bool) {}

    #[inline(always)]
    fn is_returning(&self) -> bool {
        false
    }

    #[inline(always)]
    fn set_port(&mut self, port: u32) {
        self.port = port;
        if let Some(metadata) = METADATA.get_ptr_mut(0) {
            // SAFETY: the entry belongs to this CPU.
            unsafe { (*metadata).port = port }
        }
    }

    #[inline(always)]
    fn noted(&self) -> u32 {
        METADATA.get(0).map_or(0, |metadata| metadata.noted)
    }

    #[inline(always)]
    fn note(&mut self, what: u32) {
        if let Some(metadata) = METADATA.get_ptr_mut(0) {
            // SAFETY: the entry belongs to this CPU.
            unsafe { (*metadata).noted = what }
        }
    }

    #[inline(always)]
    fn jump_in<const BANK: u32>(&self, slot: u32) {
        crate::packet::jump_in::<BANK>(self.frame.cast(), (&raw const CHAIN).cast(), slot);
    }

    #[inline(always)]
    fn jump_to<const SLOT: u32>(&self) {
        crate::packet::jump_to::<SLOT>(self.frame.cast(), (&raw const CHAIN).cast());
    }

    #[inline(always)]
    fn redirect(&self, ifindex: u32) -> i32 {
        // SAFETY: no preconditions. The kernel sends such frames in bulks, as it does those for
        // a device map (since Linux 5.6, commit 1d233886dd90).
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }

    #[inline(always)]
    fn redirect_peer(&self, ifindex: u32) -> i32 {
        self.redirect(ifindex)
    }

    #[inline(always)]
    fn turn_round(&self, _to_host: bool) -> i32 {
        xdp_action::XDP_TX as i32
    }

    #[inline(always)]
    fn take_answer_mark(&self) -> bool {
        false
    }

    #[inline(always)]
    fn prepend(&self, length: u32) -> Result<()> {
        // SAFETY: see above.
        match unsafe { bpf_xdp_adjust_head(self.frame, -(length as i32)) } {
            0 => Ok(()),
            _ => Err(DropReason::NoMemory),
        }
    }

    #[inline(always)]
    fn exchange_family(&self, ethertype: Be16, difference: i32) -> Result<()> {
        let ethernet = self.load::<Ethernet>(0)?;
        // SAFETY: see above.
        if unsafe { bpf_xdp_adjust_head(self.frame, -difference) } != 0 {
            return Err(DropReason::NoMemory);
        }
        self.store(
            0,
            Ethernet {
                ethertype,
                ..ethernet
            },
        )
    }

    #[inline(always)]
    fn put<T: Copy>(&self, offset: usize, value: T) -> Result<()> {
        self.store(offset, value)
    }

    #[inline(always)]
    fn resize(&self, length: u32) -> Result<()> {
        let delta = length as i32 - self.len() as i32;
        // SAFETY: see above.
        match unsafe { bpf_xdp_adjust_tail(self.frame, delta) } {
            0 => Ok(()),
            _ => Err(DropReason::NoMemory),
        }
    }

    #[inline(always)]
    fn blank<const LENGTH: usize>(&self) -> Result<()> {
        self.resize(LENGTH as u32)?;
        self.zero::<LENGTH>()
    }

    #[inline(always)]
    fn send_copy(&self, _ifindex: u32) -> bool {
        false
    }

    #[inline(always)]
    fn send_copy_to_program(&mut self, _ifindex: u32, _slot: u32) -> bool {
        false
    }

    #[inline(always)]
    fn noted_slot(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn as_tc(&self) -> Option<Tc> {
        None
    }

    #[inline(always)]
    unsafe fn copy_out(&self, offset: u32, to: *mut u8, length: u32) -> Result<()> {
        // SAFETY: the caller vouches for `to`.
        match unsafe { bpf_xdp_load_bytes(self.frame, offset, to.cast(), length) } {
            0 => Ok(()),
            _ => Err(DropReason::Malformed),
        }
    }
}
