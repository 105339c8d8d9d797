//! Every file in `examples/topologies`: applied, used as its comment says, read back, removed.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use integration_tests::{
    examples,
    lab::{Footprint, Lab, Space, Station, run_test},
    traffic::{no_ping, ping, tcp, traceroute},
    wait,
    wire::Frame,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::ip;

/// Declares a test for each file: what must be there before, and the traffic its comment promises.
macro_rules! examples {
    ($($test:ident $file:literal $prepare:expr, $traffic:expr;)*) => {
        $(#[test]
        fn $test() {
            run_test(|lab| check(lab, $file, $prepare, $traffic));
        })*

        const FILES: &[&str] = &[$($file),*];
    };
}

examples! {
    bird "bird" nothing, bird_traffic;
    bridge "bridge" nothing, bridge_traffic;
    checked "checked" nothing, checked_traffic;
    ddos_mitigator "ddos-mitigator" nothing, ddos_mitigator_traffic;
    dmz "dmz" nothing, dmz_traffic;
    dual_stack "dual-stack" laptop, dual_stack_traffic;
    ecmp "ecmp" providers, crate::multipath::ecmp_traffic;
    firewall "firewall" nothing, firewall_traffic;
    flood "flood" nothing, flood_traffic;
    forwarder "forwarder" nothing, forwarder_traffic;
    hello "hello" nothing, hello_traffic;
    hello_transparent "hello-transparent" nothing, hello_transparent_traffic;
    nat "nat" nothing, crate::nat::home_and_remote;
    nat64 "nat64" nothing, crate::nat64::home_and_remote;
    home_gateway "home-gateway" nothing, home_gateway_traffic;
    protected_host "protected-host" uplink, protected_host_traffic;
    quickstart "quickstart" nothing, quickstart_traffic;
    router "router" nothing, router_traffic;
    spanning_tree "spanning-tree" nothing, spanning_tree_traffic;
    two_routers "two-routers" nothing, two_routers_traffic;
    vlan_trunk "vlan-trunk" nothing, vlan_trunk_traffic;
    xdp "xdp" wires, xdp_traffic;
}

#[test]
fn every_example_has_traffic() {
    let entries = std::fs::read_dir(examples::FOLDER).expect("the examples are there");
    let names = entries.map(|entry| {
        entry
            .expect("a file")
            .file_name()
            .into_string()
            .expect("a name in UTF-8")
    });
    let stems: BTreeSet<_> = names
        .map(|name| name.trim_end_matches(".yaml").to_owned())
        .collect();
    let tested: BTreeSet<_> = FILES.iter().map(|file| (*file).to_owned()).collect();
    assert_eq!(stems, tested);
}

fn check(lab: &Lab, name: &str, prepare: fn() -> Vec<Station>, traffic: fn(&Lab)) {
    let _stations = prepare();
    let before = Footprint::take();
    let file = examples::path(name);
    let pcn = |arguments: &str| lab.pcn(arguments);

    pcn(&format!("validate -f {file}")).expect(0);
    let plan = pcn(&format!("plan -f {file}")).expect(0);
    assert!(plan.stdout.starts_with("Plan: "), "{plan}");
    assert!(
        pcn(&format!("plan --detailed-exitcode -f {file}"))
            .expect(2)
            .stdout
            == plan.stdout
    );
    before.assert_same(&Footprint::take());

    pcn(&format!("apply --yes -f {file}")).expect(0);
    let idle = packets(&lab.show(name));
    traffic(lab);
    let used = packets(&lab.show(name));
    assert!(
        used > idle,
        "no counter moved: {idle} packets before, {used} after"
    );

    let again = pcn(&format!("plan --detailed-exitcode -f {file}")).expect(0);
    assert_eq!(again.stdout, "No changes.\n", "{again}");
    let shown = pcn(&format!("show {name} -o yaml")).expect(0);
    let back = lab
        .pcn_with("plan --detailed-exitcode -f -", &shown.stdout)
        .expect(0);
    assert_eq!(back.stdout, "No changes.\n", "of the file\n{shown}\n{back}");

    pcn(&format!("destroy --yes {name}")).expect(0);
    before.assert_same(&Footprint::take());
    assert!(lab.ids().is_empty());
    pcn(&format!("destroy --yes {name}")).expect(0);
}

