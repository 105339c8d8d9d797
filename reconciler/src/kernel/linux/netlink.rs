//! Interfaces, addresses and routes, by netlink.
//!
//! A [`Netlink`] is one conversation with the kernel about one network namespace: requests are sent one at a time and
//! each is answered before its method returns, so an `Ok` means that the kernel has done it. There is no other thread
//! and nothing to poll. The sockets stay in their namespace, whichever thread uses them.
//!
//! Replies are read attribute by attribute, for what is needed here, rather than parsed whole: an interface of a kind
//! this program has never heard of cannot make a listing fail.

use std::{fmt, io, net::IpAddr};

use netlink_packet_core::{DecodeError, Emitable, NLM_F_REQUEST, NlasIterator};
use netlink_packet_route::AddressFamily;
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use nix::{errno::Errno, libc};

use self::connection::{Connection, Failure};
use super::netns;

mod address;
mod connection;
mod ethtool;
mod link;
mod monitor;
mod route;
mod table;
#[cfg(test)]
mod tests;
mod veth;

pub use self::{
    link::LinkInfo,
    monitor::{Announcement, Monitor, News, What},
    route::{ROUTE_PROTOCOL, RouteInfo},
    table::{TableMonitor, TableNews, TableRoute, TableRouteKind},
    veth::{CreatedVeth, VethPeer, VethRequest},
};

/// A conversation with the kernel about the interfaces, addresses and routes of one network namespace.
///
/// Keep one for many requests: it reuses its sockets and buffers.
#[derive(Debug)]
pub struct Netlink {
    /// rtnetlink: interfaces, addresses, routes.
    route: Connection,
    /// Generic netlink, for ethtool.
    generic: Connection,
    /// The number of the ethtool family, once asked for.
    ethtool_family: Option<u16>,
    /// The name of the namespace, for error messages; none for the caller's own.
    namespace: Option<String>,
}

/// Why the kernel's network configuration could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace could not be entered to open the sockets in it.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The kernel refused the request.
    #[error("{call}: {}{}", io::Error::from_raw_os_error(*.errno), Detail(.detail))]
    Refused {
        /// The request and its object, for example `create veth pcn-x1 in namespace h1`.
        call: String,
        /// The error number, positive.
        errno: i32,
        /// The kernel's explanation (its extended acknowledgement), where it gave one.
        detail: Option<String>,
    },
    /// The socket failed.
    #[error("{call}: {source}")]
    Socket {
        /// The request and its object.
        call: String,
        /// What the socket said.
        source: io::Error,
    },
    /// The kernel's answer, or the request itself, is not what it should be.
    #[error("{call}: {reason}")]
    Malformed {
        /// The request and its object.
        call: String,
        /// What is wrong.
        reason: String,
    },
    /// The listing changed under the reader each time it was read. Trying again can help.
    #[error("{call}: still changing after {attempts} attempts")]
    Changing {
        /// The request and its object.
        call: String,
        /// How often it was read.
        attempts: u32,
    },
    /// A request failed half-way, and what it had made could not be removed again.
    #[error("{first}; and what was made remains: {second}")]
    Remains {
        /// The failure.
        first: Box<Error>,
        /// Why the clean-up failed.
        second: Box<Error>,
    },
}

impl Error {
    /// True if the interface, address, route or namespace is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Namespace(error) => error.is_not_found(),
            Self::Refused { errno, .. } => is_missing(*errno),
            _ => false,
        }
    }

    /// True if the interface, address or route was there already.
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Refused { errno, .. } if *errno == libc::EEXIST)
    }
}

/// `: text`, or nothing.
struct Detail<'a>(&'a Option<String>);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .as_ref()
            .map_or(Ok(()), |text| write!(formatter, ": {text}"))
    }
}

impl Netlink {
    /// Opens a conversation about the namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] if the sockets cannot be opened.
    pub fn host() -> Result<Self, Error> {
        Self::from_sockets(open_sockets(), None)
    }

    /// Opens a conversation about the network namespace `name` (see [`netns`]). It keeps the namespace alive.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such namespace; [`Error::Socket`] if the sockets cannot be opened.
    pub fn in_namespace(name: &str) -> Result<Self, Error> {
        Self::from_sockets(netns::inside(name, open_sockets)?, Some(name.to_owned()))
    }

