//! Router advertisements on a port (RFC 4861, 6.2.1).

use std::net::{IpAddr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Port;
use crate::addr::{Prefix, ip_text::IpText};
use crate::diagnostic::Diagnostic;
use crate::path::Path;
use crate::quantity::{Mtu, Seconds};
use crate::validate::Checker;

/// Most prefixes, and most DNS servers, of one advertisement.
pub const MAX_OPTIONS: usize = 8;

/// What hosts are told that configure themselves. `{}` is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    default,
    expecting = "a mapping of router advertisement settings, such as `{}`"
)]
pub struct RouterAdvertisement {
    /// Whether they are sent. Default: true.
    #[serde(skip_serializing_if = "is_true")]
    pub enabled: bool,
    /// Longest time between two that are sent without being asked for, 4s to 1800s; the shortest is a third of it.
    /// Default: 600s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Seconds>,
    /// For how long hosts may use the router as their default router: from `interval` to 9000s.
    /// Default: three times `interval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Seconds>,
    /// Hosts are to get addresses by DHCPv6. Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub managed: bool,
    /// Hosts are to get other settings by DHCPv6. Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub other: bool,
    /// Networks on the link; in those with a length of 64 hosts make addresses for themselves. At most 8.
    /// Default: the IPv6 networks of the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<Vec<Prefix>>,
    /// Largest packet on the link, in bytes. Default: hosts are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// IPv6 addresses of DNS servers (RFC 8106). At most 8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns: Vec<IpText>,
}

impl Default for RouterAdvertisement {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: None,
            lifetime: None,
            managed: false,
            other: false,
            prefixes: None,
            mtu: None,
            dns: Vec::new(),
        }
    }
}

impl RouterAdvertisement {
    /// `interval`, or its default, in seconds.
    #[must_use]
    pub fn interval_seconds(&self) -> u32 {
        self.interval.map_or(600, Seconds::get)
    }

    /// `lifetime`, or its default, in seconds.
    #[must_use]
    pub fn lifetime_seconds(&self) -> u16 {
        let seconds = self
            .lifetime
            .map_or(3 * self.interval_seconds(), Seconds::get);
        u16::try_from(seconds).unwrap_or(u16::MAX)
    }

    /// The networks it names, each with its length.
    #[must_use]
    pub fn networks(&self, port: &Port) -> Vec<(Ipv6Addr, u8)> {
        let own = || {
            port.addresses
                .iter()
                .map(|address| address.network())
                .collect()
        };
        let prefixes: Vec<Prefix> = self.prefixes.clone().unwrap_or_else(own);
        let mut networks: Vec<(Ipv6Addr, u8)> = prefixes
            .iter()
            .filter_map(|prefix| match prefix.address() {
                IpAddr::V6(address) => Some((address, prefix.length())),
                IpAddr::V4(_) => None,
            })
            .collect();
        networks.sort_unstable();
        networks.dedup();
        networks
    }

    /// The DNS servers.
    pub fn dns_servers(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.dns.iter().filter_map(|server| match server.0 {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        })
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_true(value: &bool) -> bool {
    *value
}

pub(super) fn check(
    settings: &RouterAdvertisement,
    port: &Port,
    checker: &mut Checker<'_>,
    path: &Path,
) {
    let mut out_of_range = |field: &str, number: u32, first: u32, last: u32| {
        if !(first..=last).contains(&number) {
            let message = format!("{number}s is out of range: expected {first}s to {last}s");
            let place = path.key(field);
            checker.report(Diagnostic::error("out-of-range", &place, message));
        }
    };
    // RFC 4861, 6.2.1.
    let interval = settings.interval_seconds();
    out_of_range("interval", interval, 4, 1800);
    if let Some(lifetime) = settings.lifetime {
        out_of_range("lifetime", lifetime.get(), interval, 9000);
    }
    let networks = settings.networks(port);
    checker.limit(
        "prefixes",
        networks.len(),
        MAX_OPTIONS,
        &path.key("prefixes"),
    );
    checker.limit(
        "DNS servers",
        settings.dns.len(),
        MAX_OPTIONS,
        &path.key("dns"),
    );
    if networks.is_empty() {
        let message = "there is no IPv6 network to advertise on this port";
        let diagnostic = Diagnostic::error("no-network-to-advertise", path, message.to_owned());
        checker.report(diagnostic.help("give the port an address such as fd00:1::1/64"));
    }
    for (index, prefix) in settings.prefixes.iter().flatten().enumerate() {
        if prefix.address().is_ipv4() {
            let message = format!("{prefix} is IPv4, which router advertisements do not know");
            let place = path.key("prefixes").index(index);
            checker.report(Diagnostic::error("family-mismatch", &place, message));
        }
    }
    for (index, server) in settings.dns.iter().enumerate() {
        if server.0.is_ipv4() {
            let message = format!("{server} is IPv4, which router advertisements do not know");
            let place = path.key("dns").index(index);
            checker.report(Diagnostic::error("family-mismatch", &place, message));
        }
    }
}
