//! What a router does beside forwarding, with hosts that do not know of it.

use std::net::IpAddr;

use integration_tests::{
    lab::{Space, Station, run_test},
    traffic::{ping, tcp, udp},
    wait,
    wire::{Frame, Mac, Sum, Wire, protocol},
};

use crate::ip;

/// What leaves towards `b` has 1300 bytes at most, and passes a filter.
const NARROW: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: narrow }
spec:
  namespaces:
    a:
      interfaces:
        eth0:
          mtu: 9000
          addresses: [10.1.0.1/24, 'fd00:1::1/64']
          routes: [{ to: default, via: 10.1.0.254 }, { to: default, via: 'fd00:1::fe' }]
    b:
      interfaces:
        eth0:
          addresses: [10.2.0.1/24, 'fd00:2::1/64']
          routes: [{ to: default, via: 10.2.0.254 }, { to: default, via: 'fd00:2::fe' }]
  cubes:
    r:
      router:
        ports:
          a: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'], mtu: 9000 }
          b: { addresses: [10.2.0.254/24, 'fd00:2::fe/64'], mtu: 1300, through: [probe] }
    probe: { helloTransparent: {} }
  links: [[r:a, a/eth0], [r:b, b/eth0]]
";

/// Largest IP packet of `NARROW` towards `b`, in bytes.
const NARROW_MTU: usize = 1300;

/// Senders that do not discover the path's MTU: everything may be cut.
fn may_be_cut(space: &Space) {
    space.enter(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_no_pmtu_disc", "1").expect("IPv4 is there");
    });
}

#[test]
fn packets_that_may_be_cut_are() {
    run_test(|lab| {
        lab.apply(NARROW);
        lab.assert_converged(NARROW);
        let (a, b) = (lab.space("a"), lab.space("b"));
        may_be_cut(&a);
        let addresses = (ip("10.1.0.1"), ip("10.2.0.1"));
        ping(&a, addresses.1);
        let wire = b.wire();
        // Two datagrams whose checksum the sender left for later, a jumbo frame, and several
        // fragments of one.
        for size in [1400, 1272, 1273, 8900, 20_000] {
            udp(&a, &b, addresses, &[size]);
        }
        let frames = wire.drain();
        let fragments = assert_fragments(&frames, addresses);
        assert!(fragments > 2 + 2 + 7, "{fragments}");
        let run = a.run("ping -n -M dont -c 1 -W 5 -s 4000 10.2.0.1");
        assert!(run.stdout.contains(" 1 received"), "{run}");
        // Of a TCP connection the segments get smaller.
        tcp(&a, &b, addresses.1, 4 << 20);
        let probe = &lab.show("narrow")["cubes"]["probe"]["attachments"]["r:b"]["egress"];
        let passed = probe["rx"]["packets"].as_u64().expect("a number");
        assert!(passed > fragments as u64, "{probe}");
    });
}

/// Insists that what came in between these addresses is small enough and what it should be; says
/// how many fragments there were.
#[track_caller]
fn assert_fragments(frames: &[Frame], (source, target): (IpAddr, IpAddr)) -> usize {
    let mut fragments = 0;
    for frame in frames.iter().filter(|frame| !frame.outgoing) {
        let Some(packet) = frame.between(source, target, protocol::UDP) else {
            continue;
        };
        let header = &frame.bytes[14..34];
        assert!(frame.bytes.len() - 14 <= NARROW_MTU, "{frame:?}");
        assert_eq!(
            (packet.hops, packet.header_sum),
            (63, Sum::Right),
            "{frame:?}"
        );
        let more = header[6] & 0x20 != 0;
        if more {
            assert_eq!(packet.segment.len() % 8, 0, "{frame:?}");
        }
        fragments += usize::from(more || header[6] & 0x1f != 0 || header[7] != 0);
    }
    fragments
}

#[test]
fn packets_that_may_be_cut_are_on_xdp() {
    const ROUTER: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: narrow }
spec:
  interfaces: { wire0: { hook: xdp }, wire1: { hook: xdp } }
  cubes:
    r:
      router:
        ports:
          a: { addresses: [10.1.0.254/24] }
          b: { addresses: [10.2.0.254/24], mtu: 1300 }
  links: [[r:a, wire0], [r:b, wire1]]
