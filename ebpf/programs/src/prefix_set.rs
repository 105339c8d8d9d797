//! Sets of prefixes that count ([`ebpf_abi::prefix_set`]) in arrays that user space maps.

use core::ptr::read_volatile;

use aya_ebpf::{helpers::bpf_get_smp_processor_id, maps::Array};
use ebpf_abi::prefix_set::{self, Address, BUCKET, OWN, Shape};

use crate::atomic;

/// The buckets of a set.
pub type PrefixSet = Array<[u64; BUCKET as usize]>;

/// A bucket of a set that the program has.
#[derive(Clone, Copy)]
pub struct Bucket(*mut u64);

impl Bucket {
    /// One of the buckets of all copies.
    #[inline(always)]
    pub fn of(set: &'static PrefixSet, index: u32) -> Option<Self> {
        set.get_ptr_mut(index).map(|words| Self(words.cast()))
    }

    /// Counts for the prefix whose counters begin at this word.
    #[inline(always)]
    pub fn count<A: Address>(self, shape: Shape, hits: u64, packets: u64, bytes: u64) {
        // SAFETY: the kernel keeps the array while the program runs; the mask keeps both words inside the bucket. Nobody else
        // counts in a CPU's own copy: programs do not nest.
        unsafe {
            let hits = self.0.add((hits & 6) as usize);
            if A::APART && shape.copies != 0 && cpu() < OWN {
                *hits += packets;
                *hits.add(1) += bytes;
            } else {
                atomic::add(hits, packets as i64);
                atomic::add(hits.add(1), bytes as i64);
            }
        }
    }
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: it only tells which CPU this is.
    unsafe { bpf_get_smp_processor_id() as u32 }
}

/// Where the copy begins that this CPU counts in, in buckets.
#[inline(always)]
pub fn copy(shape: Shape) -> u32 {
    if shape.copies == 0 {
        return 0;
    }
    let cpu = cpu();
    let shared = 1 - is_zero((cpu / OWN).into()) as u32;
    shape.copy(shared * OWN + cpu % OWN)
}

/// 1 for 0, and 0 for other numbers below 2^63.
#[inline(always)]
fn is_zero(mut number: u64) -> u64 {
    // SAFETY: changes nothing but its register.
    unsafe {
        core::arch::asm!(
            "{number} += -1",
            "{number} >>= 63",
            number = inout(reg) number,
            options(pure, nomem, nostack),
        );
    }
    number
}

impl prefix_set::Bucket for Bucket {
    #[inline(always)]
    fn word(self, index: u32) -> u64 {
        // SAFETY: the kernel keeps the array while the program runs; the lookup asks for words of the bucket only.
        unsafe { read_volatile(self.0.add(index as usize)) }
    }

    #[inline(always)]
    fn is_zero(self, number: u64) -> u64 {
        is_zero(number)
    }
}
