//! `helloTransparent`: passes or drops everything, per direction.

use ebpf_abi::{
    chain::{CubeChain, Direction},
    counters::DropReason,
    hello_transparent::Settings,
    port::{HOP_INTERFACE, HOP_NONE, HOP_PASS, HOP_PEER, HOP_PROGRAM, Hop},
    transparent::{Attachment, counter_index},
};
use integration_tests::{
    cube::Cube,
    packet::{ether, payload},
    private_net::LOOPBACK,
    table::{dropped, passed, row, sent, table},
};

const SLOT: u32 = CubeChain::for_ports(0).after(1, Direction::Ingress, 0);
const COUNTER: u32 = counter_index(3, Direction::Egress);

fn attachment(direction: Direction, kind: u32) -> Attachment {
    let ifindex = if matches!(kind, HOP_INTERFACE | HOP_PEER) {
        LOOPBACK
    } else {
        0
    };
    Attachment {
        direction: direction as u32,
        counter: COUNTER,
        slot: SLOT,
        hop: Hop {
            kind,
            ifindex,
            port: 0,
        },
    }
}

#[test]
fn packets() {
    let frame = ether([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]) / payload(46);
    let (ingress, egress) = (Direction::Ingress, Direction::Egress);
    let drop_ingress = Settings { drop: [1, 0] };
    let drop_egress = Settings { drop: [0, 1] };
    // The packet keeps the port it carries: 9.
    let pass = passed(COUNTER, 9, &frame);
    let drop = dropped(DropReason::Policy);
    table("hello_transparent", |_: &Cube| {})
        .counts_at(COUNTER)
        .global("SETTINGS", Settings { drop: [0, 0] })
        .global("ATTACHMENT", attachment(ingress, HOP_PASS))
        .rows([
            row("ingress passes").send(9, &frame, pass.clone()),
            row("egress passes")
                .global("ATTACHMENT", attachment(egress, HOP_PASS))
                .send(9, &frame, pass.clone()),
            row("ingress dropped")
                .global("SETTINGS", drop_ingress)
                .send(9, &frame, drop.clone()),
            row("egress is not ingress")
                .global("SETTINGS", drop_egress)
                .send(9, &frame, pass.clone()),
            row("egress dropped")
                .global("SETTINGS", drop_egress)
                .global("ATTACHMENT", attachment(egress, HOP_PASS))
                .send(9, &frame, drop.clone()),
            row("ingress is not egress")
                .global("SETTINGS", drop_ingress)
                .global("ATTACHMENT", attachment(egress, HOP_PASS))
                .send(9, &frame, pass.clone()),
            row("on to the next program")
                .global("ATTACHMENT", attachment(ingress, HOP_PROGRAM))
                .with(|cube| cube.put_passing_program(SLOT))
                .send(9, &frame, pass),
            row("the next program is missing")
                .global("ATTACHMENT", attachment(ingress, HOP_PROGRAM))
                .send(9, &frame, dropped(DropReason::ChainBroken)),
            row("out of an interface")
                .global("ATTACHMENT", attachment(egress, HOP_INTERFACE))
                .send(9, &frame, sent(COUNTER, &frame)),
            row("to a peer")
                .global("ATTACHMENT", attachment(egress, HOP_PEER))
                .send(9, &frame, sent(COUNTER, &frame)),
            row("nowhere")
                .global("ATTACHMENT", attachment(ingress, HOP_NONE))
                .send(9, &frame, dropped(DropReason::NotLinked)),
        ])
        .run();
}
