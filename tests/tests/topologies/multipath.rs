//! Routers with several next hops for one network: flows are spread, next hops fail and come back.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use integration_tests::{
    command::{Running, run},
    lab::{Lab, Space, Station, run_test},
    traffic::{no_ping, ping, tcp},
    wait,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{example, ip};

/// The outside of the example, as its comment makes it.
pub fn providers() -> [Station; 3] {
    [0, 1, 2].map(|number| {
        let (name, near) = (format!("isp{number}"), format!("wan{number}"));
        let provider = Station::new(&name, &near, &[&format!("10.54.{number}.254/24")]);
        provider
            .run("ip address add 203.0.113.1/32 dev lo")
            .expect(0);
        lead_back(&provider, number);
        provider
    })
}

/// Routes go with the interface that they lead to.
fn lead_back(provider: &Space, number: u8) {
    let route = format!("ip route replace default via 10.54.{number}.1");
    provider.run(&route).expect(0);
}

/// Follows a file that was applied, or is now.
fn start_watch(lab: &Lab, topology: &str, text: &str) -> Running {
    let file = lab.file("watch.yaml", text);
    let watch = lab.start_pcn(&format!("watch --interval 1h --poll 1h -f {file}"));
    wait::until("the first round to end", || {
        let shown = lab.pcn(&format!("show {topology} -o json"));
        (shown.code == Some(0)).then_some(())
    });
    watch
}

/// Next hops of routes to a network that are active; `None` while what is read changes.
fn active(lab: &Lab, topology: &str, to: &str) -> Option<BTreeSet<String>> {
    let shown = lab.pcn(&format!("show {topology} -o json"));
    let shown = (shown.code == Some(0)).then(|| shown.json())?;
    let routes = shown["cubes"]["r1"]["routes"].as_array()?.clone();
    let routes = routes.into_iter();
    let active = routes.filter(|route| route["to"] == to && route["active"] == true);
    let name = |route: Value| {
        let name = route["via"].as_str().or(route["type"].as_str());
        name.expect("every route has a type").to_owned()
    };
    Some(active.map(name).collect())
}

/// Waits until these are active; says how long it took.
#[track_caller]
fn until_active(lab: &Lab, topology: &str, to: &str, expected: &[&str]) -> Duration {
    let expected: BTreeSet<String> = expected.iter().map(|via| (*via).to_owned()).collect();
    let start = Instant::now();
    let mut found = None;
    let done = wait::within(wait::PATIENCE, || {
        found = active(lab, topology, to).or(found.take());
        (found.as_ref() == Some(&expected)).then_some(())
    });
    done.unwrap_or_else(|| panic!("{found:?} instead of {expected:?} are active"));
    start.elapsed()
}

/// Packets that left at a port.
fn sent(lab: &Lab, topology: &str, port: &str) -> u64 {
    let port = &lab.show(topology)["cubes"]["r1"]["ports"][port];
    port["tx"]["packets"].as_u64().expect("a counter")
}

/// Sends one datagram of each of these flows.
fn send_flows(from: &Space, to: &str, ports: std::ops::Range<u16>) {
    let socket = from.udp(ip(to.split_once(' ').expect("from and to").0), 0);
    let target = ip(to.split_once(' ').expect("from and to").1);
    for port in ports {
        let sent = socket.send_to(&[7; 20], SocketAddr::new(target, port));
        sent.expect("the network takes it");
    }
}

