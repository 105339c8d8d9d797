//! Tables of the router.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Mac, V4, V6},
    assert_size,
};

/// The read-only global `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// The slot of the cube's program number 1 ([`CubeChain::part`](crate::chain::CubeChain::part));
    /// the others follow.
    pub parts: u32,
    /// For hashes of flows ([`crate::multipath`]): each router has another one.
    pub seed: u32,
}
assert_size!(Settings, 8);

/// The program for packets that are not simply forwarded.
pub const PART_SLOW: u32 = 1;
/// The program for ARP and neighbour discovery.
pub const PART_LINK: u32 = 2;
/// The program for IPv4 packets that are to be cut. Only on TC.
pub const PART_FRAGMENT: u32 = 3;

/// Entry of the table `router_ports`, indexed by port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RouterPort {
    /// Link-layer address.
    pub mac: Mac,
    /// Largest IP packet sent on the port, in bytes; 0 is no limit.
    pub mtu: u16,
    /// First IPv4 address, the source of ICMP errors; zero when there is none.
    pub address_v4: V4,
    /// First IPv6 address, the source of ICMPv6 errors; zero when there is none.
    pub address_v6: V6,
    /// Link-local IPv6 address, made from `mac` (RFC 4291, appendix A).
    pub link_local: V6,
    /// `ROUTER_PORT_*` flags.
    pub flags: u32,
}
assert_size!(RouterPort, 48);

/// The port answers ARP requests for addresses behind other ports (RFC 1027).
pub const ROUTER_PORT_PROXY_ARP: u32 = 1 << 0;
/// The port answers neighbour solicitations for addresses behind other ports (RFC 4861, 7.2.8).
pub const ROUTER_PORT_PROXY_ND: u32 = 1 << 1;
/// Packets for the port's addresses that came in elsewhere leave through it: what is in its stack knows more
/// about them, and sends them back in.
pub const ROUTER_PORT_TURNS: u32 = 1 << 2;

/// Key of the table `routes_v4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct RouteKeyV4 {
    /// Prefix length in bits.
    pub length: u32,
    /// The network's address.
    pub address: V4,
}
assert_size!(RouteKeyV4, 8);

/// Key of the table `routes_v6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct RouteKeyV6 {
    /// Prefix length in bits.
    pub length: u32,
    /// The network's address.
    pub address: V6,
}
assert_size!(RouteKeyV6, 20);

/// Value of the route tables: an entry of the table `next_hops`, and the length of the prefix that
/// leads there.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RouteEntry(u32);

impl RouteEntry {
    /// No route.
    pub const NONE: Self = Self(0);
    const LENGTH_SHIFT: u32 = 24;

    /// Of a prefix of `length` bits. Entry 0 of `next_hops` is never used, and there are less
    /// than 2^24.
    pub const fn new(next_hop: u32, length: u8) -> Self {
        Self(next_hop | (length as u32) << Self::LENGTH_SHIFT)
    }

    /// As it is in memory; 0 is no route.
    pub const fn word(self) -> u32 {
        self.0
    }

    /// From memory.
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// Which entry of `next_hops`.
    pub const fn next_hop(self) -> u32 {
        self.0 & ((1 << Self::LENGTH_SHIFT) - 1)
    }

    /// Length of the prefix in bits.
    pub const fn length(self) -> u32 {
        self.0 >> Self::LENGTH_SHIFT
    }
}
assert_size!(RouteEntry, 4);

/// The constant `ROUTING`: which tables routes are in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Routing {
    /// Not 0: IPv4 routes are in `fib_v4` ([`crate::fib`]), not in `routes_v4`.
    pub large_v4: u32,
    /// The same for IPv6: `fib_v6`, not `routes_v6`.
    pub large_v6: u32,
    /// Not 0: there are routes in `dynamic_v4` and `dynamic_v6`, too. They lead to entries of `dynamic_next_hops`. Of two routes to the same
    /// prefix they are not the one that counts.
    pub dynamic: u32,
    /// Not 0: some routes lead to several next hops ([`ROUTE_GROUP`]).
    pub groups: u32,
}
assert_size!(Routing, 16);

/// Value of the table `next_hops`: what becomes of packets that routes lead here. An entry keeps
/// its meaning as long as a route leads to it, so routes can change one by one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Route {
    /// One of the `ROUTE_*` constants; 0 in entries that are not used.
    pub kind: u32,
    /// The outgoing port; for [`ROUTE_LOCAL`] the port that has the address.
    pub port: u32,
    /// Next hop for [`ROUTE_VIA`]; the router's address on the network for [`ROUTE_CONNECTED`].
    /// IPv4 in the first word.
    pub next_hop: V6,
    /// What the route costs, from 1 on; 0 for routes that have no cost. It is there to be shown:
    /// which route is taken is decided before.
    pub cost: u32,
}
assert_size!(Route, 28);

