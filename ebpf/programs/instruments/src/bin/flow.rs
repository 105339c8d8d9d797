//! Writes down what was read of a packet's headers: for tests.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{chain::Direction, flow::Flow};
use ebpf_programs::{
    Packet, Result,
    counters::Size,
    flow::{self, Fragments},
    tc::Tc,
    transparent::{self, TransparentCube},
    xdp::Xdp,
};

/// What was read last; for an ICMP error, what it quotes comes second.
#[map(name = "flows")]
static FLOWS: Array<Flow> = Array::with_max_entries(2, 0);
#[map(name = "fragments")]
static FRAGMENTS: Fragments = Fragments::with_max_entries(16, 0);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    transparent::run::<Reader, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    transparent::run::<Reader, _>(Xdp::new(&context)) as u32
}

struct Reader;

impl TransparentCube for Reader {
    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, _: Direction, _: Size) -> Result<()> {
        let mut flow = Flow::default();
        flow::read(packet, &mut flow)?;
        flow::follow_fragments(&FRAGMENTS, &mut flow)?;
        write(0, flow);
        if flow.is_error() {
            let mut quoted = Flow::default();
            flow::read_quoted(packet, &flow, &mut quoted)?;
            write(1, quoted);
        }
        Ok(())
    }
}

#[inline(always)]
fn write(index: u32, flow: Flow) {
    if let Some(entry) = FLOWS.get_ptr_mut(index) {
        // SAFETY: the kernel keeps the entry while the program runs; nobody else writes it.
        unsafe { *entry = flow };
    }
}
