//! Packets that are larger than port 2 allows (1300 bytes) and may be cut (RFC 791).

use ebpf_abi::counters::DropReason::NeighborUnresolved;
use integration_tests::{
    clock::{SECOND, ago},
    packet::{Ipv4, Packet, arp_request, ether, ipv4, payload, raw, udp},
    table::{answered, handed_over, row, sent},
    test_run::Hook,
};

use super::*;

/// Data in all fragments but the last: a multiple of 8.
const PIECE: usize = (MTU as usize - 20) & !7;

fn ip() -> Ipv4 {
    ipv4(v4(0, 2), v4(2, 2))
}

fn neighbors(cube: &Cube) {
    known(cube, 2, v4(2, 2), B);
}

/// A datagram with `length` bytes of data behind the IP header.
fn datagram(ip: Ipv4, length: usize) -> Packet {
    ether(A, mac(0)) / ip / udp(1, 2) / payload(length - 8)
}

/// What is behind the IP header of `packet`, whose header has `header` bytes.
fn data(packet: &Packet, header: usize) -> Vec<u8> {
    packet.bytes()[14 + header..].to_vec()
}

/// The fragment with the data from `from` on, as port 2 sends it.
fn fragment(ip: Ipv4, protocol: u8, data: &[u8], from: usize, more: bool) -> Packet {
    let ip = ip.ttl(63).protocol(protocol).fragment(from as u16, more);
    ether(mac(2), B) / ip / raw(&data[from..])
}

#[test]
fn on_tc() {
    let whole = datagram(ip(), 1480);
    let (udp, large) = (17, datagram(ip(), 3000));
    let last = fragment(ip(), udp, &data(&whole, 20), PIECE, false);
    let exact = datagram(ip(), 2 * PIECE);
    let exact_last = fragment(ip(), udp, &data(&exact, 20), PIECE, false);
    let large_last = fragment(ip(), udp, &data(&large, 20), 2 * PIECE, false);
    let full = 34 + PIECE as u32;
    // A fragment itself: in the middle, and at the end.
    let bytes: Vec<u8> = (0..1480).map(|byte| byte as u8).collect();
    let part = |more| ether(A, mac(0)) / ip().protocol(udp).fragment(2960, more) / raw(&bytes);
    let part_out = |more| {
        let ip = ip()
            .ttl(63)
            .protocol(udp)
            .fragment(2960 + PIECE as u16, more);
        ether(mac(2), B) / ip / raw(&bytes[PIECE..])
    };
    let row = |name| row(name).only(Hook::Tc, "XDP hands over").with(neighbors);
    router()
        .rows([
            row("two fragments").send(0, &whole, sent(2, &last).and_copies_of(&[(2, full)])),
            row("without a rest").send(0, &exact, sent(2, &exact_last).and_copies_of(&[(2, full)])),
            row("three fragments").send(
                0,
                &large,
                sent(2, &large_last).and_copies_of(&[(2, full); 2]),
            ),
            row("a fragment in the middle").send(
                0,
                &part(true),
                sent(2, &part_out(true)).and_copies_of(&[(2, full)]),
            ),
            row("the last fragment").send(
                0,
                &part(false),
                sent(2, &part_out(false)).and_copies_of(&[(2, full)]),
            ),
        ])
        .run();
}

/// Options with the bit "copied" are in all fragments, others only in the first (RFC 791, 3.1).
#[test]
fn options() {
    // Record route, no operation, and a loose source route, which is copied.
    let options: &[u8] = &[7, 7, 4, 0, 0, 0, 0, 1, 131, 7, 8, 1, 2, 3, 4, 0];
    let further: &[u8] = &[1, 1, 1, 1, 1, 1, 1, 1, 131, 7, 8, 1, 2, 3, 4, 0];
    let whole = datagram(ip().options(options), 1400);
    let piece = (usize::from(MTU) - 36) & !7;
    let last = fragment(ip().options(further), 17, &data(&whole, 36), piece, false);
    router()
        .rows([row("copied or not")
            .only(Hook::Tc, "XDP hands over")
            .with(neighbors)
            .send(
                0,
                &whole,
                sent(2, &last).and_copies_of(&[(2, 14 + 36 + piece as u32)]),
            )])
        .run();
}

#[test]
fn elsewhere() {
    let whole = datagram(ip(), 1480);
    let question = (ether(mac(2), [0xff; 6]) / arp_request((mac(2), v4(2, 1)), v4(2, 2)))
        .padded(60)
        .zeros_may_follow();
    let probe = (ether(mac(2), B) / arp_request((mac(2), v4(2, 1)), v4(2, 2)))
        .padded(60)
        .zeros_may_follow();
    let (full, rest) = (34 + PIECE as u32, 34 + (1480 - PIECE) as u32);
    router()
        .rows([
            row("XDP leaves it to TC")
                .only(Hook::Xdp, "TC cuts it")
                .with(neighbors)
                .send(0, &whole, handed_over()),
            row("a neighbour that is not known is asked for").send_differs(
                0,
                &whole,
                answered(NeighborUnresolved, 2, &question),
                handed_over(),
            ),
            row("one that is to be probed is, besides")
                .only(Hook::Tc, "XDP leaves it to TC")
                .with(|cube| {
                    let used = Neighbor {
                        used: ago(6 * SECOND),
                        ..answered_at(B, ago(40 * SECOND))
                    };
                    neighbor(cube, 2, v4(2, 2), used);
                })
                .send(
                    0,
                    &whole,
                    sent(2, &probe).and_copies_of(&[(2, full), (2, rest)]),
                ),
        ])
        .run();
}
