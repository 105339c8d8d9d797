//! `nat`: network address translation, for both families. What leaves (egress) is inside, what
//! comes in (ingress) is outside.
//!
//! Two programs: the first one knows sessions and rules, and translates within a family. It leaves
//! packets that become those of the other family to the second one, with what is in `work`.

#![no_std]
#![no_main]

mod contact;
mod icmp;
mod mapping;
mod nat64;
mod pool;
mod ports;
mod prefix;
mod rule;
mod session;
mod translate;
mod work;

use aya_ebpf::{
    Global,
    macros::{classifier, map, xdp},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    address::V6,
    chain::Direction,
    counters::DropReason,
    flow::{Flow, ICMPV6},
    nat::{EXTERNAL_TURNS, FEATURE_FAMILIES, FEATURE_PAIRS, FEATURE_PREFIX, Session, Settings},
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, DONE, PASS, answer},
    clock, constant,
    counters::Size,
    flow::{self, Fragments},
    tc::Tc,
    transparent::{self, TransparentCube},
    xdp::Xdp,
};

use crate::work::{OTHER_FAMILY, Work, copy, result, work};

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    features: 0,
    tcp_established: 0,
    tcp_transitory: 0,
    udp: 0,
    icmp: 0,
    other: 0,
    sessions: 0,
    prefix_length: 0,
    prefix: V6::UNSPECIFIED,
});

#[map(name = "fragments")]
static FRAGMENTS: Fragments = Fragments::with_max_entries(4096, 0);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    transparent::run::<Nat, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    transparent::run::<Nat, _>(Xdp::new(&context)) as u32
}

#[classifier]
pub fn on_tc_1(context: TcContext) -> i32 {
    transparent::run_part::<nat64::OtherFamily, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp_1(context: XdpContext) -> u32 {
    transparent::run_part::<nat64::OtherFamily, _>(Xdp::new(&context)) as u32
}

/// Not for packets: removes sessions that are no more ([`SWEEP_PART`]). The frame's first word says from which slot on, and
/// where it got to.
///
/// [`SWEEP_PART`]: ebpf_abi::nat::SWEEP_PART
#[classifier]
pub fn on_tc_2(context: TcContext) -> i32 {
    let packet = Tc::new(&context);
    let (Ok(first), Ok(work)) = (packet.load::<u32>(0), work()) else {
        return 0;
    };
    let next = session::sweep_from(work, first, clock::now());
    i32::from(packet.store(0, next).is_err())
}

/// True if the settings ask for something (`FEATURE_*`). A constant to the verifier, which removes
/// what is behind one that is off.
#[inline(always)]
fn has(feature: u64) -> bool {
    constant!(SETTINGS: Settings, features) & feature != 0
}

/// Where the packet comes from: what is for the other family is from inside, wherever it is met.
#[inline(always)]
fn side(flow: &Flow, direction: Direction) -> Direction {
    if has(FEATURE_FAMILIES) && nat64::concerns(flow) {
        Direction::Egress
    } else {
        direction
    }
}

struct Nat;

impl TransparentCube for Nat {
    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, direction: Direction, _: Size) -> Result<()> {
        let work = work()?;
        if result(read(packet, work))? == PASS {
            return Ok(());
        }
        let direction = side(&work.flow, direction);
        work.flow.key.padding[0] = direction as u8;
        if work.flow.is_error() {
            let done = result(icmp::error(packet, work, direction))?;
            if has(FEATURE_FAMILIES) && done == OTHER_FAMILY {
                return Err(transparent::part(packet));
            }
            return Ok(());
        }
        if has(FEATURE_PAIRS) && result(nat64::pair(work, direction))? == OTHER_FAMILY {
            return Err(transparent::part(packet));
        }
        let now = clock::now();
        let mut session = session::find(packet, work, now);
        if session.is_none() {
            if has(FEATURE_PREFIX) && prefix::reverse(work, direction)? {
                result(translate::rewrite(packet, &work.flow, &work.reverse))?;
                return Ok(());
            }
            if result(rule::begin(packet, work, direction, now))? == PASS {
                return Ok(());
            }
            session = session::begun(work);
        }
        // In one place: what follows is long.
        match session {
            Some(session) => translate(packet, work, session, direction, now),
            None => Err(DropReason::NoSession),
        }
    }

    /// Who uses an external address inside is answered as if it were outside, with an external
    /// address of its own (RFC 4787, REQ-9). What leaves keeps its destination, so that is as it was read.
    #[inline(always)]
    fn turns<P: Packet>(_: &P) -> bool {
        let Ok(work) = work() else {
            return false;
        };
        let destination = work.flow.key.destination;
        rule::is_external(destination, EXTERNAL_TURNS)
            || (has(FEATURE_PREFIX) && prefix::is_external(destination))
    }
}

#[inline(always)]
fn translate<P: Packet>(
    packet: &P,
    work: &mut Work,
    session: *mut Session,
    direction: Direction,
    now: u64,
) -> Result<()> {
    session::note(session, work, direction, Size::of(packet), now);
    // SAFETY: the kernel keeps the entry while the program runs.
    let reverse = unsafe { &(*session).keys[direction.other() as usize] };
    if has(FEATURE_FAMILIES) && nat64::is_other(&work.flow, reverse) {
        // SAFETY: as above.
        unsafe { copy(&mut work.reverse, reverse) };
        return Err(transparent::part(packet));
    }
    result(translate::rewrite(packet, &work.flow, reverse))?;
    Ok(())
}

/// Reads the packet's headers. A function of its own, so that the verifier forgets how it came to
/// what it has read.
#[inline(never)]
fn read<P: Packet>(packet: &P, work: &mut Work) -> Answer {
    answer(try_read(packet, work))
}

#[inline(always)]
fn try_read<P: Packet>(packet: &P, work: &mut Work) -> Result<Answer> {
    flow::read(packet, &mut work.flow)?;
    if work.flow.family == 0 || stays_on_link(&work.flow) {
        return Ok(PASS);
    }
    flow::follow_fragments(&FRAGMENTS, &mut work.flow)?;
    Ok(DONE)
}

/// True for what no router forwards: multicast and broadcast, and addresses that mean something
/// on one link only. They pass as they are.
#[inline(always)]
fn stays_on_link(flow: &Flow) -> bool {
    let (source, destination) = (flow.key.source, flow.key.destination);
    match flow.family {
        4 => {
            let [a, ..] = destination.0[3].to_ne_bytes();
            // 224.0.0.0/4, and 255.255.255.255 among what is behind it.
            a >= 224 || source.0[3] == 0
        }
        _ => {
            destination.is_multicast()
                || destination.is_link_local()
                || source.is_link_local()
                || source.0 == [0; 4]
                || (flow.key.protocol == ICMPV6 && flow.is_neighbor_discovery())
        }
    }
}
