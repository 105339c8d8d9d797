//! Packets for tests: layers put together with `/`, naming only what matters.
//!
//! ```
//! use integration_tests::packet::*;
//! let a = "10.0.0.1".parse().unwrap();
//! let b = "10.0.1.1".parse().unwrap();
//! let packet = ether([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]) / ipv4(a, b).ttl(1) / udp(1000, 53) / payload(20);
//! assert_eq!(packet.bytes().len(), 14 + 20 + 8 + 20);
//! ```
//!
//! Lengths, checksums and the numbers of the next protocol are filled in, unless a layer is told
//! what to say instead: that is how broken packets are made. The arithmetic is this module's own,
//! so that a mistake in the data planes' checksums is not repeated here.

mod assemble;
mod dissect;
mod layers;

use std::ops::Div;

pub use assemble::{checksum, checksum_with_pseudo_header};
pub use dissect::{difference, problems};
pub use layers::*;

/// A frame under construction.
#[derive(Clone, Debug)]
pub struct Packet {
    layers: Vec<Layer>,
    length: Length,
    /// As an expectation: the IPv4 header may have any identification.
    any_identification: bool,
}

#[derive(Clone, Copy, Debug)]
enum Length {
    /// What the layers come to.
    Natural,
    /// Filled up with zeros.
    AtLeast(usize),
    /// Cut off.
    AtMost(usize),
    /// As an expectation: zeros may follow.
    ZerosMayFollow,
}

impl Packet {
    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = assemble::assemble(&self.layers, None);
        match self.length {
            Length::AtLeast(length) if bytes.len() < length => bytes.resize(length, 0),
            Length::AtMost(length) => bytes.truncate(length),
            _ => {}
        }
        bytes
    }

    /// The frame without its Ethernet header, up to `limit` bytes: what an ICMP error quotes.
    pub fn quotation(&self, limit: usize) -> Layer {
        let bytes = self.bytes();
        let end = bytes.len().min(ETHERNET_LENGTH + limit);
        Layer::Bytes(bytes[ETHERNET_LENGTH..end].to_vec())
    }

    /// Filled up with zeros behind the last layer, as Ethernet asks for (60 bytes).
    pub fn padded(self, length: usize) -> Self {
        Self {
            length: Length::AtLeast(length),
            ..self
        }
    }

    /// Cut off after `length` bytes, whatever the headers say.
    pub fn truncated(self, length: usize) -> Self {
        Self {
            length: Length::AtMost(length),
            ..self
        }
    }

    /// As an expectation: the frame may be longer, if only zeros follow.
    pub fn zeros_may_follow(self) -> Self {
        Self {
            length: Length::ZerosMayFollow,
            ..self
        }
    }

    /// As an expectation: the identification in the IPv4 header behind the Ethernet header does not matter.
    pub fn any_identification(self) -> Self {
        Self {
            any_identification: true,
            ..self
        }
    }

    /// The same packet, with the identification of another one if that does not matter.
    fn identified_as(&self, got: &[u8]) -> Self {
        let mut packet = self.clone();
        if let (true, Some(Layer::Ipv4(ip)), Some(id)) = (
            self.any_identification,
            packet.layers.get_mut(1),
            got.get(ETHERNET_LENGTH + 4..ETHERNET_LENGTH + 6),
        ) {
            ip.id = u16::from_be_bytes([id[0], id[1]]);
        }
        packet
    }

    /// Why `got` is not this packet; `None` if it is.
    pub fn compare(&self, got: &[u8]) -> Option<String> {
        let mut expected = self.identified_as(got).bytes();
        if matches!(self.length, Length::ZerosMayFollow) && expected.len() < got.len() {
            expected.resize(got.len(), 0);
        }
        difference(&expected, got)
    }
}

impl<L: Into<Layer>> Div<L> for Packet {
    type Output = Self;

    fn div(mut self, layer: L) -> Self {
        self.layers.push(layer.into());
        self
    }
}

impl<L: Into<Layer>> Div<L> for Ethernet {
    type Output = Packet;

    fn div(self, layer: L) -> Packet {
        Packet {
            layers: vec![self.into(), layer.into()],
            length: Length::Natural,
            any_identification: false,
        }
    }
}
