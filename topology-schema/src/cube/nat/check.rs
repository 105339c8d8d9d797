//! The rules on the settings of a NAT.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::families::LENGTHS;
use super::{MAX_ADDRESSES, MAX_RULES, Masquerade, Nat64, PortForward, PrefixPair, Spec};
use crate::addr::Prefix;
use crate::address_range::AddressRange;
use crate::cube::CubeContext;
use crate::diagnostic::Diagnostic;
use crate::path::Path;
use crate::validate::Checker;

/// Longest prefix of `nptv6`: behind it are the 64 bits of the interface identifier.
const LONGEST_NPTV6: u8 = 64;

pub(crate) fn check(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    if let Masquerade::Prefixes(prefixes) = &spec.masquerade {
        let path = cube.path.key("masquerade");
        checker.limit("prefixes", prefixes.len(), MAX_RULES, &path);
        let items = prefixes.iter().map(|prefix| (prefix.to_string(), "prefix"));
        duplicates(checker, &path, items);
    }
    snat(spec, checker, cube);
    dnat(spec, checker, cube);
    port_forward(&spec.port_forward, checker, &cube.path.key("portForward"));
    pairs(&spec.static_prefixes, checker, &cube.path.key("static"));
    let path = cube.path.key("nptv6");
    pairs(&spec.nptv6, checker, &path);
    for (index, pair) in spec.nptv6.iter().enumerate() {
        let internal = pair.internal;
        if internal.address().is_ipv4() || internal.length() > LONGEST_NPTV6 {
            let message = format!("{internal} is no IPv6 network of {LONGEST_NPTV6} bits or less");
            let diagnostic =
                Diagnostic::error("npt-prefix", &path.index(index).key("internal"), message);
            checker.report(diagnostic.help("use `static` for other networks"));
        }
    }
    across(spec, checker, cube);
    if let Some(nat64) = &spec.nat64 {
        families(nat64, checker, &cube.path.key("nat64"));
    }
    nat46(&spec.nat46, checker, &cube.path.key("nat46"));
    ranges(spec, checker, cube);
}

/// The settings of `nat64`.
fn families(nat64: &Nat64, checker: &mut Checker<'_>, path: &Path) {
    let (prefix, at) = (nat64.prefix, path.key("prefix"));
    if prefix.address().is_ipv4() || !LENGTHS.contains(&prefix.length()) {
        let message = format!("{prefix} is no IPv6 network of 32, 40, 48, 56, 64 or 96 bits");
        let diagnostic = Diagnostic::error("translation-prefix", &at, message);
        checker.report(diagnostic.help("leave it out for 64:ff9b::/96"));
    } else if Nat64::has_reserved_bits(prefix) {
        let message = format!("bits 64 to 71 of {prefix} are not zero");
        checker.report(Diagnostic::error("translation-prefix", &at, message));
    }
    let at = path.key("source");
    checker.limit("prefixes", nat64.source.len(), MAX_RULES, &at);
    let sources = nat64.source.iter();
    duplicates(
        checker,
        &at,
        sources.map(|source| (source.to_string(), "source")),
    );
    for (index, source) in nat64.source.iter().enumerate() {
        if source.address().is_ipv4() {
            let message = format!("{source} is no IPv6 network");
            let diagnostic = Diagnostic::error("family-mismatch", &at.index(index), message);
            checker.report(diagnostic.help("NAT64 is for IPv6 hosts: write their network"));
        }
    }
    if let Some(to) = nat64.to {
        let at = path.key("to");
        if !to.first().is_ipv4() {
            let message = format!("{to} is no IPv4 address");
            let diagnostic = Diagnostic::error("family-mismatch", &at, message);
            checker.report(diagnostic.help("write the IPv4 address that IPv4 hosts are to see"));
        }
        for address in [to.first(), to.last()] {
            usable(checker, address, &at);
        }
    }
}

