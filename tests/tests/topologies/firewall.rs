//! Firewalls with real traffic: rejected on every sort of attachment, changed while packets flow, reported, counted.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use integration_tests::{
    lab::{Lab, Space, Station, run_test},
    traffic::{Probe, no_ping, ping, tcp},
    wait,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::ip;

/// Two hosts behind a router; a firewall on the port to `b`.
fn behind_router(settings: &str) -> String {
    format!(
        "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: t }}
spec:
  namespaces:
    a:
      interfaces:
        eth0:
          addresses: [10.0.1.1/24, 'fd00:1::1/64']
          routes: [{{ to: default, via: 10.0.1.254 }}, {{ to: default, via: 'fd00:1::fe' }}]
    b:
      interfaces:
        eth0:
          addresses: [10.0.2.1/24, 'fd00:2::1/64']
          routes: [{{ to: default, via: 10.0.2.254 }}, {{ to: default, via: 'fd00:2::fe' }}]
  cubes:
    r:
      router:
        ports:
          a: {{ addresses: [10.0.1.254/24, 'fd00:1::fe/64'] }}
          b: {{ addresses: [10.0.2.254/24, 'fd00:2::fe/64'], through: [fw] }}
    fw: {{ firewall: {settings} }}
  links: [[r:a, a/eth0], [r:b, b/eth0]]
"
    )
}

fn attempt(from: &Space, address: IpAddr, port: u16) -> Result<(), ErrorKind> {
    let to = SocketAddr::new(address, port);
    let result = from.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)));
    result.map(drop).map_err(|error| error.kind())
}

fn listen(space: &Space, address: IpAddr, port: u16) -> TcpListener {
    space.enter(|| TcpListener::bind((address, port)).expect("the port is free"))
}

#[track_caller]
fn assert_refused(from: &Space, to: &str) {
    let begin = Instant::now();
    assert_eq!(
        attempt(from, ip(to), 7),
        Err(ErrorKind::ConnectionRefused),
        "{to}"
    );
    assert!(begin.elapsed() < Duration::from_secs(1), "told at once");
}

