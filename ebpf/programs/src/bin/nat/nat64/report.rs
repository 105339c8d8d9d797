//! ICMP errors that become those of the other family, with the packet that they quote (RFC 7915,
//! 4.2, 4.3, 5.2 and 5.3).
//!
//! All headers up to the quoted transport header are made anew, so the sum over the message is what it
//! was, less those that go, with those that come. A wrong sum stays wrong.

use ebpf_abi::{
    address::{Be16, V6},
    checksum,
    counters::DropReason,
    flow::{Flow, FlowKey, ICMP, ICMPV6, LATER, TCP, UDP},
    nat64::{self, NONE},
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, DONE, answer},
    flow::offset,
    icmp::{self, icmp_sum},
    wire::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Icmp, Ipv4, Ipv6},
};

use super::{
    header::{self, Ends},
    message::{self, SCRATCH},
};
use crate::{translate::replaced, work::Work};

/// Headers in front of the quoted transport header, in bytes.
const FRONT_V4: usize = 2 * size_of::<Ipv4>() + size_of::<Icmp>();
const FRONT_V6: usize = 2 * size_of::<Ipv6>() + size_of::<Icmp>();
/// Bytes of a message that are summed: more than an ICMP header and an IP header with extensions.
const LONGEST: u32 = 1024;

/// Makes an ICMP error the one of the other family: `reverse` is the quoted packet as its sender
/// knows it.
#[inline(never)]
pub fn report<P: Packet>(packet: &P, work: &mut Work) -> Answer {
    let (error, quoted, known_as) = (&work.flow, &work.quoted, &work.reverse);
    let done = if error.family == 6 {
        to_ipv4(packet, error, quoted, known_as)
    } else {
        to_ipv6(packet, error, quoted, known_as)
    };
    answer(done.map(|()| DONE))
}

/// What goes: the sum over the message up to the quoted transport header, and lengths in bytes.
struct Old {
    sum: u64,
    /// From the IP header to the quoted transport header.
    front: i32,
    /// Of the quoted IP header.
    quoted: u32,
    icmp: Icmp,
}

impl Old {
    #[inline(always)]
    fn of<P: Packet>(packet: &P, error: &Flow, quoted: &Flow) -> Result<Self> {
        message::check(error)?;
        // There is nothing that tells whose later fragments are.
        if quoted.fragment == LATER || quoted.is_error() {
            return Err(DropReason::Unsupported);
        }
        let (message, transport) = (offset(error.transport), offset(quoted.transport));
        let length = transport as u32 - message as u32;
        if length > LONGEST {
            return Err(DropReason::Unsupported);
        }
        Ok(Self {
            sum: icmp::sum(&SCRATCH, packet, message, length)?,
            front: transport as i32 - ETHERNET_LENGTH as i32,
            quoted: transport as u32 - offset(quoted.network) as u32,
            icmp: packet.load(message)?,
        })
    }

    /// That sum, taken out of another one.
    #[inline(always)]
    fn less(&self) -> u64 {
        u64::from(!checksum::fold(self.sum))
    }
}

#[inline(always)]
fn to_ipv4<P: Packet>(packet: &P, error: &Flow, quoted: &Flow, known_as: &FlowKey) -> Result<()> {
    let old = Old::of(packet, error, quoted)?;
    let outer = packet.load::<Ipv6>(ETHERNET_LENGTH)?;
    let inner = packet.load::<Ipv6>(offset(quoted.network))?;
    let extensions = (offset(error.transport) - ETHERNET_LENGTH - size_of::<Ipv6>()) as u32;
    let length = u32::from(outer.payload_length.get()) - extensions;
    let behind = u32::from(inner.payload_length.get()) + size_of::<Ipv6>() as u32 - old.quoted;
    // Who reports is unknown to IPv4: it is the translator's address then (RFC 7915, 5.2; RFC 6791).
    let ends = Ends {
        source: known_as.destination,
        destination: known_as.source,
    };
    let new_length = length - old.quoted + size_of::<Ipv4>() as u32;
    let header = header::ipv4(&outer, error, ends, new_length, header::identification());
    let inner = header::ipv4(&inner, quoted, ends_of(known_as), behind, Be16::default());
    let icmp = message_v4(&old.icmp)?;
    packet.exchange_family(ETHERTYPE_IPV4, FRONT_V4 as i32 - old.front)?;
    packet.put(ETHERNET_LENGTH, header)?;
    packet.put(ETHERNET_LENGTH + FRONT_V4 - size_of::<Ipv4>(), inner)?;
    let (from, to) = (ends_of(&quoted.key), ends_of(known_as));
    let difference = quotation::<P, { ETHERNET_LENGTH + FRONT_V4 }>(
        packet,
        quoted,
        known_as,
        from.less_v6() + to.sum_v4(),
        from.less_v6() + message::less_pseudo(behind),
    )?;
    let covered = ends_of(&error.key).less_v6() + message::less_pseudo(length);
    // The quoted header sums to ones, which add nothing.
    let sum = old.less() + covered + icmp_sum(&icmp) + difference;
    packet.put(
        ETHERNET_LENGTH + size_of::<Ipv4>(),
        Icmp {
            checksum: checksum::finish(sum),
            ..icmp
        },
    )
}

