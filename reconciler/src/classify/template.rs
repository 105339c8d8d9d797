//! Templates of tuples: how much of a header a tuple looks at.

use ebpf_abi::classifier::{Header, Range, Words, digest};
use serde::{Deserialize, Serialize};

use super::{
    Family,
    ports::{PORT_BITS, blocks},
    rule::{Compiled, MAPPED_BITS, mask_of},
};

/// Buckets that one rule may be in, in one tuple.
const COPIES: usize = 8;

/// How much of a header a tuple looks at.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(from = "[u8; 5]", into = "[u8; 5]")]
pub(super) struct Template {
    /// Bits of the source address, counted in IPv6 addresses.
    pub source: u8,
    /// Bits of the destination address.
    pub destination: u8,
    /// Bits of the protocol: 8 or 0.
    pub protocol: u8,
    /// Bits of the source port.
    pub source_port: u8,
    /// Bits of what is in the place of the destination port.
    pub destination_port: u8,
}

impl From<[u8; 5]> for Template {
    fn from([source, destination, protocol, source_port, destination_port]: [u8; 5]) -> Self {
        Self {
            source: source.min(128),
            destination: destination.min(128),
            protocol: protocol.min(8),
            source_port: source_port.min(PORT_BITS),
            destination_port: destination_port.min(PORT_BITS),
        }
    }
}

impl From<Template> for [u8; 5] {
    fn from(template: Template) -> Self {
        [
            template.source,
            template.destination,
            template.protocol,
            template.source_port,
            template.destination_port,
        ]
    }
}

impl Template {
    /// How many bits it looks at. The more, the shorter the buckets, and the fewer the rules that
    /// it can be used for.
    pub(super) fn bits(self, family: Family) -> u32 {
        let address = |length: u8| match family {
            Family::V4 => length.saturating_sub(MAPPED_BITS),
            Family::V6 => length,
        };
        let parts = [
            address(self.source),
            address(self.destination),
            self.protocol,
            self.source_port,
            self.destination_port,
        ];
        parts.into_iter().map(u32::from).sum()
    }

    /// The bits, in the words of a header.
    pub(super) fn mask(self) -> Words {
        let port = |bits: u8| {
            let mask = u16::MAX.checked_shl(u32::from(PORT_BITS - bits));
            mask.unwrap_or(0)
        };
        let mask = Header {
            source: mask_of(self.source),
            destination: mask_of(self.destination),
            protocol: if self.protocol == 0 { 0 } else { u8::MAX },
            source_port: port(self.source_port),
            destination_port: port(self.destination_port),
            ..Header::default()
        };
        mask.words()
    }

    /// Keeps its keys apart from those of others.
    pub(super) fn seed(self) -> u64 {
        let [a, b, c, d, e] = self.into();
        // The finalizer of splitmix64 over what is different in each.
        let mixed = u64::from_le_bytes([a, b, c, d, e, 0, 0, 1]);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The digests of what the rule says of the bits: more than one where it names several ports.
    /// `None` if it does not say all of them, or too many.
    pub(super) fn digests(self, rule: &Compiled) -> Option<Vec<u64>> {
        let says = self.source <= rule.source
            && self.destination <= rule.destination
            && (self.protocol == 0 || rule.protocol);
        if !says {
            return None;
        }
        let sources = blocks(&rule.source_ports, self.source_port, COPIES)?;
        let most = COPIES / sources.len().max(1);
        let destinations = blocks(&rule.destination_ports, self.destination_port, most)?;
        let (seed, mask) = (self.seed(), self.mask());
        let [a, b, c, d, rest] = rule.words();
        let rest = rest & !u64::from(u32::MAX);
        let mut digests = Vec::with_capacity(sources.len() * destinations.len());
        for source in sources {
            for destination in &destinations {
                let ports = u64::from(source) << 16 | u64::from(*destination);
                let words = [a, b, c, d, rest | ports];
                digests.push(digest(seed, &mask, &words));
            }
        }
        Some(digests)
    }

    /// The template with the most bits that the rule has keys for.
    pub(super) fn finest(rule: &Compiled) -> Self {
        let mut finest = Self {
            source: rule.source,
            destination: rule.destination,
            protocol: if rule.protocol { 8 } else { 0 },
            ..Self::default()
        };
        let longest = |ports: &[Range], most: usize| {
            let mut lengths = (1..=PORT_BITS).rev();
            let found = lengths.find_map(|length| Some((length, blocks(ports, length, most)?)));
            found.map_or((0, 1), |(length, blocks)| (length, blocks.len()))
        };
        let any =
            |ports: &[Range]| matches!(ports, [one] if one.first == 0 && one.last == u16::MAX);
        let mut most = COPIES;
        if !any(&rule.destination_ports) {
            let (length, copies) = longest(&rule.destination_ports, most);
            finest.destination_port = length;
            most /= copies.max(1);
        }
        if !any(&rule.source_ports) {
            finest.source_port = longest(&rule.source_ports, most).0;
        }
        finest
    }
}
