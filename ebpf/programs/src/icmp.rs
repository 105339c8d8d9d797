//! What ICMP and ICMPv6 errors have in common: they are made from the packet they are about.

use aya_ebpf::{helpers::bpf_csum_diff, maps::PerCpuArray};
use ebpf_abi::{
    address::Be16,
    checksum,
    counters::DropReason,
    router::{ICMP_BURST, ICMP_RATE, IcmpBudget, QUOTE_V6},
};

use crate::{Packet, Result, clock, packet::bounded, wire::Icmp};

/// Bytes in which the kernel sums what an error quotes. More than any quotation, and a power of
/// two so that a mask keeps offsets inside.
const SCRATCH: usize = 2048;

/// Where it does. A cube that makes errors declares one with the name `scratch` and one entry.
pub type Scratch = PerCpuArray<[u8; SCRATCH]>;

/// How many errors may still be sent. A cube that makes errors declares one with the name
/// `icmp_budget` and one entry.
pub type Budget = PerCpuArray<IcmpBudget>;

/// The sum over a header.
#[inline(always)]
pub fn icmp_sum(icmp: &Icmp) -> u64 {
    let [high, low] = icmp.rest;
    let sum = u64::from(Be16::new(u16::from_be_bytes([icmp.kind, icmp.code])).word());
    checksum::add16(checksum::add16(sum, high), low)
}

/// The header of an error: what a kind does not use of the second word is zero, and an MTU is
/// in its lower half, `rest` (RFC 1191, 4; RFC 4443, 3.2).
#[inline(always)]
pub fn header(kind: u8, code: u8, rest: u16) -> Icmp {
    Icmp {
        kind,
        code,
        checksum: Be16::default(),
        rest: [Be16::default(), Be16::new(rest)],
    }
}

/// Bytes of the packet that an error quotes: not the padding of its frame.
#[inline(always)]
pub fn quoted_length(length: u32, limit: usize) -> u32 {
    if length > limit as u32 {
        limit as u32
    } else {
        length
    }
}

/// The sum over `length` bytes from `offset`.
#[inline(always)]
pub fn quotation_sum<P: Packet>(
    scratch: &Scratch,
    packet: &P,
    offset: usize,
    length: u32,
) -> Result<u64> {
    if length > QUOTE_V6 as u32 {
        return Err(DropReason::Malformed);
    }
    sum(scratch, packet, offset, length)
}

/// The same of what is no quotation: 2048 bytes at most.
#[inline(always)]
pub fn sum<P: Packet>(scratch: &Scratch, packet: &P, offset: usize, length: u32) -> Result<u64> {
    let scratch: *mut u8 = scratch.get_ptr_mut(0).ok_or(DropReason::NoMemory)?.cast();
    if length == 0 || length > SCRATCH as u32 {
        return Err(DropReason::Malformed);
    }
    let length = bounded::<{ SCRATCH as u32 }>(length);
    // SAFETY: nothing is beyond SCRATCH bytes. The kernel sums words, so what is behind the last byte
    // in its word must be zero.
    unsafe {
        scratch
            .add(((length - 1) & !3) as usize)
            .cast::<u32>()
            .write(0);
        packet.copy_out(offset as u32, scratch, length)?;
        let words = ((length - 1) & !3) + 4;
        let sum = bpf_csum_diff(core::ptr::null_mut(), 0, scratch.cast(), words, 0);
        if sum < 0 {
            return Err(DropReason::NoMemory);
        }
        Ok(sum as u32 as u64)
    }
}

/// Takes a token, or says that there is none (RFC 1812, 4.3.2.8; RFC 4443, 2.4 f).
#[inline(always)]
pub fn spend(budget: &Budget) -> Result<()> {
    const NANOSECONDS: u64 = 1_000_000_000;
    let budget = budget.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    let now = clock::now();
    // SAFETY: the entry belongs to this CPU.
    unsafe {
        let elapsed = now - (*budget).refilled;
        let earned = if elapsed > NANOSECONDS {
            ICMP_BURST
        } else {
            elapsed * ICMP_RATE / NANOSECONDS
        };
        if earned > 0 {
            let tokens = (*budget).tokens + earned;
            (*budget).tokens = if tokens > ICMP_BURST {
                ICMP_BURST
            } else {
                tokens
            };
            (*budget).refilled = now;
        }
        if (*budget).tokens == 0 {
            return Err(DropReason::RateLimited);
        }
        (*budget).tokens -= 1;
    }
    Ok(())
}
