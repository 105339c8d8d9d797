//! The rules: what becomes of the first packet of a flow.

use aya_ebpf::{bindings::BPF_F_NO_PREALLOC, macros::map, maps::HashMap};
use ebpf_abi::{
    address::{Be16, V6},
    chain::Direction,
    counters::DropReason,
    flow::{DCCP, Flow, FlowKey, ICMP, ICMPV6, SCTP, TCP, UDP, UDP_LITE, is_mapped},
    nat::{
        EXTERNAL_ONLY, FEATURE_DESTINATION, FEATURE_FAMILIES, FEATURE_KNOWN, FEATURE_OPEN,
        FEATURE_SOURCE, FORWARD_BITS, Forward, ForwardKey, LIST_MASQUERADE, LIST_NAT64, LIST_SNAT,
        Mapping, NO_POOL, RULE_MASQUERADE, RULE_NAT64, RULE_SNAT, SourceKey, SourceRule,
        masquerade_pool, port_kind,
    },
    tcp::{ACK, FIN, RST, SYN},
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, DONE, PASS, answer},
    clock,
    lpm::Lpm,
    transparent,
};

use crate::{
    SETTINGS, contact, has, mapping, nat64, pool, session,
    work::{Work, copy, result},
};

/// By source: to which external address. A list of its own for `snat`, which comes first.
#[map(name = "sources")]
static SOURCES: Lpm<SourceKey, SourceRule> = Lpm::with_max_entries(1);

/// By external address, protocol and port: to whom inside.
#[map(name = "forwards")]
static FORWARDS: Lpm<ForwardKey, Forward> = Lpm::with_max_entries(1);

/// External addresses: `EXTERNAL_*` bits.
#[map(name = "externals")]
static EXTERNALS: HashMap<V6, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

const GRE: u8 = 47;
const ESP: u8 = 50;
const IP_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const L2TP: u8 = 115;

/// Begins the session of a packet that has none.
#[inline(never)]
pub fn begin<P: Packet>(packet: &P, work: &mut Work, direction: Direction, now: u64) -> Answer {
    answer(match direction {
        Direction::Egress if has(FEATURE_FAMILIES) && nat64::concerns(&work.flow) => {
            outwards_to_ipv4(work, now)
        }
        Direction::Egress if has(FEATURE_SOURCE) => outwards(packet, work, now),
        Direction::Egress => Ok(PASS),
        Direction::Ingress => inwards(work, now),
    })
}

#[inline(always)]
fn outwards<P: Packet>(packet: &P, work: &mut Work, now: u64) -> Result<Answer> {
    let Some(source) = source(&work.flow) else {
        return Ok(PASS);
    };
    let external = pool::address(packet, work, source.pool);
    if external == V6::UNSPECIFIED {
        return Err(DropReason::NoExternalAddress);
    }
    let starts = starts(&work.flow);
    // The answers of whoever has the external address itself.
    if starts == Err(DropReason::NoSession) && external == work.flow.key.source {
        return Ok(PASS);
    }
    starts?;
    work.reverse = work.flow.key.reversed();
    want(work, &source, external);
    result(establish(work, now))
}

/// From an IPv6 host to an IPv4 host (RFC 6146, 3.5).
#[inline(always)]
fn outwards_to_ipv4(work: &mut Work, now: u64) -> Result<Answer> {
    let Some(source) = listed(&work.flow, LIST_NAT64) else {
        return Ok(PASS);
    };
    starts(&work.flow)?;
    // What has no ports or identifier that could be told apart is not translated (3.1).
    if port_kind(work.flow.key.protocol).is_none() {
        return Err(DropReason::Unsupported);
    }
    let remote = nat64::remote(work.flow.key.destination)?;
    let external = pool::fixed(source.pool);
    if external == V6::UNSPECIFIED {
        return Err(DropReason::NoExternalAddress);
    }
    work.reverse = work.flow.key.reversed();
    work.reverse.source = remote;
    want(work, &source, external);
    result(establish(work, now))
}

/// Notes what the mapping of a session is to have.
#[inline(always)]
fn want(work: &mut Work, source: &Source, external: V6) {
    work.wanted = Mapping {
        references: 0,
        seen: 0,
        address: external,
        port: Be16::default(),
        rule: source.rule,
        rule_length: source.length,
        pool: source.pool,
    };
}

/// Makes the session of a packet that leaves: `wanted` says what it gets, `reverse` what answers are but for that.
/// A function of its own, with all it needs in `work`: the verifier forgets which rule it was.
#[inline(never)]
fn establish(work: &mut Work, now: u64) -> Answer {
    answer(try_establish(work, now))
}

