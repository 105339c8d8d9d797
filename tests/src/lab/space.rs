//! Network namespaces: those of a topology, and stations that a test connects to the machine.

use std::{
    fs::File,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    panic, thread,
};

use nix::sched::{CloneFlags, setns};

use crate::{
    command::{Run, Running, run, run_with, start},
    wait,
    wire::{Mac, Wire},
};

/// A network namespace. Sockets opened in it stay in it, so that is all tests need to enter one
/// for.
#[derive(Debug)]
pub struct Space {
    name: String,
    file: File,
}

impl Space {
    /// The namespace of that name; `""` is that of the calling thread.
    #[track_caller]
    pub fn open(name: &str) -> Self {
        let path = if name.is_empty() {
            "/proc/thread-self/ns/net".to_owned()
        } else {
            format!("/run/netns/{name}")
        };
        let file = File::open(&path).unwrap_or_else(|error| panic!("namespace {name}: {error}"));
        Self {
            name: name.to_owned(),
            file,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` inside, on a thread of its own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).expect("root can enter a namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Runs a command inside.
    pub fn run(&self, line: &str) -> Run {
        self.enter(|| run(line))
    }

    /// Starts a command inside.
    pub fn start(&self, line: &str) -> Running {
        self.enter(|| start(line))
    }

    /// Listens to all interfaces inside.
    pub fn wire(&self) -> Wire {
        self.enter(Wire::start)
    }

    /// A UDP socket, with port 0 for any.
    pub fn udp(&self, address: IpAddr, port: u16) -> UdpSocket {
        let socket = self
            .enter(|| UdpSocket::bind((address, port)))
            .expect("an address of this host");
        socket
            .set_read_timeout(Some(wait::PATIENCE))
            .expect("a socket can time out");
        socket
    }

    /// A TCP socket that listens.
    pub fn listen(&self, address: IpAddr) -> TcpListener {
        self.enter(|| TcpListener::bind((address, 0)))
            .expect("an address of this host")
    }

    /// A TCP connection.
    #[track_caller]
    pub fn connect(&self, to: SocketAddr) -> TcpStream {
        let stream = self.enter(|| TcpStream::connect_timeout(&to, wait::PATIENCE));
        let stream =
            stream.unwrap_or_else(|error| panic!("{} cannot connect to {to}: {error}", self.name));
        stream
            .set_read_timeout(Some(wait::PATIENCE))
            .expect("a socket can time out");
        stream
            .set_write_timeout(Some(wait::PATIENCE))
            .expect("a socket can time out");
        stream
    }

    /// The Ethernet address of an interface inside.
    pub fn mac(&self, interface: &str) -> Mac {
        let link = self
            .run(&format!("ip -j link show dev {interface}"))
            .expect(0)
            .json();
        let text = link[0]["address"].as_str().expect("a link has an address");
        let mut bytes = text
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).expect("two digits"));
        std::array::from_fn(|_| bytes.next().expect("six bytes"))
    }
}

/// A host of the test's own, at the other end of a veth pair whose near end is an interface of the
/// lab.
#[derive(Debug)]
pub struct Station {
    near: String,
    space: Space,
}

impl Station {
    /// Makes the namespace `name` with `eth0`, and the interface `near` of the lab. Its addresses
    /// are usable at once.
    #[track_caller]
    pub fn new(name: &str, near: &str, addresses: &[&str]) -> Self {
        run_with(
            "ip -batch -",
            &format!("netns add {name}\nlink add {near} type veth peer name eth0 netns {name}\nlink set {near} addrgenmode none up\n"),
        )
        .expect(0);
        let space = Space::open(name);
        let mut batch = String::from("link set lo up\nlink set eth0 up\n");
        for address in addresses {
            batch += &format!(
                "address add {address} dev eth0{}\n",
                if address.contains(':') { " nodad" } else { "" }
            );
        }
        space.enter(|| {
            std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0").expect("IPv6 is there");
            run_with("ip -batch -", &batch).expect(0);
        });
        Self {
            near: near.to_owned(),
            space,
        }
    }

    /// As a station behind an interface on XDP: with what redirects into a veth pair need, and
    /// without what they break.
    #[track_caller]
    pub fn for_xdp(name: &str, near: &str, addresses: &[&str]) -> Self {
        let station = Self::new(name, near, addresses);
        station
            .run("ethtool -K eth0 gro on tx off tso off gso off")
            .expect(0);
        station
    }
}

impl std::ops::Deref for Station {
    type Target = Space;

    fn deref(&self) -> &Space {
        &self.space
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        // The interface may be gone already: some tests delete it.
        let _gone = run(&format!("ip link delete {}", self.near));
        let _gone = run(&format!("ip netns delete {}", self.space.name));
    }
}
