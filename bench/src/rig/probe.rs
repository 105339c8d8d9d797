//! One packet after the other, each looked after until it has arrived or has not: when a change is felt.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use integration_tests::{command::run_with, test_run::Hook, wait::PATIENCE};

use super::{
    frames::{Flow, NEAR, mac},
    path::Path,
    traffic::Sink,
};

/// Between two packets.
const PAUSE: Duration = Duration::from_micros(50);
/// Looks at the other end until a packet counts as one that does not arrive. It arrives while it is sent, unless the CPU has
/// much else to do.
const LOOKS: usize = 30;
/// Packets with the same fate that tell a change from one that was late.
const SURE: usize = 3;

/// Sends from the source of a way, and looks at its target.
pub struct Probe {
    socket: UdpSocket,
    to: SocketAddr,
    sink: Sink,
}

impl Probe {
    /// Sends datagrams of a flow to the next router, 10.0.1.1.
    pub fn new(path: &Path, flow: Flow) -> Self {
        let source = Ipv4Addr::from(flow.source);
        let lines = format!(
            "address add {source}/24 dev eth0\n\
             neighbor replace 10.0.1.1 lladdr {} dev eth0 nud permanent\n\
             route add default via 10.0.1.1\n",
            mac(NEAR)
        );
        path.source
            .enter(|| run_with("ip -batch -", &lines))
            .expect(0);
        let [from, to] = flow.ports;
        let socket = path
            .source
            .enter(|| UdpSocket::bind((source, from)))
            .expect("an address of this host");
        Self {
            socket,
            to: (Ipv4Addr::from(flow.destination), to).into(),
            sink: Sink::new(&path.target, "eth0", Hook::Tc),
        }
    }

    /// Whether the next packet arrives.
    fn passes(&self) -> bool {
        self.sink.arrived();
        self.socket
            .send_to(b"probe", self.to)
            .expect("there is a route");
        (0..LOOKS).any(|_| self.sink.arrived() > 0)
    }

    /// Sends until packets pass, or until they do not: when the first of them was sent.
    #[track_caller]
    pub fn until(&self, passes: bool) -> Instant {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sent = Instant::now();
            if (0..SURE).all(|_| self.passes() == passes) {
                return sent;
            }
            assert!(
                sent < deadline,
                "packets are to {}, and still do not",
                if passes { "pass" } else { "be dropped" }
            );
            thread::sleep(PAUSE);
        }
    }
}
