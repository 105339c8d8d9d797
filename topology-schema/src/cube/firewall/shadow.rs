//! Rules that can never match, because one before them matches all of their packets.

use std::collections::{BTreeSet, HashMap};

use super::{AddressMatch, Chain, Ports, Protocol, Rule, Spec, Target};
use crate::addr::Prefix;
use crate::diagnostic::Diagnostic;
use crate::path::Path;
use crate::validate::Checker;

/// Most pairs of rules that are compared in one chain: there may be warnings less, but no validation takes long.
const MAX_COMPARISONS: usize = 2_000_000;

/// Rules that one of these may cover have the same, or a wider one that is found by looking it up.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key<'a> {
    source: Around<'a>,
    destination: Around<'a>,
    protocol: Protocol,
    port: Port,
}

/// Addresses.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Around<'a> {
    Any,
    Within(Prefix),
    /// Covered by the same only, and by all.
    Other(&'a AddressMatch),
}

/// Destination ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Port {
    Any,
    One(u16),
    Several,
}

pub(super) fn check(spec: &Spec, chain: &Chain, checker: &mut Checker<'_>, path: &Path) {
    let mut before: HashMap<Key<'_>, Vec<usize>> = HashMap::new();
    let mut lengths = [const { BTreeSet::new() }; 2];
    let mut left = MAX_COMPARISONS;
    for (index, rule) in chain.rules.iter().enumerate() {
        let key = key(rule);
        let covering = wider(&key, &lengths)
            .filter_map(|wider| before.get(&wider))
            .flatten()
            .copied()
            .take_while(|_| {
                left = left.saturating_sub(1);
                left > 0
            })
            .find(|&other| covers(&chain.rules[other], rule));
        if let Some(other) = covering {
            warn(chain, (other, index), checker, path);
        } else {
            for (lengths, around) in lengths.iter_mut().zip([&key.source, &key.destination]) {
                if let Around::Within(prefix) = around {
                    lengths.insert(prefix.length());
                }
            }
            before.entry(key).or_default().push(index);
        }
    }
    warn_of_empty_sets(spec, chain, checker, path);
}

fn warn(chain: &Chain, (other, index): (usize, usize), checker: &mut Checker<'_>, path: &Path) {
    let message = match &chain.rules[other].name {
        Some(name) => format!("no packet gets to this rule: `{name}` matches all of them before"),
        None => format!("no packet gets to this rule: `rules[{other}]` matches all of them before"),
    };
    let place = checker.refer_to(&path.index(other));
    let diagnostic = Diagnostic::warning("shadowed-rule", &path.index(index), message);
    let diagnostic = diagnostic.help(format!("remove it, or move it in front of {place}"));
    checker.absent(&[path], diagnostic);
}

/// A rule that asks for a member of a set that has none.
fn warn_of_empty_sets(spec: &Spec, chain: &Chain, checker: &mut Checker<'_>, path: &Path) {
    for (index, rule) in chain.rules.iter().enumerate() {
        for (field, address) in [("source", &rule.source), ("destination", &rule.destination)] {
            let Some(AddressMatch::Is(Target::Set(name))) = address else {
                continue;
            };
            if spec.sets.get(name).is_some_and(Vec::is_empty) {
                let message = format!("the rule matches nothing: the set `{name}` is empty");
                let path = path.index(index).key(field);
                checker.report(Diagnostic::warning("empty-set", &path, message));
            }
        }
    }
}

fn key(rule: &Rule) -> Key<'_> {
    Key {
        source: around(rule.source.as_ref()),
        destination: around(rule.destination.as_ref()),
        protocol: rule.protocol,
        port: match rule.destination_port.as_ref().map(Ports::ranges) {
            None => Port::Any,
            Some([range]) if range.first() == range.last() => Port::One(range.first()),
            Some(_) => Port::Several,
        },
    }
}

fn around(address: Option<&AddressMatch>) -> Around<'_> {
    match address {
        None => Around::Any,
        Some(AddressMatch::Is(Target::Prefix(prefix))) => Around::Within(*prefix),
        Some(other) => Around::Other(other),
    }
}

/// The keys of rules that may cover one with this key.
fn wider<'a>(
    key: &Key<'a>,
    [sources, destinations]: &[BTreeSet<u8>; 2],
) -> impl Iterator<Item = Key<'a>> {
    let around = |around: &Around<'a>, lengths: &BTreeSet<u8>| {
        let mut wider = vec![Around::Any];
        match around {
            Around::Any => {}
            Around::Within(prefix) => wider.extend(
                lengths
                    .range(..=prefix.length())
                    .filter_map(|length| Prefix::containing(prefix.address(), *length))
                    .map(Around::Within),
            ),
            Around::Other(_) => wider.push(around.clone()),
        }
        wider
    };
    let sources = around(&key.source, sources);
    let destinations = around(&key.destination, destinations);
    let protocols = match key.protocol {
        Protocol::ALL => vec![Protocol::ALL],
        protocol => vec![Protocol::ALL, protocol],
    };
    let ports = match key.port {
        Port::Any => vec![Port::Any],
        Port::One(_) => vec![Port::Any, key.port, Port::Several],
        Port::Several => vec![Port::Any, Port::Several],
    };
    let mut keys = Vec::new();
    for source in &sources {
        for destination in &destinations {
            for &protocol in &protocols {
                for &port in &ports {
                    keys.push(Key {
                        source: source.clone(),
                        destination: destination.clone(),
                        protocol,
                        port,
                    });
                }
            }
        }
    }
    keys.into_iter()
}

/// Whether what the second rule matches, the first one does, too. Addresses and protocol were looked up.
fn covers(first: &Rule, second: &Rule) -> bool {
    let ports = |first: &Option<Ports>, second: &Option<Ports>| match (first, second) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(first), Some(second)) => second.ranges().iter().all(|inner| {
            let mut ranges = first.ranges().iter();
            ranges.any(|outer| outer.first() <= inner.first() && inner.last() <= outer.last())
        }),
    };
    let icmp = first.icmp_type.is_none()
        || first
            .icmp_type
            .and_then(|kind| kind.number_for(first.protocol))
            == second
                .icmp_type
                .and_then(|kind| kind.number_for(second.protocol));
    let flags = match (first.tcp_flags, second.tcp_flags) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(first), Some(second)) => {
            first.set & !second.set == 0 && first.clear & !second.clear == 0
        }
    };
    let states = match (&first.state, &second.state) {
        (None, _) => true,
        (Some(first), None) => first.iter().count() == 4,
        (Some(first), Some(second)) => second.iter().all(|state| first.contains(state)),
    };
    ports(&first.source_port, &second.source_port)
        && ports(&first.destination_port, &second.destination_port)
        && icmp
        && flags
        && states
}
