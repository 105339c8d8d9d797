//! Packets on TC (tcx, Linux 6.6).

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT, tcx_action_base::TCX_NEXT},
    helpers::{
        bpf_clone_redirect, bpf_redirect, bpf_redirect_peer, bpf_skb_change_head,
        bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_vlan_pop,
        bpf_skb_vlan_push,
    },
    macros::map,
    maps::ProgramArray,
    programs::TcContext,
};
use ebpf_abi::{
    address::Be16,
    chain::{CubeChain, in_bank},
    counters::DropReason,
    entry::{ANSWER_MARK, BANK_MARK, RETURNS_MARK},
};

use crate::{
    Packet, Result,
    packet::{Tag, context_pointer},
    wire::{ETHERNET_LENGTH, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, VlanTag},
};

#[map(name = "chain_tc")]
static CHAIN: ProgramArray =
    ProgramArray::with_max_entries(in_bank(CubeChain::for_ports(0).len(), 0), 0);

/// Word of the control block: the port.
const PORT: usize = 0;
/// Word of the control block: not 0 once headers were moved.
const MOVED: usize = 1;

/// Word of the control block: the bank, with [`BANK_MARK`] and [`RETURNS_MARK`].
const BANK: usize = 2;

/// Word of the control block: the slot to which a copy is to be taken.
const SLOT: usize = 3;

/// Word of the control block: what a cube noted.
const NOTED: usize = 4;

/// Bytes of the packet meanwhile, and where it is shorter: the kernel leaves an IP header.
const LONGER: u32 = 384;
/// Bytes of a frame at least (IEEE 802.3, 3.2.8, without the check sequence).
const SHORTEST: usize = 60;

/// A socket buffer. It may hold up to 64 KiB, mostly outside the directly accessible part, with
/// a checksum that is still to be completed: nothing here makes it linear.
pub struct Tc {
    skb: *mut __sk_buff,
}

impl Tc {
    /// The packet of a TC program.
    #[inline(always)]
    pub fn new(context: &TcContext) -> Self {
        Self {
            skb: context.as_ptr().cast(),
        }
    }

    /// The same packet, for a callback.
    #[inline(always)]
    pub fn again(&self) -> Self {
        Self { skb: self.skb }
    }

    /// The kernel's view of the packet.
    #[inline(always)]
    pub fn skb(&self) -> *mut __sk_buff {
        self.skb
    }
}

/// True if `skb->protocol` says that a tag is inside the packet.
#[inline(always)]
fn is_tag(protocol: u32) -> bool {
    protocol == u32::from(ETHERTYPE_VLAN.word()) || protocol == u32::from(ETHERTYPE_QINQ.word())
}

// SAFETY of the blocks below: `skb` is the context the kernel called the program with, valid
// while it runs; the verifier checks each access and each helper's arguments.
impl Packet for Tc {
    const XDP: bool = false;
    const PASS: i32 = TCX_NEXT;
    const DROP: i32 = TC_ACT_SHOT;

    #[inline(always)]
    fn start(&self) -> usize {
        context_pointer!(self.skb, __sk_buff, data)
    }

    #[inline(always)]
    fn end(&self) -> usize {
        context_pointer!(self.skb, __sk_buff, data_end)
    }

    #[inline(always)]
    fn pull(&self, length: u32) -> Result<()> {
        // SAFETY: see above.
        match unsafe { bpf_skb_pull_data(self.skb, length) } {
            0 => Ok(()),
            _ => Err(DropReason::Malformed),
        }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: see above.
        unsafe { (*self.skb).len }
    }

    #[inline(always)]
    fn segments(&self) -> u64 {
        // SAFETY: see above.
        let (segments, size, length) =
            unsafe { ((*self.skb).gso_segs, (*self.skb).gso_size, (*self.skb).len) };
        match (size, segments) {
            // Most are one. Asked first, it is all there is to read.
            (0, _) => 1,
            // The kernel will count them.
            (size, 0) => u64::from((length + size - 1) / size),
            (_, segments) => segments.into(),
        }
    }

    #[inline(always)]
    fn is_segmented(&self) -> bool {
        // SAFETY: see above.
        unsafe { (*self.skb).gso_size != 0 }
    }

