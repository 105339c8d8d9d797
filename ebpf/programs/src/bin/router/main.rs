//! `router`: forwards IPv4 (RFC 1812) and IPv6 (RFC 8200) between its ports, all in the kernel.
//!
//! Four programs: the first one forwards what can simply be forwarded (`fast`), and leaves the
//! rest to one for each sort of rare work: errors and packets that must wait, ARP and neighbour
//! discovery, fragments.
//!
//! Deviations, on purpose: answers and errors go back to the station the packet came from, not
//! through the route to its source (the next hop is then known without asking); redirects are
//! not sent.

#![no_std]
#![no_main]

mod advertise;
mod arp;
mod fast;
mod fragment;
mod icmp;
mod ipv4;
mod ipv6;
mod link;
mod multipath;
mod ndp;
mod neighbor;
mod waiting;

use aya_ebpf::{
    Global,
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    address::{Be16, Mac, V4, V6},
    chain::{CubeChain, MIN_PORTS},
    counters::DropReason,
    router::{
        PART_LINK, ROUTE_GROUP, ROUTER_PORT_TURNS, Route, RouteEntry, RouteKeyV4, RouteKeyV6,
        RouterPort, Routing, Settings,
    },
};
use ebpf_programs::{
    Packet, Result,
    fib::{self, HasTableV6, TableV4, TableV6},
    lpm::Lpm,
    standard::{self, StandardCube, Verdict},
    tc::Tc,
    wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, PROTOCOL_TCP},
    xdp::Xdp,
};

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    parts: CubeChain::for_ports(0).part(1),
    seed: 0,
});

#[map(name = "router_ports")]
static ROUTER_PORTS: Array<RouterPort> = Array::with_max_entries(MIN_PORTS, 0);
#[map(name = "routes_v4")]
static ROUTES_V4: Lpm<RouteKeyV4, RouteEntry> = Lpm::with_max_entries(1);
#[map(name = "routes_v6")]
static ROUTES_V6: Lpm<RouteKeyV6, RouteEntry> = Lpm::with_max_entries(1);
#[map(name = "next_hops")]
static NEXT_HOPS: Array<Route> = Array::with_max_entries(256, 0);
#[map(name = "fib_v4")]
static FIB_V4: TableV4 = TableV4::with_max_entries(1, fib::MAPPED);
#[map(name = "fib_v6")]
static FIB_V6: TableV6 = TableV6::with_max_entries(1, fib::MAPPED);
#[map(name = "dynamic_v4")]
static DYNAMIC_V4: TableV4 = TableV4::with_max_entries(1, fib::MAPPED);
#[map(name = "dynamic_v6")]
static DYNAMIC_V6: TableV6 = TableV6::with_max_entries(1, fib::MAPPED);
#[map(name = "dynamic_next_hops")]
static DYNAMIC_NEXT_HOPS: Array<Route> = Array::with_max_entries(1, 0);

#[unsafe(no_mangle)]
static ROUTING: Global<Routing> = Global::new(Routing {
    large_v4: 0,
    large_v6: 0,
    dynamic: 0,
    groups: 0,
});

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    standard::run::<Router, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    standard::run::<Router, _>(Xdp::new(&context)) as u32
}

