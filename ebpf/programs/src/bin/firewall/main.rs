//! `firewall`: knows the connections that packets belong to, and lets pass what its rules accept.
//!
//! A packet of an established connection costs one lookup, however many rules there are. All
//! others are classified.
//!
//! Where connections are known, that is two programs: the first one finds a packet's connection, and leaves to the second one
//! what rules decide about, with what is in `work`. Without connections, rules decide about each packet, in the first
//! one.

#![no_std]
#![no_main]

mod conntrack;
mod key;
mod limit;
mod reject;
mod report;
mod rules;
mod window;
mod work;

use aya_ebpf::{
    Global,
    macros::{classifier, map, xdp},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    chain::Direction,
    classifier::STATE_UNTRACKED,
    counters::DropReason,
    firewall::{
        self, FEATURE_CONNTRACK, FEATURE_FILTER_DISCOVERY, FEATURE_REJECT, FRAGMENTS, Settings,
        TIMEOUTS, VERDICT_ACCEPT, VERDICT_LIMITED, VERDICT_REJECT, Work,
    },
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, DONE, PASS, answer},
    constant,
    counters::Size,
    flow::{self, Fragments, network_header},
    tc::Tc,
    transparent::{self, TransparentCube},
    wire::ETHERTYPE_ARP,
    xdp::Xdp,
};

use crate::work::{NOT_IP, result, work};

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    features: 0,
    defaults: [VERDICT_ACCEPT; 2],
    cube: 0,
    timeouts: [0; TIMEOUTS],
});

#[map(name = "fragments")]
static FRAGMENT_PORTS: Fragments = Fragments::with_max_entries(FRAGMENTS, 0);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    transparent::run::<Firewall, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    transparent::run::<Firewall, _>(Xdp::new(&context)) as u32
}

#[classifier]
pub fn on_tc_1(context: TcContext) -> i32 {
    transparent::run_part::<Rules, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp_1(context: XdpContext) -> u32 {
    transparent::run_part::<Rules, _>(Xdp::new(&context)) as u32
}

/// Bytes in front of a transport header in which the firewall looks, where it is not enough to know
/// the flow. A power of two.
const LONGEST_HEADERS: u32 = 1024;

/// The first program.
struct Firewall;

impl TransparentCube for Firewall {
    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, direction: Direction, size: Size) -> Result<()> {
        let may_be_answer = has(FEATURE_REJECT) && transparent::answers_come_by();
        if may_be_answer && packet.take_answer_mark() {
            return Ok(());
        }
        let direction = direction as u32;
        if firewall::passes_all(features(), default_verdict(direction), direction) {
            rules::count_default(direction, size);
            return Ok(());
        }
        let work = work()?;
        work.packets = size.packets();
        work.bytes = size.bytes();
        work.direction = direction;
        match result(read(packet, work))? {
            PASS => return Ok(()),
            NOT_IP => return not_ip(packet, direction),
            _ => {}
        }
        if has(FEATURE_CONNTRACK) {
            if conntrack::track(packet, work) == PASS {
                return Ok(());
            }
            if firewall::leaves(features(), default_verdict(direction), direction) {
                return Err(transparent::part(packet));
            }
        } else {
            work.state = STATE_UNTRACKED;
        }
        decide(packet.bank(), direction, work)
    }

    #[inline(always)]
    fn refused<P: Packet>(packet: &mut P, reason: DropReason) -> i32 {
        if has(FEATURE_CONNTRACK) {
            // What is answered is left to the second program.
            return P::DROP;
        }
        refuse(packet, reason)
    }
}

/// The second program: what rules decide about.
struct Rules;

impl TransparentCube for Rules {
    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, direction: Direction, _: Size) -> Result<()> {
        decide(packet.bank(), direction as u32, work()?)
    }

    #[inline(always)]
    fn refused<P: Packet>(packet: &mut P, reason: DropReason) -> i32 {
        refuse(packet, reason)
    }
}

/// Reads the packet's headers. A function of its own, so that the verifier forgets how it came to what it has read.
#[inline(never)]
fn read<P: Packet>(packet: &P, work: &mut Work) -> Answer {
    answer(try_read(packet, work))
}

#[inline(always)]
fn try_read<P: Packet>(packet: &P, work: &mut Work) -> Result<Answer> {
    flow::read(packet, &mut work.flow)?;
    if work.flow.family == 0 {
        return Ok(NOT_IP);
    }
    if work.flow.is_neighbor_discovery() && !has(FEATURE_FILTER_DISCOVERY) {
        return Ok(PASS);
    }
    flow::follow_fragments(&FRAGMENT_PORTS, &mut work.flow)?;
    Ok(DONE)
}

/// Asks the rules, and begins the connection of a packet that they accept.
#[inline(always)]
fn decide(bank: u32, direction: u32, work: &mut Work) -> Result<()> {
    rules::decide(bank, direction, work);
    if has(FEATURE_CONNTRACK) && work.verdict == VERDICT_ACCEPT {
        result(conntrack::accept(work))?;
    }
    verdict(work.verdict)
}

#[inline(always)]
fn refuse<P: Packet>(packet: &mut P, reason: DropReason) -> i32 {
    if has(FEATURE_REJECT) && reason == DropReason::Rejected {
        return match work() {
            Ok(work) => reject::answer(packet, &work.flow),
            Err(_) => P::DROP,
        };
    }
    P::DROP
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
    let [ingress, egress] = constant!(SETTINGS: Settings, defaults);
    match direction {
        0 => ingress,
        _ => egress,
    }
}

#[inline(always)]
fn has(feature: u32) -> bool {
    features() & feature != 0
}

#[inline(always)]
fn features() -> u32 {
    constant!(SETTINGS: Settings, features)
}
