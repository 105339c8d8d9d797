//! Spanning trees: our bridges with one another, and with the Linux bridge, which speaks the STP of
//! IEEE 802.1D-1998.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    time::{Duration, Instant},
};

use integration_tests::{
    command::{Running, run, run_with},
    lab::{Lab, Space, Station, run_test},
    traffic::{no_ping, ping},
    wait,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::ip;

/// The shortest times that the standard allows: what STP waits for is twice the forward delay.
const SHORT: &str = "helloTime: 1s, maxAge: 6s, forwardDelay: 4s";

/// Longest that STP needs with these: information ages, then listening and learning.
const STP: Duration = Duration::from_secs(6 + 2 * 4 + 6);

/// Pairs of interfaces of the lab, each a cable between two bridges of ours.
fn cables(count: usize) {
    let mut batch = String::new();
    for number in 0..count {
        batch += &format!(
            "link add c{number}a type veth peer name c{number}b\nlink set c{number}a addrgenmode none up\nlink set c{number}b addrgenmode none up\n"
        );
    }
    run_with("ip -batch -", &batch).expect(0);
}

fn remove_cables(count: usize) {
    for number in 0..count {
        run(&format!("ip link delete c{number}a")).expect(0);
    }
}

/// Three bridges in a triangle of cables, and a host at each; the first is to be the root.
fn triangle() -> String {
    let bridge = |name: &str, priority: u32| {
        format!(
            "    {name}: {{ bridge: {{ stp: {{ enabled: true, priority: {priority}, {SHORT} }}, ports: {{ h: {{ stp: {{ edge: true }} }} }} }} }}\n"
        )
    };
    let host = |number: u32| {
        format!(
            "    h{number}: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.{number}/24] }} }} }}\n"
        )
    };
    format!(
        "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: t }}
spec:
  namespaces:
{}{}{}  cubes:
{}{}{}  links:
    - [b1:h, h1/eth0]
    - [b2:h, h2/eth0]
    - [b3:h, h3/eth0]
    - [b1:x, c0a]
    - [b2:x, c0b]
    - [b2:y, c1a]
    - [b3:x, c1b]
    - [b3:y, c2a]
    - [b1:y, c2b]
",
        host(1),
        host(2),
        host(3),
        bridge("b1", 4096),
        bridge("b2", 8192),
        bridge("b3", 12288),
    )
}

fn watch(lab: &Lab, file: &str) -> Running {
    let mut running = lab.start_pcn(&format!("watch --interval 1h --poll 1h -f {file}"));
    wait::until("a watch", || {
        assert!(running.is_running(), "it ended: {}", running.stderr());
        let show = lab.pcn("show t -o json");
        let status = (show.code == Some(0)).then(|| condition(&show.json(), "Watched"));
        status.flatten().filter(|status| status == "True")
    });
    lab.note_objects();
    running
}

/// Ends it as systemd does. Nothing was worth a warning.
#[track_caller]
fn stop(running: Running) {
    running.signal(Signal::SIGTERM);
    let run = running.end().expect(0);
    assert!(!run.stderr.contains("spanning tree"), "{run}");
}

fn condition(show: &Value, kind: &str) -> Option<String> {
    let conditions = show["conditions"].as_array()?;
    let condition = conditions.iter().find(|one| one["type"] == kind)?;
    condition["status"].as_str().map(str::to_owned)
}

/// Role and state of each port in an instance, by bridge and port.
fn ports(show: &Value, instance: &Value) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::new();
    for (cube, status) in show["cubes"].as_object().into_iter().flatten() {
        for port in status["spanningTreePorts"].as_array().into_iter().flatten() {
            if port["instance"] == *instance {
                let text = |field: &str| port[field].as_str().unwrap_or_default().to_owned();
                found.insert(
                    format!("{cube}:{}", text("port")),
                    (text("role"), text("state")),
                );
            }
        }
    }
    found
}

