//! From the rules of the file to what the classifier takes, and what rules do.

use std::{collections::HashMap, net::IpAddr};

use ebpf_abi::{
    address::V6,
    classifier::{Range, STATE_ESTABLISHED, STATE_INVALID, STATE_NEW, STATE_RELATED},
    firewall::{self as abi, SetKey, VERDICT_ACCEPT, VERDICT_DROP, VERDICT_REJECT},
};
use topology_schema::cube::firewall::{
    Action, AddressMatch, Chain, Limit, Ports, Rule, Spec, State, Target,
};

use crate::{
    classify::{self, Addresses, Family, RuleNumbers},
    digest::Digest,
    parallel,
    rows::Rows,
};

const SECOND: u64 = 1_000_000_000;

/// Under what name a set gets its number.
pub(super) fn set_number(name: &str) -> String {
    format!("set {name}")
}

/// The rules of both chains. `set` knows the numbers of sets.
pub(super) fn lists(spec: &Spec, set: &dyn Fn(&str) -> u32) -> Vec<Vec<classify::Rule>> {
    let chains = spec.chains().into_iter();
    chains
        .map(|(name, chain)| {
            let keys = keys(name, chain).into_iter();
            let rules = chain.rules.iter().zip(keys);
            let mut list: Vec<_> = rules.map(|(rule, key)| compiled(rule, key, set)).collect();
            give_actions(chain, &mut list);
            list
        })
        .collect()
}

/// Who each rule is, whatever becomes of the others: its name, or what it matches and how many
/// before it match the same.
pub(super) fn keys(chain_name: &str, chain: &Chain) -> Vec<String> {
    let digests = parallel::map(&chain.rules, parallel::EACH, |rule| {
        rule.name.is_none().then(|| what_it_matches(rule))
    });
    let mut seen: HashMap<&str, u32> = HashMap::new();
    let keys = chain.rules.iter().zip(&digests).map(|(rule, digest)| {
        let Some(digest) = digest else {
            let name = rule.name.as_ref().map_or("", |name| name.as_str());
            return format!("{chain_name}/{name}");
        };
        let before = seen.entry(digest).or_default();
        *before += 1;
        format!("{chain_name}/#{digest}.{before}")
    });
    keys.collect()
}

/// A hash of what a rule matches: its counters stay when its action or comment changes.
fn what_it_matches(rule: &Rule) -> String {
    let only_matches = Rule {
        name: None,
        comment: None,
        action: Action::Accept,
        log: false,
        limit: None,
        ..rule.clone()
    };
    let text = serde_json::to_string(&only_matches).unwrap_or_default();
    Digest::of(&["firewall rule", &text]).text(12)
}

/// What a rule with this key is known by in tables.
pub(super) fn identity(key: &str) -> u32 {
    let rule = classify::Rule {
        key: key.to_owned(),
        ..classify::Rule::default()
    };
    rule.identity()
}

fn compiled(rule: &Rule, key: String, set: &dyn Fn(&str) -> u32) -> classify::Rule {
    let families = rule.families();
    let icmp = rule
        .icmp_type
        .and_then(|kind| kind.number_for(rule.protocol));
    classify::Rule {
        key,
        source: addresses(rule.source.as_ref(), set),
        destination: addresses(rule.destination.as_ref(), set),
        protocol: rule.protocol.number(),
        family: match (families.v4, families.v6) {
            (true, false) => Some(Family::V4),
            (false, true) => Some(Family::V6),
            _ => None,
        },
        source_ports: ports(rule.source_port.as_ref()),
        destination_ports: ports(rule.destination_port.as_ref()),
        icmp: icmp.map(|kind| (kind, None)),
        data: 0,
        tcp_flags: rule
            .tcp_flags
            .map(|flags| (flags.set | flags.clear, flags.set)),
        states: rule
            .state
            .iter()
            .flat_map(|states| states.iter())
            .fold(0, |states, state| {
                states
                    | match state {
                        State::New => STATE_NEW,
                        State::Established => STATE_ESTABLISHED,
                        State::Related => STATE_RELATED,
                        State::Invalid => STATE_INVALID,
                    }
            }),
    }
}

fn addresses(address: Option<&AddressMatch>, set: &dyn Fn(&str) -> u32) -> classify::AddressMatch {
    let Some(address) = address else {
        return classify::AddressMatch::default();
    };
    classify::AddressMatch {
        negated: address.is_negated(),
        addresses: match address.target() {
            Target::Prefix(prefix) => Addresses::Prefix(*prefix),
            Target::Set(name) => Addresses::Set(set(name.as_str())),
        },
    }
}

