//! IPv4 forwarding (RFC 1812, 5.2).

use ebpf_abi::{
    address::{Be16, Mac, V4},
    checksum,
    counters::DropReason,
    router::{
        PART_FRAGMENT, PART_LINK, PART_SLOW, ROUTE_BROADCAST, ROUTE_CONNECTED, ROUTE_LOCAL,
        ROUTE_PROHIBIT, ROUTE_UNREACHABLE, ROUTE_VIA, Route, RouterPort,
    },
};
use ebpf_programs::{
    Packet, Result,
    standard::{self, Verdict},
    wire::{
        ETHERNET_LENGTH, ETHERTYPE_IPV4, Ethernet, ICMP_ECHO, ICMP_ECHO_REPLY,
        ICMP_FRAGMENTATION_NEEDED, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE, ICMP_UNREACHABLE_HOST,
        ICMP_UNREACHABLE_NET, ICMP_UNREACHABLE_PORT, ICMP_UNREACHABLE_PROHIBITED,
        ICMP_UNREACHABLE_PROTOCOL, Icmp, Ipv4, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP,
    },
};

use crate::{
    Input, Outcome, arp,
    icmp::{self, Error, TTL},
    multipath,
    neighbor::{self, State},
    part, route_v4, router_port, segment_header, turn, turns, waiting,
};

#[inline(always)]
pub fn receive<P: Packet>(packet: &mut P, input: &Input) -> Result<Verdict> {
    let ip = packet.load::<Ipv4>(ETHERNET_LENGTH)?;
    check(packet, input, &ip, options_sum(packet, &ip)?)?;
    match route(packet, input, &ip)? {
        Outcome::Verdict(verdict) => Ok(verdict),
        Outcome::Ask(output, next_hop) => arp::ask(
            packet,
            output,
            next_hop,
            Some(DropReason::NeighborUnresolved),
        ),
        // Without the question nothing is lost.
        Outcome::AskAgain(output, next_hop) => {
            arp::ask(packet, output, next_hop, None).or(Ok(Verdict::CONSUMED))
        }
        Outcome::Probe(output, neighbor, station) => {
            arp::probe(packet, output, neighbor, station).or(Ok(Verdict::CONSUMED))
        }
        Outcome::Report(error) => report(packet, input, &ip, error),
    }
}

/// The next hop of a packet that is forwarded.
#[inline(always)]
pub fn next_hop(route: &Route, ip: &Ipv4) -> V4 {
    if route.kind == ROUTE_CONNECTED {
        ip.destination
    } else {
        route.next_hop.v4()
    }
}

/// True if the packet, or what it will be cut into, is larger than the port allows.
#[inline(always)]
pub fn is_too_big<P: Packet>(packet: &P, ip: &Ipv4, port: &RouterPort) -> bool {
    if port.mtu == 0 {
        return false;
    }
    let length = packet.wire_ip_length(u32::from(ip.total_length.get()), || {
        let header = ip.header_length() & 0x3c;
        header as u32 + segment_header(packet, ip.protocol, ETHERNET_LENGTH + header)
    });
    length > u32::from(port.mtu)
}

/// What becomes of a packet that is too big: its sender is told, or it is cut.
#[inline(always)]
pub fn oversize<P: Packet>(ip: &Ipv4) -> Verdict {
    if ip.fragment.get() & Ipv4::DONT_FRAGMENT != 0 {
        part(PART_SLOW)
    } else if P::XDP {
        // Fragments are copies, which XDP cannot make.
        Verdict::HAND_OVER
    } else {
        part(PART_FRAGMENT)
    }
}

