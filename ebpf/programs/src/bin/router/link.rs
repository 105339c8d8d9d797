//! What concerns the link itself: ARP, neighbour discovery, and what user space sends in the
//! router's name. And, so that no program is too large, packets that a route leads nowhere.

use ebpf_abi::{counters::DropReason, router::RouterPort};
use ebpf_programs::{
    Packet, Result,
    standard::{self, Verdict},
    wire::{ETHERNET_LENGTH, ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv6},
};

use crate::{Input, arp, ipv4, ipv6, ndp};

#[inline(always)]
pub fn receive<P: Packet>(packet: &mut P, input: &Input) -> Result<Verdict> {
    if packet.is_returning() && input.station == input.port.mac {
        return send(packet, input);
    }
    if input.ethertype == ETHERTYPE_ARP {
        return arp::receive(packet, input);
    }
    if input.ethertype == ETHERTYPE_IPV4 {
        return ipv4::refuse(packet, input);
    }
    let ip = packet.load::<Ipv6>(ETHERNET_LENGTH)?;
    ipv6::check(packet, &ip)?;
    if !ipv6::is_neighbor_discovery(packet, &ip)? {
        return ipv6::refuse(packet, input, &ip);
    }
    ndp::receive(packet, input, &ip)
}

/// True for a frame that user space put here to be sent as it is: it came by a way that only
/// `pcn` has, and its source is the port's own address.
#[inline(always)]
pub fn is_own<P: Packet>(packet: &P, port: &RouterPort, ethernet: &Ethernet) -> bool {
    packet.is_returning() && ethernet.source == port.mac
}

/// Sends such a frame, as a copy: where the packet itself would go, nobody looks.
#[inline(always)]
fn send<P: Packet>(packet: &mut P, input: &Input) -> Result<Verdict> {
    if standard::send_copy(packet, input.index) {
        return Ok(Verdict::CONSUMED);
    }
    Err(DropReason::NotLinked)
}
