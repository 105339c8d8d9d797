//! New connections: how many a second one client gets from one server, one after the other.
//!
//! Both are on one CPU, as with round trips.

use std::{
    cell::Cell,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Cube, Goals, Scope, against, all, hosts};
use crate::{
    contest::Contest,
    finding::{Finding, Goal, Unit},
    rig::{hosts::Hosts, stay_on_one_cpu},
};

/// How long connections are made before they count, and then until the end of a sample.
const WARMING: Duration = Duration::from_millis(30);
const CONNECTING: Duration = Duration::from_millis(200);

/// Measures connections a second.
pub fn connections(scope: &Scope<'_>, cube: Cube) -> Finding {
    let (ours, peers) = all(scope, cube);
    let hosts = hosts(&ours, &peers);
    let mut servers: Vec<Echo> = hosts.iter().map(|hosts| Echo::start(hosts)).collect();
    let failed = Cell::new(0_u64);
    let sample = |place: usize| {
        let address = servers[place].address;
        let made = hosts[place].client.enter(|| {
            stay_on_one_cpu();
            let warm = connect_again_and_again(address, WARMING);
            let made = connect_again_and_again(address, CONNECTING);
            (made.0, warm.1 + made.1)
        });
        failed.set(failed.get() + made.1);
        made.0
    };
    let contest = Contest::new(Unit::PerSecond, "pcn", || sample(0));
    let goals = Goals {
        kernel: Goal::AtLeast(1.1),
        single: Goal::AtLeast(0.77),
        pair: Goal::AtLeast(0.93),
    };
    let mut finding = against(contest, &peers, goals, &sample).run(scope.effort);
    for (server, hosts) in servers.iter_mut().zip(&hosts) {
        server.end(hosts);
    }
    let failed = failed.get();
    if failed > 0 {
        finding.notes.push(format!("{failed} connections failed"));
    }
    finding
}

/// Makes connections for some time: how many a second, and how many failed.
fn connect_again_and_again(address: SocketAddr, time: Duration) -> (f64, u64) {
    let start = Instant::now();
    let (mut made, mut failed) = (0_u64, 0);
    while start.elapsed() < time {
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

/// Sends one byte back and closes.
fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    stream.write_all(&byte)
}

/// A server that sends a byte back to each who connects.
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
            stay_on_one_cpu();
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
