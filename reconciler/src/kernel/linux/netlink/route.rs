//! Routes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, parse_ip, parse_u32};
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType, RouteVia,
    },
};
use nix::libc;

use super::{Error, Netlink, behind, family, for_attributes, network, or_gone};

/// The protocol number that marks a route as made by this program.
pub const ROUTE_PROTOCOL: u8 = 157;

/// The length of `struct rtmsg`.
const HEADER: usize = 12;
/// The address family in front of the address of an `RTA_VIA`.
const VIA_FAMILY: usize = 2;
const ADD: (u16, u16) = (libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
const DELETE: (u16, u16) = (libc::RTM_DELROUTE, 0);

/// A route of the main table that this program made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteInfo {
    /// The network it leads to: address, all host bits clear, and prefix length.
    pub destination: (IpAddr, u8),
    /// The gateway. It may be an IPv6 one for an IPv4 network.
    pub via: IpAddr,
}

impl Netlink {
    /// Lists the routes out of an interface that bear [`ROUTE_PROTOCOL`], in ascending order.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface; [`Error::Changing`] if routes come and go faster than
    /// they can be listed.
    pub fn routes(&mut self, index: u32) -> Result<Vec<RouteInfo>, Error> {
        let call = format_args!("list routes of interface {index}");
        let found = self.dump_routes(&[RouteAttribute::Oif(index)], call)?;
        let mut found: Vec<_> = found
            .into_iter()
            .filter(|(of, _)| *of == index)
            .map(|(_, route)| route)
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Lists the routes that bear [`ROUTE_PROTOCOL`] of all interfaces with one dump, by interface index.
    ///
    /// # Errors
    ///
    /// [`Error::Changing`] if routes come and go faster than they can be listed.
    pub fn all_routes(&mut self) -> Result<BTreeMap<u32, Vec<RouteInfo>>, Error> {
        let mut all: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (index, route) in self.dump_routes(&[], format_args!("list routes"))? {
            all.entry(index).or_default().push(route);
        }
        Ok(all)
    }

    fn dump_routes(
        &mut self,
        filter: &[RouteAttribute],
        call: std::fmt::Arguments<'_>,
    ) -> Result<Vec<(u32, RouteInfo)>, Error> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            question.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
            question.attributes.extend_from_slice(filter);
            found.extend(self.list(libc::RTM_GETROUTE, &question, call, |message| {
                read_route(message, family)
            })?);
        }
        Ok(found)
    }

    /// Adds a route, with [`ROUTE_PROTOCOL`], to the main table. The host bits of the destination must be clear.
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`] if there is a route to the destination, whoever made it and wherever it leads; refused if
    /// the interface is down or the gateway is not on a network of the interface.
    pub fn add_route(
        &mut self,
        index: u32,
        destination: (IpAddr, u8),
        via: IpAddr,
    ) -> Result<(), Error> {
        let mut message = about(index, destination, via);
        message.header.kind = RouteType::Unicast;
        let call = format_args!(
            "add route to {} via {via} on interface {index}",
            network(destination)
        );
        self.change(ADD, &message, call)
    }

    /// Removes a route that bears [`ROUTE_PROTOCOL`], and no other. One that is already gone is no error.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn delete_route(
        &mut self,
        index: u32,
        destination: (IpAddr, u8),
        via: IpAddr,
    ) -> Result<(), Error> {
        let call = format_args!(
            "remove route to {} via {via} on interface {index}",
            network(destination)
        );
        or_gone(self.change(DELETE, &about(index, destination, via), call))
    }
}

fn about(index: u32, (ip, prefix_len): (IpAddr, u8), via: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = prefix_len;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(ip)),
        if family(ip) == family(via) {
            RouteAttribute::Gateway(RouteAddress::from(via))
        } else {
            RouteAttribute::Via(RouteVia::from(via))
        },
        RouteAttribute::Oif(index),
    ];
    message
}

/// Reads a message about a route of ours: the index of the interface it leads out of, and the route.
fn read_route(
    message: &[u8],
    family: AddressFamily,
) -> Result<Option<(u32, RouteInfo)>, DecodeError> {
    let header = RouteHeader::parse(message)?;
    // The kernel filters too, but one without IPv6 answers with other families.
    let ours = header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL)
        && header.address_family == family
        && header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast;
    if !ours {
        return Ok(None);
    }
    let (mut destination, mut via, mut interface) = (None, None, 0);
    for_attributes(behind(message, HEADER)?, |kind, value| {
        match kind {
            libc::RTA_DST => destination = Some(parse_ip(value)?),
            libc::RTA_GATEWAY => via = Some(parse_ip(value)?),
            libc::RTA_VIA => via = Some(parse_ip(behind(value, VIA_FAMILY)?)?),
            libc::RTA_OIF => interface = parse_u32(value)?,
            _ => {}
        }
        Ok(())
    })?;
    // A default route is listed without a destination.
    let destination = destination.unwrap_or(match family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    });
    let route = via.map(|via| RouteInfo {
        destination: (destination, header.destination_prefix_length),
        via,
    });
    Ok(route.map(|route| (interface, route)))
}
