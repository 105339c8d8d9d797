//! `forwarder`: a fixed way from port to port.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{chain::MIN_PORTS, counters::DropReason, forwarder::ACTION_DROP};
use ebpf_programs::{
    Packet, Result,
    standard::{self, StandardCube, Verdict},
    tc::Tc,
    xdp::Xdp,
};

/// What to do with a packet, by the port it comes in at.
#[map(name = "actions")]
static ACTIONS: Array<u32> = Array::with_max_entries(MIN_PORTS, 0);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    standard::run::<Forwarder, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    standard::run::<Forwarder, _>(Xdp::new(&context)) as u32
}

struct Forwarder;

impl StandardCube for Forwarder {
    #[inline(always)]
    fn handle<P: Packet>(_packet: &mut P, input: u32) -> Result<Verdict> {
        match ACTIONS.get(input).copied().unwrap_or(ACTION_DROP) {
            ACTION_DROP => Err(DropReason::Policy),
            // The encoding of `ebpf_abi::forwarder::action_forward`.
            action => Ok(Verdict::emit(action - 1)),
        }
    }
}
