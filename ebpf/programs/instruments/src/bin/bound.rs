//! The least that can be done with a frame: what a data plane is compared with.

#![no_std]
#![no_main]

use core::mem::size_of;

use aya_ebpf::{
    EbpfContext, Global,
    bindings::bpf_fib_lookup,
    cty::c_void,
    helpers::{bpf_fib_lookup as fib_lookup, bpf_redirect, bpf_redirect_peer},
    macros::{classifier, map, xdp},
    maps::{Array, PerCpuArray, ProgramArray},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    address::Be16,
    bench::{Bound, COUNTED_CUBES, WORK_COUNT, WORK_FIB, WORK_JUMP, WORK_PARSE, WORK_PEER},
    counters::DropReason,
};
use ebpf_programs::{
    Packet, Result,
    packet::jump_in,
    tc::Tc,
    wire::{ETHERNET_LENGTH, ETHERTYPE_IPV4, Ethernet, Ipv4},
    xdp::Xdp,
};

#[unsafe(no_mangle)]
static SETTINGS: Global<Bound> = Global::new(Bound {
    ifindex: 0,
    work: 0,
});

#[map(name = "entry")]
static ENTRY: Array<u32> = Array::with_max_entries(1, 0);

/// Packets and bytes, in and out of each of several cubes.
#[map(name = "counts")]
static COUNTS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(2 * COUNTED_CUBES, 0);

/// What a jump leads to.
#[map(name = "next")]
static NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// `AF_INET`
const AF_INET: u8 = 2;

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    pass(&Tc::new(&context), context.as_ptr())
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    pass(&Xdp::new(&context), context.as_ptr()) as u32
}

#[inline(always)]
fn pass<P: Packet>(packet: &P, context: *mut c_void) -> i32 {
    let settings = SETTINGS.load();
    let mut ifindex = settings.ifindex;
    if ifindex == 0 {
        return P::DROP;
    }
    if settings.work == WORK_PARSE && parse(packet).is_err() {
        return P::DROP;
    }
    if settings.work == WORK_COUNT {
        count(packet);
    }
    if settings.work == WORK_JUMP {
        jump_in::<0>(context, (&raw const NEXT).cast(), 0);
        return P::DROP;
    }
    if settings.work == WORK_FIB {
        match route(packet, context) {
            Ok(found) => ifindex = found,
            Err(_) => return P::PASS,
        }
    }
    if settings.work == WORK_PEER && !P::XDP {
        // SAFETY: no preconditions.
        return unsafe { bpf_redirect_peer(ifindex, 0) as i32 };
    }
    // SAFETY: no preconditions.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

/// What every forwarder does at least.
#[inline(always)]
fn parse<P: Packet>(packet: &P) -> Result<()> {
    let ethernet = packet.load::<Ethernet>(0)?;
    let ip = packet.load::<Ipv4>(ETHERNET_LENGTH)?;
    let known = ENTRY.get(0).is_some_and(|entry| *entry == 0);
    if ethernet.ethertype != ETHERTYPE_IPV4 || ip.ttl <= 1 || !known {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

/// What cubes in a row count at least, each where a packet comes in and where it goes out.
#[inline(always)]
fn count<P: Packet>(packet: &P) {
    let (packets, bytes) = (packet.segments(), u64::from(packet.len()));
    macro_rules! count {
        ($($place:literal)*) => {
            $(if let Some(counts) = COUNTS.get_ptr_mut($place) {
                // SAFETY: the entry belongs to this CPU and stays.
                unsafe {
                    (*counts)[0] += packets;
                    (*counts)[1] += bytes;
                }
            })*
        };
    }
    count!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
}

/// A router made of the kernel's tables.
#[inline(always)]
fn route<P: Packet>(packet: &P, context: *mut c_void) -> Result<u32> {
    let ethernet = packet.load::<Ethernet>(0)?;
    let mut ip = packet.load::<Ipv4>(ETHERNET_LENGTH)?;
    if ethernet.ethertype != ETHERTYPE_IPV4 || ip.version_ihl != 0x45 || ip.ttl <= 1 {
        return Err(DropReason::Malformed);
    }
    // SAFETY: a struct of integers, for which zeros are valid.
    let mut ask: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    ask.family = AF_INET;
    ask.l4_protocol = ip.protocol;
    ask.__bindgen_anon_1.tot_len = ip.total_length.get();
    ask.__bindgen_anon_3.ipv4_src = ip.source.0;
    ask.__bindgen_anon_4.ipv4_dst = ip.destination.0;
    // SAFETY: as above; both contexts begin differently, so each reads its own.
    ask.ifindex = unsafe {
        if P::XDP {
            (*context.cast::<aya_ebpf::bindings::xdp_md>()).ingress_ifindex
        } else {
            (*context.cast::<aya_ebpf::bindings::__sk_buff>()).ingress_ifindex
        }
    };
    // SAFETY: the struct is as large as is said.
    let found = unsafe { fib_lookup(context, &raw mut ask, size_of::<bpf_fib_lookup>() as i32, 0) };
    if found != 0 {
        return Err(DropReason::NoRoute);
    }
    packet.store(
        0,
        Ethernet {
            destination: mac(ask.dmac),
            source: mac(ask.smac),
            ethertype: ETHERTYPE_IPV4,
        },
    )?;
    ip.ttl -= 1;
    // RFC 1624 for a time to live that is one less.
    let sum = u32::from(ip.checksum.get()) + 0x100;
    ip.checksum = Be16::new((sum + (sum >> 16)) as u16);
    packet.store(ETHERNET_LENGTH, ip)?;
    Ok(ask.ifindex)
}

#[inline(always)]
fn mac(bytes: [u8; 6]) -> ebpf_abi::address::Mac {
    ebpf_abi::address::Mac::new(bytes)
}
