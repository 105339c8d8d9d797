//! What every transparent program is specialised with.

use bytemuck::{Pod, Zeroable};

use crate::{assert_size, port::Hop};

/// Read-only globals of a transparent program (`ATTACHMENT`): one program per attachment,
/// direction and hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Attachment {
    /// A [`Direction`](crate::chain::Direction).
    pub direction: u32,
    /// Index into the table `counters`.
    pub counter: u32,
    /// Slot of the next program, when `hop` is a program.
    pub slot: u32,
    /// What follows when the packet passes. The port in it is not used: the packet keeps the
    /// one it carries.
    pub hop: Hop,
}
assert_size!(Attachment, 24);

/// Read-only global of a transparent program (`TURN`) for packets that leave: where those turn round that are for
/// the side they came from.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Turn {
    /// 1 if they do.
    pub on: u32,
    /// Slot of the cube's program for packets that come in there.
    pub slot: u32,
    /// The port at which they enter the standard cube again.
    pub port: u32,
}
assert_size!(Turn, 12);

/// Index into `counters` of an attachment's direction.
pub const fn counter_index(attachment: u32, direction: crate::chain::Direction) -> u32 {
    attachment * 2 + direction as u32
}
