//! `firewall`: knows the connections that packets belong to, and lets pass what its rules accept.
//!
//! A packet of an established connection costs one lookup, however many rules there are. All
//! others are classified.

#![no_std]
#![no_main]

mod conntrack;
mod limit;
mod reject;
mod report;
mod rules;
mod window;

use aya_ebpf::{
    Global,
    macros::{classifier, map, xdp},
    maps::PerCpuArray,
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    chain::Direction,
    classifier::{STATE_ESTABLISHED, STATE_RELATED, STATE_UNTRACKED},
    counters::DropReason,
    firewall::{
        FEATURE_ACCEPT_ESTABLISHED, FEATURE_CONNTRACK, FEATURE_FILTER_DISCOVERY, FEATURE_REJECT,
        FRAGMENTS, Settings, TIMEOUTS, VERDICT_ACCEPT, VERDICT_LIMITED, VERDICT_REJECT, Work,
    },
};
use ebpf_programs::{
    Packet, Result,
    counters::Size,
    flow::{self, Fragments, network_header},
    tc::Tc,
    transparent::{self, TransparentCube},
    wire::ETHERTYPE_ARP,
    xdp::Xdp,
};

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    features: 0,
    defaults: [VERDICT_ACCEPT; 2],
    cube: 0,
    timeouts: [0; TIMEOUTS],
});

#[map(name = "fragments")]
static FRAGMENT_PORTS: Fragments = Fragments::with_max_entries(FRAGMENTS, 0);

#[map(name = "work")]
static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    transparent::run::<Firewall, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    transparent::run::<Firewall, _>(Xdp::new(&context)) as u32
}

/// Bytes in front of a transport header in which the firewall looks, where it is not enough to know
/// the flow. A power of two.
const LONGEST_HEADERS: u32 = 1024;

struct Firewall;

/// A packet, and what is known of it.
struct Seen {
    work: &'static mut Work,
}

impl TransparentCube for Firewall {
    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, direction: Direction) -> Result<()> {
        let may_be_answer = has(FEATURE_REJECT) && transparent::answers_come_by();
        if may_be_answer && packet.take_answer_mark() {
            return Ok(());
        }
        let mut seen = Seen { work: work()? };
        // In the table, not on the stack, which is nearly full.
        let size = Size::of(packet);
        seen.work.packets = size.packets();
        seen.work.bytes = size.bytes();
        seen.work.direction = direction as u32;
        seen.work.flow = flow::read(packet)?;
        if seen.work.flow.family == 0 {
            return not_ip(packet, direction as u32);
        }
        if seen.work.flow.is_neighbor_discovery() && !has(FEATURE_FILTER_DISCOVERY) {
            return Ok(());
        }
        flow::follow_fragments(&FRAGMENT_PORTS, &mut seen.work.flow)?;
        if has(FEATURE_CONNTRACK) {
            conntrack::track(packet, &mut seen);
            let passes = matches!(seen.work.state, STATE_ESTABLISHED | STATE_RELATED);
            if passes && has(FEATURE_ACCEPT_ESTABLISHED) {
                conntrack::count(&seen);
                return Ok(());
            }
        } else {
            seen.work.state = STATE_UNTRACKED;
        }
        rules::decide(packet.bank(), direction as u32, &mut seen);
        if has(FEATURE_CONNTRACK) && seen.work.verdict == VERDICT_ACCEPT {
            conntrack::accept(&mut seen)?;
        }
        verdict(seen.work.verdict)
    }

    #[inline(always)]
    fn refused<P: Packet>(packet: &mut P, reason: DropReason) -> i32 {
        if has(FEATURE_REJECT) && reason == DropReason::Rejected {
            return match work() {
                Ok(work) => reject::answer(packet, &work.flow),
                Err(_) => P::DROP,
            };
        }
        P::DROP
    }
}

#[inline(always)]
fn work() -> Result<&'static mut Work> {
    let work = WORK.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    // SAFETY: the entry belongs to this CPU, and programs do not nest.
    Ok(unsafe { &mut *work })
}

/// ARP passes like neighbour discovery; rules say nothing of what is not IP.
#[inline(always)]
fn not_ip<P: Packet>(packet: &P, direction: u32) -> Result<()> {
    let (ethertype, _) = network_header(packet)?;
    if ethertype == ETHERTYPE_ARP && !has(FEATURE_FILTER_DISCOVERY) {
        return Ok(());
    }
    match default_verdict(direction) {
        VERDICT_ACCEPT => Ok(()),
        _ => Err(DropReason::Policy),
    }
}

#[inline(always)]
fn verdict(verdict: u32) -> Result<()> {
    match verdict {
        VERDICT_ACCEPT => Ok(()),
        VERDICT_REJECT => Err(DropReason::Rejected),
        VERDICT_LIMITED => Err(DropReason::RateLimited),
        _ => Err(DropReason::Policy),
    }
}

/// What happens to packets that no rule matches.
#[inline(always)]
fn default_verdict(direction: u32) -> u32 {
    let [ingress, egress] = SETTINGS.load().defaults;
    match direction {
        0 => ingress,
        _ => egress,
    }
}

#[inline(always)]
fn has(feature: u32) -> bool {
    SETTINGS.load().features & feature != 0
}