    #[inline(always)]
    fn wire_ip_length(&self, ip_length: u32, headers: impl FnOnce() -> u32) -> u32 {
        // SAFETY: see above.
        match unsafe { (*self.skb).gso_size } {
            0 => ip_length,
            size => size + headers(),
        }
    }

    #[inline(always)]
    fn tagged(&self) -> bool {
        // SAFETY: see above.
        unsafe { (*self.skb).vlan_present != 0 }
    }

    /// The kernel keeps the outermost tag outside the packet (`skb->vlan_tci`). Only what a packet
    /// socket sends on this machine may still have it inside.
    #[inline(always)]
    fn customer_tag(&self, ethernet: &Ethernet) -> Result<Tag> {
        // SAFETY: see above.
        let (present, kind, control) = unsafe {
            let skb = self.skb;
            ((*skb).vlan_present, (*skb).vlan_proto, (*skb).vlan_tci)
        };
        if present != 0 {
            if kind != u32::from(ETHERTYPE_VLAN.word()) {
                return Ok(Tag::none(ETHERTYPE_QINQ));
            }
            return Ok(Tag {
                present: true,
                control: control as u16,
                ethertype: ethernet.ethertype,
                offset: ETHERNET_LENGTH as u16,
            });
        }
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

    /// A tag that is there already moves into the packet.
    #[inline(always)]
    fn push_tag(&self, control: u16) -> Result<()> {
        // SAFETY: see above.
        unsafe {
            if (*self.skb).vlan_present != 0 {
                (*self.skb).cb[MOVED] = 1;
            }
            match bpf_skb_vlan_push(self.skb, ETHERTYPE_VLAN.word(), control) {
                0 => Ok(()),
                _ => Err(DropReason::NoMemory),
            }
        }
    }

    /// The next tag, if there is one, moves out of the packet.
    #[inline(always)]
    fn pop_tag(&self) -> Result<()> {
        // SAFETY: see above.
        unsafe {
            if is_tag((*self.skb).protocol) {
                (*self.skb).cb[MOVED] = 1;
            }
            match bpf_skb_vlan_pop(self.skb) {
                0 => Ok(()),
                _ => Err(DropReason::NoMemory),
            }
        }
    }

    #[inline(always)]
    fn port(&self) -> u32 {
        // SAFETY: see above.
        unsafe { (*self.skb).cb[PORT] }
    }

    #[inline(always)]
    fn bank(&self) -> u32 {
        // SAFETY: see above.
        unsafe { (*self.skb).cb[BANK] & 1 }
    }

    #[inline(always)]
    fn inherited_bank(&self) -> Option<u32> {
        // SAFETY: see above.
        let word = unsafe { (*self.skb).cb[BANK] };
        (word & !(1 | RETURNS_MARK) == BANK_MARK).then_some(word & 1)
    }

    #[inline(always)]
    fn enter(&mut self, port: u32, bank: u32) {
        // The kernel does not clear the control block.
        // SAFETY: see above.
        unsafe {
            (*self.skb).cb[MOVED] = 0;
            (*self.skb).cb[BANK] = BANK_MARK | bank;
            (*self.skb).cb[NOTED] = 0;
        }
        self.set_port(port);
    }

    #[inline(always)]
    fn set_returning(&mut self, returning: bool) {
        // SAFETY: see above.
        unsafe {
            if returning {
                (*self.skb).cb[BANK] |= RETURNS_MARK;
            } else {
                (*self.skb).cb[BANK] &= !RETURNS_MARK;
            }
        }
    }

    #[inline(always)]
    fn is_returning(&self) -> bool {
        // SAFETY: see above.
        unsafe { (*self.skb).cb[BANK] & RETURNS_MARK != 0 }
    }

    #[inline(always)]
    fn set_port(&mut self, port: u32) {
        // SAFETY: see above.
        unsafe { (*self.skb).cb[PORT] = port }
    }

    #[inline(always)]
    fn noted(&self) -> u32 {
        // SAFETY: see above.
        unsafe { (*self.skb).cb[NOTED] }
    }

    #[inline(always)]
    fn note(&mut self, what: u32) {
        // SAFETY: see above.
        unsafe { (*self.skb).cb[NOTED] = what }
    }

    #[inline(always)]
    fn jump_in<const BANK: u32>(&self, slot: u32) {
        crate::packet::jump_in::<BANK>(self.skb.cast(), (&raw const CHAIN).cast(), slot);
    }

    #[inline(always)]
    fn jump_to<const SLOT: u32>(&self) {
        crate::packet::jump_to::<SLOT>(self.skb.cast(), (&raw const CHAIN).cast());
    }

    #[inline(always)]
    fn redirect(&self, ifindex: u32) -> i32 {
        // SAFETY: no preconditions.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }

    /// A packet whose headers were moved goes the long way, through the interface: only there
    /// does the kernel find out again what is in it.
    #[inline(always)]
    fn redirect_peer(&self, ifindex: u32) -> i32 {
        // SAFETY: see above.
        if unsafe { (*self.skb).cb[MOVED] } != 0 {
            return self.redirect(ifindex);
        }
        // SAFETY: no preconditions.
        unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
    }

    #[inline(always)]
    fn turn_round(&self, to_host: bool) -> i32 {
        let flags = if to_host { BPF_F_INGRESS } else { 0 };
        // SAFETY: see above.
        unsafe {
            (*self.skb).mark = ANSWER_MARK;
            bpf_redirect((*self.skb).ifindex, flags.into()) as i32
        }
    }

    #[inline(always)]
    fn take_answer_mark(&self) -> bool {
        // SAFETY: see above.
        unsafe {
            let is_answer = (*self.skb).mark == ANSWER_MARK;
            if is_answer {
                (*self.skb).mark = 0;
            }
            is_answer
        }
    }

    #[inline(always)]
    fn prepend(&self, length: u32) -> Result<()> {
        // SAFETY: see above.
        match unsafe { bpf_skb_change_head(self.skb, length, 0) } {
            0 => {
                // SAFETY: see above.
                unsafe { (*self.skb).cb[MOVED] = 1 };
                Ok(())
            }
            _ => Err(DropReason::NoMemory),
        }
    }

    /// A sender on this machine may have left the checksum for later: the kernel would write it
    /// into what the packet becomes.
    #[inline(always)]
    fn blank<const LENGTH: usize>(&self) -> Result<()> {
        self.resize(LONGER)?;
        self.forget_checksum()?;
        // SAFETY: see above. The kernel is to find out again what is in the packet.
        unsafe { (*self.skb).cb[MOVED] = 1 };
        if LENGTH < SHORTEST {
            self.resize(SHORTEST as u32)?;
            self.zero::<SHORTEST>()
        } else {
            self.resize(LENGTH as u32)?;
            self.zero::<LENGTH>()
        }
    }

    #[inline(always)]
    fn send_copy(&self, ifindex: u32) -> bool {
        // SAFETY: see above.
        unsafe { bpf_clone_redirect(self.skb, ifindex, 0) == 0 }
    }

    #[inline(always)]
    fn send_copy_to_program(&mut self, ifindex: u32, slot: u32) -> bool {
        // SAFETY: see above. The control block stays with the copy.
        unsafe {
            (*self.skb).cb[SLOT] = slot;
            let result = bpf_clone_redirect(self.skb, ifindex, u64::from(BPF_F_INGRESS));
            (*self.skb).cb[SLOT] = 0;
            result == 0
        }
    }

    #[inline(always)]
    fn noted_slot(&self) -> u32 {
        // SAFETY: see above.
        unsafe { (*self.skb).cb[SLOT] }
    }

    #[inline(always)]
    fn exchange_family(&self, ethertype: Be16, difference: i32) -> Result<()> {
        self.change_family(ethertype, difference)
    }

    #[inline(always)]
    fn put<T: Copy>(&self, offset: usize, value: T) -> Result<()> {
        self.store_summed(offset as u32, &value)
    }

    #[inline(always)]
    fn resize(&self, length: u32) -> Result<()> {
        // SAFETY: see above.
        match unsafe { bpf_skb_change_tail(self.skb, length, 0) } {
            0 => Ok(()),
            _ => Err(DropReason::NoMemory),
        }
    }

    #[inline(always)]
    fn as_tc(&self) -> Option<Tc> {
        Some(self.again())
    }

    #[inline(always)]
    unsafe fn copy_out(&self, offset: u32, to: *mut u8, length: u32) -> Result<()> {
        // SAFETY: the caller vouches for `to`.
        match unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, to.cast(), length) } {
            0 => Ok(()),
            _ => Err(DropReason::Malformed),
        }
    }
}
