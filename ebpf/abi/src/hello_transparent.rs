//! Constants of `helloTransparent`, the transparent cube to copy.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// Read-only globals (`SETTINGS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Per direction: 1: drop; 0: pass.
    pub drop: [u32; 2],
}
assert_size!(Settings, 8);