";
    run_test(|lab| {
        let a = Station::for_xdp("a", "wire0", &["10.1.0.1/24"]);
        let b = Station::for_xdp("b", "wire1", &["10.2.0.1/24"]);
        a.run("ip route add default via 10.1.0.254").expect(0);
        b.run("ip route add default via 10.2.0.254").expect(0);
        may_be_cut(&a);
        lab.apply(ROUTER);
        let addresses = (ip("10.1.0.1"), ip("10.2.0.1"));
        ping(&a, addresses.1);
        ping(&b, addresses.0);
        let wire = b.wire();
        for size in [1400, 1272, 1273, 9000] {
            udp(&a, &b, addresses, &[size]);
        }
        let fragments = assert_fragments(&wire.drain(), addresses);
        assert!(fragments >= 2 + 2 + 7, "{fragments}");
        lab.pcn("destroy --yes narrow").expect(0);
    });
}

#[test]
fn the_mtu_of_a_path_is_discovered() {
    run_test(|lab| {
        lab.apply(NARROW);
        let (a, b) = (lab.space("a"), lab.space("b"));
        discovered(&a, "10.2.0.1");
        discovered(&a, "fd00:2::1");
        tcp(&a, &b, ip("10.2.0.1"), 4 << 20);
        tcp(&a, &b, ip("fd00:2::1"), 4 << 20);
    });
}

fn discovered(from: &Space, target: &str) {
    ping(from, ip(target));
    let learned = wait::within(wait::PATIENCE, || {
        from.run(&format!("ping -n -M do -c 1 -W 1 -s 2000 {target}"));
        let route = from.run(&format!("ip route get {target}"));
        route
            .stdout
            .contains(&format!("mtu {NARROW_MTU}"))
            .then_some(())
    });
    assert!(learned.is_some(), "{target}");
}

/// A question that is made of a packet whose checksum was left for later is one that a host
/// answers.
#[test]
fn a_question_made_of_an_unfinished_packet_is_answered() {
    const ROUTER: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: q }
spec:
  namespaces:
    a:
      interfaces:
        eth0:
          addresses: [10.1.0.1/24, 'fd00:1::1/64']
          routes: [{ to: default, via: 10.1.0.254 }, { to: default, via: 'fd00:1::fe' }]
  interfaces: { wire0: { hook: tc } }
  cubes:
    r:
      router:
        ports:
          a: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'] }
          b: { addresses: [10.2.0.254/24, 'fd00:2::fe/64'] }
  links: [[r:a, a/eth0], [r:b, wire0]]
";
    run_test(|lab| {
        let station = Station::new("s", "wire0", &["10.2.0.1/24", "fd00:2::1/64"]);
        lab.apply(ROUTER);
        let a = lab.space("a");
        for (own, target) in [("10.1.0.1", "10.2.0.1"), ("fd00:1::1", "fd00:2::1")] {
            let wire = station.wire();
            let socket = a.udp(ip(own), 0);
            socket
                .send_to(&[7; 100], (ip(target), 9))
                .expect("a datagram can be sent");
            let question = wire.expect("a question", |frame| frame.asks_for(ip(target)));
            assert!(question.bytes.len() < 14 + 40 + 33, "{question:?}");
            let answered = wait::within(wait::PATIENCE, || {
                let neighbors = lab.show("q")["cubes"]["r"]["neighbors"].clone();
                let known = |entry: &&serde_json::Value| {
                    entry["address"] == target && entry["state"] == "reachable"
                };
                neighbors.as_array()?.iter().find(known).cloned()
            });
            assert!(answered.is_some(), "{target}");
        }
        drop(station);
        lab.pcn("destroy --yes q").expect(0);
    });
}

/// What a host hears when a router comes to its link.
const ANNOUNCING: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: ann }
spec:
  interfaces: { wire0: { hook: tc } }
  cubes:
    r:
      router:
        ports:
          lan:
            addresses: [10.2.0.254/24, 'fd00:2::fe/64']
            through: [probe]
    probe: { helloTransparent: {} }
  links: [[r:lan, wire0]]
";

