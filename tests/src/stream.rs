//! Streams of numbered, timestamped packets: which of them arrived, how often, and over how many
//! routers.
//!
//! What the test's own sockets and the queues of its interfaces drop is counted apart
//! ([`Overflow`]): it is no loss on the way.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::IoSliceMut,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytemuck::{Pod, Zeroable};
use nix::{
    errno::Errno,
    sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
        sockopt::{Ipv4RecvTtl, Ipv6RecvHopLimit, RcvBufForce},
    },
};

use crate::{clock, lab::Space, wait};

/// Room in a receiver's socket, in bytes: seconds of any stream here.
const BUFFER: usize = 256 << 20;
/// Between two looks at a socket, and between two bursts of a sender.
const PACE: Duration = Duration::from_micros(500);
/// Packets of one burst at most: a sender that was held up does not catch up with more, so that
/// it fills no queue (that of a veth pair on XDP holds 256).
const BURST: u64 = 32;
/// For packets on their way after the last one was sent.
const GRACE: Duration = Duration::from_secs(2);

/// What is in a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Payload {
    /// Of which stream: the sender's port and a number of this process.
    stream: u64,
    /// Counts from 0.
    number: u64,
    /// When it was sent, in nanoseconds of `CLOCK_MONOTONIC`.
    sent: u64,
}

/// From where to where.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// The sender's namespace.
    pub from: &'a Space,
    /// The receiver's namespace.
    pub to: &'a Space,
    /// An address of the sender.
    pub source: IpAddr,
    /// An address of the receiver.
    pub target: IpAddr,
}

/// A running stream; ends when dropped.
pub struct Stream {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<Vec<u64>>>,
    receiver: Option<JoinHandle<Received>>,
}

#[derive(Default)]
struct Shared {
    /// No more packets are to be sent.
    enough: AtomicBool,
    /// No more packets are expected.
    closed: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
}

/// What a receiver saw.
#[derive(Default)]
struct Received {
    /// How often each number came.
    counts: Vec<u8>,
    /// How many packets came with each time to live.
    hops: BTreeMap<u8, u64>,
    /// Packets of somebody else.
    strange: u64,
}

/// What became of a stream.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Packets sent.
    pub sent: u64,
    /// Packets that did not arrive.
    pub lost: u64,
    /// Packets that arrived once more than they should.
    pub duplicated: u64,
    /// How many packets came with each time to live.
    pub hops: BTreeMap<u8, u64>,
    /// Packets of somebody else.
    pub strange: u64,
    /// When each packet was sent, in nanoseconds of `CLOCK_MONOTONIC`.
    pub times: Vec<u64>,
    /// How often each packet arrived.
    pub counts: Vec<u8>,
}

impl Stream {
    /// Starts to send so many packets a second, whether they arrive or not.
    pub fn start(way: Way<'_>, rate: u64) -> Self {
        let (client, server) = (way.from.udp(way.source, 0), way.to.udp(way.target, 0));
        let there = server.local_addr().expect("a bound socket has an address");
        setsockopt(&server, RcvBufForce, &BUFFER).expect("root chooses the buffer");
        match way.target {
            IpAddr::V4(_) => setsockopt(&server, Ipv4RecvTtl, &true),
            IpAddr::V6(_) => setsockopt(&server, Ipv6RecvHopLimit, &true),
        }
        .expect("a socket tells hops");
        let stream = stream_number(&client);
        let shared = Arc::new(Shared::default());
        let receiver = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || receive(&server, stream, &shared))
        };
        let sender = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || send(&client, there, stream, rate, &shared))
        };
        Self {
            shared,
            sender: Some(sender),
            receiver: Some(receiver),
        }
    }

    /// Packets sent up to now.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Packets that arrived up to now.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Waits until so many more packets were sent.
    #[track_caller]
    pub fn go_on(&self, packets: u64) {
        let goal = self.sent() + packets;
        wait::until("packets to be sent", || (self.sent() >= goal).then_some(()));
    }

    /// Stops sending.
    pub fn finish(&self) {
        self.shared.enough.store(true, Ordering::Relaxed);
    }

    /// Stops sending, waits for what is on its way, and counts.
    pub fn end(mut self) -> Tally {
        let (times, received) = self.stop();
        let mut counts = received.counts;
        counts.resize(times.len().max(counts.len()), 0);
        Tally {
            sent: times.len() as u64,
            lost: counts.iter().filter(|count| **count == 0).count() as u64,
            duplicated: counts
                .iter()
                .map(|count| u64::from(count.saturating_sub(1)))
                .sum(),
            hops: received.hops,
            strange: received.strange,
            times,
            counts,
        }
    }

    fn stop(&mut self) -> (Vec<u64>, Received) {
        self.finish();
        let times = self.sender.take().map(join).unwrap_or_default();
        wait::within(GRACE, || {
            (self.received() >= times.len() as u64).then_some(())
        });
        self.shared.closed.store(true, Ordering::Relaxed);
        let received = self.receiver.take().map(join).unwrap_or_default();
        (times, received)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.finish();
        self.shared.closed.store(true, Ordering::Relaxed);
        self.sender.take().map(join);
        self.receiver.take().map(join);
    }
}

fn join<T>(handle: JoinHandle<T>) -> T {
    handle.join().expect("it has said why")
}

/// No two streams of a machine have the same.
fn stream_number(socket: &UdpSocket) -> u64 {
    let port = socket.local_addr().expect("a bound socket has an address");
    u64::from(std::process::id()) << 32 | u64::from(port.port())
}

