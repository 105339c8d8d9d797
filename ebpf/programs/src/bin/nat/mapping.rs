//! Mappings: which external port an inside address and port have, whatever they talk to.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    macros::map,
    maps::HashMap,
};
use ebpf_abi::{
    address::{Be16, V6},
    chain::Direction,
    counters::DropReason,
    flow::{ICMP, ICMPV6, is_mapped},
    nat::{
        FEATURE_FAMILIES, Mapping, MappingKey, NO_POOL, SIDE_INSIDE, SIDE_OUTSIDE, Session,
        port_kind, ports_index,
    },
};
use ebpf_programs::{Result, atomic};

use crate::{
    has, ports, session,
    work::{Answer, DONE, Work, answer},
};

#[map(name = "mappings")]
static MAPPINGS: HashMap<MappingKey, Mapping> = HashMap::with_max_entries(2048, BPF_F_NO_PREALLOC);

/// Tries of one step that other CPUs may be at.
const TRIES: usize = 4;

/// The external port of the packet's source, held for one more session: the external half of the
/// mapping is what `work.outside` is the key of.
#[inline(never)]
pub fn obtain(work: &mut Work, now: u64) -> Answer {
    answer(try_obtain(work, now).map(|_| DONE))
}

#[inline(always)]
fn try_obtain(work: &mut Work, now: u64) -> Result<Be16> {
    let key = &work.flow.key;
    work.inside = MappingKey {
        address: key.source,
        port: key.source_port,
        protocol: key.protocol,
        side: SIDE_INSIDE,
        pool: work.wanted.pool,
    };
    let protocol = external_protocol(key.protocol, work.wanted.address);
    // SAFETY: the value is only read.
    let known = unsafe { MAPPINGS.get(&work.inside) };
    let mut how = BPF_NOEXIST;
    if let Some(known) = known {
        if known.address == work.wanted.address {
            let port = known.port;
            work.outside = outside(known.address, port, protocol);
            // Otherwise it goes at this very moment; the packet will be sent again.
            return match MAPPINGS.get_ptr_mut(&work.outside) {
                Some(mapping) if hold(mapping) => {
                    // SAFETY: the kernel keeps the entry valid while the program runs.
                    unsafe { (*mapping).seen = now };
                    Ok(port)
                }
                _ => Err(DropReason::PortsExhausted),
            };
        }
        // The address has become another one: sessions with the old one keep their mapping.
        how = BPF_ANY;
    }
    work.wanted.seen = now;
    let port = make(work, now)?;
    work.wanted.port = port;
    if MAPPINGS
        .insert(&work.inside, &work.wanted, how.into())
        .is_err()
    {
        drop_outside(&work.outside, work.wanted.pool);
        return Err(DropReason::PortsExhausted);
    }
    Ok(port)
}

/// Takes a port and makes the mapping's outside half: the proof that nobody else has the port.
#[inline(always)]
fn make(work: &mut Work, now: u64) -> Result<Be16> {
    let protocol = work.inside.protocol;
    let kind = port_kind(protocol).ok_or(DropReason::Unsupported)?;
    let index = ports_index(work.wanted.pool, kind);
    let own = u32::from(work.inside.port.get());
    let mut port = ports::take(index, own);
    if port == ports::NONE && session::sweep(now) {
        port = ports::take(index, own);
    }
    if port == ports::NONE {
        return Err(DropReason::PortsExhausted);
    }
    if put_outside(work, port) {
        return Ok(work.outside.port);
    }
    // The address is in two pools, and the other one's port is in use: then another port.
    let other = ports::take_any(index, own);
    ports::give_back(index, port);
    if other != ports::NONE {
        if put_outside(work, other) {
            return Ok(work.outside.port);
        }
        ports::give_back(index, other);
    }
    Err(DropReason::PortsExhausted)
}