fn nat46(pairs: &[PrefixPair], checker: &mut Checker<'_>, path: &Path) {
    checker.limit("entries", pairs.len(), MAX_RULES, path);
    let mut sides: [BTreeMap<(bool, IpAddr), (Prefix, Path)>; 2] = Default::default();
    for (index, pair) in pairs.iter().enumerate() {
        let path = path.index(index);
        let (internal, external) = (pair.internal, pair.external);
        if internal.address().is_ipv4() || !external.address().is_ipv4() {
            let message = format!("{internal} is no IPv6 network, or {external} no IPv4 network");
            let diagnostic = Diagnostic::error("family-mismatch", &path, message);
            let help =
                "`internal` is where IPv6 hosts are, `external` what IPv4 hosts know them by";
            checker.report(diagnostic.help(help));
        } else if 128 - internal.length() != 32 - external.length() {
            let message = format!("{internal} and {external} do not have as many hosts");
            let diagnostic = Diagnostic::error("length-mismatch", &path.key("external"), message);
            checker.report(diagnostic.help("a /120 goes with a /24, one address with one address"));
        }
        for (side, (name, prefix)) in [("internal", internal), ("external", external)]
            .into_iter()
            .enumerate()
        {
            overlap(checker, &mut sides[side], prefix, path.key(name));
        }
    }
}

fn snat(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let path = cube.path.key("snat");
    checker.limit("entries", spec.snat.len(), MAX_RULES, &path);
    let sources = spec.snat.iter().map(|entry| entry.source.to_string());
    duplicates(checker, &path, sources.map(|source| (source, "source")));
    for (index, entry) in spec.snat.iter().enumerate() {
        let path = path.index(index);
        let source = entry.source.address();
        same_family(checker, (source, entry.to.first()), &path.key("to"));
        for address in [entry.to.first(), entry.to.last()] {
            usable(checker, address, &path.key("to"));
        }
    }
}

/// External addresses that have ports: an address has one set of them, so two ranges are the same or apart.
fn ranges(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let snat = cube.path.key("snat");
    let addresses = spec.ranges().map(AddressRange::count);
    let addresses = addresses.fold(0, usize::saturating_add);
    checker.limit("external addresses", addresses, MAX_ADDRESSES, &snat);
    let mut ranges: BTreeMap<IpAddr, (Path, AddressRange)> = BTreeMap::new();
    for (index, range) in spec.ranges().enumerate() {
        let path = if index < spec.snat.len() {
            snat.index(index).key("to")
        } else {
            cube.path.key("nat64").key("to")
        };
        let other = ranges
            .range(..=range.last())
            .next_back()
            .filter(|(_, (_, other))| other.last() >= range.first() && *other != range);
        if let Some((_, (first, other))) = other {
            let message = format!("{range} overlaps {other} at `{first}`");
            let diagnostic = Diagnostic::error("overlapping-ranges", &path, message);
            checker.report(
                diagnostic.help("write the same range, or ranges without a common address"),
            );
        } else {
            ranges.insert(range.first(), (path, range));
        }
    }
}

fn dnat(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let path = cube.path.key("dnat");
    checker.limit("entries", spec.dnat.len(), MAX_RULES, &path);
    let items = spec.dnat.iter();
    let items = items.map(|entry| (entry.destination.to_string(), "destination"));
    duplicates(checker, &path, items);
    for (index, entry) in spec.dnat.iter().enumerate() {
        ends(checker, (entry.destination, entry.to), &path.index(index));
    }
}

fn port_forward(entries: &[PortForward], checker: &mut Checker<'_>, path: &Path) {
    checker.limit("entries", entries.len(), MAX_RULES, path);
    let mut seen: BTreeMap<_, BTreeMap<u16, (usize, &PortForward)>> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = path.index(index);
        ends(checker, (entry.destination, entry.to), &path);
        if entry.port.first() == 0 {
            let message = "nobody can be reached at port 0";
            let diagnostic = Diagnostic::error("out-of-range", &path.key("port"), message);
            checker.report(diagnostic.help("write a port from 1 to 65535, or a range of them"));
        }
        let last = entry.to_port.map_or(0, |port| {
            port.get() + u32::from(entry.port.last() - entry.port.first())
        });
        if last > u32::from(u16::MAX) {
            let message = format!("the last port of {} would become {last}", entry.port);
            checker.report(Diagnostic::error(
                "out-of-range",
                &path.key("toPort"),
                message,
            ));
        }
        // What was there before does not overlap, so the nearest one below and the first above decide.
        let ports = seen.entry((entry.destination, entry.protocol)).or_default();
        let other = ports
            .range(..=entry.port.last())
            .next_back()
            .filter(|(_, (_, other))| other.port.overlaps(entry.port));
        if let Some((_, (first, other))) = other {
            let message = format!(
                "port {} of {} is forwarded already by entry {first} (port {})",
                entry.port, entry.destination, other.port
            );
            checker.report(Diagnostic::error(
                "duplicate-port",
                &path.key("port"),
                message,
            ));
        } else {
            ports.insert(entry.port.first(), (index, entry));
        }
    }
}

