//! Addresses of interfaces.

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
        let mut found = self.list(libc::RTM_GETADDR, &question, call, |message| {
            read_address(message, index)
        })?;
        found.sort_unstable();
        Ok(found)
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

/// Reads a message about an address of interface `index` that the kernel did not make.
fn read_address(message: &[u8], index: u32) -> Result<Option<(IpAddr, u8)>, DecodeError> {
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
    let Some(ip) = local.or(remote).filter(|_| header.index == index) else {
        return Ok(None);
    };
    let made_by_kernel = KERNEL.contains(&maker)
        || match ip {
            // The one of the loopback interface, which the kernel does not sign.
            IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST && header.prefix_len == 8,
            // In IPv4 the same flag means "secondary".
            IpAddr::V6(_) => flags & libc::IFA_F_TEMPORARY != 0,
        };
    Ok((!made_by_kernel).then_some((ip, header.prefix_len)))
}
