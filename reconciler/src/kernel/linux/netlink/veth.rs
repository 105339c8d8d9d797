//! Creating veth pairs.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nix::libc;

use super::{
    Error, Failure, Netlink,
    link::{SET, about, alias_attribute, is_without_ipv6, no_addresses, read_link, set_flag},
};

const CREATE: (u16, u16) = (libc::RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO);

/// A veth pair to create. "Host end" is the end in the namespace of the [`Netlink`] that is asked.
#[derive(Clone, Copy, Debug)]
pub struct VethRequest<'a> {
    /// Name of the host end: at most 15 bytes.
    pub name: &'a str,
    /// Free text to attach to the host end: at most 255 bytes. Empty for none.
    pub alias: &'a str,
    /// Group of the host end: a mark beside the alias, which the kernel takes with the request that creates an
    /// interface. 0 for none.
    pub group: u32,
    /// Ethernet address of the host end; none for a random one.
    pub mac: Option<[u8; 6]>,
    /// MTU of the host end in bytes; none for the kernel's default, 1500.
    pub mtu: Option<u32>,
    /// The other end.
    pub peer: VethPeer<'a>,
}

/// The far end of a veth pair to create.
#[derive(Clone, Copy, Debug)]
pub struct VethPeer<'a> {
    /// Its name, in its own namespace: at most 15 bytes.
    pub name: &'a str,
    /// The namespace it is created in (see [`open`](super::netns::open)); none for that of the host end.
    pub netns: Option<BorrowedFd<'a>>,
    /// Its Ethernet address; none for a random one.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes; none for the kernel's default, 1500.
    pub mtu: Option<u32>,
}

/// The numbers of a new veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedVeth {
    /// The host end's number.
    pub index: u32,
    /// The far end's number, in the namespace of the far end.
    pub peer_index: u32,
}

impl Netlink {
    /// Creates a veth pair, each end in its place and under its name from the start. The host end is then given its
    /// alias, is kept from making IPv6 addresses for itself, and is brought up; the far end stays down.
    ///
    /// The kernel takes no alias with the request that creates an interface, so for an instant the pair is there
    /// without it, with the request's group instead. If the second request fails, the pair is removed again.
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`] if either name is taken in its namespace.
    pub fn create_veth(&mut self, request: &VethRequest<'_>) -> Result<CreatedVeth, Error> {
        let VethRequest {
            name,
            alias,
            group,
            mac,
            mtu,
            peer,
        } = *request;
        let mut far = LinkMessage::default();
        far.attributes = identity(peer.name, peer.mac, peer.mtu);
        far.attributes.extend(
            peer.netns
                .map(|namespace| LinkAttribute::NetNsFd(namespace.as_raw_fd())),
        );
        let mut message = LinkMessage::default();
        message.attributes = identity(name, mac, mtu);
        if group != 0 {
            message.attributes.push(LinkAttribute::Group(group));
        }
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
        ]));

        let mut made = None;
        let answer = self
            .route
            .request(CREATE.0, CREATE.1, &message, &mut |echo| {
                made = Some(read_link(echo)?);
                Ok(())
            });
        let call = format_args!("create veth {name} with peer {}", peer.name);
        let made = answer
            .and_then(|()| {
                made.ok_or_else(|| {
                    Failure::Malformed("the kernel does not say what it made".to_owned())
                })
            })
            .map_err(|failure| failure.during(call, self.namespace.as_deref()))?;

        // The kernel brings an interface up before it looks at the address generation mode; with the far end down
        // there is no carrier, and so no time for it to make an address in between.
        let mut finish = about(made.index);
        set_flag(&mut finish.header, LinkFlags::Up);
        if !alias.is_empty() {
            finish.attributes.push(alias_attribute(alias));
        }
        finish.attributes.push(no_addresses());
        let call = format_args!("set alias and bring up new veth {name}");
        let finished = match self.change(SET, &finish, call) {
            Err(error) if is_without_ipv6(&error) => {
                finish.attributes.pop();
                self.change(SET, &finish, call)
            }
            other => other,
        };
        match finished {
            Ok(()) => Ok(CreatedVeth {
                index: made.index,
                peer_index: made.peer_index.unwrap_or_default(),
            }),
            Err(first) => match self.delete_link(made.index) {
                Ok(()) => Err(first),
                Err(second) => Err(Error::Remains {
                    first: Box::new(first),
                    second: Box::new(second),
                }),
            },
        }
    }
}

/// What one end of a new pair is to be.
fn identity(name: &str, mac: Option<[u8; 6]>, mtu: Option<u32>) -> Vec<LinkAttribute> {
    let mut attributes = vec![LinkAttribute::IfName(name.to_owned())];
    attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    attributes.extend(mtu.map(LinkAttribute::Mtu));
    attributes
}
