//! Answers to packets that are rejected: made of the packet itself, and sent back.
//!
//! TCP gets a reset, everything else an ICMP error that seems to come from the packet's
//! destination. Nobody is told about what must not be answered (RFC 1122, 3.2.2; RFC 4443, 2.4 e).

use aya_ebpf::macros::map;
use ebpf_abi::{
    address::{Be16, V4, V6},
    checksum,
    flow::{FIRST, Flow, LATER, TCP, UDP, unmapped},
    router::{QUOTE_V4, QUOTE_V6},
    tcp,
};
use ebpf_programs::{
    Packet, Result,
    icmp::{self, Budget, Scratch},
    packet::bounded,
    transparent,
    wire::{
        Ethernet, ICMP_UNREACHABLE, ICMP_UNREACHABLE_PORT, ICMPV6_PORT_UNREACHABLE,
        ICMPV6_UNREACHABLE, Icmp, Ipv4, Ipv6, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP,
    },
};

use crate::LONGEST_HEADERS;

#[map(name = "icmp_budget")]
static ICMP_BUDGET: Budget = Budget::with_max_entries(1, 0);
#[map(name = "scratch")]
static QUOTATION: Scratch = Scratch::with_max_entries(1, 0);

/// Time to live of answers.
const TTL: u8 = 64;
/// Code of [`ICMP_UNREACHABLE`]: communication administratively prohibited (RFC 1812, 5.2.7.1).
const ICMP_PROHIBITED: u8 = 13;
/// The same of [`ICMPV6_UNREACHABLE`] (RFC 4443, 3.1).
const ICMPV6_PROHIBITED: u8 = 1;

/// TCP header without options (RFC 9293, 3.1).
#[repr(C)]
#[derive(Clone, Copy)]
struct Tcp {
    source: Be16,
    destination: Be16,
    sequence: [Be16; 2],
    acknowledgment: [Be16; 2],
    /// Data offset, and flags.
    offset_flags: Be16,
    window: Be16,
    checksum: Be16,
    urgent: Be16,
}

/// What is in front of the IP header: up to two tags stay as they are.
#[derive(Clone, Copy)]
struct Link {
    ethernet: Ethernet,
    tags: [Be16; 4],
    network: usize,
    /// Where the transport header begins.
    transport: usize,
}

/// Turns the packet into an answer, and sends it where it came from.
#[inline(always)]
pub fn answer<P: Packet>(packet: &mut P, flow: &Flow) -> i32 {
    match make(packet, flow) {
        Ok(true) => transparent::back(packet),
        _ => P::DROP,
    }
}

/// True if there is an answer.
#[inline(always)]
fn make<P: Packet>(packet: &mut P, flow: &Flow) -> Result<bool> {
    let link = link(packet, flow)?;
    if !may_answer(flow, &link.ethernet) || icmp::spend(&ICMP_BUDGET).is_err() {
        return Ok(false);
    }
    match (flow.key.protocol, flow.family) {
        (TCP, _) if flow.fragment == FIRST => return Ok(false),
        (TCP, _) if flow.tcp_flags & tcp::RST != 0 => return Ok(false),
        (TCP, 4) => reset_v4(packet, flow, &link)?,
        (TCP, _) => reset_v6(packet, flow, &link)?,
        (_, 4) => error_v4(packet, flow, &link)?,
        _ => error_v6(packet, flow, &link)?,
    }
    Ok(true)
}

/// Whether a packet may be answered: one of one host to another, that is no answer itself.
#[inline(always)]
fn may_answer(flow: &Flow, ethernet: &Ethernet) -> bool {
    let is_too_far = u32::from(flow.transport) > LONGEST_HEADERS;
    if flow.is_error() || flow.fragment == LATER || is_too_far {
        return false;
    }
    if ethernet.source.is_group() || ethernet.destination.is_group() {
        return false;
    }
    let is_host = |address: V6| match flow.family {
        4 => !matches!(unmapped(address).bytes()[0], 0 | 127 | 224..=255),
        _ => !address.is_multicast() && address != V6::UNSPECIFIED,
    };
    is_host(flow.key.source) && is_host(flow.key.destination)
}

#[inline(always)]
fn link<P: Packet>(packet: &P, flow: &Flow) -> Result<Link> {
    let ethernet = packet.load::<Ethernet>(0)?;
    let tags = packet.load::<[Be16; 4]>(size_of::<Ethernet>())?;
    Ok(Link {
        ethernet: Ethernet {
            destination: ethernet.source,
            source: ethernet.destination,
            ethertype: ethernet.ethertype,
        },
        tags,
        // The verifier knows nothing of what was in a table.
        network: bounded::<32>(flow.network.into()) as usize,
        transport: bounded::<LONGEST_HEADERS>(flow.transport.into()) as usize,
    })
}

