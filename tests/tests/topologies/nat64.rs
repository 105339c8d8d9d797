//! NAT64 and NAT46 with real traffic: who is seen, how much fits, and what routers on the way say.

use std::net::IpAddr;

use integration_tests::{
    lab::{Lab, Space, Station, run_test},
    traffic::{ping, tcp_translated, traceroute},
    wait,
};
use serde_json::Value;

use crate::{example, ip};

/// The remote host, as it is and as IPv6 hosts call it.
const REMOTE: (&str, &str) = ("198.51.100.7", "64:ff9b::198.51.100.7");
/// The server, as it is and as IPv4 hosts call it.
const INSIDE: (&str, &str) = ("2001:db8:2::80", "203.0.113.80");

fn pair((own, called): (&str, &str)) -> (IpAddr, IpAddr) {
    (ip(own), ip(called))
}

fn sessions(lab: &Lab) -> Vec<Value> {
    let sessions = lab.show("nat64")["cubes"]["nat64"]["sessions"].clone();
    sessions.as_array().expect("a list").clone()
}

/// What the example's comment promises.
pub(crate) fn home_and_remote(lab: &Lab) {
    let (home, server, remote) = (lab.space("home"), lab.space("server"), lab.space("remote"));
    assert_eq!(ping(&home, ip(REMOTE.1)), 63);
    assert_eq!(ping(&remote, ip(INSIDE.1)), 63);
    assert_eq!(
        traceroute(&home, ip(REMOTE.1)),
        [ip("64:ff9b::203.0.113.2"), ip(REMOTE.1)]
    );
    // The router has no IPv6 outside; its errors are from the translator.
    assert_eq!(
        traceroute(&remote, ip(INSIDE.1)),
        [ip(INSIDE.1), ip(INSIDE.1)]
    );
    talk(&home, &server, &remote);
    let shown = sessions(lab);
    let tcp = shown.iter().find(|session| {
        session["protocol"] == "tcp"
            && session["rule"] == "nat64"
            && session["remote"]
                .as_str()
                .is_some_and(|remote| remote.starts_with("198.51.100.7:"))
            && session["inside"]
                .as_str()
                .is_some_and(|inside| inside.starts_with("[2001:db8:1::"))
            && session["external"]
                .as_str()
                .is_some_and(|external| external.starts_with("203.0.113.2:"))
    });
    assert!(tcp.is_some(), "{shown:?}");
}

/// TCP with everything that offloads make of it, and datagrams, both ways.
fn talk(home: &Space, inside: &Space, remote: &Space) {
    tcp_translated(home, remote, pair(REMOTE), 8 << 20);
    tcp_translated(remote, inside, pair(INSIDE), 8 << 20);
    for length in [0, 1, 1200, 1400] {
        let (server, client) = (
            remote.udp(ip(REMOTE.0), 0),
            home.udp(ip("2001:db8:1::10"), 0),
        );
        let port = server.local_addr().expect("bound").port();
        let data: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
        client.send_to(&data, (ip(REMOTE.1), port)).expect("sent");
        let mut buffer = [0; 2000];
        let (count, from) = server.recv_from(&mut buffer).expect("it arrives");
        assert_eq!(
            (&buffer[..count], from.ip()),
            (&data[..], ip("203.0.113.2"))
        );
        server.send_to(&data, from).expect("sent");
        let (count, from) = client
            .recv_from(&mut buffer)
            .unwrap_or_else(|error| panic!("{length} bytes back: {error}"));
        assert_eq!((&buffer[..count], from.ip()), (&data[..], ip(REMOTE.1)));
    }
}