fn ports(ports: Option<&Ports>) -> classify::Ports {
    let Some(ports) = ports else {
        return classify::Ports::any();
    };
    let ranges = ports.ranges().iter().map(|range| Range {
        first: range.first(),
        last: range.last(),
    });
    classify::Ports::new(ranges, false)
}

/// Notes what each rule of a chain does.
fn give_actions(chain: &Chain, list: &mut [classify::Rule]) {
    let identities = parallel::map(list, parallel::EACH, classify::Rule::identity);
    for ((rule, compiled), identity) in chain.rules.iter().zip(list).zip(identities) {
        compiled.data = abi::Action::new(identity, verdict(rule.action), rule.log).0;
    }
}

/// How often each rule that has a limit accepts or answers, by slot.
pub(super) fn rates(spec: &Spec, lists: &[Vec<classify::Rule>], numbers: &RuleNumbers) -> Rows {
    let chains = spec.chains().into_iter().zip(lists);
    let rules = chains.flat_map(|((_, chain), list)| chain.rules.iter().zip(list));
    rules
        .filter_map(|(rule, compiled)| {
            let (interval, tolerance) = schedule(rule.limit.as_ref()?);
            let slot = numbers.slot(&compiled.key)?;
            let rate = abi::Rate {
                interval,
                tolerance,
            };
            let rate: [u8; size_of::<abi::Rate>()] = bytemuck::must_cast(rate);
            Some((slot.to_ne_bytes(), rate))
        })
        .collect()
}

/// Rounded so that no more than the rate passes.
fn schedule(limit: &Limit) -> (u64, u64) {
    let interval = SECOND.div_ceil(u64::from(limit.rate.per_second()));
    (interval, interval * u64::from(limit.burst() - 1))
}

/// The data plane's number for an action.
pub(super) fn verdict(action: Action) -> u32 {
    match action {
        Action::Accept => VERDICT_ACCEPT,
        Action::Drop => VERDICT_DROP,
        Action::Reject => VERDICT_REJECT,
    }
}

/// The networks of all sets. The value is the set's number, which says nothing new.
pub(super) fn sets(spec: &Spec, set: &dyn Fn(&str) -> u32) -> Rows {
    let mut entries = Vec::new();
    for (name, prefixes) in &spec.sets {
        let number = set(name.as_str());
        for prefix in prefixes {
            let (address, length) = match prefix.address() {
                IpAddr::V4(address) => (address.to_ipv6_mapped(), 96 + prefix.length()),
                IpAddr::V6(address) => (address, prefix.length()),
            };
            let key = SetKey {
                length: 32 + u32::from(length),
                set: number,
                address: V6::new(address.octets()),
            };
            let key: [u8; size_of::<SetKey>()] = bytemuck::must_cast(key);
            entries.push((key, number.to_ne_bytes()));
        }
    }
    entries.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(yaml: &str) -> Chain {
        serde_json::from_value(serde_json::from_str(yaml).expect("JSON")).expect("a chain")
    }

    #[test]
    fn a_rule_is_who_it_was_while_others_come_and_go() {
        let before = chain(
            r#"{ "rules": [
                { "name": "ssh", "protocol": "tcp", "destinationPort": 22, "action": "accept" },
                { "protocol": "gre", "action": "accept" },
                { "protocol": "gre", "action": "drop" }] }"#,
        );
        let after = chain(
            r#"{ "rules": [
                { "protocol": "esp", "action": "accept" },
                { "protocol": "gre", "action": "drop", "log": true, "comment": "changed" },
                { "name": "ssh", "protocol": "tcp", "destinationPort": 2222, "action": "drop" }] }"#,
        );
        let (before, after) = (keys("ingress", &before), keys("ingress", &after));
        assert_eq!(before[0], "ingress/ssh");
        assert_eq!((&before[0], &before[1]), (&after[2], &after[1]));
        assert!(!before.contains(&after[0]));
        assert_ne!(before[1], before[2]);
    }

    #[test]
    fn limits_are_not_exceeded() {
        for (limit, interval, tolerance) in [
            (r#""1/s""#, SECOND, 4 * SECOND),
            (r#""100/s""#, 10_000_000, 90_000_000),
            (r#"{ "rate": "3/s", "burst": 1 }"#, 333_333_334, 0),
        ] {
            let limit: Limit = serde_json::from_str(limit).expect("a limit");
            assert_eq!(schedule(&limit), (interval, tolerance));
        }
    }
}
