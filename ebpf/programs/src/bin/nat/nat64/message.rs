//! Packets that become packets of the other family.

use aya_ebpf::macros::map;
use ebpf_abi::{
    address::Be16,
    checksum,
    counters::DropReason,
    flow::{DCCP, Flow, FlowKey, ICMP, ICMPV6, LATER, TCP, UDP, UDP_LITE, WHOLE},
    nat64,
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, DONE, answer},
    flow::offset,
    icmp::{self, Scratch},
    wire::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Icmp, Ipv4, Ipv6},
};

use super::header::{self, Ends, FragmentHeader};
use crate::{
    translate::{replaced, update_checksum},
    work::Work,
};

#[map(name = "scratch")]
pub static SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

/// Where the IP header is, and what follows a plain one.
const NETWORK: usize = ETHERNET_LENGTH;
const BEHIND_V4: usize = NETWORK + size_of::<Ipv4>();
const BEHIND_V6: usize = NETWORK + size_of::<Ipv6>();

/// Makes a packet the one of the other family that `reverse` is the other direction of.
#[inline(never)]
pub fn carry<P: Packet>(packet: &P, work: &mut Work) -> Answer {
    let (flow, reverse) = (&work.flow, &work.reverse);
    let done = if flow.family == 6 {
        to_ipv4(packet, flow, reverse)
    } else {
        to_ipv6(packet, flow, reverse)
    };
    answer(done.map(|()| DONE))
}

/// What is not translated: ICMP in fragments, whose sum is over all of them (RFC 7915, 1.3), and
/// what is in a VLAN, whose tag the kernel would lose.
#[inline(always)]
pub fn check(flow: &Flow) -> Result<()> {
    let is_icmp = matches!(flow.key.protocol, ICMP | ICMPV6);
    if usize::from(flow.network) != NETWORK || (is_icmp && flow.fragment != WHOLE) {
        return Err(DropReason::Unsupported);
    }
    Ok(())
}

/// Whom the packet is from and for: as it is, and as it is to be.
#[inline(always)]
fn ends(flow: &Flow, reverse: &FlowKey) -> (Ends, Ends) {
    let old = Ends {
        source: flow.key.source,
        destination: flow.key.destination,
    };
    let new = Ends {
        source: reverse.destination,
        destination: reverse.source,
    };
    (old, new)
}

/// Bytes of headers from the IP header to the transport header.
#[inline(always)]
fn front(flow: &Flow) -> i32 {
    offset(flow.transport) as i32 - NETWORK as i32
}

#[inline(always)]
fn to_ipv4<P: Packet>(packet: &P, flow: &Flow, reverse: &FlowKey) -> Result<()> {
    check(flow)?;
    let ip = packet.load::<Ipv6>(NETWORK)?;
    let front = front(flow);
    let extensions = (front - size_of::<Ipv6>() as i32) as u32;
    let payload = u32::from(ip.payload_length.get());
    // A jumbogram says 0 (RFC 2675, 3).
    if payload == 0 || payload < extensions {
        return Err(DropReason::Malformed);
    }
    let length = payload - extensions;
    let (old, new) = ends(flow, reverse);
    let header = header::ipv4(&ip, flow, new, length, header::identification());
    packet.exchange_family(ETHERTYPE_IPV4, size_of::<Ipv4>() as i32 - front)?;
    packet.put(NETWORK, header)?;
    if flow.fragment == LATER {
        return Ok(());
    }
    let addresses = old.less_v6() + new.sum_v4();
    let pseudo = old.less_v6() + less_pseudo(length);
    transport::<P, BEHIND_V4>(packet, flow, reverse, addresses, pseudo)
}

#[inline(always)]
fn to_ipv6<P: Packet>(packet: &P, flow: &Flow, reverse: &FlowKey) -> Result<()> {
    check(flow)?;
    let ip = packet.load::<Ipv4>(NETWORK)?;
    let front = front(flow);
    let total = u32::from(ip.total_length.get());
    if total < front as u32 {
        return Err(DropReason::Malformed);
    }
    let length = total - front as u32;
    let lacks_sum = lacks_sum(packet, flow)?;
    let (old, new) = ends(flow, reverse);
    let is_fragment = flow.fragment != WHOLE;
    let header = header::ipv6(&ip, flow, new, length, is_fragment);
    let addresses = old.less_v4() + new.sum_v6();
    if is_fragment {
        const BEHIND: usize = BEHIND_V6 + size_of::<FragmentHeader>();
        packet.exchange_family(ETHERTYPE_IPV6, (BEHIND - NETWORK) as i32 - front)?;
        packet.put(NETWORK, header)?;
        packet.put(BEHIND_V6, header::fragment(&ip))?;
        if flow.fragment == LATER {
            return Ok(());
        }
        return transport::<P, BEHIND>(packet, flow, reverse, addresses, 0);
    }
    packet.exchange_family(ETHERTYPE_IPV6, size_of::<Ipv6>() as i32 - front)?;
    packet.put(NETWORK, header)?;
    let pseudo = new.sum_v6() + pseudo(length);
    transport::<P, BEHIND_V6>(packet, flow, reverse, addresses, pseudo)?;
    if lacks_sum {
        return add_sum(packet, new);
    }
    Ok(())
}

