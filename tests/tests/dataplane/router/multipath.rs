//! Routes with several next hops: which packets go where, and which of them move.

use std::collections::BTreeMap;

use bytemuck::{Zeroable as _, bytes_of};
use ebpf_abi::{
    fib::BUCKET,
    multipath::{Candidate, Group},
    router::{ROUTE_GROUP, Routing},
};
use integration_tests::{
    cube::{Globals, Kind},
    packet::{Packet, ether, ipv4, ipv6, payload, raw, tcp, udp},
    private_net, require,
    test_run::{Gso, Hook, Verdict},
};

use super::*;

/// Next hops of the group under test.
const WAYS: u8 = 4;
/// The group's number, and that of its first next hop in the tables.
const GROUP: u32 = 100;
const FIRST: u32 = 110;
/// The same for IPv6.
const GROUP_V6: u32 = 101;
const FIRST_V6: u32 = 120;

fn station_of(way: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, way]
}

fn way_v4(way: u8) -> Ipv4Addr {
    v4(1, 100 + way)
}

fn way_v6(way: u8) -> Ipv6Addr {
    v6(1, 0x100 + u16::from(way))
}

/// A destination that the group leads to.
fn behind(host: u16) -> Ipv4Addr {
    let [high, low] = host.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

fn behind_v6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xb00, 0, 0, 0, 0, host)
}

/// Where routes to groups may be.
#[derive(Clone, Copy, Debug)]
enum Place {
    Small,
    Large,
    Dynamic,
}

/// A router on one hook, and the tables its groups are in.
struct Router {
    cube: Cube,
    place: Place,
}

impl Router {
    fn new(hook: Hook, place: Place) -> Self {
        let routing = Routing {
            large_v4: u32::from(matches!(place, Place::Large)),
            large_v6: u32::from(matches!(place, Place::Large)),
            dynamic: u32::from(matches!(place, Place::Dynamic)),
            groups: 1,
        };
        let globals = Globals::from([("ROUTING".to_owned(), bytes_of(&routing).to_vec())]);
        let buckets = fib::words_for_v6(100) as u32 / BUCKET;
        let capacities = BTreeMap::from([
            ("fib_v4", fib::words_for_v4(100) as u32),
            ("dynamic_v4", fib::words_for_v4(100) as u32),
            ("fib_v6", buckets),
            ("dynamic_v6", buckets),
            ("dynamic_next_hops", 256),
        ]);
        let cube = Kind::parse("router").load(hook, &globals, &capacities);
        four_ports(&cube);
        let router = Self { cube, place };
        for way in 0..WAYS {
            fixed(&router.cube, 1, way_v4(way), station_of(way));
            fixed(&router.cube, 1, way_v6(way), station_of(way));
            let number = u32::from(way);
            router.next_hop(FIRST + number, route(ROUTE_VIA, 1, way_v4(way).into()));
            router.next_hop(FIRST_V6 + number, route(ROUTE_VIA, 1, way_v6(way).into()));
        }
        for group in [GROUP, GROUP_V6] {
            router.next_hop(
                group,
                Route {
                    kind: ROUTE_GROUP,
                    ..Route::default()
                },
            );
        }
        router.routes();
        router.spread(&[0, 1, 2, 3]);
        router
    }

    fn next_hop(&self, number: u32, route: Route) {
        let table = match self.place {
            Place::Dynamic => "dynamic_next_hops",
            _ => "next_hops",
        };
        self.cube.write(table, number, route);
    }

    /// 198.18.0.0/15 and 2001:db8:b00::/48 lead to the groups.
    fn routes(&self) {
        let (to, length) = (behind(0), 15);
        let (to_v6, length_v6) = (behind_v6(0), 48);
        let entry = RouteEntry::new(GROUP, length);
        let entry_v6 = RouteEntry::new(GROUP_V6, length_v6);
        let (fib_v4, fib_v6) = match self.place {
            Place::Small => {
                let key = RouteKeyV4 {
                    length: length.into(),
                    address: V4::new(to.octets()),
                };
                self.cube.write("routes_v4", key, entry);
                let key = RouteKeyV6 {
                    length: length_v6.into(),
                    address: V6::new(to_v6.octets()),
                };
                self.cube.write("routes_v6", key, entry_v6);
                return;
            }
            Place::Large => ("fib_v4", "fib_v6"),
            Place::Dynamic => ("dynamic_v4", "dynamic_v6"),
        };
        let memory = self.cube.memory(fib_v4);
        let mut writer = fib::V4Writer::open(memory.as_ref()).expect("it is a table");
        let set = writer.set(memory.as_ref(), to.to_bits(), entry);
        set.expect("there is room");
        let memory = self.cube.memory(fib_v6);
        let mut writer = fib::V6Writer::open(memory.as_ref()).expect("it is a table");
        let set = writer.set(memory.as_ref(), to_v6.to_bits(), entry_v6);
        set.expect("there is room");
    }

