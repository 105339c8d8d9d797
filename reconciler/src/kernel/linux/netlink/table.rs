//! Whole route tables, and what changes in them: for following what a routing daemon writes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::{DecodeError, NLM_F_REPLACE, NetlinkBuffer, parse_ip, parse_u32};
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc;

use super::{super::netns, Error, Failure, Netlink, behind, for_attributes};

/// `RTNLGRP_LINK`
const LINKS: u32 = 1;
/// `RTNLGRP_IPV4_ROUTE`
const ROUTES_V4: u32 = 7;
/// `RTNLGRP_IPV6_ROUTE`
const ROUTES_V6: u32 = 11;
/// The length of `struct rtmsg`.
const HEADER: usize = 12;
/// The length of `struct rtnexthop`.
const NEXT_HOP: usize = 8;
/// The address family in front of the address of an `RTA_VIA`.
const VIA_FAMILY: usize = 2;
/// Room for announcements that wait: some ten thousand routes.
const QUEUE_BYTES: usize = 16 << 20;
/// Room for one message.
const MESSAGE_BYTES: usize = 64 << 10;

/// A route of some table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRoute {
    /// Where it leads: address, all host bits clear, and prefix length.
    pub destination: (IpAddr, u8),
    /// Of two routes with the same destination the lower one counts.
    pub priority: u32,
    /// What it does with packets.
    pub kind: TableRouteKind,
    /// The kernel itself made it, for an address of an interface.
    pub by_kernel: bool,
}

/// What a route does with packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableRouteKind {
    /// Sends them to one of these gateways; the weight is how often one is chosen, from 1 on.
    Via(Vec<(IpAddr, u16)>),
    /// Sends them to their destination, on an interface.
    Link,
    /// Drops them.
    Blackhole,
    /// Drops them and tells the sender that there is no way.
    Unreachable,
    /// Drops them and tells the sender that it is forbidden.
    Prohibit,
}

/// Something that happened to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableNews {
    /// A route is there, newly or instead of others with its destination and priority.
    Added(TableRoute),
    /// A route is there beside others with its destination and priority.
    Appended(TableRoute),
    /// A route is there no more.
    Removed(TableRoute),
    /// What happened is not known in full: the table must be read again.
    Unknown,
}

