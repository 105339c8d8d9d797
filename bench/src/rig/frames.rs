//! Frames that are sent: one template, and many flows.

use ebpf_abi::bench::{FRAME, FlowHeaders};
use integration_tests::packet::{Packet, ether, ipv4, payload, tcp, udp};

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

/// From whom to whom, IPv4.
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
    /// Link-layer addresses: destination, source.
    pub macs: [[u8; 6]; 2],
    /// Layer 4.
    pub layer4: Layer4,
    /// Flows that take turns.
    pub flows: Vec<Flow>,
}

/// Where the IPv4 header and layer 4 begin.
const IP: usize = 14;
const LAYER4: usize = 34;
/// The flag of a segment that opens a connection (RFC 9293, 3.1).
const SYN: u8 = 2;

impl Frames {
    /// UDP from the sender, addressed to the next router.
    pub fn routed(flows: Vec<Flow>) -> Self {
        Self {
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

    /// The frame of a flow, [`FRAME`] bytes.
    pub fn packet(&self, flow: &Flow) -> Packet {
        let [destination, source] = self.macs;
        let ip = ether(source, destination) / ipv4(flow.source.into(), flow.destination.into());
        let [from, to] = flow.ports;
        match self.layer4 {
            Layer4::Udp => ip / udp(from, to) / payload(FRAME - LAYER4 - 8),
            Layer4::TcpSyn => {
                ip / tcp(from, to).flags(SYN).acknowledgment(0_u32) / payload(FRAME - LAYER4 - 20)
            }
        }
    }

    /// Where the checksum of layer 4 is.
    pub fn checksum_offset(&self) -> usize {
        match self.layer4 {
            Layer4::Udp => LAYER4 + 6,
            Layer4::TcpSyn => LAYER4 + 16,
        }
    }

    /// What differs in the frame of a flow.
    pub fn headers(&self, flow: &Flow) -> FlowHeaders {
        let frame = self.packet(flow).bytes();
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| frame[at + byte]));
        let half = |at: usize| u16::from_ne_bytes([0, 1].map(|byte| frame[at + byte]));
        FlowHeaders {
            addresses: [word(IP + 12), word(IP + 16)],
            ports: word(LAYER4),
            ip_checksum: half(IP + 10),
            checksum: half(self.checksum_offset()),
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
        for layer4 in [Layer4::Udp, Layer4::TcpSyn] {
            let frames = Frames {
                layer4,
                ..Frames::bridged(by_port(1, [10, 0, 0, 1], [10, 0, 0, 2]))
            };
            let frame = frames.packet(&frames.flows[0]).bytes();
            assert_eq!(frame.len(), FRAME);
            assert_eq!(problems(&frame), [""; 0]);
            let headers = frames.headers(&frames.flows[0]);
            assert_eq!(headers.ports.to_ne_bytes(), [4, 0, 19, 136]);
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
