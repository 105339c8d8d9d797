//! Packets for groups: hosts of the kernel's making join and leave, a router that the test plays
//! asks, and others hear nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use integration_tests::{
    lab::{Lab, run_test},
    packet::{BROADCAST, Packet, checksum, ether, icmpv6, ipv4, ipv6, payload, raw, udp},
    wait,
    wire::Wire,
};
use reconciler::kernel::linux::tap::Tap;
use serde_json::Value;

const TOPOLOGY: &str = r#"
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: groups }
spec:
  namespaces:
    member: { interfaces: { eth0: { addresses: [10.0.0.1/24, "fd00::1/64"] } } }
    other: { interfaces: { eth0: { addresses: [10.0.0.2/24, "fd00::2/64"] } } }
  cubes:
    br: { bridge: { multicastSnooping: true } }
  links: [[br:member, member/eth0], [br:other, other/eth0], [br:router, pcnwait0]]
"#;

const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 1, 0x203);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);

fn mac(group: IpAddr) -> [u8; 6] {
    match group {
        IpAddr::V4(group) => {
            let [_, a, b, c] = group.octets();
            [1, 0, 0x5e, a & 0x7f, b, c]
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}

/// IGMPv3, to be answered within 0.1 s; about all groups, or one.
fn query(group: Ipv4Addr) -> Packet {
    let mut message = [&[0x11, 1, 0, 0][..], &group.octets(), &[2, 125, 0, 0]].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let to = if group.is_unspecified() {
        [224, 0, 0, 1].into()
    } else {
        group
    };
    let ip = ipv4([10, 0, 0, 254].into(), to).ttl(1).protocol(2);
    ether(ROUTER, mac(to.into())) / ip.options(&[0x94, 4, 0, 0]) / raw(&message)
}

/// MLDv2, the same.
fn query_v6(group: Ipv6Addr) -> Packet {
    let body = [&group.octets()[..], &[2, 125, 0, 0]].concat();
    let to = if group.is_unspecified() {
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
    } else {
        group
    };
    let inner =
        ether(ROUTER, ROUTER) / ipv6(ROUTER_V6, to) / icmpv6(130, 0, 100 << 16) / raw(&body);
    let message = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &inner.bytes()[14 + 40..]].concat();
    ether(ROUTER, mac(to.into())) / ipv6(ROUTER_V6, to).hop_limit(1).next_header(0) / raw(&message)
}

fn data(group: IpAddr) -> Packet {
    match group {
        IpAddr::V4(v4) => {
            ether(ROUTER, mac(group)) / ipv4([10, 9, 9, 9].into(), v4) / udp(5, 5) / payload(300)
        }
        IpAddr::V6(v6) => {
            let source = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 9);
            ether(ROUTER, mac(group)) / ipv6(source, v6) / udp(5, 5) / payload(300)
        }
    }
}

/// Whether a packet for the group comes out: asked with a frame for everyone behind it.
fn hears(tap: &Tap, wire: &Wire, group: IpAddr) -> bool {
    let (packet, everyone) = (
        data(group).bytes(),
        (ether(ROUTER, BROADCAST) / payload(77)).bytes(),
    );
    // What came before.
    drop(wire.drain());
    for frame in [&packet, &everyone] {
        tap.arrive(frame).expect("a frame can be written");
    }
    let frames = wire.collect_until("the frame for everyone", |frame| frame.bytes == everyone);
    frames
        .iter()
        .any(|frame| !frame.outgoing && frame.bytes == packet)
}

fn list(lab: &Lab, name: &str) -> Vec<Value> {
    let show = lab.show("groups");
    show["cubes"]["br"][name]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn joined(lab: &Lab, group: IpAddr) -> bool {
    let entries = list(lab, "multicastGroups");
    let text = group.to_string();
    entries
        .iter()
        .any(|entry| entry["group"] == *text && entry["port"] == "member")
}

#[test]
fn members_alone_get_packets_for_groups() {
    run_test(|lab| {
        let tap = Tap::open("").expect("root can open a TAP interface");
        lab.apply(TOPOLOGY);
        let (member, other) = (lab.space("member"), lab.space("other"));
        let (at_member, at_other) = (member.wire(), other.wire());
        let groups: [IpAddr; 2] = [GROUP.into(), GROUP_V6.into()];
        for group in groups {
            assert!(
                hears(&tap, &at_other, group),
                "nobody asks: everyone gets {group}"
            );
        }
        let socket: (UdpSocket, UdpSocket) = member.enter(|| {
            let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5)).expect("a free port");
            let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 5))
                .or_else(|_| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 6)));
            let v6 = v6.expect("a free port");
            v4.join_multicast_v4(&GROUP, &[10, 0, 0, 1].into())
                .expect("a host can join");
            let interface = nix::net::if_::if_nametoindex("eth0").expect("it is there");
            v6.join_multicast_v6(&GROUP_V6, interface)
                .expect("a host can join");
            (v4, v6)
        });
        for frame in [
            query(Ipv4Addr::UNSPECIFIED),
            query_v6(Ipv6Addr::UNSPECIFIED),
        ] {
            tap.arrive(&frame.bytes()).expect("a frame can be written");
        }
        for group in groups {
            wait::until("the kernel's answer", || joined(lab, group).then_some(()));
            wait::until("an end to flooding", || {
                (!hears(&tap, &at_other, group)).then_some(())
            });
            assert!(hears(&tap, &at_member, group), "a member of {group}");
        }
        let routers = list(lab, "multicastRouters");
        let families: Vec<_> = routers
            .iter()
            .map(|router| (&router["family"], &router["port"]))
            .collect();
        let router = Value::from("router");
        assert_eq!(
            families,
            [(&"ipv4".into(), &router), (&"ipv6".into(), &router)]
        );

        // The kernel says that it leaves; the router asks, and nobody answers.
        drop(socket);
        for frame in [query(GROUP), query_v6(GROUP_V6)] {
            tap.arrive(&frame.bytes()).expect("a frame can be written");
        }
        for group in groups {
            wait::until("an end to the membership", || {
                (!joined(lab, group)).then_some(())
            });
            assert!(
                !hears(&tap, &at_member, group),
                "no member of {group} any more"
            );
        }
        lab.pcn("destroy --yes groups").expect(0);
    });
}
