//! A packet, whichever hook it is on.

use core::ptr;

use ebpf_abi::{address::Be16, counters::DropReason};

use crate::{
    tc::Tc,
    wire::{ETHERNET_LENGTH, Ethernet},
};

/// The result of handling a packet: the error is the reason to drop it.
pub type Result<T> = core::result::Result<T, DropReason>;

/// The outermost customer tag of a frame (TPID 0x8100, IEEE 802.1Q-2022, 9.5). A service tag is
/// none: to the bridges that pcn makes it is part of what the frame carries.
#[derive(Clone, Copy)]
pub struct Tag {
    /// False if the frame has none.
    pub present: bool,
    /// Tag control information; 0 without a tag.
    pub control: u16,
    /// The type of what the tag is around, or of the frame if it has none.
    pub ethertype: Be16,
    /// Where that begins, in bytes from the Ethernet header.
    pub offset: u16,
}

impl Tag {
    /// No tag around what has this type.
    #[inline(always)]
    pub const fn none(ethertype: Be16) -> Self {
        Self {
            present: false,
            control: 0,
            ethertype,
            offset: ETHERNET_LENGTH as u16,
        }
    }
}

/// What TC and XDP have in common, and what hides their differences.
///
/// Offsets are in bytes from the Ethernet header. Headers are copied out and in: a copy stays
/// valid when the packet is changed, and costs registers, not memory. A header's type must not
/// ask for more alignment than the kernel gives headers at its offset ([`wire`](crate::wire)).
pub trait Packet {
    /// True on XDP, for the few places where the hooks must differ.
    const XDP: bool;
    /// Verdict that hands the packet to whatever comes after us.
    const PASS: i32;
    /// Verdict that frees the packet.
    const DROP: i32;

    /// Address of the first byte.
    fn start(&self) -> usize;
    /// Address after the last byte that can be accessed directly.
    fn end(&self) -> usize;
    /// Makes the first `length` bytes directly accessible.
    fn pull(&self, length: u32) -> Result<()>;
    /// Length of the packet, with the Ethernet header.
    fn len(&self) -> u32;
    /// Packets this buffer stands for (more than one before segmentation).
    fn segments(&self) -> u64;
    /// True if it will be cut into several packets.
    fn is_segmented(&self) -> bool;
    /// Largest IP packet that will be on the wire: smaller than the buffer before segmentation.
    /// `headers` is what each segment has in front of its payload, from the IP header on.
    fn wire_ip_length(&self, ip_length: u32, headers: impl FnOnce() -> u32) -> u32;
    /// True if the frame has a VLAN tag, wherever it is kept.
    fn tagged(&self) -> bool;
    /// The frame's outermost tag, if it is a customer tag. `ethernet` is the header as it is in
    /// the packet.
    fn customer_tag(&self, ethernet: &Ethernet) -> Result<Tag>;
    /// Puts a customer tag around the frame.
    fn push_tag(&self, control: u16) -> Result<()>;
    /// Takes the outermost tag away.
    fn pop_tag(&self) -> Result<()>;

    /// The port at which the packet enters the next standard cube.
    fn port(&self) -> u32;
    /// The bank the packet stays in.
    fn bank(&self) -> u32;
    /// The bank that an entry program noted in the packet this one is a copy of.
    fn inherited_bank(&self) -> Option<u32>;
    /// Starts a packet's way: at the entry, where nothing is set yet.
    fn enter(&mut self, port: u32, bank: u32);
    /// Notes that the cube has seen the packet before: it was given away to wait.
    fn set_returning(&mut self, returning: bool);
    /// True if that was noted.
    fn is_returning(&self) -> bool;
    /// Sets it.
    fn set_port(&mut self, port: u32);

    /// What a cube has noted in the packet since it came in; 0 for nothing.
    fn noted(&self) -> u32;
    /// Notes something, for as long as the packet goes from program to program.
    fn note(&mut self, what: u32);

