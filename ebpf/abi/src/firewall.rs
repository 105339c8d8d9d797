//! Tables of the firewall: connections, what rules do, what they count, what is reported of packets.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::V6,
    assert_size,
    flow::{Flow, FlowKey, ICMP, ICMPV6, TCP, UDP},
    tcp,
    window::{Segment, Windows},
};

/// Read-only global `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// `FEATURE_*` flags.
    pub features: u32,
    /// What happens to packets that no rule matches: a `VERDICT_*` for each direction.
    pub defaults: [u32; 2],
    /// Tells firewalls apart, in what they note in packets.
    pub cube: u32,
    /// For how long a connection is remembered in which nothing happens, by [`timeout`], in nanoseconds.
    pub timeouts: [u64; TIMEOUTS],
}
assert_size!(Settings, 112);

/// Connections are tracked.
pub const FEATURE_CONNTRACK: u32 = 1 << 0;
/// Packets of established connections, and errors about connections, do not meet the rules.
pub const FEATURE_ACCEPT_ESTABLISHED: u32 = 1 << 1;
/// ARP and neighbour discovery are filtered.
pub const FEATURE_FILTER_DISCOVERY: u32 = 1 << 2;
/// There is something to report: a rule or a chain has `log`.
pub const FEATURE_LOG: u32 = 1 << 3;
/// A rule has a limit.
pub const FEATURE_LIMIT: u32 = 1 << 4;
/// A rule or a chain rejects.
pub const FEATURE_REJECT: u32 = 1 << 5;
/// There are rules for ingress; the next bit says so for egress.
pub const FEATURE_RULES: u32 = 1 << 6;
/// What no rule for ingress matches is reported; the next bit says so for egress.
pub const FEATURE_LOG_DEFAULT: u32 = 1 << 8;
/// A rule asks for a set.
pub const FEATURE_SETS: u32 = 1 << 10;
/// TCP segments must be in the windows that the ends have told each other.
pub const FEATURE_WINDOWS: u32 = 1 << 11;
/// A packet may come by more than once: the cube sits in several stacks.
pub const FEATURE_SEVERAL: u32 = 1 << 12;

/// True if nothing is to happen to packets in a direction, with these features and this verdict of the chain's default: all pass,
/// and none of their headers is read.
#[inline(always)]
pub const fn passes_all(features: u32, default: u32, direction: u32) -> bool {
    let asks = FEATURE_CONNTRACK | (FEATURE_RULES | FEATURE_LOG_DEFAULT) << (direction & 1);
    features & asks == 0 && default == VERDICT_ACCEPT
}

/// True if a program that knows connections leaves to the second one what its direction's rules, or its default, decide
/// about.
#[inline(always)]
pub const fn leaves(features: u32, default: u32, direction: u32) -> bool {
    let asks = (FEATURE_RULES | FEATURE_LOG_DEFAULT) << (direction & 1);
    features & FEATURE_CONNTRACK != 0 && (features & asks != 0 || default == VERDICT_REJECT)
}

/// The packet goes on.
pub const VERDICT_ACCEPT: u32 = 0;
/// It is dropped.
pub const VERDICT_DROP: u32 = 1;
/// It is dropped, and its sender is told.
pub const VERDICT_REJECT: u32 = 2;
/// It is dropped: the rule would accept or reject it, but has done so too often.
pub const VERDICT_LIMITED: u32 = 3;

/// Time-outs there are: TCP's by state, then the others.
pub const TIMEOUTS: usize = tcp::STATES + 2;
/// UDP, not answered yet: in the place of TCP's state that no connection has.
pub const TIMEOUT_UDP: usize = 0;
/// UDP, answered.
pub const TIMEOUT_UDP_STREAM: usize = tcp::STATES;
/// ICMP and ICMPv6 queries: in the place of TCP's simultaneous opening, which has that of its
/// state [`tcp::SYN_SENT`].
pub const TIMEOUT_ICMP: usize = tcp::SYN_SENT2 as usize;
/// All other protocols.
pub const TIMEOUT_OTHER: usize = tcp::STATES + 1;

/// Which time-out a connection has.
#[inline(always)]
pub const fn timeout(protocol: u8, state: u8, replied: bool) -> usize {
    match protocol {
        TCP if state == tcp::SYN_SENT2 => tcp::SYN_SENT as usize,
        TCP => (state & 0xf) as usize % tcp::STATES,
        UDP if replied => TIMEOUT_UDP_STREAM,
        UDP => TIMEOUT_UDP,
        ICMP | ICMPV6 => TIMEOUT_ICMP,
        _ => TIMEOUT_OTHER,
    }
}

/// Which connection a packet belongs to, and whether that key is turned round for it: key of the
/// table `connections`. Both directions of a connection have one key. Two hosts that query each
/// other by ICMP with one identifier have two connections: the first byte of the padding tells them
/// apart ([`asks_back`]).
#[inline(always)]
pub fn connection(flow: &Flow) -> (FlowKey, bool) {
    let (mut key, is_turned) = flow.key.normalized();
    key.padding[0] = asks_back(flow, is_turned);
    (key, is_turned)
}

