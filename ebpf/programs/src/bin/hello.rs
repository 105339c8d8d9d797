//! `hello`: sends every packet to its other port, or drops it. The standard cube to copy.

#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{counters::DropReason, hello::Settings};
use ebpf_programs::{
    Packet, Result,
    standard::{self, StandardCube, Verdict},
    tc::Tc,
    xdp::Xdp,
};

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    forward: 0,
    ports: [0, 0],
});

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    standard::run::<Hello, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    standard::run::<Hello, _>(Xdp::new(&context)) as u32
}

struct Hello;

impl StandardCube for Hello {
    #[inline(always)]
    fn handle<P: Packet>(_packet: &mut P, input: u32) -> Result<Verdict> {
        let settings = SETTINGS.load();
        if settings.forward == 0 {
            return Err(DropReason::Policy);
        }
        let output = if input == settings.ports[0] {
            settings.ports[1]
        } else {
            settings.ports[0]
        };
        if output == input {
            return Err(DropReason::NotLinked);
        }
        Ok(Verdict::emit(output))
    }
}
