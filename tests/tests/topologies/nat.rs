//! NAT with real traffic: who is seen outside, who is reached inside, and what is not disturbed.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
};

use integration_tests::{
    command::run,
    lab::{Lab, Station, run_test},
    traffic::{ping, tcp, traceroute},
    wait,
};
use serde_json::Value;

use crate::{example, ip};

fn sessions(lab: &Lab) -> Vec<Value> {
    let sessions = lab.show("nat")["cubes"]["nat"]["sessions"].clone();
    sessions.as_array().expect("a list").clone()
}

/// How many entries a table of the cube has.
fn entries(lab: &Lab, table: &str) -> u64 {
    let table = &lab.show("nat")["cubes"]["nat"]["tables"][table];
    table["entries"].as_u64().expect("it is counted")
}

/// What the example's comment promises, in both families.
pub(crate) fn home_and_remote(lab: &Lab) {
    let (home, remote) = (lab.space("home"), lab.space("remote"));
    for far in [ip("198.51.100.7"), ip("2001:db8:f::7")] {
        assert_eq!(ping(&home, far), 63);
    }
    assert_eq!(
        traceroute(&home, ip("198.51.100.7")),
        [ip("10.36.0.1"), ip("198.51.100.7")]
    );
    assert_eq!(
        traceroute(&home, ip("2001:db8:f::7")),
        [ip("fd00:36::1"), ip("2001:db8:f::7")]
    );
    // The remote host has no way to the inside, and saw none of its addresses.
    let run = remote.run("ping -n -c 1 -W 1 10.36.0.10");
    assert!(run.stderr.contains("Network is unreachable"), "{run}");
    for far in [ip("198.51.100.7"), ip("2001:db8:f::7")] {
        tcp(&home, &remote, far, 8 << 20);
    }
    let rules: Vec<Value> = sessions(lab)
        .iter()
        .map(|session| session["rule"].clone())
        .collect();
    assert!(rules.iter().all(|rule| rule == "masquerade"), "{rules:?}");
    forwarded(lab);
}

/// From outside to a port that is forwarded.
fn forwarded(lab: &Lab) {
    let (home, remote) = (lab.space("home"), lab.space("remote"));
    let server = home
        .enter(|| TcpListener::bind("10.36.0.10:80"))
        .expect("nobody else has the port");
    let mut client = remote
        .enter(|| TcpStream::connect("203.0.113.2:8080"))
        .expect("somebody listens");
    let (mut accepted, from) = server.accept().expect("a connection");
    assert_eq!(from.ip(), ip("203.0.113.1"));
    accepted.write_all(b"welcome").expect("sent");
    let mut buffer = [0; 7];
    client.read_exact(&mut buffer).expect("it arrives");
    assert_eq!(&buffer, b"welcome");
    let found = sessions(lab).into_iter().find(|session| {
        session["rule"] == "portForward/tcp/203.0.113.2/8080"
            && session["inside"] == "10.36.0.10:80"
            && session["external"] == "203.0.113.2:8080"
            && session["state"] == "ESTABLISHED"
    });
    assert!(found.is_some(), "{:?}", sessions(lab));
}

#[test]
fn the_remote_host_sees_the_external_address() {
    run_test(|lab| {
        lab.apply(&example("nat"));
        let (home, remote) = (lab.space("home"), lab.space("remote"));
        for (far, external) in [
            ("198.51.100.7", "203.0.113.2"),
            ("2001:db8:f::7", "2001:db8:1::2"),
        ] {
            let (far, external): (IpAddr, IpAddr) = (ip(far), ip(external));
            ping(&home, far);
            let server = remote.udp(far, 5300);
            let client = home.udp(
                if far.is_ipv4() {
                    ip("10.36.0.10")
                } else {
                    ip("fd00:36::10")
                },
                4000,
            );
            client.send_to(b"who am I?", (far, 5300)).expect("sent");
            let mut buffer = [0; 64];
            let (length, from) = server.recv_from(&mut buffer).expect("it arrives");
            assert_eq!(
                (&buffer[..length], from.ip()),
                (&b"who am I?"[..], external)
            );
            assert_eq!(from.port(), 4000, "the port stays if it is free");
            server.send_to(b"you", from).expect("sent");
            let (length, from) = client.recv_from(&mut buffer).expect("it comes back");
            assert_eq!((&buffer[..length], from.ip()), (&b"you"[..], far));
        }
    });
}

/// Path MTU discovery: the far host says what it can take, and the near one hears it.
#[test]
fn errors_about_packets_that_are_too_big_come_through() {
    run_test(|lab| {
        let topology = example("nat").replace(
            "      interfaces:\n        eth0: { addresses: [203.0.113.1/24, 198.51.100.7/32, \"2001:db8:1::1/64\", \"2001:db8:f::7/128\"] }",
            "      interfaces:\n        eth0:\n          addresses: [203.0.113.1/24, \"2001:db8:1::1/64\"]\n          mtu: 1500",
        );
        assert_ne!(topology, example("nat"));
        lab.apply(&topology);
        let (home, remote) = (lab.space("home"), lab.space("remote"));
        // Behind the remote host is a network with a smaller MTU.
        for line in [
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
            "ip link add thin type veth peer name thinner",
            "ip link set thin mtu 1300 up",
            "ip link set thinner up",
            "ip addr add 192.0.2.1/24 dev thin",
            "ip addr add 2001:db8:e::1/64 dev thin nodad",
            "ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev thin",
            "ip neigh add 2001:db8:e::9 lladdr 02:00:00:00:00:09 dev thin",
        ] {
            remote.run(line).expect(0);
        }
        for (far, says) in [("192.0.2.9", "mtu = 1300"), ("2001:db8:e::9", "mtu=1300")] {
            let heard = wait::within(wait::PATIENCE, || {
                let run = home.run(&format!("ping -n -c 1 -W 1 -M do -s 1400 {far}"));
                (run.stdout.contains(says) || run.stderr.contains(says)).then_some(())
            });
            heard.unwrap_or_else(|| panic!("nothing about {far}"));
        }
    });
}

