//! What is read of packets' headers: flows, fragments, and what ICMP errors quote.

use std::net::{Ipv4Addr, Ipv6Addr};

use ebpf_abi::{
    address::{Be16, V4, V6},
    counters::DropReason,
    flow::{FIRST, Flow, FlowKey, ICMP, ICMPV6, LATER, SCTP, TCP, UDP, WHOLE, mapped},
    port::{HOP_PASS, Hop},
    tcp::{ACK, SYN},
    transparent::Attachment,
};
use integration_tests::{
    cube::Cube,
    packet::{
        Ethernet, Packet, echo, echo_v6, ether, icmp, icmpv6, ipv4, ipv6, payload, qinq, raw, tcp,
        udp, vlan,
    },
    table::{CUT_OFF, Row, dropped, passed, row, table},
    test_run::Hook,
};

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2);

fn frame() -> Ethernet {
    ether([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

/// What is expected of a packet from A to B that begins behind a plain Ethernet header.
fn flow(family: u8, protocol: u8, ports: (u16, u16)) -> Flow {
    let addresses = match family {
        4 => [A, B].map(|address| mapped(V4::new(address.octets()))),
        _ => [A6, B6].map(|address| V6::new(address.octets())),
    };
    Flow {
        key: FlowKey {
            source: addresses[0],
            destination: addresses[1],
            source_port: Be16::new(ports.0),
            destination_port: Be16::new(ports.1),
            protocol,
            padding: [0; 3],
        },
        identification: if family == 4 {
            Be16::new(0x1234).word().into()
        } else {
            0
        },
        network: 14,
        transport: if family == 4 { 34 } else { 54 },
        family,
        fragment: WHOLE,
        ..Flow::default()
    }
}

/// The packet passes, and this was read of it.
fn reads(name: &'static str, packet: &Packet, expected: Flow) -> Row {
    then_reads(row(name), packet, expected)
}

fn then_reads(row: Row, packet: &Packet, expected: Flow) -> Row {
    row.send(0, packet, passed(0, 0, packet))
        .then(move |cube: &Cube| {
            let read: Flow = cube.read("flows", 0u32).expect("an array");
            assert_eq!(read, expected);
        })
}

fn run(rows: impl IntoIterator<Item = Row>) {
    let pass = Hop {
        kind: HOP_PASS,
        ..Hop::default()
    };
    let attachment = Attachment {
        hop: pass,
        ..Attachment::default()
    };
    table("flow", |_: &Cube| {})
        .counts_at(0)
        .global("ATTACHMENT", attachment)
        .rows(rows)
        .run();
}

#[test]
fn protocols() {
    let syn = Flow {
        tcp_flags: SYN,
        ..flow(4, TCP, (1000, 80))
    };
    let ack = Flow {
        tcp_flags: ACK,
        ..flow(6, TCP, (1000, 80))
    };
    let ping = Flow {
        icmp_type: 8,
        ..flow(4, ICMP, (7, 7))
    };
    let ping6 = Flow {
        icmp_type: 128,
        ..flow(6, ICMPV6, (7, 7))
    };
    let optional = Flow {
        transport: 42,
        has_options: 1,
        ..flow(4, UDP, (1, 2))
    };
    run([
        reads(
            "udp",
            &(frame() / ipv4(A, B) / udp(1, 2) / payload(20)),
            flow(4, UDP, (1, 2)),
        ),
        reads(
            "udp, ipv6",
            &(frame() / ipv6(A6, B6) / udp(1, 2) / payload(4)),
            flow(6, UDP, (1, 2)),
        ),
        reads(
            "tcp",
            &(frame() / ipv4(A, B) / tcp(1000, 80).flags(SYN) / payload(10)),
            syn,
        ),
        reads("tcp, ipv6", &(frame() / ipv6(A6, B6) / tcp(1000, 80)), ack),
        reads(
            "echo",
            &(frame() / ipv4(A, B) / echo(7, 1) / payload(20)),
            ping,
        ),
        reads(
            "echo, ipv6",
            &(frame() / ipv6(A6, B6) / echo_v6(7, 1) / payload(20)),
            ping6,
        ),
        reads(
            "sctp",
            &(frame() / ipv4(A, B).protocol(SCTP) / raw(&[0, 9, 0, 10, 0, 0, 0, 0]) / payload(20)),
            flow(4, SCTP, (9, 10)),
        ),
        reads(
            "no ports",
            &(frame() / ipv4(A, B).protocol(47) / payload(26)),
            flow(4, 47, (0, 0)),
        ),
        reads(
            "icmp of the other family has no type",
            &(frame() / ipv6(A6, B6).next_header(ICMP) / payload(26)),
            flow(6, ICMP, (0, 0)),
        ),
        reads(
            "options",
            &(frame() / ipv4(A, B).options(&[1; 8]) / udp(1, 2) / payload(20)),
            optional,
        ),
        reads("not ip", &(frame() / payload(46)), Flow::default()),
    ]);
}

#[test]
fn tags() {
    let behind = |bytes: u16| {
        let flow = flow(4, UDP, (1, 2));
        Flow {
            network: flow.network + bytes,
            transport: flow.transport + bytes,
            ..flow
        }
    };
    run([
        reads(
            "one",
            &(frame() / vlan(5) / ipv4(A, B) / udp(1, 2) / payload(20)),
            behind(4),
        ),
        reads(
            "two",
            &(frame() / qinq(5) / vlan(6) / ipv4(A, B) / udp(1, 2) / payload(20)),
            behind(8),
        ),
    ]);
}

/// An extension header of 8 bytes that says what follows.
fn extension(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

#[test]
fn extension_headers() {
    let behind = |bytes: u16| {
        let flow = flow(6, UDP, (1, 2));
        Flow {
            transport: flow.transport + bytes,
            has_options: 1,
            ..flow
        }
    };
    // Its length is in units of 4 bytes (RFC 4302, 2.2).
    let authentication = [&[17, 4, 0, 0][..], &[0; 20]].concat();
    let datagram = [0, 1, 0, 2, 0, 8, 0, 0];
    let chain = |headers: &[u8], first: u8| {
        frame() / ipv6(A6, B6).next_header(first) / raw(headers) / raw(&datagram) / payload(8)
    };
    let many = |count: usize| {
        let mut headers = extension(60).repeat(count - 1);
        headers.extend(extension(17));
        headers
    };
    run([
        reads("hop by hop", &chain(&extension(17), 0), behind(8)),
        reads("routing", &chain(&extension(17), 43), behind(8)),
        reads("authentication", &chain(&authentication, 51), behind(24)),
        reads("eight", &chain(&many(8), 60), behind(64)),
        row("nine").send(0, &chain(&many(9), 60), dropped(DropReason::Malformed)),
        row("cut off").send(
            0,
            &(frame() / ipv6(A6, B6).next_header(0) / raw(&[17, 200, 0, 0, 0, 0, 0, 0])),
            dropped(DropReason::Malformed),
        ),
        reads(
            "encrypted: nothing behind can be read",
            &(frame() / ipv6(A6, B6).next_header(50) / payload(20)),
            flow(6, 50, (0, 0)),
        ),
    ]);
}

#[test]
fn fragments() {
    let (first, later) = (
        frame() / ipv4(A, B).fragment(0, true) / udp(1, 2) / payload(24),
        frame() / ipv4(A, B).fragment(32, false).protocol(UDP) / payload(24),
    );
    let expected = flow(4, UDP, (1, 2));
    let is = |fragment| Flow {
        fragment,
        ..expected
    };
    let (first6, later6) = (fragment_v6(0, true), fragment_v6(16, false));
    let is6 = |fragment, field| Flow {
        identification: 77u32.to_be(),
        transport: 62,
        has_options: 1,
        fragment,
        fragment_field: Be16::new(field),
        ..flow(6, UDP, (1, 2))
    };
    let other = frame() / ipv4(A, B).id(9).fragment(32, false).protocol(UDP) / payload(24);
    let unknown = dropped(DropReason::FragmentUnknown);
    run([
        then_reads(reads("in order", &first, is(FIRST)), &later, is(LATER)),
        then_reads(
            reads("in order, ipv6", &first6, is6(FIRST, 1)),
            &later6,
            is6(LATER, 16),
        ),
        row("out of order").send(0, &later, unknown.clone()),
        row("out of order, ipv6").send(0, &later6, unknown.clone()),
        reads("of another datagram", &first, is(FIRST)).send(0, &other, unknown),
        row("over the flags of the first").send(
            0,
            &(frame() / ipv4(A, B).fragment(8, false).protocol(TCP) / payload(24)),
            dropped(DropReason::Malformed),
        ),
        row("too short for its header").send(
            0,
            &(frame()
                / ipv4(A, B).fragment(0, true).protocol(TCP)
                / raw(&[0, 1, 0, 2, 0, 0, 0, 0])),
            dropped(DropReason::Malformed),
        ),
    ]);
}

/// A fragment of a datagram with 16 bytes in its first.
fn fragment_v6(offset: u16, more: bool) -> Packet {
    let mut header = vec![UDP, 0];
    header.extend((offset | u16::from(more)).to_be_bytes());
    header.extend(77u32.to_be_bytes());
    let datagram: &[u8] = if offset == 0 {
        &[0, 1, 0, 2, 0, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    } else {
        &[0; 24]
    };
    frame() / ipv6(A6, B6).next_header(44) / raw(&header) / raw(datagram)
}

#[test]
fn errors_quote() {
    let back = |family: u8, network: u16, flow: Flow| {
        let header = if family == 4 { 20 } else { 40 };
        let at = network + header + 8;
        Flow {
            network: at,
            transport: at + header,
            ..flow
        }
    };
    let quotes = |name, packet: &Packet, expected: Flow| {
        row(name)
            .send(0, packet, passed(0, 0, packet))
            .then(move |cube: &Cube| {
                assert_eq!(cube.read::<u32, Flow>("flows", 1), Some(expected));
            })
    };
    let inside = frame() / ipv4(A, B) / tcp(1000, 80) / payload(20);
    let inside6 = frame() / ipv6(A6, B6) / udp(1, 2) / payload(20);
    let unreachable = |limit| frame() / ipv4(B, A) / icmp(3, 1, 0) / inside.quotation(limit);
    let too_big = frame() / ipv6(B6, A6) / icmpv6(2, 0, 1280) / inside6.quotation(100);
    run([
        // RFC 792: the header and 8 bytes.
        quotes(
            "as little as is allowed",
            &unreachable(28),
            back(4, 14, flow(4, TCP, (1000, 80))),
        ),
        quotes(
            "more",
            &unreachable(60),
            back(4, 14, flow(4, TCP, (1000, 80))),
        ),
        quotes("ipv6", &too_big, back(6, 14, flow(6, UDP, (1, 2)))),
        row("too little").send(0, &unreachable(24), dropped(DropReason::Malformed)),
    ]);
}

#[test]
fn malformed() {
    let drop = || dropped(DropReason::Malformed);
    run([
        row("version").send(0, &(frame() / ipv4(A, B).version(5) / udp(1, 2)), drop()),
        row("header length").send(0, &(frame() / ipv4(A, B).ihl(4) / udp(1, 2)), drop()),
        row("total length").send(
            0,
            &(frame() / ipv4(A, B).total_length(19) / udp(1, 2)),
            drop(),
        ),
        row("version, ipv6").send(0, &(frame() / ipv6(A6, B6).version(4) / udp(1, 2)), drop()),
        row("no header").only(Hook::Xdp, CUT_OFF).send(
            0,
            &(frame() / ipv4(A, B) / udp(1, 2)).truncated(30),
            drop(),
        ),
        row("no ports").send(0, &(frame() / ipv4(A, B) / udp(1, 2)).truncated(38), drop()),
        row("no flags").send(0, &(frame() / ipv4(A, B) / tcp(1, 2)).truncated(44), drop()),
        row("short header").send(
            0,
            &(frame()
                / ipv4(A, B).protocol(TCP)
                / raw(&[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 2])),
            drop(),
        ),
    ]);
}
