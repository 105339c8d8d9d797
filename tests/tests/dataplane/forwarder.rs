//! `forwarder`: a fixed way from port to port.

use ebpf_abi::{
    counters::DropReason,
    forwarder::{ACTION_DROP, action_forward},
    port::{HOP_PEER, PORT_VIA_TC},
};
use integration_tests::{
    cube::Cube,
    packet::{ether, ipv4, payload, tcp},
    private_net::LOOPBACK,
    table::{dropped, handed_over, passed, row, sent, table},
    test_run::Gso,
};

/// 0 and 1 to each other, 2 back to itself, 3 to nowhere; what is not listed is dropped.
fn four_ports(cube: &Cube) {
    cube.link_ports(0..4);
    for (input, action) in [
        (0, action_forward(1)),
        (1, action_forward(0)),
        (2, action_forward(2)),
        (3, ACTION_DROP),
    ] {
        cube.write("actions", input as u32, action);
    }
}

#[test]
fn packets() {
    let frame = ether([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]) / payload(46);
    let large = ether([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        / tcp(1, 2)
        / payload(2920);
    table("forwarder", four_ports)
        .rows([
            row("there").send(0, &frame, sent(1, &frame)),
            row("and back").send(1, &frame, sent(0, &frame)),
            row("back to where it came from").send(2, &frame, sent(2, &frame)),
            row("drops what it is told to drop").send(3, &frame, dropped(DropReason::Policy)),
            row("drops what it was told nothing about").send(
                4,
                &frame,
                dropped(DropReason::Policy),
            ),
            row("to a program")
                .with(|cube| cube.lead_to_program(1, 63))
                .send(0, &frame, passed(1, 63, &frame)),
            row("to a peer in another namespace")
                .with(|cube| cube.change_port(1, |port| port.hop.kind = HOP_PEER))
                .send(0, &frame, sent(1, &frame)),
            row("to a port that is not in the table")
                .with(|cube| cube.write("actions", 0u32, action_forward(1000)))
                .send(0, &frame, dropped(DropReason::NotLinked)),
            row("to a port that only TC reaches")
                .with(|cube| {
                    cube.change_port(1, |port| port.flags |= PORT_VIA_TC);
                    cube.change_port(0, |port| port.handover_ifindex = LOOPBACK);
                })
                .send_differs(0, &frame, sent(1, &frame), handed_over()),
            row("segments").send_segments(
                0,
                &large,
                Gso {
                    segments: 2,
                    size: 1460,
                },
                sent(1, &large),
            ),
        ])
        // Only the one slot has a program, so that a jump into another one is seen.
        .rows((0..18).map(|port| {
            row("to a program, by a direct jump or through the table")
                .with(move |cube| {
                    cube.link_ports(port..port + 1);
                    cube.lead_to_program(port, 40 + port);
                    cube.write("actions", 5u32, action_forward(port));
                })
                .send(5, &frame, passed(port, 40 + port, &frame))
        }))
        .run();
}
