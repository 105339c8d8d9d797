//! The entry program of an interface: sets the port and jumps to the first program.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// Where an entry program leads, in one bank. Its read-only global `ENTRY` holds one for each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Entry {
    /// Slot of the first program in the bank's chain.
    pub slot: u32,
    /// The port at which the packet enters the standard cube it will reach.
    pub port: u32,
    /// `ENTRY_*`
    pub flags: u32,
}
assert_size!(Entry, 12);

/// Copies of packets of this topology come in here, and stay in their bank.
pub const ENTRY_INHERITS: u32 = 1;
/// Packets come in here that the cube gave away to wait, and that it counted then. Only on TC.
pub const ENTRY_RETURNS: u32 = 2;

/// The copies that come in here say themselves to which slot they go, and at which port they
/// enter the cube there: `slot` and `port` mean nothing. With [`ENTRY_INHERITS`]; only on TC.
pub const ENTRY_NOTED: u32 = 4;

/// What travels with a packet from program to program on XDP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Metadata {
    /// The port at which the packet enters the next standard cube.
    pub port: u32,
    /// The bank it stays in.
    pub bank: u32,
    /// What the cube that tracks connections noted last: see `firewall`. 0 for nothing.
    pub noted: u32,
}
assert_size!(Metadata, 12);

/// Says in a control block that the bank in its lowest bit was noted by an entry program: a copy
/// that comes to another entry program stays in it.
pub const BANK_MARK: u32 = 0x7063_6e00;
/// Beside the bank: the packet came in where [`ENTRY_RETURNS`] is set.
pub const RETURNS_MARK: u32 = 1 << 1;

/// Mark of a packet that a transparent cube has made as an answer, and that meets the programs of
/// its interface once more. Only the host's administrator can set one.
pub const ANSWER_MARK: u32 = 0x7063_6e01;