impl Netlink {
    /// Reads a route table, both families. What changes while it is read may be in it or not:
    /// whoever needs to know listens with a [`TableMonitor`] that was opened before.
    ///
    /// # Errors
    ///
    /// The kernel's refusal. A table that is not there is empty.
    pub fn table(&mut self, table: u32) -> Result<Vec<TableRoute>, Error> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            question.attributes.push(RouteAttribute::Table(table));
            let call = format_args!("list routes of table {table}");
            let answer = self.list_once(libc::RTM_GETROUTE, &question, call, |message| {
                Ok(read_route(message)?.filter(|(of, _)| *of == table))
            });
            match answer {
                Ok(routes) => found.extend(routes.into_iter().map(|(_, route)| route)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

/// Reads a message about a route: of which table it is, and the route. `None` for what is no
/// route for packets to other hosts.
fn read_route(message: &[u8]) -> Result<Option<(u32, TableRoute)>, DecodeError> {
    let header = RouteHeader::parse(message)?;
    let none = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    // Cached routes are the kernel's own business (`RTM_F_CLONED`).
    if header.flags.bits() & libc::RTM_F_CLONED != 0 {
        return Ok(None);
    }
    let (mut destination, mut table, mut priority) = (none, header.table.into(), 0);
    let mut gateways = Vec::new();
    for_attributes(behind(message, HEADER)?, |kind, value| {
        match kind {
            libc::RTA_DST => destination = parse_ip(value)?,
            libc::RTA_TABLE => table = parse_u32(value)?,
            libc::RTA_PRIORITY => priority = parse_u32(value)?,
            libc::RTA_GATEWAY => gateways.push((parse_ip(value)?, 1)),
            libc::RTA_VIA => gateways.push((parse_ip(behind(value, VIA_FAMILY)?)?, 1)),
            libc::RTA_MULTIPATH => read_next_hops(value, &mut gateways)?,
            _ => {}
        }
        Ok(())
    })?;
    let kind = match header.kind {
        RouteType::Unicast if gateways.is_empty() => TableRouteKind::Link,
        RouteType::Unicast => TableRouteKind::Via(gateways),
        RouteType::BlackHole => TableRouteKind::Blackhole,
        RouteType::Unreachable => TableRouteKind::Unreachable,
        RouteType::Prohibit => TableRouteKind::Prohibit,
        _ => return Ok(None),
    };
    let route = TableRoute {
        destination: (destination, header.destination_prefix_length),
        priority,
        kind,
        by_kernel: header.protocol == RouteProtocol::Kernel,
    };
    Ok(Some((table, route)))
}

/// Reads the value of an `RTA_MULTIPATH`: for each next hop its length, flags, weight less one and
/// interface, then attributes.
fn read_next_hops(mut value: &[u8], gateways: &mut Vec<(IpAddr, u16)>) -> Result<(), DecodeError> {
    while let Some((head, _)) = value.split_first_chunk::<NEXT_HOP>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let weight = u16::from(head[3]) + 1;
        let attributes = value.get(NEXT_HOP..length).unwrap_or_default();
        for_attributes(attributes, |kind, value| {
            match kind {
                libc::RTA_GATEWAY => gateways.push((parse_ip(value)?, weight)),
                libc::RTA_VIA => gateways.push((parse_ip(behind(value, VIA_FAMILY)?)?, weight)),
                _ => {}
            }
            Ok(())
        })?;
        let next = length.max(NEXT_HOP).next_multiple_of(4);
        value = value.get(next..).unwrap_or_default();
    }
    Ok(())
}

/// A socket that hears what happens to one route table of one namespace. It never blocks: wait for
/// its descriptor to be readable.
#[derive(Debug)]
pub struct TableMonitor {
    socket: Socket,
    buffer: Vec<u8>,
    table: u32,
}

impl TableMonitor {
    /// Listens from now on, in a named namespace or that of the calling thread.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such namespace; [`Error::Socket`] if the socket
    /// cannot be opened.
    pub fn open(namespace: Option<&str>, table: u32) -> Result<Self, Error> {
        let socket = match namespace {
            Some(name) => netns::inside(name, listen)?,
            None => listen(),
        };
        let failed = |source| Failure::Io(source).during("listen to routes", namespace);
        Ok(Self {
            socket: socket.map_err(failed)?,
            buffer: Vec::with_capacity(MESSAGE_BYTES),
            table,
        })
    }

    /// What happened since the last time, at most about `limit` things; whether there is more.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] if the socket fails for another reason than a full queue.
    pub fn read(&mut self, limit: usize) -> Result<(Vec<TableNews>, bool), Error> {
        let mut news = Vec::new();
        while news.len() < limit {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => self.read_messages(&mut news),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok((news, false)),
                    Some(libc::EINTR) => {}
                    Some(libc::ENOBUFS) => news.push(TableNews::Unknown),
                    _ => return Err(Failure::Io(error).during("listen to routes", None)),
                },
            }
        }
        Ok((news, true))
    }

    fn read_messages(&self, news: &mut Vec<TableNews>) {
        let mut rest = self.buffer.as_slice();
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            let payload = message.payload();
            let route = || match read_route(payload) {
                Ok(Some((table, route))) if table == self.table => Some(Ok(route)),
                Ok(_) => None,
                Err(_) => Some(Err(())),
            };
            let flags = message.flags();
            let happened = match message.message_type() {
                libc::RTM_NEWROUTE => route().map(|route| match route {
                    Ok(route) if flags & NLM_F_REPLACE != 0 => TableNews::Added(route),
                    Ok(route) => TableNews::Appended(route),
                    Err(()) => TableNews::Unknown,
                }),
                libc::RTM_DELROUTE => {
                    route().map(|route| route.map_or(TableNews::Unknown, TableNews::Removed))
                }
                // The kernel does not say which routes went with an interface.
                libc::RTM_NEWLINK | libc::RTM_DELLINK => Some(TableNews::Unknown),
                _ => None,
            };
            news.extend(happened);
            let length = (message.length() as usize).next_multiple_of(4);
            rest = &rest[rest.len().min(length)..];
        }
    }
}

impl AsFd for TableMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    // A queue that overflows is noticed; a larger one only makes that rarer.
    let _smaller = socket.set_rx_buf_sz(QUEUE_BYTES as libc::c_int);
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in [LINKS, ROUTES_V4, ROUTES_V6] {
        socket.add_membership(group)?;
    }
    Ok(socket)
}
