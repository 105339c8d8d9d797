//! Frames that are sent: one template, and many flows.

use std::net::Ipv6Addr;

use ebpf_abi::bench::{FRAME, FlowHeaders, Generator};
use integration_tests::packet::{Packet, ether, ipv4, ipv6, payload, tcp, udp};

use crate::statistics::Random;

/// Link-layer addresses of a way: who sends, the two sides of what is measured, who receives.
pub const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The side towards the sender.
pub const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The side towards the receiver.
pub const FAR: [u8; 6] = [2, 0, 0, 0, 0, 3];
/// Who receives.
pub const RECEIVER: [u8; 6] = [2, 0, 0, 0, 0, 4];

/// As `ip` and topologies write it.
pub fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// Layer 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer4 {
    /// A datagram.
    Udp,
    /// A segment that opens a connection.
    TcpSyn,
}

/// Layer 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Addresses are those of the flows.
    #[default]
    V4,
    /// Addresses are [`v6`] of those of the flows. There is room for UDP alone.
    V6,
}

/// The IPv6 address that stands for an IPv4 address: its four bytes behind 2001, then ::1.
pub fn v6([a, b, c, d]: [u8; 4]) -> Ipv6Addr {
    let half = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0x2001, half(a, b), half(c, d), 0, 0, 0, 0, 1)
}

/// From whom to whom, as IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Source and destination port.
    pub ports: [u16; 2],
}

impl Flow {
    /// From one host to another.
    pub fn new(source: [u8; 4], destination: [u8; 4]) -> Self {
        Self {
            source,
            destination,
            ports: [10_000, 9],
        }
    }

    /// The answer.
    pub fn back(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: [self.ports[1], self.ports[0]],
        }
    }
}

/// What a generator sends.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Layer 3.
    pub family: Family,
    /// Link-layer addresses: destination, source.
    pub macs: [[u8; 6]; 2],
    /// Layer 4.
    pub layer4: Layer4,
    /// Flows that take turns.
    pub flows: Vec<Flow>,
}

/// Bytes of an Ethernet header.
const IP: usize = 14;
/// The flag of a segment that opens a connection (RFC 9293, 3.1).
const SYN: u8 = 2;

impl Frames {
    /// UDP from the sender, addressed to the next router.
    pub fn routed(flows: Vec<Flow>) -> Self {
        Self {
            family: Family::V4,
            macs: [NEAR, SENDER],
            layer4: Layer4::Udp,
            flows,
        }
    }

    /// UDP from the sender, addressed to the receiver itself.
    pub fn bridged(flows: Vec<Flow>) -> Self {
        Self {
            macs: [RECEIVER, SENDER],
            ..Self::routed(flows)
        }
    }

    /// What the receiver sends back.
    pub fn back(&self) -> Self {
        let [destination, source] = self.macs;
        let macs = if destination == RECEIVER {
            [source, destination]
        } else {
            [FAR, RECEIVER]
        };
        Self {
            family: self.family,
            macs,
            layer4: self.layer4,
            flows: self.flows.iter().map(|flow| flow.back()).collect(),
        }
    }

    /// The same with TCP segments that open connections.
    pub fn opening(self) -> Self {
        Self {
            layer4: Layer4::TcpSyn,
            ..self
        }
    }

    /// The same in another family.
    pub fn of(self, family: Family) -> Self {
        Self { family, ..self }
    }

    /// The frame of a flow, [`FRAME`] bytes.
    pub fn packet(&self, flow: &Flow) -> Packet {
        let [destination, source] = self.macs;
        let link = ether(source, destination);
        let ip = match self.family {
            Family::V4 => link / ipv4(flow.source.into(), flow.destination.into()),
            Family::V6 => link / ipv6(v6(flow.source), v6(flow.destination)),
        };
        let [from, to] = flow.ports;
        let rest = FRAME - self.layer4_offset();
        match self.layer4 {
            Layer4::Udp => ip / udp(from, to) / payload(rest - 8),
            Layer4::TcpSyn => {
                ip / tcp(from, to).flags(SYN).acknowledgment(0_u32) / payload(rest - 20)
            }
        }
    }

    fn layer4_offset(&self) -> usize {
        match self.family {
            Family::V4 => IP + 20,
            Family::V6 => IP + 40,
        }
    }

