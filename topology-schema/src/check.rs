//! Checks: what must be reachable once a topology is applied.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::addr::{IPV4, ip_text::IpText, pattern};
use crate::name::Name;
use crate::quantity::{Bounded, Seconds};
use crate::text::{ValueCode, ValueError, quote, text_type};

/// Most checks of one topology.
pub const MAX_CHECKS: usize = 100;

/// Something that must be reachable after an apply, or the apply is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is called in plans and messages; its place in the list without.
    pub name: Option<Name>,
    /// What is tried.
    pub probe: Probe,
    /// The namespace of this topology from which it is tried; `None` for the host's.
    pub from: Option<Name>,
    /// How long it is tried again before the check has failed, in seconds.
    pub timeout: Seconds,
}

/// What a check tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// An ICMP or ICMPv6 echo is answered.
    Ping(IpAddr),
    /// A TCP connection is accepted.
    Tcp(SocketAddr),
    /// An HTTP GET is answered with this status.
    Http(HttpUrl, HttpStatus),
}

/// Status code of an HTTP response: 100 to 599.
pub type HttpStatus = Bounded<100, 599>;

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.probe {
            Probe::Ping(address) => write!(f, "ping {address}")?,
            Probe::Tcp(address) => write!(f, "tcp {address}")?,
            Probe::Http(url, _) => write!(f, "{url}")?,
        }
        match &self.from {
            Some(from) => write!(f, " from {from}"),
            None => Ok(()),
        }
    }
}

/// A URL of plain HTTP to an address: names would be resolved by the host, not by the network that is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    address: SocketAddr,
    path: String,
}

impl HttpUrl {
    /// The server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Path and query, as the request names them; starts with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The server, as the request's `Host` field names it.
    #[must_use]
    pub fn host(&self) -> String {
        match (self.address.port(), self.address.ip()) {
            (80, IpAddr::V4(ip)) => ip.to_string(),
            (80, IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.address.to_string(),
        }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host(), self.path)
    }
}

impl FromStr for HttpUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid = |help: &str| {
            let message = format!("{} is no URL that can be checked", quote(text));
            ValueError::new(ValueCode::InvalidUrl, message).help(help)
        };
        if text.starts_with("https://") {
            return Err(invalid("only plain HTTP is checked: write http://"));
        }
        let example = "write it like http://10.0.0.1:8080/healthz, with an address and not a name";
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| invalid(example))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_written = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !path.bytes().all(is_written) {
            return Err(invalid(
                "write other characters as %20, and leave out what follows a `#`",
            ));
        }
        let address = socket_address(host)
            .or_else(|| Some(SocketAddr::new(bare_host(host)?, 80)))
            .ok_or_else(|| invalid(example))?;
        let path = if path.is_empty() { "/" } else { path }.to_owned();
        Ok(Self { address, path })
    }
}

text_type!(
    HttpUrl,
    "HttpUrl",
    expecting "a URL such as `http://10.0.0.1:8080/healthz`",
    pattern pattern(&format!(r#"http://({IPV4}|{IPV6})(:{PORT})?(/[!"$-~]*)?"#)),
    "URL of plain HTTP, with an IP address and without a fragment, such as `http://10.0.0.1:8080/healthz`.",
    number |_| None
);

/// An address with a port, as it is written.
#[derive(Clone, Copy)]
struct TcpTarget(SocketAddr);

impl fmt::Display for TcpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TcpTarget {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        socket_address(text).map(Self).ok_or_else(|| {
            let message = format!("{} is no address with a port", quote(text));
            let help = match text.parse() {
                Ok(IpAddr::V4(address)) => format!("say the port: \"{address}:22\""),
                Ok(IpAddr::V6(address)) => format!("say the port: \"[{address}]:22\""),
                Err(_) => "write it like \"10.0.0.1:22\" or \"[fd00::1]:22\"".to_owned(),
            };
            ValueError::new(ValueCode::InvalidAddress, message).help(help)
        })
    }
}

text_type!(
    TcpTarget,
    "TcpTarget",
    expecting "an address with a port such as `10.0.0.1:22`",
    pattern pattern(&format!("({IPV4}|{IPV6}):{PORT}")),
    "IP address and TCP port, such as `10.0.0.1:22` or `[fd00::1]:22`.",
    number |_| None
);

/// IPv6 in brackets; wider than the language, as the exact pattern would be unreadable.
const IPV6: &str = r"\[(?=[^:\]]*:[^:\]]*:)[0-9a-fA-F:.]+\]";
/// 1 to 65535.
const PORT: &str = r"([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])";

fn socket_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    let port = port.parse().ok().filter(|_| digits)?;
    Some(SocketAddr::new(bare_host(host)?, port))
}