#[classifier]
pub fn on_tc_1(context: TcContext) -> i32 {
    standard::run::<Slow, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp_1(context: XdpContext) -> u32 {
    standard::run::<Slow, _>(Xdp::new(&context)) as u32
}

#[classifier]
pub fn on_tc_2(context: TcContext) -> i32 {
    standard::run::<Link, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp_2(context: XdpContext) -> u32 {
    standard::run::<Link, _>(Xdp::new(&context)) as u32
}

#[classifier]
pub fn on_tc_3(context: TcContext) -> i32 {
    standard::run::<Fragment, _>(Tc::new(&context))
}

/// Where a packet came in.
#[derive(Clone, Copy)]
struct Input {
    index: u32,
    port: &'static RouterPort,
    /// The station it came from.
    station: Mac,
    /// The frame was for everyone, or for a group.
    group: bool,
    ethertype: Be16,
}

impl Input {
    #[inline(always)]
    fn of<P: Packet>(packet: &P, index: u32) -> Result<Self> {
        let ethernet = packet.load::<Ethernet>(0)?;
        let port = router_port(index)?;
        // Answers go back to the source, which must be one station (IEEE 802.3, 3.2.3 b).
        if ethernet.source.is_group() {
            return Err(DropReason::Malformed);
        }
        let group = ethernet.destination.is_group();
        if !group && ethernet.destination != port.mac && !link::is_own(packet, port, &ethernet) {
            return Err(DropReason::NotForUs);
        }
        if packet.tagged() {
            return Err(DropReason::Unsupported);
        }
        Ok(Self {
            index,
            port,
            station: ethernet.source,
            group,
            ethertype: ethernet.ethertype,
        })
    }
}

struct Router;

impl StandardCube for Router {
    const GIVES_AWAY: bool = true;

    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, index: u32) -> Result<Verdict> {
        let input = Input::of(packet, index)?;
        if packet.is_returning() && input.station == input.port.mac {
            return Ok(part(PART_LINK));
        }
        match input.ethertype {
            ETHERTYPE_IPV4 => fast::ipv4(packet, &input),
            ETHERTYPE_IPV6 => fast::ipv6(packet, &input),
            ETHERTYPE_ARP => Ok(part(PART_LINK)),
            _ => Err(DropReason::Unsupported),
        }
    }
}

struct Slow;

impl StandardCube for Slow {
    const GIVES_AWAY: bool = true;

    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, index: u32) -> Result<Verdict> {
        let input = Input::of(packet, index)?;
        match input.ethertype {
            ETHERTYPE_IPV4 => ipv4::receive(packet, &input),
            _ => ipv6::receive(packet, &input),
        }
    }
}

struct Link;

impl StandardCube for Link {
    const GIVES_AWAY: bool = true;

    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, index: u32) -> Result<Verdict> {
        let input = Input::of(packet, index)?;
        link::receive(packet, &input)
    }
}

struct Fragment;

impl StandardCube for Fragment {
    const GIVES_AWAY: bool = true;

    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, index: u32) -> Result<Verdict> {
        let input = Input::of(packet, index)?;
        match packet.as_tc() {
            Some(mut tc) => fragment::forward(&mut tc, &input),
            None => Ok(Verdict::HAND_OVER),
        }
    }
}

/// What a family's forwarding comes to.
enum Outcome<A> {
    Verdict(Verdict),
    /// Ask the link behind port `.0` for the neighbour `.1`: the packet is lost.
    Ask(u32, A),
    /// The same, of a packet whose copy is on its way, or waits.
    AskAgain(u32, A),
    /// Ask the neighbour `.1` behind port `.0`, whose link-layer address is `.2`, whether it is
    /// still there. A copy of the packet is on its way.
    Probe(u32, A, Mac),
    /// Tell the sender.
    Report(icmp::Error),
}

/// True if a packet for the router leaves through the port that has the address, as the stack there
/// may know somebody else whom it is for. It comes in again there if not.
#[inline(always)]
fn turns(input: &Input, route: &Route) -> Result<bool> {
    let is_elsewhere = route.port != input.index;
    Ok(is_elsewhere && router_port(route.port)?.flags & ROUTER_PORT_TURNS != 0)
}

/// Sends it there, to and from the port itself: it has gone no hop yet.
#[inline(always)]
fn turn<P: Packet, A>(packet: &P, output: u32, ethertype: Be16) -> Result<Outcome<A>> {
    if standard::only_via_tc(packet, output) {
        return Ok(Outcome::Verdict(Verdict::HAND_OVER));
    }
    let mac = router_port(output)?.mac;
    packet.store(
        0,
        Ethernet {
            destination: mac.alter_ego(),
            source: mac,
            ethertype,
        },
    )?;
    Ok(Outcome::Verdict(Verdict::emit(output)))
}