/// Makes the outside half with a port; false if there is one already.
#[inline(always)]
fn put_outside(work: &mut Work, port: u32) -> bool {
    let (address, own) = (work.inside.address, work.inside.port);
    work.mapping = Mapping {
        references: 1,
        seen: work.wanted.seen,
        address,
        port: own,
        rule: work.wanted.rule,
        rule_length: work.wanted.rule_length,
        pool: work.wanted.pool,
    };
    work.outside = outside(
        work.wanted.address,
        Be16::new(port as u16),
        external_protocol(work.inside.protocol, work.wanted.address),
    );
    MAPPINGS
        .insert(&work.outside, &work.mapping, BPF_NOEXIST.into())
        .is_ok()
}

/// Who has the external port that the packet from outside is for.
#[inline(always)]
pub fn find(work: &mut Work) -> Option<*mut Mapping> {
    let key = &work.flow.key;
    work.outside = outside(key.destination, key.destination_port, key.protocol);
    MAPPINGS.get_ptr_mut(&work.outside)
}

/// Notes that a packet left through a session's mapping.
#[inline(always)]
pub fn refresh(session: *const Session, work: &mut Work, now: u64) {
    // SAFETY: the kernel keeps the entries while the program runs.
    unsafe {
        let external = &(*session).keys[Direction::Ingress as usize];
        let (address, port) = (external.destination, external.destination_port);
        work.outside = outside(address, port, external.protocol);
        if let Some(mapping) = MAPPINGS.get_ptr_mut(&work.outside) {
            (*mapping).seen = now;
        }
    }
}

/// Lets go of a session's mapping; the last one frees the port.
#[inline(never)]
pub fn release(session: *const Session, work: &mut Work) {
    // SAFETY: the slot is the caller's alone.
    let session = unsafe { &*session };
    if session.pool == NO_POOL {
        return;
    }
    let external = &session.keys[Direction::Ingress as usize];
    let (address, port) = (external.destination, external.destination_port);
    work.outside = outside(address, port, external.protocol);
    let Some(mapping) = MAPPINGS.get_ptr_mut(&work.outside) else {
        return;
    };
    // SAFETY: the kernel keeps the entry valid while the program runs.
    if unsafe { atomic::add_and_get(&raw mut (*mapping).references, -1) } != 0 {
        return;
    }
    let inside = &session.keys[Direction::Egress as usize];
    work.inside = MappingKey {
        address: inside.source,
        port: inside.source_port,
        protocol: inside.protocol,
        side: SIDE_INSIDE,
        pool: session.pool,
    };
    // SAFETY: the value is only read.
    if unsafe { MAPPINGS.get(&work.inside) }
        .is_some_and(|known| known.address == address && known.port == port)
    {
        let _gone = MAPPINGS.remove(&work.inside);
    }
    drop_outside(&work.outside, session.pool);
}

/// Removes a mapping's outside half. The port is free when nothing leads to it any more.
#[inline(always)]
fn drop_outside(key: &MappingKey, pool: u32) {
    let _gone = MAPPINGS.remove(key);
    if let Some(kind) = port_kind(key.protocol) {
        ports::give_back(ports_index(pool, kind), key.port.get().into());
    }
}

/// What a protocol is called outside: ICMP has another number in the other family.
#[inline(always)]
pub fn external_protocol(protocol: u8, external: V6) -> u8 {
    if has(FEATURE_FAMILIES) && protocol == ICMPV6 && is_mapped(external) {
        ICMP
    } else {
        protocol
    }
}

#[inline(always)]
fn outside(address: V6, port: Be16, protocol: u8) -> MappingKey {
    MappingKey {
        address,
        port,
        protocol,
        side: SIDE_OUTSIDE,
        pool: 0,
    }
}

/// One more session holds the mapping, unless the last one has just let go.
#[inline(always)]
pub fn hold(mapping: *mut Mapping) -> bool {
    for _ in 0..TRIES {
        // SAFETY: the kernel keeps the entry valid while the program runs.
        unsafe {
            let references = (*mapping).references;
            if references == 0 {
                return false;
            }
            let found = atomic::compare_exchange(
                &raw mut (*mapping).references,
                references,
                references + 1,
            );
            if found == references {
                return true;
            }
        }
    }
    false
}
