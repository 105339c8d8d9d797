//! Traffic between namespaces, with its content checked.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{lab::Space, wait};

/// Bytes of one write to a TCP connection: more than fits into one packet with offloads on.
const CHUNK: usize = 128 << 10;

/// Pings until it is answered, and returns the time to live of the answer. Retries: the first
/// packet to an unknown neighbour is lost by design.
#[track_caller]
pub fn ping(from: &Space, to: IpAddr) -> u8 {
    let mut last = None;
    let hops = wait::within(wait::PATIENCE, || {
        let run = from.run(&format!("ping -n -c 1 -W 1 {to}"));
        let hops = answer(&run.stdout);
        last = Some(run);
        hops
    });
    hops.unwrap_or_else(|| {
        panic!(
            "{} cannot ping {to}: {}",
            from.name(),
            last.expect("it was tried")
        )
    })
}

/// Pings several times in a row, all of which must be answered.
#[track_caller]
pub fn ping_all(from: &Space, to: IpAddr, count: u32) {
    let run = from.run(&format!("ping -n -q -i 0.002 -W 5 -c {count} {to}"));
    assert!(run.stdout.contains(&format!(" {count} received")), "{run}");
}

/// Insists that pings are not answered.
#[track_caller]
pub fn no_ping(from: &Space, to: IpAddr) {
    let run = from.run(&format!("ping -n -i 0.05 -c 3 -W 0.3 {to}"));
    assert!(run.stdout.contains(" 0 received"), "{run}");
}

fn answer(stdout: &str) -> Option<u8> {
    let (_, rest) = stdout.split_once("ttl=")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The routers on the way, and the target at the end.
#[track_caller]
pub fn traceroute(from: &Space, to: IpAddr) -> Vec<IpAddr> {
    let run = from
        .run(&format!("traceroute -n -q 1 -N 1 -w 5 -m 10 {to}"))
        .expect(0);
    let hops = run
        .stdout
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1));
    hops.map(|hop| {
        hop.parse()
            .unwrap_or_else(|_| panic!("no answer from a hop: {run}"))
    })
    .collect()
}

/// Sends a stream of bytes over TCP and insists that each arrives as it was sent.
#[track_caller]
pub fn tcp(from: &Space, to: &Space, address: IpAddr, length: usize) {
    tcp_translated(from, to, (address, address), length);
}

/// The same, where the receiver's address is another one for the sender.
#[track_caller]
pub fn tcp_translated(from: &Space, to: &Space, (own, called): (IpAddr, IpAddr), length: usize) {
    let listener = to.listen(own);
    let bound = listener
        .local_addr()
        .expect("a bound socket has an address");
    let target = SocketAddr::new(called, bound.port());
    thread::scope(|scope| {
        let mut stream = from.connect(target);
        let receiver = scope.spawn(|| receive(&listener));
        let mut noise = Noise::new();
        let mut left = length;
        while left > 0 {
            let chunk = noise.next(left.min(CHUNK));
            stream
                .write_all(chunk)
                .unwrap_or_else(|error| panic!("{left} bytes to {target} left: {error}"));
            left -= chunk.len();
        }
        drop(stream);
        assert_eq!(receiver.join().expect("the receiver has checked"), length);
    });
}

fn receive(listener: &TcpListener) -> usize {
    let (mut stream, _) = listener.accept().expect("a connection was made");
    stream
        .set_read_timeout(Some(wait::PATIENCE))
        .expect("a socket can time out");
    let mut noise = Noise::new();
    let mut buffer = vec![0; CHUNK];
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer).expect("bytes come in time");
        if count == 0 {
            return received;
        }
        assert!(
            noise.matches(&buffer[..count]),
            "other bytes than sent, after {received}"
        );
        received += count;
    }
}

/// Sends datagrams of these sizes there and back.
#[track_caller]
pub fn udp(from: &Space, to: &Space, (source, target): (IpAddr, IpAddr), sizes: &[usize]) {
    let (client, server) = (from.udp(source, 0), to.udp(target, 0));
    let there = server.local_addr().expect("a bound socket has an address");
    let hear = |socket: &UdpSocket, sent: &[u8]| {
        let mut buffer = vec![0; 1 << 16];
        let (count, from) = socket
            .recv_from(&mut buffer)
            .unwrap_or_else(|error| panic!("{} bytes, to {target} and back: {error}", sent.len()));
        assert!(
            buffer[..count] == *sent,
            "other bytes than the {} sent",
            sent.len()
        );
        from
    };
    let mut noise = Noise::new();
    for size in sizes {
        let sent = noise.next(*size);
        client.send_to(sent, there).expect("a datagram can be sent");
        let back = hear(&server, sent);
        assert_eq!(back.ip(), source);
        server.send_to(sent, back).expect("a datagram can be sent");
        assert_eq!(hear(&client, sent), there);
    }
}