/// Waits until ports of the common instance are as said, and says how long that took.
#[track_caller]
fn expect_roles(lab: &Lab, limit: Duration, wanted: &[(&str, &str, &str)]) -> Duration {
    let start = Instant::now();
    let mut last = BTreeMap::new();
    let found = wait::within(limit, || {
        last = ports(&lab.show("t"), &"common".into());
        let is = |(port, role, state): &(&str, &str, &str)| {
            last.get(*port)
                .is_some_and(|is| is.0 == *role && is.1 == *state)
        };
        wanted.iter().all(is).then_some(())
    });
    assert!(found.is_some(), "wanted {wanted:?}, not {last:?}");
    start.elapsed()
}

/// A broadcast from one host reaches the others once: there is a way, and no circle.
#[track_caller]
fn one_copy_each(from: &Space, source: &str, to: &[&Space]) {
    let wires: Vec<_> = to.iter().map(|space| space.wire()).collect();
    let socket = from.enter(|| UdpSocket::bind((ip(source), 0)).expect("an address of the host"));
    socket.set_broadcast(true).expect("a socket may broadcast");
    let token = b"once and only once";
    socket
        .send_to(token, "10.0.0.255:4242")
        .expect("a broadcast can be sent");
    for (wire, space) in wires.iter().zip(to) {
        let is_it = |bytes: &[u8]| bytes.windows(token.len()).any(|part| part == token);
        let mut frames = wire.collect_until("the broadcast", |frame| is_it(&frame.bytes));
        frames.extend(wire.drain());
        let copies = frames
            .iter()
            .filter(|frame| !frame.outgoing && is_it(&frame.bytes))
            .count();
        assert_eq!(copies, 1, "copies at {}", space.name());
    }
}

const SETTLED: [(&str, &str, &str); 6] = [
    ("b1:x", "designated", "forwarding"),
    ("b1:y", "designated", "forwarding"),
    ("b2:x", "root", "forwarding"),
    ("b2:y", "designated", "forwarding"),
    ("b3:y", "root", "forwarding"),
    ("b3:x", "alternate", "discarding"),
];

/// Three bridges of ours agree at once, and again when a cable is pulled.
#[test]
fn ours_agree_at_once() {
    run_test(|lab| {
        cables(3);
        let text = triangle();
        let file = lab.file("t.yaml", &text);
        let applied = lab.pcn(&format!("apply --yes -f {file}")).expect(0);
        assert!(applied.stderr.contains("start `pcn watch`"), "{applied}");
        assert_eq!(
            condition(&lab.show("t"), "Watched").as_deref(),
            Some("False")
        );
        let [h1, h2, h3] = ["h1", "h2", "h3"].map(Space::open);
        // Nobody has said yet that it is safe.
        no_ping(&h1, ip("10.0.0.2"));
        let watching = watch(lab, &file);
        let settled = expect_roles(lab, Duration::from_secs(5), &SETTLED);
        for (host, space) in [("10.0.0.2", &h1), ("10.0.0.3", &h1), ("10.0.0.3", &h2)] {
            ping(space, ip(host));
        }
        one_copy_each(&h1, "10.0.0.1", &[&h2, &h3]);
        one_copy_each(&h3, "10.0.0.3", &[&h1, &h2]);
        // The cable between the root and the third bridge.
        let pulled = Instant::now();
        run("ip link set c2a down").expect(0);
        expect_roles(
            lab,
            Duration::from_secs(5),
            &[
                ("b3:y", "down", "discarding"),
                ("b3:x", "root", "forwarding"),
                ("b2:y", "designated", "forwarding"),
            ],
        );
        let failed_over = pulled.elapsed();
        ping(&h1, ip("10.0.0.3"));
        one_copy_each(&h1, "10.0.0.1", &[&h2, &h3]);
        run("ip link set c2a up").expect(0);
        expect_roles(lab, Duration::from_secs(5), &SETTLED);
        one_copy_each(&h1, "10.0.0.1", &[&h2, &h3]);
        eprintln!("settled in {settled:?}, failed over in {failed_over:?}");
        stop(watching);
        lab.assert_converged(&text);
        remove_cables(3);
    });
}

