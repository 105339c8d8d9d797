//! Tables in memory that data planes read: their writers. Forwarding tables, whose layout and lookup are in
//! [`ebpf_abi::fib`], and sets of prefixes that count ([`ebpf_abi::prefix_set`]).
//!
//! A writer knows what is in the memory and changes it word by word; whoever looks an address up
//! meanwhile finds the old route or the new one. There is one writer at a time. The memory is
//! passed to each call: it belongs to whoever has mapped it. Memory that is all zero is an empty
//! table.

mod block;
mod hash;
mod list;
mod prefix_set;
mod space;
#[cfg(test)]
mod tests;
mod trie;
mod v4;
mod v6;

use std::sync::atomic::AtomicU64;

pub use self::{
    prefix_set::{Prefix, PrefixSet, Prefixes},
    v4::{
        V4Writer, is_sound_v4, load_v4, lookup_v4, routes_v4, words_for_prefixes_v4, words_for_v4,
    },
    v6::{V6Writer, is_sound_v6, load_v6, lookup_v6, routes_v6, words_for_v6},
};

/// The memory of a table.
pub type Words = [AtomicU64];

/// There is no room in the memory for one more route or prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the table is full")
    }
}

impl std::error::Error for Full {}
