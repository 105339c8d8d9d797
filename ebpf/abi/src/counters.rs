//! Counters per port and per attachment: one layout for all cubes.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// Room for drop reasons in a counter entry; more than are in use, so that a new reason does
/// not change the layout.
pub const DROP_REASONS: usize = 28;

/// One per-CPU entry of the table `counters`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Packets that came in. A segmented buffer counts as the packets it stands for.
    pub rx_packets: u64,
    /// Bytes that came in, with the Ethernet header.
    pub rx_bytes: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Bytes that went out, with the Ethernet header.
    pub tx_bytes: u64,
    /// Packets dropped, by [`DropReason`]. Counted at the port at which they came in.
    pub drops: [u64; DROP_REASONS],
}
assert_size!(Counters, 256);

impl Counters {
    /// Adds the counters of another CPU.
    pub fn add(&mut self, other: &Self) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        for (sum, drop) in self.drops.iter_mut().zip(other.drops) {
            *sum += drop;
        }
    }
}

/// Declares the drop reasons with the names people see.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $value:literal, $name:literal;)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum DropReason { $($(#[$doc])* $variant = $value,)* }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Name in outputs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

drop_reasons! {
    /// The port the packet was sent to leads nowhere.
    NotLinked = 0, "notLinked";
    /// A header is cut off or contradicts itself.
    Malformed = 1, "malformed";
    /// The configuration says so.
    Policy = 2, "policy";
    /// No route to the destination.
    NoRoute = 3, "noRoute";
    /// The next hop's link-layer address is not known (yet).
    NeighborUnresolved = 4, "neighborUnresolved";
    /// Time to live or hop limit ran out.
    TtlExceeded = 5, "ttlExceeded";
    /// The frame is for another station.
    NotForUs = 6, "notForUs";
    /// A protocol this cube does not handle.
    Unsupported = 7, "unsupported";
    /// The next program is missing, or the packet has been through 33 programs.
    ChainBroken = 8, "chainBroken";
    /// A source address no sender may use.
    MartianSource = 9, "martianSource";
    /// Larger than the outgoing port allows, and not to be fragmented.
    TooBig = 10, "tooBig";
    /// An answer was due, but too many were sent already.
    RateLimited = 11, "rateLimited";
    /// The kernel could not change or copy the packet.
    NoMemory = 12, "noMemory";
    /// Both ports are isolated.
    Isolated = 13, "isolated";
    /// The destination is on the port the frame came from.
    SamePort = 14, "samePort";
    /// A link-local protocol that a bridge must not forward (IEEE 802.1D-2004, 7.12.6).
    Reserved = 15, "reserved";
    /// A broadcast or multicast packet that a router does not forward.
    NotForwarded = 16, "notForwarded";
    /// The port does not carry the frame's VLAN, or takes no tagged or no untagged frames.
    VlanNotAllowed = 17, "vlanNotAllowed";
    /// The port sent more frames of this sort than its storm control allows.
    StormControl = 18, "stormControl";
    /// The spanning tree lets no frames pass at one of the ports.
    Discarding = 19, "discarding";
    /// A fragment of a datagram whose first fragment was not seen.
    FragmentUnknown = 20, "fragmentUnknown";
    /// A route says that packets to the destination are dropped.
    Blackhole = 21, "blackhole";
    /// A route says that the destination is forbidden.
    Prohibited = 22, "prohibited";
    /// The configuration says so, and that the sender is told.
    Rejected = 23, "rejected";
    /// The packet belongs to no session, and may not begin one.
    NoSession = 24, "noSession";
    /// All ports of the external address are taken.
    PortsExhausted = 25, "portsExhausted";
    /// The table of sessions is full.
    SessionsExhausted = 26, "sessionsExhausted";
    /// There is no external address to send from.
    NoExternalAddress = 27, "noExternalAddress";
}

const _: () = assert!(DropReason::ALL.len() <= DROP_REASONS);
