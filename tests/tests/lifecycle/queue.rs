//! Packets that wait for a neighbour while `pcn watch` runs, and what is left when it does not.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    os::fd::AsFd as _,
};

use bytemuck::bytes_of;
use integration_tests::{
    clock::now,
    command::{Running, run},
    lab::{Lab, Space, Station, run_test},
    traffic::ping,
    wait,
    wire::{Frame, Sum, protocol},
};
use nix::sys::signal::Signal;
use reconciler::kernel::linux::bpf;
use serde_json::Value;

use crate::ip;

/// Nobody but the test knows who is behind the wires.
const ROUTER: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: q }
spec:
  interfaces: { wire0: { hook: tc }, wire1: { hook: tc } }
  cubes:
    r:
      router:
        ports:
          lan: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'], through: [arrived] }
          wan: { addresses: [10.2.255.254/16, 'fd00:2::fe/64'], through: [left] }
    arrived: { helloTransparent: {} }
    left: { helloTransparent: {} }
  links: [[r:lan, wire0], [r:wan, wire1]]
";

/// Two hosts that the router does not know.
fn hosts(make: fn(&str, &str, &[&str]) -> Station) -> (Station, Station) {
    let lan = make("lan", "wire0", &["10.1.0.1/24", "fd00:1::1/64"]);
    lan.run("ip route add default via 10.1.0.254").expect(0);
    lan.run("ip -6 route add default via fd00:1::fe").expect(0);
    let addresses = ["10.2.0.1/16", "10.2.0.2/16", "fd00:2::1/64", "fd00:2::2/64"];
    let wan = make("wan", "wire1", &addresses);
    wan.run("ip route add default via 10.2.255.254").expect(0);
    wan.run("ip -6 route add default via fd00:2::fe").expect(0);
    (lan, wan)
}

/// Starts a watch, and waits until the router gives packets to it.
fn watch(lab: &Lab, text: &str) -> Running {
    let file = lab.file("q.yaml", text);
    let mut running = lab.start_pcn(&format!("watch --interval 1h --poll 1h -f {file}"));
    wait::until("somebody who keeps packets", || {
        assert!(running.is_running(), "it ended: {}", running.stderr());
        (listening(lab)? > now()).then_some(())
    });
    lab.note_objects();
    running
}

/// Until when somebody listens.
fn listening(lab: &Lab) -> Option<u64> {
    let map = bpf::open(&lab.pin("q/cubes/r/listening")).ok()?;
    let value = bpf::lookup(map.as_fd(), bytes_of(&0u32), 8).ok()??;
    Some(u64::from_ne_bytes(value.try_into().ok()?))
}

/// Ends it as systemd does.
#[track_caller]
fn stop(running: Running) {
    running.signal(Signal::SIGTERM);
    let run = running.end().expect(0);
    assert!(!run.stderr.contains("wait for neighbours"), "{run}");
}

/// Interfaces through which packets come back.
fn doors() -> Vec<String> {
    let links = run("ip -j link show").expect(0).json();
    let alias = |link: &Value| link["ifalias"].as_str().unwrap_or_default().to_owned();
    let links = links.as_array().into_iter().flatten();
    links
        .map(alias)
        .filter(|alias| alias.starts_with("pcn-watch:"))
        .collect()
}

fn count(show: &Value, path: &[&str]) -> u64 {
    let value = path.iter().fold(show, |value, key| &value[*key]);
    value.as_u64().unwrap_or(0)
}

/// Packets from the sender that were dropped for want of a neighbour, whether its sender could be
/// told or not: errors are limited.
fn drops(lab: &Lab) -> u64 {
    let show = lab.show("q");
    let drops = |reason| count(&show, &["cubes", "r", "ports", "lan", "drops", reason]);
    drops("neighborUnresolved") + drops("rateLimited")
}