/// Bytes that are the same each time, and do not repeat soon.
struct Noise {
    block: Vec<u8>,
    at: usize,
}

impl Noise {
    /// Not a multiple of what anything here is cut into, so that a block in another's place is
    /// noticed.
    const PERIOD: usize = 1_000_003;

    fn new() -> Self {
        let mut state = 7_u64;
        let block = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        Self {
            block: block.take(Self::PERIOD).collect(),
            at: 0,
        }
    }

    /// The next bytes, at most `limit`.
    fn next(&mut self, limit: usize) -> &[u8] {
        let start = self.at;
        let end = (start + limit).min(Self::PERIOD);
        self.at = end % Self::PERIOD;
        &self.block[start..end]
    }

    /// Whether these are the next bytes.
    fn matches(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let next = self.next(bytes.len());
            let Some(rest) = bytes.strip_prefix(next) else {
                return false;
            };
            bytes = rest;
        }
        true
    }
}

/// Questions, two in a millisecond, answered at the other end, while something else happens.
pub struct Probe {
    enough: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    asker: Option<JoinHandle<Vec<usize>>>,
    echo: Option<JoinHandle<()>>,
}

impl Probe {
    /// Between two questions.
    const PACE: Duration = Duration::from_micros(500);
    /// For answers after the last question.
    const GRACE: Duration = Duration::from_secs(2);

    /// Starts asking, and waits until answers come.
    pub fn start(from: &Space, to: &Space, (source, target): (IpAddr, IpAddr)) -> Self {
        ping(from, target);
        let (enough, closed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let answered = Arc::new(AtomicUsize::new(0));
        let (client, server) = (from.udp(source, 0), to.udp(target, 0));
        let there = server.local_addr().expect("a bound socket has an address");
        for socket in [&client, &server] {
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .expect("a socket can time out");
        }
        let echo = {
            let closed = Arc::clone(&closed);
            thread::spawn(move || echo(&server, &closed))
        };
        let asker = {
            let (enough, answered) = (Arc::clone(&enough), Arc::clone(&answered));
            thread::spawn(move || ask(&client, there, &enough, &answered))
        };
        let probe = Self {
            enough,
            closed,
            answered,
            asker: Some(asker),
            echo: Some(echo),
        };
        probe.go_on();
        probe
    }

    /// Waits for a number of further answers.
    #[track_caller]
    pub fn go_on(&self) {
        let goal = self.answered.load(Ordering::Relaxed) + 200;
        wait::until("answers to a probe", || {
            (self.answered.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    /// Waits for further answers, stops, and insists that no question was without an answer.
    #[track_caller]
    pub fn assert_no_loss(mut self) {
        self.go_on();
        let missing = self.end();
        let answered = self.answered.load(Ordering::Relaxed);
        assert!(
            missing.is_empty(),
            "{} answers, but none to the questions {missing:?}",
            answered
        );
    }

    fn end(&mut self) -> Vec<usize> {
        self.enough.store(true, Ordering::Relaxed);
        let missing = self
            .asker
            .take()
            .map(|asker| asker.join().expect("the asker only counts"));
        self.closed.store(true, Ordering::Relaxed);
        if let Some(echo) = self.echo.take() {
            echo.join().expect("the echo only sends");
        }
        missing.unwrap_or_default()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.end();
    }
}

fn ask(
    socket: &UdpSocket,
    to: SocketAddr,
    enough: &AtomicBool,
    answered: &AtomicUsize,
) -> Vec<usize> {
    let open = Mutex::new(BTreeSet::new());
    let done = AtomicBool::new(false);
    let listen = || {
        let mut buffer = [0; 8];
        while !done.load(Ordering::Relaxed) {
            if socket.recv_from(&mut buffer).is_ok() {
                let number = usize::from_ne_bytes(buffer);
                let expected = lock(&open).remove(&number);
                answered.fetch_add(usize::from(expected), Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(listen);
        for number in 0.. {
            lock(&open).insert(number);
            if socket.send_to(&number.to_ne_bytes(), to).is_err() {
                // What this host does not send is no loss on the way.
                lock(&open).remove(&number);
            }
            if enough.load(Ordering::Relaxed) {
                break;
            }
            thread::sleep(Probe::PACE);
        }
        wait::within(Probe::GRACE, || lock(&open).is_empty().then_some(()));
        done.store(true, Ordering::Relaxed);
    });
    lock(&open).iter().copied().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

fn echo(socket: &UdpSocket, closed: &AtomicBool) {
    let mut buffer = [0; 8];
    while !closed.load(Ordering::Relaxed) {
        // Nothing for a moment is no reason to end.
        if let Ok((count, back)) = socket.recv_from(&mut buffer) {
            // What cannot be sent is missed by the asker.
            let _sent = socket.send_to(&buffer[..count], back);
        }
    }
}
