//! Random topologies: right in their structure, not necessarily by the rules.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use topology_schema::cube::{
    PlainPort,
    bridge::{self, stp},
    ddos_mitigator, firewall, forwarder, hello, hello_transparent, nat, router,
};
use topology_schema::{
    AddressRange, ApiVersion, Bounded, Check, Cube, Drift, Endpoint, Hook, Instance, Interface,
    InterfaceAddress, InterfaceName, Kind, Link, MacAddr, Metadata, Name, Namespace,
    NamespaceInterface, NamespaceRoute, PacketRate, PortRange, Prefix, Probe, RouteTarget, Seconds,
    Spec, Topology, VlanRange, VlanSet,
};

/// Names, many of which YAML would read as something else than text.
pub(crate) fn name() -> impl Strategy<Value = Name> {
    let plain = "[a-z0-9]([-a-z0-9]{0,6}[a-z0-9])?".prop_map(|text| text.parse().unwrap());
    let odd = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "0x1f",
        "0o17",
        "1e3",
        "123",
        "007",
        "0",
        "default",
        "all",
        "inf",
        "nan",
        "1-1",
        "2026-11-21",
        "drop",
        "forward",
    ])
    .prop_map(|text| text.parse().unwrap());
    prop_oneof![3 => plain, 1 => odd]
}

fn interface_name() -> impl Strategy<Value = InterfaceName> {
    prop_oneof![
        3 => "[a-z]{1,5}[0-9.@_]{0,6}".prop_filter_map("reserved", |text| text.parse().ok()),
        1 => r"[!-$&-.0-9;-~]{1,15}".prop_filter_map("reserved", |text| text.parse().ok()),
    ]
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
        // Mostly zero, so that the short forms are met.
        (any::<u16>(), any::<u16>()).prop_map(|(high, low)| {
            IpAddr::V6(Ipv6Addr::from((u128::from(high) << 112) | u128::from(low)))
        }),
    ]
}

fn length(ip: IpAddr, seed: u8) -> u8 {
    seed % if ip.is_ipv4() { 33 } else { 129 }
}

fn interface_address() -> impl Strategy<Value = InterfaceAddress> {
    (ip(), any::<u8>()).prop_map(|(ip, seed)| format!("{ip}/{}", length(ip, seed)).parse().unwrap())
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (ip(), any::<u8>()).prop_map(|(ip, seed)| Prefix::containing(ip, length(ip, seed)).unwrap())
}

fn target() -> impl Strategy<Value = RouteTarget> {
    prop_oneof![
        Just(RouteTarget::Default),
        prefix().prop_map(RouteTarget::Prefix)
    ]
}

fn through() -> impl Strategy<Value = Vec<Name>> {
    vec(name(), 0..3)
}

fn bounded<const MIN: u32, const MAX: u32>() -> impl Strategy<Value = Bounded<MIN, MAX>> {
    (MIN..=MAX).prop_map(|number| Bounded::new(number).unwrap())
}

fn seconds() -> impl Strategy<Value = Seconds> {
    prop_oneof![1..10_000_u32, 1..3_000_000_000_u32]
        .prop_map(|seconds| Seconds::new(seconds).unwrap())
}

fn plain_ports() -> impl Strategy<Value = BTreeMap<Name, PlainPort>> {
    btree_map(
        name(),
        through().prop_map(|through| PlainPort { through }),
        0..3,
    )
}

fn vlans() -> impl Strategy<Value = VlanSet> {
    let range = (bounded(), bounded()).prop_map(|(first, last)| VlanRange::new(first, last));
    prop_oneof![
        Just(VlanSet::All),
        vec(range, 0..3).prop_map(VlanSet::Ranges)
    ]
}