    /// Where frames of this kind have what differs from flow to flow.
    pub fn layout(&self) -> Generator {
        let layer4 = self.layer4_offset() as u32;
        let checksum = match self.layer4 {
            Layer4::Udp => 6,
            Layer4::TcpSyn => 16,
        };
        let ip = IP as u32;
        let (ip_checksum_offset, address_offsets) = match self.family {
            Family::V4 => (ip + 10, [ip + 12, ip + 16]),
            // Behind the first two bytes of both addresses, see `v6`.
            Family::V6 => (0, [ip + 8 + 2, ip + 24 + 2]),
        };
        Generator {
            flows: 0,
            ifindex: 0,
            checksum_offset: layer4 + checksum,
            ip_checksum_offset,
            address_offsets,
            port_offset: layer4,
        }
    }

    /// What differs in the frame of a flow.
    pub fn headers(&self, flow: &Flow) -> FlowHeaders {
        let frame = self.packet(flow).bytes();
        let layout = self.layout();
        let word = |at: u32| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| frame[at as usize + byte]));
        let half = |at: u32| u16::from_ne_bytes([0, 1].map(|byte| frame[at as usize + byte]));
        let ip_checksum = match layout.ip_checksum_offset {
            0 => 0,
            at => half(at),
        };
        FlowHeaders {
            addresses: layout.address_offsets.map(word),
            ports: word(layout.port_offset),
            ip_checksum,
            checksum: half(layout.checksum_offset),
        }
    }
}

/// Flows from one sender to one receiver that differ in their source ports, 60,000 at most to one destination port.
pub fn by_port(count: usize, source: [u8; 4], destination: [u8; 4]) -> Vec<Flow> {
    const PORTS: usize = 60_000;
    let flow = |number: usize| Flow {
        source,
        destination,
        ports: [
            1024 + (number % PORTS) as u16,
            5000 + (number / PORTS) as u16,
        ],
    };
    (0..count).map(flow).collect()
}

/// The same in another order, the same at every run.
pub fn shuffled<T>(mut items: Vec<T>) -> Vec<T> {
    let mut random = Random(3);
    for end in (1..items.len()).rev() {
        items.swap(end, random.below(end + 1));
    }
    items
}

#[cfg(test)]
mod tests {
    use integration_tests::packet::problems;

    use super::*;

    #[test]
    fn frames_are_right_and_as_long_as_the_generator_writes() {
        for (family, layer4) in [
            (Family::V4, Layer4::Udp),
            (Family::V4, Layer4::TcpSyn),
            (Family::V6, Layer4::Udp),
        ] {
            let frames = Frames {
                layer4,
                ..Frames::bridged(by_port(1, [10, 0, 0, 1], [10, 0, 0, 2])).of(family)
            };
            let frame = frames.packet(&frames.flows[0]).bytes();
            assert_eq!(frame.len(), FRAME);
            assert_eq!(problems(&frame), [""; 0]);
            let headers = frames.headers(&frames.flows[0]);
            assert_eq!(headers.ports.to_ne_bytes(), [4, 0, 19, 136]);
            assert_eq!(
                headers.addresses.map(u32::to_ne_bytes),
                [[10, 0, 0, 1], [10, 0, 0, 2]]
            );
        }
    }

    /// What the generator does: the frame of one flow with the headers of another is the frame of that other.
    #[test]
    fn headers_are_all_that_differs() {
        for family in [Family::V4, Family::V6] {
            let flows = vec![
                Flow::new([10, 0, 0, 1], [20, 1, 2, 3]),
                Flow::new([10, 9, 8, 7], [30, 0, 0, 1]),
            ];
            let frames = Frames::routed(flows).of(family);
            let [one, other] = [0, 1].map(|place| frames.packet(&frames.flows[place]).bytes());
            let (headers, layout) = (frames.headers(&frames.flows[1]), frames.layout());
            let mut frame = one;
            let mut write = |at: u32, bytes: &[u8]| {
                frame[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
            };
            if layout.ip_checksum_offset != 0 {
                write(
                    layout.ip_checksum_offset,
                    &headers.ip_checksum.to_ne_bytes(),
                );
            }
            for (at, address) in layout.address_offsets.into_iter().zip(headers.addresses) {
                write(at, &address.to_ne_bytes());
            }
            write(layout.port_offset, &headers.ports.to_ne_bytes());
            write(layout.checksum_offset, &headers.checksum.to_ne_bytes());
            assert_eq!(frame, other, "{family:?}");
        }
    }

    #[test]
    fn answers_go_back() {
        let there = Frames::routed(by_port(1, [10, 0, 0, 1], [10, 0, 0, 2]));
        let back = there.back();
        assert_eq!(back.macs, [FAR, RECEIVER]);
        assert_eq!(back.flows[0].back(), there.flows[0]);
        assert_eq!(Frames::bridged(Vec::new()).back().macs, [SENDER, RECEIVER]);
    }
}