fn pairs(pairs: &[PrefixPair], checker: &mut Checker<'_>, path: &Path) {
    checker.limit("entries", pairs.len(), MAX_RULES, path);
    for (index, pair) in pairs.iter().enumerate() {
        let path = path.index(index).key("external");
        let (internal, external) = (pair.internal, pair.external);
        same_family(checker, (internal.address(), external.address()), &path);
        if internal.length() != external.length() {
            let message = format!("{internal} and {external} do not have the same length");
            checker.report(Diagnostic::error("length-mismatch", &path, message));
        }
    }
}

/// No address may be translated in two ways by networks of either list.
fn across(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let lists = [("static", &spec.static_prefixes), ("nptv6", &spec.nptv6)];
    let mut sides: [BTreeMap<(bool, IpAddr), (Prefix, Path)>; 2] = Default::default();
    for (field, pairs) in lists {
        for (index, pair) in pairs.iter().enumerate() {
            for (side, (name, prefix)) in [("internal", pair.internal), ("external", pair.external)]
                .into_iter()
                .enumerate()
            {
                let path = cube.path.key(field).index(index).key(name);
                overlap(checker, &mut sides[side], prefix, path);
            }
        }
    }
}

fn overlap(
    checker: &mut Checker<'_>,
    seen: &mut BTreeMap<(bool, IpAddr), (Prefix, Path)>,
    prefix: Prefix,
    path: Path,
) {
    let key = |address: IpAddr| (address.is_ipv4(), address);
    let last = key(prefix.net().broadcast());
    let other = seen
        .range(..=last)
        .next_back()
        .filter(|(_, (other, _))| other.overlaps(&prefix))
        .map(|(_, (other, at))| (*other, at.clone()));
    if let Some((other, at)) = other {
        let message = format!("{prefix} overlaps {other} at `{at}`");
        checker.report(Diagnostic::error("overlapping-prefixes", &path, message));
    } else {
        seen.insert(key(prefix.address()), (prefix, path));
    }
}

/// The external and the inside address of an entry.
fn ends(checker: &mut Checker<'_>, (destination, to): (IpAddr, IpAddr), path: &Path) {
    same_family(checker, (destination, to), &path.key("to"));
    usable(checker, destination, &path.key("destination"));
    usable(checker, to, &path.key("to"));
}

fn same_family(checker: &mut Checker<'_>, (one, other): (IpAddr, IpAddr), path: &Path) {
    if one.is_ipv4() != other.is_ipv4() {
        let message = format!("{one} and {other} are not of the same family");
        let diagnostic = Diagnostic::error("family-mismatch", path, message);
        checker.report(
            diagnostic
                .help("write addresses of one family; `nat64` and `nat46` translate between them"),
        );
    }
}

fn usable(checker: &mut Checker<'_>, address: IpAddr, path: &Path) {
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        let message = format!("{address} is no address of one host on a network");
        checker.report(Diagnostic::error("unusable-address", path, message));
    }
}

fn duplicates(
    checker: &mut Checker<'_>,
    path: &Path,
    items: impl Iterator<Item = (String, &'static str)>,
) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, (item, what)) in items.enumerate() {
        if !seen.insert(item.clone()) {
            let message = format!("the {what} {item} is listed already");
            checker.report(Diagnostic::error(
                "duplicate-entry",
                &path.index(index),
                message,
            ));
        }
    }
}
