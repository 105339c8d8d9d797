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
            row("to each program that has a direct jump")
                .with(|cube| {
                    (0..20).for_each(|port| cube.link_ports(port..port + 1));
                })
                .with(|cube| (0..18).for_each(|port| cube.lead_to_program(port, 40 + port)))
                .with(|cube| {
                    (0..18u32)
                        .for_each(|port| cube.write("actions", port, action_forward(17 - port)))
                })
                .send(0, &frame, passed(17, 57, &frame))
                .send(1, &frame, passed(16, 56, &frame))
                .send(2, &frame, passed(15, 55, &frame))
                .send(3, &frame, passed(14, 54, &frame))
                .send(4, &frame, passed(13, 53, &frame))
                .send(5, &frame, passed(12, 52, &frame))
                .send(6, &frame, passed(11, 51, &frame))
                .send(7, &frame, passed(10, 50, &frame))
                .send(8, &frame, passed(9, 49, &frame))
                .send(9, &frame, passed(8, 48, &frame))
                .send(10, &frame, passed(7, 47, &frame))
                .send(11, &frame, passed(6, 46, &frame))
                .send(12, &frame, passed(5, 45, &frame))
                .send(13, &frame, passed(4, 44, &frame))
                .send(14, &frame, passed(3, 43, &frame))
                .send(15, &frame, passed(2, 42, &frame))
                .send(16, &frame, passed(1, 41, &frame))
                .send(17, &frame, passed(0, 40, &frame)),
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
        .run();
}
