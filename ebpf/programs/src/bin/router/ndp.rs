//! Neighbour discovery (RFC 4861): answers for the router's addresses, learns from what it
//! hears, asks.

use ebpf_abi::{
    address::{Be16, Mac, V6},
    checksum,
    counters::DropReason,
    router::{ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_VIA, ROUTER_PORT_PROXY_ND, Route},
};
use ebpf_programs::{
    Packet, Result,
    standard::{self, Verdict},
    wire::{
        ETHERNET_LENGTH, ETHERTYPE_IPV6, Ethernet, ICMPV6_NEIGHBOR_ADVERTISEMENT,
        ICMPV6_NEIGHBOR_SOLICITATION, ICMPV6_ROUTER_SOLICITATION, Icmp, Ipv6, LinkLayerOption,
        NeighborMessage, PROTOCOL_ICMPV6,
    },
};

use crate::{Input, advertise, ipv6::PAYLOAD, multipath::NO_FLOW, neighbor, route_v6, router_port};

/// Bytes of a frame with a neighbour message.
const FRAME: usize = PAYLOAD + size_of::<NeighborMessage>();
/// Where options of solicitations and advertisements of neighbours begin.
const OPTIONS: usize = PAYLOAD + size_of::<Icmp>() + 16;
/// Hop limit of neighbour messages; another one means that the message crossed a router
/// (RFC 4861, 7.1).
pub const HOP_LIMIT: u8 = 255;
/// Flags of an advertisement (RFC 4861, 4.4).
const FROM_ROUTER: u16 = 0x8000;
const SOLICITED: u16 = 0x4000;
const OVERRIDE: u16 = 0x2000;

#[inline(always)]
pub fn receive<P: Packet>(packet: &mut P, input: &Input, ip: &Ipv6) -> Result<Verdict> {
    match packet.load::<u8>(PAYLOAD)? {
        ICMPV6_NEIGHBOR_SOLICITATION => solicitation(packet, input, ip),
        ICMPV6_NEIGHBOR_ADVERTISEMENT => advertisement(packet, input, ip),
        ICMPV6_ROUTER_SOLICITATION => advertise::solicitation(packet, input, ip),
        // The router is configured, not advised.
        _ => Err(DropReason::NotForwarded),
    }
}

#[inline(always)]
fn solicitation<P: Packet>(packet: &mut P, input: &Input, ip: &Ipv6) -> Result<Verdict> {
    let target = target(packet, ip)?;
    let unspecified = ip.source == V6::UNSPECIFIED;
    if !unspecified {
        let mac = link_layer_address(packet, ip, OPTIONS, LinkLayerOption::SOURCE)
            .unwrap_or(input.station);
        learn(input, ip.source, mac, false, true);
    }
    let route = route_v6(target, || NO_FLOW);
    let ours = target == input.port.link_local
        || route.is_some_and(|route| route.kind == ROUTE_LOCAL && route.port == input.index);
    // Who checks an address for duplicates asks about its own link, not what is behind others.
    let proxy =
        !ours && !unspecified && route.is_some_and(|route| is_proxy_for(input, route, target));
    if !ours && !proxy {
        return Ok(Verdict::CONSUMED);
    }
    if standard::only_via_tc(packet, input.index) {
        return Ok(Verdict::HAND_OVER);
    }
    // Who checks an address for duplicates has none yet: the answer goes to everyone
    // (RFC 4861, 7.2.4).
    let (destination, station, flags) = if unspecified {
        (ALL_NODES, ALL_NODES_MAC, FROM_ROUTER | OVERRIDE)
    } else if proxy {
        // Should the target be on the link after all, its own answer counts (RFC 4861, 7.2.8).
        (ip.source, input.station, FROM_ROUTER | SOLICITED)
    } else {
        (ip.source, input.station, FROM_ROUTER | SOLICITED | OVERRIDE)
    };
    let source = if proxy { input.port.link_local } else { target };
    packet.resize(FRAME as u32)?;
    let message = NeighborMessage {
        icmp: Icmp {
            kind: ICMPV6_NEIGHBOR_ADVERTISEMENT,
            code: 0,
            checksum: Be16::default(),
            rest: [Be16::new(flags), Be16::default()],
        },
        target,
        option: LinkLayerOption {
            kind_length: LinkLayerOption::TARGET,
            mac: input.port.mac,
        },
    };
    write(
        packet,
        input.port.mac,
        station,
        source,
        destination,
        message,
    )?;
    Ok(Verdict::emit(input.index))
}

/// True if the router answers in place of the target: it is where packets for the target have to
/// go.
#[inline(always)]
fn is_proxy_for(input: &Input, route: &Route, target: V6) -> bool {
    input.port.flags & ROUTER_PORT_PROXY_ND != 0
        && matches!(route.kind, ROUTE_CONNECTED | ROUTE_VIA)
        && route.port != input.index
        && !target.is_link_local()
}

#[inline(always)]
fn advertisement<P: Packet>(packet: &P, input: &Input, ip: &Ipv6) -> Result<Verdict> {
    let target = target(packet, ip)?;
    let flags = packet.load::<Be16>(PAYLOAD + 4)?.get();
    let solicited = flags & SOLICITED != 0;
    // RFC 4861, 7.1.2.
    if solicited && ip.destination.is_multicast() {
        return Err(DropReason::Malformed);
    }
    let mac =
        link_layer_address(packet, ip, OPTIONS, LinkLayerOption::TARGET).unwrap_or(input.station);
    learn(input, target, mac, solicited, flags & OVERRIDE != 0);
    Ok(Verdict::CONSUMED)
}

