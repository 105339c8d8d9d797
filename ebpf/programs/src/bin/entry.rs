//! The program on an interface: notes the port and the bank, and jumps to the first program of
//! the chain.
//!
//! Its slots are read-only globals, so the verifier sees constants and the JIT makes the jumps
//! direct ones. While an interface is moved from one cube to another, the two banks have
//! different chains.

#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext, Global,
    macros::{classifier, map, xdp},
    maps::{Array, ProgramArray},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    chain::{CubeChain, in_bank},
    entry::{ENTRY_INHERITS, ENTRY_NOTED, ENTRY_RETURNS, Entry},
};
use ebpf_programs::{Packet, packet::jump_in, tc::Tc, xdp::Xdp};

/// Chains of bank 1; those of bank 0 are the ones all programs have.
#[map(name = "chain_tc_1")]
static CHAIN_TC: ProgramArray =
    ProgramArray::with_max_entries(in_bank(CubeChain::for_ports(0).len(), 0), 0);
#[map(name = "chain_xdp_1")]
static CHAIN_XDP: ProgramArray =
    ProgramArray::with_max_entries(in_bank(CubeChain::for_ports(0).len(), 0), 0);

/// Which bank is active, for the whole topology.
#[map(name = "active")]
static ACTIVE: Array<u32> = Array::with_max_entries(1, 0);

#[unsafe(no_mangle)]
static ENTRY: Global<[Entry; 2]> = Global::new(
    [Entry {
        slot: 0,
        port: 0,
        flags: 0,
    }; 2],
);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    entry(
        Tc::new(&context),
        context.as_ptr(),
        (&raw const CHAIN_TC).cast(),
    )
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    entry(
        Xdp::new(&context),
        context.as_ptr(),
        (&raw const CHAIN_XDP).cast(),
    ) as u32
}

#[inline(always)]
fn entry<P: Packet>(mut packet: P, context: *mut c_void, chain: *const c_void) -> i32 {
    let [first, second] = ENTRY.load();
    // No `Option` that outlives this: the compiler would copy what is undefined in `None`.
    let mut bank = ACTIVE.get(0).copied().unwrap_or(0);
    let mut inherited = false;
    if first.flags & ENTRY_INHERITS != 0
        && let Some(noted) = packet.inherited_bank()
    {
        bank = noted;
        inherited = true;
    }
    if first.flags & ENTRY_NOTED != 0 {
        // Nothing but copies of ours has a way here.
        if !inherited {
            return P::DROP;
        }
        let slot = packet.noted_slot();
        packet.enter(packet.port(), bank);
        match bank {
            0 => packet.jump_in::<0>(slot),
            _ => jump_in::<1>(context, chain, slot),
        }
        return P::DROP;
    }
    let returns = first.flags & ENTRY_RETURNS != 0;
    if bank == 0 {
        packet.enter(first.port, 0);
        if returns {
            packet.set_returning(true);
        }
        packet.jump_in::<0>(first.slot);
    } else {
        packet.enter(second.port, 1);
        if returns {
            packet.set_returning(true);
        }
        jump_in::<1>(context, chain, second.slot);
    }
    // The chain is not there (yet): what should be filtered must not pass.
    P::DROP
}
