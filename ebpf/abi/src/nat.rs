//! Tables of the NAT.
//!
//! A *session* is one flow that is translated. It has a slot in the array `sessions`, and two keys
//! in `flows`, one for each direction, as its packets come into the cube: so a packet needs
//! one look-up, whichever way it goes. A *mapping* says which external port an inside address and
//! port have, whatever they talk to (RFC 4787, REQ-1); sessions share it and keep it alive. Which
//! ports are taken is a bitmap for each external address and kind of port (`used`): a port is
//! taken by setting its bit in one step, so no two mappings ever have it.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Be16, V6},
    assert_size,
    chain::Direction,
    flow::{FlowKey, ICMP, ICMPV6, TCP, UDP},
};

/// Read-only globals of a NAT program (`SETTINGS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// `FEATURE_*` bits: what the settings ask for.
    pub features: u64,
    /// Nanoseconds without packets after which an established TCP connection is forgotten.
    pub tcp_established: u64,
    /// The same for a TCP connection that is being opened or closed.
    pub tcp_transitory: u64,
    /// The same for UDP.
    pub udp: u64,
    /// The same for ICMP queries.
    pub icmp: u64,
    /// The same for all other protocols.
    pub other: u64,
    /// Slots in the table `sessions`.
    pub sessions: u32,
    /// Bits of [`Self::prefix`]: one of [`LENGTHS`](crate::nat64::LENGTHS), or 0 for none.
    pub prefix_length: u32,
    /// The prefix of IPv6 addresses that stand for IPv4 addresses.
    pub prefix: V6,
}
assert_size!(Settings, 72);

/// There are source rules: `masquerade` or `snat`.
pub const FEATURE_SOURCE: u64 = 1 << 0;
/// There are destination rules: `dnat` or `portForward`.
pub const FEATURE_DESTINATION: u64 = 1 << 1;
/// There are prefixes that are translated one to one: `static` or `nptv6`.
pub const FEATURE_PREFIX: u64 = 1 << 2;
/// Whoever knows an external port may send to it: endpoint-independent filtering (RFC 4787,
/// REQ-8). Without it, only who was sent to from exactly there to exactly there.
pub const FEATURE_OPEN: u64 = 1 << 3;
/// Whoever was sent to from an external port may send to it from any port of its own:
/// address-dependent filtering.
pub const FEATURE_KNOWN: u64 = 1 << 6;
/// Packets are translated from one family to the other: `nat64` or `nat46`.
pub const FEATURE_FAMILIES: u64 = 1 << 4;
/// There are addresses that have one of the other family: `nat46`.
pub const FEATURE_PAIRS: u64 = 1 << 5;

/// Value of `flows`: the session a packet belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Place {
    /// What [`Session::word`] is while the slot has this session.
    pub word: u64,
    /// Index into `sessions`.
    pub slot: u32,
    /// 0
    pub padding: u32,
}
assert_size!(Place, 16);

/// Key of `flows` for packets in a direction: the same addresses may be met in both.
#[inline(always)]
pub const fn keyed(key: FlowKey, direction: Direction) -> FlowKey {
    FlowKey {
        padding: [direction as u8, 0, 0],
        ..key
    }
}

/// A session: an entry of the array `sessions`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Session {
    /// What the slot holds (`SLOT_*`, the lowest two bits), and how often that changed.
    pub word: u64,
    /// When a packet that counts was last seen, in nanoseconds of the monotonic clock.
    pub seen: u64,
    /// When the session began, likewise.
    pub created: u64,
    /// Packets by [`Direction`].
    pub packets: [u64; 2],
    /// Bytes by [`Direction`], with the Ethernet header.
    pub bytes: [u64; 2],
    /// The keys in `flows`, by [`Direction`]: packets as they come in. They leave as the
    /// reverse of the other direction's key.
    pub keys: [FlowKey; 2],
    /// Which external address the session has a mapping on; [`NO_POOL`] if it has none.
    pub pool: u32,
    /// Which rule made it: one of the `RULE_*` constants.
    pub rule: u8,
    /// Bits of the rule's prefix that the address was matched with, within its family.
    pub rule_length: u8,
    /// State of a TCP connection ([`tcp`](crate::tcp)).
    pub state: u8,
    /// The [`Direction`] of the first packet.
    pub origin: u8,
}
assert_size!(Session, 144);

/// The slot is free.
pub const SLOT_FREE: u64 = 0;
/// The slot has a session.
pub const SLOT_LIVE: u64 = 1;
/// Somebody is making or removing a session in the slot.
pub const SLOT_BUSY: u64 = 2;
/// The bits of [`Session::word`] that say so.
pub const SLOT_STATE: u64 = 3;
/// What is added to the word whenever a slot becomes free.
pub const SLOT_NEXT: u64 = 4;

