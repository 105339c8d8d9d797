//! Frames as a namespace sees them, taken apart.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
        sockopt::{RcvBufForce, ReceiveTimeout},
    },
    time::TimeVal,
};

use crate::{
    packet::{checksum, checksum_with_pseudo_header},
    wait,
};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// `PACKET_OUTGOING` (linux/if_packet.h): what this machine sends, as opposed to receives.
const OUTGOING: u8 = 4;
/// How long one call waits for a frame.
const SLICE: Duration = Duration::from_millis(20);
/// Bytes of frames that may wait to be read.
const BUFFER: usize = 16 << 20;

/// Protocol numbers.
#[expect(missing_docs, reason = "named like what they are")]
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
}

/// A socket that hears everything in the network namespace it was opened in, from then on.
pub struct Wire {
    socket: OwnedFd,
}

/// A frame.
#[derive(Clone)]
pub struct Frame {
    /// Index of the interface.
    pub interface: u32,
    /// Sent by this namespace, as opposed to received.
    pub outgoing: bool,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// State of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Right.
    Right,
    /// Left for later: the sum over the pseudo-header only, as hardware or the receiver expects.
    Pending,
    /// Neither.
    Wrong,
}

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Ip<'a> {
    /// From.
    pub source: IpAddr,
    /// To.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub hops: u8,
    /// What is inside.
    pub protocol: u8,
    /// Of the header; there is none in IPv6, which is right.
    pub header_sum: Sum,
    /// TCP, UDP or ICMP, with its header.
    pub segment: &'a [u8],
    /// The addresses as the pseudo-header has them.
    addresses: &'a [u8],
}

impl Wire {
    /// Listens in the calling thread's namespace.
    pub(crate) fn start() -> Self {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .expect("root can open a packet socket");
        setsockopt(
            &socket,
            ReceiveTimeout,
            &TimeVal::new(0, SLICE.as_micros() as i64),
        )
        .expect("a socket can time out");
        setsockopt(&socket, RcvBufForce, &BUFFER).expect("root can enlarge a buffer");
        Self { socket }
    }

    /// What has come by now, and what comes until nothing does for a moment.
    pub fn drain(&self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).take(100_000).collect()
    }

    /// The next received frame with a property; a panic that says `what` was waited for.
    #[track_caller]
    pub fn expect(&self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        self.collect_until(what, wanted)
            .pop()
            .expect("at least the one waited for")
    }

    /// All frames up to the next received one with a property, which comes last; a panic that
    /// says `what` was waited for.
    #[track_caller]
    pub fn collect_until(&self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        let deadline = Instant::now() + wait::PATIENCE;
        while Instant::now() < deadline {
            let Some(frame) = self.next() else { continue };
            let found = !frame.outgoing && wanted(&frame);
            frames.push(frame);
            if found {
                return frames;
            }
        }
        panic!("waited for {what}; there were {frames:#?}");
    }

    fn next(&self) -> Option<Frame> {
        let mut buffer = vec![0; 1 << 17];
        let (length, from) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer).ok()?;
        let from = from.expect("a packet socket tells the interface");
        buffer.truncate(length);
        Some(Frame {
            interface: from.ifindex() as u32,
            outgoing: from.pkttype() == OUTGOING,
            bytes: buffer,
        })
    }
}

impl Frame {
    /// To whom.
    pub fn destination(&self) -> Mac {
        self.bytes[..6].try_into().expect("six bytes")
    }

    /// From whom.
    pub fn source(&self) -> Mac {
        self.bytes[6..12].try_into().expect("six bytes")
    }

    /// What is inside.
    pub fn ethertype(&self) -> u16 {
        word(&self.bytes, 12)
    }

    /// The IP packet inside, if it is one, and whole.
    pub fn ip(&self) -> Option<Ip<'_>> {
        let rest = self.bytes.get(14..)?;
        match self.ethertype() {
            0x0800 => {
                let length = usize::from(rest.first()? & 0xf) * 4;
                let header = rest.get(..length.max(20))?;
                Some(Ip {
                    source: v4(&header[12..16]),
                    destination: v4(&header[16..20]),
                    hops: header[8],
                    protocol: header[9],
                    header_sum: if checksum(header) == 0 {
                        Sum::Right
                    } else {
                        Sum::Wrong
                    },
                    segment: rest.get(length..usize::from(word(header, 2)))?,
                    addresses: &rest[12..20],
                })
            }
            0x86dd => {
                let (header, inside) = rest.split_at_checked(40)?;
                Some(Ip {
                    source: v6(&header[8..24]),
                    destination: v6(&header[24..40]),
                    hops: header[7],
                    protocol: header[6],
                    header_sum: Sum::Right,
                    segment: inside.get(..usize::from(word(header, 4)))?,
                    addresses: &rest[8..40],
                })
            }
            _ => None,
        }
    }

    /// The IP packet, if it is of this protocol, from and to these addresses.
    pub fn between(&self, source: IpAddr, destination: IpAddr, protocol: u8) -> Option<Ip<'_>> {
        self.ip().filter(|ip| {
            (ip.source, ip.destination, ip.protocol) == (source, destination, protocol)
        })
    }

    /// Whether this is an ARP request or a neighbour solicitation for an address.
    pub fn asks_for(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let arp = &self.bytes[14..];
                self.ethertype() == 0x0806
                    && arp.get(6..8) == Some(&[0, 1])
                    && arp.get(24..28) == Some(&address.octets())
            }
            IpAddr::V6(address) => self.ip().is_some_and(|ip| {
                ip.protocol == protocol::ICMPV6
                    && ip.segment.first() == Some(&135)
                    && ip.segment.get(8..24) == Some(&address.octets())
            }),
        }
    }
}

impl Ip<'_> {
    /// Source and destination port.
    pub fn ports(&self) -> (u16, u16) {
        (word(self.segment, 0), word(self.segment, 2))
    }

    /// What a UDP datagram carries.
    pub fn datagram(&self) -> &[u8] {
        &self.segment[8..]
    }

    /// State of the checksum of TCP, UDP or ICMP.
    pub fn sum(&self) -> Sum {
        let at = match self.protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            protocol::ICMPV6 => 2,
            _ if checksum(self.segment) == 0 => return Sum::Right,
            _ => return Sum::Wrong,
        };
        if checksum_with_pseudo_header(self.addresses, self.protocol, self.segment) == 0 {
            return Sum::Right;
        }
        let mut pseudo = self.addresses.to_vec();
        pseudo.extend((self.segment.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, self.protocol]);
        // What waits there is the sum itself, not its complement.
        if word(self.segment, at) == !checksum(&pseudo) {
            Sum::Pending
        } else {
            Sum::Wrong
        }
    }

    /// Insists on checksums that are right, or left for later.
    #[track_caller]
    pub fn assert_sums(&self) {
        assert_eq!(self.header_sum, Sum::Right, "{self:?}");
        assert_ne!(self.sum(), Sum::Wrong, "{self:?}");
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.outgoing { "out of" } else { "in at" };
        let (head, length) = (&self.bytes[..self.bytes.len().min(64)], self.bytes.len());
        write!(
            f,
            "{direction} {}, {length} bytes: {head:02x?}",
            self.interface
        )
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn v4(bytes: &[u8]) -> IpAddr {
    Ipv4Addr::from(<[u8; 4]>::try_from(bytes).expect("four bytes")).into()
}

fn v6(bytes: &[u8]) -> IpAddr {
    Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("sixteen bytes")).into()
}
