//! What a router says of itself without being asked: frames, complete from the Ethernet header on.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_abi::{
    checksum,
    router::{ADVERTISEMENT_FRAME, Advertisement},
};
use topology_schema::cube::router::{Port, RouterAdvertisement, Spec};

use super::{link_local, port_mac};
use crate::cube::{Context, index};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The group's link-layer address (RFC 2464, 7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];
/// Messages that did not come from the link itself are not believed (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
/// The hop limit that hosts are told to use (RFC 4861, 4.2; RFC 1700).
const HOSTS_HOP_LIMIT: u8 = 64;

/// For how long a prefix is on the link and makes addresses, and for how long these are preferred
/// (RFC 4861, 6.2.1), in seconds.
const VALID: u32 = 2_592_000;
const PREFERRED: u32 = 604_800;

/// What a port says once it is live.
pub(super) fn all(port: &Port, mac: [u8; 6]) -> Vec<Vec<u8>> {
    let mut frames = addresses(port, mac);
    let settings = port.router_advertisement.as_ref();
    if let Some(settings) = settings.filter(|settings| settings.enabled) {
        frames.push(router_advertisement(port, settings, mac));
    }
    frames
}

/// That the port's addresses are at its link-layer address: an ARP announcement each (RFC 5227,
/// 2.3), or an unsolicited neighbour advertisement (RFC 4861, 7.2.6).
fn addresses(port: &Port, mac: [u8; 6]) -> Vec<Vec<u8>> {
    let addresses = port.addresses.iter().map(|address| address.address());
    let own = Ipv6Addr::from(link_local(mac));
    let mut frames: Vec<Vec<u8>> = addresses
        .map(|address| match address {
            IpAddr::V4(address) => arp_announcement(mac, address),
            IpAddr::V6(address) => neighbor_advertisement(mac, address),
        })
        .collect();
    if port
        .addresses
        .iter()
        .any(|address| address.address().is_ipv6())
    {
        frames.push(neighbor_advertisement(mac, own));
    }
    frames
}

/// An ARP request that asks for the sender itself.
fn arp_announcement(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, [0x08, 0x06]);
    // Ethernet, IPv4, lengths 6 and 4, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    // Ethernet frames have 60 bytes at least.
    frame.resize(60, 0);
    frame
}

fn neighbor_advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    /// From a router, overriding (RFC 4861, 4.4).
    const ROUTER_OVERRIDE: u8 = 0xa0;
    /// Target link-layer address, 8 bytes (RFC 4861, 4.6.1).
    const TARGET: [u8; 2] = [2, 1];
    let mut message = vec![136, 0, 0, 0, ROUTER_OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    message.extend(TARGET);
    message.extend(mac);
    to_all_nodes(mac, address, message)
}

/// The table `advertisements`: what each port that advertises says.
pub(super) fn advertisements(context: &Context<'_>, spec: &Spec) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let topology = &context.graph.topology().topology().metadata.name;
    let mut table = BTreeMap::new();
    for (name, port) in &spec.ports {
        let settings = port.router_advertisement.as_ref();
        let (Some(settings), Some(number)) = (
            settings.filter(|settings| settings.enabled),
            context.port(name),
        ) else {
            continue;
        };
        let mac = port_mac(topology, context.name, spec, name).0;
        let bytes = router_advertisement(port, settings, mac);
        let mut entry = Advertisement {
            interval: settings.interval_seconds(),
            length: bytes.len() as u32,
            frame: [0; ADVERTISEMENT_FRAME],
        };
        // The schema's limits see to it that it fits.
        if let Some(place) = entry.frame.get_mut(..bytes.len()) {
            place.copy_from_slice(&bytes);
            table.insert(index(number), super::bytes(&entry));
        }
    }
    table
}

