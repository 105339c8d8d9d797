//! ARP (RFC 826): answers for the router's addresses, learns from what it hears, asks.

use ebpf_abi::{
    address::{Mac, V4},
    counters::DropReason,
    router::{ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_VIA, ROUTER_PORT_PROXY_ARP, Route},
};
use ebpf_programs::{
    Packet, Result,
    standard::{self, Verdict},
    wire::{Arp, ETHERNET_LENGTH, ETHERTYPE_ARP, Ethernet},
};

use crate::{Input, multipath::NO_FLOW, neighbor, route_v4, router_port};

#[inline(always)]
pub fn receive<P: Packet>(packet: &P, input: &Input) -> Result<Verdict> {
    let arp = packet.load::<Arp>(ETHERNET_LENGTH)?;
    if arp.kind != Arp::ETHERNET_IPV4 {
        return Err(DropReason::Unsupported);
    }
    // A sender of zero is a probe (RFC 5227, 2.1.1): nothing to learn from it.
    if let Some(route) = route_v4(arp.sender(), || NO_FLOW)
        && route.kind == ROUTE_CONNECTED
        && route.port == input.index
        && !arp.sender_mac.is_group()
    {
        // A reply to us alone is one to a question of ours. The latest is believed (RFC 826).
        let answers = arp.operation == Arp::REPLY && !input.group;
        let key = neighbor::key_v4(input.index, arp.sender());
        neighbor::learn(&key, arp.sender_mac, answers, true);
    }
    if arp.operation != Arp::REQUEST {
        return Ok(Verdict::CONSUMED);
    }
    match route_v4(arp.target(), || NO_FLOW) {
        Some(route) if route.kind == ROUTE_LOCAL && route.port == input.index => {
            answer(packet, input, &arp)
        }
        Some(route) if is_proxy_for(input, route, &arp) => answer(packet, input, &arp),
        _ => Ok(Verdict::CONSUMED),
    }
}

/// True if the router answers in place of the target: it is where packets for the target have to
/// go (RFC 1027, 2.4). Not to a probe (RFC 5227, 2.1.1): an address that a host is about to take
/// on its own link is none that is in use behind another one.
#[inline(always)]
fn is_proxy_for(input: &Input, route: &Route, request: &Arp) -> bool {
    input.port.flags & ROUTER_PORT_PROXY_ARP != 0
        && matches!(route.kind, ROUTE_CONNECTED | ROUTE_VIA)
        && route.port != input.index
        && request.sender() != V4::default()
}

#[inline(always)]
fn answer<P: Packet>(packet: &P, input: &Input, request: &Arp) -> Result<Verdict> {
    if standard::only_via_tc(packet, input.index) {
        return Ok(Verdict::HAND_OVER);
    }
    let mac = input.port.mac;
    packet.store(
        0,
        Ethernet {
            destination: input.station,
            source: mac,
            ethertype: ETHERTYPE_ARP,
        },
    )?;
    packet.store(
        ETHERNET_LENGTH,
        Arp::new(
            Arp::REPLY,
            (mac, request.target()),
            (request.sender_mac, request.sender()),
        ),
    )?;
    Ok(Verdict::emit(input.index))
}

/// Turns the packet into a question for `target`; `lost` says why the packet itself is.
#[inline(always)]
pub fn ask<P: Packet>(
    packet: &mut P,
    output: u32,
    target: V4,
    lost: Option<DropReason>,
) -> Result<Verdict> {
    question(packet, output, target, Mac::BROADCAST)?;
    Ok(Verdict::instead(output, lost))
}

/// Turns the packet into a question to a neighbour alone (RFC 1122, 2.3.2.1), a copy of which is
/// on its way.
#[inline(always)]
pub fn probe<P: Packet>(packet: &mut P, output: u32, target: V4, station: Mac) -> Result<Verdict> {
    question(packet, output, target, station)?;
    Ok(Verdict::instead(output, None))
}

#[inline(always)]
fn question<P: Packet>(packet: &mut P, output: u32, target: V4, station: Mac) -> Result<()> {
    let port = router_port(output)?;
    // Ethernet frames have 60 bytes at least.
    packet.blank::<60>()?;
    packet.store(
        0,
        Ethernet {
            destination: station,
            source: port.mac,
            ethertype: ETHERTYPE_ARP,
        },
    )?;
    packet.store(
        ETHERNET_LENGTH,
        Arp::new(
            Arp::REQUEST,
            (port.mac, own_address(port.address_v4, target)),
            (Mac::default(), target),
        ),
    )
}

/// The router's address on the network of `target` (RFC 1122, 2.3.2: the sender's own).
#[inline(always)]
fn own_address(first: V4, target: V4) -> V4 {
    match route_v4(target, || NO_FLOW) {
        Some(route) if route.kind == ROUTE_CONNECTED => route.next_hop.v4(),
        _ => first,
    }
}
