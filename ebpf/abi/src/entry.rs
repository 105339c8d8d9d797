//! The entry program of an interface: sets the port and jumps to the first program.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// Read-only globals of an entry program (`ENTRY`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Entry {
    /// Slot of the first program in the chain the entry was loaded with.
    pub slot: u32,
    /// The port at which the packet enters the standard cube it will reach.
    pub port: u32,
}
assert_size!(Entry, 8);
