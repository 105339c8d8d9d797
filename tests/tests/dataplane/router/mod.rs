//! `router`: forwarding, neighbours and ICMP of both families.

mod advertise;
mod arp;
mod errors_v4;
mod errors_v6;
mod forward_v4;
mod forward_v6;
mod fragment;
mod frames;
mod large;
mod local;
mod mtu;
mod multipath;
mod ndp;
mod neighbor;
mod proxy;
mod rate;
mod special;
mod waiting;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_abi::{
    address::{Mac, V4, V6},
    router::{
        Neighbor, NeighborKey, ROUTE_BROADCAST, ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_VIA, Route,
        RouteEntry, RouteKeyV4, RouteKeyV6, RouterPort, StaticNeighbor,
    },
};
use integration_tests::{
    clock::now,
    cube::Cube,
    private_net::LOOPBACK,
    table::{Table, table},
};

/// The router's link-layer address on a port.
const fn mac(port: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, 0x10 + port]
}

/// Its link-local address there: the modified EUI-64 of `mac` (RFC 4291, appendix A).
const fn link_local(port: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x10 + port as u16)
}

/// Address `host` on the network of a port; the router itself is host 1.
const fn v4(port: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, port, host)
}

/// The same for IPv6.
const fn v6(port: u8, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, port as u16, 0, 0, 0, 0, host)
}

/// Port 1 has a second network.
const SECOND: u8 = 11;
/// Port 2 carries packets of this size at most.
const MTU: u16 = 1300;
/// Port 3 has no addresses but the link-local one.
const WITHOUT_ADDRESS: u8 = 3;
/// Ports of the router under test.
const PORTS: u8 = 4;

/// The sender on port 0, and its station.
const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
/// The receiver on port 1.
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
/// The next hop on port 1.
const C: [u8; 6] = [2, 0, 0, 0, 0, 0xc];

/// A destination behind the next hop [`v4(1, 254)`](v4) or [`v6(1, 254)`](v6).
const FAR: Ipv4Addr = Ipv4Addr::new(172, 16, 5, 5);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x900, 5, 0, 0, 0, 5);
/// A destination behind a link-local next hop on port 1.
const BEHIND_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa00, 0, 0, 0, 0, 1);
const NEXT_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xcc);
/// No route leads there.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const NOWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1);

/// The tables all rows begin with.
pub(crate) fn four_ports(cube: &Cube) {
    cube.link_ports(0..PORTS.into());
    for port in 0..PORTS {
        cube.change_port(port.into(), |port| port.handover_ifindex = LOOPBACK);
        let addressed = port != WITHOUT_ADDRESS;
        let entry = RouterPort {
            mac: Mac::new(mac(port)),
            mtu: if port == 2 { MTU } else { 0 },
            address_v4: if addressed {
                V4::new(v4(port, 1).octets())
            } else {
                V4::default()
            },
            address_v6: if addressed {
                V6::new(v6(port, 1).octets())
            } else {
                V6::UNSPECIFIED
            },
            link_local: V6::new(link_local(port).octets()),
            flags: 0,
        };
        cube.write("router_ports", u32::from(port), entry);
        if addressed {
            network(cube, port, port);
        }
    }
    network(cube, SECOND, 1);
    let via = |next_hop: IpAddr| route(ROUTE_VIA, 1, next_hop);
    route_v4(
        cube,
        Ipv4Addr::new(172, 16, 0, 0),
        12,
        via(v4(1, 254).into()),
    );
    route_v6(
        cube,
        Ipv6Addr::new(0x2001, 0xdb8, 0x900, 0, 0, 0, 0, 0),
        48,
        via(v6(1, 254).into()),
    );
    route_v6(
        cube,
        Ipv6Addr::new(0x2001, 0xdb8, 0xa00, 0, 0, 0, 0, 0),
        48,
        via(NEXT_LINK_LOCAL.into()),
    );
}