/// Announcements of the address as `wire` hears them: the station that has it now.
fn announced(wire: &Wire, address: &str) -> Mac {
    let address = ip(address);
    let frame = wire.expect("an announcement", |frame| match address {
        IpAddr::V4(address) => {
            frame.ethertype() == 0x0806
                && frame.bytes.get(28..32) == Some(&address.octets())
                && frame.bytes.get(38..42) == Some(&address.octets())
        }
        IpAddr::V6(address) => frame.ip().is_some_and(|packet| {
            packet.protocol == protocol::ICMPV6
                && packet.segment.first() == Some(&136)
                && packet.segment.get(8..24) == Some(&address.octets())
        }),
    });
    if let Some(packet) = frame.ip() {
        assert_eq!((packet.hops, packet.sum()), (255, Sum::Right), "{frame:?}");
        assert_eq!(packet.destination, ip("ff02::1"));
        // From a router, not asked for, overriding.
        assert_eq!(packet.segment[4], 0xa0);
    } else {
        assert_eq!(frame.destination(), [0xff; 6]);
    }
    frame.source()
}

#[test]
fn addresses_are_announced_when_they_appear() {
    run_test(|lab| {
        let station = Station::new("s", "wire0", &["10.2.0.1/24", "fd00:2::1/64"]);
        let wire = station.wire();
        lab.apply(ANNOUNCING);
        let mac = announced(&wire, "10.2.0.254");
        assert_eq!(announced(&wire, "fd00:2::fe"), mac);
        // They went through what filters there.
        let probe = &lab.show("ann")["cubes"]["probe"]["attachments"]["r:lan"]["egress"];
        assert!(probe["rx"]["packets"].as_u64() >= Some(3), "{probe}");
        // Another link-layer address and another address: hosts that knew the old one follow.
        ping(&station, ip("10.2.0.254"));
        let moved = ANNOUNCING.replace(
            "addresses: [",
            "mac: '02:00:00:00:00:77'\n            addresses: [10.2.0.253/24, ",
        );
        lab.apply(&moved);
        assert_eq!(announced(&wire, "10.2.0.253"), [2, 0, 0, 0, 0, 0x77]);
        assert_eq!(announced(&wire, "10.2.0.254"), [2, 0, 0, 0, 0, 0x77]);
        let neighbor = station.run("ip neigh show 10.2.0.254");
        assert!(neighbor.stdout.contains("02:00:00:00:00:77"), "{neighbor}");
        // Nothing is said when nothing appears.
        wire.drain();
        lab.apply(&moved.replace(
            "helloTransparent: {}",
            "helloTransparent: { egressAction: pass }",
        ));
        let said = wire.drain();
        let arp = said
            .iter()
            .filter(|frame| !frame.outgoing && frame.ethertype() == 0x0806);
        assert_eq!(arp.count(), 0, "{said:?}");
        drop(station);
        lab.pcn("destroy --yes ann").expect(0);
    });
}

const ADVERTISING: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: ra }
spec:
  interfaces: { wire0: { hook: HOOK } }
  cubes:
    r:
      router:
        ports:
          lan:
            addresses: ['fd00:2::fe/64']
            routerAdvertisement: { interval: 4s, lifetime: 60s, mtu: 1400, dns: ['fd00:2::53'] }
  links: [[r:lan, wire0]]
";

/// A host that configures itself: an address, the default route, and the MTU.
fn configured(station: &Station) -> bool {
    let addresses = station
        .run("ip -6 address show dev eth0 scope global")
        .stdout;
    let routes = station.run("ip -6 route show default").stdout;
    addresses.contains("inet6 fd00:2::")
        && !addresses.contains("tentative")
        && routes.contains("via fe80::")
        && routes.contains("proto ra")
}

#[track_caller]
fn configures_itself(station: &Station) {
    let configured = wait::within(wait::PATIENCE, || configured(station).then_some(()));
    assert!(
        configured.is_some(),
        "{}",
        station.run("ip -6 address show dev eth0").stdout
    );
    ping(station, ip("fd00:2::fe"));
}

