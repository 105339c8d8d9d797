//! Bridge protocol data units as bytes (IEEE 802.1D-2004, 9.3).

use super::vector::{BridgeId, PortId, Times, Vector};

/// Bytes of a configuration BPDU (9.3.1).
const CONFIG: usize = 35;
/// Bytes of a topology change notification (9.3.2).
const TCN: usize = 4;
/// Bytes of an RST BPDU (9.3.3).
pub const LONGEST: usize = 36;

const TYPE_CONFIG: u8 = 0x00;
const TYPE_RST: u8 = 0x02;
const TYPE_TCN: u8 = 0x80;
const VERSION_RST: u8 = 2;

const TOPOLOGY_CHANGE: u8 = 1 << 0;
const PROPOSAL: u8 = 1 << 1;
const ROLE_SHIFT: u8 = 2;
const LEARNING: u8 = 1 << 4;
const FORWARDING: u8 = 1 << 5;
const AGREEMENT: u8 = 1 << 6;
const ACKNOWLEDGMENT: u8 = 1 << 7;

/// The role of the port that sent an RST BPDU (9.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentRole {
    /// Alternate or backup.
    AlternateOrBackup,
    /// Root.
    Root,
    /// Designated.
    Designated,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bpdu {
    /// Of a bridge that speaks STP: it comes from a designated port.
    Config(Message),
    /// Of a bridge that speaks STP: the topology changed.
    Tcn,
    /// Of a bridge that speaks RSTP.
    Rst(Message, Rapid),
}

/// What a message says in STP and RSTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's way to the root.
    pub vector: Vector,
    /// Times of the root.
    pub times: Times,
    /// The topology changed.
    pub topology_change: bool,
    /// It is known that the topology changed; only in configuration BPDUs.
    pub acknowledgment: bool,
}

/// What it says in RSTP only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rapid {
    /// The role of the sender's port.
    pub role: SentRole,
    /// The sender would like to forward at once.
    pub proposal: bool,
    /// The sender agrees that the other side does.
    pub agreement: bool,
    /// The sender learns.
    pub learning: bool,
    /// The sender forwards.
    pub forwarding: bool,
}

/// Why bytes are no BPDU to act upon (9.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Shorter than its type is.
    #[error("cut off")]
    Short,
    /// Not the spanning tree protocol.
    #[error("of another protocol")]
    Protocol,
    /// A type or a version that does not exist.
    #[error("of an unknown type or version")]
    Type,
    /// Older than it may become.
    #[error("too old")]
    Age,
}

impl Bpdu {
    /// Reads a message. What is behind it is padding.
    ///
    /// # Errors
    ///
    /// It is none that may be acted upon.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let [p, q, version, kind, ..] = *bytes else {
            return Err(Invalid::Short);
        };
        if [p, q] != [0, 0] {
            return Err(Invalid::Protocol);
        }
        match kind {
            // The version of these two is not looked at (9.3.4): later ones keep the format.
            TYPE_TCN => Ok(Self::Tcn),
            TYPE_CONFIG => {
                let (message, _) = Message::decode(bytes)?;
                if message.times.message_age >= message.times.max_age {
                    return Err(Invalid::Age);
                }
                Ok(Self::Config(message))
            }
            TYPE_RST if version >= VERSION_RST => {
                if bytes.len() < LONGEST {
                    return Err(Invalid::Short);
                }
                let (mut message, flags) = Message::decode(bytes)?;
                let role = match flags >> ROLE_SHIFT & 3 {
                    1 => SentRole::AlternateOrBackup,
                    2 => SentRole::Root,
                    3 => SentRole::Designated,
                    // Of an unknown role: as a configuration BPDU (9.2.9).
                    _ => return Ok(Self::Config(message)),
                };
                message.acknowledgment = false;
                let rapid = Rapid {
                    role,
                    proposal: flags & PROPOSAL != 0,
                    agreement: flags & AGREEMENT != 0,
                    learning: flags & LEARNING != 0,
                    forwarding: flags & FORWARDING != 0,
                };
                Ok(Self::Rst(message, rapid))
            }
            _ => Err(Invalid::Type),
        }
    }

    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Tcn => {
                let tcn: [u8; TCN] = [0, 0, 0, TYPE_TCN];
                tcn.to_vec()
            }
            Self::Config(message) => {
                let mut flags = 0;
                if message.acknowledgment {
                    flags |= ACKNOWLEDGMENT;
                }
                message.encode(0, TYPE_CONFIG, flags)
            }
            Self::Rst(message, rapid) => {
                let role = match rapid.role {
                    SentRole::AlternateOrBackup => 1,
                    SentRole::Root => 2,
                    SentRole::Designated => 3,
                };
                let mut flags = role << ROLE_SHIFT;
                for (set, flag) in [
                    (rapid.proposal, PROPOSAL),
                    (rapid.agreement, AGREEMENT),
                    (rapid.learning, LEARNING),
                    (rapid.forwarding, FORWARDING),
                ] {
                    if set {
                        flags |= flag;
                    }
                }
                let mut bytes = message.encode(VERSION_RST, TYPE_RST, flags);
                // Length of what version 1 has more: nothing.
                bytes.push(0);
                bytes
            }
        }
    }
}

impl Message {
    fn decode(bytes: &[u8]) -> Result<(Self, u8), Invalid> {
        let bytes: &[u8; CONFIG] = bytes.first_chunk().ok_or(Invalid::Short)?;
        let mut rest = &bytes[4..];
        let flags = rest[0];
        rest = &rest[1..];
        let message = Self {
            vector: Vector {
                root: BridgeId::from_bytes(take(&mut rest)),
                cost: u32::from_be_bytes(take(&mut rest)),
                bridge: BridgeId::from_bytes(take(&mut rest)),
                port: PortId(u16::from_be_bytes(take(&mut rest))),
            },
            times: Times {
                message_age: seconds(take(&mut rest)),
                max_age: seconds(take(&mut rest)),
                // A message more often than once a second is not one to keep up with (17.21.14).
                hello_time: seconds(take(&mut rest)).max(1),
                forward_delay: seconds(take(&mut rest)),
            },
            topology_change: flags & TOPOLOGY_CHANGE != 0,
            acknowledgment: flags & ACKNOWLEDGMENT != 0,
        };
        Ok((message, flags))
    }

    fn encode(&self, version: u8, kind: u8, mut flags: u8) -> Vec<u8> {
        if self.topology_change {
            flags |= TOPOLOGY_CHANGE;
        }
        let mut bytes = Vec::with_capacity(LONGEST);
        bytes.extend([0, 0, version, kind, flags]);
        bytes.extend(self.vector.root.bytes());
        bytes.extend(self.vector.cost.to_be_bytes());
        bytes.extend(self.vector.bridge.bytes());
        bytes.extend(self.vector.port.0.to_be_bytes());
        for time in [
            self.times.message_age,
            self.times.max_age,
            self.times.hello_time,
            self.times.forward_delay,
        ] {
            bytes.extend((time.min(255) << 8).to_be_bytes());
        }
        bytes
    }
}

/// The first bytes of what is long enough.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (first, others) = rest.split_at(N);
    *rest = others;
    let mut bytes = [0; N];
    bytes.copy_from_slice(first);
    bytes
}

/// A time in units of 1/256 s (9.2.8), rounded to whole seconds: the timers have no finer ones.
fn seconds(bytes: [u8; 2]) -> u16 {
    let [whole, fraction] = bytes;
    u16::from(whole) + u16::from(fraction >= 128)
}
