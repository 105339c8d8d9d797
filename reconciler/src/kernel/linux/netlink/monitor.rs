//! What the kernel announces: interfaces and addresses that come, go and change, in this network namespace and in those
//! connected to it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use caps::Capability;
use netlink_packet_core::NetlinkBuffer;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc;

use super::super::privilege::Raised;
use super::{Error, Failure, LinkInfo, Netlink, behind, for_attributes, link::read_link};

/// `RTNLGRP_LINK`
const LINKS: u32 = 1;
/// `RTNLGRP_IPV4_IFADDR`
const ADDRESSES_V4: u32 = 5;
/// `RTNLGRP_IPV6_IFADDR`
const ADDRESSES_V6: u32 = 9;
/// `NETLINK_LISTEN_ALL_NSID`, as the type of the control message that says which namespace it was.
const NAMESPACE_ID: i32 = 8;
/// `NETNSA_NSID`
const NAMESPACE_NUMBER: u16 = 1;
/// The length of `struct rtgenmsg`, padded.
const GENERAL_HEADER: usize = 4;
/// Room for announcements that wait, as far as the machine allows: about a thousand.
const QUEUE_BYTES: usize = 4 << 20;
/// Room for one announcement.
const MESSAGE_BYTES: usize = 32 << 10;

/// Something that the kernel announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The number that the kernel gave the namespace in which it happened; none for the monitor's own.
    pub namespace: Option<i32>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An interface is there, perhaps newly, perhaps changed.
    Link(LinkInfo),
    /// An interface is there no more.
    NoLink(LinkInfo),
    /// An address came or went.
    Address,
}

/// What was announced since the last time.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// All of it, in its order.
    All(Vec<Announcement>),
    /// Some of it was lost, because there was more than the queue holds: everything may have changed.
    Lost,
}

/// A socket that receives announcements. It never blocks: wait for its descriptor to be readable.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
    other_namespaces: bool,
}

impl Monitor {
    /// Listens from now on, in the namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] if the socket cannot be opened.
    pub fn open() -> Result<Self, Error> {
        let failed = |source| Failure::Io(source).during("listen to the kernel", None);
        // For other namespaces: it must be effective when the socket is made.
        let _broadcast = Raised::new(Capability::CAP_NET_BROADCAST);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.set_non_blocking(true).map_err(failed)?;
        // A queue that overflows is noticed; a larger one only makes that rarer.
        let _smaller = socket.set_rx_buf_sz(QUEUE_BYTES as libc::c_int);
        let other_namespaces = socket.set_listen_all_namespaces(true).is_ok();
        socket.bind(&SocketAddr::new(0, 0)).map_err(failed)?;
        for group in [LINKS, ADDRESSES_V4, ADDRESSES_V6] {
            socket.add_membership(group).map_err(failed)?;
        }
        Ok(Self {
            socket,
            buffer: vec![0; MESSAGE_BYTES],
            other_namespaces,
        })
    }

    /// Whether other namespaces are heard, too. That needs `CAP_NET_BROADCAST`.
    pub const fn hears_other_namespaces(&self) -> bool {
        self.other_namespaces
    }

    /// What was announced since the last time.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] if the socket fails for another reason than a full queue.
    pub fn read(&mut self) -> Result<News, Error> {
        let mut announcements = Vec::new();
        loop {
            match receive(&self.socket, &mut self.buffer) {
                Ok((length, namespace)) => {
                    let message = self.buffer.get(..length).unwrap_or_default();
                    announcements
                        .extend(read_what(message).map(|what| Announcement { namespace, what }));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(News::All(announcements)),
                    Some(libc::EINTR) => {}
                    Some(libc::ENOBUFS) => return self.forget(),
                    _ => {
                        return Err(Failure::Io(error).during("listen to the kernel", None));
                    }
                },
            }
        }
    }

    /// What is in the queue is older than what will now be read afresh.
    fn forget(&mut self) -> Result<News, Error> {
        loop {
            match receive(&self.socket, &mut self.buffer) {
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    return Ok(News::Lost);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::ENOBUFS) => {}
                    _ => {
                        return Err(Failure::Io(error).during("listen to the kernel", None));
                    }
                },
                Ok(_) => {}
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// The number by which this namespace knows another one; `None` if they are not connected.
    ///
    /// # Errors
    ///
    /// Why the kernel could not be asked.
    pub fn namespace_id(&mut self, namespace: BorrowedFd<'_>) -> Result<Option<i32>, Error> {
        let mut request = NsidMessage::default();
        let fd = namespace.as_raw_fd().unsigned_abs();
        request.attributes.push(NsidAttribute::Fd(fd));
        let mut id = None;
        let answer = self
            .route
            .request(libc::RTM_GETNSID, 0, &request, &mut |message| {
                for_attributes(behind(message, GENERAL_HEADER)?, |kind, value| {
                    if kind == NAMESPACE_NUMBER {
                        id = value.try_into().ok().map(i32::from_ne_bytes);
                    }
                    Ok(())
                })
            });
        answer.map_err(|failure| {
            failure.during("ask for a namespace's number", self.namespace.as_deref())
        })?;
        // -1: it has none.
        Ok(id.filter(|id| *id >= 0))
    }
}

/// Reads an announcement; `None` if it is of no interest, or not from the kernel as it is known here.
fn read_what(message: &[u8]) -> Option<What> {
    let message = NetlinkBuffer::new_checked(message).ok()?;
    let payload = message.payload();
    match message.message_type() {
        libc::RTM_NEWLINK => read_link(payload).ok().map(What::Link),
        libc::RTM_DELLINK => read_link(payload).ok().map(What::NoLink),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(What::Address),
        _ => None,
    }
}

/// Receives one message, and the number of the namespace it comes from.
#[expect(
    unsafe_code,
    reason = "recvmsg(2) with control messages, for which netlink-sys has no call and nix no type"
)]
fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<i32>)> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: `msghdr` is plain data, for which zero is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES;
    // SAFETY: the header points to `part`, and so to the buffer, and to `control`, each with its length, and all of them
    // live until the call has returned.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let control = control.0.get(..header.msg_controllen).unwrap_or_default();
    Ok((length, namespace_of(control)))
}

/// Reads the namespace's number from control messages (`struct cmsghdr`: length, level, type; then data, padded).
fn namespace_of(mut control: &[u8]) -> Option<i32> {
    while let Some((head, rest)) = control.split_first_chunk::<CONTROL_HEADER>() {
        let [a, b, c, d, e, f, g, h, level @ .., _, _, _, _] = head;
        let length = usize::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
        let kind = i32::from_ne_bytes(*head.last_chunk()?);
        let data = rest.get(..length.checked_sub(CONTROL_HEADER)?)?;
        if i32::from_ne_bytes(*level) == libc::SOL_NETLINK && kind == NAMESPACE_ID {
            return data.try_into().ok().map(i32::from_ne_bytes);
        }
        control = rest.get(data.len().next_multiple_of(8)..)?;
    }
    None
}

/// Room for control messages, aligned as their headers.
#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);
const CONTROL_BYTES: usize = 64;
/// The length of `struct cmsghdr` on a machine of 64 bits.
const CONTROL_HEADER: usize = 16;