/// A new watch goes on where the old one ended: no port stops, and what was known is still known.
#[test]
fn a_restart_of_the_watch_stops_nobody() {
    run_test(|lab| {
        cables(3);
        let file = lab.file("t.yaml", &triangle());
        let watching = watch(lab, &file);
        expect_roles(lab, Duration::from_secs(5), &SETTLED);
        let [h1, h3] = ["h1", "h3"].map(Space::open);
        ping(&h1, ip("10.0.0.3"));
        let before = ports(&lab.show("t"), &"common".into());
        stop(watching);
        let show = lab.show("t");
        assert_eq!(condition(&show, "Watched").as_deref(), Some("False"));
        assert_eq!(ports(&show, &"common".into()), before);
        ping(&h1, ip("10.0.0.3"));
        // A ping every 10 ms, all of them answered, while the next one begins.
        let pings = h1.start("ping -n -q -i 0.01 -W 2 -c 400 10.0.0.3");
        let watching = watch(lab, &file);
        let pings = pings.end().expect(0);
        assert!(pings.stdout.contains(" 400 received"), "{pings}");
        assert_eq!(ports(&lab.show("t"), &"common".into()), before);
        drop(h3);
        stop(watching);
        remove_cables(3);
    });
}

/// A Linux bridge with STP: a namespace, ports `p0` and so on whose other ends are in the lab, and
/// a host in another namespace.
struct LinuxBridge {
    space: Space,
    near: Vec<String>,
}

impl LinuxBridge {
    fn new(name: &str, priority: u32, near: &[&str]) -> Self {
        run(&format!("ip netns add {name}")).expect(0);
        let space = Space::open(name);
        let mut batch = String::from("link add br0 type bridge\n");
        for (number, near) in near.iter().enumerate() {
            run(&format!(
                "ip link add {near} type veth peer name p{number} netns {name}"
            ))
            .expect(0);
            run(&format!("ip link set {near} addrgenmode none up")).expect(0);
            batch += &format!("link set p{number} up master br0\n");
        }
        batch += &format!(
            "link set br0 type bridge stp_state 1 priority {priority} hello_time 100 max_age 600 forward_delay 400\nlink set br0 up\naddress add 10.0.0.{}/24 dev br0\n",
            priority / 4096 + 100
        );
        space.enter(|| run_with("ip -batch -", &batch).expect(0));
        Self {
            space,
            near: near.iter().map(|near| (*near).to_owned()).collect(),
        }
    }

    /// The state of each port, as the kernel says it.
    fn states(&self) -> Vec<String> {
        let links = self
            .space
            .run("ip -j -d link show master br0")
            .expect(0)
            .json();
        let mut states: Vec<(String, String)> = links
            .as_array()
            .into_iter()
            .flatten()
            .map(|link| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (
                    text(&link["ifname"]),
                    text(&link["linkinfo"]["info_slave_data"]["state"]),
                )
            })
            .collect();
        states.sort();
        states.into_iter().map(|(_, state)| state).collect()
    }
}

impl Drop for LinuxBridge {
    fn drop(&mut self) {
        for near in &self.near {
            let _gone = run(&format!("ip link delete {near}"));
        }
        let _gone = run(&format!("ip netns delete {}", self.space.name()));
    }
}