/// Gives a port the address 1 on a network.
fn network(cube: &Cube, number: u8, port: u8) {
    let connected = |address: IpAddr| route(ROUTE_CONNECTED, port, address);
    let local = route(ROUTE_LOCAL, port, Ipv4Addr::UNSPECIFIED.into());
    route_v4(cube, v4(number, 0), 24, connected(v4(number, 1).into()));
    route_v4(cube, v4(number, 1), 32, local);
    route_v4(
        cube,
        v4(number, 255),
        32,
        route(ROUTE_BROADCAST, port, Ipv4Addr::UNSPECIFIED.into()),
    );
    route_v6(cube, v6(number, 0), 64, connected(v6(number, 1).into()));
    route_v6(cube, v6(number, 1), 128, local);
}

fn route(kind: u32, port: u8, next_hop: IpAddr) -> Route {
    Route {
        kind,
        port: port.into(),
        next_hop: word(next_hop),
        cost: 0,
    }
}

fn route_v4(cube: &Cube, address: Ipv4Addr, length: u32, route: Route) {
    let key = RouteKeyV4 {
        length,
        address: V4::new(address.octets()),
    };
    cube.write("routes_v4", key, entry(cube, route, length));
}

/// What leads to a next hop, which is written where it is not there yet.
fn entry(cube: &Cube, route: Route, length: u32) -> RouteEntry {
    let at = |number: &u32| cube.read::<u32, Route>("next_hops", *number);
    let place = |number: &u32| at(number).is_none_or(|there| there.kind == 0 || there == route);
    let number = (1..).find(place).expect("numbers do not end");
    cube.write("next_hops", number, route);
    RouteEntry::new(number, length as u8)
}

fn route_v6(cube: &Cube, address: Ipv6Addr, length: u32, route: Route) {
    let key = RouteKeyV6 {
        length,
        address: V6::new(address.octets()),
    };
    cube.write("routes_v6", key, entry(cube, route, length));
}

fn word(address: IpAddr) -> V6 {
    match address {
        IpAddr::V4(address) => V6::from_v4(V4::new(address.octets())),
        IpAddr::V6(address) => V6::new(address.octets()),
    }
}

fn neighbor_key(port: u16, address: IpAddr) -> NeighborKey {
    NeighborKey {
        port,
        family: if address.is_ipv4() { 4 } else { 6 },
        address: word(address),
    }
}

/// A neighbour heard a moment ago.
fn known(cube: &Cube, port: u16, address: impl Into<IpAddr>, station: [u8; 6]) {
    neighbor(cube, port, address, answered_at(station, now()));
}

/// A neighbour that answered at this time.
fn answered_at(station: [u8; 6], time: u64) -> Neighbor {
    Neighbor {
        mac: Mac::new(station),
        heard: time,
        confirmed: time,
        ..Neighbor::UNKNOWN
    }
}

/// A neighbour in some state.
fn neighbor(cube: &Cube, port: u16, address: impl Into<IpAddr>, neighbor: Neighbor) {
    cube.write("neighbors", neighbor_key(port, address.into()), neighbor);
}

/// A neighbour from the configuration.
fn fixed(cube: &Cube, port: u16, address: impl Into<IpAddr>, station: [u8; 6]) {
    let value = StaticNeighbor {
        mac: Mac::new(station),
        pad: 0,
    };
    cube.write(
        "static_neighbors",
        neighbor_key(port, address.into()),
        value,
    );
}

/// What the router knows of a neighbour.
fn found(cube: &Cube, port: u16, address: impl Into<IpAddr>) -> Option<Neighbor> {
    cube.read("neighbors", neighbor_key(port, address.into()))
}

/// Where the router believes a neighbour to be.
fn station(cube: &Cube, port: u16, address: impl Into<IpAddr>) -> Option<[u8; 6]> {
    found(cube, port, address)
        .filter(|entry| entry.heard != 0)
        .map(|entry| entry.mac.bytes())
}

/// The receivers behind ports 1 and 2.
pub(crate) fn know_neighbors(cube: &Cube) {
    for port in 1..3 {
        known(cube, port.into(), v4(port, 2), B);
        known(cube, port.into(), v6(port, 2), B);
    }
}

fn router() -> Table {
    table("router", four_ports)
}
