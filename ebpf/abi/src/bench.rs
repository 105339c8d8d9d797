//! What the programs that measure share with user space: headers that are sent, frames that arrive.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// Bytes of a frame that the generator writes and the sink keeps: Ethernet, IPv4 and TCP headers, and a little more.
pub const FRAME: usize = 64;

/// Constants of the generator (`SETTINGS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Generator {
    /// Flows in the table `flows`, that take turns; at least 1.
    pub flows: u32,
    /// Where frames are sent; 0: to the program in slot 0 of `next`, of which the cost is measured.
    pub ifindex: u32,
    /// Where the checksum of layer 4 is, in bytes from the Ethernet header.
    pub checksum_offset: u32,
    /// Where the checksum of the IP header is; 0: it has none, as in IPv6.
    pub ip_checksum_offset: u32,
    /// Where the four bytes are by which source and destination addresses differ from flow to flow.
    pub address_offsets: [u32; 2],
    /// Where the ports are.
    pub port_offset: u32,
}
assert_size!(Generator, 28);

/// What differs from flow to flow; all of it in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowHeaders {
    /// Four bytes each of source and destination address: in IPv4 all of it.
    pub addresses: [u32; 2],
    /// Source and destination port.
    pub ports: u32,
    /// Checksum of the IPv4 header; 0 for IPv6.
    pub ip_checksum: u16,
    /// Checksum of layer 4; 0 for UDP without one.
    pub checksum: u16,
}
assert_size!(FlowHeaders, 16);

/// Constants of the program that does no more than what must be done (`SETTINGS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Bound {
    /// Where frames are sent; 0: they are dropped.
    pub ifindex: u32,
    /// What is done before: one of the constants below.
    pub work: u32,
}
assert_size!(Bound, 8);

/// Nothing.
pub const WORK_NONE: u32 = 0;
/// Ethernet and IPv4 headers are read, and an entry of an array.
pub const WORK_PARSE: u32 = 1;
/// A route is taken from the kernel's tables (`bpf_fib_lookup`), and the frame rewritten for its next hop.
pub const WORK_FIB: u32 = 2;
/// On TC: the frame goes to the other end of the veth pair at once (`bpf_redirect_peer`).
pub const WORK_PEER: u32 = 3;
/// What [`COUNTED_CUBES`] cubes in a row count is counted, in one program without a jump.
pub const WORK_COUNT: u32 = 4;
/// It jumps to the program in slot 0 of its table `next`, and nothing else.
pub const WORK_JUMP: u32 = 5;
/// Cubes of [`WORK_COUNT`].
pub const COUNTED_CUBES: u32 = 16;

/// One of the frames that arrived at a sink.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Kept {
    /// Not 0: the next frame is to be kept. The sink sets it to 0.
    pub wanted: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// Its first bytes.
    pub frame: [u8; FRAME],
}
assert_size!(Kept, 72);