/// A host asks when its link comes up, and is answered by the data plane alone.
#[test]
fn a_host_that_asks_configures_itself() {
    for hook in ["tc", "xdp"] {
        run_test(|lab| {
            let station = if hook == "tc" {
                Station::new("s", "wire0", &[])
            } else {
                Station::for_xdp("s", "wire0", &[])
            };
            station.run("ip link set eth0 down").expect(0);
            lab.apply(&ADVERTISING.replace("HOOK", hook));
            station.run("ip link set eth0 up").expect(0);
            configures_itself(&station);
            drop(station);
            lab.pcn("destroy --yes ra").expect(0);
        });
    }
}

/// One that does not ask hears it all the same while `pcn watch` runs.
#[test]
fn routers_advertise_themselves_while_watch_runs() {
    run_test(|lab| {
        let station = Station::new("s", "wire0", &[]);
        let file = lab.file("ra.yaml", &ADVERTISING.replace("HOOK", "tc"));
        let wire = station.wire();
        let watch = lab.start_pcn(&format!("watch -f {file}"));
        let mut last = None;
        // The one of the apply, and two more.
        for _ in 0..3 {
            let frame = wire.expect("an advertisement to all", |frame| {
                frame.ip().is_some_and(|packet| {
                    packet.segment.first() == Some(&134) && packet.destination == ip("ff02::1")
                })
            });
            let packet = frame.ip().expect("just found");
            assert_eq!((packet.hops, packet.sum()), (255, Sum::Right), "{frame:?}");
            last = Some(frame.source());
        }
        assert!(last.is_some());
        configures_itself(&station);
        watch.signal(nix::sys::signal::Signal::SIGTERM);
        watch.end().expect(0);
        drop(station);
        lab.pcn("destroy --yes ra").expect(0);
    });
}

/// Two routers whose networks, hosts and all, have the same addresses.
const OVERLAPPING: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: vrf }
spec:
  namespaces:
    red-a: { interfaces: { eth0: { addresses: [10.1.0.1/24, 'fd00:1::1/64'], routes: [{ to: default, via: 10.1.0.254 }, { to: default, via: 'fd00:1::fe' }] } } }
    red-b: { interfaces: { eth0: { addresses: [10.2.0.1/24, 'fd00:2::1/64'], routes: [{ to: default, via: 10.2.0.254 }, { to: default, via: 'fd00:2::fe' }] } } }
    blue-a: { interfaces: { eth0: { addresses: [10.1.0.1/24, 'fd00:1::1/64'], routes: [{ to: default, via: 10.1.0.254 }, { to: default, via: 'fd00:1::fe' }] } } }
    blue-b: { interfaces: { eth0: { addresses: [10.2.0.1/24, 'fd00:2::1/64'], routes: [{ to: default, via: 10.2.0.254 }, { to: default, via: 'fd00:2::fe' }] } } }
  cubes:
    red: { router: { ports: { a: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'] }, b: { addresses: [10.2.0.254/24, 'fd00:2::fe/64'] } } } }
    blue: { router: { ports: { a: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'] }, b: { addresses: [10.2.0.254/24, 'fd00:2::fe/64'] } } } }
  links: [[red:a, red-a/eth0], [red:b, red-b/eth0], [blue:a, blue-a/eth0], [blue:b, blue-b/eth0]]
";

/// Each router has routes and neighbours of its own: what is sent in one arrives in that one.
#[test]
fn routers_with_the_same_networks_are_apart() {
    run_test(|lab| {
        lab.apply(OVERLAPPING);
        for (here, there) in [("red", "blue"), ("blue", "red")] {
            let (a, b) = (
                lab.space(&format!("{here}-a")),
                lab.space(&format!("{here}-b")),
            );
            let elsewhere = lab.space(&format!("{there}-b")).wire();
            for (own, target) in [("10.1.0.1", "10.2.0.1"), ("fd00:1::1", "fd00:2::1")] {
                assert_eq!(ping(&a, ip(target)), 63);
                udp(&a, &b, (ip(own), ip(target)), &[100, 1400]);
            }
            let strayed = elsewhere.drain();
            let strayed = strayed.iter().filter(|frame| {
                frame
                    .ip()
                    .is_some_and(|packet| packet.protocol == protocol::UDP)
            });
            assert_eq!(strayed.count(), 0);
        }
    });
}
