//! Sockets: streams of iperf3, round trips, connections.

use std::{
    cell::{Cell, RefCell},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use integration_tests::{command::Running, wait};

use super::{Findings, KERNEL, Row, Scope};
use crate::{
    contest::Contest,
    finding::{Finding, Goal, Instrument, Unit},
    machine::first_line,
    rig::hosts::Hosts,
    statistics::{median, quantile},
};

/// Whose ports these are does not matter: namespaces have them for themselves.
const PORT: u16 = 5201;
/// How long a stream takes, about.
const STREAM: f64 = 0.3;
/// How long messages go back and forth, and how many bytes they have.
const ROUND_TRIPS: Duration = Duration::from_millis(150);
const MESSAGE: usize = 64;
/// How long connections are made.
const CONNECTING: Duration = Duration::from_millis(200);

/// What `pcn` is between the hosts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cube {
    Bridge,
    Router,
}

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, cube) in [("bridge", Cube::Bridge), ("router", Cube::Router)] {
        for streams in [1, 4] {
            let id = format!("sockets.tcp-{streams}.{name}");
            let job =
                format!("iperf3, {streams} TCP streams between two namespaces through a {name}");
            let row = Row::new(id, Instrument::Sockets, job, move |scope| {
                Ok(streams_through(scope, cube, streams))
            });
            rows.push(if streams > 1 { row.long() } else { row });
        }
        let id = format!("sockets.round-trip.{name}");
        let job =
            format!("TCP round trips of {MESSAGE} bytes between two namespaces through a {name}");
        rows.push(Row::several(id, Instrument::Sockets, job, move |scope| {
            Ok(round_trips(scope, cube))
        }));
        let id = format!("sockets.connections.{name}");
        let job = format!("connect, one byte there and back, close: through a {name}");
        rows.push(Row::new(id, Instrument::Sockets, job, move |scope| {
            Ok(connections(scope, cube))
        }));
    }
    rows
}

/// Someone between two hosts, and what is asked of `pcn` beside it.
struct Peer<'a> {
    name: &'static str,
    bound: bool,
    hosts: Hosts<'a>,
}

/// `pcn`, its peers and the bounds.
fn all<'a>(scope: &Scope<'a>, cube: Cube) -> (Hosts<'a>, Vec<Peer<'a>>) {
    let peer = |name, bound, hosts: Hosts<'a>| Peer {
        name,
        bound,
        hosts: hosts.ready(),
    };
    let (ours, mut others) = match cube {
        Cube::Bridge => (
            Hosts::by_bridge(scope.lab).ready(),
            vec![
                peer("Linux bridge", false, Hosts::by_kernel_bridge()),
                peer("macvlan", false, Hosts::by_macvlan()),
            ],
        ),
        Cube::Router => (
            Hosts::by_router(scope.lab).ready(),
            vec![peer("ip forwarding", false, Hosts::by_kernel_router())],
        ),
    };
    others.push(peer(
        "redirect to the peer, nothing else",
        true,
        Hosts::by_redirect(),
    ));
    others.push(peer("veth pair", true, Hosts::directly()));
    (ours, others)
}

/// Adds all peers, each measured by `sample`; `goals` are for the kernel's own, for the redirect and for the pair.
fn against<'a>(
    mut contest: Contest<'a>,
    peers: &'a [Peer<'a>],
    goals: [Option<Goal>; 2],
    sample: &'a dyn Fn(usize) -> f64,
) -> Contest<'a> {
    let kernel = first_line(KERNEL);
    for (place, peer) in peers.iter().enumerate() {
        let goal = match peer.name {
            "Linux bridge" | "ip forwarding" => goals[0],
            "veth pair" => goals[1],
            _ => None,
        };
        contest = if peer.bound {
            contest.bound(peer.name, goal, move || sample(place + 1))
        } else {
            contest.peer((peer.name, &kernel), goal, move || sample(place + 1))
        };
    }
    contest
}

fn streams_through(scope: &Scope<'_>, cube: Cube, streams: usize) -> Finding {
    let (ours, peers) = all(scope, cube);
    let hosts: Vec<&Hosts<'_>> = [&ours]
        .into_iter()
        .chain(peers.iter().map(|peer| &peer.hosts))
        .collect();
    let servers: Vec<Running> = hosts
        .iter()
        .map(|hosts| {
            let server = hosts.server.start(&format!("iperf3 -s -p {PORT}"));
            wait_for_listener(hosts);
            server
        })
        .collect();
    // Bytes, the first time after what a short stream says.
    let bytes: Vec<Cell<u64>> = hosts.iter().map(|_| Cell::new(0)).collect();
    let sample = |place: usize| {
        let hosts = hosts[place];
        if bytes[place].get() == 0 {
            let gigabits = stream(hosts, streams, 100_000_000);
            bytes[place].set((gigabits * 1e9 / 8.0 * STREAM) as u64);
        }
        stream(hosts, streams, bytes[place].get())
    };
    let contest = Contest::new(Unit::Gigabits, "pcn", || sample(0));
    let goals = [Some(Goal::AtLeast(1.1)), Some(Goal::AtLeast(0.95))];
    let finding = against(contest, &peers, goals, &sample).run(scope.effort);
    drop(servers);
    finding
}

