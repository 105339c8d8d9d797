//! ICMP errors: the packet that they quote is translated, too (RFC 5508, 4).
//!
//! What is quoted went the other way, through this NAT or up to it, so its reverse is a packet
//! of the error's direction. An error neither begins a session nor keeps one alive (REQ-6).

use ebpf_abi::{
    address::{Be16, V6},
    chain::Direction,
    checksum,
    flow::{DCCP, Flow, FlowKey, ICMP, ICMPV6, LATER, TCP, UDP, UDP_LITE},
    nat::{FEATURE_FAMILIES, FEATURE_PAIRS, FEATURE_PREFIX, Session, keyed},
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, DONE, answer},
    clock,
    flow::{self, offset},
};

use crate::{
    has, nat64, prefix, rule, session,
    translate::{self, replaced},
    work::{OTHER_FAMILY, Work, copy, result},
};

/// Translates an ICMP error.
#[inline(never)]
pub fn error<P: Packet>(packet: &P, work: &mut Work, direction: Direction) -> Answer {
    answer(try_error(packet, work, direction))
}

#[inline(always)]
fn try_error<P: Packet>(packet: &P, work: &mut Work, direction: Direction) -> Result<Answer> {
    result(read(packet, work))?;
    let (direction, session) = session_of_quoted(work, direction);
    if let Some(session) = session {
        // SAFETY: the kernel keeps the entry while the program runs.
        unsafe {
            copy(
                &mut work.reverse,
                &raw const (*session).keys[direction.other() as usize],
            )
        };
    } else {
        // The quoted packet, as it is on this side.
        // SAFETY: both are in the same entry, apart.
        unsafe { copy(&mut work.reverse, &raw const work.quoted.key) };
        let is_known = has(FEATURE_PAIRS) && nat64::pair_of_quoted(work)?
            || has(FEATURE_PREFIX) && prefix::translate(&mut work.reverse, direction)?;
        if !is_known {
            return rule::orphan(packet, work, direction);
        }
    }
    if has(FEATURE_FAMILIES) && nat64::is_other(&work.quoted, &work.reverse) {
        return Ok(OTHER_FAMILY);
    }
    result(translate(packet, work))
}

/// The session of the packet that is quoted, and the side that the error is on.
#[inline(always)]
fn session_of_quoted(work: &mut Work, direction: Direction) -> (Direction, Option<*mut Session>) {
    let now = clock::now();
    work.reverse = keyed(work.quoted.key.reversed(), direction);
    let session = session::peek(&work.reverse, now);
    if !has(FEATURE_FAMILIES)
        || session.is_some()
        || direction == Direction::Ingress
        || work.flow.family == 6
    {
        return (direction, session);
    }
    // What a router next to the cube says of an IPv4 packet that was an IPv6 packet goes back where
    // that came from.
    work.reverse.padding[0] = Direction::Ingress as u8;
    let session = session::peek(&work.reverse, now);
    (Direction::Ingress, session)
}

/// Reads what is quoted. A function of its own, as in `main`.
#[inline(never)]
fn read<P: Packet>(packet: &P, work: &mut Work) -> Answer {
    answer(flow::read_quoted(packet, &work.flow, &mut work.quoted).map(|()| DONE))
}

#[inline(never)]
fn translate<P: Packet>(packet: &P, work: &Work) -> Answer {
    answer(try_translate(packet, &work.flow, &work.quoted, &work.reverse).map(|()| DONE))
}

/// Makes the quoted packet the one that its sender knows, and sends the error to that.
#[inline(always)]
fn try_translate<P: Packet>(
    packet: &P,
    error: &Flow,
    quoted: &Flow,
    known_as: &FlowKey,
) -> Result<()> {
    // Who reports is mostly a router in between. Inside, it may have an address that means
    // nothing outside: then it is the NAT's (RFC 5508, REQ-5; as Linux does).
    let source = reporter(error, quoted, known_as);
    let headers = translate::addresses(packet, error, source, known_as.source)?;
    let data = quotation(packet, quoted, known_as)?;
    let at = offset(error.transport) + 2;
    let pseudo = if error.family == 6 { headers } else { 0 };
    translate::update(packet, error, at, pseudo, data)
}

#[inline(always)]
fn reporter(error: &Flow, quoted: &Flow, known_as: &FlowKey) -> V6 {
    let is_target = error.key.source == quoted.key.destination;
    if is_target || error.key.padding[0] == Direction::Egress as u8 {
        known_as.destination
    } else {
        error.key.source
    }
}

/// Translates what is quoted; what that makes of a sum over all of it.
#[inline(always)]
fn quotation<P: Packet>(packet: &P, quoted: &Flow, known_as: &FlowKey) -> Result<u64> {
    let network = offset(quoted.network);
    let header = |packet: &P| packet.load::<Be16>(network + 10);
    let before = if quoted.family == 4 {
        header(packet)?
    } else {
        Be16::default()
    };
    let addresses = translate::addresses(packet, quoted, known_as.source, known_as.destination)?;
    let mut sum = addresses;
    if quoted.family == 4 {
        sum += replaced(before, header(packet)?);
    }
    if quoted.fragment == LATER {
        return Ok(sum);
    }
    let transport = offset(quoted.transport);
    let covered = addresses;
    let (at, covered, ports) = match quoted.key.protocol {
        TCP => (16, covered, replace_ports(packet, transport, known_as)?),
        UDP => (6, covered, replace_ports(packet, transport, known_as)?),
        DCCP | UDP_LITE => (6, covered, 0),
        ICMP => (2, 0, replace_identifier(packet, quoted, known_as)?),
        ICMPV6 => (2, covered, replace_identifier(packet, quoted, known_as)?),
        _ => return Ok(sum),
    };
    sum += ports;
    // What is quoted may end in front of TCP's checksum, and UDP may have none.
    let Ok(old) = packet.load::<Be16>(transport + at) else {
        return Ok(sum);
    };
    if quoted.key.protocol == UDP && old.word() == 0 {
        return Ok(sum);
    }
    let new = checksum::finish(u64::from(!old.word()) + covered + ports);
    packet.store(transport + at, new)?;
    Ok(sum + replaced(old, new))
}

#[inline(always)]
fn replace_ports<P: Packet>(packet: &P, transport: usize, known_as: &FlowKey) -> Result<u64> {
    let old = packet.load::<[Be16; 2]>(transport)?;
    let new = [known_as.source_port, known_as.destination_port];
    packet.store(transport, new)?;
    Ok(replaced(old[0], new[0]) + replaced(old[1], new[1]))
}

#[inline(always)]
fn replace_identifier<P: Packet>(packet: &P, quoted: &Flow, known_as: &FlowKey) -> Result<u64> {
    let at = offset(quoted.transport) + 4;
    // Only queries have one.
    if quoted.key.source_port == known_as.source_port {
        return Ok(0);
    }
    let old = packet.load::<Be16>(at)?;
    packet.store(at, known_as.source_port)?;
    Ok(replaced(old, known_as.source_port))
}
