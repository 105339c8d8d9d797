//! IGMP and MLD messages, and packets for groups.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use integration_tests::packet::{
    Ethernet, Packet, checksum, ether, icmpv6, ipv4, ipv6, payload, raw, udp,
};

pub(super) const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
pub(super) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
pub(super) const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 1, 0x203);
pub(super) const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xa);
pub(super) const SOMEWHERE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub(super) const MLD_V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(super) const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

pub(super) fn group_mac(group: IpAddr) -> [u8; 6] {
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

pub(super) fn to(group: IpAddr) -> Ethernet {
    ether(HOST, group_mac(group))
}

pub(super) fn data(group: impl Into<IpAddr>) -> Packet {
    let group = group.into();
    match group {
        IpAddr::V4(v4) => {
            to(group) / ipv4([10, 0, 0, 1].into(), v4) / udp(5000, 5000) / payload(100)
        }
        IpAddr::V6(v6) => to(group) / ipv6(SOMEWHERE, v6) / udp(5000, 5000) / payload(100),
    }
}

/// IGMP with router alert (RFC 2113).
pub(super) fn igmp(source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Packet {
    let mut message = message.to_vec();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    to(destination.into())
        / ipv4(source, destination)
            .ttl(1)
            .protocol(2)
            .options(&[0x94, 4, 0, 0])
        / raw(&message)
}

pub(super) fn igmp_v2(kind: u8, code: u8, group: Ipv4Addr, destination: Ipv4Addr) -> Packet {
    let message = [&[kind, code, 0, 0][..], &group.octets()].concat();
    igmp([10, 0, 0, 1].into(), destination, &message)
}

pub(super) fn report(group: Ipv4Addr) -> Packet {
    igmp_v2(0x16, 0, group, group)
}

pub(super) fn query(group: Ipv4Addr) -> Packet {
    let destination = if group.is_unspecified() {
        [224, 0, 0, 1].into()
    } else {
        group
    };
    igmp_v2(0x11, 10, group, destination)
}

/// IGMPv3 report: kind, number of sources, group.
pub(super) fn report_v3(records: &[(u8, u16, Ipv4Addr)]) -> Packet {
    let mut message = vec![0x22, 0, 0, 0, 0, 0];
    message.extend((records.len() as u16).to_be_bytes());
    for (kind, sources, group) in records {
        message.extend([*kind, 0]);
        message.extend(sources.to_be_bytes());
        message.extend(group.octets());
        message.extend((0..sources * 4).map(|i| i as u8));
    }
    igmp([10, 0, 0, 1].into(), [224, 0, 0, 22].into(), &message)
}

/// MLD with router alert (RFC 2711), from a link-local address.
pub(super) fn mld(destination: Ipv6Addr, kind: u8, rest: u32, body: &[u8]) -> Packet {
    mld_from(LINK_LOCAL, destination, kind, rest, body)
}

pub(super) fn mld_from(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    rest: u32,
    body: &[u8],
) -> Packet {
    // The checksum covers a pseudo-header with ICMPv6 as the protocol; the options are in between.
    let inner = ether(HOST, HOST) / ipv6(source, destination) / icmpv6(kind, 0, rest) / raw(body);
    let options = [58, 0, 5, 2, 0, 0, 1, 0];
    let message = [&options[..], &inner.bytes()[14 + 40..]].concat();
    to(destination.into()) / ipv6(source, destination).hop_limit(1).next_header(0) / raw(&message)
}

pub(super) fn report_mld(group: Ipv6Addr) -> Packet {
    mld(group, 131, 0, &group.octets())
}

pub(super) fn query_mld(group: Ipv6Addr) -> Packet {
    let destination = if group.is_unspecified() {
        ALL_NODES
    } else {
        group
    };
    mld(destination, 130, 1000 << 16, &group.octets())
}

pub(super) fn report_mld_v2(records: &[(u8, u16, Ipv6Addr)]) -> Packet {
    let mut body = Vec::new();
    for (kind, sources, group) in records {
        body.extend([*kind, 0]);
        body.extend(sources.to_be_bytes());
        body.extend(group.octets());
        body.extend((0..sources * 16).map(|i| i as u8));
    }
    mld(MLD_V2_ROUTERS, 143, records.len() as u32, &body)
}

pub(super) fn mld_with_hops(hops: u8) -> Packet {
    let bytes = report_mld(GROUP_V6).bytes();
    to(GROUP_V6.into())
        / ipv6(LINK_LOCAL, GROUP_V6).hop_limit(hops).next_header(0)
        / raw(&bytes[54..])
}

/// Another last byte.
pub(super) fn broken(packet: &Packet) -> Packet {
    let mut bytes = packet.bytes();
    *bytes.last_mut().expect("not empty") ^= 1;
    let ethertype = u16::from_be_bytes([bytes[12], bytes[13]]);
    ether(
        bytes[6..12].try_into().expect("six"),
        bytes[..6].try_into().expect("six"),
    )
    .ethertype(ethertype)
        / raw(&bytes[14..])
}