fn stp() -> impl Strategy<Value = stp::Stp> {
    let instance = option::of(bounded()).prop_map(|priority| stp::StpVlan { priority });
    let times = (seconds(), seconds(), seconds());
    let vlans = btree_map(bounded().prop_map(stp::Vlan), instance, 0..3);
    (any::<bool>(), bounded(), times, vlans).prop_map(
        |(enabled, priority, (forward_delay, hello_time, max_age), vlans)| stp::Stp {
            enabled,
            priority,
            forward_delay,
            hello_time,
            max_age,
            vlans,
        },
    )
}

fn port_stp() -> impl Strategy<Value = stp::PortStp> {
    let instance = (option::of(bounded()), option::of(bounded()))
        .prop_map(|(cost, priority)| stp::PortStpVlan { cost, priority });
    let vlans = btree_map(bounded().prop_map(stp::Vlan), instance, 0..3);
    let flags = (option::of(any::<bool>()), any::<bool>());
    (option::of(bounded()), bounded(), flags, vlans).prop_map(
        |(cost, priority, (edge, bpdu_guard), vlans)| stp::PortStp {
            cost,
            priority,
            edge,
            bpdu_guard,
            vlans,
        },
    )
}

fn bridge() -> impl Strategy<Value = bridge::Spec> {
    let trunk = (vlans(), option::of(bounded()))
        .prop_map(|(allowed, native)| bridge::Trunk { allowed, native });
    let vlan = (option::of(bounded()), option::of(trunk));
    let rate = || option::of((1..=PacketRate::MAX).prop_map(|rate| PacketRate::new(rate).unwrap()));
    let storm = (rate(), rate(), rate()).prop_map(|(broadcast, multicast, unknown_unicast)| {
        bridge::StormControl {
            broadcast,
            multicast,
            unknown_unicast,
        }
    });
    let multicast = (storm, any::<bool>(), port_stp());
    let port = (option::of(mac()), through(), any::<bool>(), vlan, multicast).prop_map(
        |(mac, through, isolated, (access, trunk), (storm_control, multicast_router, stp))| {
            bridge::Port {
                mac,
                through,
                isolated,
                access,
                trunk,
                storm_control,
                multicast_router,
                stp,
            }
        },
    );
    let entry = (
        mac(),
        name(),
        prop_oneof![Just(bridge::DEFAULT_VLAN), bounded()],
    )
        .prop_map(|(mac, port, vlan)| bridge::FdbEntry { mac, port, vlan });
    (
        seconds(),
        bounded(),
        any::<bool>(),
        btree_map(name(), port, 0..3),
        vec(entry, 0..3),
        option::of(mac()),
        stp(),
    )
        .prop_map(
            |(aging_time, fdb_size, multicast_snooping, ports, fdb, mac, stp)| bridge::Spec {
                aging_time,
                fdb_size,
                multicast_snooping,
                ports,
                fdb,
                mac,
                stp,
            },
        )
}

fn router() -> impl Strategy<Value = router::Spec> {
    let port = (
        vec(interface_address(), 1..4),
        option::of(mac()),
        option::of(bounded()),
        through(),
    )
        .prop_map(|(addresses, mac, mtu, through)| router::Port {
            proxy_arp: false,
            proxy_nd: false,
            router_advertisement: None,
            addresses,
            mac,
            mtu,
            through,
        });
    let special = prop_oneof![
        Just(router::SpecialRoute::Blackhole),
        Just(router::SpecialRoute::Unreachable),
        Just(router::SpecialRoute::Prohibit),
    ];
    let route = (target(), option::of(ip()), option::of(special), bounded()).prop_map(
        |(to, via, special, cost)| router::Route {
            to,
            via,
            special,
            cost,
        },
    );
    let neighbor = (ip(), mac(), name()).prop_map(|(address, mac, port)| router::Neighbor {
        address,
        mac,
        port,
    });
    let source =
        (option::of(name()), bounded(), bounded()).prop_map(|(namespace, table, max_routes)| {
            router::RoutesFrom {
                namespace,
                table,
                max_routes,
            }
        });
    (
        btree_map(name(), port, 0..4),
        vec(route, 0..4),
        vec(source, 0..3),
        vec(neighbor, 0..3),
    )
        .prop_map(|(ports, routes, routes_from, neighbors)| router::Spec {
            ports,
            routes,
            routes_from,
            neighbors,
        })
}