/// What a pseudo-header has beside addresses (RFC 8200, 8.1).
#[inline(always)]
pub fn pseudo(length: u32) -> u64 {
    let length = Be16::new(length as u16);
    u64::from(length.word()) + u64::from(Be16::new(ICMPV6.into()).word())
}

/// The same, taken out of a sum.
#[inline(always)]
pub fn less_pseudo(length: u32) -> u64 {
    let length = Be16::new(length as u16);
    u64::from(!length.word()) + u64::from(!Be16::new(ICMPV6.into()).word())
}

/// Writes ports and checksums behind the new header, at `AT`. Checksums cover addresses; that of
/// ICMP in one family only, and the rest of the pseudo-header with them.
#[inline(always)]
fn transport<P: Packet, const AT: usize>(
    packet: &P,
    flow: &Flow,
    reverse: &FlowKey,
    addresses: u64,
    pseudo: u64,
) -> Result<()> {
    match flow.key.protocol {
        TCP | UDP => {
            let ports = packet.load::<[Be16; 2]>(AT)?;
            let new = [reverse.destination_port, reverse.source_port];
            packet.store(AT, new)?;
            let difference = replaced(ports[0], new[0]) + replaced(ports[1], new[1]);
            let is_udp = flow.key.protocol == UDP;
            let at = AT + if is_udp { 6 } else { 16 };
            update_checksum(packet, (is_udp, false), at, addresses, difference)
        }
        ICMP | ICMPV6 => {
            let old = packet.load::<Icmp>(AT)?;
            let word = counterpart(flow, &old);
            if word == nat64::NONE {
                return Err(DropReason::Unsupported);
            }
            let word = Be16::new(word as u16);
            let before = Be16::new(u16::from_be_bytes([old.kind, old.code]));
            packet.store(AT, word)?;
            packet.store(AT + 4, reverse.source_port)?;
            let data = replaced(before, word) + replaced(old.rest[0], reverse.source_port);
            update_checksum(packet, (false, false), AT + 2, pseudo, data)
        }
        DCCP | UDP_LITE => update_checksum(packet, (false, false), AT + 6, addresses, 0),
        _ => Ok(()),
    }
}

/// Type and code of a query in the other family.
#[inline(always)]
pub fn counterpart(flow: &Flow, icmp: &Icmp) -> u32 {
    if flow.family == 6 {
        nat64::icmp_to_v4(icmp.kind, icmp.code)
    } else {
        nat64::icmp_to_v6(icmp.kind, icmp.code)
    }
}

/// True if UDP has no checksum, which it must have over IPv6 (RFC 7915, 4.5). A fragment of such
/// a datagram is dropped.
#[inline(always)]
fn lacks_sum<P: Packet>(packet: &P, flow: &Flow) -> Result<bool> {
    if flow.key.protocol != UDP || flow.fragment == LATER {
        return Ok(false);
    }
    let lacks = packet.load::<Be16>(offset(flow.transport) + 6)?.word() == 0;
    if lacks && flow.fragment != WHOLE {
        return Err(DropReason::Unsupported);
    }
    Ok(lacks)
}

/// Sums a datagram that had no checksum.
#[inline(always)]
fn add_sum<P: Packet>(packet: &P, ends: Ends) -> Result<()> {
    let length = packet.load::<Be16>(BEHIND_V6 + 4)?;
    let sum = icmp::sum(&SCRATCH, packet, BEHIND_V6, length.get().into())?;
    let sum = checksum::add16(sum + ends.sum_v6(), length);
    let sum = checksum::finish(checksum::add16(sum, Be16::new(UDP.into())));
    let is_zero = sum.word() == 0;
    packet.put(
        BEHIND_V6 + 6,
        if is_zero { Be16::from_word(!0) } else { sum },
    )
}
