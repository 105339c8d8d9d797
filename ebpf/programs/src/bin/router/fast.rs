//! The first program: forwards what can simply be forwarded, and leaves the rest to the others.
//! It changes nothing before it has decided, so that they begin anew.

use ebpf_abi::router::{PART_LINK, PART_SLOW, ROUTE_BLACKHOLE, ROUTE_CONNECTED, ROUTE_VIA, Route};
use ebpf_programs::{
    Packet, Result,
    standard::{self, Verdict},
    wire::{ETHERNET_LENGTH, Ipv4, Ipv6},
};

use crate::{Input, ipv4, ipv6, multipath, neighbor, part, route_v4, route_v6, router_port};

#[inline(always)]
pub fn ipv4<P: Packet>(packet: &mut P, input: &Input) -> Result<Verdict> {
    let ip = packet.load::<Ipv4>(ETHERNET_LENGTH)?;
    if ip.header_length() != size_of::<Ipv4>() {
        return Ok(part(PART_SLOW));
    }
    ipv4::check(packet, input, &ip, 0)?;
    let Some(route) = route_v4(ip.destination, || multipath::flow_v4(packet)) else {
        return Ok(part(PART_SLOW));
    };
    if !matches!(route.kind, ROUTE_CONNECTED | ROUTE_VIA) {
        return Ok(part(not_forwarded(route)));
    }
    if ip.ttl <= 1 {
        return Ok(part(PART_SLOW));
    }
    let output = route.port;
    if standard::only_via_tc(packet, output) {
        return Ok(Verdict::HAND_OVER);
    }
    let port = router_port(output)?;
    if ipv4::is_too_big(packet, &ip, port) {
        return Ok(ipv4::oversize::<P>(&ip));
    }
    let next_hop = ipv4::next_hop(route, &ip);
    let Some(mac) = neighbor::usable(&neighbor::key_v4(output, next_hop)) else {
        return Ok(part(PART_SLOW));
    };
    ipv4::rewrite(packet, &ip, mac, port.mac)?;
    Ok(Verdict::emit(output))
}

#[inline(always)]
pub fn ipv6<P: Packet>(packet: &mut P, input: &Input) -> Result<Verdict> {
    let ip = packet.load::<Ipv6>(ETHERNET_LENGTH)?;
    ipv6::check(packet, &ip)?;
    if ipv6::is_neighbor_discovery(packet, &ip)? {
        return Ok(part(PART_LINK));
    }
    ipv6::check_destination(input, &ip)?;
    if ip.destination.is_link_local() || ip.source.is_link_local() || ip.hop_limit <= 1 {
        return Ok(part(PART_SLOW));
    }
    let Some(route) = route_v6(ip.destination, || multipath::flow_v6(packet)) else {
        return Ok(part(PART_SLOW));
    };
    if !matches!(route.kind, ROUTE_CONNECTED | ROUTE_VIA) {
        return Ok(part(not_forwarded(route)));
    }
    let output = route.port;
    if standard::only_via_tc(packet, output) {
        return Ok(Verdict::HAND_OVER);
    }
    let port = router_port(output)?;
    if ipv6::is_too_big(packet, &ip, port) {
        return Ok(part(PART_SLOW));
    }
    let next_hop = ipv6::next_hop(route, &ip);
    let Some(mac) = neighbor::usable(&neighbor::key_v6(output, next_hop)) else {
        return Ok(part(PART_SLOW));
    };
    ipv6::rewrite(packet, &ip, mac, port.mac)?;
    Ok(Verdict::emit(output))
}

/// Which program has to do with packets that a route leads nowhere, or to the router itself.
#[inline(always)]
fn not_forwarded(route: &Route) -> u32 {
    if route.kind >= ROUTE_BLACKHOLE {
        PART_LINK
    } else {
        PART_SLOW
    }
}
