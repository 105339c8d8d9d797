//! Router advertisements (RFC 4861, 6.2.6): a host that asks gets the one that user space has
//! prepared for the port. What is sent without being asked, user space sends.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::bpf_skb_store_bytes,
    macros::map,
    maps::{Array, HashMap},
};
use ebpf_abi::{
    address::V6,
    chain::MIN_PORTS,
    checksum,
    counters::DropReason,
    router::{ADVERTISEMENT_FRAME, Advertisement, MIN_DELAY_BETWEEN_RAS},
};
use ebpf_programs::{
    Packet, Result, clock,
    packet::bounded,
    standard::Verdict,
    tc::Tc,
    wire::{ETHERNET_LENGTH, Icmp, Ipv6, LinkLayerOption},
};

use crate::{
    Input, icmp,
    ipv6::PAYLOAD,
    ndp::{HOP_LIMIT, learn, link_layer_address},
};

#[map(name = "advertisements")]
static ADVERTISEMENTS: HashMap<u32, Advertisement> =
    HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// When the port last advertised to all, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
#[map(name = "advertised")]
static ADVERTISED: Array<u64> = Array::with_max_entries(MIN_PORTS, 0);

#[inline(always)]
pub fn solicitation<P: Packet>(packet: &P, input: &Input, ip: &Ipv6) -> Result<Verdict> {
    let icmp = packet.load::<Icmp>(PAYLOAD)?;
    // RFC 4861, 6.1.1.
    if ip.hop_limit != HOP_LIMIT || icmp.code != 0 {
        return Err(DropReason::Malformed);
    }
    // A copy: were the kernel given an address inside of `input`, all of that would be in memory,
    // pointers in halves.
    let port = input.index;
    // SAFETY: the value is only read.
    let Some(advertisement) = (unsafe { ADVERTISEMENTS.get(&port) }) else {
        return Ok(Verdict::CONSUMED);
    };
    // The answer is longer than the question, for which XDP may have no room.
    let Some(tc) = packet.as_tc() else {
        return Ok(Verdict::HAND_OVER);
    };
    let to_all = ip.source == V6::UNSPECIFIED;
    if to_all {
        spend(input.index)?;
    } else {
        icmp::spend()?;
        if let Some(mac) = link_layer_address(
            packet,
            ip,
            PAYLOAD + size_of::<Icmp>(),
            LinkLayerOption::SOURCE,
        ) {
            learn(input, ip.source, mac, false, true);
        }
    }
    answer(&tc, input, ip, advertisement, to_all)?;
    Ok(Verdict::emit(input.index))
}

/// To all no more often than every few seconds; a host asks again (RFC 4861, 6.2.6 and 6.3.7).
#[inline(always)]
fn spend(port: u32) -> Result<()> {
    let last = ADVERTISED.get_ptr_mut(port).ok_or(DropReason::NotLinked)?;
    let now = clock::now();
    // SAFETY: the entry is always there; a lost race costs one advertisement more.
    unsafe {
        if *last != 0 && clock::elapsed(now, *last) < MIN_DELAY_BETWEEN_RAS {
            return Err(DropReason::RateLimited);
        }
        *last = now;
    }
    Ok(())
}

/// Makes the packet the advertisement, to the host alone if it has an address.
#[inline(always)]
fn answer(
    tc: &Tc,
    input: &Input,
    ip: &Ipv6,
    advertisement: &Advertisement,
    to_all: bool,
) -> Result<()> {
    let length = advertisement.length;
    if length as usize > ADVERTISEMENT_FRAME || (length as usize) < PAYLOAD + size_of::<Icmp>() {
        return Err(DropReason::NoMemory);
    }
    tc.resize(length)?;
    // SAFETY: the frame has room for as much as the bound allows.
    let stored = unsafe {
        bpf_skb_store_bytes(
            tc.skb().cast(),
            0,
            (&raw const advertisement.frame).cast(),
            bounded::<{ ADVERTISEMENT_FRAME as u32 }>(length),
            0,
        )
    };
    if stored != 0 {
        return Err(DropReason::NoMemory);
    }
    if to_all {
        return Ok(());
    }
    tc.store(0, input.station)?;
    let header = tc.load::<Ipv6>(ETHERNET_LENGTH)?;
    let icmp = tc.load::<Icmp>(PAYLOAD)?;
    // The sum loses one destination and gets another (RFC 1624, eqn. 3).
    let V6([a, b, c, d]) = header.destination;
    let without = V6([!a, !b, !c, !d]);
    let sum = u64::from(!icmp.checksum.word());
    let sum = checksum::add_v6(checksum::add_v6(sum, without), ip.source);
    tc.store(
        ETHERNET_LENGTH,
        Ipv6 {
            destination: ip.source,
            ..header
        },
    )?;
    tc.store(
        PAYLOAD,
        Icmp {
            checksum: checksum::finish(sum),
            ..icmp
        },
    )
}