/// The sum of all counted packets.
fn packets(show: &Value) -> u64 {
    match show {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                if key == "packets" {
                    value.as_u64().unwrap_or(0)
                } else {
                    packets(value)
                }
            })
            .sum(),
        Value::Array(items) => items.iter().map(packets).sum(),
        _ => 0,
    }
}

fn nothing() -> Vec<Station> {
    Vec::new()
}

fn spanning_tree_traffic(lab: &Lab) {
    let file = examples::path("spanning-tree");
    let hosts = ["h1", "h2", "h3"].map(|name| lab.space(name));
    no_ping(&hosts[0], ip("10.0.0.2"));
    let watch = lab.start_pcn(&format!("watch --interval 1h --poll 1h -f {file}"));
    for from in &hosts {
        for number in 1..=3 {
            ping(from, ip(&format!("10.0.0.{number}")));
        }
    }
    lab.note_objects();
    wait::until("one port that rests", || {
        let show = lab.show("spanning-tree");
        let cubes = show["cubes"].as_object()?.values();
        let ports = cubes.flat_map(|cube| cube["spanningTreePorts"].as_array().cloned());
        let rest: Vec<Value> = ports
            .flatten()
            .filter(|port| port["state"] != "forwarding")
            .collect();
        (rest.len() == 1 && rest[0]["role"] == "alternate").then_some(())
    });
    watch.signal(Signal::SIGTERM);
    watch.end().expect(0);
}

fn providers() -> Vec<Station> {
    crate::multipath::providers().into()
}

fn bridge_traffic(lab: &Lab) {
    let (a, b) = (lab.space("bridge-a"), lab.space("bridge-b"));
    assert_eq!(ping(&a, ip("10.10.0.3")), 64);
    assert_eq!(ping(&b, ip("fd00:10::3")), 64);
    no_ping(&a, ip("10.10.0.2"));
    no_ping(&b, ip("fd00:10::1"));
    let fdb = &lab.show("bridge")["cubes"]["br"]["fdb"];
    let types: Vec<_> = fdb
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (&entry["type"], &entry["port"]))
        .collect();
    assert!(types.contains(&(&"static".into(), &"c".into())), "{fdb}");
    assert!(types.contains(&(&"learned".into(), &"a".into())), "{fdb}");
}

fn ddos_mitigator_traffic(lab: &Lab) {
    let (good, bad) = (lab.space("good"), lab.space("bad"));
    assert_eq!(ping(&good, ip("10.33.0.80")), 64);
    assert_eq!(ping(&good, ip("fd00:33::80")), 64);
    no_ping(&bad, ip("10.33.0.80"));
    no_ping(&bad, ip("fd00:33::80"));
    no_ping(&good, ip("10.33.0.81"));
}

fn firewall_traffic(lab: &Lab) {
    let (client, server) = (lab.space("client"), lab.space("server"));
    assert_eq!(ping(&client, ip("10.34.0.80")), 64);
    assert_eq!(ping(&client, ip("fd00:34::80")), 64);
    for address in ["10.34.0.80", "fd00:34::80"] {
        let web = listen(&server, ip(address), 80);
        assert!(attempt(&client, ip(address), 80).is_ok());
        let ssh = listen(&server, ip(address), 22);
        let refused = attempt(&client, ip(address), 22).map(drop);
        let refused = refused.expect_err("nobody may").kind();
        assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
        drop((web, ssh));
    }
    // What the server begins itself is answered.
    tcp(&server, &client, ip("10.34.0.1"), 1 << 20);
    tcp(&server, &client, ip("fd00:34::1"), 1 << 20);
    let show = lab.show("firewall");
    let fw = &show["cubes"]["fw"];
    let rules = fw["rules"].as_array().expect("a list");
    let packets = |name: &str| {
        let rule = rules
            .iter()
            .find(|rule| rule["chain"] == "egress" && rule["rule"] == name);
        rule.unwrap_or_else(|| panic!("no rule {name}: {fw}"))["packets"].as_u64()
    };
    assert_eq!(packets("web"), Some(2), "{fw}");
    assert_eq!(packets("ping"), Some(1), "{fw}");
    assert!(packets("default") >= Some(2), "{fw}");
    let sessions = fw["sessions"].as_array().expect("a list");
    let web = sessions
        .iter()
        .find(|session| session["destinationPort"] == 80)
        .unwrap_or_else(|| panic!("{fw}"));
    assert_eq!(web["rule"], "egress/rules/web");
    assert!(web["replyPackets"].as_u64() > Some(0), "{web}");
}

