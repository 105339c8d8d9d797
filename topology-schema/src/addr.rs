//! Addresses of the link layer and of IP, and network prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv6Net};

use crate::suggest;
use crate::text::{ValueCode, ValueError, quote, text_type};

/// A link-layer address of six bytes, written as `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Whether one host can own the address: neither a group address nor all zero.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid = || {
            ValueError::new(
                ValueCode::InvalidMac,
                format!("{} is no MAC address", quote(text)),
            )
            .help("write six bytes in hexadecimal: 02:00:00:00:00:01")
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(invalid)?;
        }
        if parts.next().is_some() {
            Err(invalid())
        } else {
            Ok(Self(bytes))
        }
    }
}

text_type!(
    MacAddr,
    "MacAddr",
    expecting "a MAC address such as `02:00:00:00:00:01`",
    pattern "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$",
    "Link-layer address of six bytes, such as `02:00:00:00:00:01`.",
    number |_| None
);

/// A network: an address with all bits beyond the length zero. A bare address means one host (`/32` or `/128`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

impl Prefix {
    /// `64:ff9b::/96`: IPv6 addresses that stand for IPv4 addresses (RFC 6052, 2.1).
    pub const WELL_KNOWN_NAT64: Self = Self(IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0),
        96,
    )));

    /// The network that holds `address` at this length; `None` if the length is too great for the family.
    #[must_use]
    pub fn containing(address: IpAddr, length: u8) -> Option<Self> {
        IpNet::new(address, length)
            .ok()
            .map(|net| Self(net.trunc()))
    }

    /// The first address of the network.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// The number of leading bits that are fixed.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether the address belongs to the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether the two networks have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// The same network as `ipnet` has it.
    #[must_use]
    pub fn net(&self) -> IpNet {
        self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid = || {
            ValueError::new(
                ValueCode::InvalidPrefix,
                format!("{} is no network prefix", quote(text)),
            )
            .help("write an address and a length: 10.0.0.0/8 or fd00::/64")
        };
        let Some((address, length)) = text.split_once('/') else {
            return text
                .parse::<IpAddr>()
                .map(|address| Self(address.into()))
                .map_err(|_| invalid());
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let net = IpNet::new(address, parse_length(length).ok_or_else(invalid)?)
            .map_err(|_| invalid())?;
        if net.trunc() != net {
            let message = format!("{} has bits set beyond its length", quote(text));
            return Err(ValueError::new(ValueCode::HostBitsSet, message)
                .help(format!("did you mean `{}`?", net.trunc())));
        }
        Ok(Self(net))
    }
}

text_type!(
    Prefix,
    "Prefix",
    expecting "a network prefix such as `10.0.0.0/8`",
    pattern pattern(PREFIX),
    "Network prefix, IPv4 or IPv6, with all bits beyond its length zero. A bare address means one host.",
    number |_| None
);

/// An address of an interface together with the length of its network; the host bits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress(IpNet);

impl InterfaceAddress {
    /// The address of the interface itself.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// The length of the network, in bits.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The network that the interface is connected to.
    #[must_use]
    pub fn network(&self) -> Prefix {
        Prefix(self.0.trunc())
    }

    /// Whether the address names the network itself or all of its hosts, so that no interface can have it.
    #[must_use]
    pub fn is_network_or_broadcast(&self) -> bool {
        match self.0 {
            // RFC 3021: both addresses of a /31 belong to hosts.
            IpNet::V4(net) => {
                net.prefix_len() < 31
                    && (net.addr() == net.network() || net.addr() == net.broadcast())
            }
            IpNet::V6(_) => false,
        }
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for InterfaceAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid = |help: &str| {
            ValueError::new(
                ValueCode::InvalidAddress,
                format!("{} is no address with a length", quote(text)),
            )
            .help(help)
        };
        let example = "write the address and the length of its network: 10.0.1.1/24 or fd00::1/64";
        let Some((address, length)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(IpAddr::V4(address)) => {
                    invalid(&format!("say the length of its network: {address}/24"))
                }
                Ok(IpAddr::V6(address)) => {
                    invalid(&format!("say the length of its network: {address}/64"))
                }
                Err(_) => invalid(example),
            });
        };
        let address: IpAddr = address.parse().map_err(|_| invalid(example))?;
        let length = parse_length(length).ok_or_else(|| invalid(example))?;
        IpNet::new(address, length)
            .map(Self)
            .map_err(|_| invalid(example))
    }
}

text_type!(
    InterfaceAddress,
    "InterfaceAddress",
    expecting "an address with a length such as `10.0.1.1/24`",
    pattern pattern(INTERFACE_ADDRESS),
    "Address of an interface with the length of its network, such as `10.0.1.1/24` or `fd00::1/64`.",
    number |_| None
);

