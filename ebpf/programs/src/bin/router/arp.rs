//! ARP (RFC 826): answers for the router's addresses, learns from what it hears, asks.

use ebpf_abi::{
    address::{Mac, V4},
    counters::DropReason,
    router::{ROUTE_CONNECTED, ROUTE_LOCAL},
};
use ebpf_programs::{
    Packet, Result,
    standard::{self, Verdict},
    wire::{Arp, ETHERNET_LENGTH, ETHERTYPE_ARP, Ethernet},
};

use crate::{Input, neighbor, route_v4, router_port};

#[inline(always)]
pub fn receive<P: Packet>(packet: &P, input: &Input) -> Result<Verdict> {
    let arp = packet.load::<Arp>(ETHERNET_LENGTH)?;
    if arp.kind != Arp::ETHERNET_IPV4 {
        return Err(DropReason::Unsupported);
    }
    // A sender of zero is a probe (RFC 5227, 2.1.1): nothing to learn from it.
    if let Some(route) = route_v4(arp.sender())
        && route.kind == ROUTE_CONNECTED
        && route.port == input.index
        && !arp.sender_mac.is_group()
    {
        neighbor::learn(&neighbor::key_v4(input.index, arp.sender()), arp.sender_mac);
    }
    if arp.operation != Arp::REQUEST {
        return Ok(Verdict::CONSUMED);
    }
    match route_v4(arp.target()) {
        Some(route) if route.kind == ROUTE_LOCAL && route.port == input.index => {
            answer(packet, input, &arp)
        }
        _ => Ok(Verdict::CONSUMED),
    }
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
    let port = router_port(output)?;
    // Ethernet frames have 60 bytes at least.
    packet.blank::<60>()?;
    packet.store(
        0,
        Ethernet {
            destination: Mac::BROADCAST,
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
    )?;
    Ok(Verdict::instead(output, lost))
}

/// The router's address on the network of `target` (RFC 1122, 2.3.2: the sender's own).
#[inline(always)]
fn own_address(first: V4, target: V4) -> V4 {
    match route_v4(target) {
        Some(route) if route.kind == ROUTE_CONNECTED => route.next_hop.v4(),
        _ => first,
    }
}
