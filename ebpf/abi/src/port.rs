//! The port table: for each port of a standard cube, where a packet sent to it goes.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// Where a packet goes next.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hop {
    /// One of the `HOP_*` constants.
    pub kind: u32,
    /// Interface index for [`HOP_INTERFACE`] and [`HOP_PEER`], else 0.
    pub ifindex: u32,
    /// The port at which the packet enters the next standard cube, for [`HOP_PROGRAM`].
    pub port: u32,
}
assert_size!(Hop, 12);

/// The port leads nowhere: packets sent to it are dropped and counted.
pub const HOP_NONE: u32 = 0;
/// The next program is in the chain slot that belongs to this hop.
pub const HOP_PROGRAM: u32 = 1;
/// Transmit on the interface.
pub const HOP_INTERFACE: u32 = 2;
/// Deliver to the peer of the veth interface, which is in another network namespace
/// (`bpf_redirect_peer`, Linux 5.10). On XDP the same as [`HOP_INTERFACE`].
pub const HOP_PEER: u32 = 3;
/// Continue to the host's stack (ingress) or to the wire (egress).
pub const HOP_PASS: u32 = 4;

/// One entry of the table `ports`, indexed by port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Port {
    /// Where packets sent to the port go.
    pub hop: Hop,
    /// `PORT_*` flags, and in [`PORT_BEHIND`] what is behind the port.
    pub flags: u32,
    /// Interface that brings a frame to this port's peer from its ingress hook: used when a
    /// frame must be copied to a program. 0 when there is none.
    pub flood_ifindex: u32,
    /// Interface that brings a frame received on this port on XDP to the same cube on TC.
    /// 0 when there is none.
    pub handover_ifindex: u32,
}
assert_size!(Port, 24);

/// Frames between two isolated ports of a bridge are dropped.
pub const PORT_ISOLATED: u32 = 1 << 0;
/// The port can only be reached on TC: XDP hands frames for it over.
pub const PORT_VIA_TC: u32 = 1 << 1;
/// Behind the port of a bridge is a multicast router, whether it is heard or not.
pub const PORT_MULTICAST_ROUTER: u32 = 1 << 2;
/// The bits that say what is behind a port of a cube that learns: a hash of the ends of the
/// network that the topology has there, 0 for nothing. Where a station was heard is no answer any
/// more once this is another one.
pub const PORT_BEHIND: u32 = 0xffff_0000;

/// The bits [`PORT_BEHIND`] for a hash.
pub const fn behind(hash: u16) -> u32 {
    (hash as u32) << PORT_BEHIND.trailing_zeros()
}
