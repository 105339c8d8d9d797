//! Standard cubes: they have ports and decide where a packet goes.

use aya_ebpf::{macros::map, maps::Array};
use ebpf_abi::{
    chain::MIN_PORTS,
    counters::DropReason,
    port::{HOP_INTERFACE, HOP_PEER, HOP_PROGRAM, PORT_VIA_TC, Port},
};

use crate::{Packet, Result, counters};

#[map(name = "ports")]
static PORTS: Array<Port> = Array::with_max_entries(MIN_PORTS, 0);

/// What a cube wants done with a packet.
pub enum Verdict {
    /// Send it to a port.
    Emit(u32),
    /// It became another packet: send that to a port. Count the one it was as dropped, unless a
    /// copy of it went its way.
    Instead(u32, Option<DropReason>),
    /// On XDP: let the same cube handle it on TC.
    HandOver,
    /// Nothing more: it was copied to where it had to go.
    Consumed,
}

/// A standard cube. A type rather than a function, so that it can be inlined for each hook.
pub trait StandardCube {
    /// Decides what happens to a packet that came in at port `input`.
    fn handle<P: Packet>(packet: &mut P, input: u32) -> Result<Verdict>;
}

/// Runs a standard cube: asks it, counts, does what it says. The one exit.
#[inline(always)]
pub fn run<C: StandardCube, P: Packet>(mut packet: P) -> i32 {
    let input = packet.port();
    let size = counters::Size::of(&packet);
    let (output, instead) = match C::handle(&mut packet, input) {
        Ok(Verdict::HandOver) => return hand_over(&packet, size, input),
        Ok(Verdict::Emit(output)) if only_via_tc::<P>(output) => {
            return hand_over(&packet, size, input);
        }
        Ok(Verdict::Emit(output)) => (output, false),
        Ok(Verdict::Instead(output, lost)) => {
            if let Some(reason) = lost {
                counters::dropped(size, input, reason);
            }
            (output, true)
        }
        Ok(Verdict::Consumed) => {
            counters::received(size, input);
            return P::DROP;
        }
        Err(reason) => return drop::<P>(size, input, reason),
    };
    counters::received(size, input);
    match emit(&mut packet, output) {
        Ok(action) => action,
        // Each packet that came in is counted once, and this one was.
        Err(_) if instead => P::DROP,
        Err(reason) => {
            counters::dropped(size, input, reason);
            P::DROP
        }
    }
}

#[inline(always)]
fn drop<P: Packet>(size: counters::Size, input: u32, reason: DropReason) -> i32 {
    counters::received(size, input);
    counters::dropped(size, input, reason);
    P::DROP
}

/// The port table's entry.
#[inline(always)]
pub fn port(index: u32) -> Result<&'static Port> {
    PORTS.get(index).ok_or(DropReason::NotLinked)
}

/// True if a packet on this hook must be handed over to TC to get to the port.
#[inline(always)]
pub fn only_via_tc<P: Packet>(output: u32) -> bool {
    P::XDP
        && PORTS
            .get(output)
            .is_some_and(|port| port.flags & PORT_VIA_TC != 0)
}

/// Sends a copy of the packet to the port, if it leads to an interface and the hook can copy.
#[inline(always)]
pub fn send_copy<P: Packet>(packet: &P, output: u32) -> bool {
    let Ok(port) = port(output) else { return false };
    if !matches!(port.hop.kind, HOP_INTERFACE | HOP_PEER) {
        return false;
    }
    let size = counters::Size::of(packet);
    let copied = packet.send_copy(port.hop.ifindex);
    if copied {
        counters::sent(size, output);
    }
    copied
}

#[inline(always)]
fn emit<P: Packet>(packet: &mut P, output: u32) -> Result<i32> {
    let port = port(output)?;
    match port.hop.kind {
        HOP_PEER => {
            counters::sent(counters::Size::of(packet), output);
            Ok(packet.redirect_peer(port.hop.ifindex))
        }
        HOP_INTERFACE => {
            counters::sent(counters::Size::of(packet), output);
            Ok(packet.redirect(port.hop.ifindex))
        }
        HOP_PROGRAM => {
            let size = counters::Size::of(packet);
            counters::sent(size, output);
            packet.set_port(port.hop.port);
            jump_out(packet, output);
            counters::not_sent(size, output);
            Err(DropReason::ChainBroken)
        }
        _ => Err(DropReason::NotLinked),
    }
}

/// The way on for frames that XDP cannot finish: it cannot copy a frame to several programs,
/// nor filter what leaves through an interface. A veth pair of ours brings the frame to the
/// same port of the same cube on TC, where it is counted.
#[inline(always)]
fn hand_over<P: Packet>(packet: &P, size: counters::Size, input: u32) -> i32 {
    match port(input) {
        Ok(port) if port.handover_ifindex != 0 => packet.redirect(port.handover_ifindex),
        _ => drop::<P>(size, input, DropReason::NotLinked),
    }
}

/// Compares the port with constants, so that each jump is a direct one.
#[inline(always)]
fn jump_out<P: Packet>(packet: &P, output: u32) {
    match output {
        0 => packet.jump_to::<0>(),
        1 => packet.jump_to::<1>(),
        2 => packet.jump_to::<2>(),
        3 => packet.jump_to::<3>(),
        4 => packet.jump_to::<4>(),
        5 => packet.jump_to::<5>(),
        6 => packet.jump_to::<6>(),
        7 => packet.jump_to::<7>(),
        8 => packet.jump_to::<8>(),
        9 => packet.jump_to::<9>(),
        10 => packet.jump_to::<10>(),
        11 => packet.jump_to::<11>(),
        12 => packet.jump_to::<12>(),
        13 => packet.jump_to::<13>(),
        14 => packet.jump_to::<14>(),
        15 => packet.jump_to::<15>(),
        _ => packet.jump(output),
    }
}
