//! Sockets: streams of iperf3, round trips of sockperf, connections.

mod connections;
mod round_trips;

use std::cell::Cell;

use integration_tests::{command::Running, wait};

use self::{
    connections::connections,
    round_trips::{Protocol, round_trips},
};
use super::{Findings, KERNEL, Row, Scope};
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
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let id = format!("sockets.round-trip.{name}.{}", protocol.word());
            let job = format!(
                "sockperf ping-pong, {} between two namespaces through a {name}, all on one CPU",
                protocol.word().to_uppercase()
            );
            let row = Row::several(id, Instrument::Sockets, job, move |scope| {
                Ok(round_trips(scope, cube, protocol))
            });
            rows.push(row.long());
        }
        let id = format!("sockets.connections.{name}");
        let job =
            format!("connect, one byte there and back, close: through a {name}, all on one CPU");
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

/// Their hosts in the order of a contest.
fn hosts<'b, 'a>(ours: &'b Hosts<'a>, peers: &'b [Peer<'a>]) -> Vec<&'b Hosts<'a>> {
    let peers = peers.iter().map(|peer| &peer.hosts);
    [ours].into_iter().chain(peers).collect()
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
        let other = if peer.bound {
            Other::Bound(peer.name)
        } else {
            Other::Peer(peer.name, &kernel)
        };
        contest = contest.against(other, goal, move || sample(place + 1));
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

/// Waits until somebody has the port of a protocol (`tcp`, `udp`).
fn wait_for_server(hosts: &Hosts<'_>, protocol: &str, port: u16) {
    let listens = format!("ss -Hln --{protocol} sport = :{port}");
    wait::until("the server to listen", || {
        (!hosts.server.run(&listens).stdout.is_empty()).then_some(())
    });
}