fn dmz_traffic(lab: &Lab) {
    let [world, web, lan] = ["world", "web", "lan"].map(|name| lab.space(name));
    for address in ["203.0.113.7", "fd00:113::7", "10.36.0.80", "fd00:36::80"] {
        assert_eq!(ping(&lan, ip(address)), 63);
    }
    assert_eq!(ping(&world, ip("10.36.0.80")), 63);
    assert_eq!(ping(&world, ip("fd00:36::80")), 63);
    no_ping(&world, ip("10.35.0.1"));
    no_ping(&world, ip("fd00:35::1"));
    assert_eq!(ping(&web, ip("203.0.113.7")), 63);
    for (address, said) in [
        ("10.35.0.1", "Packet filtered"),
        ("fd00:35::1", "Administratively prohibited"),
    ] {
        let told = web.run(&format!("ping -n -c 1 -W 5 {address}"));
        assert!(told.stdout.contains(said), "{told}");
    }
    let listeners = [80, 22].map(|port| listen(&web, ip("10.36.0.80"), port));
    assert!(attempt(&world, ip("10.36.0.80"), 80).is_ok());
    assert!(attempt(&world, ip("10.36.0.80"), 22).is_err());
    assert!(attempt(&lan, ip("10.36.0.80"), 22).is_ok());
    drop(listeners);
    tcp(&lan, &world, ip("203.0.113.7"), 1 << 20);
    tcp(&lan, &world, ip("fd00:113::7"), 1 << 20);
}

fn home_gateway_traffic(lab: &Lab) {
    let [laptop, server, internet] = ["laptop", "server", "internet"].map(|name| lab.space(name));
    for address in ["203.0.113.1", "2001:db8:113::1"] {
        assert_eq!(ping(&laptop, ip(address)), 63);
        tcp(&laptop, &internet, ip(address), 1 << 20);
    }
    let way = [ip("10.37.0.1"), ip("203.0.113.1")];
    assert_eq!(traceroute(&laptop, ip("203.0.113.1")), way);
    for address in ["10.37.0.10", "2001:db8:37::10"] {
        no_ping(&internet, ip(address));
    }
    assert_eq!(ping(&internet, ip("203.0.113.37")), 64);
    // What is forwarded comes from whom it came from; the server's own address is not known outside.
    let listener = listen(&server, ip("10.37.0.20"), 80);
    let outside = ip("203.0.113.37");
    let connection = attempt(&internet, outside, 8080).expect("the port is forwarded");
    let (_, peer) = listener.accept().expect("it was accepted");
    assert_eq!(peer, connection.local_addr().expect("it is connected"));
    assert!(attempt(&internet, outside, 80).is_err());
    // Hosts inside share one address.
    let listener = listen(&internet, ip("203.0.113.1"), 443);
    let _connection = attempt(&laptop, ip("203.0.113.1"), 443).expect("it may begin");
    let (_, peer) = listener.accept().expect("it was accepted");
    assert_eq!(peer.ip(), outside);
    let shown = lab.show("home-gateway")["cubes"].clone();
    for cube in ["fw", "nat"] {
        let sessions = shown[cube]["sessions"].as_array().expect("a list");
        assert!(!sessions.is_empty(), "{cube}: {shown}");
    }
}

