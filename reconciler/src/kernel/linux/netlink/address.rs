//! Addresses of interfaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, parse_ip, parse_u8, parse_u32};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
};
use nix::libc;

use super::{Error, Netlink, behind, family, for_attributes, network, or_gone};

/// The length of `struct ifaddrmsg`.
const HEADER: usize = 8;
const ADD: (u16, u16) = (libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
const DELETE: (u16, u16) = (libc::RTM_DELADDR, 0);
/// The attribute that says who made an address (`IFA_PROTO`).
const MAKER: u16 = 11;
/// The kernel itself: loopback, router advertisement, link-local (`IFAPROT_KERNEL_*`).
const KERNEL: std::ops::RangeInclusive<u8> = 1..=3;

impl Netlink {
    /// Lists the addresses of an interface with their prefix lengths, in ascending order. Those the kernel makes by
    /// itself (loopback, link-local, from router advertisements) are left out; a link-local one that was added is not.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<(IpAddr, u8)>, Error> {
        let mut question = AddressMessage::default();
        question.header.index = index;
        let call = format_args!("list addresses of interface {index}");
        let found = self.list(libc::RTM_GETADDR, &question, call, read_address)?;
        let mut found: Vec<_> = found
            .into_iter()
            .filter(|(of, _)| *of == index)
            .map(|(_, address)| address)
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Lists the addresses of all interfaces with one dump, by interface index.
    ///
    /// # Errors
    ///
    /// [`Error::Changing`] if addresses come and go faster than they can be listed.
    pub fn all_addresses(&mut self) -> Result<BTreeMap<u32, Vec<(IpAddr, u8)>>, Error> {
        let question = AddressMessage::default();
        let mut all: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (index, address) in self.list(
            libc::RTM_GETADDR,
            &question,
            format_args!("list addresses"),
            read_address,
        )? {
            all.entry(index).or_default().push(address);
        }
        Ok(all)
    }

    /// Adds an address to an interface. It is usable at once: no duplicate address detection for IPv6. For IPv4 the
    /// network's broadcast address is set, unless the prefix is longer than 30 bits.
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`] if the interface has the address; [`Error::is_not_found`] if there is no such interface.
    pub fn add_address(&mut self, index: u32, ip: IpAddr, prefix_len: u8) -> Result<(), Error> {
        let mut message = about(index, ip, prefix_len);
        match ip {
            IpAddr::V4(ip) => {
                if ip.is_loopback() {
                    message.header.scope = AddressScope::Host;
                }
                if prefix_len <= 30 {
                    let host_bits = u32::MAX.checked_shr(prefix_len.into()).unwrap_or_default();
                    let broadcast = Ipv4Addr::from_bits(ip.to_bits() | host_bits);
                    message
                        .attributes
                        .push(AddressAttribute::Broadcast(broadcast));
                }
            }
            IpAddr::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
        }
        let call = format_args!(
            "add address {} to interface {index}",
            network((ip, prefix_len))
        );
        self.change(ADD, &message, call)
    }

    /// Removes an address from an interface. One that is already gone, or whose interface is, is no error.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn delete_address(&mut self, index: u32, ip: IpAddr, prefix_len: u8) -> Result<(), Error> {
        let call = format_args!(
            "remove address {} from interface {index}",
            network((ip, prefix_len))
        );
        or_gone(self.change(DELETE, &about(index, ip, prefix_len), call))
    }
}

fn about(index: u32, ip: IpAddr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = family(ip);
    message.header.prefix_len = prefix_len;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

/// An address and prefix length, and the index of the interface that has it.
type Found = (u32, (IpAddr, u8));

/// Reads a message about an address that the kernel did not make.
fn read_address(message: &[u8]) -> Result<Option<Found>, DecodeError> {
    let header = AddressHeader::parse(message)?;
    let (mut local, mut remote, mut flags, mut maker) = (None, None, 0, 0);
    for_attributes(behind(message, HEADER)?, |kind, value| {
        match kind {
            libc::IFA_LOCAL => local = Some(parse_ip(value)?),
            libc::IFA_ADDRESS => remote = Some(parse_ip(value)?),
            libc::IFA_FLAGS => flags = parse_u32(value)?,
            MAKER => maker = parse_u8(value)?,
            _ => {}
        }
        Ok(())
    })?;
    // On a point-to-point interface `remote` is the other side's; IPv6 has no `local` elsewhere.
    let Some(ip) = local.or(remote) else {
        return Ok(None);
    };
    let made_by_kernel = KERNEL.contains(&maker)
        || match ip {
            // The one of the loopback interface, which the kernel does not sign.
            IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST && header.prefix_len == 8,
            // In IPv4 the same flag means "secondary".
            IpAddr::V6(_) => flags & libc::IFA_F_TEMPORARY != 0,
        };
    Ok((!made_by_kernel).then_some((header.index, (ip, header.prefix_len))))
}
