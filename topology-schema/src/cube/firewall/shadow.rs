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

/// Warns of the rules that were found.
pub(super) fn check(
    spec: &Spec,
    chain: &Chain,
    shadowed: &[(usize, usize)],
    checker: &mut Checker<'_>,
    path: &Path,
) {
    for &pair in shadowed {
        warn(chain, pair, checker, path);
    }
    warn_of_empty_sets(spec, chain, checker, path);
}

/// Such rules: for each, the one that matches all of its packets before, and the rule itself.
pub(super) fn find(chain: &Chain) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut before: HashMap<Key<'_>, Vec<usize>> = HashMap::new();
    let mut shapes: BTreeSet<Shape> = BTreeSet::new();
    let mut left = MAX_COMPARISONS;
    for (index, rule) in chain.rules.iter().enumerate() {
        let key = key(rule);
        let covering = shapes
            .iter()
            .filter_map(|shape| before.get(&shape.of(&key)?))
            .flatten()
            .copied()
            .take_while(|_| {
                left = left.saturating_sub(1);
                left > 0
            })
            .find(|&other| covers(&chain.rules[other], rule));
        if let Some(other) = covering {
            found.push((other, index));
        } else {
            shapes.insert(Shape::new(&key));
            before.entry(key).or_default().push(index);
        }
    }
    found
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

/// How much a key says. There are few of them, whatever the rules are: of each, a rule is covered by those with one key.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    source: Extent,
    destination: Extent,
    /// It names a protocol.
    protocol: bool,
    port: Extent,
}

/// How much is said of addresses or ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    Any,
    /// A prefix of this length, or one port.
    Within(u8),
    Other,
}

impl Shape {
    fn new(key: &Key<'_>) -> Self {
        let extent = |around: &Around<'_>| match around {
            Around::Any => Extent::Any,
            Around::Within(prefix) => Extent::Within(prefix.length()),
            Around::Other(_) => Extent::Other,
        };
        Self {
            source: extent(&key.source),
            destination: extent(&key.destination),
            protocol: key.protocol != Protocol::ALL,
            port: match key.port {
                Port::Any => Extent::Any,
                Port::One(_) => Extent::Within(0),
                Port::Several => Extent::Other,
            },
        }
    }

    /// The key of this shape that rules which may cover one with `key` have.
    fn of<'a>(&self, key: &Key<'a>) -> Option<Key<'a>> {
        let around = |extent: Extent, around: &Around<'a>| match (extent, around) {
            (Extent::Any, _) => Some(Around::Any),
            (Extent::Within(length), Around::Within(prefix)) if length <= prefix.length() => {
                Prefix::containing(prefix.address(), length).map(Around::Within)
            }
            (Extent::Other, Around::Other(_)) => Some(around.clone()),
            _ => None,
        };
        Some(Key {
            source: around(self.source, &key.source)?,
            destination: around(self.destination, &key.destination)?,
            protocol: match (self.protocol, key.protocol) {
                (false, _) => Protocol::ALL,
                (true, Protocol::ALL) => return None,
                (true, protocol) => protocol,
            },
            port: match (self.port, key.port) {
                (Extent::Any, _) => Port::Any,
                (Extent::Within(_), Port::One(port)) => Port::One(port),
                (Extent::Other, Port::One(_) | Port::Several) => Port::Several,
                _ => return None,
            },
        })
    }
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
