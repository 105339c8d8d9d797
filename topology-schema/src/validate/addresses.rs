//! Rules on IP addresses and next hops, the same for routers and namespaces.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::addr::{InterfaceAddress, RouteTarget};
use crate::diagnostic::Diagnostic;
use crate::path::Path;
use crate::validate::Checker;

impl Checker<'_> {
    /// An address that an interface is to have must be one that an interface can have.
    pub(crate) fn interface_address(
        &mut self,
        address: &InterfaceAddress,
        path: impl FnOnce() -> Path,
    ) {
        let ip = address.address();
        let problem = if let Some(problem) = unusable(ip) {
            problem
        } else if address.length() == 0 {
            "has a length of 0, so that every host would be on its network"
        } else if address.is_network_or_broadcast() {
            "is the network itself or its broadcast address"
        } else {
            return;
        };
        self.report(Diagnostic::error(
            "unusable-address",
            &path(),
            format!("no interface can have {address}: it {problem}"),
        ));
    }

    /// Routers of this version neither answer for nor forward by configured link-local addresses.
    pub(crate) fn no_link_local(&mut self, ip: IpAddr, path: impl FnOnce() -> Path) {
        if is_link_local_v6(ip) {
            let message = format!("{ip} is link-local, which a router port cannot be given");
            self.report(
                Diagnostic::error("link-local-address", &path(), message)
                    .help("use a unique local one, such as fd00::1/64"),
            );
        }
    }
}

/// Why no host can have the address.
fn unusable(ip: IpAddr) -> Option<&'static str> {
    if ip.is_multicast() {
        Some("is a multicast address")
    } else if ip.is_unspecified() {
        Some("is the unspecified address")
    } else if ip.is_loopback() {
        Some("is a loopback address")
    } else if ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        Some("is the broadcast address")
    } else {
        None
    }
}

fn is_link_local_v6(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The networks that are reached without a next hop.
pub(crate) struct ConnectedNetworks {
    /// First and last address of each, sorted and merged, so that a next hop is found by bisection.
    ranges: Vec<(IpAddr, IpAddr)>,
}

impl ConnectedNetworks {
    pub(crate) fn new<'a>(addresses: impl Iterator<Item = &'a InterfaceAddress>) -> Self {
        let mut networks: Vec<(IpAddr, IpAddr)> = addresses
            .map(|address| address.network().net())
            .map(|net| (net.network(), net.broadcast()))
            .collect();
        networks.sort_unstable();
        let mut ranges: Vec<(IpAddr, IpAddr)> = Vec::new();
        for (first, last) in networks {
            match ranges.last_mut() {
                // Networks either contain each other or are apart.
                Some((_, end)) if first <= *end => *end = last.max(*end),
                Some(_) | None => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= ip);
        after
            .checked_sub(1)
            .is_some_and(|position| ip <= self.ranges[position].1)
    }
}

/// What a route is checked against.
pub(crate) struct RouteCheck<'a> {
    pub(crate) networks: &'a ConnectedNetworks,
    pub(crate) own: &'a BTreeSet<IpAddr>,
    /// Where the addresses are configured.
    pub(crate) depends_on: &'a Path,
    /// Whose networks these are, for the message.
    pub(crate) owner: &'a str,
}

impl RouteCheck<'_> {
    /// The rules on the next hop of one route; `path` is the route's.
    pub(crate) fn check(
        &self,
        checker: &mut Checker<'_>,
        to: RouteTarget,
        via: IpAddr,
        path: impl Fn() -> Path,
    ) {
        let path = || path().key("via");
        let family = |ip: IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let target = to.prefix(via);
        if target.address().is_ipv4() != via.is_ipv4() {
            let message = format!(
                "{target} is {}, but its next hop {via} is {}",
                family(target.address()),
                family(via)
            );
            checker.report(Diagnostic::error("family-mismatch", &path(), message));
        } else if let Some(problem) = unusable(via) {
            checker.report(Diagnostic::error(
                "unusable-next-hop",
                &path(),
                format!("{via} cannot be a next hop: it {problem}"),
            ));
        } else if is_link_local_v6(via) {
            let message = format!("{via} is link-local, which is not supported as a next hop");
            let diagnostic = Diagnostic::error("unusable-next-hop", &path(), message);
            checker
                .report(diagnostic.help("use a global or unique local address of the next router"));
        } else if self.own.contains(&via) {
            checker.report(Diagnostic::error(
                "own-address",
                &path(),
                format!("the next hop {via} is an address of its own"),
            ));
        } else if !self.networks.contains(via) {
            let message = format!("the next hop {via} is on no network of {}", self.owner);
            checker.absent(
                &[self.depends_on],
                Diagnostic::error("not-connected", &path(), message),
            );
        }
    }
}