/// `10.0.0.1` or `[fd00::1]`.
fn bare_host(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
            Some(address.into())
        }
        None => text.parse().ok().map(IpAddr::V4),
    }
}

/// What must be reachable: one of `ping`, `tcp` and `http`, and what goes with it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a check such as `{ ping: 10.0.0.1, from: h1 }`"
)]
#[schemars(
    rename = "Check",
    extend(
        "oneOf" = [{ "required": ["ping"] }, { "required": ["tcp"] }, { "required": ["http"] }],
        "dependentRequired" = { "status": ["http"] }
    )
)]
struct Written {
    /// Name in plans and messages. Default: its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Name>,
    /// An address that must answer an ICMP or ICMPv6 echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ping: Option<IpText>,
    /// An address and a port that must accept a TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpTarget>,
    /// A URL of plain HTTP that must answer a GET. Redirections are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpUrl>,
    /// Status that the HTTP server must answer with, 100 to 599. Default: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 200))]
    status: Option<HttpStatus>,
    /// Namespace of this topology from which it is tried. Default: the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Name>,
    /// How long it is tried again, every 200 ms, before it has failed, at least `1s`. Default: `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "5s"))]
    timeout: Option<Seconds>,
}

const DEFAULT_STATUS: Option<HttpStatus> = HttpStatus::new(200);

impl Written {
    fn probe(&self) -> Result<Probe, ValueError> {
        let conflict = |message: &str| ValueError::new(ValueCode::ConflictingFields, message);
        if self.status.is_some()
            && self.http.is_none()
            && (self.ping.is_some() || self.tcp.is_some())
        {
            return Err(conflict("`status` goes with `http` only"));
        }
        match (&self.ping, &self.tcp, &self.http) {
            (Some(address), None, None) => Ok(Probe::Ping(address.0)),
            (None, Some(target), None) => Ok(Probe::Tcp(target.0)),
            (None, None, Some(url)) => {
                let status = self.status.or(DEFAULT_STATUS);
                let status = status.ok_or_else(|| conflict("there is no status 200"))?;
                Ok(Probe::Http(url.clone(), status))
            }
            (None, None, None) => {
                let message = "one of `ping`, `tcp` and `http` is missing";
                let help = "write it like { ping: 10.0.0.1, from: h1 }";
                Err(ValueError::new(ValueCode::MissingField, message).help(help))
            }
            _ => Err(conflict(
                "a check tries one thing: only one of `ping`, `tcp` and `http` can be given",
            )
            .help("write a check for each")),
        }
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let probe = written
            .probe()
            .map_err(|error| de::Error::custom(format_args!("{error:#}")))?;
        Ok(Self {
            name: written.name,
            probe,
            from: written.from,
            timeout: written.timeout.unwrap_or(Seconds::FIVE),
        })
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut written = Written {
            name: self.name.clone(),
            ping: None,
            tcp: None,
            http: None,
            status: None,
            from: self.from.clone(),
            timeout: Some(self.timeout).filter(|timeout| *timeout != Seconds::FIVE),
        };
        match &self.probe {
            Probe::Ping(address) => written.ping = Some(IpText(*address)),
            Probe::Tcp(address) => written.tcp = Some(TcpTarget(*address)),
            Probe::Http(url, status) => {
                written.http = Some(url.clone());
                written.status = Some(*status).filter(|status| Some(*status) != DEFAULT_STATUS);
            }
        }
        written.serialize(serializer)
    }
}

impl JsonSchema for Check {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Written::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Written::json_schema(generator)
    }
}
