//! `firewall`: what rules match, what connections are in, what rejected packets are answered.
//!
//! The settings are YAML, and the driver under test makes tables of them. A firewall's programs for both directions
//! share their tables, so sequences of packets in both directions can be run.

mod answers;
mod connections;
mod limits;
mod linux;
mod rules;
mod stacks;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use bytemuck::bytes_of;
use ebpf_abi::{
    chain::{CubeChain, Direction, MIN_PORTS},
    counters::DropReason,
    port::{HOP_INTERFACE, HOP_PASS, Hop},
    transparent::Attachment,
};
use integration_tests::{
    cube::{Cube, Globals, Kind},
    packet::{Layer, Packet, ether},
    private_net::{self, LOOPBACK},
    require,
    test_run::{Gso, Hook, Verdict},
};
use reconciler::{
    allocation::Allocation, desired::desired, down::Down, graph::TopologyGraph, resource::Entries,
};
use topology_schema::{Source, load};

/// Outside, where ingress comes from.
const OUT: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Inside.
const IN: [u8; 6] = [2, 0, 0, 0, 0, 2];
const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 3);

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    Dropped(&'static str),
    /// Sent back as this, and counted as dropped.
    Answered(&'static str, Vec<u8>),
}

const PASSED: Fate = Fate::Passed;
const POLICY: Fate = Fate::Dropped("policy");

/// A firewall whose programs are loaded.
struct Firewall {
    programs: [Cube; 2],
}

impl Firewall {
    /// With settings in flow style: `{ ingress: ... }`.
    fn new(hook: Hook, settings: &str) -> Self {
        Self::at(hook, settings, "e: { through: [fw] }")
    }

    /// At one of these interfaces.
    fn at(hook: Hook, settings: &str, interfaces: &str) -> Self {
        Self::answering(hook, settings, interfaces, (HOP_INTERFACE, LOOPBACK))
    }

    /// The same, with another way for answers.
    fn answering(hook: Hook, settings: &str, interfaces: &str, back: (u32, u32)) -> Self {
        let text = format!(
            "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: t }}\nspec:\n  interfaces: {{ {interfaces} }}\n  cubes: {{ fw: {{ firewall: {settings} }} }}\n"
        );
        let source = Source {
            name: "test".to_owned(),
            text,
        };
        let (topology, _) =
            load(&source).unwrap_or_else(|problems| panic!("{}", problems.render(&source)));
        let graph = TopologyGraph::new(&topology);
        let allocation = Allocation::new(&graph, &Allocation::default());
        let present = BTreeSet::from(["e".parse().expect("a name")]);
        let desired = desired(&graph, &allocation, &present, &Down::new());

        let mut programs = desired.programs.values();
        let program = programs
            .find(|program| program.object == "firewall")
            .expect("it is in the stack");
        let constants: Globals = program
            .globals
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.bytes.clone()))
            .collect();
        let tables: Vec<_> = desired
            .maps
            .iter()
            .filter(|(path, _)| path.as_str().starts_with("cubes/fw/"))
            .collect();
        let names: BTreeMap<String, u32> = tables
            .iter()
            .map(|(path, map)| (path.name().to_owned(), map.shape.max_entries))
            .collect();
        let capacities: BTreeMap<&str, u32> = names
            .iter()
            .map(|(name, entries)| (name.as_str(), *entries))
            .collect();

        let kind = Kind::parse("firewall");
        let globals = |direction: Direction| {
            let mut globals = constants.clone();
            let attachment = |hop, counter| {
                let attachment = Attachment {
                    direction: direction as u32,
                    counter,
                    slot: 0,
                    hop,
                };
                bytes_of(&attachment).to_vec()
            };
            let to = |kind, ifindex| Hop {
                kind,
                ifindex,
                port: 0,
            };
            let pass = attachment(to(HOP_PASS, 0), direction as u32);
            globals.insert("ATTACHMENT".to_owned(), pass);
            let back = attachment(to(back.0, back.1), 0);
            globals.insert("BACK".to_owned(), back);
            let slot = CubeChain::for_ports(MIN_PORTS).part(1 + direction as u32);
            globals.insert("PART".to_owned(), bytes_of(&slot).to_vec());
            globals
        };
        let ingress = kind.load(hook, &globals(Direction::Ingress), &capacities);
        let egress = ingress.twin(&kind, &globals(Direction::Egress));
        for (path, map) in tables {
            for (key, value) in map.content.entries().into_iter().flat_map(Entries::iter) {
                ingress.write_bytes(path.name(), &key, value.bytes);
            }
        }
        Self {
            programs: [ingress, egress],
        }
    }

    /// Lets a packet meet the program of a direction.
    fn meet(&self, direction: Direction, packet: &[u8]) -> Fate {
        self.meet_segments(direction, packet, Gso::default())
    }

    fn meet_segments(&self, direction: Direction, packet: &[u8], gso: Gso) -> Fate {
        let cube = &self.programs[direction as usize];
        let before = &cube.counters(2)[direction as usize];
        let run = cube.run(0, packet, gso);
        let after = &cube.counters(2)[direction as usize];
        let segments = u64::from(gso.segments.max(1));
        assert_eq!(after.rx_packets, before.rx_packets + segments);
        let mut reasons = DropReason::ALL.iter();
        let dropped = reasons.find(|reason| {
            let at = **reason as usize;
            after.drops[at] != before.drops[at]
        });
        match (run.verdict, dropped) {
            (Verdict::Pass, None) => {
                assert_eq!(run.packet, packet, "it passes as it is");
                assert_eq!(after.tx_packets, before.tx_packets + segments);
                Fate::Passed
            }
            (Verdict::Drop, Some(reason)) => Fate::Dropped(reason.name()),
            (Verdict::Redirect, Some(reason)) => Fate::Answered(reason.name(), run.packet),
            (verdict, dropped) => panic!("{verdict:?} {dropped:?}"),
        }
    }

    /// From outside.
    fn ingress(&self, packet: &Packet) -> Fate {
        self.meet(Direction::Ingress, &packet.bytes())
    }

    /// From inside.
    fn egress(&self, packet: &Packet) -> Fate {
        self.meet(Direction::Egress, &packet.bytes())
    }

    fn cube(&self) -> &Cube {
        &self.programs[0]
    }
}