/// Sends a burst to a host that the router does not know, and expects all of it, in order.
fn burst(lab: &Lab, from: &Space, to: &Space, (source, target): (IpAddr, IpAddr)) {
    const BURST: usize = 5;
    // The sender knows the router: that is not what this is about.
    ping(
        from,
        if source.is_ipv4() {
            ip("10.1.0.254")
        } else {
            ip("fd00:1::fe")
        },
    );
    let (client, server) = (from.udp(source, 0), to.udp(target, 0));
    let there = server.local_addr().expect("a bound socket has an address");
    let (before, dropped) = (lab.show("q"), drops(lab));
    let wire = to.wire();
    for number in 0..BURST {
        let sent = client.send_to(&[number as u8; 700], there);
        sent.expect("a datagram can be sent");
    }
    for number in 0..BURST {
        assert_eq!(receive(&server), [number as u8; 700], "{source} {target}");
    }
    let frames = wire.drain();
    let all: Vec<&Frame> = frames.iter().filter(|frame| !frame.outgoing).collect();
    let packets: Vec<_> = all
        .iter()
        .filter_map(|frame| frame.between(source, target, protocol::UDP))
        .collect();
    assert_eq!(packets.len(), BURST, "{all:?}");
    for packet in &packets {
        assert_eq!(packet.hops, 63);
        packet.assert_sums();
    }
    // The first one waited, so its checksum is nobody's to complete any more.
    assert_eq!(packets[0].sum(), Sum::Right);
    assert!(all.iter().any(|frame| frame.asks_for(target)));
    let after = lab.show("q");
    let more = |path: &[&str]| count(&after, path) - count(&before, path);
    // Stacks have seen each packet once, and the question.
    let egress = [
        "cubes",
        "left",
        "attachments",
        "r:wan",
        "egress",
        "rx",
        "packets",
    ];
    assert_eq!(more(&egress), all.len() as u64, "{all:?}");
    let ingress = [
        "cubes",
        "arrived",
        "attachments",
        "r:lan",
        "ingress",
        "rx",
        "packets",
    ];
    let port = ["cubes", "r", "ports", "lan", "rx", "packets"];
    assert_eq!(more(&ingress), more(&port));
    assert_eq!(drops(lab), dropped, "{after}");
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).expect("a datagram comes");
    buffer.truncate(length);
    buffer
}

fn nothing_is_lost(lab: &Lab, text: &str, (lan, wan): (Station, Station)) {
    let watch = watch(lab, text);
    for (own, target) in [("10.1.0.1", "10.2.0.1"), ("fd00:1::1", "fd00:2::1")] {
        burst(lab, &lan, &wan, (ip(own), ip(target)));
    }
    for target in ["10.2.0.2", "fd00:2::2"] {
        let run = lan.run(&format!("ping -n -c 1 -W 5 {target}"));
        assert!(run.stdout.contains("ttl=63"), "the first one: {run}");
    }
    assert!(!doors().is_empty());
    stop(watch);
    assert_eq!(doors(), [""; 0]);
    lab.assert_converged(text);
}

#[test]
fn the_first_packets_wait() {
    run_test(|lab| nothing_is_lost(lab, ROUTER, hosts(Station::new)));
}

#[test]
fn the_first_packets_wait_on_xdp() {
    run_test(|lab| {
        let text = ROUTER.replace("hook: tc", "hook: xdp");
        nothing_is_lost(lab, &text, hosts(Station::for_xdp));
        lab.pcn("destroy --yes q").expect(0);
    });
}

#[test]
fn a_host_that_is_not_there() {
    run_test(|lab| {
        let (lan, _wan) = hosts(Station::new);
        let watch = watch(lab, ROUTER);
        for (target, unreachable) in [
            ("10.2.0.99", "Destination Host Unreachable"),
            ("fd00:2::99", "Destination unreachable: Address unreachable"),
        ] {
            let run = lan.run(&format!("ping -n -c 1 -W 10 {target}"));
            assert!(run.stdout.contains(unreachable), "{run}");
        }
        assert_eq!(drops(lab), 2);
        stop(watch);
        assert_eq!(doors(), [""; 0]);
    });
}

/// Each packet to nobody is dropped and counted in the end, and none of them stays in memory.
#[test]
fn a_flood_to_nobody() {
    const FLOOD: u32 = 10_000;
    run_test(|lab| {
        let (lan, _wan) = hosts(Station::new);
        let watch = watch(lab, ROUTER);
        ping(&lan, ip("10.1.0.254"));
        let before = (memory(&watch), descriptors(&watch));
        let socket = lan.udp(ip("10.1.0.1"), 0);
        for number in 0..FLOOD {
            let [.., high, low] = (number + 1000).to_be_bytes();
            let target = IpAddr::from([10, 2, high, low]);
            let sent = socket.send_to(&[0x5a; 1000], (target, 9));
            sent.or_else(|error| match error.kind() {
                // What a host said that could not be reached is for the next call.
                std::io::ErrorKind::HostUnreachable => Ok(0),
                _ => Err(error),
            })
            .expect("a datagram can be sent");
        }
        wait::until("the end of waiting", || {
            (drops(lab) >= u64::from(FLOOD)).then_some(())
        });
        assert_eq!(drops(lab), u64::from(FLOOD));
        let after = (memory(&watch), descriptors(&watch));
        assert!(after.0 < before.0 + (8 << 10), "{before:?} {after:?} KiB");
        // One way back: a TAP, what is attached to it, and the types of its object.
        assert!(after.1 <= before.1 + 3, "{before:?} {after:?}");
        stop(watch);
        assert_eq!(doors(), [""; 0]);
    });
}

/// Resident memory, in KiB.
fn memory(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a process has memory")
}

fn descriptors(running: &Running) -> usize {
    let directory = fs::read_dir(format!("/proc/{}/fd", running.pid()));
    directory.expect("it runs").count()
}