/// Sends, and says when which packet was sent.
fn send(socket: &UdpSocket, to: SocketAddr, stream: u64, rate: u64, shared: &Shared) -> Vec<u64> {
    let mut times = Vec::new();
    let (mut start, mut since) = (Instant::now(), 0_u64);
    while !shared.enough.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
        let burst = due.saturating_sub(since);
        for _ in 0..burst.min(BURST) {
            let payload = Payload {
                stream,
                number: times.len() as u64,
                sent: clock::precise(),
            };
            match socket.send_to(bytemuck::bytes_of(&payload), to) {
                Ok(_) => times.push(payload.sent),
                Err(error) => panic!("packet {} to {to}: {error}", payload.number),
            }
        }
        since += burst.min(BURST);
        if burst > BURST {
            (start, since) = (Instant::now(), 0);
        }
        shared.sent.store(times.len() as u64, Ordering::Relaxed);
        thread::sleep(PACE);
    }
    times
}

/// Takes what comes until the stream is closed, and then what is there.
fn receive(socket: &UdpSocket, stream: u64, shared: &Shared) -> Received {
    let mut received = Received::default();
    loop {
        let closed = shared.closed.load(Ordering::Relaxed);
        while let Some((payload, hops)) = next(socket) {
            if payload.stream != stream {
                received.strange += 1;
                continue;
            }
            let number = usize::try_from(payload.number).expect("64 bits");
            if received.counts.len() <= number {
                received.counts.resize(number + 1, 0);
            }
            let count = &mut received.counts[number];
            *count = count.saturating_add(1);
            *received.hops.entry(hops).or_default() += 1;
            shared.received.fetch_add(1, Ordering::Relaxed);
        }
        if closed {
            return received;
        }
        thread::sleep(PACE);
    }
}

/// The next packet, if one is there, and its time to live.
fn next(socket: &UdpSocket) -> Option<(Payload, u8)> {
    let mut payload = Payload::zeroed();
    let mut control = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(bytemuck::bytes_of_mut(&mut payload))];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    );
    let message = match message {
        Ok(message) => message,
        Err(Errno::EAGAIN) => return None,
        Err(errno) => panic!("a stream's socket: {errno}"),
    };
    let hops = message
        .cmsgs()
        .expect("room for one number")
        .find_map(|message| match message {
            ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                u8::try_from(hops).ok()
            }
            _ => None,
        });
    Some((payload, hops.expect("the socket was asked to tell")))
}

/// What namespaces dropped before `pcn` or after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// Datagrams for which a socket had no room.
    pub sockets: u64,
    /// Frames for which the queue of a veth pair, or of a CPU behind one, had no room.
    pub queues: u64,
}

impl Overflow {
    /// Up to now, in these namespaces together.
    pub fn of(spaces: &[&Space]) -> Self {
        let mut sum = Self::default();
        for space in spaces {
            sum.sockets += space.enter(socket_drops);
            sum.queues += queue_drops(space);
        }
        sum
    }

    /// From another look until this one.
    pub fn since(self, before: Self) -> Self {
        Self {
            sockets: self.sockets.saturating_sub(before.sockets),
            queues: self.queues.saturating_sub(before.queues),
        }
    }
}

/// `RcvbufErrors` of UDP in both families, in the namespace of the calling thread.
fn socket_drops() -> u64 {
    let text = |file: &str| {
        fs::read_to_string(format!("/proc/thread-self/net/{file}")).expect("/proc is mounted")
    };
    let v6 = text("snmp6");
    let v6 = v6
        .lines()
        .find_map(|line| line.strip_prefix("Udp6RcvbufErrors"))
        .expect("Linux counts this");
    let v4 = text("snmp");
    let mut v4 = v4.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (v4.next().expect("names"), v4.next().expect("values"));
    let v4 = names
        .split(' ')
        .zip(values.split(' '))
        .find_map(|(name, value)| (name == "RcvbufErrors").then_some(value))
        .expect("Linux counts this");
    [v4, v6]
        .iter()
        .map(|value| value.trim().parse::<u64>().expect("a number"))
        .sum()
}

/// Frames that interfaces of a namespace dropped, in both directions.
fn queue_drops(space: &Space) -> u64 {
    let links = space.run("ip -j -s link show").expect(0).json();
    let dropped = |link: &serde_json::Value| {
        ["rx", "tx"]
            .iter()
            .filter_map(|direction| link["stats64"][direction]["dropped"].as_u64())
            .sum::<u64>()
    };
    links.as_array().into_iter().flatten().map(dropped).sum()
}

/// A line of the table that a test prints: what was done, and what became of the packets.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which stream.
    pub name: String,
    /// Changes made while it ran.
    pub changes: usize,
    /// What became of it.
    pub tally: Tally,
    /// Packets that met a graph that nobody wrote down.
    pub mixed: u64,
}

/// Rows with a headline, as text.
pub struct Table<'a>(pub &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>8} {:>10} {:>6} {:>10} {:>6}",
            "stream", "changes", "sent", "lost", "duplicated", "mixed"
        )?;
        for Row {
            name,
            changes,
            tally,
            mixed,
        } in self.0
        {
            writeln!(
                f,
                "{name:<24} {changes:>8} {:>10} {:>6} {:>10} {mixed:>6}",
                tally.sent, tally.lost, tally.duplicated
            )?;
        }
        Ok(())
    }
}