/// The session has no mapping: it has the port of a destination rule, or none.
pub const NO_POOL: u32 = u32::MAX;

/// Made by `masquerade`.
pub const RULE_MASQUERADE: u8 = 1;
/// Made by an entry of `snat`.
pub const RULE_SNAT: u8 = 2;
/// Made by an entry of `dnat`.
pub const RULE_DNAT: u8 = 3;
/// Made by an entry of `portForward`.
pub const RULE_PORT_FORWARD: u8 = 4;
/// Made by `nat64`.
pub const RULE_NAT64: u8 = 5;

/// Key of `mappings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct MappingKey {
    /// The inside address, or the external one; as in [`FlowKey`].
    pub address: V6,
    /// The port that goes with it, or the identifier of ICMP queries.
    pub port: Be16,
    /// Protocol.
    pub protocol: u8,
    /// [`SIDE_INSIDE`] or [`SIDE_OUTSIDE`].
    pub side: u8,
    /// Inside: which external address, so that an inside port has one external port on each.
    /// Outside: 0.
    pub pool: u32,
}
assert_size!(MappingKey, 24);

/// The key is an inside address: the value the external one.
pub const SIDE_INSIDE: u8 = 0;
/// The key is an external address: the value the inside one.
pub const SIDE_OUTSIDE: u8 = 1;
/// Of `prefixes`: the key is an IPv6 address, the value the IPv4 address of `nat46`.
pub const SIDE_IPV6: u8 = 2;
/// Of `prefixes`: the same the other way round.
pub const SIDE_IPV4: u8 = 3;

/// Value of `mappings`: the other side.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Mapping {
    /// Outside: sessions that use the mapping. It goes with the last of them.
    pub references: u64,
    /// Outside: when a packet left through it last, in nanoseconds of the monotonic clock. What
    /// comes in from strangers does not keep it alive (RFC 4787, REQ-6).
    pub seen: u64,
    /// The other side's address.
    pub address: V6,
    /// The other side's port.
    pub port: Be16,
    /// Of the rule that made it ([`Session::rule`]).
    pub rule: u8,
    /// Of the rule that made it ([`Session::rule_length`]).
    pub rule_length: u8,
    /// Which external address.
    pub pool: u32,
}
assert_size!(Mapping, 40);

/// Key of `contacts`: who was sent to from an external port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct ContactKey {
    /// The external address, as in [`FlowKey`].
    pub external: V6,
    /// Who was sent to, likewise.
    pub remote: V6,
    /// The external port.
    pub port: Be16,
    /// Protocol.
    pub protocol: u8,
    /// 0
    pub padding: u8,
}
assert_size!(ContactKey, 36);

/// Value of `contacts`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Contact {
    /// When, in nanoseconds of the monotonic clock.
    pub seen: u64,
    /// By whom: a port may be another host's by now.
    pub inside: V6,
    /// From which port.
    pub port: Be16,
    /// 0
    pub padding: [u8; 6],
}
assert_size!(Contact, 32);

/// Bit of a value of `externals`: nobody but the NAT has the address. What comes for it and belongs to nothing must not
/// pass, or routers would send it back and forth.
pub const EXTERNAL_ONLY: u32 = 1 << 0;
/// Bit of a value of `externals`: what leaves for the address turns round, as it is for the inside or for the router
/// (RFC 4787, 6).
pub const EXTERNAL_TURNS: u32 = 1 << 1;

/// Kinds of ports that an address has.
pub const PORT_KINDS: u32 = 3;

/// Which kind of ports a protocol has; `None` if it has none that a NAT can change.
#[inline(always)]
pub const fn port_kind(protocol: u8) -> Option<u32> {
    match protocol {
        TCP => Some(0),
        UDP => Some(1),
        ICMP | ICMPV6 => Some(2),
        _ => None,
    }
}

/// Index into `used`, and key of `reserved`.
#[inline(always)]
pub const fn ports_index(pool: u32, kind: u32) -> u32 {
    pool * PORT_KINDS + kind
}

/// Words of a bitmap of ports.
pub const PORT_WORDS: usize = 65536 / 64;

/// Value of `used` and `reserved`: a bit for each port, the lowest in the first word.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ports {
    /// The bits.
    pub words: [u64; PORT_WORDS],
}
assert_size!(Ports, 8192);

/// Ports below this one stay below it, others do not get there (RFC 4787, REQ-3).
pub const WELL_KNOWN_PORTS: u32 = 1024;

/// An external address: an entry of the array `pools`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Pool {
    /// The address, as in [`FlowKey`]; unspecified if there is none (now).
    pub address: V6,
    /// `POOL_*` bits.
    pub flags: u32,
}
assert_size!(Pool, 20);

/// The address is the one that the kernel would send from.
pub const POOL_DYNAMIC: u32 = 1 << 0;