fn firewall_rule() -> impl Strategy<Value = firewall::Rule> {
    let target = || {
        prop_oneof![
            prefix().prop_map(firewall::Target::Prefix),
            name().prop_map(firewall::Target::Set)
        ]
    };
    let address = move || {
        option::of(
            (target(), any::<bool>()).prop_map(|(target, negated)| match negated {
                false => firewall::AddressMatch::Is(target),
                true => firewall::AddressMatch::Not(target),
            }),
        )
    };
    let range = || {
        prop_oneof![
            any::<u16>().prop_map(|port| PortRange::new(port, port).unwrap()),
            any::<[u16; 2]>().prop_map(|[a, b]| PortRange::new(a.min(b), a.max(b)).unwrap())
        ]
    };
    let ports =
        move || option::of(vec(range(), 1..4).prop_map(|list| firewall::Ports::new(list).unwrap()));
    let protocol = prop::sample::select(vec!["all", "tcp", "udp", "icmp", "icmpv6", "gre", "ah"])
        .prop_map(|word| word.parse().unwrap());
    let icmp_type = prop_oneof![
        any::<u8>().prop_map(firewall::IcmpType::Number),
        prop::sample::select(vec!["echo-request", "packet-too-big", "redirect"])
            .prop_map(|word| word.parse().unwrap()),
    ];
    let flags = (any::<u8>(), any::<u8>()).prop_filter_map("none", |(set, clear)| {
        (set != 0 || clear != 0).then_some(firewall::TcpFlags { set, clear })
    });
    let states = prop::sample::subsequence(
        vec![
            firewall::State::New,
            firewall::State::Established,
            firewall::State::Related,
            firewall::State::Invalid,
        ],
        1..=4,
    )
    .prop_map(|states| firewall::States::new(states).unwrap());
    let limit = ((1..=PacketRate::MAX), option::of(bounded())).prop_map(|(rate, burst)| {
        let rate = PacketRate::new(rate).unwrap();
        firewall::Limit { rate, burst }
    });
    (
        (option::of(name()), option::of("[ -~]{0,8}")),
        (address(), address(), protocol, ports(), ports()),
        (option::of(icmp_type), option::of(flags), option::of(states)),
        (firewall_action(), any::<bool>(), option::of(limit)),
    )
        .prop_map(
            |(
                (name, comment),
                (source, destination, protocol, source_port, destination_port),
                (icmp_type, tcp_flags, state),
                (action, log, limit),
            )| firewall::Rule {
                name,
                comment,
                source,
                destination,
                protocol,
                source_port,
                destination_port,
                icmp_type,
                tcp_flags,
                state,
                action,
                log,
                limit,
            },
        )
}

fn firewall_action() -> impl Strategy<Value = firewall::Action> {
    prop::sample::select(vec![
        firewall::Action::Accept,
        firewall::Action::Drop,
        firewall::Action::Reject,
    ])
}

fn firewall() -> impl Strategy<Value = firewall::Spec> {
    let chain = || {
        (firewall_action(), any::<bool>(), vec(firewall_rule(), 0..4)).prop_map(
            |(default, log, rules)| firewall::Chain {
                default,
                log,
                rules,
            },
        )
    };
    let neighbor_discovery = prop::sample::select(vec![
        firewall::NeighborDiscovery::Pass,
        firewall::NeighborDiscovery::Filter,
    ]);
    let timeouts =
        (option::of(seconds()), option::of(seconds())).prop_map(|(udp, icmp)| firewall::Timeouts {
            udp,
            icmp,
            ..firewall::Timeouts::default()
        });
    (
        (any::<[bool; 3]>(), neighbor_discovery),
        btree_map(name(), vec(prefix(), 0..3), 0..3),
        (chain(), chain()),
        (timeouts, bounded()),
    )
        .prop_map(
            |(
                ([conntrack, accept_established, tcp_window_check], neighbor_discovery),
                sets,
                (ingress, egress),
                (timeouts, sessions),
            )| firewall::Spec {
                conntrack,
                accept_established,
                tcp_window_check,
                neighbor_discovery,
                sets,
                ingress,
                egress,
                timeouts,
                sessions,
            },
        )
}

