//! Rules on a firewall's own fields.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::thread;

use super::{
    Action, Chain, MAX_PREFIXES, MAX_RANGES, MAX_RULES, MAX_SETS, Ports, Protocol, Rule, Spec,
    State, TCP_FLAGS, Target, crowd, shadow,
};
use crate::cube::CubeContext;
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::path::Path;
use crate::suggest;
use crate::validate::Checker;

pub(crate) fn check(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    check_sets(spec, checker, cube);
    if spec.tcp_window_check && !spec.conntrack {
        let message = "without connection tracking nobody knows the windows of a connection";
        let path = cube.path.key("tcpWindowCheck");
        let diagnostic = Diagnostic::error("conflicting-fields", &path, message);
        checker.report(diagnostic.help("remove `conntrack: false`"));
    }
    for (field, chain) in spec.chains() {
        let path = cube.path.key(field).key("rules");
        checker.limit("rules", chain.rules.len(), MAX_RULES, &path);
        let (shadowed, crowds) = beside(
            chain,
            || shadow::find(chain),
            || {
                check_names(chain, checker, &path);
                for (index, rule) in chain.rules.iter().enumerate() {
                    let place = Place {
                        list: &path,
                        index,
                        cube,
                    };
                    check_addresses(spec, rule, checker, &place);
                    check_protocol(rule, checker, &place);
                    check_state(spec, rule, checker, &place);
                }
                crowd::find(chain)
            },
        );
        shadow::check(spec, chain, &shadowed, checker, &path);
        crowd::check(&crowds, checker, &path);
    }
}

/// Rules from which two things are done at once: starting a thread takes as long as looking at a few hundred.
const MANY: usize = 1024;

/// Does both, of many rules at once.
fn beside<A: Send, B>(
    chain: &Chain,
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B,
) -> (A, B) {
    if chain.rules.len() < MANY {
        return (one(), other());
    }
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (
            one.join().unwrap_or_else(|panic| resume_unwind(panic)),
            other,
        )
    })
}

/// Where a rule is.
struct Place<'a> {
    list: &'a Path,
    index: usize,
    cube: &'a CubeContext<'a>,
}

impl Place<'_> {
    /// Put together only if there is something to say.
    fn path(&self) -> Path {
        self.list.index(self.index)
    }
}

fn check_sets(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let path = cube.path.key("sets");
    checker.limit("sets", spec.sets.len(), MAX_SETS, &path);
    let count = spec.sets.values().map(Vec::len).sum();
    checker.limit("networks in sets", count, MAX_PREFIXES, &path);
    for (name, prefixes) in &spec.sets {
        let path = path.key(name.as_str());
        let mut seen = BTreeSet::new();
        for (index, prefix) in prefixes.iter().enumerate() {
            if !seen.insert(prefix) {
                checker.report(Diagnostic::error(
                    "duplicate-prefix",
                    &path.index(index),
                    format!("{prefix} is listed already"),
                ));
            }
        }
        let is_named = |rule: &Rule| {
            let addresses = [&rule.source, &rule.destination].into_iter().flatten();
            let mut sets = addresses.filter_map(|address| address.target().set());
            sets.any(|set| set == name)
        };
        let mut rules = spec
            .chains()
            .into_iter()
            .flat_map(|(_, chain)| &chain.rules);
        if !rules.any(is_named) {
            let message = format!("no rule names the set `{name}`");
            let diagnostic = Diagnostic::warning("unused-set", &path, message);
            checker.absent(
                &[&cube.path],
                diagnostic.help(format!("write `source: \"@{name}\"`")),
            );
        }
    }
}

/// A name stands for one rule in plans and outputs.
fn check_names(chain: &Chain, checker: &mut Checker<'_>, path: &Path) {
    let mut seen: BTreeMap<&Name, usize> = BTreeMap::new();
    for (index, rule) in chain.rules.iter().enumerate() {
        let Some(name) = &rule.name else { continue };
        let place = path.index(index).key("name");
        let first = *seen.entry(name).or_insert(index);
        if first != index {
            let other = checker.refer_to(&path.index(first));
            let message = format!("there is a rule `{name}` already");
            let diagnostic = Diagnostic::error("duplicate-entry", &place, message);
            checker.report(diagnostic.help(format!("the other one is {other}")));
        }
        if name.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("`{name}` would be mistaken for a rule's place in the list");
            let diagnostic = Diagnostic::error("invalid-name", &place, message);
            checker.report(diagnostic.help("a rule's name needs a letter"));
        }
    }
}

fn check_addresses(spec: &Spec, rule: &Rule, checker: &mut Checker<'_>, place: &Place<'_>) {
    for (field, address) in [("source", &rule.source), ("destination", &rule.destination)] {
        let Some(Target::Set(name)) = address.as_ref().map(|address| address.target()) else {
            continue;
        };
        if !spec.sets.contains_key(name) {
            let near = checker.closest(name.as_str(), spec.sets.keys().map(Name::as_str));
            let help = known_sets(spec, near);
            let message = format!("`{}` has no set `{name}`", place.cube.name);
            let path = place.path().key(field);
            let diagnostic = Diagnostic::error("unknown-set", &path, message).help(help);
            checker.absent(&[&place.cube.path.key("sets")], diagnostic);
        }
    }
    let families = rule.families();
    if !families.v4 && !families.v6 {
        let message = format!(
            "the rule matches nothing: {} is about IPv4, and {} about IPv6",
            list(&fields_about(rule, true)),
            list(&fields_about(rule, false))
        );
        let diagnostic = Diagnostic::error("mixed-families", &place.path(), message);
        checker.report(diagnostic.help(
            "write a rule for IPv4 and one for IPv6; a set (`@name`) may have networks of both",
        ));
    }
}

