//! Checks of a topology: sockets in its namespaces. A descriptor stays in the namespace it was opened in, so only the
//! opening happens inside.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use caps::Capability;
use socket2::{Domain, Protocol, Socket, Type};
use topology_schema::{Check, HttpUrl, Name, Probe};

use super::{netns, privilege::Raised};
use crate::interrupt::Interrupt;

/// Between two tries.
const PERIOD: Duration = Duration::from_millis(200);
/// The longest wait for an answer to the first connection; doubled for each that follows, so that neither a packet that
/// is lost nor a slow network fails the check.
const FIRST_CONNECT: Duration = Duration::from_secs(1);
/// Most bytes of a response that are read for its status line.
const STATUS_LINE: usize = 4096;

/// Tries all at once, each until it succeeds or its time is over. For each, why it failed.
pub(super) fn run(checks: &[Check], interrupt: &Interrupt) -> Vec<Result<(), String>> {
    thread::scope(|scope| {
        let running: Vec<_> = checks
            .iter()
            .map(|check| {
                thread::Builder::new()
                    .name("check".to_owned())
                    .spawn_scoped(scope, || until_answered(check, interrupt))
            })
            .collect();
        running
            .into_iter()
            .map(|thread| match thread {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|_| Err("the check itself failed".to_owned())),
                Err(error) => Err(format!("start a thread: {error}")),
            })
            .collect()
    })
}

fn until_answered(check: &Check, interrupt: &Interrupt) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(check.timeout.get().into());
    let mut tries = Tries {
        from: check.from.as_ref(),
        deadline,
        connect: FIRST_CONNECT,
        interrupt,
    };
    loop {
        let started = Instant::now();
        let error = match tries.once(&check.probe) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if interrupt.is_requested() {
            return Err("interrupted".to_owned());
        }
        let next = started + PERIOD;
        if next >= deadline {
            return Err(format!("{error} (tried for {})", check.timeout));
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// The tries of one check.
struct Tries<'a> {
    from: Option<&'a Name>,
    deadline: Instant,
    /// How long the next connection may take.
    connect: Duration,
    interrupt: &'a Interrupt,
}

impl Tries<'_> {
    fn once(&mut self, probe: &Probe) -> Result<(), String> {
        match probe {
            Probe::Ping(address) => self.ping(*address),
            Probe::Tcp(address) => self.connect(*address).map(drop),
            Probe::Http(url, status) => {
                let stream = self.connect(url.address())?;
                match self.get(stream, url)? {
                    found if u32::from(found) == status.get() => Ok(()),
                    found => Err(format!("the status is {found}, not {}", status.get())),
                }
            }
        }
    }

    /// The time for something that may take this long at most.
    fn at_most(&self, limit: Duration) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // Zero would be no limit.
        left.min(limit).max(Duration::from_millis(1))
    }

    fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<io::Result<T>, String> {
        match self.from {
            None => Ok(work()),
            Some(name) => netns::inside(name.as_str(), work).map_err(|error| error.to_string()),
        }
    }

    fn connect(&mut self, address: SocketAddr) -> Result<TcpStream, String> {
        let limit = self.at_most(self.connect);
        self.connect = self.connect.saturating_mul(2);
        self.inside(|| TcpStream::connect_timeout(&address, limit))?
            .map_err(|error| format!("connect: {}", plain(&error)))
    }

    /// The status of the answer to a GET.
    fn get(&self, mut stream: TcpStream, url: &HttpUrl) -> Result<u16, String> {
        let failed = |error: io::Error| format!("request: {}", plain(&error));
        stream
            .set_write_timeout(Some(self.at_most(FIRST_CONNECT)))
            .map_err(failed)?;
        stream.set_read_timeout(Some(PERIOD)).map_err(failed)?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: pcn/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            url.path(),
            url.host(),
            env!("CARGO_PKG_VERSION")
        );
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 512];
        while !answer.contains(&b'\n') && answer.len() < STATUS_LINE {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) if is_timeout(&error) => {
                    if Instant::now() >= self.deadline || self.interrupt.is_requested() {
                        return Err("connected, but there is no answer".to_owned());
                    }
                }
                Err(error) => return Err(failed(error)),
            }
        }
        status(&answer).ok_or_else(|| "the answer is not HTTP".to_owned())
    }

    /// One echo, and a wait for its answer.
    fn ping(&self, address: IpAddr) -> Result<(), String> {
        let socket = self
            .inside(|| echo_socket(address))?
            .map_err(|error| format!("open an ICMP socket: {}", plain(&error)))?;
        let failed = |error: io::Error| format!("ping: {}", plain(&error));
        socket
            .connect(&SocketAddr::new(address, 0).into())
            .map_err(failed)?;
        let token = token();
        socket.send(&echo(address, &token)).map_err(failed)?;
        // Echoes follow one another as tries do; an answer that comes later than that belongs to none.
        let end = Instant::now() + self.at_most(FIRST_CONNECT);
        let mut buffer = [0; 256];
        while Instant::now() < end && !self.interrupt.is_requested() {
            socket.set_read_timeout(Some(PERIOD)).map_err(failed)?;
            match (&socket).read(&mut buffer) {
                Ok(count) if is_answer(address, &buffer[..count], &token) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err("no answer".to_owned())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// An error without its number.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer".to_owned(),
        _ => {
            let text = error.to_string();
            let end = text.find(" (os error").unwrap_or(text.len());
            text[..end].to_owned()
        }
    }
}

/// The status code of `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next()?.strip_prefix("HTTP/")?;
    words.next().filter(|code| code.len() == 3)?.parse().ok()
}