/// Writes what is in front of the IP header. Tags that are not there are written over next.
#[inline(always)]
fn store_link<P: Packet>(packet: &P, link: &Link) -> Result<()> {
    packet.store(0, link.ethernet)?;
    packet.store(size_of::<Ethernet>(), link.tags)
}

/// What a reset says (RFC 9293, 3.10.7.1).
#[inline(always)]
fn reset<P: Packet>(packet: &P, flow: &Flow, link: &Link, length: u32) -> Result<Tcp> {
    let segment = packet.load::<Tcp>(link.transport)?;
    let header = u32::from(segment.offset_flags.get() >> 12) * 4;
    let has_ack = flow.tcp_flags & tcp::ACK != 0;
    let [high, low] = segment.sequence;
    let begin = u32::from(high.get()) << 16 | u32::from(low.get());
    let controls =
        u32::from(flow.tcp_flags & tcp::SYN != 0) + u32::from(flow.tcp_flags & tcp::FIN != 0);
    let end = begin + length.saturating_sub(header) + controls;
    let flags = if has_ack {
        tcp::RST
    } else {
        tcp::RST | tcp::ACK
    };
    let zero = [Be16::new(0); 2];
    Ok(Tcp {
        source: segment.destination,
        destination: segment.source,
        sequence: if has_ack {
            segment.acknowledgment
        } else {
            zero
        },
        acknowledgment: if has_ack {
            zero
        } else {
            [Be16::new((end >> 16) as u16), Be16::new(end as u16)]
        },
        offset_flags: Be16::new(5 << 12 | u16::from(flags)),
        window: Be16::new(0),
        checksum: Be16::new(0),
        urgent: Be16::new(0),
    })
}

#[inline(always)]
fn sum_of(segment: &Tcp) -> u64 {
    let mut sum = checksum::add16(u64::from(segment.source.word()), segment.destination);
    sum = checksum::add16(
        checksum::add16(sum, segment.sequence[0]),
        segment.sequence[1],
    );
    sum = checksum::add16(sum, segment.acknowledgment[0]);
    sum = checksum::add16(sum, segment.acknowledgment[1]);
    checksum::add16(sum, segment.offset_flags)
}

/// Room for Ethernet, two tags, IPv4 and TCP.
const RESET_V4: usize = size_of::<Ethernet>() + 8 + size_of::<Ipv4>() + size_of::<Tcp>();
/// The same for IPv6.
const RESET_V6: usize = size_of::<Ethernet>() + 8 + size_of::<Ipv6>() + size_of::<Tcp>();

#[inline(always)]
fn reset_v4<P: Packet>(packet: &mut P, flow: &Flow, link: &Link) -> Result<()> {
    let offending = packet.load::<Ipv4>(link.network)?;
    let headers = u32::from(flow.transport - flow.network);
    let length = u32::from(offending.total_length.get()).saturating_sub(headers);
    let segment = reset(packet, flow, link, length)?;
    packet.blank::<RESET_V4>()?;
    store_link(packet, link)?;
    let ip = ipv4(
        (offending.destination, offending.source),
        size_of::<Tcp>() as u32,
        PROTOCOL_TCP,
    );
    packet.store(link.network, ip)?;
    let sum = checksum::add_v4(sum_of(&segment), ip.source);
    let sum = checksum::add_v4(sum, ip.destination);
    let sum = checksum::add16(sum, Be16::new(PROTOCOL_TCP.into()));
    let sum = checksum::add16(sum, Be16::new(size_of::<Tcp>() as u16));
    packet.store(
        link.network + size_of::<Ipv4>(),
        Tcp {
            checksum: checksum::finish(sum),
            ..segment
        },
    )
}

#[inline(always)]
fn reset_v6<P: Packet>(packet: &mut P, flow: &Flow, link: &Link) -> Result<()> {
    let offending = packet.load::<Ipv6>(link.network)?;
    let extensions = u32::from(flow.transport - flow.network) - size_of::<Ipv6>() as u32;
    let length = u32::from(offending.payload_length.get()).saturating_sub(extensions);
    let segment = reset(packet, flow, link, length)?;
    packet.blank::<RESET_V6>()?;
    store_link(packet, link)?;
    let ip = ipv6(
        (offending.destination, offending.source),
        size_of::<Tcp>() as u32,
        PROTOCOL_TCP,
    );
    packet.store(link.network, ip)?;
    let sum = checksum::add_v6(sum_of(&segment), ip.source);
    let sum = checksum::add_v6(sum, ip.destination);
    let sum = checksum::add16(sum, Be16::new(PROTOCOL_TCP.into()));
    let sum = checksum::add16(sum, Be16::new(size_of::<Tcp>() as u16));
    packet.store(
        link.network + size_of::<Ipv6>(),
        Tcp {
            checksum: checksum::finish(sum),
            ..segment
        },
    )
}

