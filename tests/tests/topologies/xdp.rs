//! Between wires on XDP: two stations of the test, and one of the topology on TC.

use integration_tests::{
    lab::{Lab, Station, run_test},
    traffic::{ping, ping_all, tcp, traceroute, udp},
    wire::{Sum, protocol},
};

use crate::ip;

const BRIDGE: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: x }
spec:
  interfaces: { wire0: { hook: xdp }, wire1: { hook: xdp } }
  cubes: { br: { bridge: {} } }
  links: [[br:a, wire0], [br:b, wire1]]
";

const ROUTER: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: x }
spec:
  interfaces: { wire0: { hook: xdp }, wire1: { hook: xdp } }
  cubes:
    r:
      router:
        ports:
          a: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'] }
          b: { addresses: [10.2.0.254/24, 'fd00:2::fe/64'] }
  links: [[r:a, wire0], [r:b, wire1]]
";

#[test]
fn bridge_on_xdp() {
    run_test(|lab| {
        let a = Station::for_xdp("a", "wire0", &["10.1.0.1/24", "fd00:1::1/64"]);
        let b = Station::for_xdp("b", "wire1", &["10.1.0.2/24", "fd00:1::2/64"]);
        lab.apply(BRIDGE);
        lab.assert_converged(BRIDGE);
        check(
            &a,
            &b,
            [("10.1.0.1", "10.1.0.2"), ("fd00:1::1", "fd00:1::2")],
            64,
        );
        destroy(lab, &a);
    });
}

#[test]
fn router_on_xdp() {
    run_test(|lab| {
        let a = Station::for_xdp("a", "wire0", &["10.1.0.1/24", "fd00:1::1/64"]);
        let b = Station::for_xdp("b", "wire1", &["10.2.0.1/24", "fd00:2::1/64"]);
        for (station, net) in [(&a, 1), (&b, 2)] {
            station
                .run(&format!("ip route add default via 10.{net}.0.254"))
                .expect(0);
            station
                .run(&format!("ip -6 route add default via fd00:{net}::fe"))
                .expect(0);
        }
        lab.apply(ROUTER);
        lab.assert_converged(ROUTER);
        check(
            &a,
            &b,
            [("10.1.0.1", "10.2.0.1"), ("fd00:1::1", "fd00:2::1")],
            63,
        );
        assert_eq!(
            traceroute(&a, ip("10.2.0.1")),
            ["10.1.0.254", "10.2.0.1"].map(ip)
        );
        assert_eq!(
            traceroute(&a, ip("fd00:2::1")),
            ["fd00:1::fe", "fd00:2::1"].map(ip)
        );
        destroy(lab, &a);
    });
}

fn check(a: &Station, b: &Station, pairs: [(&str, &str); 2], hops: u8) {
    let own = b.mac("eth0");
    for (source, target) in pairs.map(|(source, target)| (ip(source), ip(target))) {
        assert_eq!(ping(a, target), hops);
        assert_eq!(ping(b, source), hops);
        ping_all(a, target, 200);
        let wire = b.wire();
        udp(a, b, (source, target), &[1, 99, 1400]);
        tcp(a, b, target, 4 << 20);
        let frames = wire.drain();
        let mut seen = 0;
        for frame in frames.iter().filter(|frame| !frame.outgoing) {
            let Some(ip) = frame
                .ip()
                .filter(|ip| (ip.source, ip.destination) == (source, target))
            else {
                continue;
            };
            // Neighbour discovery has a limit of its own.
            if ip.protocol == protocol::ICMPV6 {
                continue;
            }
            assert_eq!(ip.hops, hops, "{frame:?}");
            ip.assert_sums();
            // The receiver puts segments together, and then leaves their sum for later.
            assert!(
                ip.protocol == protocol::TCP || ip.sum() == Sum::Right,
                "{frame:?}"
            );
            assert_eq!(frame.destination(), own);
            seen += 1;
            if seen == 500 {
                break;
            }
        }
        assert!(seen > 20, "only {seen} frames seen");
    }
}

/// The interfaces are as they were: stations reach nobody, and XDP is off.
fn destroy(lab: &Lab, a: &Station) {
    assert!(
        lab.space("")
            .run("ip link show wire0")
            .stdout
            .contains("xdp")
    );
    lab.pcn("destroy --yes x").expect(0);
    assert!(
        !lab.space("")
            .run("ip link show wire0")
            .stdout
            .contains("xdp")
    );
    integration_tests::traffic::no_ping(a, ip("10.1.0.254"));
}
