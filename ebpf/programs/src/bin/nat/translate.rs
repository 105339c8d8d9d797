//! Writing other addresses and ports into a packet.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::bpf_l4_csum_replace,
};
use ebpf_abi::{
    address::{Be16, V4, V6},
    checksum,
    flow::{DCCP, Flow, FlowKey, ICMP, ICMPV6, LATER, TCP, UDP, UDP_LITE, unmapped},
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, DONE, answer},
    flow::offset,
};

/// The L4 checksum is one over IPv6: `skb->csum` is right already, as nothing in front of it
/// changes with the addresses (`BPF_F_IPV6`, Linux 6.16).
const BPF_F_IPV6: u64 = 1 << 7;

/// Gives a packet the addresses and ports of the flow that `reverse` is the other direction of.
#[inline(never)]
pub fn rewrite<P: Packet>(packet: &P, flow: &Flow, reverse: &FlowKey) -> Answer {
    answer(try_rewrite(packet, flow, reverse).map(|()| DONE))
}

#[inline(always)]
fn try_rewrite<P: Packet>(packet: &P, flow: &Flow, reverse: &FlowKey) -> Result<()> {
    let addresses = addresses(packet, flow, reverse.destination, reverse.source)?;
    if flow.fragment == LATER {
        return Ok(());
    }
    let transport = offset(flow.transport);
    match flow.key.protocol {
        TCP | UDP => {
            let ports = packet.load::<[Be16; 2]>(transport)?;
            let new = [reverse.destination_port, reverse.source_port];
            let difference = replaced(ports[0], new[0]) + replaced(ports[1], new[1]);
            if difference != NOTHING + NOTHING {
                packet.store(transport, new)?;
            }
            let is_udp = flow.key.protocol == UDP;
            let at = transport + if is_udp { 6 } else { 16 };
            update(packet, flow, at, addresses, difference)
        }
        ICMP if flow.family == 4 => {
            let difference = identifier(packet, flow, reverse)?;
            update(packet, flow, transport + 2, 0, difference)
        }
        ICMPV6 if flow.family == 6 => {
            let difference = identifier(packet, flow, reverse)?;
            update(packet, flow, transport + 2, addresses, difference)
        }
        // Their ports stay, but their checksums cover addresses (RFC 3828, 3.1; RFC 4340, 9.1).
        DCCP | UDP_LITE => update(packet, flow, transport + 6, addresses, 0),
        _ => Ok(()),
    }
}

/// What replacing a word by itself makes of a sum: one of the two zeros.
const NOTHING: u64 = 0xffff;

/// What replacing a word makes of a sum (RFC 1624, 3).
#[inline(always)]
pub fn replaced(old: Be16, new: Be16) -> u64 {
    u64::from(!old.word()) + u64::from(new.word())
}

#[inline(always)]
fn replaced_v4(old: V4, new: V4) -> u64 {
    u64::from(!old.0) + u64::from(new.0)
}

#[inline(always)]
fn replaced_v6(old: V6, new: V6) -> u64 {
    let V6([a, b, c, d]) = old;
    checksum::add_v6(checksum::add_v6(0, V6([!a, !b, !c, !d])), new)
}

/// Writes other addresses into an IP header, and what that makes of sums over them.
#[inline(always)]
pub fn addresses<P: Packet>(packet: &P, flow: &Flow, source: V6, destination: V6) -> Result<u64> {
    let network = offset(flow.network);
    if flow.family == 4 {
        let (checksum_at, addresses_at) = (network + 10, network + 12);
        let old = packet.load::<[V4; 2]>(addresses_at)?;
        let new = [unmapped(source), unmapped(destination)];
        packet.store(addresses_at, new)?;
        let difference = replaced_v4(old[0], new[0]) + replaced_v4(old[1], new[1]);
        let checksum = packet.load::<Be16>(checksum_at)?;
        let checksum = checksum::finish(u64::from(!checksum.word()) + difference);
        packet.store(checksum_at, checksum)?;
        return Ok(difference);
    }
    let (source_at, destination_at) = (network + 8, network + 24);
    let mut difference = replaced_v6(packet.load(source_at)?, source);
    packet.store(source_at, source)?;
    difference += replaced_v6(packet.load(destination_at)?, destination);
    packet.store(destination_at, destination)?;
    Ok(difference)
}

/// Writes the identifier of an ICMP query, and what that makes of sums over it.
#[inline(always)]
fn identifier<P: Packet>(packet: &P, flow: &Flow, reverse: &FlowKey) -> Result<u64> {
    let at = offset(flow.transport) + 4;
    let old = packet.load::<Be16>(at)?;
    let new = reverse.source_port;
    // Messages without an identifier have no session with one.
    if flow.key.source_port != new {
        packet.store(at, new)?;
        return Ok(replaced(old, new));
    }
    Ok(0)
}

/// Updates a transport checksum: what a sender left for later, in a packet on TC, is the sum over
/// addresses alone, not complemented; the kernel knows.
#[inline(always)]
pub fn update<P: Packet>(
    packet: &P,
    flow: &Flow,
    at: usize,
    addresses: u64,
    data: u64,
) -> Result<()> {
    let (is_udp, is_v6) = (flow.key.protocol == UDP, flow.family == 6);
    update_checksum(packet, (is_udp, is_v6), at, addresses, data)
}

/// The same, of a packet whose headers are others by now.
#[inline(always)]
pub fn update_checksum<P: Packet>(
    packet: &P,
    (is_udp, is_v6): (bool, bool),
    at: usize,
    addresses: u64,
    data: u64,
) -> Result<()> {
    // In UDP over IPv4 zero means that there is none (RFC 768), and what sums to zero is sent as
    // ones.
    let may_be_none = is_udp;
    if let Some(tc) = packet.as_tc() {
        let mangled = if may_be_none {
            u64::from(BPF_F_MARK_MANGLED_0)
        } else {
            0
        };
        let pseudo = mangled | u64::from(BPF_F_PSEUDO_HDR);
        let (skb, at) = (tc.skb(), at as u32);
        // SAFETY: the context the kernel called the program with; the helper checks the offset.
        unsafe {
            if addresses != 0 {
                let difference = fold_32(addresses);
                // Before Linux 6.16 there is no such flag, and the kernel sums again.
                if !is_v6 || bpf_l4_csum_replace(skb, at, 0, difference, pseudo | BPF_F_IPV6) != 0 {
                    bpf_l4_csum_replace(skb, at, 0, difference, pseudo);
                }
            }
            if data != 0 {
                bpf_l4_csum_replace(skb, at, 0, fold_32(data), mangled);
            }
        }
        return Ok(());
    }
    let old = packet.load::<Be16>(at)?;
    if may_be_none && old.word() == 0 {
        return Ok(());
    }
    let new = checksum::finish(u64::from(!old.word()) + addresses + data);
    let is_zero = may_be_none && new.word() == 0;
    packet.store(at, if is_zero { Be16::from_word(!0) } else { new })
}

/// Folds a sum into 32 bits, as the kernel has them.
#[inline(always)]
fn fold_32(sum: u64) -> u64 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    (sum & 0xffff_ffff) + (sum >> 32)
}
