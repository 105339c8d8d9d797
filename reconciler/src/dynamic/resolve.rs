//! From routes of the kernel to routes of a router.

use std::net::IpAddr;

use ebpf_abi::{
    address::{V4, V6},
    multipath::MEMBERS,
    router::{ROUTE_BLACKHOLE, ROUTE_PROHIBIT, ROUTE_UNREACHABLE, ROUTE_VIA, Route},
};
use topology_schema::{Name, Prefix, cube::router};

use crate::kernel::linux::netlink::TableRouteKind;

/// A next hop, and how many flows it gets compared with others.
pub type Weighted = (Route, u16);

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

    /// What a route comes to: at least one next hop, in the order of their addresses.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub fn route(&self, kind: &TableRouteKind) -> Result<Vec<Weighted>, String> {
        let nowhere = |kind| {
            let route = Route {
                kind,
                ..Route::default()
            };
            Ok(vec![(route, 1)])
        };
        match kind {
            TableRouteKind::Via(gateways) => {
                let usable = gateways.iter();
                let mut usable: Vec<Weighted> = usable
                    .filter_map(|(gateway, weight)| Some((self.via(*gateway)?, *weight)))
                    .collect();
                usable.sort_by_key(|(route, _)| route.next_hop);
                usable.dedup_by_key(|(route, _)| route.next_hop);
                usable.truncate(MEMBERS);
                match gateways.as_slice() {
                    _ if !usable.is_empty() => Ok(usable),
                    [(gateway, _)] => {
                        Err(format!("next hop {gateway} is on no network of the router"))
                    }
                    _ => Err("none of its next hops is on a network of the router".to_owned()),
                }
            }
            TableRouteKind::Link => Err("it has no next hop".to_owned()),
            TableRouteKind::Blackhole => nowhere(ROUTE_BLACKHOLE),
            TableRouteKind::Unreachable => nowhere(ROUTE_UNREACHABLE),
            TableRouteKind::Prohibit => nowhere(ROUTE_PROHIBIT),
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
            cost: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use topology_schema::Cube;

    use super::*;

    fn resolver() -> Resolver {
        let ports =
            json!({ "a": { "addresses": ["10.0.0.1/24"] }, "b": { "addresses": ["10.0.1.1/24"] } });
        let cube = json!({ "router": { "ports": ports } });
        let cube: Cube = serde_json::from_value(cube).expect("a router");
        let Cube::Router(spec) = cube else {
            panic!("a router")
        };
        Resolver::new(&spec, |port| Some(u32::from(port.as_str() == "b")))
    }

    fn via(gateways: &[(&str, u16)]) -> TableRouteKind {
        let gateways = gateways.iter();
        let parsed = gateways.map(|(gateway, weight)| (gateway.parse().unwrap(), *weight));
        TableRouteKind::Via(parsed.collect())
    }

    #[test]
    fn next_hops_that_can_be_reached_keep_their_weights() {
        let kind = via(&[("10.0.1.9", 3), ("192.0.2.1", 7), ("10.0.0.2", 1)]);
        let found = resolver().route(&kind).unwrap();
        let ways: Vec<_> = found
            .iter()
            .map(|(route, weight)| (route.kind, route.port, route.next_hop.v4().bytes(), *weight))
            .collect();
        assert_eq!(
            ways,
            [
                (ROUTE_VIA, 0, [10, 0, 0, 2], 1),
                (ROUTE_VIA, 1, [10, 0, 1, 9], 3)
            ]
        );
        assert!(resolver().route(&via(&[("192.0.2.1", 1)])).is_err());
        // Not to itself.
        assert!(resolver().route(&via(&[("10.0.0.1", 1)])).is_err());
    }

    #[test]
    fn routes_to_nowhere_are_taken_over() {
        for (kind, expected) in [
            (TableRouteKind::Blackhole, ROUTE_BLACKHOLE),
            (TableRouteKind::Unreachable, ROUTE_UNREACHABLE),
            (TableRouteKind::Prohibit, ROUTE_PROHIBIT),
        ] {
            assert_eq!(resolver().route(&kind).unwrap()[0].0.kind, expected);
        }
        assert!(resolver().route(&TableRouteKind::Link).is_err());
    }
}