/// Two bridges of ours and a Linux bridge. Whoever has the best priority is the root, and one port
/// blocks, on the side of the worst one.
fn with_linux(lab: &Lab, priorities: [u32; 3], ours: &[(&str, &str, &str)], theirs: [&str; 2]) {
    let [first, second, linux] = priorities;
    cables(1);
    let peer = LinuxBridge::new("lx", linux, &["w0", "w1"]);
    let text = format!(
        "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: t }}
spec:
  namespaces:
    h1: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24] }} }} }}
    h2: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.2/24] }} }} }}
  cubes:
    b1: {{ bridge: {{ stp: {{ enabled: true, priority: {first}, {SHORT} }}, ports: {{ h: {{ stp: {{ edge: true }} }}, x: {{ stp: {{ cost: 2 }} }}, l: {{ stp: {{ cost: 2 }} }} }} }} }}
    b2: {{ bridge: {{ stp: {{ enabled: true, priority: {second}, {SHORT} }}, ports: {{ h: {{ stp: {{ edge: true }} }}, x: {{ stp: {{ cost: 2 }} }}, l: {{ stp: {{ cost: 2 }} }} }} }} }}
  links: [[b1:h, h1/eth0], [b2:h, h2/eth0], [b1:x, c0a], [b2:x, c0b], [b1:l, w0], [b2:l, w1]]
"
    );
    let file = lab.file("t.yaml", &text);
    let watching = watch(lab, &file);
    let settled = expect_roles(lab, STP, ours);
    wait::until("the Linux bridge", || {
        (peer.states() == theirs).then_some(())
    });
    let [h1, h2] = ["h1", "h2"].map(Space::open);
    ping(&h1, ip("10.0.0.2"));
    let there = format!("10.0.0.{}", linux / 4096 + 100);
    ping(&h1, ip(&there));
    ping(&h2, ip(&there));
    one_copy_each(&h1, "10.0.0.1", &[&h2]);
    // A port that neither end may use is none to lose.
    let pulled = Instant::now();
    let cut = if ours
        .iter()
        .any(|port| port.0 == "b1:l" && port.2 == "discarding")
    {
        "w1"
    } else {
        "w0"
    };
    run(&format!("ip link set {cut} down")).expect(0);
    ping(&h1, ip(&there));
    ping(&h2, ip(&there));
    let failed_over = pulled.elapsed();
    assert!(failed_over < STP, "{failed_over:?}");
    one_copy_each(&h2, "10.0.0.2", &[&h1]);
    let show = lab.show("t");
    let speaks = |cube: &str, port: &str| {
        let ports = show["cubes"][cube]["spanningTreePorts"].as_array();
        let found = ports.into_iter().flatten().find(|one| one["port"] == port);
        found.map(|port| port["protocol"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(speaks("b1", "x").as_deref(), Some("rstp"));
    let left = if cut == "w0" { "b2" } else { "b1" };
    assert_eq!(speaks(left, "l").as_deref(), Some("stp"), "{show:#}");
    eprintln!("{priorities:?}: settled in {settled:?}, failed over in {failed_over:?}");
    stop(watching);
    remove_cables(1);
}

#[test]
fn a_triangle_with_linux_as_the_root() {
    run_test(|lab| {
        with_linux(
            lab,
            [8192, 12288, 4096],
            &[
                ("b1:l", "root", "forwarding"),
                ("b1:x", "designated", "forwarding"),
                ("b2:l", "root", "forwarding"),
                ("b2:x", "alternate", "discarding"),
            ],
            ["forwarding", "forwarding"],
        );
    });
}

#[test]
fn a_triangle_with_linux_as_the_worst() {
    run_test(|lab| {
        with_linux(
            lab,
            [4096, 8192, 12288],
            &[
                ("b1:l", "designated", "forwarding"),
                ("b1:x", "designated", "forwarding"),
                ("b2:x", "root", "forwarding"),
                ("b2:l", "designated", "forwarding"),
            ],
            ["forwarding", "blocking"],
        );
    });
}

/// A bridge at a guarded port is a reason to disable it.
#[test]
fn a_guarded_port_is_disabled() {
    run_test(|lab| {
        let text = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: t }
spec:
  namespaces: { h1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } } }
  cubes:
    b1: { bridge: { stp: { enabled: true }, ports: { h: { stp: { edge: true } }, g: { stp: { edge: true, bpduGuard: true } } } } }
  links: [[b1:h, h1/eth0], [b1:g, w0]]
";
        let station = Station::new("s", "w0", &["10.0.0.9/24"]);
        let file = lab.file("t.yaml", text);
        let watching = watch(lab, &file);
        let h1 = Space::open("h1");
        ping(&h1, ip("10.0.0.9"));
        // The station becomes a bridge.
        station
            .run("ip link add br0 type bridge stp_state 1")
            .expect(0);
        station.run("ip link set eth0 master br0").expect(0);
        station.run("ip link set br0 up").expect(0);
        expect_roles(
            lab,
            Duration::from_secs(10),
            &[
                ("b1:g", "bpduGuard", "discarding"),
                ("b1:h", "designated", "forwarding"),
            ],
        );
        // And no bridge any more, which does not help by itself.
        station.run("ip link delete br0").expect(0);
        no_ping(&h1, ip("10.0.0.9"));
        run("ip link set w0 down").expect(0);
        expect_roles(
            lab,
            Duration::from_secs(5),
            &[("b1:g", "down", "discarding")],
        );
        run("ip link set w0 up").expect(0);
        expect_roles(
            lab,
            Duration::from_secs(5),
            &[("b1:g", "designated", "forwarding")],
        );
        ping(&h1, ip("10.0.0.9"));
        running_says(watching, "a bridge was heard there");
    });
}