/// Runs a test on both hooks.
fn on_both(test: impl Fn(Hook) + Send + Sync) {
    if !require::root() {
        return;
    }
    private_net::run(|_| Hook::ALL.into_iter().for_each(&test));
}

/// From outside, in IPv4.
fn from_a(upper: impl Into<Layer>) -> Packet {
    ether(OUT, IN) / integration_tests::packet::ipv4(A, B) / upper
}

/// From inside, in IPv4.
fn from_b(upper: impl Into<Layer>) -> Packet {
    ether(IN, OUT) / integration_tests::packet::ipv4(B, A) / upper
}

/// From outside, in IPv6.
fn from_a6(upper: impl Into<Layer>) -> Packet {
    ether(OUT, IN) / integration_tests::packet::ipv6(A6, B6) / upper
}

/// From inside, in IPv6.
fn from_b6(upper: impl Into<Layer>) -> Packet {
    ether(IN, OUT) / integration_tests::packet::ipv6(B6, A6) / upper
}

/// What a rule is known by in tables: `ingress/NAME`.
fn identity(key: &str) -> u32 {
    let rule = reconciler::classify::Rule {
        key: key.to_owned(),
        ..Default::default()
    };
    rule.identity()
}

/// Instructions of one program that the verifier may have to walk.
const MOST: u32 = 20_000;

/// What the verifier has to walk, of programs that do more and more.
#[test]
fn programs_stay_small() {
    on_both(|hook| {
        let rules = "rules: [{ source: \"@s\", protocol: tcp, destinationPort: 80, action: reject, log: true, limit: 10/s }]";
        for (name, settings) in [
            (
                "rules, no tracking",
                format!(
                    "{{ conntrack: false, sets: {{ s: [10.0.0.0/8] }}, ingress: {{ {rules} }} }}"
                ),
            ),
            ("tracking", "{ ingress: { default: drop } }".to_owned()),
            (
                "tracking with windows",
                "{ tcpWindowCheck: true, ingress: { default: drop } }".to_owned(),
            ),
            (
                "everything",
                format!("{{ sets: {{ s: [10.0.0.0/8] }}, ingress: {{ {rules} }} }}"),
            ),
            (
                "everything with windows",
                format!(
                    "{{ tcpWindowCheck: true, sets: {{ s: [10.0.0.0/8] }}, ingress: {{ {rules} }} }}"
                ),
            ),
        ] {
            let several = "e: { through: [fw] }, f: { through: [fw] }";
            let firewall = Firewall::at(hook, &settings, several);
            let mut walked = vec![firewall.cube().verified_instructions()];
            walked.extend(firewall.cube().verified_instructions_of_parts());
            println!("{hook:?}, {name}: {walked:?} instructions");
            let is_small = walked.iter().all(|walked| *walked < MOST);
            assert!(is_small, "{hook:?}, {name}: {walked:?}");
        }
    });
}
