//! Metrics over HTTP, for those on this machine only: a Unix socket or a loopback address.

use std::{
    fmt, fs,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::Metrics;

/// What the answer is, as `Accept` and `Content-Type` call it.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long a client may take to ask, and how long to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const HEAD: usize = 8 << 10;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket.
    Unix(PathBuf),
    /// An address that only this machine reaches.
    Loopback(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = Path::new(path);
            return match path.is_absolute() {
                true => Ok(Self::Unix(path.to_owned())),
                false => Err("write the whole path, as in unix:/run/pcn/metrics.sock".to_owned()),
            };
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| "write unix:/PATH, 127.0.0.1:PORT or [::1]:PORT".to_owned())?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "{} can be reached from elsewhere; only loopback addresses are allowed",
                address.ip()
            ));
        }
        Ok(Self::Loopback(address))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

/// Answers whoever asks. The socket's file goes with it.
#[derive(Debug)]
pub struct Server {
    address: Listen,
}

/// A listening socket.
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Server {
    /// Listens, and answers on a thread of its own until the process ends.
    pub fn start(listen: &Listen, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (listener, address) = match listen {
            Listen::Unix(path) => (Listener::Unix(bind(path)?), listen.clone()),
            Listen::Loopback(address) => {
                let listener = TcpListener::bind(address)?;
                let address = listener.local_addr()?;
                (Listener::Tcp(listener), Listen::Loopback(address))
            }
        };
        thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || listener.answer_all(&metrics))?;
        Ok(Self { address })
    }

    /// Where it listens: with the port that was given out, if none was asked for.
    pub const fn address(&self) -> &Listen {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.address {
            let _gone_already = fs::remove_file(path);
        }
    }
}

/// Binds a Unix socket that root and its group may use. One that nobody listens on any more is
/// in nobody's use.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_abandoned(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

impl Listener {
    /// One after the other: reading the kernel twice at once would only take twice as long.
    fn answer_all(&self, metrics: &Metrics) {
        loop {
            let answered = match self {
                Self::Unix(listener) => listener
                    .accept()
                    .and_then(|(mut stream, _)| answer(&mut stream, metrics)),
                Self::Tcp(listener) => listener
                    .accept()
                    .and_then(|(mut stream, _)| answer(&mut stream, metrics)),
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "metrics not given");
                // So that an error of the listener itself does not keep a CPU busy.
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// A connection with a limit on how long it may take.
trait Stream: Read + Write {
    fn limit(&self, time: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Stream for TcpStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

fn answer(stream: &mut impl Stream, metrics: &Metrics) -> io::Result<()> {
    let head = read_head(stream)?;
    let (status, body) = respond(&head, metrics);
    let (kind, allow) = match status {
        "200 OK" => (CONTENT_TYPE, ""),
        "405 Method Not Allowed" => ("text/plain", "Allow: GET, HEAD\r\n"),
        _ => ("text/plain", ""),
    };
    let length = body.len();
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    if !head.starts_with("HEAD ") {
        text.push_str(&body);
    }
    stream.limit(PATIENCE)?;
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// Reads up to the empty line. What is too long or too slow is an error.
fn read_head(stream: &mut impl Stream) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        // A limit of zero would be none.
        stream.limit(left.max(Duration::from_millis(1)))?;
        let count = stream.read(&mut buffer)?;
        head.extend(&buffer[..count]);
        if count == 0 || head.len() > HEAD || left.is_zero() {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The status line and the body (RFC 9112).
fn respond(head: &str, metrics: &Metrics) -> (&'static str, String) {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return ("400 Bad Request", "this is no HTTP\n".to_owned());
    };
    if !version.starts_with("HTTP/1.") {
        return ("400 Bad Request", "this is no HTTP/1\n".to_owned());
    }
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET" | "HEAD", "/metrics") => match metrics.encode(None) {
            Ok(body) => ("200 OK", body),
            Err(error) => ("500 Internal Server Error", format!("{error}\n")),
        },
        ("GET" | "HEAD", _) => ("404 Not Found", "there is only /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "ask with GET\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_served() {
        let listen = |text: &str| text.parse::<Listen>();
        let unix = Listen::Unix("/run/pcn/metrics.sock".into());
        assert_eq!(listen("unix:/run/pcn/metrics.sock"), Ok(unix));
        for good in ["127.0.0.1:9464", "127.1.2.3:1", "[::1]:9464"] {
            assert_eq!(listen(good), Ok(Listen::Loopback(good.parse().unwrap())));
        }
        for bad in [
            "0.0.0.0:9464",
            "[::]:9464",
            "10.0.0.1:9464",
            "[::ffff:10.0.0.1]:1",
            "unix:metrics.sock",
            "9464",
            "localhost:9464",
            "",
        ] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_are_answered() {
        let nowhere = Path::new("/dev/null/pcn");
        let metrics = Metrics::new(nowhere, nowhere);
        let status = |head: &str| respond(head, &metrics).0;
        assert_eq!(status("GET /metrics HTTP/1.1\r\n\r\n"), "200 OK");
        assert_eq!(status("HEAD /metrics?x=y HTTP/1.0\r\n\r\n"), "200 OK");
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), "404 Not Found");
        assert_eq!(
            status("POST /metrics HTTP/1.1\r\n\r\n"),
            "405 Method Not Allowed"
        );
        for bad in ["", "GET /metrics", "PRI * HTTP/2.0\r\n\r\n"] {
            assert_eq!(status(bad), "400 Bad Request");
        }
    }

    #[test]
    fn sockets_come_and_go() {
        let folder = std::env::temp_dir().join(format!("pcn-metrics-{}", std::process::id()));
        let path = folder.join("metrics.sock");
        let metrics = || Arc::new(Metrics::new(&folder, &folder));
        let listen = Listen::Unix(path.clone());
        let server = Server::start(&listen, metrics()).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        // In use.
        assert!(Server::start(&listen, metrics()).is_err());
        let mut stream = UnixStream::connect(&path).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(CONTENT_TYPE)
                && head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        assert!(body.ends_with("# EOF\n"), "{body}");
        drop(server);
        assert!(!path.exists());
        // Left by a process that was killed.
        drop(UnixListener::bind(&path).unwrap());
        drop(Server::start(&listen, metrics()).unwrap());
        // What is no socket is somebody else's.
        fs::write(&path, "mine").unwrap();
        assert!(Server::start(&listen, metrics()).is_err());
        fs::remove_dir_all(&folder).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let server = Server::start(&any, metrics()).unwrap();
        let Listen::Loopback(address) = server.address() else {
            panic!("{server:?}");
        };
        assert!(TcpStream::connect(address).is_ok());
    }
}
