//! What the rules say of a packet, and what of that is counted.

use core::mem::offset_of;

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};
use ebpf_abi::{
    address::V6,
    chain::in_bank,
    classifier::{FACT_ICMP, FACT_PORTS, FACT_TCP, FACT_V6, Header, NO_RULE, Words},
    firewall::{
        Action, FEATURE_LIMIT, FEATURE_LOG, FEATURE_LOG_DEFAULT, FEATURE_RULES, FEATURE_SETS, Rate,
        RuleCounter, SetKey, VERDICT_LIMITED, Work, default_counter, rule_counter,
    },
    flow::{Flow, ICMP, ICMPV6, TCP, has_ports},
};
use ebpf_programs::{
    classifier::{self, HasClassifier, LINES, Lines, More, Rules, Searches, Tuples},
    counters::Size,
    lpm::Lpm,
};

use crate::{default_verdict, has, limit, report};

#[map(name = "tuples")]
static TUPLES: Tuples = Tuples::with_max_entries(1, LINES);
#[map(name = "lines")]
static LINES_OF_RULES: Lines = Lines::with_max_entries(1, LINES);
#[map(name = "rules")]
static RULES: Rules = Rules::with_max_entries(1, LINES);
#[map(name = "further")]
static FURTHER: More = More::with_max_entries(1, 0);
#[map(name = "search")]
static SEARCH: Searches = Searches::with_max_entries(1, 0);

/// How often rules accept or answer, by slot.
#[map(name = "rates")]
static RATES: Array<Rate> = Array::with_max_entries(1, 0);

/// What rules have decided, per CPU: an attack must not make CPUs wait for each other.
#[map(name = "rule_counters")]
static COUNTERS: PerCpuArray<RuleCounter> = PerCpuArray::with_max_entries(1026, 0);

/// Networks that are in sets.
#[map(name = "sets")]
static SETS: Lpm<SetKey, u32> = Lpm::with_max_entries(1);

struct Lists;

impl HasClassifier for Lists {
    #[inline(always)]
    fn tuples() -> &'static Tuples {
        &TUPLES
    }

    #[inline(always)]
    fn lines() -> &'static Lines {
        &LINES_OF_RULES
    }

    #[inline(always)]
    fn rules() -> &'static Rules {
        &RULES
    }

    #[inline(always)]
    fn further() -> &'static More {
        &FURTHER
    }

    #[inline(always)]
    fn search() -> &'static Searches {
        &SEARCH
    }

    #[inline(always)]
    fn in_set(set: u32, _bank: u32, address: &V6) -> bool {
        if !has(FEATURE_SETS) {
            return false;
        }
        let key = SetKey {
            length: 32 + 128,
            set,
            address: *address,
        };
        SETS.get(&key).is_some()
    }
}

/// What is to happen to a packet, and who says so.
struct Decided {
    /// A `VERDICT_*`.
    verdict: u32,
    /// Index into `rule_counters`.
    rule: u32,
    /// The identity of the rule; 0 for a chain's default.
    identity: u32,
}

/// Asks the rules, counts, and reports what is to be reported: the answer is in `work`.
#[inline(always)]
pub fn decide(bank: u32, direction: u32, work: &mut Work) {
    let mut decided = Decided {
        verdict: default_verdict(direction),
        rule: default_counter(direction),
        identity: 0,
    };
    let mut log = has(FEATURE_LOG_DEFAULT << (direction & 1));
    if has(FEATURE_RULES << (direction & 1)) {
        let words = words_of(&work.flow, work.state);
        let found = classifier::classify::<Lists>(direction, bank, words);
        if found.rule != NO_RULE {
            let action = Action(found.data);
            decided.verdict = action.verdict();
            decided.rule = rule_counter(found.rule);
            decided.identity = action.identity();
            log = action.log();
            if has(FEATURE_LIMIT)
                && let Some(rate) = RATES.get(in_bank(found.rule, bank))
                && !limit::admit(found.rule, rate, work.packets)
            {
                decided.verdict = VERDICT_LIMITED;
            }
        }
    }
    work.verdict = decided.verdict;
    work.rule = decided.rule;
    work.identity = decided.identity;
    count(work.rule, work.identity, work.packets, work.bytes);
    if has(FEATURE_LOG) && log {
        report::report(work);
    }
}

/// What rules compare ([`Header::words`]).
#[inline(always)]
fn words_of(flow: &Flow, state: u8) -> Words {
    let protocol = flow.key.protocol;
    let mut facts = 0;
    let (mut source_port, mut destination_port) = (0, 0);
    if flow.family == 6 {
        facts |= FACT_V6;
    }
    if has_ports(protocol) {
        facts |= FACT_PORTS;
        source_port = flow.key.source_port.get();
        destination_port = flow.key.destination_port.get();
    }
    if (protocol == ICMP && flow.family == 4) || (protocol == ICMPV6 && flow.family == 6) {
        facts |= FACT_ICMP;
        destination_port = u16::from(flow.icmp_type) << 8 | u16::from(flow.icmp_code);
    }
    if protocol == TCP {
        facts |= FACT_TCP;
    }
    let rest = Header {
        source_port,
        destination_port,
        protocol,
        tcp_flags: flow.tcp_flags,
        state,
        facts,
        ..Header::default()
    };
    let [.., rest] = rest.words();
    // SAFETY: both addresses are in the flow, which is aligned to 8 bytes, and begin at such a place.
    let [a, b, c, d] = unsafe { (&raw const *flow).cast::<[u64; 4]>().read_volatile() };
    [a, b, c, d, rest]
}

const _: () = assert!(offset_of!(Flow, key.source) == 0 && offset_of!(Flow, key.destination) == 16);

/// Counts a packet that passes because nothing else is to happen to any.
#[inline(always)]
pub fn count_default(direction: u32, size: Size) {
    count(default_counter(direction), 0, size.packets(), size.bytes());
}

#[inline(always)]
fn count(rule: u32, identity: u32, packets: u64, bytes: u64) {
    let Some(counter) = COUNTERS.get_ptr_mut(rule) else {
        return;
    };
    // SAFETY: the entry belongs to this CPU, and programs on one hook do not nest.
    unsafe {
        if (*counter).identity != identity {
            *counter = RuleCounter {
                packets: 0,
                bytes: 0,
                identity,
                padding: 0,
            };
        }
        (*counter).packets += packets;
        (*counter).bytes += bytes;
    }
}
