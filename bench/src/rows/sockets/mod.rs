//! Sockets: streams of iperf3, round trips of sockperf, connections.

mod connections;
mod round_trips;

use std::cell::Cell;

use integration_tests::{command::Running, wait};

use self::{
    connections::connections,
    round_trips::{Protocol, round_trips},
};
use super::{Findings, KERNEL, Row, Scope, chain::LONGEST};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    machine::first_line,
    rig::hosts::Hosts,
};

/// Whose ports these are does not matter: namespaces have them for themselves.
const PORT: u16 = 5201;
/// How long a stream takes, about.
const STREAM: f64 = 0.3;

/// What `pcn` is between the hosts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cube {
    Bridge,
    Router,
    /// A router that masquerades.
    Nat,
    /// Cubes `hello` in a row, beside one of them.
    Chain,
}

/// The rows.
pub fn rows() -> Vec<Row> {
    let chain = [
        format!("chain-{LONGEST}"),
        format!("{LONGEST} cubes hello in a row"),
    ];
    [
        ("bridge", "a bridge", Cube::Bridge),
        ("router", "a router", Cube::Router),
        ("nat", "a router that masquerades", Cube::Nat),
        (&chain[0], &chain[1], Cube::Chain),
    ]
    .into_iter()
    .flat_map(|(name, what, cube)| rows_through(name, what, cube))
    .collect()
}

/// Those of one cube.
fn rows_through(name: &str, what: &str, cube: Cube) -> Vec<Row> {
    let mut rows = Vec::new();
    let streams: &[usize] = match cube {
        Cube::Bridge | Cube::Router => &[1, 4],
        Cube::Nat | Cube::Chain => &[1],
    };
    for streams in streams.iter().copied() {
        let id = format!("sockets.tcp-{streams}.{name}");
        let job = format!("iperf3, {streams} TCP streams between two namespaces through {what}");
        let row = Row::new(id, Instrument::Sockets, job, move |scope| {
            Ok(streams_through(scope, cube, streams))
        });
        rows.push(if streams > 1 || cube == Cube::Nat {
            row.long()
        } else {
            row
        });
    }
    if cube == Cube::Nat {
        // Beyond the first packet of a connection these are those of the router.
        return rows;
    }
    let protocols: &[Protocol] = match cube {
        Cube::Chain => &[Protocol::Tcp],
        _ => &[Protocol::Tcp, Protocol::Udp],
    };
    for protocol in protocols.iter().copied() {
        let id = format!("sockets.round-trip.{name}.{}", protocol.word());
        let job = format!(
            "sockperf ping-pong, {} between two namespaces through {what}, all on one CPU",
            protocol.word().to_uppercase()
        );
        let row = Row::several(id, Instrument::Sockets, job, move |scope| {
            Ok(round_trips(scope, cube, protocol))
        });
        rows.push(row.long());
    }
    let id = format!("sockets.connections.{name}");
    let job = format!("connect, one byte there and back, close: through {what}, all on one CPU");
    let row = Row::new(id, Instrument::Sockets, job, move |scope| {
        Ok(connections(scope, cube))
    });
    rows.push(if cube == Cube::Chain { row.long() } else { row });
    rows
}

/// Who else is between two hosts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// The kernel's own that does the same.
    Kernel,
    /// Another of the kernel's own.
    Another,
    /// One cube beside many.
    Single,
    /// A bound.
    Redirect,
    /// A bound: nobody is between them.
    Pair,
}

/// Someone between two hosts.
struct Peer<'a> {
    name: &'static str,
    beside: Beside,
    hosts: Hosts<'a>,
}

/// What is asked of `pcn` beside them.
#[derive(Clone, Copy)]
struct Goals {
    kernel: Goal,
    single: Goal,
    pair: Goal,
}

impl Goals {
    fn of(self, beside: Beside) -> Option<Goal> {
        match beside {
            Beside::Kernel => Some(self.kernel),
            Beside::Single => Some(self.single),
            Beside::Pair => Some(self.pair),
            Beside::Another | Beside::Redirect => None,
        }
    }
}

