//! `bridge`: storm control, per port and sort of frame.

use ebpf_abi::{
    bridge::{
        FEATURE_STORM_CONTROL, STORM_BROADCAST, STORM_MULTICAST, STORM_SORTS,
        STORM_UNKNOWN_UNICAST, Settings, StormLimit, StormLimits,
    },
    counters::DropReason,
};
use integration_tests::{
    clock::{SECOND, now},
    cube::Cube,
    packet::{BROADCAST, Packet, ether, payload},
    private_net::LOOPBACK,
    table::{Row, copied, dropped, handed_over, row, sent, table},
    test_run::Gso,
};

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const GROUP: [u8; 6] = [1, 0, 0x5e, 1, 2, 3];

/// Port 0 may send one broadcast an hour, after three at once, and one frame for an unknown
/// station. Port 1 has a limit for groups alone, port 2 none.
fn three_ports(cube: &Cube) {
    cube.link_ports(0..3);
    for port in 0..3 {
        cube.change_port(port, |port| port.handover_ifindex = LOOPBACK);
    }
    for (index, value) in [3, 0, 1, 2].into_iter().enumerate() {
        cube.write_banked("flood", index as u32, value);
    }
    let limit = |sort, burst: u64| {
        let mut limits = StormLimits::default();
        limits.sorts[sort] = StormLimit {
            interval: HOUR,
            tolerance: HOUR * (burst - 1),
        };
        limits
    };
    let mut first = limit(STORM_BROADCAST, 3);
    first.sorts[STORM_UNKNOWN_UNICAST] =
        limit(STORM_UNKNOWN_UNICAST, 1).sorts[STORM_UNKNOWN_UNICAST];
    cube.write_banked("storm_limits", 0, first);
    cube.write_banked("storm_limits", 1, limit(STORM_MULTICAST, 1));
}

const HOUR: u64 = 3600 * SECOND;

fn due(cube: &Cube, port: u32, sort: usize) -> u64 {
    let index = port * STORM_SORTS as u32 + sort as u32;
    cube.read("storm_state", index).expect("always there")
}

fn frame(to: [u8; 6]) -> Packet {
    ether(A, to) / payload(46)
}

/// So many copies go out of the other ports, and no more.
fn admits(row: Row, port: u32, frame: &Packet, count: usize) -> Row {
    let others: Vec<u32> = (0..3).filter(|other| *other != port).collect();
    let row = (0..count).fold(row, |row, _| {
        row.send_differs(port, frame, copied(&others), handed_over())
    });
    row.send_differs(
        port,
        frame,
        dropped(DropReason::StormControl),
        handed_over(),
    )
}

fn no_limit(row: Row, port: u32, frame: &Packet) -> Row {
    let others: Vec<u32> = (0..3).filter(|other| *other != port).collect();
    (0..10).fold(row, |row, _| {
        row.send_differs(port, frame, copied(&others), handed_over())
    })
}

#[test]
fn storm_control() {
    let rows = vec![
        admits(row("broadcast"), 0, &frame(BROADCAST), 3),
        admits(row("unknown stations"), 0, &frame(B), 1),
        admits(row("groups"), 1, &frame(GROUP), 1),
        no_limit(row("sorts are apart: groups"), 0, &frame(GROUP)),
        no_limit(row("sorts are apart: broadcast"), 1, &frame(BROADCAST)),
        no_limit(row("ports are apart"), 2, &frame(BROADCAST)),
        admits(
            no_limit(row("what others send does not count"), 2, &frame(BROADCAST)),
            0,
            &frame(BROADCAST),
            3,
        ),
        row("known stations have no limit")
            .send_differs(
                1,
                &(ether(B, A) / payload(46)),
                copied(&[0, 2]),
                handed_over(),
            )
            .send(0, &frame(B), sent(1, &frame(B)))
            .send(0, &frame(B), sent(1, &frame(B)))
            .send(0, &frame(B), sent(1, &frame(B))),
        // A frame is due an interval after the one before it, or now.
        row("time gives back what was used")
            .with(|cube| {
                cube.write(
                    "storm_state",
                    STORM_BROADCAST as u32,
                    now() + 2 * HOUR - SECOND,
                )
            })
            .send_differs(0, &frame(BROADCAST), copied(&[1, 2]), handed_over())
            .send_differs(
                0,
                &frame(BROADCAST),
                dropped(DropReason::StormControl),
                handed_over(),
            ),
        row("but no more than may come at once")
            .with(|cube| cube.write("storm_state", STORM_BROADCAST as u32, SECOND))
            .send_differs(0, &frame(BROADCAST), copied(&[1, 2]), handed_over())
            .then(|cube| {
                if cube.hook == integration_tests::test_run::Hook::Tc {
                    let due = due(cube, 0, STORM_BROADCAST);
                    assert!(due + SECOND > now() + HOUR && due <= now() + HOUR, "{due}");
                }
            }),
        // Alone on the bridge: the test run's segments cannot be copied.
        row("a buffer counts as the packets it stands for")
            .with(|cube| cube.write_banked("flood", 0, 1u32))
            .send_segments(
                0,
                &(ether(A, BROADCAST) / payload(3000)),
                Gso {
                    segments: 3,
                    size: 1000,
                },
                copied(&[]),
            )
            .send(0, &frame(BROADCAST), dropped(DropReason::StormControl)),
    ];
    table("bridge", three_ports)
        .global(
            "SETTINGS",
            Settings {
                aging_time: 300 * SECOND,
                features: FEATURE_STORM_CONTROL,
            },
        )
        .rows(rows)
        .run();
}