fn running_says(running: Running, words: &str) {
    running.signal(Signal::SIGTERM);
    let run = running.end().expect(0);
    assert!(run.stderr.contains(words), "{run}");
}

/// A triangle of trunks in which VLAN 10 and VLAN 20 have different roots, and a host in each VLAN
/// at the first two bridges.
fn trunks() -> String {
    let bridge = |name: &str, ten: u32, twenty: u32| {
        format!(
            "    {name}: {{ bridge: {{ stp: {{ enabled: true, {SHORT}, vlans: {{ 10: {{ priority: {ten} }}, 20: {{ priority: {twenty} }} }} }}, ports: {{ x: {{ trunk: {{}} }}, y: {{ trunk: {{ allowed: [10, 20] }} }}, t: {{ access: 10, stp: {{ edge: true }} }}, w: {{ access: 20, stp: {{ edge: true }} }} }} }} }}\n"
        )
    };
    let host = |name: &str, number: u32| {
        format!("    {name}: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.{number}/24] }} }} }}\n")
    };
    format!(
        "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: t }}
spec:
  namespaces:
{}{}{}{}  cubes:
{}{}{}  links:
    - [b1:t, t1/eth0]
    - [b1:w, w1/eth0]
    - [b2:t, t2/eth0]
    - [b2:w, w2/eth0]
    - [b1:x, c0a]
    - [b2:x, c0b]
    - [b2:y, c1a]
    - [b3:x, c1b]
    - [b3:y, c2a]
    - [b1:y, c2b]
",
        host("t1", 1),
        host("t2", 2),
        host("w1", 1),
        host("w2", 2),
        bridge("b1", 4096, 12288),
        bridge("b2", 8192, 8192),
        bridge("b3", 12288, 4096),
    )
}