/// The first byte of the padding of a connection's key: 1 for ICMP whose query comes from the key's destination.
#[inline(always)]
pub const fn asks_back(flow: &Flow, is_turned: bool) -> u8 {
    let is_icmp = matches!(flow.key.protocol, ICMP | ICMPV6);
    (is_icmp && is_turned != is_answer(flow)) as u8
}

/// What a firewall notes in a packet that it has seen: which connection it belongs to, in which direction, for this
/// firewall, and what it is to it (a `STATE_*` of the classifier). Never 0. What is made of the packet as an answer goes in
/// the other direction, so it is another one.
#[inline(always)]
pub fn note(key: &FlowKey, is_turned: bool, cube: u32, state: u8) -> u32 {
    let [a, b, c, d] = key.source.0;
    let [e, f, g, h] = key.destination.0;
    let ports = u32::from(key.source_port.word()) << 16 | u32::from(key.destination_port.word());
    let rest = u32::from_ne_bytes([key.protocol, key.padding[0], u8::from(is_turned), 0]);
    let mut digest = cube;
    for word in [a, b, c, d, e, f, g, h, ports, rest] {
        // Multiplication by an odd number loses nothing (Knuth, TAOCP 3, 6.4).
        digest = (digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b1);
    }
    digest & !0xff | 0x80 | u32::from(state)
}

/// Echo, timestamp, information and address mask requests (RFC 792, RFC 950; RFC 4443, 4.1).
#[inline(always)]
pub const fn is_request(flow: &Flow) -> bool {
    match flow.family {
        4 => matches!(flow.icmp_type, 8 | 13 | 15 | 17),
        _ => flow.icmp_type == 128,
    }
}

/// The answers to those.
#[inline(always)]
pub const fn is_answer(flow: &Flow) -> bool {
    match flow.family {
        4 => matches!(flow.icmp_type, 0 | 14 | 16 | 18),
        _ => flow.icmp_type == 129,
    }
}

/// Value of the learned table `connections`, whose key is made by [`connection`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Connection {
    /// When it is forgotten, in nanoseconds of the data planes' clock.
    pub expires: u64,
    /// When it began, likewise.
    pub created: u64,
    /// Packets that passed, of the side that began, and of the other one.
    pub packets: [u64; 2],
    /// Their bytes.
    pub bytes: [u64; 2],
    /// What accepted its first packet: an index into `rule_counters`.
    pub rule: u32,
    /// The identity of that rule.
    pub identity: u32,
    /// State of a TCP connection ([`tcp`]), else 0.
    pub state: u8,
    /// `CONNECTION_*` flags.
    pub flags: u8,
    /// The direction in which it began.
    pub direction: u8,
    /// 0
    pub padding: [u8; 5],
    /// With [`CONNECTION_WINDOWS`], what is known of the windows; else it means nothing, and is not touched.
    pub windows: Windows,
}
assert_size!(Connection, 120);

/// The side that began is the destination of the key.
pub const CONNECTION_TURNED: u8 = 1 << 0;
/// The other side has sent something.
pub const CONNECTION_REPLIED: u8 = 1 << 1;
/// Windows are known: all segments were looked at.
pub const CONNECTION_WINDOWS: u8 = 1 << 2;

/// What is known of the packet that a CPU handles: the only entry of the table `work`, per CPU.
///
/// In a table and not on the stack, which is small; and what is read from a table is unknown to the
/// verifier, which then need not look at what follows once for each way in which headers are read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Work {
    /// What was read of its headers.
    pub flow: Flow,
    /// What it quotes, if it is an ICMP error.
    pub quoted: Flow,
    /// The key of the connection it belongs to, or is about.
    pub key: FlowKey,
    /// What it is to that connection: a `STATE_*` of the classifier.
    pub state: u8,
    /// `WORK_*`
    pub facts: u8,
    /// State of TCP after it, in the connection that it begins or belongs to.
    pub tcp_state: u8,
    /// What it does to the state: `STEP_*`.
    pub step: u8,
    /// 0
    pub padding: [u8; 4],
    /// What is to happen to it: a `VERDICT_*`.
    pub verdict: u32,
    /// Who says so: an index into `rule_counters`.
    pub rule: u32,
    /// The identity of that rule; 0 for a chain's default.
    pub identity: u32,
    /// The direction in which it goes.
    pub direction: u32,
    /// Packets that it stands for.
    pub packets: u64,
    /// Its bytes, with the Ethernet header.
    pub bytes: u64,
    /// The connection that it begins.
    pub fresh: Connection,
    /// What is compared with windows.
    pub segment: Segment,
    /// Where among its options the walk over them is, in bytes.
    pub option: u32,
    /// Where they end.
    pub options_end: u32,
    /// Options of a TCP header, and room for what follows them where they are read.
    pub options: [u64; OPTIONS / 8],
}
assert_size!(Work, 408);

/// Bytes for the options of a TCP header, of which there are 40 at most: a power of two.
pub const OPTIONS: usize = 64;

