//! Constants of the program that classifies many headers: for tests and measurements.

use bytemuck::{Pod, Zeroable};

use crate::{address::V6, assert_size};

/// The constant `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// In which list; [`NOWHERE`]: none, what is measured then is the rest.
    pub list: u32,
    /// In which bank.
    pub bank: u32,
    /// How many headers.
    pub count: u32,
}
assert_size!(Settings, 12);

/// No list.
pub const NOWHERE: u32 = u32::MAX;

/// Key of the trie `sets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct SetKey {
    /// Prefix length in bits, with those of `set`.
    pub length: u32,
    /// The set.
    pub set: u32,
    /// The network's address.
    pub address: V6,
}
assert_size!(SetKey, 24);
