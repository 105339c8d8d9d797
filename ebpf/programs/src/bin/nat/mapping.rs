//! Mappings: which external port an inside address and port have, whatever they talk to.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
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
use ebpf_programs::{
    Result,
    answer::{Answer, DONE, answer},
    atomic,
};

use crate::{has, ports, session, work::Work};

#[map(name = "mappings")]
static MAPPINGS: HashMap<MappingKey, Mapping> = HashMap::with_max_entries(2048, 0);

/// References of a mapping that is being removed, and more.
const REMOVED: u64 = 1 << 63;

/// The external port of the packet's source, held for one more session: the external half of the
/// mapping is what `work.outside` is the key of.
#[inline(never)]
pub fn obtain(work: &mut Work, now: u64) -> Answer {
    answer(try_obtain(work, now).map(|()| DONE))
}

#[inline(always)]
fn try_obtain(work: &mut Work, now: u64) -> Result<()> {
    let (address, port) = (work.flow.key.source, work.flow.key.source_port);
    let protocol = external_protocol(work.flow.key.protocol, work.wanted.address);
    work.wanted.seen = now;
    // Most have the port outside that they have inside: then the outside half says all.
    work.outside = outside(work.wanted.address, port, protocol);
    let found = MAPPINGS.get_ptr_mut(&work.outside);
    if let Some(mapping) = found
        && leads_to(mapping, work)
    {
        return join(mapping, now);
    }
    work.inside = MappingKey {
        address,
        port,
        protocol: work.flow.key.protocol,
        side: SIDE_INSIDE,
        pool: work.wanted.pool,
    };
    if found.is_none() && keep_port(work)? {
        return Ok(());
    }
    let mut how = BPF_NOEXIST;
    // SAFETY: the value is only read.
    if let Some(known) = unsafe { MAPPINGS.get(&work.inside) } {
        // If the address has become another one, sessions with the old one keep their mapping.
        if known.address == work.wanted.address {
            work.outside = outside(known.address, known.port, protocol);
            if let Some(mapping) = MAPPINGS.get_ptr_mut(&work.outside) {
                return join(mapping, now);
            }
        }
        how = BPF_ANY;
    }
    let port = make(work, now)?;
    // It has just become free.
    if port == work.inside.port {
        return if is_alone(work) {
            Ok(())
        } else {
            Err(DropReason::PortsExhausted)
        };
    }
    work.wanted.port = port;
    if MAPPINGS
        .insert(&work.inside, &work.wanted, how.into())
        .is_ok()
    {
        // Another CPU may have given it its own port meanwhile: whoever comes second sees the first.
        work.own = outside(work.wanted.address, work.inside.port, protocol);
        fence(work);
        let is_first = match MAPPINGS.get_ptr_mut(&work.own) {
            Some(mapping) => !leads_to(mapping, work),
            None => true,
        };
        if is_first {
            return Ok(());
        }
        let _gone = MAPPINGS.remove(&work.inside);
    }
    drop_outside(&work.outside, work.wanted.pool);
    Err(DropReason::PortsExhausted)
}

/// One more session holds the mapping. Otherwise it goes at this very moment; the packet will be sent again.
#[inline(always)]
fn join(mapping: *mut Mapping, now: u64) -> Result<()> {
    if !hold(mapping) {
        return Err(DropReason::PortsExhausted);
    }
    // SAFETY: the kernel keeps the entry valid while the program runs.
    unsafe { (*mapping).seen = now };
    Ok(())
}

/// True if the outside half of a mapping is of the packet's source, and of the external address it is to have.
#[inline(always)]
fn leads_to(mapping: *const Mapping, work: &Work) -> bool {
    // SAFETY: the kernel keeps the entry valid while the program runs.
    let mapping = unsafe { &*mapping };
    mapping.address == work.flow.key.source
        && mapping.port == work.flow.key.source_port
        && mapping.pool == work.wanted.pool
}

/// Makes a mapping to the port that the source has inside, if that is free (RFC 4787, 4.2.1). It needs no
/// inside half: who looks for it knows the port.
#[inline(always)]
fn keep_port(work: &mut Work) -> Result<bool> {
    let kind = port_kind(work.inside.protocol).ok_or(DropReason::Unsupported)?;
    let index = ports_index(work.wanted.pool, kind);
    let own = u32::from(work.inside.port.get());
    if own == ports::NONE || !ports::take_exactly(index, own) {
        return Ok(false);
    }
    if !put_outside(work, own) {
        ports::give_back(index, own);
        return Ok(false);
    }
    Ok(is_alone(work))
}

/// True if a mapping to the port that the source has inside is its only one; it is removed otherwise.
#[inline(always)]
fn is_alone(work: &mut Work) -> bool {
    fence(work);
    // The source may have another port, from when this one was in use, or from another CPU just now.
    // SAFETY: the value is only read.
    let has_other = unsafe { MAPPINGS.get(&work.inside) }
        .is_some_and(|known| known.address == work.wanted.address);
    if has_other {
        drop_outside(&work.outside, work.wanted.pool);
    }
    !has_other
}

/// What was inserted before is seen by whoever inserts something after this, or what they inserted is seen here.
#[inline(always)]
fn fence(work: &mut Work) {
    // SAFETY: the number is this CPU's.
    unsafe { atomic::add_and_get(&raw mut work.fence, 0) };
}

/// Takes a port and makes the mapping's outside half: the proof that nobody else has the port.
#[inline(always)]
fn make(work: &mut Work, now: u64) -> Result<Be16> {
    let protocol = work.inside.protocol;
    let kind = port_kind(protocol).ok_or(DropReason::Unsupported)?;
    let index = ports_index(work.wanted.pool, kind);
    let own = u32::from(work.inside.port.get());
    let mut port = ports::take_any(index, own);
    if port == ports::NONE && session::sweep(work, now) {
        port = ports::take_any(index, own);
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
    if !let_go(mapping) {
        return;
    }
    let inside = &session.keys[Direction::Egress as usize];
    // Only a mapping to another port has an inside half.
    if port != inside.source_port {
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

/// One more session holds the mapping, unless it is being removed.
#[inline(always)]
pub fn hold(mapping: *mut Mapping) -> bool {
    // SAFETY: the kernel keeps the entry valid while the program runs.
    unsafe { atomic::add_and_get(&raw mut (*mapping).references, 1) < REMOVED }
}

/// One session less holds the mapping. True if that was the last one: nobody can hold it from then on.
#[inline(always)]
fn let_go(mapping: *mut Mapping) -> bool {
    // SAFETY: as above.
    unsafe {
        let references = &raw mut (*mapping).references;
        atomic::add_and_get(references, -1) == 0
            && atomic::compare_exchange(references, 0, REMOVED) == 0
    }
}
