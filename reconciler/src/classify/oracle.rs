//! What rules mean, rule by rule: the measure of everything else here.

use ebpf_abi::{
    address::V6,
    classifier::{FACT_ICMP, FACT_PORTS, FACT_TCP, FACT_V6, Header},
};

use super::{Family, Rule};

/// The place in the list of the first rule that matches.
pub fn first_match(
    rules: &[Rule],
    header: &Header,
    in_set: &impl Fn(u32, V6) -> bool,
) -> Option<usize> {
    rules.iter().position(|rule| matches(rule, header, in_set))
}

/// True if a packet matches a rule.
pub fn matches(rule: &Rule, header: &Header, in_set: &impl Fn(u32, V6) -> bool) -> bool {
    let has = |fact: u8| header.facts & fact != 0;
    let family = if has(FACT_V6) { Family::V6 } else { Family::V4 };
    let ports = has(FACT_PORTS);
    let [kind, code] = header.destination_port.to_be_bytes();
    rule.is_for(family)
        && rule.source.contains(header.source, in_set)
        && rule.destination.contains(header.destination, in_set)
        && rule
            .protocol
            .is_none_or(|protocol| protocol == header.protocol)
        && rule
            .source_ports
            .contains(ports.then_some(header.source_port))
        && rule
            .destination_ports
            .contains(ports.then_some(header.destination_port))
        && rule.icmp.is_none_or(|(its_kind, its_code)| {
            has(FACT_ICMP) && kind == its_kind && its_code.is_none_or(|its| its == code)
        })
        && rule
            .tcp_flags
            .is_none_or(|(bits, set)| has(FACT_TCP) && header.tcp_flags & bits == set & bits)
        && (rule.states == 0 || rule.states & header.state != 0)
}
