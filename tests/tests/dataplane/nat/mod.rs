//! `nat`: what becomes of packets in both directions, with the sessions that they make.

mod errors;
mod families;
mod family_errors;
mod filtering;
mod forwards;
mod ports;
mod prefixes;
mod sessions;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::bytes_of;
use ebpf_abi::{
    address::{Be16, V6},
    chain::Direction,
    counters::DropReason,
    nat::{
        FEATURE_DESTINATION, FEATURE_OPEN, FEATURE_PREFIX, FEATURE_SOURCE, FIRST_POOL,
        FORWARD_BITS, Forward, ForwardKey, LIST_MASQUERADE, LIST_SNAT, Mapping, MappingKey, Pool,
        RULE_DNAT, RULE_PORT_FORWARD, SIDE_OUTSIDE, Session, Settings, SourceKey, SourceRule,
        masquerade_pool,
    },
    port::{HOP_PASS, Hop},
    transparent::Attachment,
};
use integration_tests::{
    cube::Cube,
    packet::{Ethernet, Packet, ether},
    table::{Row, Table, dropped, passed, table},
};

/// Both directions count here, so that the program believes to be on attachment 1.
const COUNTER: u32 = 2;
const PORT: u32 = 9;

const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// Has an entry of `snat` of its own.
const SPECIAL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const POOL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 80);
const INSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const EXTERNAL_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 7);
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x80);

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 0x04;

const SECOND: u64 = 1_000_000_000;

