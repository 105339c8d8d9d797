//! Routers that follow tables of the kernel: with `ip route`, and with BIRD.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use integration_tests::{
    command::Running,
    lab::{Lab, run_test},
    traffic::{no_ping, ping, tcp},
    wait,
};
use serde_json::Value;

use crate::{example, ip};

/// How long a hundred thousand routes may take on a machine that does other things, too.
const LONG: Duration = Duration::from_secs(60);

fn start_watch(lab: &Lab, text: &str) -> Running {
    let file = lab.file("watch.yaml", text);
    let watch = lab.start_pcn(&format!("watch --interval 1h --poll 1h -f {file}"));
    wait::until("the first round to end", || {
        let shown = lab.pcn("show bird -o json");
        (shown.code == Some(0)).then_some(())
    });
    watch
}

/// Dynamic routes: how many, and how many are pending.
fn dynamic(lab: &Lab) -> (u64, u64) {
    let count = |what| lab.show("bird")["cubes"]["r1"]["dynamicRoutes"][what].as_u64();
    (
        count("count").expect("a router that follows a table"),
        count("pending").expect("a number"),
    )
}

fn routes(lab: &Lab) -> Vec<Value> {
    let routes = lab.show("bird")["cubes"]["r1"]["routes"].clone();
    let routes = routes.as_array().expect("a list").clone();
    let dynamic = routes.into_iter();
    dynamic.filter(|route| route["type"] == "dynamic").collect()
}

/// Addresses of `peer` that nothing but a dynamic route leads to.
fn give_peer_addresses(lab: &Lab) {
    let peer = lab.space("peer");
    peer.run("ip link set lo up").expect(0);
    peer.run("ip address add 20.0.5.1/32 dev lo").expect(0);
    peer.run("ip address add 2001:db8:5::1/128 dev lo")
        .expect(0);
}

#[test]
fn an_apply_takes_what_is_there() {
    run_test(|lab| {
        let text = example("bird");
        lab.apply(&text);
        give_peer_addresses(lab);
        let (bgp, h1) = (lab.space("bgp"), lab.space("h1"));
        no_ping(&h1, ip("20.0.5.1"));
        for route in [
            "20.0.5.0/24 via 10.50.1.2 dev eth0 onlink",
            "2001:db8:5::/48 via fd00:50:1::2 dev eth0 onlink",
            // None of the router's networks.
            "20.0.6.0/24 via 192.0.2.1 dev eth0 onlink",
            // Its own network does not follow.
            "10.50.1.0/24 via 10.50.9.77 dev eth0 onlink",
        ] {
            bgp.run(&format!("ip route add table 100 {route}"))
                .expect(0);
        }
        let applied = lab.apply(&text);
        assert!(applied.stderr.contains("20.0.6.0/24"), "{applied}");
        assert!(applied.stderr.contains("192.0.2.1"), "{applied}");
        assert_eq!(dynamic(lab), (3, 1));
        assert_eq!(ping(&h1, ip("20.0.5.1")), 63);
        assert_eq!(ping(&h1, ip("2001:db8:5::1")), 63);
        assert_eq!(ping(&h1, ip("10.50.1.2")), 63);
        lab.assert_converged(&text);
        bgp.run("ip route del table 100 20.0.5.0/24").expect(0);
        assert_eq!(ping(&h1, ip("20.0.5.1")), 63, "nobody looks");
        lab.apply(&text);
        no_ping(&h1, ip("20.0.5.1"));
        assert_eq!(dynamic(lab), (2, 1));
        lab.pcn("destroy --yes bird").expect(0);
    });
}

