//! Neighbours that a router does not know: it asks, and learns.

use std::net::IpAddr;

use integration_tests::{
    lab::{Lab, Station, run_test},
    traffic::{ping, ping_all, traceroute},
    wire::{Frame, Mac, Sum, protocol},
};

use crate::ip;

/// The topology knows `h`; nobody but the test knows who is behind `wire0`.
const ROUTER: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: n }
spec:
  namespaces:
    h:
      interfaces:
        eth0:
          addresses: [10.1.0.1/24, 'fd00:1::1/64']
          routes: [{ to: default, via: 10.1.0.254 }, { to: default, via: 'fd00:1::fe' }]
  interfaces: { wire0: { hook: tc } }
  cubes:
    r:
      router:
        ports:
          lan: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'] }
          wan: { addresses: [10.2.0.254/24, 'fd00:2::fe/64'] }
  links: [[r:lan, h/eth0], [r:wan, wire0]]
";

#[test]
fn an_unknown_neighbor_is_asked_for() {
    run_test(|lab| {
        let station =
            with_default_routes(Station::new("s", "wire0", &["10.2.0.1/24", "fd00:2::1/64"]));
        lab.apply(ROUTER);
        unknown(lab, &station);
    });
}

#[test]
fn an_unknown_neighbor_is_asked_for_on_xdp() {
    run_test(|lab| {
        let station = with_default_routes(Station::for_xdp(
            "s",
            "wire0",
            &["10.2.0.1/24", "fd00:2::1/64"],
        ));
        lab.apply(&ROUTER.replace("hook: tc", "hook: xdp"));
        unknown(lab, &station);
        lab.pcn("destroy --yes n").expect(0);
    });
}

fn with_default_routes(station: Station) -> Station {
    station.run("ip route add default via 10.2.0.254").expect(0);
    station
        .run("ip -6 route add default via fd00:2::fe")
        .expect(0);
    station
}

/// The first packet is a datagram whose checksum is left for later: what it becomes must be a
/// question and nothing else.
fn unknown(lab: &Lab, station: &Station) {
    let h = lab.space("h");
    for (own, target) in [("10.1.0.1", "10.2.0.1"), ("fd00:1::1", "fd00:2::1")] {
        let target = ip(target);
        let wire = station.wire();
        let socket = h.udp(ip(own), 0);
        socket
            .send_to(&[0x5a; 700], (target, 9))
            .expect("a datagram can be sent");
        let question = wire.expect("a question", |frame| frame.asks_for(target));
        assert_question(&question, target);
        // It is answered without anybody's help, so that the next datagram arrives.
        assert_eq!(ping(&h, target), 63);
        ping_all(&h, target, 100);
        socket
            .send_to(&[0x5b; 700], (target, 9))
            .expect("a datagram can be sent");
        let datagram = wire.expect("a datagram", |frame| {
            frame
                .between(ip(own), target, protocol::UDP)
                .is_some_and(|ip| ip.datagram() == [0x5b; 700])
        });
        let packet = datagram.ip().expect("just found");
        assert_eq!(packet.hops, 63);
        packet.assert_sums();
        assert_eq!(
            (datagram.source(), datagram.destination()),
            (question.source(), station.mac("eth0"))
        );
    }
    let neighbors = &lab.show("n")["cubes"]["r"]["neighbors"];
    for address in ["10.2.0.1", "fd00:2::1"] {
        assert!(
            neighbors
                .as_array()
                .into_iter()
                .flatten()
                .any(|entry| entry["address"] == address),
            "{neighbors}"
        );
    }
    // And from outside in: the router answers, and knows the host without asking.
    assert_eq!(ping(station, ip("10.1.0.1")), 63);
    assert_eq!(ping(station, ip("fd00:1::1")), 63);
    assert_eq!(
        traceroute(station, ip("10.1.0.1")),
        ["10.2.0.254", "10.1.0.1"].map(ip)
    );
}

fn assert_question(frame: &Frame, target: IpAddr) {
    let sender = frame.source();
    let padding = match target {
        IpAddr::V4(target) => {
            assert_eq!(frame.destination(), [0xff; 6], "{frame:?}");
            let mut expected = vec![0, 1, 8, 0, 6, 4, 0, 1];
            expected.extend(sender);
            expected.extend([10, 2, 0, 254]);
            expected.extend([0; 6]);
            expected.extend(target.octets());
            let (arp, padding) = frame.bytes[14..].split_at(28);
            assert_eq!(arp, expected, "{frame:?}");
            padding
        }
        IpAddr::V6(target) => {
            let [.., x, y, z] = target.octets();
            assert_eq!(
                frame.destination(),
                [0x33, 0x33, 0xff, x, y, z],
                "{frame:?}"
            );
            let packet = frame.ip().expect("a solicitation is an IPv6 packet");
            assert_eq!(
                (packet.source, packet.hops),
                (link_local(sender), 255),
                "{frame:?}"
            );
            assert_eq!(
                packet.destination,
                ip(&format!("ff02::1:ff{x:02x}:{y:02x}{z:02x}"))
            );
            assert_eq!(packet.sum(), Sum::Right, "{frame:?}");
            let mut option = vec![1, 1];
            option.extend(sender);
            assert_eq!(packet.segment[24..], option, "{frame:?}");
            &frame.bytes[14 + 40 + 32..]
        }
    };
    assert!(
        padding.iter().all(|byte| *byte == 0),
        "the datagram shows in the padding: {padding:02x?}"
    );
}

/// The address that follows from an Ethernet address (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: Mac) -> IpAddr {
    IpAddr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// What comes in at the only port goes out there again.
const ONE_ARM: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: arm }
spec:
  namespaces:
    a:
      interfaces:
        eth0:
          addresses: [10.1.0.1/24, 'fd00:1::1/64']
          routes: [{ to: default, via: 10.1.0.254 }, { to: default, via: 'fd00:1::fe' }]
    b:
      interfaces:
        eth0:
          addresses: [10.2.0.1/24, 'fd00:2::1/64']
          routes: [{ to: default, via: 10.2.0.254 }, { to: default, via: 'fd00:2::fe' }]
  cubes:
    br: { bridge: {} }
    r: { router: { ports: { arm: { addresses: [10.1.0.254/24, 10.2.0.254/24, 'fd00:1::fe/64', 'fd00:2::fe/64'] } } } }
  links: [[br:a, a/eth0], [br:b, b/eth0], [br:r, r:arm]]
";

#[test]
fn a_router_with_one_arm() {
    run_test(|lab| {
        lab.apply(ONE_ARM);
        let (a, b) = (lab.space("a"), lab.space("b"));
        for (from, to) in [
            (&a, "10.2.0.1"),
            (&b, "10.1.0.1"),
            (&a, "fd00:2::1"),
            (&b, "fd00:1::1"),
        ] {
            assert_eq!(ping(from, ip(to)), 63);
            ping_all(from, ip(to), 50);
        }
        assert_eq!(
            traceroute(&a, ip("10.2.0.1")),
            ["10.1.0.254", "10.2.0.1"].map(ip)
        );
    });
}
