//! Rules on checks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::check::{Check, MAX_CHECKS, Probe};
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::path::Path;
use crate::topology::Topology;
use crate::validate::Checker;

pub(super) fn check(topology: &Topology, checker: &mut Checker<'_>) {
    let checks = Path::of(&["spec", "checks"]);
    let mut names: BTreeMap<&Name, usize> = BTreeMap::new();
    for (index, check) in topology.spec.checks.iter().enumerate() {
        let path = checks.index(index);
        if let Some(name) = &check.name {
            let first = *names.entry(name).or_insert(index);
            if first != index {
                let other = checker.refer_to(&checks.index(first));
                let diagnostic = Diagnostic::error(
                    "duplicate-name",
                    &path.key("name"),
                    format!("there is a check `{name}` already"),
                );
                checker.report(diagnostic.help(format!("the other one is {other}")));
            }
        }
        check_from(topology, check, checker, &path);
        check_target(check, checker, &path);
    }
    checker.limit("checks", topology.spec.checks.len(), MAX_CHECKS, &checks);
}

fn check_from(topology: &Topology, check: &Check, checker: &mut Checker<'_>, path: &Path) {
    let namespaces = &topology.spec.namespaces;
    let Some(from) = check
        .from
        .as_ref()
        .filter(|from| !namespaces.contains_key(*from))
    else {
        return;
    };
    let near = checker.closest(from.as_str(), namespaces.keys().map(Name::as_str));
    let help = near.map_or_else(
        || "name one of `spec.namespaces`, or leave `from` out to check from the host".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    let diagnostic = Diagnostic::error(
        "unknown-namespace",
        &path.key("from"),
        format!("there is no namespace `{from}`"),
    );
    checker.absent(&[&Path::of(&["spec", "namespaces"])], diagnostic.help(help));
}

/// One host must be able to answer.
fn check_target(check: &Check, checker: &mut Checker<'_>, path: &Path) {
    let (address, field) = match &check.probe {
        Probe::Ping(address) => (*address, "ping"),
        Probe::Tcp(address) => (address.ip(), "tcp"),
        Probe::Http(url, _) => (url.address().ip(), "http"),
    };
    let broadcast = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    let link_local = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let problem = if address.is_multicast() || address == broadcast {
        "no single host answers for it"
    } else if address.is_unspecified() {
        "it is the unspecified address"
    } else if link_local {
        "a link-local address does not say on which interface"
    } else {
        return;
    };
    checker.report(Diagnostic::error(
        "unusable-address",
        &path.key(field),
        format!("{address} cannot be checked: {problem}"),
    ));
}
