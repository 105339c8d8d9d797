//! Seeing frames on real interfaces.

use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
        sockopt::ReceiveTimeout,
    },
    time::TimeVal,
};

/// `PACKET_OUTGOING` (linux/if_packet.h): what this machine sends, as opposed to receives.
const OUTGOING: u8 = 4;
/// How long one call waits for a frame.
const SLICE: Duration = Duration::from_millis(20);
/// How long frames that must come may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A packet socket that hears what all interfaces of the thread's network namespace receive.
pub struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// Starts to listen.
    pub fn start() -> Self {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .expect("root can open a packet socket");
        let timeout = TimeVal::new(0, SLICE.as_micros() as i64);
        setsockopt(&socket, ReceiveTimeout, &timeout).expect("a socket can time out");
        Self { socket }
    }

    /// How often each interface received `frame`: returns when `expected` came in all and then
    /// nothing more, or when they took too long.
    pub fn count(&self, frame: &[u8], expected: usize) -> BTreeMap<u32, usize> {
        let mut seen = BTreeMap::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next() {
                Some((ifindex, received)) if received == frame => {
                    *seen.entry(ifindex).or_default() += 1
                }
                Some(_) => {}
                None if seen.values().sum::<usize>() >= expected || Instant::now() > deadline => {
                    return seen;
                }
                None => {}
            }
        }
    }

    /// The next frame an interface received.
    fn next(&self) -> Option<(u32, Vec<u8>)> {
        loop {
            let mut buffer = [0; 4096];
            let (length, from) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer).ok()?;
            let from = from.expect("a packet socket tells the interface");
            if from.pkttype() != OUTGOING {
                return Some((from.ifindex() as u32, buffer[..length].to_vec()));
            }
        }
    }
}