/// One of the router's own addresses.
pub const ROUTE_LOCAL: u32 = 1;
/// The destination is on the port's network.
pub const ROUTE_CONNECTED: u32 = 2;
/// The destination is behind `next_hop`.
pub const ROUTE_VIA: u32 = 3;
/// A directed broadcast address of a connected network: dropped (RFC 2644).
pub const ROUTE_BROADCAST: u32 = 4;
/// Dropped without a word.
pub const ROUTE_BLACKHOLE: u32 = 5;
/// Dropped; the sender is told that the host cannot be reached.
pub const ROUTE_UNREACHABLE: u32 = 6;
/// Dropped; the sender is told that it is forbidden.
pub const ROUTE_PROHIBIT: u32 = 7;
/// One of several next hops, by the flow: those of the entry of the table `groups` that has the
/// same number.
pub const ROUTE_GROUP: u32 = 8;

/// Key of `neighbors` (learned) and `static_neighbors`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct NeighborKey {
    /// Port behind which the neighbour is.
    pub port: u16,
    /// 4 or 6.
    pub family: u16,
    /// The neighbour's address; IPv4 in the first word.
    pub address: V6,
}
assert_size!(NeighborKey, 20);

/// Value of the table `static_neighbors`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StaticNeighbor {
    /// Link-layer address.
    pub mac: Mac,
    /// Zero.
    pub pad: u16,
}
assert_size!(StaticNeighbor, 8);

/// Value of the table `neighbors`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Neighbor {
    /// Link-layer address; meaningless while `heard` is 0.
    pub mac: Mac,
    /// Questions asked since the last answer.
    pub asked: u16,
    /// When the last question went out, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub asked_at: u64,
    /// When `mac` was last heard, likewise; 0 while it is not known.
    pub heard: u64,
    /// When the neighbour last answered a question, likewise; 0 is not with this `mac`.
    pub confirmed: u64,
    /// When the first packet was sent to it that made it doubtful whether it is still there,
    /// likewise; 0 is not since it was heard.
    pub used: u64,
    /// Packets to it that were put into the table `waiting` and did not come back yet.
    pub waiting: u64,
}
assert_size!(Neighbor, 48);

/// States of a neighbour (RFC 4861, 7.3.2), and what comes before and after them. ARP has none of
/// its own; the same ones serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborState {
    /// Asked for, not answered yet.
    Incomplete,
    /// Asked for in vain.
    Failed,
    /// It answered a question less than [`REACHABLE_TIME`] ago.
    Reachable,
    /// It may be there; nothing was sent to it since that is doubtful.
    Stale,
    /// Something was sent to it; other traffic has [`DELAY_FIRST_PROBE_TIME`] to show that it is
    /// there.
    Delay,
    /// It is asked, alone, whether it is there.
    Probe,
    /// Nothing was heard of it nor sent to it for [`STALE_TIME`].
    Expired,
}

impl Neighbor {
    /// Nothing is known, nothing was asked.
    pub const UNKNOWN: Self = Self {
        mac: Mac::new([0; 6]),
        asked: 0,
        asked_at: 0,
        heard: 0,
        confirmed: 0,
        used: 0,
        waiting: 0,
    };

    /// The state at a time. Where the next step is a matter of time, it is taken when the next
    /// packet is to be sent to the neighbour: until then nobody needs to know.
    #[inline(always)]
    pub const fn state(&self, now: u64) -> NeighborState {
        if self.heard == 0 {
            let failed =
                self.asked >= MAX_SOLICIT && now.saturating_sub(self.asked_at) > RETRANS_TIMER;
            return if failed {
                NeighborState::Failed
            } else {
                NeighborState::Incomplete
            };
        }
        if self.confirmed != 0 && now.saturating_sub(self.confirmed) <= REACHABLE_TIME {
            return NeighborState::Reachable;
        }
        if now.saturating_sub(self.latest()) >= STALE_TIME {
            NeighborState::Expired
        } else if self.used == 0 {
            NeighborState::Stale
        } else if self.asked == 0 {
            NeighborState::Delay
        } else {
            NeighborState::Probe
        }
    }

    /// When anything last happened with a neighbour that is known.
    #[inline(always)]
    const fn latest(&self) -> u64 {
        let latest = if self.used > self.heard {
            self.used
        } else {
            self.heard
        };
        if self.asked_at > latest {
            self.asked_at
        } else {
            latest
        }
    }
}

