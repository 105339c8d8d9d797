//! Endpoints: what a link connects.

use std::fmt;
use std::str::FromStr;

use crate::name::{InterfaceName, Name};
use crate::text::{ValueCode, ValueError, quote, text_type};

/// One end of a link.
///
/// The text form tells the three apart: `cube:port`, `namespace/interface`, or the name of a host interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A port of a standard cube, `cube:port`.
    Port {
        /// The cube that owns the port.
        cube: Name,
        /// The port.
        port: Name,
    },
    /// An interface inside a namespace of this topology, `namespace/interface`.
    Namespace {
        /// The namespace.
        namespace: Name,
        /// The interface inside it.
        interface: InterfaceName,
    },
    /// An existing interface of the host, by its name.
    Host(InterfaceName),
}

const FORMS: &str = "write `cube:port`, `namespace/interface` or the name of a host interface";

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { cube, port } => write!(f, "{cube}:{port}"),
            Self::Namespace {
                namespace,
                interface,
            } => write!(f, "{namespace}/{interface}"),
            Self::Host(interface) => write!(f, "{interface}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let within = |error: ValueError| ValueError {
            code: ValueCode::InvalidEndpoint,
            message: format!("{} is no endpoint: {}", quote(text), error.message),
            help: Some(FORMS.to_owned()),
        };
        match (text.split_once(':'), text.split_once('/')) {
            (Some(_), Some(_)) => Err(ValueError::new(
                ValueCode::InvalidEndpoint,
                format!("{} is no endpoint: it has both `:` and `/`", quote(text)),
            )
            .help(FORMS)),
            (Some((cube, port)), None) => Ok(Self::Port {
                cube: cube.parse().map_err(within)?,
                port: port.parse().map_err(within)?,
            }),
            (None, Some((namespace, interface))) => Ok(Self::Namespace {
                namespace: namespace.parse().map_err(within)?,
                interface: interface.parse().map_err(within)?,
            }),
            (None, None) => text.parse().map(Self::Host).map_err(within),
        }
    }
}

text_type!(
    Endpoint,
    "Endpoint",
    expecting "an endpoint such as `br1:p1`, `h1/eth0` or `eth1`",
    pattern r"^((?=[^:]{1,32}:[^:]{1,32}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?:[a-z0-9]([-a-z0-9]*[a-z0-9])?|(?=[^/]{1,32}/)[a-z0-9]([-a-z0-9]*[a-z0-9])?/(?!(\.|\.\.|all|default)$)[!-$&-.0-9;-~]{1,15}|(?!(\.|\.\.|all|default)$)[!-$&-.0-9;-~]{1,15})$",
    "One end of a link: `cube:port`, `namespace/interface`, or the name of a host interface."
);
