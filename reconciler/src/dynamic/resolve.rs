//! From routes of the kernel to routes of a router.

use std::net::IpAddr;

use ebpf_abi::{
    address::{V4, V6},
    router::{ROUTE_VIA, Route},
};
use topology_schema::{Name, Prefix, cube::router};

use crate::kernel::linux::netlink::TableRouteKind;

/// What a router needs to know of itself to use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Networks of its ports, with the ports' numbers.
    networks: Vec<(Prefix, u32)>,
    own: Vec<IpAddr>,
}

impl Resolver {
    /// Of a router whose ports have these numbers.
    pub fn new(spec: &router::Spec, number: impl Fn(&Name) -> Option<u32>) -> Self {
        let mut networks = Vec::new();
        let mut own = Vec::new();
        for (name, port) in &spec.ports {
            own.extend(port.addresses.iter().map(|address| address.address()));
            let Some(number) = number(name) else {
                continue;
            };
            let addresses = port.addresses.iter();
            networks.extend(addresses.map(|address| (address.network(), number)));
        }
        Self { networks, own }
    }

    /// What a route comes to.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub fn route(&self, kind: &TableRouteKind) -> Result<Route, String> {
        match kind {
            TableRouteKind::Via(gateways) => {
                // Of several the first that can be reached.
                let usable = gateways.iter().find_map(|(gateway, _)| self.via(*gateway));
                usable.ok_or_else(|| match gateways.as_slice() {
                    [(gateway, _)] => {
                        format!("next hop {gateway} is on no network of the router")
                    }
                    _ => "none of its next hops is on a network of the router".to_owned(),
                })
            }
            TableRouteKind::Link => Err("it has no next hop".to_owned()),
            TableRouteKind::Blackhole => Err("blackhole routes are not taken over".to_owned()),
            TableRouteKind::Unreachable => Err("unreachable routes are not taken over".to_owned()),
            TableRouteKind::Prohibit => Err("prohibit routes are not taken over".to_owned()),
        }
    }

    fn via(&self, gateway: IpAddr) -> Option<Route> {
        if self.own.contains(&gateway) {
            return None;
        }
        let on_it = |(network, _): &&(Prefix, u32)| network.contains(gateway);
        let (_, port) = self.networks.iter().find(on_it)?;
        Some(Route {
            kind: ROUTE_VIA,
            port: *port,
            next_hop: match gateway {
                IpAddr::V4(address) => V6::from_v4(V4::new(address.octets())),
                IpAddr::V6(address) => V6::new(address.octets()),
            },
        })
    }
}