#[test]
fn a_watch_follows_what_happens() {
    run_test(|lab| {
        let text = example("bird");
        let watch = start_watch(lab, &text);
        give_peer_addresses(lab);
        let (bgp, h1) = (lab.space("bgp"), lab.space("h1"));
        let change = |line: &str| {
            bgp.run(&format!("ip route {line}")).expect(0);
        };
        let expect = |what: &str, count: (u64, u64)| {
            wait::until(what, || (dynamic(lab) == count).then_some(()));
        };
        change("add table 100 20.0.5.0/24 via 10.50.1.2 dev eth0 onlink");
        change("add table 100 2001:db8:5::/48 via fd00:50:1::2 dev eth0 onlink");
        // Another table is not followed.
        change("add table 101 20.0.9.0/24 via 10.50.1.2 dev eth0 onlink");
        expect("two routes", (2, 0));
        assert_eq!(ping(&h1, ip("20.0.5.1")), 63);
        assert_eq!(ping(&h1, ip("2001:db8:5::1")), 63);
        // A worse priority changes nothing; the same one is replaced.
        change("add table 100 20.0.5.0/24 via 10.50.1.99 dev eth0 onlink metric 50");
        change("replace table 100 20.0.5.0/24 via 10.50.1.77 dev eth0 onlink");
        wait::until("another next hop", || {
            let via = |route: &Value| route["via"] == "10.50.1.77";
            routes(lab).iter().any(via).then_some(())
        });
        change("replace table 100 20.0.5.0/24 via 10.50.1.2 dev eth0 onlink");
        wait::until("the next hop of before", || {
            let via = |route: &Value| route["via"] == "10.50.1.2";
            routes(lab).iter().any(via).then_some(())
        });
        assert_eq!(ping(&h1, ip("20.0.5.1")), 63);
        // Of several next hops one that can be reached.
        change(
            "replace table 100 20.0.5.0/24 nexthop via 192.0.2.1 dev eth0 onlink \
             nexthop via 10.50.1.2 dev eth0 onlink",
        );
        change("add table 100 20.0.7.0/24 via 192.0.2.1 dev eth0 onlink");
        expect("one that is pending", (2, 1));
        assert_eq!(ping(&h1, ip("20.0.5.1")), 63);
        change("del table 100 20.0.7.0/24");
        change("del table 100 20.0.5.0/24 metric 50");
        change("del table 100 20.0.5.0/24");
        expect("one route", (1, 0));
        no_ping(&h1, ip("20.0.5.1"));
        // Linux says nothing of IPv4 routes that go with their interface.
        change("add table 100 20.0.5.0/24 via 10.50.1.2 dev eth0 onlink");
        expect("two routes again", (2, 0));
        bgp.run("ip link set eth0 down").expect(0);
        expect("none", (0, 0));
        watch.signal(nix::sys::signal::Signal::SIGTERM);
        watch.end().expect(0);
        lab.pcn("destroy --yes bird").expect(0);
    });
}

/// Routes to a network, of whatever type: next hop or type, and share.
fn ways_to(lab: &Lab, to: &str) -> Vec<(String, String)> {
    let routes = lab.show("bird")["cubes"]["r1"]["routes"].clone();
    let routes = routes.as_array().expect("a list").clone().into_iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ways = routes.filter(|route| route["to"] == to);
    ways.map(|route| match route["via"].as_str() {
        Some(via) => (via.to_owned(), text(&route["share"])),
        None => (text(&route["type"]), text(&route["share"])),
    })
    .collect()
}

/// How many of a hundred flows a next hop gets: as many as the kernel's own weights say.
#[track_caller]
fn assert_shares(ways: &[(String, String)], expected: &[(&str, u32)]) {
    let vias: Vec<&str> = ways.iter().map(|(via, _)| via.as_str()).collect();
    let wanted: Vec<&str> = expected.iter().map(|(via, _)| *via).collect();
    assert_eq!(vias, wanted, "{ways:?}");
    for ((_, share), (_, wanted)) in ways.iter().zip(expected) {
        let share: u32 = share.trim_end_matches('%').parse().expect("a share");
        assert!(share.abs_diff(*wanted) <= 5, "{ways:?}");
    }
}

#[test]
fn several_next_hops_and_routes_to_nowhere_are_followed() {
    run_test(|lab| {
        // The peer gets addresses that are not in the file.
        let text = example("bird").replace("\nspec:\n", "\nspec:\n  drift: ignore\n");
        let watch = start_watch(lab, &text);
        give_peer_addresses(lab);
        let (bgp, h1, peer) = (lab.space("bgp"), lab.space("h1"), lab.space("peer"));
        for address in ["10.50.1.3/24", "fd00:50:1::3/64 nodad"] {
            peer.run(&format!("ip address add {address} dev eth0"))
                .expect(0);
        }
        let change = |line: &str| {
            bgp.run(&format!("ip route {line}")).expect(0);
        };
        let until_ways = |to: &str, count| {
            wait::within(wait::PATIENCE, || {
                let ways = ways_to(lab, to);
                (ways.len() == count).then_some(ways)
            })
            .unwrap_or_else(|| panic!("{to}: {:?}", ways_to(lab, to)))
        };
        change(
            "add table 100 20.0.5.0/24 nexthop via 10.50.1.2 dev eth0 onlink weight 1 \
             nexthop via 10.50.1.3 dev eth0 onlink weight 3",
        );
        change(
            "add table 100 2001:db8:5::/48 nexthop via fd00:50:1::2 dev eth0 onlink weight 1 \
             nexthop via fd00:50:1::3 dev eth0 onlink weight 1",
        );
        let ways = until_ways("20.0.5.0/24", 2);
        assert_shares(&ways, &[("10.50.1.2", 25), ("10.50.1.3", 75)]);
        let ways = until_ways("2001:db8:5::/48", 2);
        assert_shares(&ways, &[("fd00:50:1::2", 50), ("fd00:50:1::3", 50)]);
        assert_eq!(dynamic(lab), (2, 0));
        // Many flows, so that both next hops are asked for.
        for _ in 0..4 {
            assert_eq!(ping(&h1, ip("20.0.5.1")), 63);
            assert_eq!(ping(&h1, ip("2001:db8:5::1")), 63);
        }
        tcp(&h1, &peer, ip("20.0.5.1"), 1 << 20);
        tcp(&h1, &peer, ip("2001:db8:5::1"), 1 << 20);
        // One of them goes.
        change("replace table 100 20.0.5.0/24 via 10.50.1.3 dev eth0 onlink");
        change("del table 100 2001:db8:5::/48 via fd00:50:1::2 dev eth0");
        until_ways("20.0.5.0/24", 1);
        until_ways("2001:db8:5::/48", 1);
        assert_eq!(ping(&h1, ip("20.0.5.1")), 63);
        assert_eq!(ping(&h1, ip("2001:db8:5::1")), 63);
        for (kind, answer) in [
            ("unreachable", "Destination Host Unreachable"),
            ("prohibit", "Packet filtered"),
        ] {
            change(&format!("replace table 100 {kind} 20.0.8.0/24"));
            wait::until("the route is taken over", || {
                (ways_to(lab, "20.0.8.0/24") == [(kind.to_owned(), String::new())]).then_some(())
            });
            let told = h1.run("ping -n -c 1 -W 5 20.0.8.1");
            assert!(told.stdout.contains(answer), "{told}");
        }
        change("replace table 100 blackhole 20.0.8.0/24");
        wait::until("the route is taken over", || {
            (ways_to(lab, "20.0.8.0/24")[0].0 == "blackhole").then_some(())
        });
        no_ping(&h1, ip("20.0.8.1"));
        assert_eq!(dynamic(lab), (3, 0));
        lab.assert_converged(&text);
        watch.signal(nix::sys::signal::Signal::SIGTERM);
        watch.end().expect(0);
        lab.pcn("destroy --yes bird").expect(0);
    });
}

