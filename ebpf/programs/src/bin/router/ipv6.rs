//! IPv6 forwarding (RFC 8200).

use ebpf_abi::{
    address::{Be16, Mac, V6},
    checksum,
    counters::DropReason,
    router::{
        PART_LINK, ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_PROHIBIT, ROUTE_UNREACHABLE, ROUTE_VIA,
        Route, RouterPort,
    },
};
use ebpf_programs::{
    Packet, Result,
    standard::{self, Verdict},
    wire::{
        ETHERNET_LENGTH, ETHERTYPE_IPV6, Ethernet, ICMPV6_ADDRESS_UNREACHABLE, ICMPV6_ECHO,
        ICMPV6_ECHO_REPLY, ICMPV6_NEIGHBOR_ADVERTISEMENT, ICMPV6_NO_ROUTE, ICMPV6_PACKET_TOO_BIG,
        ICMPV6_PARAMETER_PROBLEM, ICMPV6_PORT_UNREACHABLE, ICMPV6_PROHIBITED,
        ICMPV6_ROUTER_SOLICITATION, ICMPV6_TIME_EXCEEDED, ICMPV6_UNREACHABLE, Icmp, Ipv6,
        PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP,
    },
};

use crate::{
    Input, Outcome,
    icmp::{self, Error, TTL},
    multipath, ndp,
    neighbor::{self, State},
    part, route_v6, router_port, segment_header, turn, turns, waiting,
};

/// Where the header after the IPv6 header starts.
pub const PAYLOAD: usize = ETHERNET_LENGTH + size_of::<Ipv6>();

const LOOPBACK: V6 = V6::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

#[inline(always)]
pub fn receive<P: Packet>(packet: &mut P, input: &Input) -> Result<Verdict> {
    let ip = packet.load::<Ipv6>(ETHERNET_LENGTH)?;
    check(packet, &ip)?;
    check_destination(input, &ip)?;
    match route(packet, input, &ip)? {
        Outcome::Verdict(verdict) => Ok(verdict),
        Outcome::Ask(output, next_hop) => ndp::ask(
            packet,
            output,
            next_hop,
            Some(DropReason::NeighborUnresolved),
        ),
        // Without the question nothing is lost.
        Outcome::AskAgain(output, next_hop) => {
            ndp::ask(packet, output, next_hop, None).or(Ok(Verdict::CONSUMED))
        }
        Outcome::Probe(output, neighbor, station) => {
            ndp::probe(packet, output, neighbor, station).or(Ok(Verdict::CONSUMED))
        }
        Outcome::Report(error) => report(packet, input, &ip, error),
    }
}

/// True for messages of neighbour discovery.
#[inline(always)]
pub fn is_neighbor_discovery<P: Packet>(packet: &P, ip: &Ipv6) -> Result<bool> {
    if ip.next_header != PROTOCOL_ICMPV6 {
        return Ok(false);
    }
    let kind = packet.load::<u8>(PAYLOAD)?;
    Ok(matches!(
        kind,
        ICMPV6_ROUTER_SOLICITATION..=ICMPV6_NEIGHBOR_ADVERTISEMENT
    ))
}

/// What cannot be forwarded nor be for the router, whatever the routes.
#[inline(always)]
pub fn check_destination(input: &Input, ip: &Ipv6) -> Result<()> {
    // An unspecified source asks for addresses, which was handled (RFC 4291, 2.5.2).
    if ip.source == V6::UNSPECIFIED {
        return Err(DropReason::MartianSource);
    }
    // RFC 4291, 2.7, 2.5.3 and 2.5.2.
    if ip.destination.is_multicast()
        || ip.destination == LOOPBACK
        || ip.destination == V6::UNSPECIFIED
        || input.group
    {
        return Err(DropReason::NotForwarded);
    }
    Ok(())
}

/// The next hop of a packet that is forwarded.
#[inline(always)]
pub fn next_hop(route: &Route, ip: &Ipv6) -> V6 {
    if route.kind == ROUTE_CONNECTED {
        ip.destination
    } else {
        route.next_hop
    }
}