fn frame() -> Ethernet {
    ether([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

fn attachment(direction: Direction) -> Attachment {
    Attachment {
        direction: direction as u32,
        counter: COUNTER,
        slot: 0,
        hop: Hop {
            kind: HOP_PASS,
            ..Hop::default()
        },
    }
}

const SETTINGS: Settings = Settings {
    features: FEATURE_SOURCE | FEATURE_DESTINATION | FEATURE_PREFIX | FEATURE_OPEN,
    tcp_established: 7440 * SECOND,
    tcp_transitory: 240 * SECOND,
    udp: 300 * SECOND,
    icmp: 60 * SECOND,
    other: 600 * SECOND,
    sessions: 1024,
    prefix_length: 0,
    prefix: V6::UNSPECIFIED,
};

fn words(address: impl Into<IpAddr>) -> V6 {
    V6::new(match address.into() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}

fn source(cube: &Cube, list: u32, network: impl Into<IpAddr>, length: u32, pool: u32) {
    let network = network.into();
    let family = if network.is_ipv4() { 96 } else { 0 };
    let key = SourceKey {
        length: 32 + family + length,
        list,
        address: words(network),
    };
    let rule = SourceRule {
        pool,
        count: 1,
        length,
    };
    cube.write("sources", key, rule);
}

fn pool(cube: &Cube, number: u32, address: impl Into<IpAddr>) {
    let pool = Pool {
        address: words(address),
        flags: 0,
    };
    cube.write("pools", number, pool);
}

/// `length` bits of the port count; `protocol` 0 stands for all.
fn forward(
    cube: &Cube,
    (protocol, address, port, length): (u16, IpAddr, u16, u32),
    (to, shift, rule): (IpAddr, u16, u8),
) {
    let key = ForwardKey {
        length: FORWARD_BITS + length,
        address: words(address),
        protocol: Be16::new(protocol),
        port: Be16::new(port),
    };
    let forward = Forward {
        address: words(to),
        shift,
        rule,
        padding: 0,
        ports: 0,
    };
    cube.write("forwards", key, forward);
}

/// Everybody inside 10.0.0.0/8 and fd00::/8 is masqueraded, and 10.9.0.0/16 has an address of
/// its own. Two ports and an address lead inside.
fn rules(cube: &Cube) {
    pool(cube, masquerade_pool(1, 4), EXTERNAL);
    pool(cube, masquerade_pool(1, 6), EXTERNAL_V6);
    pool(cube, FIRST_POOL, POOL);
    source(cube, LIST_MASQUERADE, Ipv4Addr::new(10, 0, 0, 0), 8, 0);
    source(
        cube,
        LIST_MASQUERADE,
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0),
        8,
        0,
    );
    source(cube, LIST_SNAT, Ipv4Addr::new(10, 9, 0, 0), 16, FIRST_POOL);
    cube.write("externals", words(POOL), 1u32);
    let (external, server) = (EXTERNAL.into(), SERVER.into());
    // 8080 leads to 80 of the server, for TCP; 9000 to 9007 to the same ports of another host.
    forward(
        cube,
        (6, external, 8080, 16),
        (server, 80u16.wrapping_sub(8080), RULE_PORT_FORWARD),
    );
    forward(
        cube,
        (0, external, 9000, 13),
        (OTHER.into(), 0, RULE_PORT_FORWARD),
    );
    forward(cube, (0, POOL.into(), 0, 0), (SPECIAL.into(), 0, RULE_DNAT));
    forward(
        cube,
        (6, EXTERNAL_V6.into(), 8080, 16),
        (
            SERVER_V6.into(),
            80u16.wrapping_sub(8080),
            RULE_PORT_FORWARD,
        ),
    );
}

fn nat() -> Table {
    table("nat", rules)
        .counts_at(COUNTER)
        .global("SETTINGS", SETTINGS)
        .global("ATTACHMENT", attachment(Direction::Egress))
}

/// A row with both directions.
trait Talk: Sized {
    /// A packet leaves, and is another one outside.
    fn out(self, packet: &Packet, becomes: &Packet) -> Self;
    /// A packet comes in, and is another one inside.
    fn comes_in(self, packet: &Packet, becomes: &Packet) -> Self;
    fn out_dropped(self, packet: &Packet, reason: DropReason) -> Self;
    fn in_dropped(self, packet: &Packet, reason: DropReason) -> Self;
}

impl Talk for Row {
    fn out(self, packet: &Packet, becomes: &Packet) -> Self {
        self.reload("ATTACHMENT", attachment(Direction::Egress))
            .send(PORT, packet, passed(COUNTER, PORT, becomes))
    }

    fn comes_in(self, packet: &Packet, becomes: &Packet) -> Self {
        self.reload("ATTACHMENT", attachment(Direction::Ingress))
            .send(PORT, packet, passed(COUNTER, PORT, becomes))
    }

    fn out_dropped(self, packet: &Packet, reason: DropReason) -> Self {
        self.reload("ATTACHMENT", attachment(Direction::Egress))
            .send(PORT, packet, dropped(reason))
    }

    fn in_dropped(self, packet: &Packet, reason: DropReason) -> Self {
        self.reload("ATTACHMENT", attachment(Direction::Ingress))
            .send(PORT, packet, dropped(reason))
    }
}

/// All sessions there are, in no order.
fn sessions(cube: &Cube) -> Vec<(u32, Session)> {
    (0..)
        .map_while(|slot| Some((slot, cube.read::<u32, Session>("sessions", slot)?)))
        .filter(|(_, session)| session.word & 3 == 1)
        .collect()
}

/// Makes all sessions older, and their mappings.
fn age(cube: &Cube, nanoseconds: u64) {
    for (slot, mut session) in sessions(cube) {
        session.seen = session.seen.wrapping_sub(nanoseconds);
        session.created = session.created.wrapping_sub(nanoseconds);
        cube.write("sessions", slot, session);
        let external = session.keys[Direction::Ingress as usize];
        let key = MappingKey {
            address: external.destination,
            port: external.destination_port,
            protocol: external.protocol,
            side: SIDE_OUTSIDE,
            pool: 0,
        };
        if let Some(mut mapping) = cube.read::<_, Mapping>("mappings", key) {
            mapping.seen = mapping.seen.min(session.seen);
            cube.write("mappings", key, mapping);
        }
    }
}

/// Ports that are taken of a pool.
fn used(cube: &Cube, pool: u32, kind: u32) -> u32 {
    let ports: ebpf_abi::nat::Ports = cube
        .read("used", ebpf_abi::nat::ports_index(pool, kind))
        .expect("the array is as long");
    bytes_of(&ports).iter().map(|byte| byte.count_ones()).sum()
}

/// Instructions that the verifier walks for each direction: what is off is not walked.
#[test]
fn the_verifier_does_not_walk_what_is_off() {
    use ebpf_abi::nat::{FEATURE_FAMILIES, FEATURE_KNOWN, FEATURE_PAIRS};
    use integration_tests::{private_net, require, test_run::Hook};
    if !require::root() {
        return;
    }
    private_net::run(|_| {
        let kind = integration_tests::cube::Kind::parse("nat");
        let walked = |features, hook, direction| {
            let settings = Settings {
                features,
                prefix_length: 96,
                ..SETTINGS
            };
            let globals = [
                ("SETTINGS".to_owned(), bytes_of(&settings).to_vec()),
                (
                    "ATTACHMENT".to_owned(),
                    bytes_of(&attachment(direction)).to_vec(),
                ),
            ];
            kind.load(hook, &globals.into(), &Default::default())
                .verified_instructions()
        };
        let masquerading = FEATURE_SOURCE | FEATURE_OPEN;
        let all = masquerading | FEATURE_DESTINATION | FEATURE_PREFIX;
        let families = FEATURE_FAMILIES | FEATURE_OPEN;
        for hook in Hook::ALL {
            for direction in [Direction::Egress, Direction::Ingress] {
                let walked = |features| walked(features, hook, direction);
                let figures = [
                    ("masquerading", walked(masquerading)),
                    ("all of one family", walked(all)),
                    ("NAT64", walked(families)),
                    ("NAT64 and NAT46", walked(families | FEATURE_PAIRS)),
                    (
                        "everything",
                        walked(all | families | FEATURE_PAIRS | FEATURE_KNOWN),
                    ),
                ];
                println!("{hook:?} {direction:?}: {figures:?}");
                let [(_, least), .., (_, most)] = figures;
                assert!(least < 20_000, "{figures:?}");
                assert!(least < most && most < 40_000, "{figures:?}");
            }
        }
    });
}