/// A router advertisement to all (RFC 4861, 4.2).
fn router_advertisement(port: &Port, settings: &RouterAdvertisement, mac: [u8; 6]) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, HOSTS_HOP_LIMIT];
    message.push(u8::from(settings.managed) << 7 | u8::from(settings.other) << 6);
    message.extend(settings.lifetime_seconds().to_be_bytes());
    // Reachable time and retransmission timer: unspecified.
    message.extend([0; 8]);
    // Source link-layer address (RFC 4861, 4.6.1).
    message.extend([1, 1]);
    message.extend(mac);
    if let Some(mtu) = settings.mtu {
        message.extend([5, 1, 0, 0]);
        message.extend(mtu.get().to_be_bytes());
    }
    for (network, length) in settings.networks(port) {
        // On the link; hosts make addresses in it, if they can (RFC 4862, 5.5.3).
        let flags = if length == 64 { 0xc0 } else { 0x80 };
        message.extend([3, 4, length, flags]);
        message.extend(VALID.to_be_bytes());
        message.extend(PREFERRED.to_be_bytes());
        message.extend([0; 4]);
        message.extend(network.octets());
    }
    let dns: Vec<Ipv6Addr> = settings.dns_servers().collect();
    if !dns.is_empty() {
        // RFC 8106, 5.1: the lifetime should be three intervals.
        let lifetime = 3 * settings.interval_seconds();
        message.extend([25, 1 + 2 * dns.len() as u8, 0, 0]);
        message.extend(lifetime.to_be_bytes());
        message.extend(dns.iter().flat_map(Ipv6Addr::octets));
    }
    to_all_nodes(mac, link_local(mac).into(), message)
}

/// An ICMPv6 message to all nodes on the link, with its checksum.
fn to_all_nodes(mac: [u8; 6], source: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    let length = message.len() as u16;
    let mut covered = source.octets().to_vec();
    covered.extend(ALL_NODES.octets());
    covered.extend(u32::from(length).to_be_bytes());
    covered.extend([0, 0, 0, ICMPV6]);
    covered.extend(&message);
    let sum = checksum::finish(checksum::sum(&covered)).word();
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
    let mut frame = ethernet(ALL_NODES_MAC, mac, [0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: [u8; 2]) -> Vec<u8> {
    [&destination[..], &source, &ethertype].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn port(text: &str) -> Port {
        serde_json::from_str(text).expect("a port")
    }

    /// The largest one there can be fits into the table.
    #[test]
    fn there_is_room() {
        let prefixes: Vec<String> = (0..8).map(|i| format!("\"fd00:{i}::/64\"")).collect();
        let dns: Vec<String> = (0..8).map(|i| format!("\"fd00::{i}\"")).collect();
        let port = port(&format!(
            "{{\"addresses\": [\"fd00::1/64\"], \"routerAdvertisement\": {{\"mtu\": 1400, \"prefixes\": [{}], \"dns\": [{}]}}}}",
            prefixes.join(","),
            dns.join(",")
        ));
        let settings = port.router_advertisement.as_ref().expect("given");
        let frame = router_advertisement(&port, settings, MAC);
        assert!(frame.len() <= ADVERTISEMENT_FRAME, "{}", frame.len());
        assert_eq!(frame.len(), 14 + 40 + 16 + 8 + 8 + 8 * 32 + 8 + 8 * 16);
    }

    #[test]
    fn what_is_said() {
        let port = port(
            "{\"addresses\": [\"10.0.0.1/24\", \"fd00:1::1/64\"], \"routerAdvertisement\": {\"interval\": \"30s\"}}",
        );
        let settings = port.router_advertisement.as_ref().expect("given");
        let frame = router_advertisement(&port, settings, MAC);
        let message = &frame[54..];
        // Hop limit 64, no flags, 90 seconds.
        assert_eq!(message[4..8], [64, 0, 0, 90]);
        assert_eq!(message[16..24], [1, 1, 2, 0, 0, 0, 0, 1]);
        // The port's network: on the link, and hosts make addresses in it.
        assert_eq!(message[24..28], [3, 4, 64, 0xc0]);
        assert_eq!(message[40..44], [0xfd, 0, 0, 1]);
        assert_eq!(message.len(), 56);
    }

    #[test]
    fn each_address_is_announced() {
        let port = port("{\"addresses\": [\"10.0.0.1/24\", \"fd00:1::1/64\"]}");
        let frames = addresses(&port, MAC);
        assert_eq!(frames.len(), 3);
        // Sender and target are the address itself.
        assert_eq!(frames[0][28..32], [10, 0, 0, 1]);
        assert_eq!(frames[0][38..42], [10, 0, 0, 1]);
        for frame in &frames[1..] {
            assert_eq!((frame[54], frame[58]), (136, 0xa0));
        }
    }
}
