//! Hairpinning (RFC 4787, 6): hosts inside that reach each other, and the router, by external addresses.

use std::net::IpAddr;

use integration_tests::{
    lab::{Lab, Space, run_test},
    traffic::{no_ping, ping, tcp_translated, traceroute},
    wait,
};
use serde_json::Value;

use crate::ip;

/// Two hosts on one network and a third one on another one, all behind one router. Its outer port has an address that
/// everybody shares, and one that leads to the server.
const TOPOLOGY: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: h }
spec:
  namespaces:
    client:
      interfaces:
        eth0:
          addresses: [10.1.0.2/24, 'fd00:1::2/64']
          routes: [{ to: default, via: 10.1.0.1 }, { to: default, via: 'fd00:1::1' }]
    server:
      interfaces:
        eth0:
          addresses: [10.1.0.3/24, 'fd00:1::3/64']
          routes: [{ to: default, via: 10.1.0.1 }, { to: default, via: 'fd00:1::1' }]
    other:
      interfaces:
        eth0:
          addresses: [10.2.0.2/24, 'fd00:2::2/64']
          routes: [{ to: default, via: 10.2.0.1 }, { to: default, via: 'fd00:2::1' }]
    remote: { interfaces: { eth0: { addresses: [203.0.113.1/24, '2001:db8::1/64'] } } }
  cubes:
    lan: { bridge: {} }
    r:
      router:
        ports:
          a: { addresses: [10.1.0.1/24, 'fd00:1::1/64'] }
          b: { addresses: [10.2.0.1/24, 'fd00:2::1/64'] }
          wan:
            addresses: [203.0.113.2/24, 203.0.113.3/24, '2001:db8::2/64', '2001:db8::3/64']
            through: [nat]
        routes: [{ to: default, via: 203.0.113.1 }, { to: default, via: '2001:db8::1' }]
    nat:
      nat:
        masquerade: true
        portForward:
          - { destination: 203.0.113.2, port: 20000-60999, to: 10.1.0.3 }
          - { destination: '2001:db8::2', port: 20000-60999, to: 'fd00:1::3' }
        dnat:
          - { destination: 203.0.113.3, to: 10.1.0.3 }
          - { destination: '2001:db8::3', to: 'fd00:1::3' }
  links:
    - [lan:client, client/eth0]
    - [lan:server, server/eth0]
    - [lan:up, r:a]
    - [r:b, other/eth0]
    - [r:wan, remote/eth0]
";

/// Inside and outside, in both families: the client, the server, the shared address and the server's own.
const FAMILIES: [[&str; 4]; 2] = [
    ["10.1.0.2", "10.1.0.3", "203.0.113.2", "203.0.113.3"],
    ["fd00:1::2", "fd00:1::3", "2001:db8::2", "2001:db8::3"],
];

fn sessions(lab: &Lab) -> Vec<Value> {
    let sessions = lab.show("h")["cubes"]["nat"]["sessions"].clone();
    sessions.as_array().expect("a list").clone()
}

/// Who sends a datagram, as its receiver sees it; answered, and the answer must come from where it was sent to.
#[track_caller]
fn seen(from: (&Space, IpAddr), to: (&Space, IpAddr), called: IpAddr) -> IpAddr {
    let server = to.0.udp(to.1, 30_000);
    // One that has no session with the server by another address: its answers could not be told apart.
    let client = from.0.udp(from.1, 0);
    let mut buffer = [0; 64];
    client.send_to(b"hello", (called, 30_000)).expect("sent");
    let (_, peer) = server
        .recv_from(&mut buffer)
        .unwrap_or_else(|error| panic!("to {called}: {error}"));
    server.send_to(b"hello to you", peer).expect("sent");
    let (length, back) = client.recv_from(&mut buffer).expect("it comes back");
    assert_eq!(&buffer[..length], b"hello to you");
    assert_eq!(back, (called, 30_000).into());
    peer.ip()
}

#[test]
fn hosts_inside_reach_each_other_by_external_addresses() {
    run_test(|lab| {
        lab.apply(TOPOLOGY);
        lab.assert_converged(TOPOLOGY);
        let (client, server, other) =
            (lab.space("client"), lab.space("server"), lab.space("other"));
        for [near, far, shared, own] in FAMILIES.map(|addresses| addresses.map(ip)) {
            // The first packet to a neighbour that is not known is lost.
            assert_eq!(ping(&client, own), 63);
            assert_eq!(ping(&client, shared), 63);
            for called in [shared, own] {
                // From the same network and from another one; REQ-9: the source is an external address.
                assert_eq!(
                    seen((&client, near), (&server, far), called),
                    shared,
                    "{called}"
                );
                tcp_translated(&client, &server, (far, called), 8 << 20);
                tcp_translated(&other, &server, (far, called), 1 << 20);
                ping(&other, called);
            }
        }
        let found = sessions(lab).into_iter().find(|session| {
            session["protocol"] == "icmp"
                && session["rule"] == "dnat/203.0.113.3"
                && session["inside"]
                    .as_str()
                    .is_some_and(|inside| inside.starts_with("10.1.0.3:"))
        });
        assert!(found.is_some(), "{:?}", sessions(lab));
    });
}