/// BIRD in `bgp`, as the example's comment has it.
const BGP: &str = r#"
log stderr all;
router id 10.50.9.2;
protocol device {}
protocol static router_networks { ipv4; route 10.50.1.0/24 via "eth0"; }
protocol kernel { kernel table 100; ipv4 { export all; }; }
protocol bgp upstream {
  local 10.50.9.2 as 64512; neighbor 10.50.1.2 as 64513; multihop;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import all; export none; };
}
"#;

/// BIRD in `peer`, which announces this many routes.
fn announcing(count: u32) -> String {
    let mut text = "
log stderr all;
router id 10.50.1.2;
protocol device {}
protocol bgp downstream {
  local 10.50.1.2 as 64513; neighbor 10.50.9.2 as 64512; multihop;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import none; export all; };
}
protocol static feed {
  ipv4;
"
    .to_owned();
    for number in 0..count {
        let network = Ipv4Addr::from(0x1400_0000 + (number << 8));
        writeln!(text, "  route {network}/24 blackhole;").expect("text grows");
    }
    text + "}\n"
}

fn start_bird(lab: &Lab, space: &str, config: &str) -> Running {
    let file = lab.file(&format!("{space}.conf"), config);
    lab.space(space)
        .start(&format!("bird -f -c {file} -s {file}.ctl"))
}

#[test]
fn bird_feeds_a_hundred_thousand_routes() {
    run_test(|lab| {
        const COUNT: u32 = 100_000;
        let text = example("bird");
        let watch = start_watch(lab, &text);
        give_peer_addresses(lab);
        let peer = lab.space("peer");
        peer.run("ip address add 21.134.159.1/32 dev lo").expect(0);
        let feeding = start_bird(lab, "peer", &announcing(COUNT));
        let start = Instant::now();
        let following = start_bird(lab, "bgp", BGP);
        let bgp = lab.space("bgp");
        let in_kernel = wait::within(LONG, || {
            let shown = bgp.run("ip -4 route show table 100").stdout;
            (shown.lines().count() > COUNT as usize).then(|| start.elapsed())
        });
        let in_kernel = in_kernel.expect("BIRD writes all routes into the kernel's table");
        let followed = wait::within(LONG, || {
            (dynamic(lab).0 == u64::from(COUNT)).then(|| start.elapsed())
        });
        let followed = followed.unwrap_or_else(|| panic!("not followed: {:?}", dynamic(lab)));
        println!(
            "{COUNT} routes: in the kernel's table after {in_kernel:?}, in the router after {followed:?}"
        );
        let h1 = lab.space("h1");
        // The first ones, and the last.
        assert_eq!(ping(&h1, ip("20.0.5.1")), 63);
        assert_eq!(ping(&h1, ip("21.134.159.1")), 63);
        lab.assert_converged(&text);
        let start = Instant::now();
        let control = lab.file("peer.conf", "") + ".ctl";
        peer.run(&format!("birdc -s {control} disable feed"))
            .expect(0);
        let gone = wait::within(LONG, || (dynamic(lab).0 == 0).then(|| start.elapsed()));
        println!("withdrawn after {:?}", gone.expect("they are withdrawn"));
        no_ping(&h1, ip("20.0.5.1"));
        following.kill();
        feeding.kill();
        watch.signal(nix::sys::signal::Signal::SIGTERM);
        watch.end().expect(0);
        lab.pcn("destroy --yes bird").expect(0);
    });
}