#[test]
fn a_watch_that_is_killed() {
    run_test(|lab| {
        let (lan, wan) = hosts(Station::new);
        let running = watch(lab, ROUTER);
        let to_nobody = lan.start("ping -n -c 1 -W 10 10.2.0.99");
        wait::until("a way back", || (!doors().is_empty()).then_some(()));
        running.kill();
        assert_eq!(doors(), [""; 0]);
        drop(to_nobody);
        wait::until("the end of listening", || {
            (listening(lab)? <= now()).then_some(())
        });
        // As without it: the first packet is lost, and the next ones are not.
        let before = drops(lab);
        let run = lan.run("ping -n -c 1 -W 0.5 10.2.0.1");
        assert!(run.stdout.contains(" 0 received"), "{run}");
        assert_eq!(drops(lab), before + 1);
        assert_eq!(ping(&lan, ip("10.2.0.1")), 63);
        // And one that starts again keeps them again.
        let watch = watch(lab, ROUTER);
        burst(lab, &lan, &wan, (ip("fd00:1::1"), ip("fd00:2::1")));
        stop(watch);
    });
}

/// An apply that replaces the router's chain, or takes the router away, is noticed.
#[test]
fn a_router_that_changes() {
    run_test(|lab| {
        let (lan, wan) = hosts(Station::new);
        let watch = watch(lab, ROUTER);
        burst(lab, &lan, &wan, (ip("10.1.0.1"), ip("10.2.0.1")));
        assert_eq!(doors().len(), 1);
        // More ports than the chain has room for.
        let ports: String = (0..70)
            .map(|port| format!("          p{port}: {{ addresses: [10.3.{port}.1/24] }}\n"))
            .collect();
        let file = lab.file("q.yaml", ROUTER);
        let larger = ROUTER.replace("          wan:", &format!("{ports}          wan:"));
        fs::write(&file, &larger).expect("a file in a tmpfs");
        wait::until("the new router", || {
            (lab.plan(&larger).stdout == "No changes.\n").then_some(())
        });
        lab.note_objects();
        burst(lab, &lan, &wan, (ip("fd00:1::1"), ip("fd00:2::1")));
        // And away with it.
        lab.pcn("destroy --yes q").expect(0);
        wait::until("the end of all ways back", || {
            doors().is_empty().then_some(())
        });
        stop(watch);
    });
}

/// The same hosts, two routers apart.
const TWO_ROUTERS: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: q }
spec:
  interfaces: { wire0: { hook: tc }, wire1: { hook: tc } }
  cubes:
    r:
      router:
        ports:
          lan: { addresses: [10.1.0.254/24, 'fd00:1::fe/64'] }
          up: { addresses: [192.0.2.1/30, 'fd00:3::1/64'] }
        routes: [{ to: 10.2.0.0/16, via: 192.0.2.2 }, { to: 'fd00:2::/64', via: 'fd00:3::2' }]
    s:
      router:
        ports:
          down: { addresses: [192.0.2.2/30, 'fd00:3::2/64'] }
          wan: { addresses: [10.2.255.254/16, 'fd00:2::fe/64'] }
        routes: [{ to: 10.1.0.0/24, via: 192.0.2.1 }, { to: 'fd00:1::/64', via: 'fd00:3::1' }]
  links: [[r:lan, wire0], [r:up, s:down], [s:wan, wire1]]
";

#[test]
fn the_first_packets_wait_behind_another_router() {
    run_test(|lab| {
        let (lan, _wan) = hosts(Station::new);
        let watch = watch(lab, TWO_ROUTERS);
        for target in ["10.2.0.2", "fd00:2::2"] {
            let run = lan.run(&format!("ping -n -c 1 -W 5 {target}"));
            assert!(run.stdout.contains("ttl=62"), "the first one: {run}");
        }
        stop(watch);
        lab.assert_converged(TWO_ROUTERS);
    });
}

#[test]
fn a_machine_without_tap_interfaces() {
    run_test(|lab| {
        let (lan, _wan) = hosts(Station::new);
        run("mount -t tmpfs tmpfs /dev/net").expect(0);
        let file = lab.file("q.yaml", ROUTER);
        let mut running = lab.start_pcn(&format!("watch --interval 1h --poll 1h -f {file}"));
        wait::until("a word of what cannot be done", || {
            assert!(running.is_running(), "it ended: {}", running.stderr());
            let said = "the first packets to unknown neighbours are dropped: /dev/net/tun";
            running.stderr().contains(said).then_some(())
        });
        lab.note_objects();
        // As without a watch: the first one is lost, and counted; the next is not.
        let before = drops(lab);
        let run = lan.run("ping -n -c 2 -i 0.3 -W 5 10.2.0.2");
        assert!(run.stdout.contains("1 received"), "{run}");
        assert_eq!(drops(lab), before + 1);
        stop(running);
        lab.assert_converged(ROUTER);
    });
}