/// For how long an answer counts (RFC 4861, 10: `REACHABLE_TIME`; ARP caches use about as much).
pub const REACHABLE_TIME: u64 = 30_000_000_000;
/// For how long a doubtful neighbour is used before it is asked (RFC 4861, 10:
/// `DELAY_FIRST_PROBE_TIME`).
pub const DELAY_FIRST_PROBE_TIME: u64 = 5_000_000_000;
/// Questions to a doubtful neighbour alone, without an answer, after which all are asked for it
/// (RFC 4861, 10: `MAX_UNICAST_SOLICIT`).
pub const MAX_UNICAST_SOLICIT: u16 = 3;
/// An entry of which nothing was heard and to which nothing was sent for so long is forgotten.
pub const STALE_TIME: u64 = 300_000_000_000;
/// Time between two questions (RFC 4861, 10: `RETRANS_TIMER`).
pub const RETRANS_TIMER: u64 = 1_000_000_000;
/// Questions without an answer after which senders are told that the host is unreachable
/// (RFC 4861, 10: `MAX_MULTICAST_SOLICIT`).
pub const MAX_SOLICIT: u16 = 3;
/// For how long after the last question the host counts as unreachable.
pub const UNREACHABLE_TIME: u64 = 5_000_000_000;

/// For how long after a neighbour's address became known further packets to it line up behind
/// those that wait. They are given back within a millisecond; this is for when they are not.
pub const DRAIN_TIME: u64 = 100_000_000;

/// What is in front of a packet in the ring buffer `waiting`, and all there is of a record
/// without one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Waiting {
    /// When it was put there, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub time: u64,
    /// The neighbour it waits for.
    pub neighbor: NeighborKey,
    /// One of the `WAITING_*` constants.
    pub kind: u32,
    /// The port at which the packet came in.
    pub port: u32,
    /// Bytes of the packet, with the Ethernet header; 0 without one.
    pub length: u32,
}
assert_size!(Waiting, 40);

/// A packet, as it came in.
pub const WAITING_NEW: u32 = 1;
/// A packet that was given back, and for which the neighbour was asked for once more.
pub const WAITING_AGAIN: u32 = 2;
/// A packet to a neighbour that is known, behind others that were not given back yet.
pub const WAITING_BEHIND: u32 = 3;
/// No packet: the neighbour is known now.
pub const WAITING_KNOWN: u32 = 4;

/// Bytes of the ring buffer `waiting`: some 120 packets on their way to whoever keeps them.
pub const WAITING_BYTES: u32 = 256 << 10;
/// Packets with more bytes cannot wait.
pub const WAITING_FRAME: usize = 2048;

/// Neighbours that are remembered per router.
pub const NEIGHBORS: u32 = 8192;

/// Value of the table `advertisements`, by port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Advertisement {
    /// Seconds between two that are sent without being asked for, at most.
    pub interval: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// A router advertisement to all nodes, from the Ethernet header on.
    pub frame: [u8; ADVERTISEMENT_FRAME],
}
assert_size!(Advertisement, 520);

/// Room for a router advertisement, in bytes: eight prefixes and eight DNS servers fit.
pub const ADVERTISEMENT_FRAME: usize = 512;

/// Time between two advertisements to all (RFC 4861, 10: `MIN_DELAY_BETWEEN_RAS`).
pub const MIN_DELAY_BETWEEN_RAS: u64 = 3_000_000_000;

/// Bytes of data of an IPv4 packet that can be cut: larger ones are dropped. A jumbo frame has
/// 9000 or so.
pub const FRAGMENT_DATA: usize = 16 << 10;
/// Bytes of data in one fragment at most, whatever the port allows. A multiple of 8.
pub const FRAGMENT_PIECE: usize = 8 << 10;

/// The one per-CPU entry of the table `pieces`: what is cut, while it is. Only the data plane's.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    /// The data, and room for a piece that begins at its end.
    pub data: [u8; FRAGMENT_DATA + FRAGMENT_PIECE],
    /// Two bytes, so that the IP header in `headers` is aligned to four.
    pub pad: [u8; 2],
    /// Ethernet header and IP header with options.
    pub headers: [u8; 126],
}
assert_size!(Pieces, 24704);

/// The one per-CPU entry of the table `icmp_budget`: a token bucket (RFC 1812, 4.3.2.8;
/// RFC 4443, 2.4 f).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct IcmpBudget {
    /// Tokens left.
    pub tokens: u64,
    /// When tokens were last added, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub refilled: u64,
}
assert_size!(IcmpBudget, 16);

/// ICMP errors per second and CPU.
pub const ICMP_RATE: u64 = 1000;
/// ICMP errors in one burst and CPU.
pub const ICMP_BURST: u64 = 100;

/// Bytes of the offending packet an ICMPv4 error quotes at most: 576 in all (RFC 1812, 4.3.2.3).
pub const QUOTE_V4: usize = 576 - 20 - 8;
/// Bytes of the offending packet an ICMPv6 error quotes at most: 1280 in all (RFC 4443, 2.4 c).
pub const QUOTE_V6: usize = 1280 - 40 - 8;
