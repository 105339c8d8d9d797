//! Route tables: what goes in, and what a key means.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_abi::{
    address::{V4, V6},
    router::{
        ROUTE_BROADCAST, ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_VIA, Route, RouteKeyV4, RouteKeyV6,
    },
};
use serde_json::Value;
use topology_schema::{InterfaceAddress, Prefix, cube::router::Spec};

use super::{bytes, words};
use crate::cube::Context;

/// Both route tables.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) v4: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) v6: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Routes {
    /// Static routes first: where a connected network is the same, that one counts.
    pub(super) fn of(context: &Context<'_>, spec: &Spec) -> Self {
        let mut routes = Self::default();
        for route in &spec.routes {
            let behind = spec.ports.iter().find(|(_, port)| {
                port.addresses
                    .iter()
                    .any(|address| address.network().contains(route.via))
            });
            let Some(port) = behind.and_then(|(name, _)| context.port(name)) else {
                continue;
            };
            routes.add(
                &route.to.prefix(route.via),
                ROUTE_VIA,
                port,
                Some(route.via),
            );
        }
        for (name, port) in &spec.ports {
            let Some(index) = context.port(name) else {
                continue;
            };
            // In reverse, so that the first address of a network is the one that speaks on it.
            for address in port.addresses.iter().rev() {
                routes.add(
                    &address.network(),
                    ROUTE_CONNECTED,
                    index,
                    Some(address.address()),
                );
            }
            for address in &port.addresses {
                routes.add_own(address, index);
            }
        }
        routes
    }

    /// The host routes of an address: itself, and the broadcast addresses of its network
    /// (RFC 1812, 5.3.5.2; a /31 has none, RFC 3021).
    fn add_own(&mut self, address: &InterfaceAddress, port: u32) {
        if let IpAddr::V4(v4) = address.address()
            && address.length() < 31
        {
            let mask = u32::MAX
                .checked_shr(u32::from(address.length()))
                .unwrap_or(0);
            for broadcast in [u32::from(v4) & !mask, u32::from(v4) | mask] {
                if let Some(prefix) = Prefix::containing(Ipv4Addr::from(broadcast).into(), 32) {
                    self.add(&prefix, ROUTE_BROADCAST, port, None);
                }
            }
        }
        let length = if address.address().is_ipv4() { 32 } else { 128 };
        if let Some(prefix) = Prefix::containing(address.address(), length) {
            self.add(&prefix, ROUTE_LOCAL, port, None);
        }
    }

    fn add(&mut self, to: &Prefix, kind: u32, port: u32, next_hop: Option<IpAddr>) {
        let length = u32::from(to.length());
        let route = Route {
            kind,
            port,
            next_hop: next_hop.map_or(V6::UNSPECIFIED, words),
        };
        match to.address() {
            IpAddr::V4(address) => {
                self.v4.insert(
                    bytes(&RouteKeyV4 {
                        length,
                        address: V4::new(address.octets()),
                    }),
                    bytes(&route),
                );
            }
            IpAddr::V6(address) => {
                self.v6.insert(
                    bytes(&RouteKeyV6 {
                        length,
                        address: V6::new(address.octets()),
                    }),
                    bytes(&route),
                );
            }
        }
    }
}

pub(super) fn destination(table: &str, key: &[u8]) -> Option<Prefix> {
    let (length, address) = if table == "routes_v4" {
        let key = bytemuck::try_pod_read_unaligned::<RouteKeyV4>(key).ok()?;
        (key.length, Ipv4Addr::from(key.address.bytes()).into())
    } else {
        let key = bytemuck::try_pod_read_unaligned::<RouteKeyV6>(key).ok()?;
        (key.length, Ipv6Addr::from(key.address.bytes()).into())
    };
    Prefix::containing(address, u8::try_from(length).ok()?)
}

/// A route as people write it, with the number of its port.
pub(super) fn value(table: &str, value: &[u8]) -> Option<Value> {
    let route = bytemuck::try_pod_read_unaligned::<Route>(value).ok()?;
    let port = route.port;
    let text = match route.kind {
        ROUTE_LOCAL => format!("local, port {port}"),
        ROUTE_CONNECTED => format!("connected, port {port}"),
        ROUTE_BROADCAST => format!("broadcast, port {port}"),
        ROUTE_VIA => format!("via {}, port {port}", next_hop(table, route.next_hop)),
        _ => return None,
    };
    Some(text.into())
}

pub(super) fn next_hop(table: &str, address: V6) -> IpAddr {
    if table == "routes_v4" {
        Ipv4Addr::from(address.v4().bytes()).into()
    } else {
        Ipv6Addr::from(address.bytes()).into()
    }
}
