//! Random and mutated packets: no program fails on any, and each packet is counted once.

use std::net::{Ipv4Addr, Ipv6Addr};

use ebpf_abi::{
    bridge,
    counters::Counters,
    forwarder::action_forward,
    hello,
    port::{HOP_PASS, Hop, PORT_VIA_TC},
    router::{ICMP_BURST, IcmpBudget},
    transparent::Attachment,
};
use integration_tests::{
    clock::{SECOND, now},
    cube::{Cube, Globals, Kind},
    packet::*,
    private_net, require,
    test_run::{Gso, Hook, Run, Verdict},
};
use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};

use crate::router;

/// Packets per kind; each runs on both hooks.
const CASES: u32 = 1500;
/// Ports of all cubes here.
const PORTS: u32 = 4;

/// A frame, where it comes in, and whether the router may still send errors.
#[derive(Clone, Debug)]
struct Input {
    port: u32,
    frame: Vec<u8>,
    errors: bool,
}

fn inputs() -> impl Strategy<Value = Input> {
    let noise = prop::collection::vec(any::<u8>(), 14..1600);
    let mutated = (
        select(seeds()),
        prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        prop::option::weighted(0.2, any::<Index>()),
        prop::collection::vec(any::<u8>(), 0..20),
    )
        .prop_map(|(mut bytes, changes, cut, more)| {
            bytes.extend(more);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let shortest = 14;
            let end = cut.map_or(bytes.len(), |cut| {
                shortest + cut.index(bytes.len() - shortest + 1)
            });
            bytes.truncate(end);
            bytes
        });
    let frames = prop_oneof![1 => noise, 9 => mutated];
    // Mostly to the router's station on the port.
    let to_us = prop::bool::weighted(0.8);
    (0..PORTS, frames, to_us, prop::bool::weighted(0.8)).prop_map(
        |(port, mut frame, to_us, errors)| {
            if to_us && frame[..5] == [2, 0, 0, 0, 0] {
                frame[5] = 0x10 + port as u8;
            }
            Input {
                port,
                frame,
                errors,
            }
        },
    )
}

/// Packets that get far into the programs: addresses are those of the router's tables.
fn seeds() -> Vec<Vec<u8>> {
    let (a, r) = ([2, 0, 0, 0, 0, 0xa], [2, 0, 0, 0, 0, 0x10]);
    let v4 = |port, host| Ipv4Addr::new(10, 0, port, host);
    let v6 = |port, host| Ipv6Addr::new(0x2001, 0xdb8, port, 0, 0, 0, 0, host);
    let there = || ipv4(v4(0, 2), v4(1, 2));
    let there_v6 = || ipv6(v6(0, 2), v6(1, 2));
    let solicit = || solicitation(v6(0, 1)).source_address(a);
    [
        ether(a, r) / there() / udp(1, 2) / payload(30),
        ether(a, r) / there().ttl(1) / udp(1, 2) / payload(301),
        ether(a, r) / there().options(&[7, 7, 4, 0, 0, 0, 0, 0]) / tcp(1, 2) / payload(40),
        ether(a, r) / ipv4(v4(0, 2), v4(2, 2)).dont_fragment() / tcp(1, 2) / payload(1460),
        ether(a, r) / ipv4(v4(0, 2), Ipv4Addr::new(203, 0, 113, 1)) / udp(1, 2),
        ether(a, r) / ipv4(v4(0, 2), v4(0, 1)) / echo(1, 1) / payload(31),
        ether(a, r) / ipv4(v4(0, 2), v4(0, 1)) / tcp(1, 2),
        ether(a, r) / there() / icmp(3, 1, 0) / payload(28),
        ether(a, BROADCAST) / arp_request((a, v4(0, 2)), v4(0, 1)),
        ether(a, r) / arp_reply((a, v4(0, 2)), (r, v4(0, 1))),
        ether(a, r) / there_v6() / udp(1, 2) / payload(30),
        ether(a, r) / there_v6().hop_limit(1) / udp(1, 2) / payload(1400),
        ether(a, r) / ipv6(v6(0, 2), v6(2, 2)) / tcp(1, 2) / payload(1440),
        ether(a, r) / ipv6(v6(0, 2), v6(0, 1)) / echo_v6(1, 1) / payload(31),
        ether(a, r) / ipv6(v6(0, 2), v6(0, 1)) / udp(1, 2),
        ether(a, r) / ipv6(v6(0, 2), v6(0, 1)).hop_limit(255) / solicit(),
        ether(a, r) / ipv6(Ipv6Addr::UNSPECIFIED, v6(0, 1)).hop_limit(255) / solicit(),
        ether(a, r)
            / ipv6(v6(0, 2), v6(0, 1)).hop_limit(255)
            / advertisement(v6(0, 2), 3).target_address(a),
        ether(a, r) / vlan(5) / there() / udp(1, 2) / payload(20),
        ether(a, r) / qinq(5) / vlan(6) / there_v6() / udp(1, 2) / payload(20),
    ]
    .map(|packet| packet.bytes())
    .into()
}

