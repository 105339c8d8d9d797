//! IGMP: RFC 1112, 2236 and 3376.

use ebpf_abi::{
    address::{Be16, V4, V6},
    bridge::NO_PORT,
};
use ebpf_programs::{Result, wire::Ipv4};

use super::{Message, QueryEnd, To, is_sound, join, query, read, records};

const ALL_SYSTEMS: V4 = V4::new([224, 0, 0, 0]);
/// IGMP, without the fields of its third version (RFC 2236, 2).
#[repr(C)]
#[derive(Clone, Copy)]
struct Igmp {
    kind: u8,
    /// Time for answers, in a query.
    code: u8,
    checksum: Be16,
    /// In a report of version 3, the number of records is in its lower half.
    group: V4,
}

const PROTOCOL_IGMP: u8 = 2;
const IGMP_QUERY: u8 = 0x11;
const IGMP_V1_REPORT: u8 = 0x12;
const IGMP_V2_REPORT: u8 = 0x16;
const IGMP_V2_LEAVE: u8 = 0x17;
const IGMP_V3_REPORT: u8 = 0x22;

/// Who gets an IPv4 packet.
#[inline(always)]
pub fn audience(message: &mut Message, offset: u32) -> Result<To> {
    let ip = read::<Ipv4>(&message.tc, offset)?;
    let [first, ..] = ip.destination.bytes();
    if ip.version_ihl >> 4 != 4 || first & 0xf0 != 0xe0 {
        return Ok(To::All);
    }
    if ip.protocol == PROTOCOL_IGMP {
        return igmp(message, offset, &ip);
    }
    // RFC 4541, 2.1.2 (2).
    if is_link_local(ip.destination) {
        return Ok(To::All);
    }
    message.look_at(V6::from_v4(ip.destination), NO_PORT);
    Ok(To::Members)
}

/// `224.0.0.0/24`
#[inline(always)]
pub fn is_link_local(group: V4) -> bool {
    group.0 & u32::from_ne_bytes([255, 255, 255, 0]) == ALL_SYSTEMS.0
}

#[inline(always)]
fn igmp(message: &mut Message, offset: u32, ip: &Ipv4) -> Result<To> {
    let header = ip.header_length() as u32;
    let total = u32::from(ip.total_length.get());
    if header < size_of::<Ipv4>() as u32 || total < header + size_of::<Igmp>() as u32 {
        return Ok(To::All);
    }
    let (start, length) = (offset + header, total - header);
    // RFC 4541, 2.1.1 (4): nothing is learned from what has errors.
    if !is_sound(message, offset, header, 0) || !is_sound(message, start, length, 0) {
        return Ok(To::All);
    }
    let igmp = read::<Igmp>(&message.tc, start)?;
    match igmp.kind {
        IGMP_QUERY => {
            let third = length >= 12;
            let end = if third {
                read::<QueryEnd>(&message.tc, start + 8)?
            } else {
                QueryEnd::NONE
            };
            let delay = igmp_delay(igmp.code, third);
            let group = V6::from_v4(igmp.group);
            query(message, ip.source.0 != 0, group, end, delay);
            Ok(To::All)
        }
        IGMP_V1_REPORT | IGMP_V2_REPORT => {
            if !is_link_local(igmp.group) {
                join(message, V6::from_v4(igmp.group));
            }
            Ok(To::Routers)
        }
        IGMP_V2_LEAVE => Ok(To::Routers),
        IGMP_V3_REPORT => {
            let count = read::<Be16>(&message.tc, start + 6)?.get();
            records(message, start + 8, start + length, count);
            Ok(To::Routers)
        }
        _ => Ok(To::All),
    }
}

/// Nanoseconds that hosts have to answer a query (RFC 3376, 4.1.1).
#[inline(always)]
fn igmp_delay(code: u8, third: bool) -> u64 {
    const TENTH: u64 = 100_000_000;
    let code = u64::from(code);
    if code == 0 {
        // The first version has no such field (RFC 2236, 4).
        return 100 * TENTH;
    }
    if third && code & 0x80 != 0 {
        return (((code & 0xf) | 0x10) << (((code >> 4) & 7) + 3)) * TENTH;
    }
    code * TENTH
}
