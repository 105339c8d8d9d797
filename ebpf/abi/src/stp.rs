//! Spanning tree: what the engine in user space and a bridge's program share.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// Instances of one bridge: the common one, and one each for some VLANs.
pub const STP_INSTANCES: u32 = 64;

/// One entry of the table `stp_ports`, indexed by port: what is set for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StpPort {
    /// Stands for the port and what it is linked to; not 0. A state belongs to one of these: the
    /// number of a port that is gone may be another one's by now.
    pub identity: u32,
    /// `STP_PORT_*`
    pub flags: u32,
}
assert_size!(StpPort, 8);

/// The port forwards until the protocol knows better.
pub const STP_PORT_EDGE: u32 = 1;

/// One entry of the learned table `stp_states`, indexed by [`stp_state`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StpState {
    /// [`StpPort::identity`] of the port it is about.
    pub identity: u32,
    /// One of the `STP_*` states.
    pub state: u32,
    /// Stations heard at the port until then are forgotten (IEEE 802.1D-2004, 17.11), in
    /// nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub flushed: u64,
}
assert_size!(StpState, 16);

/// Frames are dropped, and not learned from.
pub const STP_DISCARDING: u32 = 0;
/// Frames are dropped, and learned from.
pub const STP_LEARNING: u32 = 1;
/// Frames pass.
pub const STP_FORWARDING: u32 = 2;

/// Where the state of a port in an instance is.
pub const fn stp_state(port: u32, instance: u32) -> u32 {
    port * STP_INSTANCES + instance % STP_INSTANCES
}

/// VLANs for which the learned table `stp_instances` has an entry: the number of the instance, 0
/// for those that follow the common one.
pub const STP_VLANS: u32 = 4096;

/// Key of the learned tables `stp_bridges` (port 0) and `stp_roles`: what the engine knows. No
/// program reads them; they are for those who look, and for the next engine.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct StpKey {
    /// VLAN of the instance; 0 is the common one.
    pub vlan: u16,
    /// The cube's number of the port.
    pub port: u16,
}
assert_size!(StpKey, 4);

/// A priority vector (IEEE 802.1D-2004, 17.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StpVector {
    /// Identifier of the root, as in a BPDU.
    pub root: [u8; 8],
    /// Identifier of the bridge that says so, as in a BPDU.
    pub bridge: [u8; 8],
    /// Cost of its path to the root.
    pub cost: u32,
    /// Identifier of its port.
    pub port: u16,
    /// Padding.
    pub pad: u16,
}
assert_size!(StpVector, 24);

/// Times of the root, in seconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StpTimes {
    /// How old the information is.
    pub message_age: u16,
    /// The age at which it is no longer believed.
    pub max_age: u16,
    /// Between two messages.
    pub hello_time: u16,
    /// In each of the states listening and learning.
    pub forward_delay: u16,
}
assert_size!(StpTimes, 8);

/// Value of the learned table `stp_bridges`: an instance.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StpBridge {
    /// This bridge, as in a BPDU.
    pub id: [u8; 8],
    /// The root.
    pub root: [u8; 8],
    /// Cost of the path to it.
    pub cost: u32,
    /// The cube's number of the root port, or [`STP_NO_PORT`].
    pub root_port: u32,
    /// The times that count.
    pub times: StpTimes,
    /// Changes of the topology that this bridge found out by itself.
    pub changes: u64,
}
assert_size!(StpBridge, 40);

/// No port: this bridge is the root.
pub const STP_NO_PORT: u32 = u32::MAX;

/// Value of the learned table `stp_roles`: a port in an instance.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StpRole {
    /// [`StpPort::identity`] of the port.
    pub identity: u32,
    /// Cost of the path through it.
    pub cost: u32,
    /// One of the `STP_ROLE_*`.
    pub role: u32,
    /// `STP_IS_*`
    pub flags: u32,
    /// The best that was said on its link.
    pub designated: StpVector,
    /// The times that were said with it.
    pub times: StpTimes,
    /// The port's identifier.
    pub id: u16,
    /// One of the `STP_*` states.
    pub state: u16,
    /// Padding.
    pub pad: u32,
}
assert_size!(StpRole, 56);

/// The port is down, or disabled.
pub const STP_ROLE_DISABLED: u32 = 0;
/// The way to the root.
pub const STP_ROLE_ROOT: u32 = 1;
/// The way from the root.
pub const STP_ROLE_DESIGNATED: u32 = 2;
/// Another way to the root.
pub const STP_ROLE_ALTERNATE: u32 = 3;
/// Another way to where the bridge is designated already.
pub const STP_ROLE_BACKUP: u32 = 4;

/// The port leads to no bridge.
pub const STP_IS_EDGE: u32 = 1 << 0;
/// It speaks RSTP.
pub const STP_IS_RAPID: u32 = 1 << 1;
/// What is known was said by the other end.
pub const STP_IS_RECEIVED: u32 = 1 << 2;
/// The other end was told that it may forward.
pub const STP_IS_AGREED: u32 = 1 << 3;
/// A bridge was heard at a guarded port: it is disabled.
pub const STP_IS_GUARDED: u32 = 1 << 4;
/// The link does not work.
pub const STP_IS_DOWN: u32 = 1 << 5;

/// What is in front of a frame in the ring buffer `bpdus`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Bpdu {
    /// The port at which it came in.
    pub port: u32,
    /// The VLAN it came in on; 0 for the bridge group address, which is outside of VLANs.
    pub vlan: u32,
    /// Bytes of the frame that follow.
    pub length: u32,
}
assert_size!(Bpdu, 12);

/// Bytes of the ring buffer `bpdus`: some 120 messages.
pub const BPDU_BYTES: u32 = 64 << 10;
/// The same where there is no spanning tree: the smallest there is.
pub const NO_BPDU_BYTES: u32 = 4096;
/// Longer frames are none.
pub const BPDU_FRAME: usize = 512;