#[inline(always)]
fn route<P: Packet>(packet: &mut P, input: &Input, ip: &Ipv4) -> Result<Outcome<V4>> {
    let Some(route) = route_v4(ip.destination, || multipath::flow_v4(packet)) else {
        return Ok(unreachable(ICMP_UNREACHABLE_NET, DropReason::NoRoute));
    };
    // One comparison: more are so many ways more for the verifier.
    if !matches!(route.kind, ROUTE_CONNECTED | ROUTE_VIA) {
        return match route.kind {
            ROUTE_LOCAL if turns(input, route)? => turn(packet, route.port, ETHERTYPE_IPV4),
            ROUTE_LOCAL => deliver(packet, input, ip),
            ROUTE_BROADCAST => Err(DropReason::NotForwarded),
            // Before the time to live is looked at, as where there is no route.
            _ => Ok(Outcome::Verdict(part(PART_LINK))),
        };
    }
    if ip.ttl <= 1 {
        let error = Error {
            kind: ICMP_TIME_EXCEEDED,
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
pub fn refuse<P: Packet>(packet: &mut P, input: &Input) -> Result<Verdict> {
    let ip = packet.load::<Ipv4>(ETHERNET_LENGTH)?;
    let kind = route_v4(ip.destination, || multipath::flow_v4(packet)).map(|route| route.kind);
    let (code, reason) = match kind {
        Some(ROUTE_UNREACHABLE) => (ICMP_UNREACHABLE_HOST, DropReason::NoRoute),
        Some(ROUTE_PROHIBIT) => (ICMP_UNREACHABLE_PROHIBITED, DropReason::Prohibited),
        _ => return Err(DropReason::Blackhole),
    };
    let error = Error {
        kind: ICMP_UNREACHABLE,
        code,
        rest: 0,
        reason,
    };
    report(packet, input, &ip, error)
}

#[inline(always)]
fn forward<P: Packet>(
    packet: &mut P,
    input: &Input,
    ip: &Ipv4,
    output: u32,
    next_hop: V4,
) -> Result<Outcome<V4>> {
    if standard::only_via_tc(packet, output) {
        return Ok(Outcome::Verdict(Verdict::HAND_OVER));
    }
    let port = router_port(output)?;
    let key = neighbor::key_v4(output, next_hop);
    if is_too_big(packet, ip, port) {
        if ip.fragment.get() & Ipv4::DONT_FRAGMENT != 0 {
            return Ok(too_big(port.mtu));
        }
        // Until the neighbour is known, the packet is asked for or waits whole.
        if neighbor::is_known(&key) {
            return Ok(Outcome::Verdict(oversize::<P>(ip)));
        }
    }
    let next = neighbor::resolve::<P>(&key, packet.is_returning());
    let given = next.waits != 0 && waiting::give(packet, input, &key, next.waits);
    match next.state {
        State::Known if given => return Ok(Outcome::Verdict(Verdict::CONSUMED)),
        State::Known | State::Probe => {}
        State::ProbeElsewhere => return Ok(Outcome::Verdict(Verdict::HAND_OVER)),
        // RFC 1812, 3.3.2 keeps the packet; a program in the kernel cannot.
        State::Ask if given => return Ok(Outcome::AskAgain(output, next_hop)),
        State::Ask => return Ok(Outcome::Ask(output, next_hop)),
        State::Waiting if given => return Ok(Outcome::Verdict(Verdict::CONSUMED)),
        State::Waiting => return Err(DropReason::NeighborUnresolved),
        State::Unreachable => {
            return Ok(unreachable(
                ICMP_UNREACHABLE_HOST,
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

/// Rewrites the headers for the next hop (RFC 1812, 5.3.1).
#[inline(always)]
pub fn rewrite<P: Packet>(packet: &P, ip: &Ipv4, destination: Mac, source: Mac) -> Result<()> {
    packet.store(
        0,
        Ethernet {
            destination,
            source,
            ethertype: ETHERTYPE_IPV4,
        },
    )?;
    let ttl = ip.ttl - 1;
    let checksum = checksum::update(
        ip.checksum,
        pair(ip.ttl, ip.protocol),
        pair(ttl, ip.protocol),
    );
    packet.store(
        ETHERNET_LENGTH + core::mem::offset_of!(Ipv4, ttl),
        [pair(ttl, ip.protocol), checksum],
    )
}

/// RFC 1812, 5.2.2 (header), 5.3.7 (martians) and 5.3.4 (broadcast frames).
/// `options` is the sum over the header's options.
#[inline(always)]
pub fn check<P: Packet>(packet: &P, input: &Input, ip: &Ipv4, options: u64) -> Result<()> {
    let length = u32::from(ip.total_length.get());
    if ip.version_ihl >> 4 != 4
        || ip.header_length() < size_of::<Ipv4>()
        || (length as usize) < ip.header_length()
        || length + ETHERNET_LENGTH as u32 > packet.len()
    {
        return Err(DropReason::Malformed);
    }
    let sum = checksum::add16(ip.sum(), ip.checksum);
    if checksum::fold(sum + options) != 0xffff {
        return Err(DropReason::Malformed);
    }
    if is_no_host(ip.source) {
        return Err(DropReason::MartianSource);
    }
    if input.group || is_no_host(ip.destination) {
        return Err(DropReason::NotForwarded);
    }
    Ok(())
}

/// The sum over a header's options.
#[inline(always)]
pub fn options_sum<P: Packet>(packet: &P, ip: &Ipv4) -> Result<u64> {
    let mut sum = 0;
    let mut option = ETHERNET_LENGTH + size_of::<Ipv4>();
    for _ in 0..10 {
        if option >= ETHERNET_LENGTH + ip.header_length() {
            break;
        }
        sum = checksum::add_v4(sum, packet.load::<V4>(option)?);
        option += 4;
    }
    Ok(sum)
}

/// Two header bytes as the word they are in.
#[inline(always)]
pub fn pair(first: u8, second: u8) -> Be16 {
    Be16::new(u16::from_be_bytes([first, second]))
}

/// Networks 0 and 127, multicast, reserved and broadcast: neither a sender nor a receiver
/// beyond the link.
#[inline(always)]
fn is_no_host(address: V4) -> bool {
    matches!(address.bytes()[0], 0 | 127 | 224..=255)
}

/// A packet for the router itself: it answers echo requests, nothing else.
#[inline(always)]
fn deliver<P: Packet>(packet: &P, input: &Input, ip: &Ipv4) -> Result<Outcome<V4>> {
    match ip.protocol {
        PROTOCOL_ICMP => {}
        PROTOCOL_UDP | PROTOCOL_TCP => {
            return Ok(unreachable(ICMP_UNREACHABLE_PORT, DropReason::Unsupported));
        }
        _ => {
            return Ok(unreachable(
                ICMP_UNREACHABLE_PROTOCOL,
                DropReason::Unsupported,
            ));
        }
    }
    // Fragments would have to be put together first; nor are options echoed (RFC 1122, 3.2.2.6).
    let fragment = ip.fragment.get() & !Ipv4::DONT_FRAGMENT;
    if fragment != 0 || ip.header_length() != size_of::<Ipv4>() {
        return Err(DropReason::Unsupported);
    }
    const ICMP: usize = ETHERNET_LENGTH + size_of::<Ipv4>();
    let echo = packet.load::<Icmp>(ICMP)?;
    if echo.kind != ICMP_ECHO {
        return Err(DropReason::Unsupported);
    }
    if standard::only_via_tc(packet, input.index) {
        return Ok(Outcome::Verdict(Verdict::HAND_OVER));
    }
    packet.store(0, icmp::ethernet(input, ETHERTYPE_IPV4))?;
    let checksum = checksum::update(
        ip.checksum,
        pair(ip.ttl, ip.protocol),
        pair(TTL, ip.protocol),
    );
    packet.store(
        ETHERNET_LENGTH,
        Ipv4 {
            ttl: TTL,
            checksum,
            source: ip.destination,
            destination: ip.source,
            ..*ip
        },
    )?;
    let checksum = checksum::update(
        echo.checksum,
        pair(ICMP_ECHO, echo.code),
        pair(ICMP_ECHO_REPLY, echo.code),
    );
    packet.store(
        ICMP,
        Icmp {
            kind: ICMP_ECHO_REPLY,
            checksum,
            ..echo
        },
    )?;
    Ok(Outcome::Verdict(Verdict::emit(input.index)))
}

#[inline(always)]
fn too_big(mtu: u16) -> Outcome<V4> {
    Outcome::Report(Error {
        kind: ICMP_UNREACHABLE,
        code: ICMP_FRAGMENTATION_NEEDED,
        rest: mtu,
        reason: DropReason::TooBig,
    })
}

#[inline(always)]
fn unreachable(code: u8, reason: DropReason) -> Outcome<V4> {
    Outcome::Report(Error {
        kind: ICMP_UNREACHABLE,
        code,
        rest: 0,
        reason,
    })
}

/// Reports an error, unless the packet must not cause one: an error itself, or a fragment that
/// is not the first (RFC 1812, 4.3.2.7). Broadcasts and martians did not get this far.
#[inline(always)]
fn report<P: Packet>(packet: &mut P, input: &Input, ip: &Ipv4, error: Error) -> Result<Verdict> {
    if ip.fragment.get() & Ipv4::OFFSET != 0 {
        return Err(error.reason);
    }
    if ip.protocol == PROTOCOL_ICMP {
        let icmp = packet.load::<Icmp>(ETHERNET_LENGTH + (ip.header_length() & 0x3c))?;
        if matches!(icmp.kind, 3 | 4 | 5 | 11 | 12) {
            return Err(error.reason);
        }
    }
    icmp::report_v4(packet, input, ip, error)
}
