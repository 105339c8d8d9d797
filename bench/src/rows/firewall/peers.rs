//! The kernel's own filters with the same rules.

use std::fmt::Write as _;

use integration_tests::command::run_with;

use super::{address, target};
use crate::{
    machine::package,
    rig::{frames::Family, path::Path},
    rows::{router::kernel_router, topology::sides},
};

/// Who filters in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// nftables, a rule for each target.
    NftLinear,
    /// nftables, one rule with a map of all targets.
    NftSet,
    /// iptables, a rule for each target.
    Iptables,
}

impl Filter {
    /// Those that a family is compared with.
    pub fn all(family: Family) -> &'static [Self] {
        match family {
            Family::V4 => &[Self::NftSet, Self::NftLinear, Self::Iptables],
            Family::V6 => &[Self::NftSet],
        }
    }

    /// The same where connections are tracked: a list without a set has nothing to say there.
    pub fn tracking(family: Family) -> &'static [Self] {
        match family {
            Family::V4 => &[Self::NftSet, Self::Iptables],
            Family::V6 => &[Self::NftSet],
        }
    }

    /// What reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NftLinear => "nft, one rule each",
            Self::NftSet => "nft, one set",
            Self::Iptables => "iptables-legacy",
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::NftLinear => "linear",
            Self::NftSet => "set",
            Self::Iptables => "ipt",
        }
    }

    /// Of the package that it comes with.
    pub fn version(self) -> String {
        package(match self {
            Self::NftLinear | Self::NftSet => "nftables",
            Self::Iptables => "iptables",
        })
    }

    /// Makes the kernel in the middle of a way filter.
    fn load(self, path: &Path, family: Family, count: usize, tracked: bool) {
        let (command, text) = match self {
            Self::NftLinear | Self::NftSet => (
                "nft -f -",
                nft_of(family, count, tracked, self == Self::NftSet),
            ),
            Self::Iptables => ("iptables-legacy-restore", iptables(count, tracked)),
        };
        path.middle.enter(|| run_with(command, &text)).expect(0);
    }
}

/// A chain of nftables.
pub fn nft(count: usize, tracked: bool, as_set: bool) -> String {
    nft_of(Family::V4, count, tracked, as_set)
}

/// The same of a family.
fn nft_of(family: Family, count: usize, tracked: bool, as_set: bool) -> String {
    let (kind, header) = match family {
        Family::V4 => ("ipv4_addr", "ip"),
        Family::V6 => ("ipv6_addr", "ip6"),
    };
    let policy = if count == 0 { "accept" } else { "drop" };
    let mut text = String::from("table inet t {\n");
    if as_set && count > 0 {
        let _ = write!(
            text,
            "map m {{ type {kind} . inet_service : verdict\nelements = {{\n"
        );
        for number in 0..count {
            let (destination, port) = target(number);
            let destination = address(family, destination);
            let _ = writeln!(text, "{destination} . {port} : accept,");
        }
        text += "}\n}\n";
    }
    let _ = writeln!(
        text,
        "chain c {{ type filter hook forward priority 0; policy {policy};"
    );
    if tracked {
        text += "ct state established,related accept\n";
    }
    if as_set && count > 0 {
        let _ = writeln!(text, "meta l4proto udp {header} daddr . udp dport vmap @m");
    } else {
        for number in 0..count {
            let (destination, port) = target(number);
            let destination = address(family, destination);
            let _ = writeln!(text, "{header} daddr {destination} udp dport {port} accept");
        }
    }
    text + "}\n}\n"
}

/// The same for iptables.
pub fn iptables(count: usize, tracked: bool) -> String {
    let policy = if count == 0 { "ACCEPT" } else { "DROP" };
    let mut text = format!("*filter\n:INPUT ACCEPT\n:FORWARD {policy}\n:OUTPUT ACCEPT\n");
    if tracked {
        text += "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n";
    }
    for number in 0..count {
        let ([a, b, c, d], port) = target(number);
        let _ = writeln!(
            text,
            "-A FORWARD -d {a}.{b}.{c}.{d}/32 -p udp --dport {port} -j ACCEPT"
        );
    }
    text + "COMMIT\n"
}

/// A way through the kernel's router with one of the filters.
pub fn filtered(filter: Filter, family: Family, count: usize, tracked: bool) -> Path {
    let path = Path::apart(filter.tag());
    kernel_router(&path, family, &[sides(family).behind.to_owned()]);
    filter.load(&path, family, count, tracked);
    path
}