/// Where a route leads: everywhere, or to one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteTarget {
    /// `default`: `0.0.0.0/0` or `::/0`, by the family of the next hop.
    Default,
    /// One network.
    Prefix(Prefix),
}

impl RouteTarget {
    /// The network that is meant when the next hop is `via`.
    #[must_use]
    pub fn prefix(&self, via: IpAddr) -> Prefix {
        match (self, via) {
            (Self::Prefix(prefix), _) => *prefix,
            (Self::Default, IpAddr::V4(_)) => Prefix(IpNet::V4(ipnet::Ipv4Net::default())),
            (Self::Default, IpAddr::V6(_)) => Prefix(IpNet::V6(Ipv6Net::default())),
        }
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}

impl FromStr for RouteTarget {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "default" {
            return Ok(Self::Default);
        }
        text.parse().map(Self::Prefix).map_err(|error: ValueError| {
            match suggest::closest(text, ["default"]) {
                Some(default) => error.help(format!("did you mean `{default}`?")),
                None => error,
            }
        })
    }
}

text_type!(
    RouteTarget,
    "RouteTarget",
    expecting "`default` or a network prefix such as `10.0.0.0/8`",
    pattern pattern(&format!("default|{PREFIX}")),
    "Target of a route: `default` (all addresses of the next hop's family) or a network prefix.",
    number |_| None
);

/// An IP address of either family, with the messages and the schema of this crate.
///
/// The fields themselves are plain [`IpAddr`]; this type stands for them on the way in and out.
pub(crate) mod ip_text {
    use super::{ADDRESS, FromStr, IpAddr, ValueCode, ValueError, fmt, pattern, quote, text_type};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct IpText(pub(crate) IpAddr);

    impl fmt::Display for IpText {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    impl FromStr for IpText {
        type Err = ValueError;

        fn from_str(text: &str) -> Result<Self, ValueError> {
            text.parse().map(Self).map_err(|_| {
                let error = ValueError::new(
                    ValueCode::InvalidAddress,
                    format!("{} is no IP address", quote(text)),
                );
                match text
                    .split_once('/')
                    .map(|(address, _)| address.parse::<IpAddr>())
                {
                    Some(Ok(address)) => {
                        error.help(format!("write it without a length: {address}"))
                    }
                    Some(Err(_)) | None => error.help("write it like 10.0.0.1 or fd00::1"),
                }
            })
        }
    }

    text_type!(
        IpText,
        "IpAddress",
        expecting "an IP address such as `10.0.0.1`",
        pattern pattern(ADDRESS),
        "IP address of either family, such as `10.0.0.1` or `fd00::1`.",
        number |_| None
    );

    pub(crate) fn serialize<S: Serializer>(
        address: &IpAddr,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        IpText(*address).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<IpAddr, D::Error> {
        IpText::deserialize(deserializer).map(|text| text.0)
    }

    /// The same where there may be none.
    pub(crate) mod option {
        use super::{Deserialize, Deserializer, IpAddr, IpText, Serialize, Serializer};

        #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
        pub(crate) fn serialize<S: Serializer>(
            address: &Option<IpAddr>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            address.map(IpText).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<IpAddr>, D::Error> {
            let text = Option::<IpText>::deserialize(deserializer)?;
            Ok(text.map(|text| text.0))
        }
    }
}

/// A length as digits only: `u8::from_str` would also take a sign.
fn parse_length(text: &str) -> Option<u8> {
    let canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// IPv4, exactly.
pub(crate) const IPV4: &str =
    r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)";
/// Patterns of the JSON Schema. IPv4 is exact; for IPv6 the pattern is wider than the language, as the exact one would
/// be unreadable.
const ADDRESS: &str = concat!(
    r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)",
    r"|(?=[^:]*:[^:]*:)[0-9a-fA-F:.]+"
);
pub(crate) const PREFIX: &str = concat!(
    r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(/(3[0-2]|[12]?\d))?",
    r"|(?=[^:]*:[^:]*:)[0-9a-fA-F:.]+(/(12[0-8]|1[01]\d|[1-9]?\d))?"
);
const INTERFACE_ADDRESS: &str = concat!(
    r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)/(3[0-2]|[12]?\d)",
    r"|(?=[^:]*:[^:]*:)[0-9a-fA-F:.]+/(12[0-8]|1[01]\d|[1-9]?\d)"
);

pub(crate) fn pattern(alternatives: &str) -> String {
    format!("^({alternatives})$")
}
