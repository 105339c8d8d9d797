//! ICMP and ICMPv6 errors: made from the packet they are about.

use aya_ebpf::{helpers::bpf_csum_diff, macros::map, maps::PerCpuArray};
use ebpf_abi::{
    address::{Be16, V4, V6},
    checksum,
    counters::DropReason,
    router::{ICMP_BURST, ICMP_RATE, IcmpBudget, QUOTE_V4, QUOTE_V6},
};
use ebpf_programs::{
    Packet, Result, clock,
    packet::bounded,
    standard::{self, Verdict},
    wire::{
        ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Icmp, Ipv4, Ipv6, PROTOCOL_ICMP,
        PROTOCOL_ICMPV6,
    },
};

use crate::Input;

#[map(name = "icmp_budget")]
static ICMP_BUDGET: PerCpuArray<IcmpBudget> = PerCpuArray::with_max_entries(1, 0);

/// Where the kernel sums what an error quotes. Larger than any quotation, and a power of two so
/// that a mask keeps offsets inside.
const SCRATCH: usize = 2048;
#[map(name = "scratch")]
static QUOTATION: PerCpuArray<[u8; SCRATCH]> = PerCpuArray::with_max_entries(1, 0);

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
    let icmp = header(error);
    let sum = quotation_sum(packet, ETHERNET_LENGTH + HEADERS, quoted)? + icmp_sum(&icmp);
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
    ip.checksum = checksum::finish(crate::ipv4::header_sum(&ip));
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
    let icmp = header(error);
    let length = quoted + size_of::<Icmp>() as u32;
    let sum = quotation_sum(packet, ETHERNET_LENGTH + HEADERS, quoted)? + icmp_sum(&icmp);
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

#[inline(always)]
fn icmp_sum(icmp: &Icmp) -> u64 {
    let [high, low] = icmp.rest;
    let sum = u64::from(Be16::new(u16::from_be_bytes([icmp.kind, icmp.code])).word());
    checksum::add16(checksum::add16(sum, high), low)
}

/// The header of an error: what a kind does not use of the second word is zero, and an MTU is
/// in its lower half (RFC 1191, 4; RFC 4443, 3.2).
#[inline(always)]
fn header(error: Error) -> Icmp {
    Icmp {
        kind: error.kind,
        code: error.code,
        checksum: Be16::default(),
        rest: [Be16::default(), Be16::new(error.rest)],
    }
}

/// Bytes of the packet that an error quotes: not the padding of its frame.
#[inline(always)]
fn quoted_length(length: u32, limit: usize) -> u32 {
    if length > limit as u32 {
        limit as u32
    } else {
        length
    }
}

/// The sum over `length` bytes from `offset`.
#[inline(always)]
fn quotation_sum<P: Packet>(packet: &P, offset: usize, length: u32) -> Result<u64> {
    let scratch: *mut u8 = QUOTATION.get_ptr_mut(0).ok_or(DropReason::NoMemory)?.cast();
    if length == 0 || length > QUOTE_V6 as u32 {
        return Err(DropReason::Malformed);
    }
    // The verifier follows bounds through a mask, not through a comparison.
    let length = bounded::<{ SCRATCH as u32 }>(length);
    const WORDS: u32 = (SCRATCH as u32 - 1) & !3;
    // SAFETY: offsets are below SCRATCH - 4. The kernel sums words, so the bytes after the last
    // one must be zero.
    unsafe {
        scratch
            .add((length & WORDS) as usize)
            .cast::<u32>()
            .write(0);
        packet.copy_out(offset as u32, scratch, length)?;
        let words = (length + 3) & WORDS;
        let sum = bpf_csum_diff(core::ptr::null_mut(), 0, scratch.cast(), words, 0);
        if sum < 0 {
            return Err(DropReason::NoMemory);
        }
        Ok(sum as u32 as u64)
    }
}

/// Takes a token, or says that there is none (RFC 1812, 4.3.2.8; RFC 4443, 2.4 f).
#[inline(always)]
pub fn spend() -> Result<()> {
    const NANOSECONDS: u64 = 1_000_000_000;
    let budget = ICMP_BUDGET.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    let now = clock::now();
    // SAFETY: the entry belongs to this CPU.
    unsafe {
        let elapsed = now - (*budget).refilled;
        let earned = if elapsed > NANOSECONDS {
            ICMP_BURST
        } else {
            elapsed * ICMP_RATE / NANOSECONDS
        };
        if earned > 0 {
            let tokens = (*budget).tokens + earned;
            (*budget).tokens = if tokens > ICMP_BURST {
                ICMP_BURST
            } else {
                tokens
            };
            (*budget).refilled = now;
        }
        if (*budget).tokens == 0 {
            return Err(DropReason::RateLimited);
        }
        (*budget).tokens -= 1;
    }
    Ok(())
}
