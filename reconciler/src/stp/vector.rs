//! Identifiers, priority vectors and times: what bridges compare (IEEE 802.1D-2004, 9.2 and 17.5).

use std::fmt;

/// A bridge in one instance (9.2.5). Lower is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BridgeId {
    /// Priority in the upper four bits; in the lower twelve the VLAN of the instance, 0 for the
    /// common one.
    pub priority: u16,
    /// The bridge's own address.
    pub address: [u8; 6],
}

impl BridgeId {
    /// As in a BPDU, in network byte order.
    pub const fn bytes(self) -> [u8; 8] {
        let [p, q] = self.priority.to_be_bytes();
        let [a, b, c, d, e, f] = self.address;
        [p, q, a, b, c, d, e, f]
    }

    /// From a BPDU.
    pub const fn from_bytes([p, q, a, b, c, d, e, f]: [u8; 8]) -> Self {
        Self {
            priority: u16::from_be_bytes([p, q]),
            address: [a, b, c, d, e, f],
        }
    }
}

impl fmt::Display for BridgeId {
    /// `32768.02:00:00:00:00:01`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.address;
        write!(
            f,
            "{}.{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}",
            self.priority
        )
    }
}

/// A port of a bridge (9.2.7): priority in the upper four bits, number in the lower twelve.
/// Lower is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

impl PortId {
    /// Port `number`, 1 to 4095, with a priority of 0 to 240 in steps of 16.
    pub const fn new(priority: u8, number: u16) -> Self {
        Self((priority as u16 & 0xf0) << 8 | number & 0x0fff)
    }

    /// The port's number, 1 to 4095.
    pub const fn number(self) -> u16 {
        self.0 & 0x0fff
    }
}

impl fmt::Display for PortId {
    /// `128.1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 8 & 0xf0, self.number())
    }
}

/// What a bridge says about its way to the root (17.5). Lower is better; the order of the fields
/// is the order of the comparison. The fifth component, the port that receives it, is compared
/// where it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vector {
    /// The root.
    pub root: BridgeId,
    /// Cost of the path to it.
    pub cost: u32,
    /// The bridge that says so.
    pub bridge: BridgeId,
    /// Its port.
    pub port: PortId,
}

impl Vector {
    /// True if it takes the place of `other` when a port receives it (17.6): it is better, or
    /// it is from the one that said the other.
    pub fn supersedes(&self, other: &Self) -> bool {
        self < other
            || (self.bridge.address == other.bridge.address
                && self.port.number() == other.port.number())
    }
}

/// Times that the root decides for all (17.18.4, 17.19.22), in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How old the information is: by this much, at least, since the root said it.
    pub message_age: u16,
    /// The age at which information is no longer believed.
    pub max_age: u16,
    /// Between two messages.
    pub hello_time: u16,
    /// In each of the states listening and learning, where nobody agrees to anything faster.
    pub forward_delay: u16,
}

impl Default for Times {
    /// Table 17-1.
    fn default() -> Self {
        Self {
            message_age: 0,
            max_age: 20,
            hello_time: 2,
            forward_delay: 15,
        }
    }
}
