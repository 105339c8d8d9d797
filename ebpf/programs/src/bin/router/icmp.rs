//! ICMP and ICMPv6 errors: made from the packet they are about.

use aya_ebpf::macros::map;
use ebpf_abi::{
    address::{Be16, V4, V6},
    checksum,
    counters::DropReason,
    router::{QUOTE_V4, QUOTE_V6},
};
use ebpf_programs::{
    Packet, Result,
    icmp::{self, Budget, Scratch, header, icmp_sum, quotation_sum, quoted_length},
    standard::{self, Verdict},
    wire::{
        ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Icmp, Ipv4, Ipv6, PROTOCOL_ICMP,
        PROTOCOL_ICMPV6,
    },
};

use crate::Input;

#[map(name = "icmp_budget")]
static ICMP_BUDGET: Budget = Budget::with_max_entries(1, 0);

#[map(name = "scratch")]
static QUOTATION: Scratch = Scratch::with_max_entries(1, 0);

/// Time to live of packets the router sends (RFC 1700: 64).
pub const TTL: u8 = 64;

/// An error to be reported to a packet's sender.
#[derive(Clone, Copy)]
pub struct Error {
    pub kind: u8,
    pub code: u8,
    /// The lower half of the second word: an MTU, a pointer, or zero.
    pub rest: u16,
    /// What to count when no report can be sent.
    pub reason: DropReason,
}

/// Turns an IPv4 packet into an ICMP error about itself (RFC 792). The caller has checked that
/// the packet may cause one.
#[inline(always)]
pub fn report_v4<P: Packet>(
    packet: &mut P,
    input: &Input,
    offending: &Ipv4,
    error: Error,
) -> Result<Verdict> {
    const HEADERS: usize = size_of::<Ipv4>() + size_of::<Icmp>();
    if input.port.address_v4 == V4::default() {
        return Err(error.reason);
    }
    if standard::only_via_tc(packet, input.index) {
        return Ok(Verdict::HAND_OVER);
    }
    spend()?;
    let quoted = quoted_length(u32::from(offending.total_length.get()), QUOTE_V4);
    // What follows the Ethernet header stays where it is in memory, and becomes the quotation.
    packet.prepend(HEADERS as u32)?;
    packet.resize(quoted + (ETHERNET_LENGTH + HEADERS) as u32)?;
    let icmp = header(error.kind, error.code, error.rest);
    let sum =
        quotation_sum(&QUOTATION, packet, ETHERNET_LENGTH + HEADERS, quoted)? + icmp_sum(&icmp);
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        // Errors are sent with precedence "internetwork control" (RFC 1812, 4.3.2.5).
        tos: 0xc0,
        total_length: Be16::new((HEADERS as u32 + quoted) as u16),
        id: Be16::default(),
        fragment: Be16::default(),
        ttl: TTL,
        protocol: PROTOCOL_ICMP,
        checksum: Be16::default(),
        source: input.port.address_v4,
        destination: offending.source,
    };
    ip.checksum = checksum::finish(ip.sum());
    packet.store(0, ethernet(input, ETHERTYPE_IPV4))?;
    packet.store(ETHERNET_LENGTH, ip)?;
    packet.store(
        ETHERNET_LENGTH + size_of::<Ipv4>(),
        Icmp {
            checksum: checksum::finish(sum),
            ..icmp
        },
    )?;
    Ok(Verdict::instead(input.index, Some(error.reason)))
}

/// Turns an IPv6 packet into an ICMPv6 error about itself (RFC 4443, 2.4).
#[inline(always)]
pub fn report_v6<P: Packet>(
    packet: &mut P,
    input: &Input,
    offending: &Ipv6,
    error: Error,
) -> Result<Verdict> {
    const HEADERS: usize = size_of::<Ipv6>() + size_of::<Icmp>();
    let source = if input.port.address_v6 == V6::UNSPECIFIED {
        input.port.link_local
    } else {
        input.port.address_v6
    };
    if standard::only_via_tc(packet, input.index) {
        return Ok(Verdict::HAND_OVER);
    }
    spend()?;
    let quoted = quoted_length(
        u32::from(offending.payload_length.get()) + size_of::<Ipv6>() as u32,
        QUOTE_V6,
    );
    packet.prepend(HEADERS as u32)?;
    packet.resize(quoted + (ETHERNET_LENGTH + HEADERS) as u32)?;
    let icmp = header(error.kind, error.code, error.rest);
    let length = quoted + size_of::<Icmp>() as u32;
    let sum =
        quotation_sum(&QUOTATION, packet, ETHERNET_LENGTH + HEADERS, quoted)? + icmp_sum(&icmp);
    // The pseudo-header (RFC 8200, 8.1).
    let sum = checksum::add_v6(checksum::add_v6(sum, source), offending.source);
    let sum = checksum::add16(
        checksum::add16(sum, Be16::new(length as u16)),
        Be16::new(PROTOCOL_ICMPV6.into()),
    );
    packet.store(0, ethernet(input, ETHERTYPE_IPV6))?;
    packet.store(
        ETHERNET_LENGTH,
        Ipv6 {
            version_class: Ipv6::VERSION,
            flow: Be16::default(),
            payload_length: Be16::new(length as u16),
            next_header: PROTOCOL_ICMPV6,
            hop_limit: TTL,
            source,
            destination: offending.source,
        },
    )?;
    packet.store(
        ETHERNET_LENGTH + size_of::<Ipv6>(),
        Icmp {
            checksum: checksum::finish(sum),
            ..icmp
        },
    )?;
    Ok(Verdict::instead(input.index, Some(error.reason)))
}

/// The header that brings an answer back to the station the packet came from.
#[inline(always)]
pub fn ethernet(input: &Input, ethertype: Be16) -> Ethernet {
    Ethernet {
        destination: input.station,
        source: input.port.mac,
        ethertype,
    }
}

/// Takes a token, or says that there is none.
#[inline(always)]
pub fn spend() -> Result<()> {
    icmp::spend(&ICMP_BUDGET)
}
