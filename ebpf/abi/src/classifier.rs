//! Packet classification: lists of rules of which the first that matches decides. How they are
//! laid out in tables, and how a packet is looked up.
//!
//! The structure is a *tuple space* (Srinivasan, Suri and Varghese, SIGCOMM 1999) of few merged
//! tuples (Daly et al., "TupleMerge", IEEE/ACM ToN 2019). A tuple is a mask over the header: how
//! many bits of the addresses and ports are looked at, and whether the protocol is. What a rule
//! says of those bits is its key, and rules with the same key share a *bucket*, in the order of
//! their labels. Which bits a tuple leaves out is no loss: every rule of a bucket is compared in
//! full. Tuples are sorted by the first rule that each has, so the walk ends when no later one
//! can win.
//!
//! All tables are there once per bank ([`chain`](crate::chain)): a packet stays in the bank it came
//! into, so it meets one set of rules from the first to the last.

mod header;
mod search;

use bytemuck::{Pod, Zeroable};

pub use self::{
    header::{
        FACT_ICMP, FACT_PORTS, FACT_TCP, FACT_V6, Header, STATE_ESTABLISHED, STATE_INVALID,
        STATE_NEW, STATE_RELATED, STATE_UNTRACKED, WORDS, Words,
    },
    search::{STEPS, Search, Tables, lookup},
};
use crate::assert_size;

/// What a lookup says if no rule matches.
pub const NO_RULE: u32 = u32::MAX;

/// Rules for packets that come in ([`chain::Direction`](crate::chain::Direction)).
pub const LIST_INGRESS: u32 = 0;
/// Rules for packets that leave.
pub const LIST_EGRESS: u32 = 1;
/// Lists there are.
pub const LISTS: u32 = 2;

/// Entries of the table `tuples` in one bank: each list has one for each family.
pub const TUPLE_LISTS: u32 = LISTS * 2;

/// Index in `tuples` before the bank: the tuples of a list for packets of one family.
#[inline(always)]
pub const fn tuple_list(list: u32, v6: bool) -> u32 {
    list * 2 + v6 as u32
}

/// Tuples that a list has for a family, at most.
pub const MAX_TUPLES: usize = 32;

/// A tuple: the bits of the header that are its key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tuple {
    /// The bits, in each word of the header.
    pub mask: [u64; WORDS],
    /// Goes into the digest of every key, so that keys of other tuples are different ones.
    pub seed: u64,
    /// Label of the first rule in the tuple; 0 for a tuple that is none: it is the last.
    pub best: u32,
    /// Lines of `filter` in one bank, less one; they are a power of two.
    pub filter: u32,
}
assert_size!(Tuple, 56);

/// Value of the array `tuples`: those of one list and family, the one with the first rule first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TupleList {
    /// Zero. It is read from here so that the verifier does not know it: it would follow what
    /// begins with it through every tuple.
    pub zero: u64,
    /// The tuples, then nothing.
    pub tuples: [Tuple; MAX_TUPLES],
}
assert_size!(TupleList, 1800);

/// Value of the array `filter`: which keys may be in `buckets`, a bit each. Most keys of a packet
/// are in no tuple, and this says so for a word that the cache has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FilterLine {
    /// The bits, as [`FilterBit`] says.
    pub bits: [u64; 8],
}
assert_size!(FilterLine, 64);

/// Where a key's bit is in `filter`.
#[derive(Clone, Copy, Debug)]
pub struct FilterBit {
    /// The line, before the bank.
    pub line: u32,
    /// The word of the line.
    pub word: u32,
    /// The bit of the word.
    pub bit: u32,
}

impl FilterBit {
    /// Of a digest, in a filter with this many lines less one.
    #[inline(always)]
    pub const fn new(digest: u64, mask: u32) -> Self {
        let mixed = (digest ^ digest >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Self {
            line: mixed as u32 & mask,
            word: (mixed >> 29) as u32,
            bit: (mixed >> 23) as u32 & 63,
        }
    }
}

/// Lines of the filter in one bank, for a table with room for this many buckets, which is a power
/// of two: 16 bits for each.
pub const fn filter_lines(buckets: u32) -> u32 {
    let lines = buckets / 32;
    if lines == 0 { 1 } else { lines }
}

/// Key of the hash `buckets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct BucketKey {
    /// Stands for the tuple and the bits of the header. Two of them may meet in one digest: their
    /// rules are then in one bucket, and nothing else happens.
    pub digest: u64,
    /// A bucket may have several parts, from 0 on.
    pub part: u32,
    /// List, family and bank: the index in `tuples`.
    pub place: u32,
}
assert_size!(BucketKey, 16);