    /// Spreads packets over these.
    fn spread(&self, ways: &[u8]) {
        let table = match self.place {
            Place::Dynamic => "dynamic_groups",
            _ => "groups",
        };
        for (number, first, is_v4) in [(GROUP, FIRST, true), (GROUP_V6, FIRST_V6, false)] {
            let mut group = Group::zeroed();
            for way in 0..WAYS {
                group.members[usize::from(way)] = first + u32::from(way);
            }
            let candidate = |way: &u8| Candidate {
                member: *way,
                address: if is_v4 {
                    word(way_v4(*way).into())
                } else {
                    word(way_v6(*way).into())
                },
                weight: 1,
            };
            let candidates: Vec<Candidate> = ways.iter().map(candidate).collect();
            group.spread(&candidates);
            self.cube.write(table, number, group);
        }
    }

    /// Where a packet goes that is forwarded.
    fn way(&self, packet: &Packet) -> u8 {
        let run = self.cube.run(0, &packet.bytes(), Gso::default());
        assert_eq!(run.verdict, Verdict::Redirect, "{packet:?}");
        let station = &run.packet[..6];
        let way = (0..WAYS).find(|way| station_of(*way) == station);
        way.unwrap_or_else(|| panic!("to {station:x?}: {packet:?}"))
    }

    /// Where each of these goes.
    fn ways(&self, packets: &[Packet]) -> Vec<u8> {
        packets.iter().map(|packet| self.way(packet)).collect()
    }
}

/// Every hook with every place.
fn routers(test: impl Fn(&Router) + Sync) {
    if !require::root() {
        return;
    }
    private_net::run(|_| {
        for hook in Hook::ALL {
            for place in [Place::Small, Place::Large, Place::Dynamic] {
                println!("{hook:?}, {place:?}");
                test(&Router::new(hook, place));
            }
        }
    });
}

/// Flows that differ in one port only, and flows that differ in one address only; both families.
fn flows() -> Vec<Vec<Packet>> {
    let numbers = 1..=1000u16;
    let each = |flow: &dyn Fn(u16) -> Packet| numbers.clone().map(flow).collect();
    vec![
        each(&|n| ether(A, mac(0)) / ipv4(v4(0, 2), behind(1)) / udp(n, 53) / payload(9)),
        each(&|n| ether(A, mac(0)) / ipv4(v4(0, 2), behind(1)) / tcp(40_000, n) / payload(9)),
        each(&|n| ether(A, mac(0)) / ipv4(v4(0, 2), behind(n)) / udp(1000, 53) / payload(9)),
        each(&|n| ether(A, mac(0)) / ipv6(v6(0, 2), behind_v6(1)) / udp(n, 53) / payload(9)),
        each(&|n| ether(A, mac(0)) / ipv6(v6(0, 2), behind_v6(1)) / tcp(40_000, n) / payload(9)),
        each(&|n| ether(A, mac(0)) / ipv6(v6(0, 2), behind_v6(n)) / udp(1000, 53) / payload(9)),
        each(&|n| {
            let ip = ipv6(v6(0, 2), behind_v6(1)).next_header(50);
            ether(A, mac(0)) / ip.flow(u32::from(n)) / payload(40)
        }),
    ]
}

/// Shares of 4 next hops are 1/4 of 1000 each. Hashes are no dice: the bounds are six standard
/// deviations of flows and of buckets.
#[test]
fn flows_are_spread_over_next_hops() {
    routers(|router| {
        for (sort, packets) in flows().iter().enumerate() {
            let ways = router.ways(packets);
            for way in 0..WAYS {
                let share = ways.iter().filter(|taken| **taken == way).count();
                assert!((150..350).contains(&share), "{sort}: {way} has {share}");
            }
        }
    });
}