/// What the comment of `ecmp.yaml` says.
pub fn ecmp_traffic(lab: &Lab) {
    let watch = start_watch(lab, "ecmp", &example("ecmp"));
    let host = lab.space("ecmp-host");
    let both = ["10.54.0.254", "10.54.1.254"];
    until_active(lab, "ecmp", "0.0.0.0/0", &both);
    // Neighbours are asked for first.
    for _ in 0..20 {
        ping(&host, ip("203.0.113.1"));
        send_flows(&host, "10.54.9.1 203.0.113.1", 1..20);
    }
    let before = ["left", "right", "backup"].map(|port| sent(lab, "ecmp", port));
    send_flows(&host, "10.54.9.1 203.0.113.1", 1000..2000);
    let after = wait::within(wait::PATIENCE, || {
        let now = ["left", "right", "backup"].map(|port| sent(lab, "ecmp", port));
        let more: Vec<u64> = now
            .iter()
            .zip(before)
            .map(|(now, then)| now - then)
            .collect();
        (more[0] + more[1] >= 1000).then_some(more)
    });
    let after = after.expect("all flows leave");
    assert!((400..620).contains(&after[0]), "{after:?}");
    assert!((400..620).contains(&after[1]), "{after:?}");
    assert_eq!(after[2], 0, "{after:?}");

    let providers = [0, 1].map(|number| lab.space(&format!("isp{number}")));
    providers[0].run("ip link set eth0 down").expect(0);
    let took = until_active(lab, "ecmp", "0.0.0.0/0", &both[1..]);
    println!("one of two uplinks failed: given up after {took:?}");
    assert_eq!(ping(&host, ip("203.0.113.1")), 63);
    tcp(&host, &providers[1], ip("203.0.113.1"), 1 << 20);
    providers[1].run("ip link set eth0 down").expect(0);
    until_active(lab, "ecmp", "0.0.0.0/0", &["10.54.2.254"]);
    assert_eq!(ping(&host, ip("203.0.113.1")), 63);
    for (number, provider) in (0..).zip(&providers) {
        provider.run("ip link set eth0 up").expect(0);
        lead_back(provider, number);
    }
    let took = until_active(lab, "ecmp", "0.0.0.0/0", &both);
    println!("both came back: used again after {took:?}");
    assert_eq!(ping(&host, ip("203.0.113.1")), 63);
    let refused = host.run("ping -n -c 1 -W 5 10.1.2.3");
    let told = "From 10.54.9.254 icmp_seq=1 Destination Host Unreachable";
    assert!(refused.stdout.contains(told), "{refused}");
    watch.signal(Signal::SIGTERM);
    watch.end().expect(0);
}

/// One way that costs less, and one that costs more; both families.
const TWO_WAYS: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: ways }
spec:
  namespaces:
    h:
      interfaces:
        eth0:
          addresses: [10.1.0.1/24, 'fd00:1::1/64']
          routes: [{ to: default, via: 10.1.0.254 }, { to: default, via: 'fd00:1::fe' }]
  cubes:
    r1:
      router:
        ports:
          lan: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'] }
          a: { addresses: [10.2.0.254/24, 'fd00:2::fe/64'] }
          b: { addresses: [10.3.0.254/24, 'fd00:3::fe/64'] }
          unlinked: { addresses: [10.4.0.254/24] }
        routes:
          - { to: 192.0.2.0/24, via: 10.4.0.1 }
          - { to: 192.0.2.0/24, via: 10.2.0.1, cost: 5 }
          - { to: 192.0.2.0/24, via: 10.3.0.1, cost: 9 }
          - { to: 192.0.2.0/24, type: prohibit, cost: 100 }
          - { to: '2001:db8::/32', via: 'fd00:2::1' }
          - { to: '2001:db8::/32', via: 'fd00:3::1', cost: 2 }
  links: [[r1:lan, h/eth0], [r1:a, wire0], [r1:b, wire1]]
";

/// The two ways.
fn ways() -> [Station; 2] {
    [(2, "a", "wire0"), (3, "b", "wire1")].map(|(network, name, near)| {
        let addresses = [
            format!("10.{network}.0.1/24"),
            format!("fd00:{network}::1/64"),
        ];
        let way = Station::new(name, near, &addresses.each_ref().map(String::as_str));
        for address in ["192.0.2.1/32", "2001:db8::1/128"] {
            way.run(&format!("ip address add {address} dev lo"))
                .expect(0);
        }
        way_back(&way, network);
        way
    })
}

fn way_back(way: &Space, network: u8) {
    let v6 = format!("ip address replace fd00:{network}::1/64 dev eth0 nodad");
    way.run(&v6).expect(0);
    for via in [format!("10.{network}.0.254"), format!("fd00:{network}::fe")] {
        let family = if via.contains(':') { "-6" } else { "-4" };
        let route = format!("ip {family} route replace default via {via}");
        way.run(&route).expect(0);
    }
}

