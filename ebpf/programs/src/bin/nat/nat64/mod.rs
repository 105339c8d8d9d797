//! NAT64 and NAT46: from one family to the other (RFC 7915). Which packets are concerned, and
//! whom they are from and for on the other side.
//!
//! An IPv6 packet to the prefix is for an IPv4 host, wherever it is met: it is from inside.

mod header;
mod message;
mod report;

use ebpf_abi::{
    address::V6,
    chain::Direction,
    counters::DropReason,
    flow::{Flow, FlowKey, is_mapped, mapped, unmapped},
    nat::{PrefixKey, SIDE_IPV4, SIDE_IPV6},
    nat64::{self, WELL_KNOWN},
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, PASS, answer},
    counters::Size,
    transparent::TransparentCube,
};

use crate::{
    SETTINGS, prefix,
    work::{OTHER_FAMILY, Work, result, work},
};

/// The second program: makes of a packet what the first one has noted.
pub struct OtherFamily;

impl TransparentCube for OtherFamily {
    const RESIZES: bool = true;

    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, _: Direction, _: Size) -> Result<()> {
        let work = work()?;
        if work.flow.is_error() {
            result(report::report(packet, work))?;
        } else {
            result(message::carry(packet, work))?;
        }
        Ok(())
    }
}

/// True if a packet is one from an IPv6 host to an IPv4 host.
#[inline(always)]
pub fn concerns(flow: &Flow) -> bool {
    let settings = SETTINGS.load();
    flow.family == 6
        && nat64::contains(
            settings.prefix,
            settings.prefix_length,
            flow.key.destination,
        )
}

/// True if the two ends of a key are of the other family than the packet.
#[inline(always)]
pub fn is_other(flow: &Flow, key: &FlowKey) -> bool {
    is_mapped(key.source) != (flow.family == 4)
}

/// The IPv4 host that an address with the prefix stands for.
#[inline(always)]
pub fn remote(address: V6) -> Result<V6> {
    let settings = SETTINGS.load();
    let address = nat64::extract(settings.prefix_length, address);
    // RFC 6052, 3.1
    if settings.prefix == WELL_KNOWN
        && settings.prefix_length == 96
        && nat64::is_not_global(address)
    {
        return Err(DropReason::NotForwarded);
    }
    Ok(mapped(address))
}

/// The address with the prefix that stands for an IPv4 host.
#[inline(always)]
pub fn embedded(address: V6) -> V6 {
    let settings = SETTINGS.load();
    nat64::embed(settings.prefix, settings.prefix_length, unmapped(address))
}

/// Finds out what the other direction's packets look like on the other side, if an entry of `nat46`
/// says so.
#[inline(never)]
pub fn pair(work: &mut Work, direction: Direction) -> Answer {
    answer(try_pair(work, direction).map(|found| if found { OTHER_FAMILY } else { PASS }))
}

#[inline(always)]
fn try_pair(work: &mut Work, direction: Direction) -> Result<bool> {
    let key = &work.flow.key;
    if concerns(&work.flow) {
        let Some(external) = other(SIDE_IPV6, key.source)? else {
            return Ok(false);
        };
        let remote = remote(key.destination)?;
        work.reverse = key.reversed();
        work.reverse.destination = external;
        work.reverse.source = remote;
        return Ok(true);
    }
    if direction == Direction::Egress || work.flow.family != 4 {
        return Ok(false);
    }
    let Some(internal) = other(SIDE_IPV4, key.destination)? else {
        return Ok(false);
    };
    work.reverse = key.reversed();
    work.reverse.source = internal;
    work.reverse.destination = embedded(key.source);
    Ok(true)
}

/// Makes of what an ICMP error quotes, in `reverse`, what it was on the other side, if an entry of
/// `nat46` says so.
#[inline(always)]
pub fn pair_of_quoted(work: &mut Work) -> Result<bool> {
    let key = &mut work.reverse;
    if work.quoted.family == 6 {
        let Some(external) = other(SIDE_IPV6, key.destination)? else {
            return Ok(false);
        };
        let settings = SETTINGS.load();
        if !nat64::contains(settings.prefix, settings.prefix_length, key.source) {
            return Ok(false);
        }
        key.destination = external;
        key.source = remote(key.source)?;
        return Ok(true);
    }
    let Some(internal) = other(SIDE_IPV4, key.source)? else {
        return Ok(false);
    };
    key.source = internal;
    key.destination = embedded(key.destination);
    Ok(true)
}

#[inline(always)]
fn other(side: u8, address: V6) -> Result<Option<V6>> {
    let Some(rule) = prefix::PREFIXES.get(&PrefixKey {
        length: 32 + 128,
        side: side.into(),
        address,
    }) else {
        return Ok(None);
    };
    Ok(Some(prefix::other_side(address, rule)?))
}
