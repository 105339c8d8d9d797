//! The constants of a firewall's programs.

use ebpf_abi::{
    chain::Direction,
    firewall::{
        self, FEATURE_ACCEPT_ESTABLISHED, FEATURE_CONNTRACK, FEATURE_FILTER_DISCOVERY,
        FEATURE_LIMIT, FEATURE_LOG, FEATURE_LOG_DEFAULT, FEATURE_REJECT, FEATURE_RULES,
        FEATURE_SETS, FEATURE_SEVERAL, FEATURE_WINDOWS, Settings, TIMEOUT_ICMP, TIMEOUT_OTHER,
        TIMEOUT_UDP, TIMEOUT_UDP_STREAM, TIMEOUTS,
    },
    tcp,
};
use topology_schema::cube::firewall::{Action, NeighborDiscovery, Rule, Spec, Target, Timeouts};

use super::rules::verdict;
use crate::{cube::Context, digest::Digest};

const SECOND: u64 = 1_000_000_000;

/// What a program is specialised with.
pub(super) fn settings(spec: &Spec, context: &Context<'_>) -> Settings {
    let is_several = context.allocation.attachments(context.name).count() > 1;
    Settings {
        features: features(spec) | if is_several { FEATURE_SEVERAL } else { 0 },
        defaults: defaults(spec),
        cube: Digest::of(&[context.name.as_str()]).number(),
        timeouts: timeouts(&spec.timeouts),
    }
}

/// True if there is a second program in a direction: for what rules and the chain's default decide about.
pub(super) fn leaves(spec: &Spec, direction: Direction) -> bool {
    let direction = direction as u32;
    let default = defaults(spec)[direction as usize];
    firewall::leaves(features(spec), default, direction)
}

fn defaults(spec: &Spec) -> [u32; 2] {
    [verdict(spec.ingress.default), verdict(spec.egress.default)]
}

/// What follows from the settings alone.
fn features(spec: &Spec) -> u32 {
    let features = [
        (spec.conntrack, FEATURE_CONNTRACK),
        (spec.accept_established, FEATURE_ACCEPT_ESTABLISHED),
        (
            spec.neighbor_discovery == NeighborDiscovery::Filter,
            FEATURE_FILTER_DISCOVERY,
        ),
        (is_logged(spec), FEATURE_LOG),
        (is_limited(spec), FEATURE_LIMIT),
        (rejects(spec), FEATURE_REJECT),
        (!spec.ingress.rules.is_empty(), FEATURE_RULES),
        (!spec.egress.rules.is_empty(), FEATURE_RULES << 1),
        (spec.ingress.log, FEATURE_LOG_DEFAULT),
        (spec.egress.log, FEATURE_LOG_DEFAULT << 1),
        (asks_for_sets(spec), FEATURE_SETS),
        (spec.tcp_window_check, FEATURE_WINDOWS),
    ];
    let on = features.into_iter().filter(|(on, _)| *on);
    on.map(|(_, flag)| flag).sum()
}

/// Nanoseconds, by the data plane's index. The defaults are those of Linux (net/netfilter/nf_conntrack_proto_*.c).
fn timeouts(timeouts: &Timeouts) -> [u64; TIMEOUTS] {
    let mut all = [0; TIMEOUTS];
    for (index, timeout, default) in [
        (usize::from(tcp::SYN_SENT), timeouts.tcp_syn_sent, 120),
        (usize::from(tcp::SYN_RECV), timeouts.tcp_syn_received, 60),
        (
            usize::from(tcp::ESTABLISHED),
            timeouts.tcp_established,
            432_000,
        ),
        (usize::from(tcp::FIN_WAIT), timeouts.tcp_fin_wait, 120),
        (usize::from(tcp::CLOSE_WAIT), timeouts.tcp_close_wait, 60),
        (usize::from(tcp::LAST_ACK), timeouts.tcp_last_ack, 30),
        (usize::from(tcp::TIME_WAIT), timeouts.tcp_time_wait, 120),
        (usize::from(tcp::CLOSE), timeouts.tcp_close, 10),
        (TIMEOUT_UDP, timeouts.udp, 30),
        (TIMEOUT_UDP_STREAM, timeouts.udp_stream, 120),
        (TIMEOUT_ICMP, timeouts.icmp, 30),
        (TIMEOUT_OTHER, timeouts.other, 600),
    ] {
        let seconds = timeout.map_or(default, |timeout| timeout.get());
        all[index] = u64::from(seconds) * SECOND;
    }
    all
}

fn rules(spec: &Spec) -> impl Iterator<Item = &Rule> {
    spec.chains()
        .into_iter()
        .flat_map(|(_, chain)| &chain.rules)
}

/// Whether any packets are reported.
pub(super) fn is_logged(spec: &Spec) -> bool {
    spec.ingress.log || spec.egress.log || rules(spec).any(|rule| rule.log)
}

/// Whether any rule has a limit.
pub(super) fn is_limited(spec: &Spec) -> bool {
    rules(spec).any(|rule| rule.limit.is_some())
}

fn rejects(spec: &Spec) -> bool {
    let mut defaults = spec.chains().into_iter().map(|(_, chain)| chain.default);
    defaults.any(|default| default == Action::Reject)
        || rules(spec).any(|rule| rule.action == Action::Reject)
}

fn asks_for_sets(spec: &Spec) -> bool {
    let mut addresses = rules(spec).flat_map(|rule| [&rule.source, &rule.destination]);
    addresses.any(|address| {
        let target = address.as_ref().map(|address| address.target());
        matches!(target, Some(Target::Set(_)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timeout_is_set() {
        let all = timeouts(&Timeouts::default());
        assert!(all.iter().all(|timeout| *timeout >= 10 * SECOND), "{all:?}");
    }
}