#[inline(always)]
fn try_establish(work: &mut Work, now: u64) -> Result<Answer> {
    let claimed = session::claim(work, now)?;
    let mut port = work.flow.key.source_port;
    let mut pool = NO_POOL;
    if port_kind(work.flow.key.protocol).is_some() {
        pool = work.wanted.pool;
        if let Err(reason) = result(mapping::obtain(work, now)) {
            claimed.give_back();
            return Err(reason);
        }
        port = work.outside.port;
    }
    let external = work.wanted.address;
    // SAFETY: the slot is ours alone.
    unsafe {
        let session = claimed.session;
        copy(
            &raw mut (*session).keys[Direction::Egress as usize],
            &work.flow.key,
        );
        let back = &raw mut (*session).keys[Direction::Ingress as usize];
        copy(back, &work.reverse);
        let back = &mut *back;
        back.padding = [Direction::Ingress as u8, 0, 0];
        back.destination = external;
        back.destination_port = port;
        back.protocol = mapping::external_protocol(back.protocol, external);
        // A query's identifier is in both places.
        if is_icmp(&work.flow) {
            back.source_port = port;
        }
        (*session).pool = pool;
        (*session).rule = work.wanted.rule;
        (*session).rule_length = work.wanted.rule_length;
    }
    let session = claimed.session;
    claimed.publish(work, Direction::Egress, now)?;
    if has(FEATURE_KNOWN) {
        contact::note(session, now);
    }
    Ok(DONE)
}

#[inline(always)]
fn inwards(work: &mut Work, now: u64) -> Result<Answer> {
    let starts = starts(&work.flow);
    let is_icmp = is_icmp(&work.flow);
    if starts.is_ok()
        && (has(FEATURE_SOURCE) || has(FEATURE_FAMILIES))
        && has(FEATURE_OPEN)
        && !is_icmp
        && let Some(mapping) = mapping::find(work)
        && is_in_use(mapping, work.flow.key.protocol, now)
        && (!has(FEATURE_KNOWN) || contact::is_known(&work.flow.key, mapping, now))
    {
        return inwards_mapped(work, mapping, now);
    }
    if starts.is_ok()
        && has(FEATURE_DESTINATION)
        && let Some(forward) = forward(&work.flow.key)
    {
        return inwards_forwarded(work, forward, now);
    }
    if is_external(work.flow.key.destination, EXTERNAL_ONLY) {
        return Err(DropReason::NoSession);
    }
    Ok(PASS)
}

/// True if a bit is set for an external address.
#[inline(always)]
pub fn is_external(address: V6, bit: u32) -> bool {
    // SAFETY: the value is only read.
    unsafe { EXTERNALS.get(&address) }.is_some_and(|bits| bits & bit != 0)
}

/// True if a packet has left through a mapping not too long ago.
#[inline(always)]
fn is_in_use(mapping: *const Mapping, protocol: u8, now: u64) -> bool {
    // SAFETY: the kernel keeps the entry while the program runs.
    is_recent(unsafe { (*mapping).seen }, protocol, now)
}

/// True if what was used then still is.
#[inline(always)]
pub fn is_recent(seen: u64, protocol: u8, now: u64) -> bool {
    let settings = SETTINGS.load();
    let timeout = match protocol {
        TCP => settings.tcp_established,
        _ => settings.udp,
    };
    clock::elapsed(now, seen) <= timeout && seen >= session::flushed()
}

/// From somebody whom the inside host may not have sent to, but to a port it has.
#[inline(always)]
fn inwards_mapped(work: &mut Work, mapping: *const Mapping, now: u64) -> Result<Answer> {
    work.reverse = work.flow.key.reversed();
    // SAFETY: the kernel keeps the mapping while the program runs.
    unsafe {
        work.reverse.source = (*mapping).address;
        work.reverse.source_port = (*mapping).port;
        work.wanted.pool = (*mapping).pool;
        work.wanted.rule = (*mapping).rule;
        work.wanted.rule_length = (*mapping).rule_length;
    }
    let (inside, remote) = (work.reverse.source, work.reverse.destination);
    if has(FEATURE_FAMILIES) && !is_mapped(inside) && is_mapped(remote) {
        work.reverse.destination = nat64::embedded(remote);
    }
    result(establish_inwards(work, now))
}

#[inline(always)]
fn inwards_forwarded(work: &mut Work, forward: &Forward, now: u64) -> Result<Answer> {
    work.reverse = work.flow.key.reversed();
    work.reverse.source = forward.address;
    if forward.shift != 0 {
        let port = work.reverse.source_port.get().wrapping_add(forward.shift);
        work.reverse.source_port = Be16::new(port);
    }
    work.wanted.pool = NO_POOL;
    work.wanted.rule = forward.rule;
    work.wanted.rule_length = 0;
    result(establish_inwards(work, now))
}

/// Makes the session of a packet that comes in, whose answers are `reverse`; as [`establish`].
#[inline(never)]
fn establish_inwards(work: &mut Work, now: u64) -> Answer {
    answer(try_establish_inwards(work, now))
}