/// Leaves the packet to another program of the router, as it came.
#[inline(always)]
fn part(number: u32) -> Verdict {
    Verdict::part(SETTINGS.load().parts + number - 1)
}

/// Length of the header that each segment of a larger buffer will have in front of its payload.
#[inline(always)]
fn segment_header<P: Packet>(packet: &P, protocol: u8, offset: usize) -> u32 {
    /// Data offset and reserved bits (RFC 9293, 3.1).
    const DATA_OFFSET: usize = 12;
    match protocol {
        PROTOCOL_TCP => packet
            .load::<u8>(offset + DATA_OFFSET)
            .map_or(20, |offset| u32::from(offset >> 4) * 4),
        _ => 8,
    }
}

#[inline(always)]
fn router_port(index: u32) -> Result<&'static RouterPort> {
    ROUTER_PORTS.get(index).ok_or(DropReason::NotLinked)
}

/// Where packets to an address go. `flow` is asked for the hash of their flow where there are
/// several ways.
#[inline(always)]
fn route_v4(address: V4, flow: impl FnOnce() -> u32) -> Option<&'static Route> {
    let routing = ROUTING.load();
    let fixed = if routing.large_v4 != 0 {
        fib::lookup_v4(&FIB_V4, address)
    } else {
        let key = RouteKeyV4 {
            length: 32,
            address,
        };
        ROUTES_V4.get(&key).map_or(RouteEntry::NONE, |entry| *entry)
    };
    let dynamic = if routing.dynamic != 0 {
        fib::lookup_v4(&DYNAMIC_V4, address)
    } else {
        RouteEntry::NONE
    };
    next_hop(fixed, dynamic, flow)
}

/// The same for IPv6.
#[inline(always)]
fn route_v6(address: V6, flow: impl FnOnce() -> u32) -> Option<&'static Route> {
    let routing = ROUTING.load();
    let fixed = if routing.large_v6 != 0 {
        fixed_v6(address)
    } else {
        let key = RouteKeyV6 {
            length: 128,
            address,
        };
        ROUTES_V6.get(&key).map_or(RouteEntry::NONE, |entry| *entry)
    };
    let dynamic = if routing.dynamic != 0 {
        dynamic_v6(address)
    } else {
        RouteEntry::NONE
    };
    next_hop(fixed, dynamic, flow)
}

struct Fixed;

impl HasTableV6 for Fixed {
    #[inline(always)]
    fn table() -> &'static TableV6 {
        &FIB_V6
    }
}

struct Dynamic;

impl HasTableV6 for Dynamic {
    #[inline(always)]
    fn table() -> &'static TableV6 {
        &DYNAMIC_V6
    }
}

/// Out of line: looking up is long, and done in several places.
#[inline(never)]
fn fixed_v6(address: V6) -> RouteEntry {
    fib::lookup_v6::<Fixed>(address)
}

#[inline(never)]
fn dynamic_v6(address: V6) -> RouteEntry {
    fib::lookup_v6::<Dynamic>(address)
}

/// What becomes of a packet. The longer prefix counts; where both are as long, the static route
/// and the connected network do (administrative distance).
#[inline(always)]
fn next_hop(
    fixed: RouteEntry,
    dynamic: RouteEntry,
    flow: impl FnOnce() -> u32,
) -> Option<&'static Route> {
    let is_better = fixed == RouteEntry::NONE || dynamic.length() > fixed.length();
    let is_dynamic = dynamic != RouteEntry::NONE && is_better;
    let route = if is_dynamic {
        DYNAMIC_NEXT_HOPS.get(dynamic.next_hop())
    } else if fixed != RouteEntry::NONE {
        NEXT_HOPS.get(fixed.next_hop())
    } else {
        None
    };
    let mut route = route?;
    if ROUTING.load().groups != 0 && route.kind == ROUTE_GROUP {
        let flow = flow();
        route = if is_dynamic {
            multipath::dynamic_member(dynamic.next_hop(), flow)
        } else {
            multipath::member(fixed.next_hop(), flow)
        }?;
    }
    (route.kind != 0).then_some(route)
}