    fn from_sockets(
        sockets: io::Result<(Connection, Connection)>,
        namespace: Option<String>,
    ) -> Result<Self, Error> {
        match sockets {
            Ok((route, generic)) => Ok(Self {
                route,
                generic,
                ethtool_family: None,
                namespace,
            }),
            Err(source) => {
                Err(Failure::Io(source).during("open netlink sockets", namespace.as_deref()))
            }
        }
    }

    /// Sends a request that is answered by a bare yes or no. `flags` come on top of the usual ones; `call` names the
    /// request and its object, for the error.
    fn change(
        &mut self,
        (kind, flags): (u16, u16),
        body: &impl Emitable,
        call: impl fmt::Display,
    ) -> Result<(), Error> {
        let answer = self.route.request(kind, flags, body, &mut |_| Ok(()));
        answer.map_err(|failure| failure.during(call, self.namespace.as_deref()))
    }

    /// Lists objects: `read` turns each message of the answer into a `T`, or into nothing if it is of no interest.
    fn list<T>(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        call: impl fmt::Display,
        read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Error> {
        let answer = self.route.dump(kind, body, read);
        answer.map_err(|failure| failure.during(call, self.namespace.as_deref()))
    }
}

impl Netlink {
    /// The same, as things were while they were listed: what changed meanwhile may be there or not.
    fn list_once<T>(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        call: impl fmt::Display,
        read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Error> {
        let answer = self.route.dump_once(kind, body, read);
        let found = answer.map(|(found, _)| found);
        found.map_err(|failure| failure.during(call, self.namespace.as_deref()))
    }
}

impl Failure {
    /// The error of the request that `call` names.
    fn during(self, call: impl fmt::Display, namespace: Option<&str>) -> Error {
        let call = match namespace {
            Some(name) => format!("{call} in namespace {name}"),
            None => call.to_string(),
        };
        match self {
            Self::Io(source) => Error::Socket { call, source },
            Self::Refused { errno, detail } => Error::Refused {
                call,
                errno,
                detail,
            },
            Self::Malformed(reason) => Error::Malformed { call, reason },
            Self::Changing { attempts } => Error::Changing { call, attempts },
        }
    }
}

/// Opens both sockets in the namespace of this thread.
fn open_sockets() -> io::Result<(Connection, Connection)> {
    Ok((
        Connection::open(NETLINK_ROUTE)?,
        Connection::open(NETLINK_GENERIC)?,
    ))
}

/// Whether the error number says that the object of a request is not there.
fn is_missing(errno: i32) -> bool {
    // Interfaces: ENODEV. Files and generic netlink families: ENOENT. Routes: ESRCH. Addresses: EADDRNOTAVAIL.
    let errno = Errno::from_raw(errno);
    matches!(
        errno,
        Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL
    )
}

/// `Ok` for a removal whose object was gone already.
fn or_gone(removed: Result<(), Error>) -> Result<(), Error> {
    match removed {
        Err(Error::Refused { errno, .. }) if is_missing(errno) => Ok(()),
        other => other,
    }
}

/// Calls `each` with the kind and the value of every attribute in `bytes`.
fn for_attributes(
    bytes: &[u8],
    mut each: impl FnMut(u16, &[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    for attribute in NlasIterator::new(bytes) {
        let attribute = attribute?;
        each(attribute.kind(), attribute.value())?;
    }
    Ok(())
}

/// The bytes of a message behind its fixed header of `length` bytes.
fn behind(message: &[u8], length: usize) -> Result<&[u8], DecodeError> {
    message
        .get(length..)
        .ok_or_else(|| DecodeError::buffer_too_small(message.len(), length))
}

/// A name from the kernel, which promises neither a terminating zero nor UTF-8.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

/// The family of an address.
fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// An address or network for error messages.
fn network((ip, prefix_len): (IpAddr, u8)) -> impl fmt::Display {
    fmt::from_fn(move |formatter| write!(formatter, "{ip}/{prefix_len}"))
}