/// A socket for echoes. Datagrams need no privilege where the administrator allows them; raw sockets need `CAP_NET_RAW`.
fn echo_socket(address: IpAddr) -> io::Result<Socket> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let _raw = Raised::new(Capability::CAP_NET_RAW);
            Socket::new(domain, Type::RAW, Some(protocol))
        }
        other => other,
    }
}

/// Differs from that of every other echo on this machine.
fn token() -> [u8; 16] {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut token = [0; 16];
    token[..4].copy_from_slice(&std::process::id().to_be_bytes());
    token[4..8].copy_from_slice(b"pcn\0");
    token[8..].copy_from_slice(&count.to_be_bytes());
    token
}

/// An echo request (RFC 792, RFC 4443, 4.1). The kernel writes the checksum of ICMPv6, and of datagrams the identifier.
fn echo(address: IpAddr, token: &[u8; 16]) -> Vec<u8> {
    let kind = if address.is_ipv4() { 8 } else { 128 };
    let identifier = (std::process::id() & 0xffff) as u16;
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend([token[14], token[15]]);
    packet.extend(token);
    if address.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Internet checksum of an even number of bytes (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Whether a packet is the reply to our echo: raw sockets see those of others, and on IPv4 the header in front.
fn is_answer(address: IpAddr, packet: &[u8], token: &[u8; 16]) -> bool {
    let kind = if address.is_ipv4() { 0 } else { 129 };
    let message = match (address, packet.first()) {
        (IpAddr::V4(_), Some(first)) if first >> 4 == 4 => {
            packet.get(usize::from(first & 15) * 4..)
        }
        _ => Some(packet),
    };
    message.is_some_and(|message| message.first() == Some(&kind) && message.ends_with(token))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn the_status_line_says_it() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nServer: x\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 404\r\n"), Some(404));
        for other in [
            &b""[..],
            b"\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1\r\n",
            b"HTTP/1.1 2000 OK\r\n",
            b"HTTP/1.1 OK 200\r\n",
            b"\xff\xff\n",
        ] {
            assert_eq!(status(other), None, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn only_the_own_echo_is_answered() {
        let token = token();
        let mut reply = echo(V4, &token);
        assert_eq!(checksum(&reply), 0);
        assert!(!is_answer(V4, &reply, &token), "a request is no answer");
        reply[0] = 0;
        assert!(is_answer(V4, &reply, &token));
        let mut with_header = vec![0x46; 24];
        with_header.extend(&reply);
        assert!(is_answer(V4, &with_header, &token));
        assert!(!is_answer(V4, &reply, &self::token()));
        let mut reply = echo(V6, &token);
        reply[0] = 129;
        assert!(is_answer(V6, &reply, &token));
        assert!(!is_answer(V4, &reply, &token));
        assert!(!is_answer(V4, &[], &token) && !is_answer(V4, &[0x4f], &token));
    }

    #[test]
    fn what_nobody_answers_fails_in_time() {
        let check = |probe| Check {
            name: None,
            probe,
            from: None,
            timeout: "1s".parse().expect("a duration"),
        };
        // Nobody listens on this port.
        let socket = std::net::TcpListener::bind((V4, 0)).expect("loopback is there");
        let address = socket.local_addr().expect("it is bound");
        let silent = check(Probe::Http(
            format!("http://{address}/").parse().expect("a URL"),
            topology_schema::HttpStatus::new(200).expect("a status"),
        ));
        let accepted = check(Probe::Tcp(address));
        let started = Instant::now();
        let never = Interrupt::default();
        let results = run(&[accepted.clone(), silent.clone()], &never);
        assert_eq!(results[0], Ok(()));
        assert!(
            results[1]
                .as_ref()
                .is_err_and(|why| why.contains("no answer")),
            "{results:?}"
        );
        drop(socket);
        let results = run(&[accepted], &never);
        assert!(
            results[0]
                .as_ref()
                .is_err_and(|why| why.contains("refused")),
            "{results:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(8));
        never.request();
        assert_eq!(run(&[silent], &never), [Err("interrupted".to_owned())]);
    }
}
