//! Interfaces.

use netlink_packet_core::{DecodeError, DefaultNla, parse_mac, parse_u8, parse_u32};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkHeader, LinkMessage,
};
use nix::libc;

use super::{Error, Failure, Netlink, behind, for_attributes, is_missing, or_gone, text};

/// The length of `struct ifinfomsg`, which every message about an interface starts with.
const HEADER: usize = 16;
pub(super) const SET: (u16, u16) = (libc::RTM_NEWLINK, 0);
const DELETE: (u16, u16) = (libc::RTM_DELLINK, 0);

/// An interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The interface's number in its namespace.
    pub index: u32,
    /// Its name in its namespace.
    pub name: String,
    /// The free text attached to it, if any.
    pub alias: Option<String>,
    /// The group it is in; 0 is everybody's.
    pub group: u32,
    /// Its Ethernet address; none if it has no address or one of another length.
    pub mac: Option<[u8; 6]>,
    /// The longest packet it carries, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has a carrier. A veth end has one while both ends are up.
    pub carrier: bool,
    /// What created it, for example `veth`; none for physical interfaces and the loopback.
    pub kind: Option<String>,
    /// The interface it is tied to: for a veth the number of the other end *in the other end's namespace*.
    pub peer_index: Option<u32>,
    /// Whether it is the loopback interface.
    pub loopback: bool,
}

impl Netlink {
    /// Lists every interface of the namespace, by ascending number.
    ///
    /// # Errors
    ///
    /// [`Error::Changing`] if interfaces come and go faster than they can be listed.
    pub fn links(&mut self) -> Result<Vec<LinkInfo>, Error> {
        let mut found = self.list(
            libc::RTM_GETLINK,
            &question(None),
            "list interfaces",
            |message| read_link(message).map(Some),
        )?;
        found.sort_unstable_by_key(|link| link.index);
        Ok(found)
    }

    /// Finds an interface by its name, or by one of its alternative names (then the answer bears the main one).
    ///
    /// # Errors
    ///
    /// Why the kernel could not be asked; that there is no such interface is `Ok(None)`.
    pub fn link(&mut self, name: &str) -> Result<Option<LinkInfo>, Error> {
        let mut found = None;
        let answer = self.route.request(
            libc::RTM_GETLINK,
            0,
            &question(Some(name)),
            &mut |message| {
                found = Some(read_link(message)?);
                Ok(())
            },
        );
        match answer {
            Err(Failure::Refused { errno, .. }) if is_missing(errno) => Ok(None),
            Err(failure) => Err(failure.during(
                format_args!("look up interface {name}"),
                self.namespace.as_deref(),
            )),
            Ok(()) => Ok(found),
        }
    }

    /// Brings an interface up.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface.
    pub fn set_up(&mut self, index: u32) -> Result<(), Error> {
        let mut message = about(index);
        set_flag(&mut message.header, LinkFlags::Up);
        self.change(SET, &message, format_args!("bring up interface {index}"))
    }

