//! Standard cubes: they have ports and decide where a packet goes.

use aya_ebpf::{macros::map, maps::Array};
use ebpf_abi::{
    chain::{MIN_PORTS, in_bank},
    counters::DropReason,
    port::{HOP_INTERFACE, HOP_PEER, HOP_PROGRAM, PORT_VIA_TC, Port},
};

use crate::{Packet, Result, counters};

#[map(name = "ports")]
static PORTS: Array<Port> = Array::with_max_entries(in_bank(MIN_PORTS, 0), 0);

/// What a cube wants done with a packet.
///
/// A struct whose fields are always set, not an enum with data: for fields that one variant lacks
/// the compiler may copy a register that holds nothing, which the verifier refuses.
pub struct Verdict {
    action: Action,
    port: u32,
    lost: Option<DropReason>,
}

#[derive(PartialEq, Eq)]
enum Action {
    Emit,
    Instead,
    HandOver,
    Consumed,
    Drop,
    Part,
}

impl Verdict {
    /// On XDP: let the same cube handle it on TC.
    pub const HAND_OVER: Self = Self {
        action: Action::HandOver,
        port: 0,
        lost: None,
    };
    /// Nothing more: it was copied to where it had to go.
    pub const CONSUMED: Self = Self {
        action: Action::Consumed,
        port: 0,
        lost: None,
    };

    /// Send it to a port.
    #[inline(always)]
    pub const fn emit(port: u32) -> Self {
        Self {
            action: Action::Emit,
            port,
            lost: None,
        }
    }

    /// Let another program of the cube handle it: the one in this slot of the chain. Nothing
    /// was counted nor changed yet.
    #[inline(always)]
    pub const fn part(slot: u32) -> Self {
        Self {
            action: Action::Part,
            port: slot,
            lost: None,
        }
    }

    /// It became another packet: send that to a port. Count the one it was as dropped, unless a
    /// copy of it went its way.
    #[inline(always)]
    pub const fn instead(port: u32, lost: Option<DropReason>) -> Self {
        Self {
            action: Action::Instead,
            port,
            lost,
        }
    }
}

/// A standard cube. A type rather than a function, so that it can be inlined for each hook.
pub trait StandardCube {
    /// True if it gives packets away to wait, so that they may come in a second time.
    const GIVES_AWAY: bool = false;

    /// The same, where it follows from the cube's settings.
    #[inline(always)]
    fn gives_away() -> bool {
        Self::GIVES_AWAY
    }

    /// Decides what happens to a packet that came in at port `input`.
    fn handle<P: Packet>(packet: &mut P, input: u32) -> Result<Verdict>;
}

/// Runs a standard cube: asks it, counts, does what it says. The one exit.
#[inline(always)]
pub fn run<C: StandardCube, P: Packet>(mut packet: P) -> i32 {
    let input = packet.port();
    let size = counters::Size::of(&packet);
    let returning = C::gives_away() && packet.is_returning();
    let verdict = match C::handle(&mut packet, input) {
        Ok(verdict) => verdict,
        // At once, so that all fields are set from here on.
        Err(reason) => Verdict {
            action: Action::Drop,
            port: 0,
            lost: Some(reason),
        },
    };
    if verdict.action == Action::Part {
        packet.jump(verdict.port);
    }
    if returning {
        // The next cube has not seen it.
        packet.set_returning(false);
    }
    // What comes back was counted when it came in.
    let received = || {
        if !returning {
            counters::received(size, input);
        }
    };
    let Verdict { action, port, lost } = verdict;
    match action {
        Action::Drop => {
            received();
            if let Some(reason) = lost {
                counters::dropped(size, input, reason);
            }
            return P::DROP;
        }
        Action::HandOver => return hand_over(&packet, size, input),
        Action::Emit if only_via_tc(&packet, port) => return hand_over(&packet, size, input),
        Action::Consumed => {
            received();
            return P::DROP;
        }
        // It came back: there is no such program, or the packet has been through 33.
        Action::Part => {
            received();
            counters::dropped(size, input, DropReason::ChainBroken);
            return P::DROP;
        }
        Action::Emit | Action::Instead => {}
    }
    if let Some(reason) = lost {
        counters::dropped(size, input, reason);
    }
    received();
    match emit(&mut packet, port) {
        Ok(action) => action,
        // Each packet that came in is counted once, and this one was.
        Err(_) if action == Action::Instead => P::DROP,
        Err(reason) => {
            counters::dropped(size, input, reason);
            P::DROP
        }
    }
}

/// The port table's entry, in the packet's bank.
#[inline(always)]
pub fn port<P: Packet>(packet: &P, index: u32) -> Result<&'static Port> {
    PORTS
        .get(in_bank(index, packet.bank()))
        .ok_or(DropReason::NotLinked)
}

/// True if a packet on this hook must be handed over to TC to get to the port.
#[inline(always)]
pub fn only_via_tc<P: Packet>(packet: &P, output: u32) -> bool {
    P::XDP && port(packet, output).is_ok_and(|port| port.flags & PORT_VIA_TC != 0)
}

/// Sends a copy of the packet to the port, if the hook can copy. Where the port leads to a
/// program, the copy takes an interface of ours whose entry program jumps there.
#[inline(always)]
pub fn send_copy<P: Packet>(packet: &mut P, output: u32) -> bool {
    let Ok(port) = port(packet, output) else {
        return false;
    };
    let size = counters::Size::of(packet);
    let copied = match port.hop.kind {
        HOP_INTERFACE | HOP_PEER => packet.send_copy(port.hop.ifindex),
        HOP_PROGRAM if port.flood_ifindex != 0 => {
            packet.set_port(port.hop.port);
            packet.send_copy_to_program(port.flood_ifindex, output)
        }
        _ => false,
    };
    if copied {
        counters::sent(size, output);
    }
    copied
}

#[inline(always)]
fn emit<P: Packet>(packet: &mut P, output: u32) -> Result<i32> {
    let port = port(packet, output)?;
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
    match port(packet, input) {
        Ok(port) if port.handover_ifindex != 0 => packet.redirect(port.handover_ifindex),
        _ => {
            counters::received(size, input);
            counters::dropped(size, input, DropReason::NotLinked);
            P::DROP
        }
    }
}

/// Compares the port with constants, so that each jump is a direct one.
#[inline(always)]
fn jump_out<P: Packet>(packet: &P, output: u32) {
    macro_rules! direct {
        ($bank:literal: $($port:literal)*) => {
            match output {
                $($port => packet.jump_to::<{ in_bank($port, $bank) }>(),)*
                _ => packet.jump_in::<$bank>(output),
            }
        };
    }
    match packet.bank() {
        0 => direct!(0: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
        _ => direct!(1: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
    }
}
