//! What of a packet rules can ask for, in words that are masked and compared at once.

use bytemuck::{Pod, Zeroable};

use crate::{address::V6, assert_size};

/// Words of a header.
pub const WORDS: usize = 5;

/// The addresses in two words each, as they are in memory, and everything else in the last
/// ([`Header::words`]).
pub type Words = [u64; WORDS];

/// The packet is IPv6.
pub const FACT_V6: u8 = 1;
/// Its ports are known: the protocol has some, and it is no later fragment.
pub const FACT_PORTS: u8 = 1 << 1;
/// Its ICMP or ICMPv6 type and code are known.
pub const FACT_ICMP: u8 = 1 << 2;
/// Its TCP flags are known.
pub const FACT_TCP: u8 = 1 << 3;

/// The packet begins a connection.
pub const STATE_NEW: u8 = 1;
/// It belongs to a connection that has been answered.
pub const STATE_ESTABLISHED: u8 = 1 << 1;
/// It is about a connection: an ICMP error.
pub const STATE_RELATED: u8 = 1 << 2;
/// It fits no connection and cannot begin one.
pub const STATE_INVALID: u8 = 1 << 3;
/// Connections are not tracked.
pub const STATE_UNTRACKED: u8 = 1 << 4;

/// What of a packet rules can ask for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Header {
    /// Source address; IPv4 as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
    pub source: V6,
    /// Destination address, likewise.
    pub destination: V6,
    /// In the machine's byte order; 0 without [`FACT_PORTS`].
    pub source_port: u16,
    /// In the machine's byte order. With [`FACT_ICMP`], the type in the high byte and the code in
    /// the low one; 0 otherwise without [`FACT_PORTS`].
    pub destination_port: u16,
    /// Protocol number behind the extension headers.
    pub protocol: u8,
    /// Flags as in the header (RFC 9293, 3.1); 0 without [`FACT_TCP`].
    pub tcp_flags: u8,
    /// One of `STATE_*`.
    pub state: u8,
    /// `FACT_*`, or'ed.
    pub facts: u8,
}

assert_size!(Header, 40);

impl Header {
    /// The words that tuples and rules mask. The last one has, from the low bits up: destination
    /// port (16), source port (16), protocol, TCP flags, state, facts (8 each).
    #[inline(always)]
    pub const fn words(&self) -> Words {
        let [a, b] = words_of(self.source);
        let [c, d] = words_of(self.destination);
        let rest = self.destination_port as u64
            | (self.source_port as u64) << 16
            | (self.protocol as u64) << 32
            | (self.tcp_flags as u64) << 40
            | (self.state as u64) << 48
            | (self.facts as u64) << 56;
        [a, b, c, d, rest]
    }
}

/// An address as two words in memory order.
#[inline(always)]
const fn words_of(address: V6) -> [u64; 2] {
    let [a, b, c, d] = address.0;
    [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32]
}

/// The address of two words.
#[inline(always)]
pub(super) const fn address_of(low: u64, high: u64) -> V6 {
    V6([
        low as u32,
        (low >> 32) as u32,
        high as u32,
        (high >> 32) as u32,
    ])
}

/// The ports in the last word.
#[inline(always)]
pub(super) const fn destination_port(rest: u64) -> u16 {
    rest as u16
}

/// See [`destination_port`].
#[inline(always)]
pub(super) const fn source_port(rest: u64) -> u16 {
    (rest >> 16) as u16
}

/// The state in the last word.
#[inline(always)]
pub(super) const fn state(rest: u64) -> u8 {
    (rest >> 48) as u8
}

/// The facts in the last word.
#[inline(always)]
pub(super) const fn facts(rest: u64) -> u8 {
    (rest >> 56) as u8
}
