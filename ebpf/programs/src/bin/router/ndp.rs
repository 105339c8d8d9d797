//! Neighbour discovery (RFC 4861): answers for the router's addresses, learns from what it
//! hears, asks.

use ebpf_abi::{
    address::{Be16, Mac, V6},
    checksum,
    counters::DropReason,
    router::{ROUTE_CONNECTED, ROUTE_LOCAL},
};
use ebpf_programs::{
    Packet, Result,
    standard::{self, Verdict},
    wire::{
        ETHERNET_LENGTH, ETHERTYPE_IPV6, Ethernet, ICMPV6_NEIGHBOR_ADVERTISEMENT,
        ICMPV6_NEIGHBOR_SOLICITATION, Icmp, Ipv6, LinkLayerOption, NeighborMessage,
        PROTOCOL_ICMPV6,
    },
};

use crate::{Input, ipv6::PAYLOAD, neighbor, route_v6, router_port};

/// Bytes of a frame with a neighbour message.
const FRAME: usize = PAYLOAD + size_of::<NeighborMessage>();
/// Hop limit of neighbour messages; another one means that the message crossed a router
/// (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
/// Flags of an advertisement (RFC 4861, 4.4).
const FROM_ROUTER: u16 = 0x8000;
const SOLICITED: u16 = 0x4000;
const OVERRIDE: u16 = 0x2000;

#[inline(always)]
pub fn solicitation<P: Packet>(packet: &mut P, input: &Input, ip: &Ipv6) -> Result<Verdict> {
    let target = target(packet, ip)?;
    let unspecified = ip.source == V6::UNSPECIFIED;
    if !unspecified {
        let mac = link_layer_address(packet, ip, LinkLayerOption::SOURCE).unwrap_or(input.station);
        learn(input, ip.source, mac);
    }
    let ours = target == input.port.link_local
        || route_v6(target)
            .is_some_and(|route| route.kind == ROUTE_LOCAL && route.port == input.index);
    if !ours {
        return Ok(Verdict::CONSUMED);
    }
    if standard::only_via_tc(packet, input.index) {
        return Ok(Verdict::HAND_OVER);
    }
    // Who checks an address for duplicates has none yet: the answer goes to everyone
    // (RFC 4861, 7.2.4).
    let (destination, station, flags) = if unspecified {
        (ALL_NODES, ALL_NODES_MAC, FROM_ROUTER | OVERRIDE)
    } else {
        (ip.source, input.station, FROM_ROUTER | SOLICITED | OVERRIDE)
    };
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
        target,
        destination,
        message,
    )?;
    Ok(Verdict::emit(input.index))
}

#[inline(always)]
pub fn advertisement<P: Packet>(packet: &P, input: &Input, ip: &Ipv6) -> Result<Verdict> {
    let target = target(packet, ip)?;
    let mac = link_layer_address(packet, ip, LinkLayerOption::TARGET).unwrap_or(input.station);
    learn(input, target, mac);
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
fn link_layer_address<P: Packet>(packet: &P, ip: &Ipv6, kind: Be16) -> Option<Mac> {
    if usize::from(ip.payload_length.get()) < size_of::<NeighborMessage>() {
        return None;
    }
    let option = packet
        .load::<LinkLayerOption>(PAYLOAD + size_of::<Icmp>() + 16)
        .ok()?;
    (option.kind_length == kind).then_some(option.mac)
}

#[inline(always)]
fn learn(input: &Input, address: V6, mac: Mac) {
    let on_link = (address.is_link_local() && address != input.port.link_local)
        || route_v6(address)
            .is_some_and(|route| route.kind == ROUTE_CONNECTED && route.port == input.index);
    if on_link && !mac.is_group() {
        neighbor::learn(&neighbor::key_v6(input.index, address), mac);
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
    let port = router_port(output)?;
    packet.blank::<FRAME>()?;
    // The solicited-node address and its link-layer address (RFC 4291, 2.7.1; RFC 2464, 7).
    let [_, _, _, low] = target.0;
    let [_, a, b, c] = low.to_ne_bytes();
    let [group, zero, one, _] = V6::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).0;
    let destination = V6([group, zero, one, u32::from_ne_bytes([0xff, a, b, c])]);
    let station = Mac::new([0x33, 0x33, 0xff, a, b, c]);
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
    )?;
    Ok(Verdict::instead(output, lost))
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
