//! Packets that wait for a neighbour: given away while somebody listens, taken back later.

use ebpf_abi::{
    counters::DropReason,
    entry::{BANK_MARK, RETURNS_MARK},
    router::{
        DRAIN_TIME, MAX_SOLICIT, Neighbor, NeighborKey, WAITING_AGAIN, WAITING_BEHIND,
        WAITING_FRAME, WAITING_KNOWN, WAITING_NEW, Waiting,
    },
};
use integration_tests::{
    clock::{SECOND, ago},
    packet::{BROADCAST, Packet, arp_reply, arp_request, ether, ipv4, ipv6, payload, tcp, udp},
    table::{Row, answered, consumed, dropped, row, sent},
    test_run::{Gso, Hook, Verdict},
};

use super::*;

const LATER: u64 = 3600 * SECOND;

fn there() -> Packet {
    ether(A, mac(0)) / ipv4(v4(0, 2), v4(1, 2)) / udp(1000, 2000) / payload(33)
}

fn out() -> Packet {
    ether(mac(1), B) / ipv4(v4(0, 2), v4(1, 2)).ttl(63) / udp(1000, 2000) / payload(33)
}

fn question() -> Packet {
    (ether(mac(1), BROADCAST) / arp_request((mac(1), v4(1, 1)), v4(1, 2)))
        .padded(60)
        .zeros_may_follow()
}

/// A row in which somebody listens.
fn listening(name: &'static str) -> Row {
    row(name).with(|cube| cube.write("listening", 0u32, now() + LATER))
}

fn target() -> NeighborKey {
    neighbor_key(1, v4(1, 2).into())
}

/// What was given away since the last time: kind, neighbour, and the packet.
fn given(cube: &Cube) -> Vec<(u32, NeighborKey, Vec<u8>)> {
    let records = cube.records("waiting").into_iter().map(|record| {
        let (header, rest) = record.split_at(size_of::<Waiting>());
        let header: Waiting = bytemuck::pod_read_unaligned(header);
        assert!(now() - header.time < SECOND);
        assert_eq!(header.port, 0);
        let frame = rest.get(..header.length as usize).expect("it is there");
        (header.kind, header.neighbor, frame.to_vec())
    });
    records.collect()
}

fn waiting(cube: &Cube) -> u64 {
    found(cube, 1, v4(1, 2)).expect("noted").waiting
}

/// A neighbour for which packets wait.
fn waits(cube: &Cube, state: Neighbor) {
    neighbor(
        cube,
        1,
        v4(1, 2),
        Neighbor {
            waiting: 1,
            ..state
        },
    );
}

fn asked(times: u16, at: u64) -> Neighbor {
    Neighbor {
        asked: times,
        asked_at: at,
        ..Neighbor::UNKNOWN
    }
}

fn confirmed(at: u64) -> Neighbor {
    answered_at(B, at)
}

#[test]
fn given_away() {
    let lost = answered(DropReason::NeighborUnresolved, 1, &question());
    let nothing = |cube: &Cube| {
        assert_eq!(given(cube), []);
        assert_eq!(waiting(cube), 0);
    };
    let is =
        |kind: u32| move |cube: &Cube| assert_eq!(given(cube), [(kind, target(), there().bytes())]);
    let large =
        |size: usize| ether(A, mac(0)) / ipv4(v4(0, 2), v4(1, 2)) / udp(1, 2) / payload(size - 42);
    let segments = ether(A, mac(0)) / ipv4(v4(0, 2), v4(1, 2)) / tcp(1, 2) / payload(1000);
    let gso = Gso {
        segments: 2,
        size: 500,
    };
    router()
        .rows([
            listening("while somebody listens")
                .send(0, &there(), sent(1, &question()))
                .then(is(WAITING_NEW))
                .send(0, &there(), consumed())
                .then(is(WAITING_NEW))
                .then(|cube| assert_eq!(waiting(cube), 2)),
            row("not any more")
                .with(|cube| cube.write("listening", 0u32, now()))
                .send(0, &there(), lost.clone())
                .then(nothing)
                .send(0, &there(), dropped(DropReason::NeighborUnresolved))
                .then(nothing),
            listening("the largest")
                .send(0, &large(WAITING_FRAME), sent(1, &question()))
                .then(move |cube| assert_eq!(given(cube)[0].2, large(WAITING_FRAME).bytes())),
            listening("one byte more")
                .send(0, &large(WAITING_FRAME + 1), lost.clone())
                .then(nothing),
            listening("several segments in one")
                .send_segments(0, &segments, gso, lost)
                .then(nothing),
            listening("a full ring").then(|cube| {
                const SENT: u64 = 200;
                for _ in 0..SENT {
                    cube.run(0, &there().bytes(), Gso::default());
                }
                let kept = given(cube).len() as u64;
                let counters = cube.counters(1)[0];
                let dropped = counters.drops[DropReason::NeighborUnresolved as usize];
                assert!(kept > 100, "{kept}");
                assert_eq!((counters.rx_packets, kept + dropped), (SENT, SENT));
            }),
            listening("behind others that wait")
                .with(|cube| waits(cube, confirmed(now())))
                .send(0, &there(), consumed())
                .then(is(WAITING_BEHIND))
                .then(|cube| assert_eq!(waiting(cube), 2)),
            row("behind others, and nobody listens any more")
                .with(|cube| waits(cube, confirmed(now())))
                .send(0, &there(), sent(1, &out())),
            listening("behind others that did not come back in time")
                .with(|cube| waits(cube, confirmed(ago(DRAIN_TIME + SECOND))))
                .send(0, &there(), sent(1, &out()))
                .then(|cube| assert_eq!(given(cube), [])),
        ])
        .run();
}