#[inline(always)]
fn try_establish_inwards(work: &mut Work, now: u64) -> Result<Answer> {
    let claimed = session::claim(work, now)?;
    if work.wanted.pool != NO_POOL
        && !mapping::find(work).is_some_and(|mapping| mapping::hold(mapping))
    {
        claimed.give_back();
        return Err(DropReason::NoSession);
    }
    // SAFETY: the slot is ours alone.
    unsafe {
        let session = claimed.session;
        copy(
            &raw mut (*session).keys[Direction::Ingress as usize],
            &work.flow.key,
        );
        let out = &raw mut (*session).keys[Direction::Egress as usize];
        copy(out, &work.reverse);
        (*out).padding = [Direction::Egress as u8, 0, 0];
        (*session).pool = work.wanted.pool;
        (*session).rule = work.wanted.rule;
        (*session).rule_length = work.wanted.rule_length;
    }
    claimed.publish(work, Direction::Ingress, now)?;
    Ok(DONE)
}

/// What becomes of an ICMP error about a packet that belongs to no session: it passes where such
/// packets pass.
#[inline(always)]
pub fn orphan<P: Packet>(packet: &P, work: &mut Work, direction: Direction) -> Result<Answer> {
    let is_lost = match direction {
        // Nobody else has an address with the prefix.
        Direction::Egress if has(FEATURE_FAMILIES) && nat64::concerns(&work.flow) => true,
        Direction::Egress if has(FEATURE_SOURCE) => match source(&work.flow) {
            Some(source) => pool::address(packet, work, source.pool) != work.flow.key.source,
            None => false,
        },
        Direction::Egress => false,
        Direction::Ingress => is_external(work.flow.key.destination, EXTERNAL_ONLY),
    };
    if is_lost {
        return Err(DropReason::NoSession);
    }
    Ok(PASS)
}

/// Which external address a source is to have.
struct Source {
    pool: u32,
    rule: u8,
    length: u8,
}

/// The rule for a source: `snat` first, of its entries the one with the longest prefix.
#[inline(always)]
fn source(flow: &Flow) -> Option<Source> {
    if let Some(source) = listed(flow, LIST_SNAT) {
        return Some(source);
    }
    let rule = SOURCES.get(&SourceKey {
        length: 32 + 128,
        list: LIST_MASQUERADE,
        address: flow.key.source,
    })?;
    Some(Source {
        pool: masquerade_pool(transparent::attachment(), flow.family),
        rule: RULE_MASQUERADE,
        length: rule.length as u8,
    })
}

/// The rule for a source in a list of those that have external addresses of their own.
#[inline(always)]
fn listed(flow: &Flow, list: u32) -> Option<Source> {
    let rule = SOURCES.get(&SourceKey {
        length: 32 + 128,
        list,
        address: flow.key.source,
    })?;
    // One external address for all that an inside one sends (RFC 4787, REQ-2).
    let [a, b, c, d] = flow.key.source.0;
    let hash = (a ^ b ^ c ^ d).wrapping_mul(0x9e37_79b1) >> 8;
    let turn = if rule.count > 1 { hash % rule.count } else { 0 };
    Some(Source {
        pool: rule.pool + turn,
        rule: if list == LIST_NAT64 {
            RULE_NAT64
        } else {
            RULE_SNAT
        },
        length: rule.length as u8,
    })
}

/// The rule for a destination: one of the packet's protocol first, then one of all. Only ports
/// of TCP and UDP are forwarded.
#[inline(always)]
fn forward(key: &FlowKey) -> Option<&'static Forward> {
    let has_port = matches!(key.protocol, TCP | UDP);
    let mut search = ForwardKey {
        length: FORWARD_BITS + 16,
        address: key.destination,
        protocol: Be16::new(key.protocol.into()),
        port: key.destination_port,
    };
    if !has_port {
        // No port matches 0, as no rule has it.
        search.port = Be16::new(0);
    } else if let Some(forward) = FORWARDS.get(&search) {
        return Some(forward);
    }
    search.protocol = Be16::new(0);
    FORWARDS.get(&search)
}

/// Whether a packet may begin a session.
#[inline(always)]
fn starts(flow: &Flow) -> Result<()> {
    let is = |begins: bool| {
        if begins {
            Ok(())
        } else {
            Err(DropReason::NoSession)
        }
    };
    match flow.key.protocol {
        // RFC 5382, REQ-2 and REQ-4
        TCP => is(flow.tcp_flags & (SYN | ACK | FIN | RST) == SYN),
        UDP | DCCP | UDP_LITE | SCTP | GRE | ESP | IP_IN_IP | IPV6_IN_IP | L2TP => Ok(()),
        ICMP if flow.family == 4 => match flow.icmp_type {
            // Echo, timestamp, information, address mask
            8 | 13 | 15 | 17 => Ok(()),
            0 | 14 | 16 | 18 => Err(DropReason::NoSession),
            _ => Err(DropReason::Unsupported),
        },
        ICMPV6 if flow.family == 6 => match flow.icmp_type {
            128 => Ok(()),
            129 => Err(DropReason::NoSession),
            _ => Err(DropReason::Unsupported),
        },
        // Nobody knows what their checksums cover.
        _ => Err(DropReason::Unsupported),
    }
}

#[inline(always)]
fn is_icmp(flow: &Flow) -> bool {
    matches!(flow.key.protocol, ICMP | ICMPV6)
}
