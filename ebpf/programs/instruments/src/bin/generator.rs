//! Writes frames: the next flow's headers, over whatever is in the buffer. What it sends with "live frames" (Linux 5.18)
//! goes out of an interface; with an ordinary test run a program gets it whose cost is measured, each time as new.

#![no_std]
#![no_main]

use aya_ebpf::{
    EbpfContext, Global,
    helpers::bpf_redirect,
    macros::{classifier, map, xdp},
    maps::{Array, PerCpuArray, ProgramArray},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    bench::{FRAME, FlowHeaders, Generator},
    counters::DropReason,
};
use ebpf_programs::{Packet, Result, fib::MAPPED, packet::jump_in, tc::Tc, xdp::Xdp};

#[unsafe(no_mangle)]
static SETTINGS: Global<Generator> = Global::new(Generator {
    flows: 1,
    ifindex: 0,
    checksum_offset: 40,
    ip_checksum_offset: 24,
    address_offsets: [26, 30],
    port_offset: 34,
});

/// The frame, but for what differs from flow to flow.
#[map(name = "template")]
static TEMPLATE: Array<[u64; FRAME / 8]> = Array::with_max_entries(1, 0);
#[map(name = "flows")]
static FLOWS: Array<FlowHeaders> = Array::with_max_entries(1, MAPPED);
/// The flow whose turn it is.
#[map(name = "turn")]
static TURN: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);
#[map(name = "next")]
static NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    send(&Tc::new(&context), context.as_ptr())
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    send(&Xdp::new(&context), context.as_ptr()) as u32
}

#[inline(always)]
fn send<P: Packet>(packet: &P, context: *mut core::ffi::c_void) -> i32 {
    let settings = SETTINGS.load();
    if write(packet, &settings).is_err() {
        return P::DROP;
    }
    if settings.ifindex == 0 {
        jump_in::<0>(context, (&raw const NEXT).cast(), 0);
        return P::DROP;
    }
    // SAFETY: no preconditions.
    unsafe { bpf_redirect(settings.ifindex, 0) as i32 }
}

/// What is not aligned to its size behind an Ethernet header.
#[repr(C, align(2))]
#[derive(Clone, Copy)]
struct Halves([u16; 2]);

impl From<u32> for Halves {
    fn from(word: u32) -> Self {
        Self([word as u16, (word >> 16) as u16])
    }
}

#[inline(always)]
fn write<P: Packet>(packet: &P, settings: &Generator) -> Result<()> {
    let (Some(template), Some(turn)) = (TEMPLATE.get(0), TURN.get_ptr_mut(0)) else {
        return Err(DropReason::Malformed);
    };
    // SAFETY: the entry belongs to this CPU.
    let flow = unsafe { *turn };
    let next = if flow + 1 >= settings.flows {
        0
    } else {
        flow + 1
    };
    // SAFETY: as above.
    unsafe { *turn = next };
    let Some(headers) = FLOWS.get(flow) else {
        return Err(DropReason::Malformed);
    };
    packet.store(0, *template)?;
    if settings.ip_checksum_offset != 0 {
        packet.store(settings.ip_checksum_offset as usize, headers.ip_checksum)?;
    }
    let [source, destination] = headers.addresses;
    let [source_offset, destination_offset] = settings.address_offsets;
    packet.store(source_offset as usize, Halves::from(source))?;
    packet.store(destination_offset as usize, Halves::from(destination))?;
    packet.store(settings.port_offset as usize, Halves::from(headers.ports))?;
    packet.store(settings.checksum_offset as usize, headers.checksum)
}