/// True if the packet, or what it will be cut into, is larger than the port allows.
#[inline(always)]
pub fn is_too_big<P: Packet>(packet: &P, ip: &Ipv6, port: &RouterPort) -> bool {
    if port.mtu == 0 {
        return false;
    }
    let length = u32::from(ip.payload_length.get()) + size_of::<Ipv6>() as u32;
    let length = packet.wire_ip_length(length, || {
        size_of::<Ipv6>() as u32 + segment_header(packet, ip.next_header, PAYLOAD)
    });
    length > u32::from(port.mtu)
}

#[inline(always)]
fn route<P: Packet>(packet: &mut P, input: &Input, ip: &Ipv6) -> Result<Outcome<V6>> {
    if ip.destination.is_link_local() {
        // Never forwarded (RFC 4291, 2.5.6).
        return if ip.destination == input.port.link_local {
            deliver(packet, input, ip)
        } else {
            Err(DropReason::NotForwarded)
        };
    }
    let Some(route) = route_v6(ip.destination, || multipath::flow_v6(packet)) else {
        return Ok(unreachable(ICMPV6_NO_ROUTE, DropReason::NoRoute));
    };
    if route.kind == ROUTE_LOCAL && turns(input, route)? {
        return turn(packet, route.port, ETHERTYPE_IPV6);
    }
    if route.kind == ROUTE_LOCAL {
        return deliver(packet, input, ip);
    }
    if ip.source.is_link_local() {
        return Err(DropReason::NotForwarded);
    }
    // Before the hop limit is looked at, as where there is no route.
    if !matches!(route.kind, ROUTE_CONNECTED | ROUTE_VIA) {
        return Ok(Outcome::Verdict(part(PART_LINK)));
    }
    if ip.hop_limit <= 1 {
        let error = Error {
            kind: ICMPV6_TIME_EXCEEDED,
            code: 0,
            rest: 0,
            reason: DropReason::TtlExceeded,
        };
        return Ok(Outcome::Report(error));
    }
    forward(packet, input, ip, route.port, next_hop(route, ip))
}

/// What becomes of a packet that a route leads nowhere. Codes are those that Linux has for such
/// routes.
#[inline(always)]
pub fn refuse<P: Packet>(packet: &mut P, input: &Input, ip: &Ipv6) -> Result<Verdict> {
    let kind = route_v6(ip.destination, || multipath::flow_v6(packet)).map(|route| route.kind);
    let (code, reason) = match kind {
        Some(ROUTE_UNREACHABLE) => (ICMPV6_NO_ROUTE, DropReason::NoRoute),
        Some(ROUTE_PROHIBIT) => (ICMPV6_PROHIBITED, DropReason::Prohibited),
        _ => return Err(DropReason::Blackhole),
    };
    let error = Error {
        kind: ICMPV6_UNREACHABLE,
        code,
        rest: 0,
        reason,
    };
    report(packet, input, ip, error)
}

#[inline(always)]
fn forward<P: Packet>(
    packet: &mut P,
    input: &Input,
    ip: &Ipv6,
    output: u32,
    next_hop: V6,
) -> Result<Outcome<V6>> {
    if standard::only_via_tc(packet, output) {
        return Ok(Outcome::Verdict(Verdict::HAND_OVER));
    }
    let port = router_port(output)?;
    if is_too_big(packet, ip, port) {
        let error = Error {
            kind: ICMPV6_PACKET_TOO_BIG,
            code: 0,
            rest: port.mtu,
            reason: DropReason::TooBig,
        };
        return Ok(Outcome::Report(error));
    }
    let key = neighbor::key_v6(output, next_hop);
    let next = neighbor::resolve::<P>(&key, packet.is_returning());
    let given = next.waits != 0 && waiting::give(packet, input, &key, next.waits);
    match next.state {
        State::Known if given => return Ok(Outcome::Verdict(Verdict::CONSUMED)),
        State::Known | State::Probe => {}
        State::ProbeElsewhere => return Ok(Outcome::Verdict(Verdict::HAND_OVER)),
        State::Ask if given => return Ok(Outcome::AskAgain(output, next_hop)),
        State::Ask => return Ok(Outcome::Ask(output, next_hop)),
        State::Waiting if given => return Ok(Outcome::Verdict(Verdict::CONSUMED)),
        State::Waiting => return Err(DropReason::NeighborUnresolved),
        State::Unreachable => {
            return Ok(unreachable(
                ICMPV6_ADDRESS_UNREACHABLE,
                DropReason::NeighborUnresolved,
            ));
        }
    }
    rewrite(packet, ip, next.mac, port.mac)?;
    // The packet goes on as a copy, and itself becomes the question.
    if next.state == State::Probe && standard::send_copy(packet, output) {
        return Ok(Outcome::Probe(output, next_hop, next.mac));
    }
    Ok(Outcome::Verdict(Verdict::emit(output)))
}

