//! `router`: forwards IPv4 (RFC 1812) and IPv6 (RFC 8200) between its ports, all in the kernel.
//!
//! Deviations, on purpose: answers and errors go back to the station the packet came from, not
//! through the route to its source (the next hop is then known without asking); redirects are
//! not sent; packets that are too big and may be fragmented are dropped.

#![no_std]
#![no_main]

mod arp;
mod icmp;
mod ipv4;
mod ipv6;
mod ndp;
mod neighbor;
mod waiting;

use aya_ebpf::{
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    address::{Mac, V4, V6},
    chain::MIN_PORTS,
    counters::DropReason,
    router::{Route, RouteKeyV4, RouteKeyV6, RouterPort},
};
use ebpf_programs::{
    Packet, Result,
    lpm::Lpm,
    standard::{self, StandardCube, Verdict},
    tc::Tc,
    wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, PROTOCOL_TCP},
    xdp::Xdp,
};

#[map(name = "router_ports")]
static ROUTER_PORTS: Array<RouterPort> = Array::with_max_entries(MIN_PORTS, 0);
#[map(name = "routes_v4")]
static ROUTES_V4: Lpm<RouteKeyV4, Route> = Lpm::with_max_entries(1);
#[map(name = "routes_v6")]
static ROUTES_V6: Lpm<RouteKeyV6, Route> = Lpm::with_max_entries(1);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    standard::run::<Router, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    standard::run::<Router, _>(Xdp::new(&context)) as u32
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
}

struct Router;

impl StandardCube for Router {
    const GIVES_AWAY: bool = true;

    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, index: u32) -> Result<Verdict> {
        let ethernet = packet.load::<Ethernet>(0)?;
        let port = router_port(index)?;
        // Answers go back to the source, which must be one station (IEEE 802.3, 3.2.3 b).
        if ethernet.source.is_group() {
            return Err(DropReason::Malformed);
        }
        let group = ethernet.destination.is_group();
        if !group && ethernet.destination != port.mac {
            return Err(DropReason::NotForUs);
        }
        if packet.tagged() {
            return Err(DropReason::Unsupported);
        }
        let input = Input {
            index,
            port,
            station: ethernet.source,
            group,
        };
        match ethernet.ethertype {
            ETHERTYPE_IPV4 => ipv4::receive(packet, &input),
            ETHERTYPE_IPV6 => ipv6::receive(packet, &input),
            ETHERTYPE_ARP => arp::receive(packet, &input),
            _ => Err(DropReason::Unsupported),
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
    /// Tell the sender.
    Report(icmp::Error),
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

#[inline(always)]
fn route_v4(address: V4) -> Option<&'static Route> {
    ROUTES_V4.get(&RouteKeyV4 {
        length: 32,
        address,
    })
}

#[inline(always)]
fn route_v6(address: V6) -> Option<&'static Route> {
    ROUTES_V6.get(&RouteKeyV6 {
        length: 128,
        address,
    })
}