#[inline(always)]
fn ipv4((source, destination): (V4, V4), length: u32, protocol: u8) -> Ipv4 {
    let ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: Be16::new((size_of::<Ipv4>() as u32 + length) as u16),
        id: Be16::new(0),
        fragment: Be16::new(Ipv4::DONT_FRAGMENT),
        ttl: TTL,
        protocol,
        checksum: Be16::new(0),
        source,
        destination,
    };
    let sum = u64::from(Be16::new(0x4500).word());
    let sum = checksum::add16(sum, ip.total_length);
    let sum = checksum::add16(sum, ip.fragment);
    let sum = checksum::add16(sum, Be16::new(u16::from_be_bytes([ip.ttl, ip.protocol])));
    let sum = checksum::add_v4(checksum::add_v4(sum, source), destination);
    Ipv4 {
        checksum: checksum::finish(sum),
        ..ip
    }
}

#[inline(always)]
fn ipv6((source, destination): (V6, V6), length: u32, next_header: u8) -> Ipv6 {
    Ipv6 {
        version_class: Ipv6::VERSION,
        flow: Be16::new(0),
        payload_length: Be16::new(length as u16),
        next_header,
        hop_limit: TTL,
        source,
        destination,
    }
}

#[inline(always)]
fn error_v4<P: Packet>(packet: &mut P, flow: &Flow, link: &Link) -> Result<()> {
    const HEADERS: usize = size_of::<Ipv4>() + size_of::<Icmp>();
    let offending = packet.load::<Ipv4>(link.network)?;
    let quoted = icmp::quoted_length(u32::from(offending.total_length.get()), QUOTE_V4);
    // What follows the link's headers stays where it is in memory, and becomes the quotation.
    packet.prepend(HEADERS as u32)?;
    packet.resize(quoted + (link.network + HEADERS) as u32)?;
    let code = match flow.key.protocol {
        UDP => ICMP_UNREACHABLE_PORT,
        _ => ICMP_PROHIBITED,
    };
    let header = icmp::header(ICMP_UNREACHABLE, code, 0);
    let sum = icmp::quotation_sum(&QUOTATION, packet, link.network + HEADERS, quoted)?
        + icmp::icmp_sum(&header);
    store_link(packet, link)?;
    let ip = ipv4(
        (offending.destination, offending.source),
        size_of::<Icmp>() as u32 + quoted,
        PROTOCOL_ICMP,
    );
    packet.store(link.network, ip)?;
    packet.store(
        link.network + size_of::<Ipv4>(),
        Icmp {
            checksum: checksum::finish(sum),
            ..header
        },
    )
}

#[inline(always)]
fn error_v6<P: Packet>(packet: &mut P, flow: &Flow, link: &Link) -> Result<()> {
    const HEADERS: usize = size_of::<Ipv6>() + size_of::<Icmp>();
    let offending = packet.load::<Ipv6>(link.network)?;
    let quoted = icmp::quoted_length(
        u32::from(offending.payload_length.get()) + size_of::<Ipv6>() as u32,
        QUOTE_V6,
    );
    packet.prepend(HEADERS as u32)?;
    packet.resize(quoted + (link.network + HEADERS) as u32)?;
    let code = match flow.key.protocol {
        UDP => ICMPV6_PORT_UNREACHABLE,
        _ => ICMPV6_PROHIBITED,
    };
    let header = icmp::header(ICMPV6_UNREACHABLE, code, 0);
    let length = quoted + size_of::<Icmp>() as u32;
    let sum = icmp::quotation_sum(&QUOTATION, packet, link.network + HEADERS, quoted)?
        + icmp::icmp_sum(&header);
    let ip = ipv6(
        (offending.destination, offending.source),
        length,
        PROTOCOL_ICMPV6,
    );
    // The pseudo-header (RFC 8200, 8.1).
    let sum = checksum::add_v6(checksum::add_v6(sum, ip.source), ip.destination);
    let sum = checksum::add16(
        checksum::add16(sum, Be16::new(length as u16)),
        Be16::new(PROTOCOL_ICMPV6.into()),
    );
    store_link(packet, link)?;
    packet.store(link.network, ip)?;
    packet.store(
        link.network + size_of::<Ipv6>(),
        Icmp {
            checksum: checksum::finish(sum),
            ..header
        },
    )
}
