//! Transparent cubes: they let a packet pass, change it or drop it.

use aya_ebpf::Global;
use ebpf_abi::{
    chain::Direction,
    counters::DropReason,
    port::{HOP_INTERFACE, HOP_PASS, HOP_PEER, HOP_PROGRAM},
    transparent::{Attachment, Turn},
};

use crate::{
    Packet, Result, constant,
    counters::{Entry, Size},
    wire::Ethernet,
};

#[unsafe(no_mangle)]
static ATTACHMENT: Global<Attachment> = Global::new(Attachment {
    direction: 0,
    counter: 0,
    slot: 0,
    hop: ebpf_abi::port::Hop {
        kind: 0,
        ifindex: 0,
        port: 0,
    },
});

/// The way back, of a cube that answers; the counter and the direction in it mean nothing.
#[unsafe(no_mangle)]
static BACK: Global<Attachment> = Global::new(Attachment {
    direction: 0,
    counter: 0,
    slot: 0,
    hop: ebpf_abi::port::Hop {
        kind: 0,
        ifindex: 0,
        port: 0,
    },
});

/// The slot of the cube's second program, if it has one.
#[unsafe(no_mangle)]
static PART: Global<u32> = Global::new(0);

/// Where packets turn round.
#[unsafe(no_mangle)]
static TURN: Global<Turn> = Global::new(Turn {
    on: 0,
    slot: 0,
    port: 0,
});

/// A transparent cube. A type rather than a function, so that it can be inlined for each hook.
pub trait TransparentCube {
    /// True if the packet that passes may have another length than the one that came.
    const RESIZES: bool = false;

    /// Looks at a packet, of which `size` is counted: `Ok` lets it pass.
    fn handle<P: Packet>(packet: &mut P, direction: Direction, size: Size) -> Result<()>;

    /// True if a packet that leaves and is let pass is for the side it came from. Asked where packets can turn round.
    #[inline(always)]
    fn turns<P: Packet>(_packet: &P) -> bool {
        false
    }

    /// What becomes of a packet that is not let pass, and was counted: it is freed, or turned into
    /// an answer that goes [`back`].
    #[inline(always)]
    fn refused<P: Packet>(_packet: &mut P, _reason: DropReason) -> i32 {
        P::DROP
    }
}

/// The number of the attachment that the program is for. A constant to the verifier.
#[inline(always)]
pub fn attachment() -> u32 {
    // Two counters each (`ebpf_abi::transparent::counter_index`).
    constant!(ATTACHMENT: Attachment, counter) / 2
}

/// True if answers of the cube come by once more: they go through the interface whose stack it is in. A constant to the
/// verifier.
#[inline(always)]
pub fn answers_come_by() -> bool {
    constant!(BACK: Attachment, hop).kind == HOP_PASS
}

/// Runs a transparent cube: counts, asks it, passes the packet on. The one exit.
#[inline(always)]
pub fn run<C: TransparentCube, P: Packet>(packet: P) -> i32 {
    let size = Size::of(&packet);
    // It is always there.
    let Some(entry) = entry() else {
        return P::DROP;
    };
    entry.received(size);
    handle::<C, P>(packet, size, entry)
}

/// Runs the second program of a transparent cube, with a packet that was counted already.
#[inline(always)]
pub fn run_part<C: TransparentCube, P: Packet>(packet: P) -> i32 {
    let size = Size::of(&packet);
    let Some(entry) = entry() else {
        return P::DROP;
    };
    handle::<C, P>(packet, size, entry)
}

/// Where the attachment counts.
#[inline(always)]
fn entry() -> Option<Entry> {
    Entry::of(constant!(ATTACHMENT: Attachment, counter))
}

/// Leaves the packet to the cube's second program, for rare work. What is known of it must be in a table of
/// the cube. Returns only if there is no such program, or if the packet has been through 33.
#[inline(always)]
pub fn part<P: Packet>(packet: &P) -> DropReason {
    packet.jump(PART.load());
    DropReason::ChainBroken
}

#[inline(always)]
fn handle<C: TransparentCube, P: Packet>(mut packet: P, size: Size, entry: Entry) -> i32 {
    let packet = &mut packet;
    let direction = match constant!(ATTACHMENT: Attachment, direction) {
        0 => Direction::Ingress,
        _ => Direction::Egress,
    };
    let verdict = match C::handle(packet, direction, size) {
        Ok(()) => {
            let size = if C::RESIZES { Size::of(packet) } else { size };
            if constant!(TURN: Turn, on) != 0 && turns::<C, P>(packet) {
                turn_round(packet, size, entry)
            } else {
                pass_on(packet, size, entry)
            }
        }
        Err(reason) => Err(reason),
    };
    match verdict {
        Ok(action) => action,
        Err(reason) => {
            entry.dropped(size, reason);
            C::refused(packet, reason)
        }
    }
}

/// Sends a packet where the one that it was came from, as one that has passed the cube in the
/// other direction. What is behind it there sees it.
#[inline(always)]
pub fn back<P: Packet>(packet: &mut P) -> i32 {
    let back = BACK.load();
    match back.hop.kind {
        HOP_PROGRAM => {
            packet.set_port(back.hop.port);
            packet.jump(back.slot);
            P::DROP
        }
        HOP_PEER => packet.redirect_peer(back.hop.ifindex),
        HOP_INTERFACE => packet.redirect(back.hop.ifindex),
        // A stack of the host itself: only through the interface.
        HOP_PASS => {
            let direction = constant!(ATTACHMENT: Attachment, direction);
            packet.turn_round(direction == Direction::Egress as u32)
        }
        _ => P::DROP,
    }
}

/// True if a packet is for the side it came from, or for the port itself.
#[inline(always)]
fn turns<C: TransparentCube, P: Packet>(packet: &P) -> bool {
    let is_to_itself = packet
        .load::<Ethernet>(0)
        .is_ok_and(|ethernet| ethernet.destination == ethernet.source.alter_ego());
    is_to_itself || C::turns(packet)
}

/// Lets a packet that leaves come in again, as one from outside for the port that sends it. Its station stands for the
/// port, so that answers come back as well.
#[inline(always)]
fn turn_round<P: Packet>(packet: &mut P, size: Size, entry: Entry) -> Result<i32> {
    let ethernet = packet.load::<Ethernet>(0)?;
    packet.store(
        0,
        Ethernet {
            destination: ethernet.source,
            source: ethernet.source.alter_ego(),
            ..ethernet
        },
    )?;
    let turn = TURN.load();
    entry.sent(size);
    packet.set_port(turn.port);
    packet.jump(turn.slot);
    entry.not_sent(size);
    Err(DropReason::ChainBroken)
}

#[inline(always)]
fn pass_on<P: Packet>(packet: &P, size: Size, entry: Entry) -> Result<i32> {
    let kind = constant!(ATTACHMENT: Attachment, hop.kind);
    if !matches!(kind, HOP_PROGRAM | HOP_PEER | HOP_INTERFACE | HOP_PASS) {
        return Err(DropReason::NotLinked);
    }
    entry.sent(size);
    match kind {
        HOP_PROGRAM => {
            packet.jump(constant!(ATTACHMENT: Attachment, slot));
            entry.not_sent(size);
            Err(DropReason::ChainBroken)
        }
        HOP_PEER => Ok(packet.redirect_peer(constant!(ATTACHMENT: Attachment, hop.ifindex))),
        HOP_INTERFACE => Ok(packet.redirect(constant!(ATTACHMENT: Attachment, hop.ifindex))),
        _ => Ok(P::PASS),
    }
}
