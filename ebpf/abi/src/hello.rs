//! Constants of `hello`, the standard cube to copy.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// Read-only globals (`SETTINGS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// 1: send to the other port; 0: drop.
    pub forward: u32,
    /// The ports' indices, when the cube has two.
    pub ports: [u32; 2],
}
assert_size!(Settings, 12);
