//! Who may send to an external port that an inside host has (RFC 4787, 5).

use ebpf_abi::nat::FEATURE_KNOWN;
use integration_tests::{
    packet::{Packet, ipv4, payload, udp},
    table::{Row, row},
};

use super::*;

const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);

fn from(address: Ipv4Addr, port: u16, to: Ipv4Addr) -> Packet {
    frame() / ipv4(address, to) / udp(port, 4000) / payload(9)
}

/// The inside host sends to one port of the remote host.
fn open(name: &'static str, features: u64) -> Row {
    let packet = |source| frame() / ipv4(source, REMOTE) / udp(4000, 53) / payload(9);
    let settings = Settings {
        features,
        ..SETTINGS
    };
    row(name)
        .global("SETTINGS", settings)
        .out(&packet(INSIDE), &packet(EXTERNAL))
        .comes_in(&from(REMOTE, 53, EXTERNAL), &from(REMOTE, 53, INSIDE))
}

fn rows() -> Vec<Row> {
    let strict = FEATURE_SOURCE;
    let known = FEATURE_SOURCE | FEATURE_OPEN | FEATURE_KNOWN;
    let passes = |row: Row, address, port| {
        row.comes_in(&from(address, port, EXTERNAL), &from(address, port, INSIDE))
    };
    // The external address is the router's own: what nobody has a session for is the router's.
    let stays = |row: Row, address, port| {
        let packet = from(address, port, EXTERNAL);
        row.comes_in(&packet, &packet)
    };
    let everybody = open("endpoint-independent", FEATURE_SOURCE | FEATURE_OPEN);
    let everybody = passes(passes(everybody, REMOTE, 54), STRANGER, 53);
    let address = open("address-dependent", known);
    let address = stays(passes(address, REMOTE, 54), STRANGER, 53);
    let both = open("address- and port-dependent", strict);
    let both = stays(stays(both, REMOTE, 54), STRANGER, 53);
    let other = frame() / ipv4(INSIDE, REMOTE) / udp(4001, 53) / payload(9);
    let other_external = frame() / ipv4(EXTERNAL, REMOTE) / udp(4001, 53) / payload(9);
    let to_other = frame() / ipv4(STRANGER, EXTERNAL) / udp(53, 4001) / payload(9);
    vec![
        everybody,
        address,
        both,
        open("what one port has sent is no permission for another", known)
            .out(&other, &other_external)
            .comes_in(&to_other, &to_other),
        stays(
            open("permissions end with the time of the session", known)
                .with(|cube| age(cube, 301 * SECOND)),
            REMOTE,
            54,
        ),
        stays(
            open("a port's next owner has none of them", known).with(|cube| {
                // As if the port were another host's by now.
                for (key, mut mapping) in cube.entries::<MappingKey, Mapping>("mappings") {
                    if key.side == SIDE_OUTSIDE {
                        mapping.address = words(OTHER);
                        cube.write("mappings", key, mapping);
                    }
                }
            }),
            REMOTE,
            54,
        ),
    ]
}

/// Outgoing packets keep permissions alive, once a second at most.
#[test]
fn packets() {
    let refresh = open(
        "what leaves keeps permissions alive",
        FEATURE_SOURCE | FEATURE_OPEN | FEATURE_KNOWN,
    )
    .with(|cube| age(cube, 200 * SECOND))
    .out(
        &(frame() / ipv4(INSIDE, REMOTE) / udp(4000, 53) / payload(9)),
        &(frame() / ipv4(EXTERNAL, REMOTE) / udp(4000, 53) / payload(9)),
    )
    .with(|cube| age(cube, 200 * SECOND))
    .comes_in(&from(REMOTE, 99, EXTERNAL), &from(REMOTE, 99, INSIDE));
    nat().rows(rows()).rows([refresh]).run();
}