/// `pcn`, its peers and the bounds.
fn all<'a>(scope: &Scope<'a>, cube: Cube) -> (Hosts<'a>, Vec<Peer<'a>>) {
    let peer = |name, beside, hosts: Hosts<'a>| Peer {
        name,
        beside,
        hosts: hosts.ready(),
    };
    let (ours, mut others) = match cube {
        Cube::Bridge => (
            Hosts::by_bridge(scope.lab).ready(),
            vec![
                peer("Linux bridge", Beside::Kernel, Hosts::by_kernel_bridge()),
                peer("macvlan", Beside::Another, Hosts::by_macvlan()),
            ],
        ),
        Cube::Router => (
            Hosts::by_router(scope.lab).ready(),
            vec![peer(
                "ip forwarding",
                Beside::Kernel,
                Hosts::by_kernel_router(),
            )],
        ),
        Cube::Nat => (
            Hosts::by_nat(scope.lab).ready(),
            vec![peer(
                "nft masquerade, ip forwarding",
                Beside::Kernel,
                Hosts::by_kernel_nat(),
            )],
        ),
        Cube::Chain => (
            Hosts::by_hello(scope.lab, LONGEST).ready(),
            vec![peer(
                "pcn, one cube",
                Beside::Single,
                Hosts::by_hello(scope.lab, 1),
            )],
        ),
    };
    others.push(peer(
        "redirect to the peer, nothing else",
        Beside::Redirect,
        Hosts::by_redirect(),
    ));
    // A chain is beside one cube; what one cube is beside nothing, other rows say.
    if cube != Cube::Chain {
        others.push(peer("veth pair", Beside::Pair, Hosts::directly()));
    }
    (ours, others)
}

/// Their hosts in the order of a contest.
fn hosts<'b, 'a>(ours: &'b Hosts<'a>, peers: &'b [Peer<'a>]) -> Vec<&'b Hosts<'a>> {
    let peers = peers.iter().map(|peer| &peer.hosts);
    [ours].into_iter().chain(peers).collect()
}

/// Adds all peers, each measured by `sample`.
fn against<'a>(
    mut contest: Contest<'a>,
    peers: &'a [Peer<'a>],
    goals: Goals,
    sample: &'a dyn Fn(usize) -> f64,
) -> Contest<'a> {
    let kernel = first_line(KERNEL);
    for (place, peer) in peers.iter().enumerate() {
        let other = match peer.beside {
            Beside::Kernel | Beside::Another => Other::Peer(peer.name, &kernel),
            Beside::Single => Other::Own(peer.name),
            Beside::Redirect | Beside::Pair => Other::Bound(peer.name),
        };
        contest = contest.against(other, goals.of(peer.beside), move || sample(place + 1));
    }
    contest
}

fn streams_through(scope: &Scope<'_>, cube: Cube, streams: usize) -> Finding {
    let (ours, peers) = all(scope, cube);
    let hosts = hosts(&ours, &peers);
    let servers: Vec<Running> = hosts
        .iter()
        .map(|hosts| {
            let server = hosts.server.start(&format!("iperf3 -s -p {PORT}"));
            wait_for_server(hosts, "tcp", PORT);
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
    let goals = Goals {
        kernel: Goal::AtLeast(1.1),
        single: Goal::AtLeast(0.77),
        pair: Goal::AtLeast(if cube == Cube::Nat { 0.93 } else { 0.95 }),
    };
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

/// Waits until somebody has the port of a protocol (`tcp`, `udp`).
fn wait_for_server(hosts: &Hosts<'_>, protocol: &str, port: u16) {
    let listens = format!("ss -Hln --{protocol} sport = :{port}");
    wait::until("the server to listen", || {
        (!hosts.server.run(&listens).stdout.is_empty()).then_some(())
    });
}
