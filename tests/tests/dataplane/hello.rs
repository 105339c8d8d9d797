//! `hello`: to the other port, or nowhere.

use ebpf_abi::{counters::DropReason, hello::Settings};
use integration_tests::{
    cube::Cube,
    packet::{Packet, ether, payload},
    table::{dropped, passed, row, sent, table},
    test_run::Gso,
};

const FORWARD: Settings = Settings {
    forward: 1,
    ports: [1, 4],
};

fn frame() -> Packet {
    ether([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]) / payload(46)
}

fn linked(cube: &Cube) {
    cube.link_ports(0..8);
}

#[test]
fn packets() {
    let frame = frame();
    table("hello", linked)
        .global("SETTINGS", FORWARD)
        .rows([
            row("first port to second").send(1, &frame, sent(4, &frame)),
            row("second port to first").send(4, &frame, sent(1, &frame)),
            row("to a port that leads to a program")
                .with(|cube| cube.lead_to_program(4, 7))
                .send(1, &frame, passed(4, 7, &frame)),
            row("drops when told to")
                .global(
                    "SETTINGS",
                    Settings {
                        forward: 0,
                        ..FORWARD
                    },
                )
                .send(1, &frame, dropped(DropReason::Policy)),
            row("one port has no other")
                .global(
                    "SETTINGS",
                    Settings {
                        forward: 1,
                        ports: [1, 1],
                    },
                )
                .send(1, &frame, dropped(DropReason::NotLinked)),
            row("to a port that leads nowhere")
                .with(|cube| cube.change_port(4, |port| port.hop.kind = ebpf_abi::port::HOP_NONE))
                .send(1, &frame, dropped(DropReason::NotLinked)),
            row("a buffer of segments counts as the packets it stands for").send_segments(
                1,
                &frame,
                Gso {
                    segments: 3,
                    size: 16,
                },
                sent(4, &frame),
            ),
        ])
        .run();
}
