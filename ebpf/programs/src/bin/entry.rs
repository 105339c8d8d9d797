//! The program on an interface: notes the port and jumps to the first program of the chain.
//!
//! Its slot is a read-only global, so the verifier sees a constant and the JIT makes the jump a
//! direct one.

#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::entry::Entry;
use ebpf_programs::{Packet, tc::Tc, xdp::Xdp};

#[unsafe(no_mangle)]
static ENTRY: Global<Entry> = Global::new(Entry { slot: 0, port: 0 });

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    entry(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    entry(Xdp::new(&context)) as u32
}

#[inline(always)]
fn entry<P: Packet>(mut packet: P) -> i32 {
    let Entry { slot, port } = ENTRY.load();
    packet.enter(port);
    packet.jump(slot);
    // The chain is not there (yet): what should be filtered must not pass.
    P::DROP
}