fn listen(space: &Space, address: IpAddr, port: u16) -> TcpListener {
    space.enter(|| TcpListener::bind((address, port)).expect("the port is free"))
}

/// A connection, if it comes about within a second.
fn attempt(from: &Space, address: IpAddr, port: u16) -> std::io::Result<TcpStream> {
    let to = SocketAddr::new(address, port);
    from.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)))
}

fn flood_traffic(lab: &Lab) {
    let space = |name| lab.space(name);
    assert_eq!(ping(&space("f1"), ip("10.50.0.4")), 64);
    assert_eq!(ping(&space("f3"), ip("fd00:50::4")), 64);
    assert_eq!(ping(&space("f2"), ip("10.51.0.5")), 63);
    assert_eq!(ping(&space("f2"), ip("fd00:51::5")), 63);
    // The kernel gives an interface its address for the link up to a second after it is up.
    let expected: BTreeSet<_> = ["f1", "f2", "f3", "f4"]
        .map(|name| link_local(lab, name))
        .into();
    let all = space("f1")
        .run("ping -n -c 2 -i 0.5 -I eth0 ff02::1")
        .expect(0);
    let answers: BTreeSet<_> = all
        .stdout
        .lines()
        .filter_map(|line| {
            Some(
                line.split_once("bytes from ")?
                    .1
                    .split('%')
                    .next()?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(answers, expected, "{all}");
}

fn link_local(lab: &Lab, space: &str) -> String {
    let space = lab.space(space);
    wait::until("an address for the link", || {
        let links = space
            .run("ip -j -6 address show dev eth0 scope link -tentative")
            .expect(0);
        let links = links.json();
        let entries = links[0]["addr_info"].as_array()?.iter();
        let mut addresses = entries.filter_map(|entry| entry["local"].as_str());
        addresses.next().map(str::to_owned)
    })
}

fn forwarder_traffic(lab: &Lab) {
    let (a, c) = (lab.space("forward-a"), lab.space("forward-c"));
    assert_eq!(ping(&a, ip("10.32.0.2")), 64);
    assert_eq!(ping(&a, ip("fd00:32::2")), 64);
    no_ping(&c, ip("10.32.0.1"));
    no_ping(&c, ip("fd00:32::1"));
}

fn vlan_trunk_traffic(lab: &Lab) {
    let space = |name| lab.space(name);
    // Hosts listen from the start: what reaches one in the other VLAN is the router's doing.
    let silent = space("trunk-b20").wire();
    for (from, to) in [("trunk-a10", "10.40.10.2"), ("trunk-b10", "fd00:40:10::1")] {
        assert_eq!(ping(&space(from), ip(to)), 64, "{from} to {to}");
    }
    // Frames for everyone as well: the requests for the other's link-layer address.
    let heard = silent.drain();
    let of_vlan_10 = |frame: &Frame| {
        ["10.40.10.2", "fd00:40:10::1"]
            .iter()
            .any(|to| frame.asks_for(ip(to)))
    };
    assert!(!heard.iter().any(of_vlan_10), "{heard:#?}");
    for (from, to) in [("trunk-a20", "10.40.20.2"), ("trunk-a20", "fd00:40:20::2")] {
        assert_eq!(ping(&space(from), ip(to)), 64, "{from} to {to}");
    }
    // Buffers that are still to be segmented get the tag as well.
    tcp(
        &space("trunk-a10"),
        &space("trunk-b10"),
        ip("10.40.10.2"),
        8 << 20,
    );
    tcp(
        &space("trunk-b20"),
        &space("trunk-a20"),
        ip("fd00:40:20::1"),
        8 << 20,
    );
    for (from, to) in [("trunk-a10", "10.40.20.2"), ("trunk-b10", "fd00:40:20::1")] {
        assert_eq!(ping(&space(from), ip(to)), 63, "{from} to {to}");
    }
    let fdb = &lab.show("vlan-trunk")["cubes"]["sw-b"]["fdb"];
    let known: BTreeSet<_> = fdb
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (entry["vlan"].as_u64(), entry["port"].as_str()))
        .collect();
    for (vlan, port) in [(10, "h10"), (10, "trunk"), (20, "h20"), (20, "trunk")] {
        assert!(known.contains(&(Some(vlan), Some(port))), "{fdb}");
    }
    assert_eq!(known.len(), 4, "{fdb}");
}

fn hello_traffic(lab: &Lab) {
    let a = lab.space("hello-a");
    assert_eq!(ping(&a, ip("10.30.0.2")), 64);
    assert_eq!(ping(&a, ip("fd00:30::2")), 64);
    let drop = crate::example("hello").replace("action: forward", "action: drop");
    lab.apply(&drop);
    no_ping(&a, ip("10.30.0.2"));
    let port = &lab.show("hello")["cubes"]["wire"]["ports"]["a"];
    assert!(
        port["drops"]
            .as_object()
            .is_some_and(|drops| drops.values().any(|count| count.as_u64() > Some(0))),
        "{port}"
    );
    lab.apply(&crate::example("hello"));
    assert_eq!(ping(&a, ip("fd00:30::2")), 64);
}

fn hello_transparent_traffic(lab: &Lab) {
    let a = lab.space("pass-a");
    assert_eq!(ping(&a, ip("10.31.0.2")), 64);
    assert_eq!(ping(&a, ip("fd00:31::2")), 64);
    let drop = crate::example("hello-transparent")
        .replace("{ ingressAction: pass,", "{ ingressAction: drop,");
    lab.apply(&drop);
    let outer = || packets(&lab.show("hello-transparent")["cubes"]["outer"]);
    let before = outer();
    no_ping(&a, ip("10.31.0.2"));
    assert!(outer() > before, "the outer cube did not see the requests");
    lab.apply(&crate::example("hello-transparent"));
    assert_eq!(ping(&a, ip("10.31.0.2")), 64);
}

/// The machine's own interface, and a host behind it that speaks for many.
fn uplink() -> Vec<Station> {
    let outside = Station::new(
        "outside",
        "uplink0",
        &[
            "192.0.2.2/24",
            "198.51.100.9/24",
            "203.0.113.7/24",
            "203.0.113.8/24",
            "2001:db8:1::2/64",
            "2001:db8:bad::9/64",
        ],
    );
    for line in [
        "ip address add 192.0.2.1/24 dev uplink0",
        "ip address add 2001:db8:1::1/64 dev uplink0 nodad",
        "ip route add 198.51.100.0/24 dev uplink0",
        "ip route add 203.0.113.0/24 dev uplink0",
        "ip route add 2001:db8:bad::/64 dev uplink0",
    ] {
        integration_tests::command::run(line).expect(0);
    }
    // The kernel adds the route to an address of its own a moment later.
    wait::until("the address has its route", || {
        let routes = integration_tests::command::run("ip -6 route show table local").stdout;
        routes.contains("local 2001:db8:1::1 ").then_some(())
    });
    vec![outside]
}

fn protected_host_traffic(lab: &Lab) {
    let (host, outside) = (lab.space(""), lab.space("outside"));
    assert_eq!(ping(&host, ip("192.0.2.2")), 64);
    assert_eq!(ping(&outside, ip("2001:db8:1::1")), 64);
    for (source, target, passes) in [
        ("203.0.113.8", "192.0.2.1", true),
        ("203.0.113.7", "192.0.2.1", false),
        ("198.51.100.9", "192.0.2.1", false),
        ("2001:db8:bad::9", "2001:db8:1::1", false),
    ] {
        let run = outside.run(&format!("ping -n -I {source} -i 0.05 -c 3 -W 1 {target}"));
        let received = if passes { " 3 received" } else { " 0 received" };
        assert!(run.stdout.contains(received), "from {source}: {run}");
    }
    let shield = &lab.show("protected-host")["cubes"]["shield"];
    for prefix in ["198.51.100.0/24", "203.0.113.7/32", "2001:db8:bad::/48"] {
        let entry = shield["sources"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|entry| entry["prefix"] == prefix);
        let dropped = entry.and_then(|entry| entry["packets"].as_u64());
        // Three requests; before them, questions for the neighbour may count too.
        assert!(dropped >= Some(3), "{prefix}: {shield}");
    }
}

fn checked_traffic(lab: &Lab) {
    let office = lab.space("office");
    assert_eq!(ping(&office, ip("10.61.0.2")), 63);
    assert_eq!(ping(&office, ip("fd00:61::1")), 63);
    let bad = examples::text("checked").replace("sources: [", "sources: [10.60.0.1/32, ");
    let path = lab.file("bad.yaml", &bad);
    let run = lab.pcn(&format!("apply --yes -f {path}")).expect(4);
    let why = "check failed: ping 10.61.0.1 from office: no answer";
    assert!(run.stderr.contains(why), "{run}");
    assert_eq!(ping(&office, ip("10.61.0.2")), 63);
}

fn quickstart_traffic(lab: &Lab) {
    let h1 = lab.space("h1");
    assert_eq!(ping(&h1, ip("10.0.0.2")), 64);
    assert_eq!(ping(&h1, ip("fd00::2")), 64);
}

/// Without BIRD: what it writes, by hand. With it: `routes_from.rs`.
fn bird_traffic(lab: &Lab) {
    let (bgp, peer, h1) = (lab.space("bgp"), lab.space("peer"), lab.space("h1"));
    peer.run("ip link set lo up").expect(0);
    peer.run("ip address add 20.0.5.1/32 dev lo").expect(0);
    bgp.run("ip route add table 100 10.50.1.0/24 dev eth0")
        .expect(0);
    bgp.run("ip route add table 100 20.0.5.0/24 via 10.50.1.2")
        .expect(0);
    lab.apply(&crate::example("bird"));
    assert_eq!(ping(&h1, ip("20.0.5.1")), 63);
    let routes = lab.show("bird")["cubes"]["r1"]["routes"].clone();
    let routes = routes.as_array().expect("a list").iter();
    let mut dynamic = routes.filter(|route| route["type"] == "dynamic");
    assert_eq!(dynamic.next().expect("it is there")["to"], "20.0.5.0/24");
}

fn router_traffic(lab: &Lab) {
    let a = lab.space("router-a");
    assert_eq!(ping(&a, ip("10.21.0.1")), 63);
    assert_eq!(ping(&a, ip("fd00:21::1")), 63);
    assert_eq!(ping(&a, ip("10.20.0.254")), 64);
    assert_eq!(ping(&a, ip("fd00:20::fe")), 64);
    let says = |line: &str, word: &str| {
        let run = a.run(line);
        assert!(run.stdout.contains(word), "{run}");
    };
    says(
        "ping -n -c 1 -W 2 192.0.2.1",
        "From 10.20.0.254 icmp_seq=1 Destination Net Unreachable",
    );
    says(
        "ping -n -c 1 -W 2 2001:db8::1",
        "From fd00:20::fe icmp_seq=1 Destination unreachable: No route",
    );
    says(
        "ping -n -c 1 -W 2 -M do -s 1400 10.21.0.1",
        "Frag needed and DF set (mtu = 1400)",
    );
    says(
        "ping -n -c 1 -W 2 -M do -s 1400 fd00:21::1",
        "Packet too big: mtu=1400",
    );
}

/// A host with one address, which finds the others by itself.
fn laptop() -> Vec<Station> {
    let laptop = Station::new("laptop", "lan0", &["10.52.0.7/24"]);
    vec![laptop]
}

fn dual_stack_traffic(lab: &Lab) {
    let (laptop, server) = (lab.space("laptop"), lab.space("server"));
    // It asks when its link comes up.
    laptop.run("ip link set eth0 down").expect(0);
    laptop.run("ip link set eth0 up").expect(0);
    laptop
        .run("ip route replace default via 10.52.0.254")
        .expect(0);
    wait::until("the laptop to configure itself", || {
        let addresses = laptop
            .run("ip -6 address show dev eth0 scope global")
            .stdout;
        let route = laptop.run("ip -6 route show default").stdout;
        let ready = addresses.contains("inet6 fd00:52::")
            && !addresses.contains("tentative")
            && route.contains("via fe80::")
            && route.contains("proto ra");
        ready.then_some(())
    });
    assert_eq!(ping(&laptop, ip("fd00:51::1")), 63);
    assert_eq!(ping(&laptop, ip("10.51.0.1")), 63);
    assert_eq!(
        traceroute(&laptop, ip("fd00:51::1")),
        ["fd00:52::fe", "fd00:51::1"].map(ip)
    );
    assert_eq!(
        traceroute(&laptop, ip("10.51.0.1")),
        ["10.52.0.254", "10.51.0.1"].map(ip)
    );
    // The route to the router is as large as it says.
    let route = laptop.run("ip -6 route get fd00:51::1");
    assert!(route.stdout.contains("via fe80::"), "{route}");
    let mtu = laptop.run("cat /proc/sys/net/ipv6/conf/eth0/mtu");
    assert_eq!(mtu.stdout.trim(), "1400", "{mtu}");
    let refused = server.run("ping -n -c 1 -W 2 -M do -s 1400 10.52.0.7");
    assert!(refused.stdout.contains("(mtu = 1400)"), "{refused}");
    let cut = server.run("ping -n -c 1 -W 5 -M dont -s 1400 10.52.0.7");
    assert!(cut.stdout.contains(" 1 received"), "{cut}");
}

fn two_routers_traffic(lab: &Lab) {
    let space = |name| lab.space(name);
    let (a1, b1, edge) = (space("a1"), space("b1"), space("edge"));
    assert_eq!(ping(&a1, ip("10.41.0.2")), 62);
    assert_eq!(ping(&a1, ip("fd00:41::2")), 62);
    assert_eq!(ping(&edge, ip("10.40.0.2")), 62);
    assert_eq!(ping(&b1, ip("fd00:42::1")), 63);
    assert_eq!(
        traceroute(&a1, ip("10.41.0.1")),
        ["10.40.0.254", "192.0.2.2", "10.41.0.1"].map(ip)
    );
    assert_eq!(
        traceroute(&a1, ip("fd00:41::1")),
        ["fd00:40::fe", "2001:db8::2", "fd00:41::1"].map(ip)
    );
    let run = b1.run("ping -n -c 1 -W 2 198.51.100.1");
    assert!(run.stdout.contains("Destination Net Unreachable"), "{run}");
}

/// Two wires, with a station at the other end of each.
fn wires() -> Vec<Station> {
    let b = Station::for_xdp(
        "xdp-b",
        "xdp0",
        &["10.60.0.2/24", "fd00:60::2/64", "198.51.100.7/24"],
    );
    let c = Station::for_xdp("xdp-c", "xdp1", &["10.60.0.3/24", "fd00:60::3/64"]);
    c.run("ip route add 198.51.100.0/24 dev eth0").expect(0);
    vec![b, c]
}

fn xdp_traffic(lab: &Lab) {
    let (a, b, c) = (lab.space("xdp-a"), lab.space("xdp-b"), lab.space("xdp-c"));
    for (from, to) in [
        (&b, "10.60.0.3"),
        (&c, "fd00:60::2"),
        (&a, "10.60.0.2"),
        (&b, "fd00:60::1"),
        (&c, "10.60.0.1"),
    ] {
        assert_eq!(ping(from, ip(to)), 64);
    }
    let run = b.run("ping -n -I 198.51.100.7 -i 0.05 -c 3 -W 1 10.60.0.3");
    assert!(run.stdout.contains(" 0 received"), "{run}");
    let shield = &lab.show("xdp")["cubes"]["shield"];
    assert!(
        shield["sources"][0]["packets"].as_u64() >= Some(3),
        "{shield}"
    );
}