fn forwarder() -> impl Strategy<Value = forwarder::Spec> {
    let action = prop_oneof![
        Just(forwarder::Action::Drop),
        name().prop_map(forwarder::Action::Forward)
    ];
    (plain_ports(), btree_map(name(), action, 0..3))
        .prop_map(|(ports, actions)| forwarder::Spec { ports, actions })
}

fn nat() -> impl Strategy<Value = nat::Spec> {
    let masquerade = prop_oneof![
        any::<bool>().prop_map(nat::Masquerade::Switch),
        vec(prefix(), 1..3).prop_map(nat::Masquerade::Prefixes),
    ];
    let range = || {
        (ip(), 0..3_u8).prop_map(|(first, more)| {
            let last = match first {
                IpAddr::V4(ip) => IpAddr::V4(u32::from(ip).saturating_add(more.into()).into()),
                IpAddr::V6(ip) => IpAddr::V6(u128::from(ip).saturating_add(more.into()).into()),
            };
            AddressRange::new(first, last).unwrap()
        })
    };
    let snat = (prefix(), range()).prop_map(|(source, to)| nat::Snat { source, to });
    let dnat = (ip(), ip()).prop_map(|(destination, to)| nat::Dnat { destination, to });
    let protocol = prop::sample::select(vec![
        nat::ForwardProtocol::Tcp,
        nat::ForwardProtocol::Udp,
        nat::ForwardProtocol::All,
    ]);
    let port =
        (1..=u16::MAX, 1..=u16::MAX).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap());
    let forward = (protocol, ip(), port, ip(), option::of(bounded())).prop_map(
        |(protocol, destination, port, to, to_port)| nat::PortForward {
            protocol,
            destination,
            port,
            to,
            to_port,
        },
    );
    let pair = || {
        (prefix(), prefix()).prop_map(|(internal, external)| nat::PrefixPair { internal, external })
    };
    let filtering = prop::sample::select(vec![
        nat::Filtering::EndpointIndependent,
        nat::Filtering::AddressDependent,
        nat::Filtering::AddressAndPortDependent,
    ]);
    let timeouts = (seconds(), seconds()).prop_map(|(udp, tcp_established)| nat::Timeouts {
        udp,
        tcp_established,
        ..nat::Timeouts::default()
    });
    let rules = (vec(snat, 0..3), vec(dnat, 0..3), vec(forward, 0..3));
    let nat64 = (prefix(), vec(prefix(), 0..2), option::of(range()));
    let nat64 = nat64.prop_map(|(prefix, source, to)| nat::Nat64 { prefix, source, to });
    let families = (option::of(nat64), vec(pair(), 0..2));
    let prefixes = (vec(pair(), 0..2), vec(pair(), 0..2), families);
    (masquerade, rules, prefixes, filtering, timeouts, bounded()).prop_map(
        |(
            masquerade,
            (snat, dnat, port_forward),
            (static_prefixes, nptv6, (nat64, nat46)),
            filtering,
            timeouts,
            sessions,
        )| {
            nat::Spec {
                masquerade,
                snat,
                dnat,
                port_forward,
                static_prefixes,
                nptv6,
                nat64,
                nat46,
                filtering,
                timeouts,
                sessions,
            }
        },
    )
}

