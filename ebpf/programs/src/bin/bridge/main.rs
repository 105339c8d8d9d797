//! `bridge`: learns where stations are and forwards to them (IEEE 802.1D-2004, clause 7), per
//! VLAN if it is told to (IEEE 802.1Q-2022, clause 8).

#![no_std]
#![no_main]

mod fdb;
mod flood;
mod snooping;
mod storm;
mod stp;
mod vlan;

use aya_ebpf::{
    Global,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    address::Mac,
    bridge::Settings,
    counters::DropReason,
    port::{PORT_BEHIND, PORT_ISOLATED, Port},
};
use ebpf_programs::{
    Packet, Result, clock,
    standard::{self, StandardCube, Verdict},
    tc::Tc,
    wire::Ethernet,
    xdp::Xdp,
};

use crate::vlan::Frame;

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    aging_time: 0,
    features: 0,
});

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    standard::run::<Bridge, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    standard::run::<Bridge, _>(Xdp::new(&context)) as u32
}

/// True if the bridge has a feature (`FEATURE_*`). A constant to the verifier, which removes what
/// is behind one that is off.
#[inline(always)]
fn has(feature: u64) -> bool {
    SETTINGS.load().features & feature != 0
}

struct Bridge;

impl StandardCube for Bridge {
    #[inline(always)]
    fn gives_away() -> bool {
        stp::on()
    }

    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, input: u32) -> Result<Verdict> {
        // What the spanning tree says leaves at the port at which it was put in.
        if stp::on() && packet.is_returning() {
            return Ok(Verdict::emit(input));
        }
        let ethernet = packet.load::<Ethernet>(0)?;
        if ethernet.source.is_group() {
            return Err(DropReason::Malformed);
        }
        // Outside of VLANs, so before there is one.
        if stp::on() && stp::is_bridge_group(ethernet.destination) {
            stp::take(packet, input, 0)?;
            return Ok(Verdict::CONSUMED);
        }
        let mut frame = Frame::classify(packet, &ethernet, input)?;
        if stp::on() && stp::is_for(&ethernet, frame.vlan) {
            stp::take(packet, input, frame.vlan)?;
            return Ok(Verdict::CONSUMED);
        }
        let now = clock::now();
        match way(packet, &ethernet, frame.vlan, input, now)? {
            Way::Port(output) => {
                if vlan::aware() {
                    // What is handed over must be as it came.
                    if standard::only_via_tc(packet, output) {
                        return Ok(Verdict::HAND_OVER);
                    }
                    frame.leave(packet, output)?;
                }
                Ok(Verdict::emit(output))
            }
            Way::All => match packet.as_tc() {
                Some(tc) => flood::flood(&tc, frame, ethernet.destination, input, now),
                // XDP cannot copy a frame to programs.
                None => Ok(Verdict::HAND_OVER),
            },
        }
    }
}

/// Where a frame goes.
enum Way {
    Port(u32),
    All,
}

#[inline(always)]
fn way<P: Packet>(packet: &P, ethernet: &Ethernet, vlan: u16, input: u32, now: u64) -> Result<Way> {
    let from = standard::port(packet, input)?;
    if stp::on() && !stp::learns(input, vlan) {
        return Err(DropReason::Discarding);
    }
    fdb::learn(ethernet.source, vlan, input, from.flags & PORT_BEHIND, now);
    if stp::on() && !stp::forwards(input, vlan) {
        return Err(DropReason::Discarding);
    }
    if is_reserved(ethernet.destination) {
        return Err(DropReason::Reserved);
    }
    if ethernet.destination.is_group() {
        return Ok(Way::All);
    }
    let Some(output) = fdb::lookup(packet, ethernet.destination, vlan, now) else {
        return Ok(Way::All);
    };
    if output == input {
        return Err(DropReason::SamePort);
    }
    if isolated(from, standard::port(packet, output)?) {
        return Err(DropReason::Isolated);
    }
    if stp::on() && !stp::forwards(output, vlan) {
        return Err(DropReason::Discarding);
    }
    Ok(Way::Port(output))
}

/// Addresses from 01-80-C2-00-00-00 to -0F never cross a bridge (IEEE 802.1D-2004, 7.12.6).
#[inline(always)]
fn is_reserved(mac: Mac) -> bool {
    const LAST_FOUR_BITS: u16 = u16::from_ne_bytes([0xff, 0xf0]);
    let Mac([a, b, c]) = mac;
    [a, b, c & LAST_FOUR_BITS] == Mac::new([0x01, 0x80, 0xc2, 0x00, 0x00, 0x00]).0
}

#[inline(always)]
fn isolated(input: &Port, output: &Port) -> bool {
    input.flags & output.flags & PORT_ISOLATED != 0
}
