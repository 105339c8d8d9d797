//! Bulk traffic, looked at where it arrives.

use std::net::IpAddr;

use integration_tests::{
    lab::{Lab, Space, run_test},
    traffic::{ping, ping_all, tcp, udp},
    wire::{Frame, Mac, Sum, Wire, protocol},
};

use crate::{example, ip};

/// Bytes of a stream.
const STREAM: usize = 64 << 20;
/// Bytes of datagrams: a short one, one of odd length, a full one, and one in fragments.
const DATAGRAMS: [usize; 4] = [1, 99, 1300, 5000];

#[test]
fn through_a_bridge() {
    run_test(|lab| {
        lab.apply(&example("quickstart"));
        let pairs = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")];
        check(lab, ["h1", "h2"], pairs, 0);
    });
}

#[test]
fn through_a_router() {
    run_test(|lab| {
        lab.apply(&example("router"));
        let pairs = [("10.20.0.1", "10.21.0.1"), ("fd00:20::1", "fd00:21::1")];
        check(lab, ["router-a", "router-b"], pairs, 1);
    });
}

#[test]
fn through_two_bridges_and_two_routers() {
    run_test(|lab| {
        lab.apply(&example("two-routers"));
        let pairs = [("10.40.0.1", "10.41.0.2"), ("fd00:40::1", "fd00:41::2")];
        check(lab, ["a1", "b2"], pairs, 2);
    });
}

fn check(lab: &Lab, [from, to]: [&str; 2], pairs: [(&str, &str); 2], hops: u8) {
    let (from, to) = (lab.space(from), lab.space(to));
    for (source, target) in pairs {
        let (source, target) = (ip(source), ip(target));
        assert_eq!(ping(&from, target), 64 - hops);
        ping_all(&from, target, 200);
        // Where the way is narrow, the sender is told so by the first packet that is too large.
        from.run(&format!("ping -n -c 1 -W 1 -M do -s 1440 {target}"));
        let stations = (sender_as_seen_by(&to, source, &from, hops), to.mac("eth0"));
        let wire = to.wire();
        udp(&from, &to, (source, target), &DATAGRAMS);
        let datagrams = look(&wire, (source, target), protocol::UDP, stations, hops);
        assert!(datagrams.len() >= DATAGRAMS.len() - 1, "{datagrams:#?}");
        drop(wire);
        let wire = to.wire();
        tcp(&from, &to, target, STREAM);
        let segments = look(&wire, (source, target), protocol::TCP, stations, hops);
        let largest = segments.iter().map(|frame| frame.bytes.len()).max();
        assert!(
            largest > Some(16 << 10),
            "no segmentation offload on the way: at most {largest:?} bytes"
        );
    }
}

/// Whose address is on frames from `source`: its own, or that of the last router on the way, as
/// the receiver knows it.
fn sender_as_seen_by(receiver: &Space, source: IpAddr, sender: &Space, hops: u8) -> Mac {
    if hops == 0 {
        return sender.mac("eth0");
    }
    let route = receiver
        .run(&format!("ip -j route get {source}"))
        .expect(0)
        .json();
    let gateway = route[0]["gateway"]
        .as_str()
        .unwrap_or_else(|| panic!("no gateway: {route}"));
    let neighbor = receiver
        .run(&format!("ip -j neigh show {gateway} dev eth0"))
        .expect(0)
        .json();
    let mac = neighbor[0]["lladdr"]
        .as_str()
        .unwrap_or_else(|| panic!("no such neighbour: {neighbor}"));
    let mut bytes = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("two digits"));
    std::array::from_fn(|_| bytes.next().expect("six bytes"))
}

/// The received packets of a flow, each checked.
fn look(
    wire: &Wire,
    (source, target): (IpAddr, IpAddr),
    protocol: u8,
    (near, own): (Mac, Mac),
    hops: u8,
) -> Vec<Frame> {
    let mut frames = wire.drain();
    frames.retain(|frame| !frame.outgoing && frame.between(source, target, protocol).is_some());
    assert!(!frames.is_empty(), "nothing came");
    for frame in &frames {
        let ip = frame
            .between(source, target, protocol)
            .expect("just looked for");
        assert_eq!(
            (frame.source(), frame.destination()),
            (near, own),
            "{frame:?}"
        );
        assert_eq!(ip.hops, 64 - hops, "{frame:?}");
        if is_fragment(frame) {
            assert_eq!(ip.header_sum, Sum::Right, "{frame:?}");
        } else {
            ip.assert_sums();
        }
    }
    frames
}

/// Whether the packet is a part of an IPv4 datagram. (Parts of an IPv6 one have another protocol.)
fn is_fragment(frame: &Frame) -> bool {
    frame.ethertype() == 0x0800 && frame.bytes[20] & 0x3f | frame.bytes[21] != 0
}