fn cube() -> impl Strategy<Value = Cube> {
    let hello_action = prop::sample::select(vec![hello::Action::Forward, hello::Action::Drop]);
    let pass = || {
        prop::sample::select(vec![
            hello_transparent::Action::Pass,
            hello_transparent::Action::Drop,
        ])
    };
    prop_oneof![
        bridge().prop_map(Cube::Bridge),
        router().prop_map(Cube::Router),
        forwarder().prop_map(Cube::Forwarder),
        nat().prop_map(Cube::Nat),
        firewall().prop_map(Cube::Firewall),
        (vec(prefix(), 0..4), vec(prefix(), 0..4)).prop_map(|(sources, destinations)| {
            Cube::DdosMitigator(ddos_mitigator::Spec {
                sources,
                destinations,
            })
        }),
        (hello_action, plain_ports())
            .prop_map(|(action, ports)| Cube::Hello(hello::Spec { action, ports })),
        (pass(), pass()).prop_map(|(ingress_action, egress_action)| {
            Cube::HelloTransparent(hello_transparent::Spec {
                ingress_action,
                egress_action,
            })
        }),
    ]
}

fn drift() -> impl Strategy<Value = Drift> {
    prop::sample::select(vec![Drift::Repair, Drift::Warn, Drift::Ignore])
}

fn instance() -> impl Strategy<Value = Instance> {
    (cube(), option::of(drift())).prop_map(|(cube, drift)| Instance { cube, drift })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        (name(), name()).prop_map(|(cube, port)| Endpoint::Port { cube, port }),
        (name(), interface_name()).prop_map(|(namespace, interface)| Endpoint::Namespace {
            namespace,
            interface
        }),
        interface_name().prop_map(Endpoint::Host),
    ]
}

fn namespace() -> impl Strategy<Value = Namespace> {
    let route = (target(), ip()).prop_map(|(to, via)| NamespaceRoute { to, via });
    let interface = (
        vec(interface_address(), 0..3),
        vec(route, 0..3),
        option::of(mac()),
        option::of(bounded()),
    )
        .prop_map(|(addresses, routes, mac, mtu)| NamespaceInterface {
            addresses,
            routes,
            mac,
            mtu,
        });
    btree_map(interface_name(), interface, 0..3).prop_map(|interfaces| Namespace { interfaces })
}

fn check() -> impl Strategy<Value = Check> {
    let port = 1..=u16::MAX;
    let socket = move || (ip(), port.clone()).prop_map(|(ip, port)| SocketAddr::new(ip, port));
    let path = "(/[!-\"$-~]{0,8})?";
    let url = (socket(), path).prop_map(|(address, path)| format!("http://{address}{path}"));
    let probe = prop_oneof![
        ip().prop_map(Probe::Ping),
        socket().prop_map(Probe::Tcp),
        (url, bounded()).prop_map(|(url, status)| Probe::Http(url.parse().unwrap(), status)),
    ];
    (option::of(name()), probe, option::of(name()), seconds()).prop_map(
        |(name, probe, from, timeout)| Check {
            name,
            probe,
            from,
            timeout,
        },
    )
}

/// A topology in which anything may refer to anything.
pub(crate) fn topology() -> impl Strategy<Value = Topology> {
    let hook = prop::sample::select(vec![Hook::Tc, Hook::Xdp, Hook::XdpGeneric]);
    let interface = (hook, through()).prop_map(|(hook, through)| Interface { hook, through });
    let spec = (
        drift(),
        btree_map(name(), namespace(), 0..3),
        btree_map(interface_name(), interface, 0..3),
        btree_map(name(), instance(), 0..6),
        vec((endpoint(), endpoint()).prop_map(|(a, b)| Link(a, b)), 0..6),
        vec(check(), 0..4),
    )
        .prop_map(
            |(drift, namespaces, interfaces, cubes, links, checks)| Spec {
                drift,
                namespaces,
                interfaces,
                cubes,
                links,
                checks,
            },
        );
    (name(), spec).prop_map(|(name, spec)| Topology {
        api_version: ApiVersion::V1Alpha1,
        kind: Kind::Topology,
        metadata: Metadata { name },
        spec,
    })
}