    /// Jumps to a slot of the chain, in the packet's bank. Returns only when there is no program
    /// in it. The JIT makes it a direct jump if the verifier sees a constant.
    #[inline(always)]
    fn jump(&self, slot: u32) {
        match self.bank() {
            0 => self.jump_in::<0>(slot),
            _ => self.jump_in::<1>(slot),
        }
    }
    /// Jumps to a slot of the chain in a bank.
    fn jump_in<const BANK: u32>(&self, slot: u32);
    /// Jumps to a constant slot, counted over both banks.
    fn jump_to<const SLOT: u32>(&self);
    /// Sends the packet out of an interface.
    fn redirect(&self, ifindex: u32) -> i32;
    /// Sends the packet to the peer of a veth interface.
    fn redirect_peer(&self, ifindex: u32) -> i32;

    /// Sends an answer back through the interface whose programs run: to the wire, or to the
    /// host's stack. It meets the interface's programs once more: see [`Self::take_answer_mark`].
    fn turn_round(&self, to_host: bool) -> i32;
    /// True if the packet is an answer that came through [`Self::turn_round`], which is forgotten.
    fn take_answer_mark(&self) -> bool;

    /// Puts `length` bytes in front of the packet.
    fn prepend(&self, length: u32) -> Result<()>;
    /// Makes room of another size in front of the transport header, and says which family the
    /// packet is of. What is behind the Ethernet header there is undefined afterwards.
    fn exchange_family(&self, ethertype: Be16, difference: i32) -> Result<()>;
    /// Writes a header of a packet whose family was exchanged, with all that the kernel knows of
    /// sums over the packet.
    fn put<T: Copy>(&self, offset: usize, value: T) -> Result<()>;
    /// Cuts or extends the packet at its end.
    fn resize(&self, length: u32) -> Result<()>;
    /// Makes the packet one of zeros, `LENGTH` bytes or more (the rest is padding). Nothing of
    /// what it was leaks out.
    fn blank<const LENGTH: usize>(&self) -> Result<()>;
    /// Sends a copy out of an interface; false where the hook cannot.
    fn send_copy(&self, ifindex: u32) -> bool;
    /// Lets a copy arrive at an interface of ours, whose entry program jumps to the slot of the
    /// chain, with the port that is set; false where the hook cannot.
    fn send_copy_to_program(&mut self, ifindex: u32, slot: u32) -> bool;
    /// The slot that was noted in the packet this one is a copy of.
    fn noted_slot(&self) -> u32;
    /// The packet as one on TC, for what only TC can do.
    fn as_tc(&self) -> Option<Tc>;
    /// Copies bytes out.
    ///
    /// # Safety
    /// `to` must be valid for writes of `length` bytes.
    unsafe fn copy_out(&self, offset: u32, to: *mut u8, length: u32) -> Result<()>;

    /// Reads a header.
    #[inline(always)]
    fn load<T: Copy>(&self, offset: usize) -> Result<T> {
        let header = self.access::<T>(offset)?;
        // SAFETY: `access` checked that the whole of `T` is inside the packet; headers are made
        // of integers, for which every value is valid, and are aligned as the kernel aligns
        // packets (the verifier checks this where the CPU cares).
        Ok(unsafe { ptr::read(header) })
    }

    /// Writes a header.
    #[inline(always)]
    fn store<T: Copy>(&self, offset: usize, value: T) -> Result<()> {
        let header = self.access::<T>(offset)?;
        // SAFETY: as in `load`.
        unsafe { ptr::write(header, value) };
        Ok(())
    }

    /// Overwrites the first `LENGTH` bytes, an even number.
    #[inline(always)]
    fn zero<const LENGTH: usize>(&self) -> Result<()> {
        let start: *mut u16 = self.access::<[u8; LENGTH]>(0)?.cast();
        for word in 0..LENGTH / 2 {
            // SAFETY: `access` checked that all of it is inside the packet. Volatile, because
            // a call to `memset` would be a loop the verifier has to walk through.
            unsafe { start.add(word).write_volatile(0) };
        }
        Ok(())
    }

