//! NAT64: from IPv6 to IPv4.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::addr::Prefix;
use crate::address_range::AddressRange;

/// IPv6 hosts that talk to IPv4 hosts (RFC 6146).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping such as `{ to: 203.0.113.10 }`"
)]
#[schemars(rename = "Nat64")]
pub struct Nat64 {
    /// IPv6 addresses that stand for IPv4 addresses: a network of 32, 40, 48, 56, 64 or 96 bits (RFC 6052). Default:
    /// `64:ff9b::/96`, which must not stand for private addresses.
    #[serde(default = "well_known", skip_serializing_if = "is_well_known")]
    #[schemars(extend("default" = "64:ff9b::/96"))]
    pub prefix: Prefix,
    /// The networks of those who may. Default: everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<Prefix>,
    /// The IPv4 address that they have, or a range. A host always gets the same one. Without it, only hosts of `nat46` are
    /// translated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<AddressRange>,
}

/// Bits that [`Nat64::prefix`] may have (RFC 6052, 2.2).
pub(super) const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

impl Nat64 {
    /// Bits 64 to 71 of a prefix must be zero (RFC 6052, 2.2).
    pub(super) fn has_reserved_bits(prefix: Prefix) -> bool {
        match prefix.address() {
            IpAddr::V6(address) => address.octets()[8] != 0,
            IpAddr::V4(_) => false,
        }
    }
}

const fn well_known() -> Prefix {
    Prefix::WELL_KNOWN_NAT64
}

fn is_well_known(prefix: &Prefix) -> bool {
    *prefix == Prefix::WELL_KNOWN_NAT64
}