    /// Replaces the alias of an interface: at most 255 bytes, none if empty.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<(), Error> {
        self.set(
            index,
            alias_attribute(alias),
            format_args!("set alias of interface {index} to `{alias}`"),
        )
    }

    /// Replaces the Ethernet address of an interface.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<(), Error> {
        let [a, b, c, d, e, f] = mac;
        let call = format_args!(
            "set address of interface {index} to {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"
        );
        self.set(index, LinkAttribute::Address(mac.to_vec()), call)
    }

    /// Sets the MTU of an interface, in bytes without the Ethernet header.
    ///
    /// Crossing 1280 downwards takes IPv6 from the interface, with all its addresses; crossing it upwards brings it
    /// back as it is by default, so that [`set_addr_gen_none`](Self::set_addr_gen_none) is to be repeated.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface; refused if it is outside of what the interface can do.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), Error> {
        self.set(
            index,
            LinkAttribute::Mtu(mtu),
            format_args!("set MTU of interface {index} to {mtu}"),
        )
    }

    /// Keeps an interface from giving itself IPv6 addresses (link-local ones, and those from router advertisements).
    /// One that it made already stays until the interface goes down. For an interface without IPv6 (an MTU below 1280,
    /// or a kernel without it) there is nothing to do, and that is no error.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface.
    pub fn set_addr_gen_none(&mut self, index: u32) -> Result<(), Error> {
        let call = format_args!("stop address generation of interface {index}");
        match self.set(index, no_addresses(), call) {
            Err(error) if is_without_ipv6(&error) => Ok(()),
            other => other,
        }
    }

    /// Deletes an interface, and with it the other end if it is a veth. One that is already gone is no error.
    ///
    /// # Errors
    ///
    /// Refused if the interface is one that cannot be deleted, such as a physical one.
    pub fn delete_link(&mut self, index: u32) -> Result<(), Error> {
        or_gone(self.change(
            DELETE,
            &about(index),
            format_args!("delete interface {index}"),
        ))
    }

    /// Deletes interfaces as [`delete_link`](Self::delete_link) does, but all at once: the kernel waits some 20 ms for
    /// its readers with each deletion, however many interfaces that one removes.
    ///
    /// They are first moved to a group of interfaces that nothing else is in, and that group is then deleted.
    ///
    /// # Errors
    ///
    /// The refusal; then none has been deleted, though some may have changed groups.
    pub fn delete_links(&mut self, indices: &[u32]) -> Result<(), Error> {
        if let [index] = *indices {
            return self.delete_link(index);
        }
        let call = format_args!("list groups of interfaces");
        let taken = self.list(libc::RTM_GETLINK, &question(None), call, read_group)?;
        // From the top: people count from below. Below the sign bit: `ip` prints groups as signed numbers.
        let Some(group) = (1..i32::MAX as u32)
            .rev()
            .find(|group| !taken.contains(group))
        else {
            return Ok(());
        };
        for index in indices {
            or_gone(self.set(
                *index,
                LinkAttribute::Group(group),
                format_args!("set group of interface {index}"),
            ))?;
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        or_gone(self.change(
            DELETE,
            &message,
            format_args!("delete {} interfaces, group {group}", indices.len()),
        ))
    }

    /// Sets one attribute of an interface.
    fn set(
        &mut self,
        index: u32,
        attribute: LinkAttribute,
        call: std::fmt::Arguments<'_>,
    ) -> Result<(), Error> {
        let mut message = about(index);
        message.attributes.push(attribute);
        self.change(SET, &message, call)
    }
}

/// A message about the interface of that number.
pub(super) fn about(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// Asks about one interface, or all; not for their statistics, which are the better part of an answer.
fn question(name: Option<&str>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
        .attributes
        .extend(name.map(|name| LinkAttribute::IfName(name.to_owned())));
    message
}

pub(super) fn set_flag(header: &mut LinkHeader, flag: LinkFlags) {
    header.flags |= flag;
    header.change_mask |= flag;
}

/// Without a terminating zero, which the kernel would count as part of the text.
pub(super) fn alias_attribute(alias: &str) -> LinkAttribute {
    LinkAttribute::Other(DefaultNla::new(
        libc::IFLA_IFALIAS,
        alias.as_bytes().to_vec(),
    ))
}

pub(super) fn no_addresses() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}

/// Whether a request failed because the interface does not speak IPv6.
pub(super) fn is_without_ipv6(error: &Error) -> bool {
    matches!(error, Error::Refused { errno, .. } if *errno == libc::EAFNOSUPPORT)
}

/// Reads the group of the interface that a message is about.
fn read_group(message: &[u8]) -> Result<Option<u32>, DecodeError> {
    let mut group = None;
    for_attributes(behind(message, HEADER)?, |kind, value| {
        if kind == libc::IFLA_GROUP {
            group = Some(parse_u32(value)?);
        }
        Ok(())
    })?;
    Ok(group)
}

/// Reads a message about an interface.
pub(super) fn read_link(message: &[u8]) -> Result<LinkInfo, DecodeError> {
    let header = LinkHeader::parse(message)?;
    let mut link = LinkInfo {
        index: header.index,
        name: String::new(),
        alias: None,
        group: 0,
        mac: None,
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up),
        carrier: false,
        kind: None,
        peer_index: None,
        loopback: header.flags.contains(LinkFlags::Loopback),
    };
    for_attributes(behind(message, HEADER)?, |kind, value| {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_IFALIAS => link.alias = Some(text(value)),
            libc::IFLA_GROUP => link.group = parse_u32(value)?,
            libc::IFLA_ADDRESS => link.mac = parse_mac(value).ok(),
            libc::IFLA_MTU => link.mtu = parse_u32(value)?,
            libc::IFLA_CARRIER => link.carrier = parse_u8(value)? != 0,
            libc::IFLA_LINK => {
                link.peer_index = Some(parse_u32(value)?).filter(|index| *index != 0)
            }
            libc::IFLA_LINKINFO => for_attributes(value, |kind, value| {
                if kind == libc::IFLA_INFO_KIND {
                    link.kind = Some(text(value));
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(link)
}