    /// Address of a `T` that is wholly inside the packet.
    #[inline(always)]
    fn access<T>(&self, offset: usize) -> Result<*mut T> {
        // The check and the access must be of one and the same pointer: that is what the
        // verifier follows.
        let header = self.start() + offset;
        if header + size_of::<T>() <= self.end() {
            return Ok(header as *mut T);
        }
        self.pull((offset + size_of::<T>()) as u32)?;
        let header = self.start() + offset;
        if header + size_of::<T>() <= self.end() {
            return Ok(header as *mut T);
        }
        Err(DropReason::Malformed)
    }
}

/// `bpf_tail_call` to a slot in a bank.
///
/// Written as assembly that differs by bank, so that the compiler cannot merge the calls for
/// both banks into one with a variable slot: the JIT turns only constant ones into direct jumps.
#[inline(always)]
pub fn jump_in<const BANK: u32>(
    context: *mut core::ffi::c_void,
    chain: *const core::ffi::c_void,
    slot: u32,
) {
    // SAFETY: calls helper 12, `bpf_tail_call(ctx, map, index)`, which clobbers r0 to r5 when
    // it returns.
    unsafe {
        core::arch::asm!(
            "r3 <<= 1",
            "r3 += {bank}",
            "call 12",
            bank = const BANK,
            inout("r1") context => _,
            inout("r2") chain => _,
            inout("r3") u64::from(slot) => _,
            out("r0") _, out("r4") _, out("r5") _,
        );
    }
}

/// `bpf_tail_call` with a constant slot.
///
/// Written as assembly, so that the compiler cannot merge the calls for several slots into one
/// with a variable slot: the JIT turns only the former into direct jumps.
#[inline(always)]
pub(crate) fn jump_to<const SLOT: u32>(
    context: *mut core::ffi::c_void,
    chain: *const core::ffi::c_void,
) {
    // SAFETY: calls helper 12, `bpf_tail_call(ctx, map, index)`, which clobbers r0 to r5 when
    // it returns.
    unsafe {
        core::arch::asm!(
            "r3 = {slot}",
            "call 12",
            slot = const SLOT,
            inout("r1") context => _,
            inout("r2") chain => _,
            out("r0") _, out("r3") _, out("r4") _, out("r5") _,
        );
    }
}

/// The same number, for the verifier too one from 1 to `LIMIT`, a power of two. The caller has
/// checked that it is one.
///
/// Written as assembly: from the caller's check the compiler would know that there is nothing to
/// do, and the verifier would not.
#[inline(always)]
pub fn bounded<const LIMIT: u32>(number: u32) -> u32 {
    const { assert!(LIMIT.is_power_of_two()) };
    let mut bounded = u64::from(number);
    // SAFETY: changes nothing but its register.
    unsafe {
        core::arch::asm!(
            "{number} += -1",
            "{number} &= {mask}",
            "{number} += 1",
            number = inout(reg) bounded,
            mask = const LIMIT - 1,
            options(pure, nomem, nostack),
        );
    }
    bounded as u32
}

/// A packet pointer out of a context.
///
/// The field is 32 bits wide, and the kernel widens it to a pointer when it is loaded. The
/// compiler would take it for a 32-bit number and truncate copies of it, which the verifier
/// refuses; so the load is written as assembly with a 64-bit result.
macro_rules! context_pointer {
    ($context:expr, $type:ty, $field:ident) => {{
        let pointer: u64;
        // SAFETY: reads a field of the context, which is valid while the program runs.
        unsafe {
            core::arch::asm!(
                "{pointer} = *(u32 *)({context} + {offset})",
                pointer = out(reg) pointer,
                context = in(reg) $context,
                offset = const core::mem::offset_of!($type, $field),
                options(pure, readonly, nostack),
            );
        }
        pointer as usize
    }};
}
pub(crate) use context_pointer;