/// Rules of one part of a bucket.
pub const BUCKET_RULES: usize = 4;

/// Value of the hash `buckets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Bucket {
    /// By label.
    pub entries: [Entry; BUCKET_RULES],
    /// 1 if there is another part.
    pub more: u32,
    /// Zero.
    pub pad: u32,
}
assert_size!(Bucket, 40);

/// A rule in a bucket: one word, so that it is copied as one.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Entry(pub u64);

impl Entry {
    /// From where the rule is in its list, relative to others (the lowest label wins; from 1 on; 0 is
    /// no entry), and its slot, its index in `rules` before the bank.
    pub const fn new(label: u32, rule: u32) -> Self {
        Self(label as u64 | (rule as u64) << 32)
    }

    /// The label; 0 for no entry.
    #[inline(always)]
    pub const fn label(self) -> u32 {
        self.0 as u32
    }

    /// The slot.
    #[inline(always)]
    pub const fn rule(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Ports and ranges of ports of one rule, of both sides together.
pub const MAX_RANGES: usize = 16;

/// Value of the array `rules`: what a packet must have to match.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rule {
    /// What the bits of `mask` must be.
    pub value: Words,
    /// Bits of the header that are compared.
    pub mask: Words,
    /// The set the source must be in, if [`SOURCE_SET`].
    pub source_set: u32,
    /// The set the destination must be in, if [`DESTINATION_SET`].
    pub destination_set: u32,
    /// Which of `ranges` are for the source port, a bit each; none for any.
    pub source_ranges: u16,
    /// The same for the destination port.
    pub destination_ranges: u16,
    /// Connection states that match, or'ed.
    pub states: u8,
    /// `NOT_*`, `*_SET` and [`FURTHER`].
    pub flags: u8,
    /// Zero.
    pub pad: u16,
    /// Ranges of ports.
    pub ranges: [Range; MAX_RANGES],
}
assert_size!(Rule, 160);

/// The source must not be what the rule says.
pub const NOT_SOURCE: u8 = 1;
/// The destination must not be what the rule says.
pub const NOT_DESTINATION: u8 = 1 << 1;
/// The source is compared with a set.
pub const SOURCE_SET: u8 = 1 << 2;
/// The destination is compared with a set.
pub const DESTINATION_SET: u8 = 1 << 3;
/// The rule has sets or ranges: the words do not say all.
pub const FURTHER: u8 = 1 << 4;

/// Ports from `first` to `last`, both included, in the machine's byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Range {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}
assert_size!(Range, 4);

impl Range {
    /// True if the port is in the range.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// The same as a bit. Without a branch: each would be one way more for the verifier.
    #[inline(always)]
    const fn bit(self, port: u16) -> u32 {
        let from_first = port.wrapping_sub(self.first) as u32;
        let length = self.last.wrapping_sub(self.first) as u32;
        // Borrows from bit 16 if the port is behind the end.
        ((length + (1 << 16) - from_first) >> 16) & 1
    }
}

/// The digest of a key: of the bits of a header, or of a rule, that a tuple looks at.
///
/// A sum of products with odd constants: keys that differ in one word have different digests, and
/// the products do not wait for one another. The kernel's hash mixes it.
#[inline(always)]
pub const fn digest(seed: u64, mask: &[u64; WORDS], words: &[u64; WORDS]) -> u64 {
    (words[0] & mask[0])
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((words[1] & mask[1]).wrapping_mul(0xbf58_476d_1ce4_e5b9))
        .wrapping_add((words[2] & mask[2]).wrapping_mul(0x94d0_49bb_1331_11eb))
        .wrapping_add((words[3] & mask[3]).wrapping_mul(0xd6e8_feb8_6659_fd93))
        .wrapping_add((words[4] & mask[4]).wrapping_mul(0xa076_1d64_78bd_642f))
        .wrapping_add(seed)
}