/// The segment changes nothing, and belongs to nothing.
pub const STEP_INVALID: u8 = 0;
/// It changes nothing.
pub const STEP_IGNORED: u8 = 1;
/// It leads to the state, and shows that the connection lives.
pub const STEP_COUNTS: u8 = 2;
/// It does, if the windows allow it.
pub const STEP_COMPARES: u8 = 3;

/// If it is accepted, it begins a connection.
pub const WORK_BEGINS: u8 = 1 << 0;
/// It belongs to a connection that is known, or is about one.
pub const WORK_KNOWN: u8 = 1 << 1;
/// It comes from the side that did not begin the connection.
pub const WORK_REPLY: u8 = 1 << 2;
/// The connection's key is turned round for it.
pub const WORK_TURNED: u8 = 1 << 3;

/// Nanoseconds by which a connection's end must move before it is noted.
pub const REFRESH_INTERVAL: u64 = 1_000_000_000;
/// Least nanoseconds between two sweeps of a full table.
pub const SWEEP_INTERVAL: u64 = 1_000_000_000;
/// Nanoseconds after which a full table gives up connections that were not answered.
pub const UNANSWERED: u64 = 5_000_000_000;

/// The only entry of `state`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct State {
    /// When the connections were swept last, in nanoseconds of the data planes' clock.
    pub swept: u64,
    /// How often there was no room for one more.
    pub full: u64,
    /// When the next report is due, were they made at the greatest rate.
    pub log_due: u64,
    /// Packets that were not reported: there were too many, or nobody reads.
    pub unreported: u64,
}
assert_size!(State, 32);

/// Least nanoseconds between two reports in the long run.
pub const LOG_INTERVAL: u64 = 1_000_000;
/// How far ahead of that reports may be: a hundred at once.
pub const LOG_TOLERANCE: u64 = 100 * LOG_INTERVAL;

/// What a rule does: the word that the classifier keeps with it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Action(pub u64);

impl Action {
    /// From which rule it is (slots are used again), a `VERDICT_*`, and whether packets are reported.
    pub const fn new(identity: u32, verdict: u32, log: bool) -> Self {
        Self(identity as u64 | (verdict as u64 & 0xff) << 32 | (log as u64) << 40)
    }

    /// Which rule it is.
    #[inline(always)]
    pub const fn identity(self) -> u32 {
        self.0 as u32
    }

    /// A `VERDICT_*`.
    #[inline(always)]
    pub const fn verdict(self) -> u32 {
        (self.0 >> 32) as u32 & 0xff
    }

    /// True if packets are reported.
    #[inline(always)]
    pub const fn log(self) -> bool {
        self.0 >> 40 & 1 != 0
    }
}

/// How often a rule accepts or answers packets: value of the table `rates`, by slot, once per bank.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rate {
    /// Least nanoseconds between two packets in the long run; 0 for no limit.
    pub interval: u64,
    /// How far ahead of that packets may be.
    pub tolerance: u64,
}
assert_size!(Rate, 16);

/// Value of the learned table `rule_counters`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RuleCounter {
    /// Packets that the rule decided about.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The rule that is counted; what another one has counted is gone.
    pub identity: u32,
    /// 0
    pub padding: u32,
}
assert_size!(RuleCounter, 24);

/// Index into `rule_counters` of a chain's default.
pub const fn default_counter(direction: u32) -> u32 {
    direction & 1
}

/// Index into `rule_counters` of the rule in a slot.
pub const fn rule_counter(slot: u32) -> u32 {
    slot + 2
}

/// Key of `sets`: longest-prefix table of all sets and both families.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct SetKey {
    /// Bits that count: those of the number, and of the network. An IPv4 network has 96 more.
    pub length: u32,
    /// Number of the set.
    pub set: u32,
    /// The network's address, as in [`FlowKey`].
    pub address: V6,
}
assert_size!(SetKey, 24);

/// A packet that is reported: record of the ring buffer `log`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Report {
    /// When, in nanoseconds of the data planes' clock.
    pub time: u64,
    /// The packet's addresses, protocol and ports.
    pub key: FlowKey,
    /// Its length with the Ethernet header.
    pub bytes: u32,
    /// What decided: an index into `rule_counters`.
    pub rule: u32,
    /// The identity of that rule.
    pub identity: u32,
    /// What was done: a `VERDICT_*`.
    pub verdict: u8,
    /// The direction.
    pub direction: u8,
    /// What it was to its connection: a `STATE_*` of the classifier.
    pub state: u8,
    /// Flags of a TCP segment.
    pub tcp_flags: u8,
    /// Type of an ICMP message.
    pub icmp_type: u8,
    /// Its code.
    pub icmp_code: u8,
    /// 0
    pub padding: [u8; 6],
}
assert_size!(Report, 72);

/// Bytes of the ring buffer `log` where there is something to report.
pub const LOG_BYTES: u32 = 1 << 18;
/// Bytes of it where there is not.
pub const NO_LOG_BYTES: u32 = 4096;
/// First fragments that are remembered.
pub const FRAGMENTS: u32 = 4096;

#[cfg(test)]
mod tests;