/// That a UDP socket is told that nobody may send there.
#[track_caller]
fn assert_unreachable(from: &Space, source: &str, to: &str) {
    let socket = from.udp(ip(source), 0);
    socket.connect((ip(to), 7)).expect("an address");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a socket can time out");
    wait::until("an error about a datagram", || {
        // The first one may be lost to a neighbour that is not known yet.
        let _told = socket.send(b"hello");
        let error = socket.recv(&mut [0; 8]).expect_err("nobody answers");
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
}

#[test]
fn who_is_rejected_on_a_port_is_told_in_both_directions() {
    run_test(|lab| {
        let accept_pings =
            "rules: [{ protocol: icmp, action: accept }, { protocol: icmpv6, action: accept }]";
        lab.apply(&behind_router(&format!(
            "{{ ingress: {{ default: reject, {accept_pings} }}, egress: {{ default: reject, {accept_pings} }} }}"
        )));
        let (a, b) = (lab.space("a"), lab.space("b"));
        for (from, source, to) in [
            (&a, "10.0.1.1", "10.0.2.1"),
            (&a, "fd00:1::1", "fd00:2::1"),
            (&b, "10.0.2.1", "10.0.1.1"),
            (&b, "fd00:2::1", "fd00:1::1"),
        ] {
            assert_eq!(ping(from, ip(to)), 63);
            assert_refused(from, to);
            assert_unreachable(from, source, to);
        }
    });
}

#[test]
fn the_host_itself_is_filtered_and_told() {
    run_test(|lab| {
        let peer = Station::new("peer", "eth9", &["10.0.9.2/24", "fd00:9::2/64"]);
        for line in [
            "ip addr add 10.0.9.1/24 dev eth9",
            "ip addr add fd00:9::1/64 dev eth9 nodad",
        ] {
            integration_tests::command::run(line).expect(0);
        }
        let topology = |ingress: &str, egress: &str| {
            format!(
                "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: t }}
spec:
  interfaces: {{ eth9: {{ through: [fw] }} }}
  cubes: {{ fw: {{ firewall: {{ ingress: {{ {ingress} }}, egress: {{ {egress} }} }} }} }}
"
            )
        };
        let host = Space::open("");
        lab.apply(&topology("default: reject", ""));
        // Who asks from inside is answered.
        assert_eq!(ping(&host, ip("10.0.9.2")), 64);
        tcp(&host, &peer, ip("fd00:9::2"), 1 << 18);
        assert_refused(&peer, "10.0.9.1");
        assert_refused(&peer, "fd00:9::1");
        assert_unreachable(&peer, "10.0.9.2", "10.0.9.1");
        no_ping(&peer, ip("10.0.9.1"));
        lab.apply(&topology("", "default: reject"));
        assert_eq!(ping(&peer, ip("10.0.9.1")), 64);
        assert_refused(&host, "10.0.9.2");
        assert_refused(&host, "fd00:9::2");
        assert_unreachable(&host, "fd00:9::1", "fd00:9::2");
    });
}

#[test]
fn no_packet_meets_half_a_rule_set() {
    run_test(|lab| {
        // Every datagram is accepted by one rule of each set, and no single rule is in both; what
        // the first set accepts by its end the second one drops there.
        let sets = [
            "{ conntrack: false, ingress: { default: drop, rules: [{ protocol: icmp, action: accept }, { protocol: gre, action: drop }, { source: 10.0.2.0/24, protocol: udp, action: accept }] }, egress: { default: drop, rules: [{ name: all, source: 10.0.1.0/24, action: accept }] } }",
            "{ conntrack: false, ingress: { default: drop, rules: [{ name: back, destination: 10.0.1.0/24, action: accept }, { source: 10.0.2.0/24, protocol: udp, action: drop }] }, egress: { default: drop, rules: [{ protocol: udp, action: accept }, { protocol: icmp, action: accept }, { name: all, source: 10.0.1.0/24, action: drop }] } }",
        ];
        let sets = sets.map(behind_router);
        lab.apply(&sets[0]);
        let (a, b) = (lab.space("a"), lab.space("b"));
        let probe = Probe::start(&a, &b, (ip("10.0.1.1"), ip("10.0.2.1")));
        for round in 0..10 {
            lab.apply(&sets[(round + 1) % 2]);
            probe.go_on();
        }
        probe.assert_no_loss();
        lab.assert_converged(&sets[0]);
    });
}

/// Packets of the rule with this name or place.
fn packets(show: &Value, chain: &str, rule: &str) -> u64 {
    let rules = show["cubes"]["fw"]["rules"].as_array().expect("a list");
    let mut rules = rules.iter();
    let found = rules.find(|entry| entry["chain"] == chain && entry["rule"] == rule);
    let found = found.unwrap_or_else(|| panic!("no {chain} {rule}: {show}"));
    found["packets"].as_u64().expect("a number")
}

#[test]
fn rules_keep_their_counters_and_connections_their_lives() {
    run_test(|lab| {
        let before = behind_router(
            "{ egress: { default: drop, rules: [{ name: web, protocol: tcp, destinationPort: 80, action: accept }, { protocol: icmp, action: accept }, { protocol: sctp, action: drop }] } }",
        );
        lab.apply(&before);
        let (a, b) = (lab.space("a"), lab.space("b"));
        assert_eq!(ping(&a, ip("10.0.2.1")), 63);
        let server = listen(&b, ip("10.0.2.1"), 80);
        let mut stream = a.connect(server.local_addr().expect("an address"));
        let (mut inside, _) = server.accept().expect("a connection");
        let show = lab.show("t");
        assert_eq!(packets(&show, "egress", "web"), 1);
        assert!(packets(&show, "egress", "1") >= 1);
        let pings = packets(&show, "egress", "1");

        // A rule in front, and the others change places.
        let after = behind_router(
            "{ egress: { default: drop, rules: [{ protocol: gre, action: drop }, { protocol: icmp, action: accept }, { protocol: sctp, action: drop }, { name: web, protocol: tcp, destinationPort: 8080, action: accept }] } }",
        );
        let file = lab.file("after.yaml", &after);
        let plan = lab.pcn(&format!("plan -f {file}")).expect(0).stdout;
        assert!(plan.contains("cube/fw/egress/rules/web"), "{plan}");
        assert!(
            plan.contains("changed and moved in the file: place 0 -> 3"),
            "{plan}"
        );
        lab.apply(&after);
        let show = lab.show("t");
        assert_eq!(packets(&show, "egress", "web"), 1);
        assert_eq!(packets(&show, "egress", "1"), pings);
        assert_eq!(packets(&show, "egress", "0"), 0);

        // The rule does not accept it any more, but it is established.
        stream.write_all(b"still there").expect("it is");
        let mut buffer = [0; 11];
        inside.read_exact(&mut buffer).expect("it is");
        assert_eq!(&buffer, b"still there");
        assert_eq!(attempt(&a, ip("10.0.2.1"), 80), Err(ErrorKind::TimedOut));
        let sessions = lab.show("t")["cubes"]["fw"]["sessions"].clone();
        let sessions = sessions.as_array().expect("a list");
        let session = sessions
            .iter()
            .find(|session| session["destinationPort"] == 80 && session["state"] == "ESTABLISHED")
            .unwrap_or_else(|| panic!("{sessions:?}"));
        assert_eq!(session["rule"], "egress/rules/web");
        assert_eq!(session["direction"], "egress");
        assert!(session["replyPackets"].as_u64() > Some(0), "{session}");
    });
}

#[test]
fn one_changed_rule_is_one_change() {
    run_test(|lab| {
        let rules = |front: &str| {
            behind_router(&format!(
                "{{ ingress: {{ rules: [{front}{{ name: b, protocol: udp, action: drop }}, {{ protocol: sctp, action: drop }}] }} }}"
            ))
        };
        lab.apply(&rules(""));
        let file = lab.file(
            "more.yaml",
            &rules("{ name: a, protocol: gre, action: drop }, "),
        );
        let plan = lab.pcn(&format!("plan -o json -f {file}")).expect(0).json();
        let changes = plan["changes"].as_array().expect("a list");
        let addresses: Vec<_> = changes.iter().map(|change| &change["address"]).collect();
        assert_eq!(addresses, ["cube/fw/ingress/rules/a"], "{plan}");
        assert_eq!(changes[0]["action"], "create");
    });
}

/// Waits until a line of what `pcn events` prints has all of these words.
fn wait_for_line(events: &integration_tests::command::Running, words: &[&str]) {
    wait::until(&format!("an event with {words:?}"), || {
        let lines = events.stdout();
        let mut lines = lines.lines();
        lines
            .any(|line| words.iter().all(|word| line.contains(word)))
            .then_some(())
    });
}

#[test]
fn packets_are_reported_while_somebody_follows() {
    run_test(|lab: &Lab| {
        lab.apply(&behind_router(
            "{ egress: { default: drop, log: true, rules: [{ name: ping, protocol: icmp, action: accept, log: true }] } }",
        ));
        let (a, _b) = (lab.space("a"), lab.space("b"));
        let events = lab.start_pcn("events --follow t");
        assert_eq!(ping(&a, ip("10.0.2.1")), 63);
        wait_for_line(
            &events,
            &[
                "packet",
                "cube/fw/egress/rules/ping",
                "accept icmp 10.0.1.1 > 10.0.2.1",
                "state new",
            ],
        );
        assert_eq!(attempt(&a, ip("fd00:2::1"), 81), Err(ErrorKind::TimedOut));
        wait_for_line(
            &events,
            &[
                "cube/fw/egress/default",
                "drop tcp [fd00:1::1]:",
                "> [fd00:2::1]:81 flags SYN",
            ],
        );
        // A change of the settings is followed.
        lab.apply(&behind_router(
            "{ egress: { default: reject, log: true, rules: [] } }",
        ));
        assert_eq!(
            attempt(&a, ip("10.0.2.1"), 82),
            Err(ErrorKind::ConnectionRefused)
        );
        wait_for_line(&events, &["cube/fw/egress/default", "reject tcp", ":82 "]);
        events.signal(Signal::SIGTERM);
        events.end();
    });
}

/// `pcn flush` ends connections: what is in the middle of one is invalid afterwards.
#[test]
fn connections_are_flushed() {
    run_test(|lab| {
        let topology = behind_router(
            "{ egress: { default: drop, rules: [{ protocol: tcp, state: new, action: accept }, { protocol: icmp, action: accept }] } }",
        );
        lab.apply(&topology);
        let (a, b) = (lab.space("a"), lab.space("b"));
        let server = listen(&b, ip("10.0.2.1"), 80);
        let mut stream = a.connect(server.local_addr().expect("an address"));
        let (mut inside, _) = server.accept().expect("a connection");
        stream.write_all(b"one").expect("it is established");
        inside.read_exact(&mut [0; 3]).expect("it is");
        let sessions = |lab: &Lab| {
            let sessions = lab.show("t")["cubes"]["fw"]["sessions"].clone();
            sessions.as_array().expect("a list").len()
        };
        assert!(sessions(lab) >= 1);
        let run = lab.pcn("flush t fw/sessions").expect(0);
        assert_eq!(run.stdout, "Flushed fw/sessions of t.\n");
        assert_eq!(sessions(lab), 0);
        lab.pcn("flush t fw/rules").expect(1);
        // Nothing gets through, though it is sent again and again,.
        let invalid = packets(&lab.show("t"), "egress", "default");
        stream.write_all(b"two").expect("there is room to wait");
        wait::until("a segment that is dropped", || {
            (packets(&lab.show("t"), "egress", "default") > invalid).then_some(())
        });
        inside.set_nonblocking(true).expect("a socket");
        assert_eq!(
            inside.read(&mut [0; 3]).map_err(|error| error.kind()),
            Err(ErrorKind::WouldBlock)
        );
        assert_eq!(sessions(lab), 0);
        // A new one may begin, and nothing else has changed.
        assert!(attempt(&a, ip("10.0.2.1"), 80).is_ok());
        assert_eq!(sessions(lab), 1);
        lab.assert_converged(&topology);
    });
}

/// A packet is read once: a second reader says who has it, and takes over when that ends.
#[test]
fn packets_go_to_one_reader() {
    run_test(|lab| {
        lab.apply(&behind_router(
            "{ egress: { default: drop, log: true, rules: [{ name: ping, protocol: icmp, action: accept, log: true }] } }",
        ));
        let (a, _b) = (lab.space("a"), lab.space("b"));
        let first = lab.start_pcn("events --follow t");
        assert_eq!(ping(&a, ip("10.0.2.1")), 63);
        wait_for_line(&first, &["cube/fw/egress/rules/ping"]);
        let second = lab.start_pcn("events --follow t");
        wait::until("a note about the first reader", || {
            let note = format!("go to one reader, which is process {}", first.id());
            second.stderr().contains(&note).then_some(())
        });
        assert_eq!(attempt(&a, ip("10.0.2.1"), 81), Err(ErrorKind::TimedOut));
        wait_for_line(&first, &["cube/fw/egress/default", ":81 "]);
        assert!(!second.stdout().contains("packet"), "{}", second.stdout());
        first.signal(Signal::SIGTERM);
        first.end();
        wait::until("a packet for the second reader", || {
            let _refused = attempt(&a, ip("10.0.2.1"), 82);
            second.stdout().contains(":82 ").then_some(())
        });
        second.signal(Signal::SIGTERM);
        second.end();
    });
}

/// A packet passes the firewall at both ports of the router, and moves its connection once: after one FIN the other side may
/// go on, and what is refused is told.
#[test]
fn a_firewall_at_two_ports_sees_a_packet_once() {
    run_test(|lab| {
        let settings = "{ ingress: { default: drop, rules: [{ state: new, protocol: tcp, action: accept }, { state: new, protocol: icmp, action: accept }] }, egress: { default: drop, rules: [{ state: new, protocol: tcp, action: accept }, { state: new, protocol: icmp, action: accept }] } }";
        let topology = behind_router(settings).replace(
            "a: { addresses: [10.0.1.254/24, 'fd00:1::fe/64'] }",
            "a: { addresses: [10.0.1.254/24, 'fd00:1::fe/64'], through: [fw] }",
        );
        assert_eq!(topology.matches("through: [fw]").count(), 2);
        lab.apply(&topology);
        let (a, b) = (lab.space("a"), lab.space("b"));
        assert_eq!(ping(&a, ip("10.0.2.1")), 63);
        assert_eq!(ping(&a, ip("10.0.1.254")), 64);
        let state = |lab: &Lab| {
            let sessions = lab.show("t")["cubes"]["fw"]["sessions"].clone();
            let sessions = sessions.as_array().expect("a list").clone();
            let mut sessions = sessions.iter();
            let found = sessions.find(|session| session["destinationPort"] == 80);
            found.map(|session| (session["state"].clone(), session["packets"].clone()))
        };
        let server = listen(&b, ip("10.0.2.1"), 80);
        let stream = a.connect(server.local_addr().expect("an address"));
        let (mut inside, _) = server.accept().expect("a connection");
        wait::until("a handshake", || {
            (state(lab)? == ("ESTABLISHED".into(), 2.into())).then_some(())
        });
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("it is connected");
        assert_eq!(inside.read(&mut [0; 1]).expect("an end"), 0);
        wait::until("an end of one side", || {
            (state(lab)?.0 == "CLOSE_WAIT").then_some(())
        });
        drop(inside);
        drop(stream);
        wait::until("an end of both", || {
            (state(lab)?.0 == "TIME_WAIT").then_some(())
        });
        assert_eq!(
            attempt(&a, ip("10.0.2.1"), 81),
            Err(ErrorKind::ConnectionRefused)
        );
    });
}