/// Attachments that can masquerade. Each has two pools, the first ones of all: IPv4 and IPv6.
pub const MASQUERADES: u32 = 32;
/// Index of the first pool that is not for masquerading.
pub const FIRST_POOL: u32 = MASQUERADES * 2;

/// The pool of an attachment, for a family: 4 or 6.
#[inline(always)]
pub const fn masquerade_pool(attachment: u32, family: u8) -> u32 {
    attachment * 2 + (family == 6) as u32
}

/// Key of `sources`: a longest prefix, in one of several lists.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct SourceKey {
    /// Bits: 32 for the list, and those of the address.
    pub length: u32,
    /// `LIST_*`
    pub list: u32,
    /// Address, as in [`FlowKey`].
    pub address: V6,
}
assert_size!(SourceKey, 24);

/// The entries of `snat`.
pub const LIST_SNAT: u32 = 0;
/// The prefixes of `masquerade`.
pub const LIST_MASQUERADE: u32 = 1;
/// The prefixes of `nat64`.
pub const LIST_NAT64: u32 = 2;

/// Value of `sources`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct SourceRule {
    /// The first external address. Not used for masquerading.
    pub pool: u32,
    /// How many addresses follow one another, at least 1. Not used for masquerading.
    pub count: u32,
    /// Bits of the prefix, within its family.
    pub length: u32,
}
assert_size!(SourceRule, 12);

/// Key of `forwards`: the longest prefix is the most specific rule.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct ForwardKey {
    /// Bits: 128 for the address, 16 for the protocol, and those of the port.
    pub length: u32,
    /// External address, as in [`FlowKey`].
    pub address: V6,
    /// Protocol in network byte order; 0 for all.
    pub protocol: Be16,
    /// External port; for a prefix of ports the first of them.
    pub port: Be16,
}
assert_size!(ForwardKey, 24);

/// Bits of [`ForwardKey`] before the port.
pub const FORWARD_BITS: u32 = 128 + 16;

/// Value of `forwards`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Forward {
    /// The inside address.
    pub address: V6,
    /// What is added to the external port, modulo 2^16, in the machine's byte order.
    pub shift: u16,
    /// [`RULE_DNAT`] or [`RULE_PORT_FORWARD`].
    pub rule: u8,
    /// 0
    pub padding: u8,
    /// The first external port of the rule in the upper half, the last one in the lower.
    pub ports: u32,
}
assert_size!(Forward, 24);

/// Key of `prefixes`: a longest prefix on one side.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct PrefixKey {
    /// Bits: 32 for the side, and those of the address.
    pub length: u32,
    /// One of the `SIDE_*` constants.
    pub side: u32,
    /// Address, as in [`FlowKey`].
    pub address: V6,
}
assert_size!(PrefixKey, 24);

/// Value of `prefixes`: the prefix that takes its place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct PrefixRule {
    /// The other side's prefix, as in [`FlowKey`].
    pub address: V6,
    /// Ones where the address keeps its own bits.
    pub host: V6,
    /// What is added to one word of the address so that checksums stay as they are (RFC 6296,
    /// 3.1 and 3.5), as it is in memory; used if `neutral` is set.
    pub adjustment: u16,
    /// 1 for NPTv6: the word at `word` takes the adjustment.
    pub neutral: u8,
    /// Which 16-bit word of the address takes the adjustment if the prefix is 48 bits or less; 255
    /// for the first of words 4 to 7 that is not all ones (RFC 6296, 3.5).
    pub word: u8,
}
assert_size!(PrefixRule, 36);

/// The one entry of the table `state`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct State {
    /// Sessions that began before this time are no more, in nanoseconds of the monotonic clock.
    pub flushed: u64,
    /// When all sessions were last looked through because ports had run out, likewise.
    pub swept: u64,
}
assert_size!(State, 16);

/// Shortest time between two searches through all sessions, in nanoseconds.
pub const SWEEP_INTERVAL: u64 = 1_000_000_000;
/// Most slots that one such search looks at: about a millisecond.
pub const SWEEP_SLOTS: u32 = 65_536;
/// The program that removes sessions which are no more, and is for no packets: `pcn flush` runs it ([`crate::chain::PARTS`]).
pub const SWEEP_PART: u32 = 2;
/// Slots that it looks at each time.
pub const SWEEP_STEP: u32 = 1024;
/// Most slots that a new session looks at to find a free one.
pub const CLAIM_SLOTS: u32 = 512;
/// Fewest slots that a new session looks at: those that have expired are freed.
pub const TIDY_SLOTS: u32 = 4;
/// How exactly times are noted, in nanoseconds: a session's is not written for each packet.
pub const REFRESH_INTERVAL: u64 = 1_000_000_000;

/// Words of the entry of `work`: what a program knows of the packet at hand.
pub const WORK_WORDS: usize = 64;
