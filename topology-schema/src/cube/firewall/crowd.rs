//! Rules that a data plane cannot tell apart without comparing each.

use std::collections::HashMap;

use super::{AddressMatch, Chain, IcmpType, Ports, Protocol, Rule};
use crate::addr::Prefix;
use crate::diagnostic::Diagnostic;
use crate::path::Path;
use crate::validate::Checker;

/// Rules that may be compared one after the other without a word.
const MANY: usize = 64;

/// What a rule is found by. Sets, negations, TCP flags and states are compared only where this is the same.
type Key<'a> = (
    [Option<Prefix>; 2],
    Protocol,
    [Option<&'a Ports>; 2],
    Option<IcmpType>,
);

fn key(rule: &Rule) -> Key<'_> {
    let addresses = [&rule.source, &rule.destination].map(|address| match address {
        Some(AddressMatch::Is(target)) => target.prefix(),
        _ => None,
    });
    let ports = [&rule.source_port, &rule.destination_port].map(Option::as_ref);
    (addresses, rule.protocol, ports, rule.icmp_type)
}

/// Keys that many rules have: the first of the rules, and how many they are.
pub(super) fn find(chain: &Chain) -> Vec<(usize, usize)> {
    if chain.rules.len() <= MANY {
        return Vec::new();
    }
    let mut crowds: HashMap<Key<'_>, (usize, usize)> = HashMap::new();
    for (index, rule) in chain.rules.iter().enumerate() {
        crowds.entry(key(rule)).or_insert((index, 0)).1 += 1;
    }
    let mut crowds: Vec<_> = crowds
        .into_values()
        .filter(|(_, count)| *count > MANY)
        .collect();
    crowds.sort_unstable();
    crowds
}

/// Warns of those that were found.
pub(super) fn check(crowds: &[(usize, usize)], checker: &mut Checker<'_>, path: &Path) {
    for &(first, count) in crowds {
        let message = format!(
            "{count} rules like this one differ only in sets, `not`, `tcpFlags` or `state`: a packet may be compared with each of them"
        );
        let diagnostic = Diagnostic::warning("slow-rules", &path.index(first), message);
        checker.absent(
            &[path],
            diagnostic.help("name networks and ports: however many, those are looked up at once"),
        );
    }
}
