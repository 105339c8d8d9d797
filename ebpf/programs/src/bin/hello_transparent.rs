//! `helloTransparent`: passes or drops everything, per direction. The transparent cube to copy.

#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{chain::Direction, counters::DropReason, hello_transparent::Settings};
use ebpf_programs::{
    Packet, Result,
    counters::Size,
    tc::Tc,
    transparent::{self, TransparentCube},
    xdp::Xdp,
};

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings { drop: [0, 0] });

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    transparent::run::<HelloTransparent, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    transparent::run::<HelloTransparent, _>(Xdp::new(&context)) as u32
}

struct HelloTransparent;

impl TransparentCube for HelloTransparent {
    #[inline(always)]
    fn handle<P: Packet>(_packet: &mut P, direction: Direction, _: Size) -> Result<()> {
        let [drop_ingress, drop_egress] = SETTINGS.load().drop;
        let drop = match direction {
            Direction::Ingress => drop_ingress,
            Direction::Egress => drop_egress,
        };
        if drop != 0 {
            Err(DropReason::Policy)
        } else {
            Ok(())
        }
    }
}