#[test]
fn given_away_v6() {
    let there = ether(A, mac(0)) / ipv6(v6(0, 2), v6(1, 2)) / udp(1000, 2000) / payload(33);
    let frame = there.bytes();
    router()
        .rows([listening("while somebody listens")
            .then(move |cube| {
                for _ in 0..2 {
                    cube.run(0, &frame, Gso::default());
                    let key = neighbor_key(1, v6(1, 2).into());
                    assert_eq!(given(cube), [(WAITING_NEW, key, frame.clone())]);
                }
                let [lan, wan] = [cube.counters(2)[0], cube.counters(2)[1]];
                assert_eq!(lan.rx_packets, 2);
                assert_eq!(lan.drops, [0; ebpf_abi::counters::DROP_REASONS]);
                // The question.
                assert_eq!(wan.tx_packets, 1);
                let entry = found(cube, 1, v6(1, 2)).expect("noted");
                assert_eq!(entry.waiting, 2);
            })
            .send(0, &there, consumed())])
        .run();
}

#[test]
fn an_answer_is_announced() {
    let reply = ether(B, mac(1)) / arp_reply((B, v4(1, 2)), (mac(1), v4(1, 1)));
    let known = (WAITING_KNOWN, target(), Vec::new());
    router()
        .rows([
            row("when packets wait")
                .with(|cube| waits(cube, asked(1, now())))
                .send(1, &reply, consumed())
                .then(move |cube| assert_eq!(given(cube), std::slice::from_ref(&known)))
                .send(1, &reply, consumed())
                .then(|cube| assert_eq!(given(cube), []))
                .then(|cube| assert_eq!(waiting(cube), 1)),
            row("not when none do")
                .with(|cube| neighbor(cube, 1, v4(1, 2), asked(1, now())))
                .send(1, &reply, consumed())
                .then(|cube| assert_eq!(given(cube), [])),
            row("those that should be back long since are forgotten")
                .with(|cube| waits(cube, confirmed(ago(DRAIN_TIME + SECOND))))
                .send(1, &reply, consumed())
                .then(|cube| assert_eq!(waiting(cube), 0)),
        ])
        .run();
}

/// Lets a packet come back, and says what became of it: verdict, packet, and received, sent and
/// dropped packets.
fn come_back(cube: &Cube) -> (Verdict, Vec<u8>, [u64; 3]) {
    let counted = || {
        let [lan, wan] = [cube.counters(2)[0], cube.counters(2)[1]];
        let lost = lan.drops.iter().sum();
        [lan.rx_packets, lan.tx_packets + wan.tx_packets, lost]
    };
    let before = counted();
    let bank = BANK_MARK | RETURNS_MARK | cube.bank;
    let run = cube.run_from([0, 0, bank], &there().bytes(), Gso::default());
    let after = counted();
    let more = std::array::from_fn(|at| after[at] - before[at]);
    (run.verdict, run.packet, more)
}

/// What comes back was counted when it came in.
#[test]
fn taken_back() {
    let returning = |name| listening(name).only(Hook::Tc, "packets come back on TC");
    router()
        .rows([
            returning("to a neighbour that is known now").then(|cube| {
                waits(cube, confirmed(now()));
                let (verdict, packet, counted) = come_back(cube);
                assert_eq!((verdict, counted), (Verdict::Redirect, [0, 1, 0]));
                assert_eq!(packet, out().bytes());
                assert_eq!((waiting(cube), given(cube)), (0, vec![]));
            }),
            returning("to one that it is time to ask for again").then(|cube| {
                waits(cube, asked(1, ago(2 * SECOND)));
                let (verdict, packet, counted) = come_back(cube);
                assert_eq!((verdict, counted), (Verdict::Redirect, [0, 1, 0]));
                assert_eq!(packet[..42], question().bytes()[..42]);
                let again = (WAITING_AGAIN, target(), there().bytes());
                assert_eq!((waiting(cube), given(cube)), (1, vec![again]));
            }),
            returning("before that it is given up").then(|cube| {
                waits(cube, asked(1, now()));
                let (verdict, _, counted) = come_back(cube);
                assert_eq!((verdict, counted), (Verdict::Drop, [0, 0, 1]));
                assert_eq!((waiting(cube), given(cube)), (0, vec![]));
            }),
            returning("to one that does not answer: its sender is told").then(|cube| {
                waits(cube, asked(MAX_SOLICIT, ago(2 * SECOND)));
                let (verdict, packet, counted) = come_back(cube);
                assert_eq!((verdict, counted), (Verdict::Redirect, [0, 1, 1]));
                // Host unreachable (RFC 792).
                assert_eq!(packet[34..36], [3, 1]);
                assert_eq!((waiting(cube), given(cube)), (0, vec![]));
            }),
            returning("to one that was forgotten").then(|cube| {
                let (verdict, _, counted) = come_back(cube);
                assert_eq!((verdict, counted), (Verdict::Redirect, [0, 1, 0]));
                assert_eq!(given(cube)[0].0, WAITING_AGAIN);
            }),
        ])
        .run();
}