/// A firewall on the port inside sees both halves of such a connection: what the client begins goes on as established, and what
/// comes to the server is new, from an external address.
#[test]
fn through_a_firewall_inside() {
    run_test(|lab| {
        let topology = TOPOLOGY
            .replace(
                "a: { addresses: [10.1.0.1/24, 'fd00:1::1/64'] }",
                "a: { addresses: [10.1.0.1/24, 'fd00:1::1/64'], through: [fw] }",
            )
            .replace(
                "    nat:\n      nat:\n",
                "    fw:
      firewall:
        egress:
          default: drop
          rules:
            - { name: service, protocol: udp, destinationPort: 30000, action: accept }
            - { name: neighbours, protocol: icmpv6, icmpType: neighbor-solicitation, action: accept }
            - { name: answers, protocol: icmpv6, icmpType: neighbor-advertisement, action: accept }
    nat:
      nat:
",
            );
        lab.apply(&topology);
        let (client, server) = (lab.space("client"), lab.space("server"));
        for [near, far, shared, own] in FAMILIES.map(|addresses| addresses.map(ip)) {
            // So that neighbours are known.
            ping(
                &client,
                ip(if near.is_ipv4() {
                    "10.1.0.1"
                } else {
                    "fd00:1::1"
                }),
            );
            ping(
                &server,
                ip(if near.is_ipv4() {
                    "10.1.0.1"
                } else {
                    "fd00:1::1"
                }),
            );
            for called in [shared, own] {
                let seen = seen((&client, near), (&server, far), called);
                assert_eq!(seen, shared, "{called}");
            }
            // No rule lets these through to the server.
            let (closed, caller) = (server.udp(far, 30_001), client.udp(near, 0));
            let pause = std::time::Duration::from_millis(300);
            closed.set_read_timeout(Some(pause)).expect("a socket");
            caller.send_to(b"hello", (own, 30_001)).expect("sent");
            closed.recv(&mut [0; 10]).expect_err("it is dropped");
        }
        let show = lab.show("h");
        let dropped = &show["cubes"]["fw"]["attachments"]["r:a"]["egress"]["drops"];
        assert!(
            dropped["policy"].as_u64().is_some_and(|count| count >= 2),
            "{dropped}"
        );
    });
}

/// A port that a host uses outside is open to those inside, too.
#[test]
fn mappings_are_reached_from_inside() {
    run_test(|lab| {
        lab.apply(TOPOLOGY);
        let (client, other, remote) =
            (lab.space("client"), lab.space("other"), lab.space("remote"));
        for (own, near, shared, outside) in [
            ("10.2.0.2", "10.1.0.2", "203.0.113.2", "203.0.113.1"),
            ("fd00:2::2", "fd00:1::2", "2001:db8::2", "2001:db8::1"),
        ] {
            ping(&other, ip(outside));
            let (host, far) = (other.udp(ip(own), 5000), remote.udp(ip(outside), 53));
            host.send_to(b"hello", (ip(outside), 53)).expect("sent");
            let mut buffer = [0; 64];
            let (_, mapped) = far.recv_from(&mut buffer).expect("it arrives");
            assert_eq!(mapped.ip(), ip(shared));
            let caller = client.udp(ip(near), 6000);
            ping(&client, ip(outside));
            caller.send_to(b"from inside", mapped).expect("sent");
            let (length, from) = host.recv_from(&mut buffer).expect("it arrives");
            assert_eq!(
                (&buffer[..length], from.ip()),
                (&b"from inside"[..], ip(shared))
            );
            host.send_to(b"and back", from).expect("sent");
            let (_, from) = caller.recv_from(&mut buffer).expect("it comes back");
            assert_eq!(from, mapped);
        }
    });
}

/// What is for nobody inside is for the router, and errors find their way (RFC 5508, REQ-7).
#[test]
fn the_router_and_errors() {
    run_test(|lab| {
        // IPv6 is not translated here: answers of the router still come back.
        let topology = TOPOLOGY
            .replace("masquerade: true", "masquerade: [10.0.0.0/8]")
            .replace(
                "          - { destination: '2001:db8::2', port: 20000-60999, to: 'fd00:1::3' }\n",
                "",
            );
        lab.apply(&topology);
        let (client, remote) = (lab.space("client"), lab.space("remote"));
        assert_eq!(ping(&client, ip("203.0.113.2")), 63);
        assert_eq!(ping(&client, ip("2001:db8::2")), 63);
        assert_eq!(ping(&remote, ip("203.0.113.2")), 64);
        assert_eq!(
            traceroute(&client, ip("203.0.113.1")),
            [ip("10.1.0.1"), ip("203.0.113.1")]
        );
        // Nobody listens on the server, nor on the router.
        for (near, called) in [
            ("10.1.0.2", "203.0.113.3"),
            ("10.1.0.2", "203.0.113.2"),
            ("fd00:1::2", "2001:db8::2"),
        ] {
            let heard = wait::within(wait::PATIENCE, || {
                let socket = client.udp(ip(near), 0);
                socket.connect((ip(called), 9)).expect("an address");
                socket.send(b"anybody?").expect("sent");
                let error = socket.recv(&mut [0; 10]).expect_err("nobody is there");
                (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
            });
            heard.unwrap_or_else(|| panic!("nothing about {called}"));
        }
        // Without the NAT, the router is reached as before.
        let without = topology.replace("            through: [nat]\n", "");
        lab.apply(&without);
        assert_eq!(ping(&client, ip("203.0.113.2")), 64);
        no_ping(&client, ip("203.0.113.9"));
    });
}