#[inline(always)]
pub fn rewrite<P: Packet>(packet: &P, ip: &Ipv6, destination: Mac, source: Mac) -> Result<()> {
    packet.store(
        0,
        Ethernet {
            destination,
            source,
            ethertype: ETHERTYPE_IPV6,
        },
    )?;
    packet.store(
        ETHERNET_LENGTH + core::mem::offset_of!(Ipv6, hop_limit),
        ip.hop_limit - 1,
    )
}

#[inline(always)]
pub fn check<P: Packet>(packet: &P, ip: &Ipv6) -> Result<()> {
    let length = u32::from(ip.payload_length.get()) + PAYLOAD as u32;
    if ip.version_class.get() >> 12 != 6 || length > packet.len() {
        return Err(DropReason::Malformed);
    }
    // Multicast and loopback are no sources (RFC 4291, 2.7 and 2.5.3).
    if ip.source.is_multicast() || ip.source == LOOPBACK {
        return Err(DropReason::MartianSource);
    }
    Ok(())
}

/// A packet for the router itself: it answers echo requests, nothing else.
#[inline(always)]
fn deliver<P: Packet>(packet: &P, input: &Input, ip: &Ipv6) -> Result<Outcome<V6>> {
    match ip.next_header {
        PROTOCOL_ICMPV6 => {}
        PROTOCOL_UDP | PROTOCOL_TCP => {
            return Ok(unreachable(
                ICMPV6_PORT_UNREACHABLE,
                DropReason::Unsupported,
            ));
        }
        _ => {
            // Unrecognized next header; the pointer is to that field (RFC 4443, 3.4).
            let error = Error {
                kind: ICMPV6_PARAMETER_PROBLEM,
                code: 1,
                rest: core::mem::offset_of!(Ipv6, next_header) as u16,
                reason: DropReason::Unsupported,
            };
            return Ok(Outcome::Report(error));
        }
    }
    let echo = packet.load::<Icmp>(PAYLOAD)?;
    if echo.kind != ICMPV6_ECHO {
        return Err(DropReason::Unsupported);
    }
    if standard::only_via_tc(packet, input.index) {
        return Ok(Outcome::Verdict(Verdict::HAND_OVER));
    }
    packet.store(0, icmp::ethernet(input, ETHERTYPE_IPV6))?;
    packet.store(
        ETHERNET_LENGTH,
        Ipv6 {
            hop_limit: TTL,
            source: ip.destination,
            destination: ip.source,
            ..*ip
        },
    )?;
    // The pseudo-header's sum does not change when its addresses change places.
    let word = |kind: u8| Be16::new(u16::from_be_bytes([kind, echo.code]));
    let checksum = checksum::update(echo.checksum, word(ICMPV6_ECHO), word(ICMPV6_ECHO_REPLY));
    packet.store(
        PAYLOAD,
        Icmp {
            kind: ICMPV6_ECHO_REPLY,
            checksum,
            ..echo
        },
    )?;
    Ok(Outcome::Verdict(Verdict::emit(input.index)))
}

#[inline(always)]
fn unreachable(code: u8, reason: DropReason) -> Outcome<V6> {
    Outcome::Report(Error {
        kind: ICMPV6_UNREACHABLE,
        code,
        rest: 0,
        reason,
    })
}

/// Reports an error, unless the packet is one itself (RFC 4443, 2.4 e). Groups and packets
/// without a sender did not get this far.
#[inline(always)]
fn report<P: Packet>(packet: &mut P, input: &Input, ip: &Ipv6, error: Error) -> Result<Verdict> {
    // Types below 128 are errors (RFC 4443, 2.1).
    if ip.next_header == PROTOCOL_ICMPV6 && packet.load::<u8>(PAYLOAD)? < 128 {
        return Err(error.reason);
    }
    icmp::report_v6(packet, input, ip, error)
}