/// Which sets could have been meant.
fn known_sets(spec: &Spec, near: Option<&str>) -> String {
    let names: Vec<_> = spec.sets.keys().map(|name| format!("@{name}")).collect();
    let known = match names.as_slice() {
        [] => "there are no sets: write `sets: { NAME: [10.0.0.0/8] }`".to_owned(),
        names => format!("the sets are {}", list(names)),
    };
    match (near, names.len()) {
        (Some(near), 1) => format!("did you mean `@{near}`?"),
        (Some(near), _) => format!("did you mean `@{near}`? {}", capital(&known)),
        (None, _) => known,
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn list(items: &[String]) -> String {
    suggest::list(items.iter().map(String::as_str))
}

/// What of a rule is about a family of IP: `source: 10.0.0.0/8`.
fn fields_about(rule: &Rule, v4: bool) -> Vec<String> {
    let mut fields = Vec::new();
    for (field, address) in [("source", &rule.source), ("destination", &rule.destination)] {
        let prefix = address
            .as_ref()
            .and_then(|address| address.target().prefix());
        if let Some(prefix) = prefix.filter(|prefix| prefix.address().is_ipv4() == v4) {
            fields.push(format!("{field}: {prefix}"));
        }
    }
    match rule.protocol {
        Protocol::ICMP if v4 => fields.push("protocol: icmp".to_owned()),
        Protocol::ICMPV6 if !v4 => fields.push("protocol: icmpv6".to_owned()),
        _ => {}
    }
    fields
}

fn check_protocol(rule: &Rule, checker: &mut Checker<'_>, place: &Place<'_>) {
    let conflict = |checker: &mut Checker<'_>, field: &str, message: String, help: &str| {
        let path = place.path().key(field);
        checker.report(Diagnostic::error("conflicting-fields", &path, message).help(help));
    };
    let protocol = rule.protocol;
    for (field, ports) in [
        ("sourcePort", &rule.source_port),
        ("destinationPort", &rule.destination_port),
    ] {
        if ports.is_some() && !protocol.has_ports() {
            let message = match protocol {
                Protocol::ALL => "a port needs a protocol that has ports".to_owned(),
                _ => format!("{protocol} has no ports"),
            };
            conflict(checker, field, message, "write `protocol: tcp` or `udp`");
        }
    }
    let count = merged(rule.source_port.as_ref()) + merged(rule.destination_port.as_ref());
    if count > MAX_RANGES {
        let message = format!("the rule has {count} separate ports and ranges of ports");
        let diagnostic = Diagnostic::error("limit-exceeded", &place.path(), message);
        let help = format!("at most {MAX_RANGES}, those of both sides together: write two rules");
        checker.report(diagnostic.help(help));
    }
    if let Some(kind) = rule.icmp_type {
        let help = "write `protocol: icmp` or `icmpv6`";
        if !matches!(protocol, Protocol::ICMP | Protocol::ICMPV6) {
            let message = "a type of ICMP message needs `protocol: icmp` or `icmpv6`".to_owned();
            conflict(checker, "icmpType", message, help);
        } else if kind.number_for(protocol).is_none() {
            let message = format!("{protocol} has no message `{kind}`");
            conflict(
                checker,
                "icmpType",
                message,
                "the other version of ICMP has it",
            );
        }
    }
    if let Some(flags) = rule.tcp_flags {
        if protocol != Protocol::TCP {
            let message = "TCP flags need `protocol: tcp`".to_owned();
            conflict(checker, "tcpFlags", message, "write `protocol: tcp`");
        }
        let both = flags.set & flags.clear;
        if both != 0 {
            let name = TCP_FLAGS[both.trailing_zeros() as usize];
            let message = format!("{name} cannot be set and not be set");
            conflict(checker, "tcpFlags", message, "the rule would match nothing");
        }
    }
}

/// How many ranges there are when those that touch are put together.
fn merged(ports: Option<&Ports>) -> usize {
    let Some(ports) = ports else { return 0 };
    let mut ranges = ports.ranges().to_vec();
    ranges.sort();
    let mut count = 0;
    let mut end = None;
    for range in ranges {
        if end.is_none_or(|end| u32::from(range.first()) > u32::from(end) + 1) {
            count += 1;
        }
        end = end.max(Some(range.last()));
    }
    count
}

fn check_state(spec: &Spec, rule: &Rule, checker: &mut Checker<'_>, place: &Place<'_>) {
    if let Some(states) = &rule.state {
        let path = place.path().key("state");
        if !spec.conntrack {
            let message = "without connection tracking no packet has a state";
            let diagnostic = Diagnostic::error("conflicting-fields", &path, message);
            checker.report(diagnostic.help("remove `conntrack: false`"));
        }
        let skips = |state| matches!(state, State::Established | State::Related);
        if spec.conntrack && spec.accept_established && states.iter().all(skips) {
            let message = "no packet in these states meets the rules: they pass before";
            let diagnostic = Diagnostic::warning("unreachable-rule", &path, message);
            checker.report(diagnostic.help("write `acceptEstablished: false` to filter them"));
        }
    }
    if rule.limit.is_some() && rule.action == Action::Drop {
        let message = "a rule that drops needs no limit: what exceeds a limit is dropped";
        let diagnostic =
            Diagnostic::error("conflicting-fields", &place.path().key("limit"), message);
        checker.report(diagnostic.help("use it with `action: accept` or `action: reject`"));
    }
}
