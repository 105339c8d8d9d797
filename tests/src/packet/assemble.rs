//! From layers to bytes.

use super::layers::*;

/// Addresses an upper layer's checksum covers (RFC 768, RFC 9293, RFC 8200, 8.1).
#[derive(Clone, Debug)]
pub(super) struct Pseudo {
    addresses: Vec<u8>,
}

/// The Internet checksum (RFC 1071), in the plainest way.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let word = u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        sum += word;
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !(sum as u16)
}

/// The checksum of an upper layer: over both addresses, its length, its protocol and itself.
pub fn checksum_with_pseudo_header(addresses: &[u8], protocol: u8, segment: &[u8]) -> u16 {
    let mut covered = addresses.to_vec();
    covered.extend((segment.len() as u32).to_be_bytes());
    covered.extend([0, 0, 0, protocol]);
    covered.extend(segment);
    checksum(&covered)
}

/// The bytes of the layers; `pseudo` is what the layer around them has.
pub(super) fn assemble(layers: &[Layer], pseudo: Option<&Pseudo>) -> Vec<u8> {
    let Some((layer, inner)) = layers.split_first() else {
        return Vec::new();
    };
    match layer {
        Layer::Ethernet(ethernet) => {
            let mut bytes = ethernet.destination.to_vec();
            bytes.extend(ethernet.source);
            bytes.extend(
                ethernet
                    .ethertype
                    .unwrap_or_else(|| ethertype(inner))
                    .to_be_bytes(),
            );
            bytes.extend(assemble(inner, None));
            bytes
        }
        Layer::Vlan(vlan) => {
            let mut bytes = vlan.control().to_be_bytes().to_vec();
            bytes.extend(ethertype(inner).to_be_bytes());
            bytes.extend(assemble(inner, None));
            bytes
        }
        Layer::Arp(arp) => arp_bytes(arp),
        Layer::Ipv4(ip) => ipv4_bytes(ip, inner),
        Layer::Ipv6(ip) => ipv6_bytes(ip, inner),
        Layer::Udp(udp) => udp_bytes(udp, assemble(inner, None), pseudo),
        Layer::Tcp(tcp) => tcp_bytes(tcp, assemble(inner, None), pseudo),
        Layer::Icmp(icmp) | Layer::Icmpv6(icmp) => icmp_bytes(icmp, assemble(inner, None), pseudo),
        Layer::Bytes(bytes) => {
            let mut bytes = bytes.clone();
            bytes.extend(assemble(inner, None));
            bytes
        }
    }
}

fn ethertype(inner: &[Layer]) -> u16 {
    match inner.first() {
        Some(Layer::Vlan(vlan)) => vlan.tag_type,
        Some(Layer::Arp(_)) => 0x0806,
        Some(Layer::Ipv4(_)) => 0x0800,
        Some(Layer::Ipv6(_)) => 0x86dd,
        // IEEE Std 802 - Local Experimental Ethertype 1.
        _ => 0x88b5,
    }
}

fn protocol(inner: &[Layer]) -> u8 {
    match inner.first() {
        Some(Layer::Icmp(_)) => 1,
        Some(Layer::Tcp(_)) => 6,
        Some(Layer::Udp(_)) => 17,
        Some(Layer::Icmpv6(_)) => 58,
        // For experiments (RFC 3692).
        _ => 253,
    }
}

fn arp_bytes(arp: &Arp) -> Vec<u8> {
    let mut bytes = arp.hardware.to_be_bytes().to_vec();
    bytes.extend([0x08, 0x00, 6, 4]);
    bytes.extend(arp.operation.to_be_bytes());
    for (mac, address) in [arp.sender, arp.target] {
        bytes.extend(mac);
        bytes.extend(address.octets());
    }
    bytes
}

fn ipv4_bytes(ip: &Ipv4, inner: &[Layer]) -> Vec<u8> {
    let addresses = [ip.source.octets(), ip.destination.octets()].concat();
    let inside = assemble(
        inner,
        Some(&Pseudo {
            addresses: addresses.clone(),
        }),
    );
    let header_length = 20 + ip.options.len();
    let ihl = ip.ihl.unwrap_or((header_length / 4) as u8);
    let total_length = ip
        .total_length
        .unwrap_or((header_length + inside.len()) as u16);
    let mut bytes = vec![ip.version << 4 | ihl, ip.tos];
    for word in [total_length, ip.id, ip.fragment] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend([ip.ttl, ip.protocol.unwrap_or_else(|| protocol(inner)), 0, 0]);
    bytes.extend(&addresses);
    bytes.extend(&ip.options);
    let sum = ip.checksum.unwrap_or_else(|| checksum(&bytes));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(inside);
    bytes
}

fn ipv6_bytes(ip: &Ipv6, inner: &[Layer]) -> Vec<u8> {
    let addresses = [ip.source.octets(), ip.destination.octets()].concat();
    let inside = assemble(
        inner,
        Some(&Pseudo {
            addresses: addresses.clone(),
        }),
    );
    let first = u32::from(ip.version) << 28 | u32::from(ip.class) << 20 | ip.flow;
    let mut bytes = first.to_be_bytes().to_vec();
    bytes.extend(
        ip.payload_length
            .unwrap_or(inside.len() as u16)
            .to_be_bytes(),
    );
    bytes.extend([
        ip.next_header.unwrap_or_else(|| protocol(inner)),
        ip.hop_limit,
    ]);
    bytes.extend(addresses);
    bytes.extend(inside);
    bytes
}

fn udp_bytes(udp: &Udp, inside: Vec<u8>, pseudo: Option<&Pseudo>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [udp.source, udp.destination, (8 + inside.len()) as u16, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(inside);
    put_checksum(&mut bytes, 6, 17, None, pseudo);
    bytes
}

fn tcp_bytes(tcp: &Tcp, inside: Vec<u8>, pseudo: Option<&Pseudo>) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(tcp.source.to_be_bytes());
    bytes.extend(tcp.destination.to_be_bytes());
    bytes.extend(tcp.sequence.to_be_bytes());
    bytes.extend(tcp.acknowledgment.to_be_bytes());
    bytes.extend([(((20 + tcp.options.len()) / 4) << 4) as u8, tcp.flags]);
    bytes.extend(tcp.window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&tcp.options);
    bytes.extend(inside);
    put_checksum(&mut bytes, 16, 6, None, pseudo);
    bytes
}

fn icmp_bytes(icmp: &Icmp, inside: Vec<u8>, pseudo: Option<&Pseudo>) -> Vec<u8> {
    let mut bytes = vec![icmp.kind, icmp.code, 0, 0];
    bytes.extend(icmp.rest.to_be_bytes());
    bytes.extend(&icmp.body);
    bytes.extend(inside);
    // Only ICMPv6 covers a pseudo-header.
    put_checksum(&mut bytes, 2, 58, icmp.checksum, pseudo.filter(|_| icmp.v6));
    bytes
}

fn put_checksum(
    bytes: &mut [u8],
    at: usize,
    protocol: u8,
    instead: Option<u16>,
    pseudo: Option<&Pseudo>,
) {
    let sum = instead.unwrap_or_else(|| match pseudo {
        Some(pseudo) => checksum_with_pseudo_header(&pseudo.addresses, protocol, bytes),
        None => checksum(bytes),
    });
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
