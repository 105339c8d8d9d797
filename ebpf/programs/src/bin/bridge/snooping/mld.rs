//! MLD: RFC 2710 and 3810.

use ebpf_abi::{
    address::{Be16, V6},
    bridge::NO_PORT,
    checksum,
};
use ebpf_programs::{
    Result,
    wire::{Ipv6, PROTOCOL_ICMPV6},
};

use super::{Message, QueryEnd, To, is_sound, join, query, read, records};

const ALL_NODES: V6 = V6::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// MLD (RFC 2710, 3). A report of version 2 has the number of records in `records`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Mld {
    kind: u8,
    code: u8,
    checksum: Be16,
    delay: Be16,
    records: Be16,
}

const MLD_QUERY: u8 = 130;
const MLD_V1_REPORT: u8 = 131;
const MLD_V1_DONE: u8 = 132;
const MLD_V2_REPORT: u8 = 143;

/// The first bytes of a hop-by-hop options header (RFC 8200, 4.3).
#[repr(C)]
#[derive(Clone, Copy)]
struct HopByHop {
    next_header: u8,
    /// In units of 8 bytes, without the first 8.
    length: u8,
}

const HOP_BY_HOP: u8 = 0;

/// Who gets an IPv6 packet.
#[inline(always)]
pub fn audience(message: &mut Message, offset: u32) -> Result<To> {
    let ip = read::<Ipv6>(&message.tc, offset)?;
    if !ip.destination.is_multicast() {
        return Ok(To::All);
    }
    if ip.next_header == HOP_BY_HOP {
        let options = read::<HopByHop>(&message.tc, offset + size_of::<Ipv6>() as u32)?;
        if options.next_header == PROTOCOL_ICMPV6 && options.length == 0 {
            let to = mld(message, offset + size_of::<Ipv6>() as u32 + 8, &ip)?;
            if to != To::Members {
                return Ok(to);
            }
        }
    }
    // RFC 4541, 3; and what never leaves a host (RFC 4291, 2.7).
    let [_, scope, ..] = ip.destination.bytes();
    if ip.destination == ALL_NODES || scope & 0xf < 2 {
        return Ok(To::All);
    }
    message.look_at(ip.destination, NO_PORT);
    Ok(To::Members)
}

#[inline(always)]
fn mld(message: &mut Message, start: u32, ip: &Ipv6) -> Result<To> {
    // Without the options header in front.
    let length = u32::from(ip.payload_length.get()).wrapping_sub(8);
    // RFC 3810, 5: other hop limits and sources are no MLD.
    let source_is_right = ip.source.is_link_local() || ip.source == V6::UNSPECIFIED;
    if ip.hop_limit != 1 || !source_is_right || length > 65535 || length < 8 {
        return Ok(To::Members);
    }
    let mld = read::<Mld>(&message.tc, start)?;
    if !matches!(
        mld.kind,
        MLD_QUERY | MLD_V1_REPORT | MLD_V1_DONE | MLD_V2_REPORT
    ) {
        return Ok(To::Members);
    }
    let covered = checksum::add_v6(checksum::add_v6(0, ip.source), ip.destination);
    let covered = checksum::add16(covered, Be16::new(length as u16));
    let covered = checksum::add16(covered, Be16::new(u16::from(PROTOCOL_ICMPV6)));
    if !is_sound(message, start, length, covered) {
        return Ok(To::All);
    }
    if mld.kind == MLD_V2_REPORT {
        records(message, start + 8, start + length, mld.records.get());
        return Ok(To::Routers);
    }
    if length < 24 {
        return Ok(To::All);
    }
    let group = read::<V6>(&message.tc, start + 8)?;
    match mld.kind {
        MLD_QUERY => {
            let end = if length >= 28 {
                read::<QueryEnd>(&message.tc, start + 24)?
            } else {
                QueryEnd::NONE
            };
            let from_router = ip.source != V6::UNSPECIFIED;
            query(message, from_router, group, end, mld_delay(mld.delay.get()));
            Ok(To::All)
        }
        MLD_V1_REPORT => {
            join_v6(message, group);
            Ok(To::Routers)
        }
        _ => Ok(To::Routers),
    }
}

/// Nanoseconds that hosts have to answer a query (RFC 3810, 5.1.3).
#[inline(always)]
fn mld_delay(code: u16) -> u64 {
    const MILLISECOND: u64 = 1_000_000;
    let code = u64::from(code);
    if code & 0x8000 != 0 {
        return (((code & 0xfff) | 0x1000) << (((code >> 12) & 7) + 3)) * MILLISECOND;
    }
    code * MILLISECOND
}

/// A host behind the port is a member, of a group that leaves hosts.
#[inline(always)]
pub fn join_v6(message: &mut Message, group: V6) {
    let [prefix, scope, ..] = group.bytes();
    if prefix == 0xff && scope & 0xf >= 2 && group != ALL_NODES {
        join(message, group);
    }
}
