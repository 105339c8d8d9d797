//! What is left for others while a flood is dropped: round trips through a router, and listed sources that send as fast as
//! the generator can, into the same port.

use std::{
    cell::RefCell,
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use integration_tests::{command::run_with, lab::Space, test_run::Hook};

use super::{
    Row, Scope,
    ddos::{addresses, frames, load_ipset, load_nft},
    router::kernel_router,
    topology::{SOURCE, router, router_and},
};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    machine::package,
    rig::{
        frames::{FAR, Family, Frames, NEAR, mac},
        path::{Path, apply},
        stay_on_one_cpu_of,
        traffic::Sender,
    },
    statistics::median,
};

/// Sources that are listed, all of which send.
const LISTED: usize = 1000;
/// The server behind the router.
const SERVER: [u8; 4] = [10, 0, 2, 2];
/// Whose port it is does not matter.
const PORT: u16 = 7;
/// How long round trips are counted in one sample.
const SAMPLE: Duration = Duration::from_millis(200);
/// Rounds with a flood.
const ROUNDS: usize = 12;
/// After which an answer counts as lost.
const LOST: Duration = Duration::from_millis(10);
/// Frames that the generator sends at once, about 10 ms of them.
const BURST: u32 = 20_000;
/// Share of the flood that may come out at the other side: none but what is counted there besides.
const THROUGH: f64 = 0.01;

/// The rows.
pub fn rows() -> Vec<Row> {
    let job = format!(
        "round trips of datagrams through a router while {LISTED} listed sources flood the same port; beside no flood"
    );
    vec![Row::new(
        "ddos.goodput.xdp",
        Instrument::Sockets,
        job,
        |scope| Ok(goodput(scope)),
    )]
}

/// Two hosts on a way, one of which answers.
struct Answering<'a> {
    path: &'a Path,
    client: UdpSocket,
    server: UdpSocket,
    to: SocketAddr,
}

impl<'a> Answering<'a> {
    fn new(path: &'a Path) -> Self {
        for (space, address, router, link) in [
            (&path.source, SOURCE, "10.0.1.1", NEAR),
            (&path.target, SERVER, "10.0.2.1", FAR),
        ] {
            let address = Ipv4Addr::from(address);
            let lines = format!(
                "address add {address}/24 dev eth0\n\
                 neighbor replace {router} lladdr {} dev eth0 nud permanent\n\
                 route add default via {router}\n",
                mac(link)
            );
            space.enter(|| run_with("ip -batch -", &lines)).expect(0);
            // On XDP nobody completes a checksum that was left for the interface, and what comes as a frame has to become a
            // buffer.
            space
                .run("ethtool -K eth0 gro on tx off tso off gso off")
                .expect(0);
        }
        let open = |space: &Space, address: [u8; 4], port| {
            let socket = space
                .enter(|| UdpSocket::bind((Ipv4Addr::from(address), port)))
                .expect("an address of this host");
            socket
                .set_read_timeout(Some(LOST))
                .expect("a socket can time out");
            socket
        };
        Self {
            path,
            client: open(&path.source, SOURCE, 0),
            server: open(&path.target, SERVER, PORT),
            to: (Ipv4Addr::from(SERVER), PORT).into(),
        }
    }

    /// Round trips a second.
    fn sample(&self) -> f64 {
        self.exchange().0
    }