/// Path MTU discovery, in both families: the figures are those of the sender's.
#[test]
fn what_is_too_big_is_told_in_the_senders_family() {
    run_test(|lab| {
        let topology = example("nat64")
            .replace("dmz: { addresses", "dmz: { mtu: 1300, addresses")
            .replace(
                "remote:\n      interfaces:\n        eth0: {",
                "remote:\n      interfaces:\n        eth0: { mtu: 1500,",
            );
        lab.apply(&topology);
        let (home, remote) = (lab.space("home"), lab.space("remote"));
        // Behind the remote host is a network with a smaller MTU.
        for line in [
            "sysctl -qw net.ipv4.ip_forward=1",
            "ip link add thin type veth peer name thinner",
            "ip link set thin mtu 1290 up",
            "ip link set thinner up",
            "ip addr add 192.0.2.1/24 dev thin",
            "ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev thin",
        ] {
            remote.run(line).expect(0);
        }
        let heard = |from: &Space, far: &str, says: &str| {
            let heard = wait::within(wait::PATIENCE, || {
                let run = from.run(&format!("ping -n -c 1 -W 1 -M do -s 1270 {far}"));
                (run.stdout.contains(says) || run.stderr.contains(says)).then_some(())
            });
            heard.unwrap_or_else(|| panic!("{far}: nothing of {says}: {:#}", lab.show("nat64")));
        };
        // 1290 bytes of IPv4 are 1310 of IPv6.
        heard(&home, "64:ff9b::192.0.2.9", "mtu=1310");
        // 1300 bytes of IPv6 are 1280 of IPv4.
        heard(&remote, INSIDE.1, "mtu = 1280");
        // A connection finds out, and arrives.
        tcp_translated(&remote, &lab.space("server"), pair(INSIDE), 1 << 20);
        tcp_translated(&home, &remote, pair(REMOTE), 1 << 20);
    });
}

/// A port that nobody listens on, and a host that does not exist: TCP hears of it at once.
#[test]
fn errors_come_through() {
    run_test(|lab| {
        lab.apply(&example("nat64"));
        let (home, remote) = (lab.space("home"), lab.space("remote"));
        ping(&home, ip(REMOTE.1));
        let client = home.udp(ip("2001:db8:1::10"), 0);
        client.connect((ip(REMOTE.1), 9)).expect("an address");
        client.send(b"anybody?").expect("sent");
        let error = client.recv(&mut [0; 10]).expect_err("nobody is there");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        let client = remote.udp(ip("203.0.113.1"), 0);
        client.connect((ip(INSIDE.1), 9)).expect("an address");
        client.send(b"anybody?").expect("sent");
        let error = client.recv(&mut [0; 10]).expect_err("nobody is there");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        // The router says so itself: it has no way to the address.
        let run = home.run("ping -n -c 1 -W 3 64:ff9b::203.0.113.99");
        assert!(!run.stdout.contains(" 1 received"), "{run}");
    });
}

/// The same between wires on XDP.
#[test]
fn on_xdp() {
    run_test(|lab| {
        let home = Station::for_xdp("home", "wire0", &["2001:db8:1::10/64"]);
        let server = Station::for_xdp("server", "wire2", &["2001:db8:2::80/64"]);
        let remote = Station::for_xdp("remote", "wire1", &["203.0.113.1/24", "198.51.100.7/32"]);
        home.run("ip route add default via 2001:db8:1::1").expect(0);
        server
            .run("ip route add default via 2001:db8:2::1")
            .expect(0);
        let text = example("nat64");
        let (head, rest) = text.split_once("  namespaces:").expect("they are there");
        let (_, cubes) = rest.split_once("  cubes:").expect("they are there");
        let topology = format!(
            "{head}  interfaces: {{ wire0: {{ hook: xdp }}, wire1: {{ hook: xdp }}, wire2: {{ hook: xdp }} }}\n  cubes:{cubes}"
        )
        .replace("home/eth0", "wire0")
        .replace("remote/eth0", "wire1")
        .replace("server/eth0", "wire2");
        lab.apply(&topology);
        lab.assert_converged(&topology);
        assert_eq!(ping(&home, ip(REMOTE.1)), 63);
        assert_eq!(ping(&remote, ip(INSIDE.1)), 63);
        assert_eq!(
            traceroute(&home, ip(REMOTE.1)),
            [ip("64:ff9b::203.0.113.2"), ip(REMOTE.1)]
        );
        talk(&home, &server, &remote);
    });
}

/// The translator comes and goes while others stay: its second programs with it.
#[test]
fn it_is_added_and_removed() {
    run_test(|lab| {
        let with = example("nat64");
        let without = with.replace(", through: [nat64]", "");
        let (head, rest) = without
            .split_once("    nat64:\n      nat:")
            .expect("the cube");
        let (_, links) = rest.split_once("  links:").expect("they are there");
        let without = format!("{head}  links:{links}");
        lab.apply(&without);
        let before = lab.ids();
        lab.apply(&with);
        lab.assert_converged(&with);
        ping(&lab.space("home"), ip(REMOTE.1));
        lab.apply(&without);
        lab.assert_converged(&without);
        let names =
            |ids: &std::collections::BTreeMap<String, u32>| ids.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&lab.ids()), names(&before));
    });
}