/// The target, if the message is valid (RFC 4861, 7.1).
#[inline(always)]
fn target<P: Packet>(packet: &P, ip: &Ipv6) -> Result<V6> {
    let length = usize::from(ip.payload_length.get());
    let code = packet.load::<u8>(PAYLOAD + 1)?;
    let target = packet.load::<V6>(PAYLOAD + size_of::<Icmp>())?;
    if ip.hop_limit != HOP_LIMIT
        || code != 0
        || length < size_of::<Icmp>() + 16
        || target.is_multicast()
    {
        return Err(DropReason::Malformed);
    }
    Ok(target)
}

/// The address in the message's first option, if it is of that kind; others come after it, if
/// at all.
#[inline(always)]
pub fn link_layer_address<P: Packet>(
    packet: &P,
    ip: &Ipv6,
    options: usize,
    kind: Be16,
) -> Option<Mac> {
    if usize::from(ip.payload_length.get()) + PAYLOAD < options + size_of::<LinkLayerOption>() {
        return None;
    }
    let option = packet.load::<LinkLayerOption>(options).ok()?;
    (option.kind_length == kind).then_some(option.mac)
}

#[inline(always)]
pub fn learn(input: &Input, address: V6, mac: Mac, answers: bool, overrides: bool) {
    let on_link = (address.is_link_local() && address != input.port.link_local)
        || route_v6(address, || NO_FLOW)
            .is_some_and(|route| route.kind == ROUTE_CONNECTED && route.port == input.index);
    if on_link && !mac.is_group() {
        let key = neighbor::key_v6(input.index, address);
        neighbor::learn(&key, mac, answers, overrides);
    }
}

/// Turns the packet into a question for `target`; `lost` says why the packet itself is.
#[inline(always)]
pub fn ask<P: Packet>(
    packet: &mut P,
    output: u32,
    target: V6,
    lost: Option<DropReason>,
) -> Result<Verdict> {
    // The solicited-node address and its link-layer address (RFC 4291, 2.7.1; RFC 2464, 7).
    let [_, _, _, low] = target.0;
    let [_, a, b, c] = low.to_ne_bytes();
    let [group, zero, one, _] = V6::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).0;
    let destination = V6([group, zero, one, u32::from_ne_bytes([0xff, a, b, c])]);
    let station = Mac::new([0x33, 0x33, 0xff, a, b, c]);
    question(packet, output, target, destination, station)?;
    Ok(Verdict::instead(output, lost))
}

/// Turns the packet into a question to a neighbour alone (RFC 4861, 7.3.3), a copy of which is on
/// its way.
#[inline(always)]
pub fn probe<P: Packet>(packet: &mut P, output: u32, target: V6, station: Mac) -> Result<Verdict> {
    question(packet, output, target, target, station)?;
    Ok(Verdict::instead(output, None))
}

#[inline(always)]
fn question<P: Packet>(
    packet: &mut P,
    output: u32,
    target: V6,
    destination: V6,
    station: Mac,
) -> Result<()> {
    let port = router_port(output)?;
    packet.blank::<FRAME>()?;
    let message = NeighborMessage {
        icmp: Icmp {
            kind: ICMPV6_NEIGHBOR_SOLICITATION,
            code: 0,
            checksum: Be16::default(),
            rest: [Be16::default(); 2],
        },
        target,
        option: LinkLayerOption {
            kind_length: LinkLayerOption::SOURCE,
            mac: port.mac,
        },
    };
    write(
        packet,
        port.mac,
        station,
        port.link_local,
        destination,
        message,
    )
}

const ALL_NODES: V6 = V6::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const ALL_NODES_MAC: Mac = Mac::new([0x33, 0x33, 0, 0, 0, 1]);

/// Writes a whole frame, checksum included.
#[inline(always)]
fn write<P: Packet>(
    packet: &P,
    mac: Mac,
    station: Mac,
    source: V6,
    destination: V6,
    mut message: NeighborMessage,
) -> Result<()> {
    const LENGTH: u16 = size_of::<NeighborMessage>() as u16;
    let icmp = &message.icmp;
    let option = &message.option;
    let Mac([first, second, third]) = option.mac;
    let sum = checksum::add16(0, Be16::new(u16::from_be_bytes([icmp.kind, icmp.code])));
    let sum = checksum::add16(checksum::add16(sum, icmp.rest[0]), icmp.rest[1]);
    let sum = checksum::add16(
        checksum::add16(sum, Be16::new(LENGTH)),
        Be16::new(PROTOCOL_ICMPV6.into()),
    );
    let sum = checksum::add_v6(checksum::add_v6(sum, source), destination);
    let sum = checksum::add16(checksum::add_v6(sum, message.target), option.kind_length);
    let sum = sum + u64::from(first) + u64::from(second) + u64::from(third);
    message.icmp.checksum = checksum::finish(sum);
    packet.store(
        0,
        Ethernet {
            destination: station,
            source: mac,
            ethertype: ETHERTYPE_IPV6,
        },
    )?;
    packet.store(
        ETHERNET_LENGTH,
        Ipv6 {
            version_class: Ipv6::VERSION,
            flow: Be16::default(),
            payload_length: Be16::new(LENGTH),
            next_header: PROTOCOL_ICMPV6,
            hop_limit: HOP_LIMIT,
            source,
            destination,
        },
    )?;
    packet.store(PAYLOAD, message)
}