/// What is applied anew leaves sessions alone, also if the programs are replaced.
#[test]
fn sessions_outlive_changes() {
    run_test(|lab| {
        lab.apply(&example("nat"));
        ping(&lab.space("home"), ip("198.51.100.7"));
        let before = sessions(lab);
        assert!(!before.is_empty());
        let longer = example("nat").replace(
            "masquerade: true",
            "masquerade: true\n        timeouts: { icmp: 10m }",
        );
        lab.apply(&longer);
        let after = sessions(lab);
        assert_eq!(after.len(), before.len());
        let left = after[0]["expiresIn"].as_u64().expect("a number");
        assert!(left > 300, "{left}");
        lab.assert_converged(&longer);
    });
}

/// `pcn flush` ends sessions, and `pcn show` has them alone.
#[test]
fn sessions_are_shown_and_flushed() {
    run_test(|lab| {
        lab.apply(&example("nat"));
        ping(&lab.space("home"), ip("198.51.100.7"));
        let shown = lab.pcn("show nat nat/sessions").expect(0);
        assert!(shown.stdout.contains("203.0.113.2:"), "{shown}");
        assert!(!shown.stdout.contains("cube/r "), "{shown}");
        lab.pcn("show nat nat/nothing").expect(1);
        lab.pcn("flush nat r/sessions").expect(1);
        lab.pcn("flush nat nat").expect(64);
        assert!(!sessions(lab).is_empty());
        let run = lab.pcn("flush nat nat/sessions").expect(0);
        assert_eq!(run.stdout, "Flushed nat/sessions of nat.\n");
        assert!(sessions(lab).is_empty());
        // Nothing is left for packets to remove.
        for table in ["flows", "mappings"] {
            assert_eq!(entries(lab, table), 0, "{table}");
        }
        lab.assert_converged(&example("nat"));
        ping(&lab.space("home"), ip("198.51.100.7"));
        assert_eq!(sessions(lab).len(), 1);
    });
}

/// On an interface of the host: its own address, also after that has become another one.
#[test]
fn an_interface_of_the_host_gives_the_address_it_has() {
    run_test(|lab| {
        let home = Station::new("home", "lan0", &["10.36.0.10/24", "fd00:36::10/64"]);
        let far = ["192.0.2.2/24", "2001:db8:1::2/64"];
        let remote = Station::new("remote", "wan0", &far);
        for line in [
            "ip address add 10.36.0.1/24 dev lan0",
            "ip address add fd00:36::1/64 dev lan0 nodad",
            "ip address add 192.0.2.1/24 dev wan0",
            "ip address add 2001:db8:1::1/64 dev wan0 nodad",
            // Who forwards asks for neighbours from a link-local address.
            "ip address add fe80::1/64 dev lan0 nodad",
            "ip address add fe80::1/64 dev wan0 nodad",
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        ] {
            run(line).expect(0);
        }
        home.run("ip route add default via 10.36.0.1").expect(0);
        home.run("ip route add default via fd00:36::1").expect(0);
        lab.apply(
            "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: nat }
spec:
  interfaces:
    wan0: { through: [nat] }
  cubes:
    nat: { nat: { masquerade: [10.36.0.0/24, 'fd00:36::/64'] } }
",
        );
        ping(&home, ip("192.0.2.2"));
        ping(&home, ip("2001:db8:1::2"));
        let seen = |far: &str, near: &str, port| {
            let server = remote.udp(ip(far), 5300);
            let client = home.udp(ip(near), port);
            client.send_to(b"hello", (ip(far), 5300)).expect("sent");
            let mut buffer = [0; 64];
            let (_, from) = server.recv_from(&mut buffer).expect("it arrives");
            server.send_to(b"hello", from).expect("sent");
            client.recv_from(&mut buffer).expect("it comes back");
            from.ip()
        };
        assert_eq!(seen("192.0.2.2", "10.36.0.10", 4000), ip("192.0.2.1"));
        assert_eq!(
            seen("2001:db8:1::2", "fd00:36::10", 4000),
            ip("2001:db8:1::1")
        );
        run("ip address del 192.0.2.1/24 dev wan0").expect(0);
        run("ip address add 192.0.2.77/24 dev wan0").expect(0);
        // Nobody told pcn. A session of before follows within a second.
        wait::within(wait::PATIENCE, || {
            (seen("192.0.2.2", "10.36.0.10", 4000) == ip("192.0.2.77")).then_some(())
        })
        .expect("the new address");
        run("ip address del 2001:db8:1::1/64 dev wan0").expect(0);
        run("ip address add 2001:db8:1::77/64 dev wan0 nodad").expect(0);
        wait::within(wait::PATIENCE, || {
            let external = seen("2001:db8:1::2", "fd00:36::10", 4000);
            (external == ip("2001:db8:1::77")).then_some(())
        })
        .expect("the new address over IPv6");
    });
}
