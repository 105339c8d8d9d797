//! Prefixes that are translated one to one, without sessions: `static`, and `nptv6` (RFC 6296).

use aya_ebpf::macros::map;
use ebpf_abi::{
    address::V6,
    chain::Direction,
    checksum,
    counters::DropReason,
    flow::FlowKey,
    nat::{PrefixKey, PrefixRule, SIDE_INSIDE, SIDE_OUTSIDE},
};
use ebpf_programs::{Result, lpm::Lpm};

use crate::work::Work;

#[map(name = "prefixes")]
pub static PREFIXES: Lpm<PrefixKey, PrefixRule> = Lpm::with_max_entries(1);

/// Finds out what the other direction's packets look like on the other side, if a prefix says so.
/// The key is that of the packet, or the reverse of what an ICMP error quotes.
#[inline(always)]
pub fn reverse(work: &mut Work, direction: Direction) -> Result<bool> {
    work.reverse = work.flow.key.reversed();
    translate(&mut work.reverse, direction)
}

/// Translates a packet of the other direction, as it is on this side, to the other side.
#[inline(always)]
pub fn translate(reverse: &mut FlowKey, direction: Direction) -> Result<bool> {
    let (address, side) = match direction {
        Direction::Egress => (&mut reverse.destination, SIDE_INSIDE),
        Direction::Ingress => (&mut reverse.source, SIDE_OUTSIDE),
    };
    let Some(rule) = PREFIXES.get(&PrefixKey {
        length: 32 + 128,
        side: side.into(),
        address: *address,
    }) else {
        return Ok(false);
    };
    *address = other_side(*address, rule)?;
    Ok(true)
}

/// True if an address is one that a prefix has outside.
#[inline(always)]
pub fn is_external(address: V6) -> bool {
    let key = PrefixKey {
        length: 32 + 128,
        side: SIDE_OUTSIDE.into(),
        address,
    };
    PREFIXES.get(&key).is_some()
}

/// An address as the other side knows it.
#[inline(always)]
pub fn other_side(address: V6, rule: &PrefixRule) -> Result<V6> {
    let ([a, b, c, d], [e, f, g, h]) = (address.0, rule.address.0);
    let [i, j, k, l] = rule.host.0;
    let translated = V6([a & i | e, b & j | f, c & k | g, d & l | h]);
    if rule.neutral == 0 {
        return Ok(translated);
    }
    // Such an address cannot be translated (RFC 6296, 3.4).
    adjust(translated, rule).ok_or(DropReason::NoExternalAddress)
}

/// Makes the sum over the address what it was (RFC 6296, 3.1 and 3.5).
#[inline(always)]
fn adjust(V6(words): V6, rule: &PrefixRule) -> Option<V6> {
    let [a, b, c, d] = words;
    // RFC 6296, 3.4: of a prefix of 48 bits or less it is the subnet (bits 48 to 63).
    if rule.word == 3 {
        return Some(V6([a, adjusted::<1>(b, rule.adjustment)?, c, d]));
    }
    // 3.5: of a longer one it is the first of the interface identifier that is not all ones.
    if let Some(c) = adjusted::<0>(c, rule.adjustment) {
        return Some(V6([a, b, c, d]));
    }
    if let Some(c) = adjusted::<1>(c, rule.adjustment) {
        return Some(V6([a, b, c, d]));
    }
    if let Some(d) = adjusted::<0>(d, rule.adjustment) {
        return Some(V6([a, b, c, d]));
    }
    Some(V6([a, b, c, adjusted::<1>(d, rule.adjustment)?]))
}

/// Adds to one half of a word, as it is in memory; `None` if that is all ones, which cannot be
/// told from zero afterwards.
#[inline(always)]
fn adjusted<const HALF: u32>(word: u32, adjustment: u16) -> Option<u32> {
    let shift = HALF * 16;
    let old = (word >> shift) as u16;
    if old == 0xffff {
        return None;
    }
    let mut new = checksum::fold(u64::from(old) + u64::from(adjustment));
    if new == 0xffff {
        new = 0;
    }
    Some(word & !(0xffff << shift) | u32::from(new) << shift)
}
