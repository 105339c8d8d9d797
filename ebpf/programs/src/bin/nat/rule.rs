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
        Mapping, NO_POOL, RULE_MASQUERADE, RULE_NAT64, RULE_SNAT, SourceKey, SourceRule, keyed,
        masquerade_pool, port_kind,
    },
    tcp::{ACK, FIN, RST, SYN},
};
use ebpf_programs::{Packet, Result, clock, lpm::Lpm, transparent};

use crate::{
    SETTINGS, contact, has, mapping, nat64, pool, session,
    work::{Answer, DONE, PASS, Work, answer, copy, result},
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
    let remote = work.flow.key.destination;
    establish(work, &source, external, remote, now)
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
    establish(work, &source, external, remote, now)
}

/// Makes the session of a packet that leaves: whom it is from and for outside.
#[inline(always)]
fn establish(
    work: &mut Work,
    source: &Source,
    external: V6,
    remote: V6,
    now: u64,
) -> Result<Answer> {
    let claimed = session::claim(now)?;
    let mut port = work.flow.key.source_port;
    let mut pool = NO_POOL;
    if port_kind(work.flow.key.protocol).is_some() {
        work.wanted = Mapping {
            references: 0,
            seen: 0,
            address: external,
            port: Be16::default(),
            rule: source.rule,
            rule_length: source.length,
            pool: source.pool,
        };
        pool = source.pool;
        if let Err(reason) = result(mapping::obtain(work, now)) {
            claimed.give_back();
            return Err(reason);
        }
        port = work.outside.port;
    }
    // SAFETY: the slot is ours alone.
    unsafe {
        let session = claimed.session;
        copy(
            &raw mut (*session).keys[Direction::Egress as usize],
            &work.flow.key,
        );
        let back = &mut (*session).keys[Direction::Ingress as usize];
        *back = keyed(work.flow.key.reversed(), Direction::Ingress);
        back.source = remote;
        back.destination = external;
        back.destination_port = port;
        back.protocol = mapping::external_protocol(back.protocol, external);
        // A query's identifier is in both places.
        if is_icmp(&work.flow) {
            back.source_port = port;
        }
        (*session).pool = pool;
        (*session).rule = source.rule;
        (*session).rule_length = source.length;
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
fn inwards_mapped(work: &mut Work, mapping: *mut Mapping, now: u64) -> Result<Answer> {
    let claimed = session::claim(now)?;
    if !mapping::hold(mapping) {
        claimed.give_back();
        return Err(DropReason::NoSession);
    }
    // SAFETY: the slot is ours alone, and the kernel keeps the mapping while the program runs.
    unsafe {
        let session = claimed.session;
        copy(
            &raw mut (*session).keys[Direction::Ingress as usize],
            &work.flow.key,
        );
        let out = &mut (*session).keys[Direction::Egress as usize];
        *out = keyed(work.flow.key.reversed(), Direction::Egress);
        out.source = (*mapping).address;
        if has(FEATURE_FAMILIES) && !is_mapped(out.source) && is_mapped(out.destination) {
            out.destination = nat64::embedded(out.destination);
        }
        out.source_port = (*mapping).port;
        (*session).pool = (*mapping).pool;
        (*session).rule = (*mapping).rule;
        (*session).rule_length = (*mapping).rule_length;
    }
    claimed.publish(work, Direction::Ingress, now)?;
    Ok(DONE)
}

#[inline(always)]
fn inwards_forwarded(work: &mut Work, forward: &Forward, now: u64) -> Result<Answer> {
    let claimed = session::claim(now)?;
    // SAFETY: the slot is ours alone.
    unsafe {
        let session = claimed.session;
        copy(
            &raw mut (*session).keys[Direction::Ingress as usize],
            &work.flow.key,
        );
        let out = &mut (*session).keys[Direction::Egress as usize];
        *out = keyed(work.flow.key.reversed(), Direction::Egress);
        out.source = forward.address;
        if forward.shift != 0 {
            let port = out.source_port.get().wrapping_add(forward.shift);
            out.source_port = Be16::new(port);
        }
        (*session).pool = NO_POOL;
        (*session).rule = forward.rule;
        (*session).rule_length = 0;
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