#[inline(always)]
fn to_ipv6<P: Packet>(packet: &P, error: &Flow, quoted: &Flow, known_as: &FlowKey) -> Result<()> {
    let old = Old::of(packet, error, quoted)?;
    let outer = packet.load::<Ipv4>(ETHERNET_LENGTH)?;
    let inner = packet.load::<Ipv4>(offset(quoted.network))?;
    let headers = (offset(error.transport) - ETHERNET_LENGTH) as u32;
    let length = u32::from(outer.total_length.get()) - headers;
    let behind = u32::from(inner.total_length.get()) - old.quoted;
    let ends = Ends {
        source: super::embedded(error.key.source),
        destination: known_as.source,
    };
    let new_length = length - old.quoted + size_of::<Ipv6>() as u32;
    let header = header::ipv6(&outer, error, ends, new_length, false);
    let icmp = message_v6(&old.icmp, &inner)?;
    let inner = header::ipv6(&inner, quoted, ends_of(known_as), behind, false);
    packet.exchange_family(ETHERTYPE_IPV6, FRONT_V6 as i32 - old.front)?;
    packet.put(ETHERNET_LENGTH, header)?;
    packet.put(ETHERNET_LENGTH + FRONT_V6 - size_of::<Ipv6>(), inner)?;
    let (from, to) = (ends_of(&quoted.key), ends_of(known_as));
    let difference = quotation::<P, { ETHERNET_LENGTH + FRONT_V6 }>(
        packet,
        quoted,
        known_as,
        from.less_v4() + to.sum_v6(),
        to.sum_v6() + message::pseudo(behind),
    )?;
    let covered = ends.sum_v6() + message::pseudo(new_length);
    let sum = old.less() + covered + icmp_sum(&icmp) + inner.sum() + difference;
    packet.put(
        ETHERNET_LENGTH + size_of::<Ipv6>(),
        Icmp {
            checksum: checksum::finish(sum),
            ..icmp
        },
    )
}

#[inline(always)]
fn ends_of(key: &FlowKey) -> Ends {
    let (source, destination): (V6, V6) = (key.source, key.destination);
    Ends {
        source,
        destination,
    }
}

/// The header of a message. What RFC 4884 says about extensions is left out: their place is another
/// one in the other family, so they become part of the quotation.
#[inline(always)]
fn message_v4(old: &Icmp) -> Result<Icmp> {
    let word = nat64::icmp_to_v4(old.kind, old.code);
    let number = u32::from(old.rest[0].get()) << 16 | u32::from(old.rest[1].get());
    let mut rest = [Be16::default(); 2];
    match old.kind {
        2 => rest[1] = nat64::mtu_to_v4(number),
        4 if old.code == 0 => {
            let pointer = nat64::pointer_to_v4(number);
            if pointer == NONE {
                return Err(DropReason::Unsupported);
            }
            rest[0] = Be16::new((pointer as u16) << 8);
        }
        _ => {}
    }
    header_of(word, rest)
}

#[inline(always)]
fn message_v6(old: &Icmp, quoted: &Ipv4) -> Result<Icmp> {
    /// Where the next header is in an IPv6 header: an unknown protocol is reported so.
    const NEXT_HEADER: u16 = 6;
    let word = nat64::icmp_to_v6(old.kind, old.code);
    let mut rest = [Be16::default(); 2];
    match (old.kind, old.code) {
        (3, 4) => {
            let mtu = nat64::mtu_to_v6(old.rest[1], quoted.total_length);
            rest = [Be16::new((mtu >> 16) as u16), Be16::new(mtu as u16)];
        }
        (3, 2) => rest[1] = Be16::new(NEXT_HEADER),
        (12, _) => {
            let pointer = nat64::pointer_to_v6((old.rest[0].get() >> 8) as u8);
            if pointer == NONE {
                return Err(DropReason::Unsupported);
            }
            rest[1] = Be16::new(pointer as u16);
        }
        _ => {}
    }
    header_of(word, rest)
}

#[inline(always)]
fn header_of(word: u32, rest: [Be16; 2]) -> Result<Icmp> {
    if word == NONE {
        return Err(DropReason::Unsupported);
    }
    Ok(Icmp {
        kind: (word >> 8) as u8,
        code: word as u8,
        checksum: Be16::default(),
        rest,
    })
}

/// Writes what is quoted behind its IP header, at `AT`; what that makes of a sum over all of it.
#[inline(always)]
fn quotation<P: Packet, const AT: usize>(
    packet: &P,
    quoted: &Flow,
    known_as: &FlowKey,
    addresses: u64,
    pseudo: u64,
) -> Result<u64> {
    let (at, covered, data) = match quoted.key.protocol {
        TCP | UDP => {
            let old = packet.load::<[Be16; 2]>(AT)?;
            let new = [known_as.source_port, known_as.destination_port];
            packet.put(AT, new)?;
            let data = replaced(old[0], new[0]) + replaced(old[1], new[1]);
            let is_udp = quoted.key.protocol == UDP;
            (AT + if is_udp { 6 } else { 16 }, addresses, data)
        }
        ICMP | ICMPV6 => {
            let old = packet.load::<Icmp>(AT)?;
            let word = message::counterpart(quoted, &old);
            if word == NONE {
                return Err(DropReason::Unsupported);
            }
            let word = Be16::new(word as u16);
            let before = Be16::new(u16::from_be_bytes([old.kind, old.code]));
            packet.put(AT, word)?;
            packet.put(AT + 4, known_as.source_port)?;
            let data = replaced(before, word) + replaced(old.rest[0], known_as.source_port);
            (AT + 2, pseudo, data)
        }
        _ => return Ok(0),
    };
    // What is quoted may end in front of TCP's checksum, and UDP may have none.
    let Ok(old) = packet.load::<Be16>(at) else {
        return Ok(data);
    };
    if quoted.key.protocol == UDP && old.word() == 0 {
        return Ok(data);
    }
    let new = checksum::finish(u64::from(!old.word()) + covered + data);
    packet.put(at, new)?;
    Ok(data + replaced(old, new))
}