/// Sends so many bytes, and says how many Gbit/s arrived.
fn stream(hosts: &Hosts<'_>, streams: usize, bytes: u64) -> f64 {
    let line = format!(
        "iperf3 -J -c {} -p {PORT} -P {streams} -n {}",
        hosts.address,
        bytes / streams as u64
    );
    let result = hosts.client.run(&line).expect(0).json();
    let received = &result["end"]["sum_received"]["bits_per_second"];
    received.as_f64().unwrap_or_else(|| panic!("{result}")) / 1e9
}

fn wait_for_listener(hosts: &Hosts<'_>) {
    let listens = format!("ss -Hltn sport = :{PORT}");
    wait::until("the server to listen", || {
        (!hosts.server.run(&listens).stdout.is_empty()).then_some(())
    });
}

fn round_trips(scope: &Scope<'_>, cube: Cube) -> Findings {
    let (ours, peers) = all(scope, cube);
    let hosts: Vec<&Hosts<'_>> = [&ours]
        .into_iter()
        .chain(peers.iter().map(|peer| &peer.hosts))
        .collect();
    let mut servers: Vec<Echo> = hosts.iter().map(|hosts| Echo::start(hosts)).collect();
    let tail = Cell::new(0.0);
    let sample = |place: usize| {
        let address = servers[place].address;
        let times = hosts[place].client.enter(|| round_trip_times(address));
        tail.set(quantile(&times, 990));
        median(&times)
    };
    let contest = Contest::new(Unit::Microseconds, "pcn", || sample(0)).beside(&tail);
    let goals = [Some(Goal::AtMost(0.85)), Some(Goal::AtMost(1.05))];
    let (half, mut late) = against(contest, &peers, goals, &sample).run_both(scope.effort);
    for arm in &mut late.arms {
        // 1.10 of a veth pair; the same of the peers.
        if arm.goal == Some(Goal::AtMost(1.05)) {
            arm.goal = Some(Goal::AtMost(1.1));
        }
    }
    for (server, hosts) in servers.iter_mut().zip(&hosts) {
        server.end(hosts);
    }
    vec![(".p50", half), (".p99", late)]
}

/// Microseconds of each round trip on one connection.
fn round_trip_times(address: SocketAddr) -> Vec<f64> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("TCP has this");
    let mut message = [0; MESSAGE];
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < ROUND_TRIPS {
        let sent = Instant::now();
        stream.write_all(&message).expect("the connection stays");
        stream.read_exact(&mut message).expect("the server answers");
        times.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    times
}

fn connections(scope: &Scope<'_>, cube: Cube) -> Finding {
    let (ours, peers) = all(scope, cube);
    let hosts: Vec<&Hosts<'_>> = [&ours]
        .into_iter()
        .chain(peers.iter().map(|peer| &peer.hosts))
        .collect();
    let mut servers: Vec<Echo> = hosts.iter().map(|hosts| Echo::start(hosts)).collect();
    let failed = RefCell::new(0_u64);
    let sample = |place: usize| {
        let address = servers[place].address;
        let made = hosts[place]
            .client
            .enter(|| connect_again_and_again(address));
        *failed.borrow_mut() += made.1;
        made.0
    };
    let contest = Contest::new(Unit::PerSecond, "pcn", || sample(0));
    let goals = [Some(Goal::AtLeast(1.1)), Some(Goal::AtLeast(0.93))];
    let mut finding = against(contest, &peers, goals, &sample).run(scope.effort);
    for (server, hosts) in servers.iter_mut().zip(&hosts) {
        server.end(hosts);
    }
    let failed = failed.take();
    if failed > 0 {
        finding.notes.push(format!("{failed} connections failed"));
    }
    finding
}

/// Connections a second, and how many failed.
fn connect_again_and_again(address: SocketAddr) -> (f64, u64) {
    let start = Instant::now();
    let (mut made, mut failed) = (0_u64, 0);
    while start.elapsed() < CONNECTING {
        let exchange = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"x")?;
            // The server closes first, so that the client's port is free again.
            stream.read_to_end(&mut Vec::new()).map(drop)
        };
        match exchange() {
            Ok(()) => made += 1,
            Err(_) => failed += 1,
        }
    }
    (made as f64 / start.elapsed().as_secs_f64(), failed)
}

/// Sends messages back until the client closes. One byte alone is a message after which the server closes.
fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    loop {
        let length = stream.read(&mut message)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&message[..length])?;
        if length == 1 {
            return Ok(());
        }
    }
}

/// A server that sends back what it gets.
struct Echo {
    address: SocketAddr,
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(hosts: &Hosts<'_>) -> Self {
        let ip = hosts.address.parse().expect("an address");
        let listener: TcpListener = hosts.server.listen(ip);
        let address = listener.local_addr().expect("a socket has an address");
        let enough = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&enough);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    // A client that has given up is no matter of the server.
                    let _gone = echo(stream);
                }
            }
        });
        Self {
            address,
            enough,
            thread: Some(thread),
        }
    }
}

impl Echo {
    /// Lets the server look up, and waits for its end.
    fn end(&mut self, hosts: &Hosts<'_>) {
        self.enough.store(true, Ordering::Relaxed);
        let address = self.address;
        let _answered = hosts.client.enter(|| TcpStream::connect(address));
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
