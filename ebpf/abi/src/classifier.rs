//! Packet classification: lists of rules of which the first that matches decides. How they are
//! laid out in tables, and how a packet is looked up.
//!
//! The structure is a *tuple space* (Srinivasan, Suri and Varghese, SIGCOMM 1999) of few merged
//! tuples (Daly et al., "TupleMerge", IEEE/ACM ToN 2019). A tuple is a mask over the header: how
//! many bits of the addresses and ports are looked at, and whether the protocol is. What a rule
//! says of those bits is its key, and rules with the same key are looked at in the order of
//! their labels. Which bits a tuple leaves out is no loss: every rule that is looked at is compared in
//! full. Tuples are sorted by the first rule that each has, so the walk ends when no later one
//! can win.
//!
//! Keys are hashed to *lines* of the cache ([`Line`]), and what is compared of a rule is a line, too. So a tuple costs
//! one line, and a rule another one.
//!
//! All tables are there once per bank ([`chain`](crate::chain)): a packet stays in the bank it came
//! into, so it meets one set of rules from the first to the last.

mod header;
mod line;
mod search;

use bytemuck::{Pod, Zeroable};

pub use self::{
    header::{
        FACT_ICMP, FACT_PORTS, FACT_TCP, FACT_V6, Header, STATE_ESTABLISHED, STATE_INVALID,
        STATE_NEW, STATE_RELATED, STATE_UNTRACKED, WORDS, Words,
    },
    line::{Entry, LINE_RULES, Line, MAX_SLOTS, Mixed, PART_RULES, lines},
    search::{Found, STEPS, Search, Tables, lookup},
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
    /// Goes into the digest of every key, so that keys of other tuples, lists and families are different ones.
    pub seed: u64,
    /// Label of the first rule in the tuple; 0 for a tuple that is none: it is the last.
    pub best: u32,
    /// The same of the tuple behind it.
    pub next: u32,
    /// Zero.
    pub pad: u64,
}
assert_size!(Tuple, 64);

/// Value of the array `tuples`: those of one list and family, the one with the first rule first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TupleList {
    /// Lines of one bank, less one; they are a power of two.
    pub lines: u32,
    /// Zero.
    pub pad: [u32; 15],
    /// The tuples, then nothing.
    pub tuples: [Tuple; MAX_TUPLES],
}
assert_size!(TupleList, 2112);

/// Ports and ranges of ports of one rule, of both sides together.
pub const MAX_RANGES: usize = 16;

/// Value of the array `rules`: what a packet must have to match.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rule {
    /// What the bits that are compared must be; the others are zero.
    pub value: Words,
    /// Bits of the last word that are compared.
    pub rest: u64,
    /// What the cube keeps with the rule.
    pub data: u64,
    /// Bits of the source address that are compared, 0 to 128.
    pub source: u8,
    /// The same of the destination.
    pub destination: u8,
    /// Connection states that match, or'ed.
    pub states: u8,
    /// `NOT_*`, `*_SET` and [`FURTHER`].
    pub flags: u8,
    /// Zero.
    pub pad: u32,
}
assert_size!(Rule, 64);

/// Value of the array `further`, by slot: what the words of a rule with [`FURTHER`] do not say.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Further {
    /// The set the source must be in, if [`SOURCE_SET`].
    pub source_set: u32,
    /// The set the destination must be in, if [`DESTINATION_SET`].
    pub destination_set: u32,
    /// Which of `ranges` are for the source port, a bit each; none for any.
    pub source_ranges: u16,
    /// The same for the destination port.
    pub destination_ranges: u16,
    /// Zero.
    pub pad: u32,
    /// Ranges of ports.
    pub ranges: [Range; MAX_RANGES],
}
assert_size!(Further, 80);

/// The source must not be what the rule says.
pub const NOT_SOURCE: u8 = 1;
/// The destination must not be what the rule says.
pub const NOT_DESTINATION: u8 = 1 << 1;
/// The source is compared with a set.
pub const SOURCE_SET: u8 = 1 << 2;
/// The destination is compared with a set.
pub const DESTINATION_SET: u8 = 1 << 3;
/// The rule has sets or ranges, in `further`: the words do not say all.
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
/// the products do not wait for one another. [`Mixed`] mixes it.
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