/// Each VLAN has a tree of its own, so different cables rest.
#[test]
fn vlans_have_trees_of_their_own() {
    run_test(|lab| {
        cables(3);
        let text = trunks();
        let file = lab.file("t.yaml", &text);
        let watching = watch(lab, &file);
        let [t1, t2, w1, w2] = ["t1", "t2", "w1", "w2"].map(Space::open);
        let rest = |instance: u32| {
            let ports = ports(&lab.show("t"), &instance.into());
            let waits = ports
                .values()
                .any(|(role, _)| role == "disabled" || role == "down");
            let blocked = ports
                .into_iter()
                .filter(|(_, (_, state))| state != "forwarding");
            let blocked: Vec<String> = blocked.map(|(port, _)| port).collect();
            (!waits).then_some(blocked)
        };
        wait::until("trees", || {
            let trees = (rest(10)?, rest(20)?);
            let wanted = (vec!["b3:x".to_owned()], vec!["b1:x".to_owned()]);
            (trees == wanted).then_some(())
        });
        ping(&t1, ip("10.0.0.2"));
        ping(&w1, ip("10.0.0.2"));
        let sent = |port: &str| {
            let show = lab.show("t");
            show["cubes"]["b1"]["ports"][port]["tx"]["packets"]
                .as_u64()
                .expect("a port counts")
        };
        // VLAN 10 takes the cable between the two bridges, VLAN 20 the way round.
        for (from, used, idle) in [(&t1, "x", "y"), (&w1, "y", "x")] {
            let before = (sent(used), sent(idle));
            let pings = from.run("ping -n -q -i 0.002 -W 5 -c 200 10.0.0.2");
            assert!(pings.stdout.contains(" 200 received"), "{pings}");
            assert!(sent(used) - before.0 >= 200, "{used}");
            // What the bridges tell each other, in three instances.
            assert!(sent(idle) - before.1 < 50, "{idle}");
        }
        one_copy_each(&t1, "10.0.0.1", &[&t2]);
        one_copy_each(&w2, "10.0.0.2", &[&w1]);
        stop(watching);
        lab.assert_converged(&text);
        remove_cables(3);
    });
}

/// Two bridges of ours and two Linux bridges, in turn: one port rests, and on which side follows
/// from the costs.
#[test]
fn a_square_with_two_linux_bridges() {
    run_test(|lab| {
        let one = LinuxBridge::new("l1", 8192, &["w0", "w1"]);
        let other = LinuxBridge::new("l2", 12288, &["w2", "w3"]);
        let text = format!(
            "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: t }}
spec:
  namespaces:
    h1: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24] }} }} }}
    h2: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.2/24] }} }} }}
  cubes:
    b1: {{ bridge: {{ stp: {{ enabled: true, priority: 4096, {SHORT} }}, ports: {{ h: {{ stp: {{ edge: true }} }}, x: {{ stp: {{ cost: 2 }} }}, y: {{ stp: {{ cost: 2 }} }} }} }} }}
    b2: {{ bridge: {{ stp: {{ enabled: true, priority: 16384, {SHORT} }}, ports: {{ h: {{ stp: {{ edge: true }} }}, x: {{ stp: {{ cost: 2 }} }}, y: {{ stp: {{ cost: 2 }} }} }} }} }}
  links: [[b1:h, h1/eth0], [b2:h, h2/eth0], [b1:x, w0], [b2:x, w1], [b1:y, w2], [b2:y, w3]]
"
        );
        let file = lab.file("t.yaml", &text);
        let watching = watch(lab, &file);
        // Both ways cost the same; the first Linux bridge is the better one of the two.
        let settled = expect_roles(
            lab,
            STP,
            &[
                ("b1:x", "designated", "forwarding"),
                ("b1:y", "designated", "forwarding"),
                ("b2:x", "root", "forwarding"),
                ("b2:y", "alternate", "discarding"),
            ],
        );
        let forwarding = ["forwarding", "forwarding"];
        wait::until("Linux bridges", || {
            (one.states() == forwarding && other.states() == forwarding).then_some(())
        });
        let [h1, h2] = ["h1", "h2"].map(Space::open);
        ping(&h1, ip("10.0.0.2"));
        ping(&h2, ip("10.0.0.103"));
        one_copy_each(&h1, "10.0.0.1", &[&h2]);
        // The cable between the root and the first Linux bridge: the way is the other one now.
        let pulled = Instant::now();
        run("ip link set w0 down").expect(0);
        ping(&h1, ip("10.0.0.2"));
        let failed_over = pulled.elapsed();
        assert!(failed_over < STP, "{failed_over:?}");
        ping(&h1, ip("10.0.0.102"));
        one_copy_each(&h1, "10.0.0.1", &[&h2]);
        eprintln!("settled in {settled:?}, failed over in {failed_over:?}");
        stop(watching);
    });
}