/// The kernel's test run refuses packets on TC that end inside the IP header.
fn kernel_takes(hook: Hook, frame: &[u8]) -> bool {
    let shortest = match frame[12..14] {
        [0x08, 0x00] => 14 + 20,
        [0x86, 0xdd] => 14 + 40,
        _ => 14,
    };
    hook == Hook::Xdp || frame.len() >= shortest
}

/// What one packet added to the counters of all ports.
struct Added {
    received: u64,
    sent: u64,
    dropped: u64,
}

fn total(counters: &[Counters]) -> Added {
    Added {
        received: counters.iter().map(|port| port.rx_packets).sum(),
        sent: counters.iter().map(|port| port.tx_packets).sum(),
        dropped: counters.iter().flat_map(|port| port.drops).sum(),
    }
}

/// Says what is wrong with what became of a packet.
type Law = fn(&Added, &Run) -> Result<(), String>;

fn law(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// It goes out or is dropped.
fn out_or_dropped(added: &Added, run: &Run) -> Result<(), String> {
    law(added.sent + added.dropped == 1, "sent or dropped, and once")?;
    law(
        (added.sent == 1) == (run.verdict != Verdict::Drop),
        "counted as the verdict says",
    )
}

/// It goes out, is dropped, or is copied to all other ports.
fn bridged(added: &Added, run: &Run) -> Result<(), String> {
    if run.verdict == Verdict::Drop && added.dropped == 0 {
        return law(
            added.sent == u64::from(PORTS) - 1,
            "one copy for each other port",
        );
    }
    out_or_dropped(added, run)
}

/// It goes out, is dropped, ends here, or is dropped and replaced by a packet of the router's.
fn routed(added: &Added, run: &Run) -> Result<(), String> {
    law(added.sent <= 1 && added.dropped <= 1, "at most once each")?;
    law(
        (added.sent == 1) == (run.verdict == Verdict::Redirect),
        "counted as the verdict says",
    )?;
    if added.sent == 0 {
        return Ok(());
    }
    let problems = problems(&run.packet);
    match added.dropped {
        // What it forwards may be wrong inside, but its own header is right.
        0 => law(
            !problems.iter().any(|problem| problem.starts_with("ipv4")),
            "a wrong header was sent",
        ),
        _ => law(problems.is_empty(), "the router made a wrong packet"),
    }
}

fn check(
    kind: &'static str,
    globals: Globals,
    setup: fn(&Cube),
    refresh: fn(&Cube, &Input),
    law: Law,
) {
    if !require::root() {
        return;
    }
    private_net::run(|_| {
        let kind = Kind::parse(kind);
        let cubes = Hook::ALL.map(|hook| kind.load(hook, &globals, &Default::default()));
        cubes.iter().for_each(setup);
        let mut runner = TestRunner::new(Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        });
        let result = runner.run(&inputs(), |input| {
            for cube in &cubes {
                if kernel_takes(cube.hook, &input.frame) {
                    refresh(cube, &input);
                    one_packet(cube, input.port, &input.frame, law).map_err(TestCaseError::fail)?;
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
    });
}

fn one_packet(cube: &Cube, port: u32, frame: &[u8], law: Law) -> Result<(), String> {
    let before = total(&cube.counters(PORTS));
    let run = cube.run(port, frame, Gso::default());
    let after = total(&cube.counters(PORTS));
    let added = Added {
        received: after.received - before.received,
        sent: after.sent - before.sent,
        dropped: after.dropped - before.dropped,
    };
    let context = |problem: String| {
        let Added {
            received,
            sent,
            dropped,
        } = added;
        let hook = cube.hook;
        format!(
            "{problem}: on {hook:?} received {received}, sent {sent}, dropped {dropped}, {run:02x?}"
        )
    };
    if matches!(run.verdict, Verdict::Unknown(_)) {
        return Err(context("no such verdict".to_owned()));
    }
    if added.received == 0 {
        let handed_over =
            cube.hook == Hook::Xdp && run.verdict == Verdict::Redirect && run.packet == frame;
        let uncounted = added.sent + added.dropped == 0;
        return self::law(
            handed_over && uncounted,
            "not counted, and not handed over as it was",
        )
        .map_err(context);
    }
    self::law(added.received == 1, "received once")
        .and_then(|()| law(&added, &run))
        .map_err(context)
}

fn globals<T: bytemuck::Pod>(name: &str, value: T) -> Globals {
    Globals::from([(name.to_owned(), bytemuck::bytes_of(&value).to_vec())])
}

fn linked(cube: &Cube) {
    cube.link_ports(0..PORTS);
    for port in 0..PORTS {
        cube.change_port(port, |port| port.handover_ifindex = private_net::LOOPBACK);
    }
    cube.change_port(2, |port| port.flags |= PORT_VIA_TC);
}

fn no_tables(_: &Cube) {}

fn nothing(_: &Cube, _: &Input) {}

#[test]
fn hello() {
    let settings = hello::Settings {
        forward: 1,
        ports: [0, 1],
    };
    check(
        "hello",
        globals("SETTINGS", settings),
        linked,
        nothing,
        out_or_dropped,
    );
}

#[test]
fn forwarder() {
    let setup = |cube: &Cube| {
        linked(cube);
        (0..2u32).for_each(|port| cube.write("actions", port, action_forward(port + 1)));
    };
    check("forwarder", Globals::new(), setup, nothing, out_or_dropped);
}

#[test]
fn bridge() {
    let setup = |cube: &Cube| {
        linked(cube);
        cube.write_banked("flood", 0, PORTS);
        (0..PORTS).for_each(|port| cube.write_banked("flood", port + 1, port));
    };
    let settings = bridge::Settings {
        aging_time: 300 * SECOND,
        ..bridge::Settings::default()
    };
    check(
        "bridge",
        globals("SETTINGS", settings),
        setup,
        nothing,
        bridged,
    );
}

#[test]
fn router() {
    // Neighbours on one port are known, so that packets get through.
    let refresh = |cube: &Cube, input: &Input| {
        router::know_neighbors(cube);
        let budget = IcmpBudget {
            tokens: if input.errors { ICMP_BURST } else { 0 },
            refilled: now(),
        };
        cube.write_all_cpus("icmp_budget", 0u32, budget);
    };
    let setup = |cube: &Cube| {
        router::four_ports(cube);
        cube.change_port(2, |port| port.flags |= PORT_VIA_TC);
    };
    check("router", Globals::new(), setup, refresh, routed);
}

#[test]
fn transparent() {
    let hop = Hop {
        kind: HOP_PASS,
        ..Hop::default()
    };
    let attachment = || {
        globals(
            "ATTACHMENT",
            Attachment {
                hop,
                ..Attachment::default()
            },
        )
    };
    check(
        "hello_transparent",
        attachment(),
        no_tables,
        nothing,
        out_or_dropped,
    );
    check(
        "ddos_mitigator",
        attachment(),
        crate::ddos_mitigator::lists,
        nothing,
        out_or_dropped,
    );
}