    /// The same, and how many questions were asked.
    fn exchange(&self) -> (f64, u64) {
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                stay_on_one_cpu_of(0);
                self.answer(&enough);
            });
            let client = scope.spawn(|| {
                stay_on_one_cpu_of(0);
                self.ask()
            });
            let answered = client.join().expect("it has said why");
            enough.store(true, Ordering::Relaxed);
            answered
        })
    }

    fn answer(&self, enough: &AtomicBool) {
        let mut datagram = [0; 64];
        while !enough.load(Ordering::Relaxed) {
            match self.server.recv_from(&mut datagram) {
                Ok((length, from)) => {
                    // Who has given up is no matter of the server.
                    let _gone = self.server.send_to(&datagram[..length], from);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
    }

    fn ask(&self) -> (f64, u64) {
        let (start, mut asked, mut answered) = (Instant::now(), 0, 0_u64);
        let mut datagram = [0; 64];
        while start.elapsed() < SAMPLE {
            asked += 1;
            self.client
                .send_to(&answered.to_ne_bytes(), self.to)
                .expect("there is a route");
            // An answer that comes late is that to another question.
            while let Ok(length) = self.client.recv(&mut datagram) {
                if datagram[..length] == answered.to_ne_bytes() {
                    answered += 1;
                    break;
                }
            }
        }
        (answered as f64 / start.elapsed().as_secs_f64(), asked)
    }

    /// The same while a flood comes in; says how many million packets a second it was in `rates`. Nothing of it comes out.
    fn sample_flooded(&self, flood: &Frames, rates: &RefCell<Vec<f64>>) -> f64 {
        let (enough, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let before = received(&self.path.target);
        let (answered, asked) = thread::scope(|scope| {
            scope.spawn(|| {
                let sender = Sender::new(&self.path.source, "eth0", flood);
                while !enough.load(Ordering::Relaxed) {
                    sender.send(BURST);
                    sent.fetch_add(u64::from(BURST), Ordering::Relaxed);
                }
            });
            // It has begun.
            while sent.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            let (already, start) = (sent.load(Ordering::Relaxed), Instant::now());
            let exchanged = self.exchange();
            let more = sent.load(Ordering::Relaxed) - already;
            let rate = more as f64 / start.elapsed().as_secs_f64() / 1e6;
            rates.borrow_mut().push(rate);
            enough.store(true, Ordering::Relaxed);
            exchanged
        });
        let sent = sent.into_inner() as f64;
        let through = (received(&self.path.target) - before) as f64 - asked as f64;
        assert!(
            through < sent * THROUGH,
            "of a flood of {sent} packets {through} came through"
        );
        answered
    }
}

/// Frames that `eth0` of a namespace has received.
fn received(space: &Space) -> u64 {
    let text = space
        .enter(|| fs::read_to_string("/proc/thread-self/net/dev"))
        .expect("/proc is mounted");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"));
    let packets = line.and_then(|line| line.split_whitespace().nth(1));
    packets
        .and_then(|packets| packets.parse().ok())
        .expect("Linux counts this")
}

fn goodput(scope: &Scope<'_>) -> Finding {
    let flood = frames(LISTED);
    let paths = [
        Path::through_lab("a"),
        Path::apart("nft"),
        Path::apart("ipset"),
    ];
    let [ours, nft, ipset] = &paths;
    let list: Vec<String> = addresses(LISTED)
        .map(|address| format!("{address}/32"))
        .collect();
    let shield = format!(
        "shield: {{ ddosMitigator: {{ sources: [{}] }} }}",
        list.join(", ")
    );
    let spec = router_and(ours, Hook::Xdp, &router("shield", ""), &shield);
    let _applied = apply(scope.lab, "goodput", &spec);
    for path in [nft, ipset] {
        kernel_router(path, Family::V4, &[]);
    }
    load_nft(nft, LISTED);
    load_ipset(ipset, LISTED);
    let hosts = paths.each_ref().map(Answering::new);
    let rates = [const { RefCell::new(Vec::new()) }; 3];
    let flooded = |place: usize| hosts[place].sample_flooded(&flood, &rates[place]);
    let finding = Contest::new(Unit::PerSecond, "pcn, flooded", || flooded(0))
        .against(Other::Own("pcn, no flood"), Goal::AtLeast(0.9), || {
            hosts[0].sample()
        })
        .against(
            Other::Peer("nft netdev ingress, one set, flooded", &package("nftables")),
            None,
            || flooded(1),
        )
        .against(
            Other::Peer("iptables-legacy raw and ipset, flooded", &package("ipset")),
            None,
            || flooded(2),
        )
        .run(scope.effort.with_rounds(ROUNDS));
    let [ours, nft, ipset] = rates.map(|rates| median(&rates.into_inner()));
    finding.note(format!(
        "the flood, with its end on the generator's CPU: {ours:.1} Mpps into pcn, {nft:.1} into nft, {ipset:.1} into ipset"
    ))
}