#[test]
fn a_way_that_fails_gives_way_and_comes_back() {
    run_test(|lab| {
        let stations = ways();
        lab.apply(TWO_WAYS);
        lab.assert_converged(TWO_WAYS);
        let watch = start_watch(lab, "ways", TWO_WAYS);
        let host = lab.space("h");
        let reached = || {
            assert_eq!(ping(&host, ip("192.0.2.1")), 63);
            assert_eq!(ping(&host, ip("2001:db8::1")), 63);
        };
        let use_way = |v4: &str, v6: &str| {
            until_active(lab, "ways", "192.0.2.0/24", &[v4]);
            until_active(lab, "ways", "2001:db8::/32", &[v6]);
        };
        // What is not linked is not used, whatever it costs.
        use_way("10.2.0.1", "fd00:2::1");
        reached();
        // No carrier.
        stations[0].run("ip link set eth0 down").expect(0);
        use_way("10.3.0.1", "fd00:3::1");
        reached();
        // The other one as well: what was to be done then, is. Without such a route the cheapest
        // one stays, and what is sent there is lost.
        stations[1].run("ip link set eth0 down").expect(0);
        use_way("prohibit", "fd00:2::1");
        let refused = host.run("ping -n -c 1 -W 5 192.0.2.1");
        assert!(refused.stdout.contains("Packet filtered"), "{refused}");
        no_ping(&host, ip("2001:db8::1"));
        stations[1].run("ip link set eth0 up").expect(0);
        way_back(&stations[1], 3);
        use_way("10.3.0.1", "fd00:3::1");
        reached();
        stations[0].run("ip link set eth0 up").expect(0);
        way_back(&stations[0], 2);
        use_way("10.2.0.1", "fd00:2::1");
        reached();
        // Set down at the near end; gone altogether.
        run("ip link set wire0 down").expect(0);
        use_way("10.3.0.1", "fd00:3::1");
        run("ip link delete wire0").expect(0);
        use_way("10.3.0.1", "fd00:3::1");
        reached();
        watch.signal(Signal::SIGTERM);
        watch.end().expect(0);
        lab.pcn("destroy --yes ways").expect(0);
    });
}

/// Without anybody who listens, the next plan says what is to be done, and an apply does it.
#[test]
fn an_apply_looks_at_carriers() {
    run_test(|lab| {
        let stations = ways();
        lab.apply(TWO_WAYS);
        stations[0].run("ip link set eth0 down").expect(0);
        let first = wait::within(wait::PATIENCE, || {
            let plan = lab.plan(TWO_WAYS);
            plan.stdout.contains("wire0 has no carrier").then_some(plan)
        });
        let first = first.expect("the plan says so");
        assert_eq!(lab.plan(TWO_WAYS).stdout, first.stdout, "same in, same out");
        until_active(lab, "ways", "192.0.2.0/24", &["10.2.0.1"]);
        lab.apply(TWO_WAYS);
        until_active(lab, "ways", "192.0.2.0/24", &["10.3.0.1"]);
        lab.assert_converged(TWO_WAYS);
        stations[0].run("ip link set eth0 up").expect(0);
        let back = lab.plan(TWO_WAYS);
        assert!(back.stdout.contains("wire0 has a carrier again"), "{back}");
        let json = lab.plan_json(TWO_WAYS);
        let drift = json["drift"].as_array().expect("a list");
        assert!(
            drift
                .iter()
                .any(|change| change["address"] == "interface/wire0"),
            "{json}"
        );
        lab.apply(TWO_WAYS);
        until_active(lab, "ways", "192.0.2.0/24", &["10.2.0.1"]);
        lab.assert_converged(TWO_WAYS);
        lab.pcn("destroy --yes ways").expect(0);
    });
}