#[test]
fn a_flow_keeps_its_next_hop_whatever_else_differs() {
    routers(|router| {
        for n in 1..=50u16 {
            let flow = || tcp(n, 80);
            let ip = || ipv4(v4(0, 2), behind(7));
            let first = router.way(&(ether(A, mac(0)) / ip() / flow()));
            for other in [
                ether(A, mac(0)) / ip().ttl(9) / flow() / payload(1000),
                ether(A, mac(0)) / ip().tos(0xb8).id(77).dont_fragment() / flow(),
                ether(C, mac(0)) / ip() / flow() / payload(1),
                // By way of the program for rare work.
                ether(A, mac(0)) / ip().options(&[1; 8]) / flow() / payload(30),
            ] {
                assert_eq!(router.way(&other), first, "{other:?}");
            }
            let ip = || ipv6(v6(0, 2), behind_v6(7));
            let first = router.way(&(ether(A, mac(0)) / ip() / flow()));
            for other in [
                ether(A, mac(0)) / ip().hop_limit(9) / flow() / payload(1000),
                // Where there are ports, the label does not count.
                ether(A, mac(0)) / ip().flow(u32::from(n)) / flow(),
            ] {
                assert_eq!(router.way(&other), first, "{other:?}");
            }
        }
    });
}

/// Whatever is where ports would be.
#[test]
fn fragments_go_where_their_datagram_goes() {
    routers(|router| {
        for host in 1..=40u16 {
            let ip = || ipv4(v4(0, 2), behind(host)).id(host).protocol(17);
            let fragments = [
                ether(A, mac(0)) / ip().fragment(0, true) / udp(1000, 53) / payload(24),
                ether(A, mac(0)) / ip().fragment(32, true) / raw(&[0x5a; 32]),
                ether(A, mac(0)) / ip().fragment(64, false) / raw(&[host as u8; 9]),
            ];
            let ways = router.ways(&fragments);
            assert!(ways.iter().all(|way| *way == ways[0]), "{host}: {ways:?}");
            // Fragment header: next header, reserved, offset and flag, identification (RFC 8200, 4.5).
            let ip = || ipv6(v6(0, 2), behind_v6(host)).next_header(44).flow(5);
            let fragment = |offset: u16, filler: u8| {
                let [high, low] = offset.to_be_bytes();
                let header = [17, 0, high, low, 0, 0, 0, host as u8];
                ether(A, mac(0)) / ip() / raw(&[&header[..], &[filler; 24]].concat())
            };
            let ways = router.ways(&[fragment(1, 0), fragment(24 | 1, 7), fragment(48, 9)]);
            assert!(ways.iter().all(|way| *way == ways[0]), "{host}: {ways:?}");
        }
    });
}

#[test]
fn what_is_cut_goes_where_its_flow_goes() {
    routers(|router| {
        if router.cube.hook == Hook::Xdp {
            return;
        }
        for n in 1..=30u16 {
            let packet = |length| {
                ether(A, mac(0)) / ipv4(v4(0, 2), behind(7)) / udp(n, 53) / payload(length)
            };
            let whole = router.way(&packet(100));
            let port: RouterPort = router.cube.read("router_ports", 1u32).expect("there");
            router
                .cube
                .write("router_ports", 1u32, RouterPort { mtu: 1280, ..port });
            assert_eq!(router.way(&packet(1400)), whole, "{n}");
            router.cube.write("router_ports", 1u32, port);
        }
    });
}

/// What the kernel's resilient groups are for.
#[test]
fn only_flows_of_what_comes_or_goes_move() {
    routers(|router| {
        for packets in flows() {
            router.spread(&[0, 1, 2, 3]);
            let before = router.ways(&packets);
            router.spread(&[0, 1, 3]);
            let without = router.ways(&packets);
            for (old, new) in before.iter().zip(&without) {
                assert!(old == new || *old == 2, "from {old} to {new}");
                assert!(*new != 2);
            }
            assert!(before.contains(&2), "something had to move");
            router.spread(&[3, 2, 1, 0]);
            assert_eq!(router.ways(&packets), before, "and back again");
        }
    });
}

/// A fall-back: all are members, one is active.
#[test]
fn one_that_is_active_alone_has_all_flows() {
    routers(|router| {
        for way in [2, 0] {
            router.spread(&[way]);
            for packets in flows() {
                assert!(router.ways(&packets).iter().all(|taken| *taken == way));
            }
        }
    });
}
