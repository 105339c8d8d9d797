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

/// Index into `counters` of an attachment's direction.
pub const fn counter_index(attachment: u32, direction: crate::chain::Direction) -> u32 {
    attachment * 2 + direction as u32
}