/// What a change of the file does to flows that it is not about.
#[test]
fn a_next_hop_that_comes_takes_only_its_share() {
    run_test(|lab| {
        let _stations = ways();
        let with = |routes: &str| {
            let (head, rest) = TWO_WAYS.rsplit_once("routes:\n").expect("there");
            let (_, tail) = rest.split_once("  links:").expect("there");
            format!("{head}routes:\n{routes}  links:{tail}")
        };
        let one = "          - { to: 192.0.2.0/24, via: 10.2.0.1 }\n";
        let other = "          - { to: 192.0.2.0/24, via: 10.3.0.1 }\n";
        lab.apply(&with(one));
        until_active(lab, "ways", "192.0.2.0/24", &["10.2.0.1"]);
        let plan = lab.plan(&with(&format!("{one}{other}")));
        assert!(
            plan.stdout.contains("cube/r1/routes/192.0.2.0/24"),
            "{plan}"
        );
        lab.apply(&with(&format!("{one}{other}")));
        until_active(lab, "ways", "192.0.2.0/24", &["10.2.0.1", "10.3.0.1"]);
        lab.assert_converged(&with(&format!("{one}{other}")));
        let shown = lab.show("ways")["cubes"]["r1"]["routes"].clone();
        let mut shown = shown.as_array().expect("a list").clone();
        shown.retain(|route| route["to"] == "192.0.2.0/24");
        for (route, (port, via)) in shown.iter_mut().zip([("a", "10.2.0.1"), ("b", "10.3.0.1")]) {
            let share = route["share"].take();
            let percent = share
                .as_str()
                .and_then(|share| share.trim_end_matches('%').parse().ok());
            assert!(
                percent.is_some_and(|percent: u32| (45..=55).contains(&percent)),
                "{share}"
            );
            let rest = json!({
                "to": "192.0.2.0/24", "port": port, "type": "static", "via": via,
                "cost": 1, "active": true, "share": null,
            });
            assert_eq!(*route, rest);
        }
        assert_eq!(shown.len(), 2);
        lab.apply(&with(other));
        until_active(lab, "ways", "192.0.2.0/24", &["10.3.0.1"]);
        let text = lab.pcn("show ways").expect(0).stdout;
        assert!(text.contains("10.2.0.254/24 fd00:2::fe/64"), "{text}");
        lab.pcn("destroy --yes ways").expect(0);
    });
}

/// Two ways inside of namespaces of the topology.
const INSIDE: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: inside }
spec:
  drift: DRIFT
  namespaces:
    a: { interfaces: { eth0: { addresses: [10.2.0.1/24] } } }
    b: { interfaces: { eth0: { addresses: [10.3.0.1/24] } } }
  cubes:
    r1:
      router:
        ports:
          a: { addresses: [10.2.0.254/24] }
          b: { addresses: [10.3.0.254/24] }
        routes:
          - { to: 192.0.2.0/24, via: 10.2.0.1 }
          - { to: 192.0.2.0/24, via: 10.3.0.1, cost: 2 }
  links: [[r1:a, a/eth0], [r1:b, b/eth0]]
";

/// Whoever repairs drift sets them up again; otherwise they stay down, and count as down.
#[test]
fn interfaces_inside_count_where_drift_stays() {
    run_test(|lab| {
        let text = INSIDE.replace("DRIFT", "warn");
        let watch = start_watch(lab, "inside", &text);
        until_active(lab, "inside", "192.0.2.0/24", &["10.2.0.1"]);
        let a = lab.space("a");
        a.run("ip link set eth0 down").expect(0);
        until_active(lab, "inside", "192.0.2.0/24", &["10.3.0.1"]);
        a.run("ip link set eth0 up").expect(0);
        until_active(lab, "inside", "192.0.2.0/24", &["10.2.0.1"]);
        watch.signal(Signal::SIGTERM);
        watch.end().expect(0);

        let text = INSIDE.replace("DRIFT", "repair");
        lab.apply(&text);
        a.run("ip link set eth0 down").expect(0);
        let plan = lab.plan(&text);
        assert!(!plan.stdout.contains("has no carrier"), "{plan}");
        lab.apply(&text);
        lab.assert_converged(&text);
        until_active(lab, "inside", "192.0.2.0/24", &["10.2.0.1"]);
        lab.pcn("destroy --yes inside").expect(0);
    });
}
