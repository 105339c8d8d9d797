//! Constants of the program that looks many addresses up: for tests and measurements.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// The constant `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// In which table: one of the constants below.
    pub table: u32,
    /// How many addresses.
    pub count: u32,
}
assert_size!(Settings, 8);

/// None: what is measured then is the rest.
pub const NOWHERE: u32 = 0;
/// `routes_v4`, a trie of the kernel.
pub const TRIE_V4: u32 = 1;
/// `routes_v6`, likewise.
pub const TRIE_V6: u32 = 2;
/// `fib_v4`
pub const FIB_V4: u32 = 3;
/// `fib_v6`
pub const FIB_V6: u32 = 4;
/// `dynamic_v4`
pub const DYNAMIC_V4: u32 = 5;
