//! One blocking netlink socket: a request, its acknowledgement, and the messages between them.

use std::io;

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE,
    NLMSG_ERROR, NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, parse_i32,
};
use netlink_sys::{Socket, SocketAddr};
use nix::libc;

use super::{NLM_F_REQUEST, for_attributes, text};

/// Room for one read. The kernel fills at most 32 KiB with a listing, however much room there is.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Requests are far smaller; attribute lengths are 16 bits wide.
const LONGEST_REQUEST: usize = 16 * 1024;
/// How often a listing that changes while it is read is read again.
const ATTEMPTS: u32 = 32;
/// The extended acknowledgement's text (`NLMSGERR_ATTR_MSG`).
const EXPLANATION: u16 = 1;
/// The error number, and the header of the request it is about.
const ERROR_LENGTH: usize = 4 + 16;

/// A socket connected to the kernel, with buffers that are reused.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    sequence: u32,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

/// Why a request was not answered with success.
#[derive(Debug)]
pub(super) enum Failure {
    /// Sending or receiving failed.
    Io(io::Error),
    /// The kernel said no, perhaps with an explanation. The number is positive.
    Refused { errno: i32, detail: Option<String> },
    /// Something does not have the form it should have.
    Malformed(String),
    /// A listing was never read without a change to what is listed.
    Changing { attempts: u32 },
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(format!("unreadable answer: {error}"))
    }
}

/// Reads one message of an answer: the bytes behind the netlink header.
pub(super) type Reader<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), DecodeError>;

impl Connection {
    /// Opens a socket of `protocol` in the namespace of this thread.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        // From here on nothing but the kernel can send to it.
        socket.connect(&SocketAddr::new(0, 0))?;
        // Explanations with errors, without a copy of the request, and filters on listings that are obeyed.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self {
            socket,
            sequence: 0,
            outgoing: Vec::new(),
            incoming: Vec::with_capacity(RECEIVE_BYTES),
        })
    }

    /// Sends a request, and passes whatever is answered before the acknowledgement to `each`.
    pub(super) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        body: &impl Emitable,
        each: Reader<'_>,
    ) -> Result<(), Failure> {
        self.send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)?;
        self.receive(each).map(drop)
    }

    /// Lists objects, again from the start if they change while they are listed.
    pub(super) fn dump<T>(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Failure> {
        for _ in 0..ATTEMPTS {
            let (found, consistent) = self.dump_once(kind, body, &mut read)?;
            if consistent {
                return Ok(found);
            }
        }
        Err(Failure::Changing { attempts: ATTEMPTS })
    }

    /// Lists objects once. Whether they stayed the same meanwhile.
    pub(super) fn dump_once<T>(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<(Vec<T>, bool), Failure> {
        let mut found = Vec::new();
        self.send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)?;
        let consistent = self.receive(&mut |message| {
            found.extend(read(message)?);
            Ok(())
        })?;
        Ok((found, consistent))
    }

    fn send(&mut self, kind: u16, flags: u16, body: &impl Emitable) -> Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        let start = header.buffer_len();
        let length = start + body.buffer_len();
        if length > LONGEST_REQUEST {
            return Err(Failure::Malformed(format!(
                "the request is {length} bytes long, more than {LONGEST_REQUEST}"
            )));
        }
        header.length = length as u32;
        header.message_type = kind;
        header.flags = flags;
        header.sequence_number = self.sequence;
        self.outgoing.clear();
        self.outgoing.resize(length, 0);
        header.emit(&mut self.outgoing);
        body.emit(&mut self.outgoing[start..]);
        retry(|| self.socket.send(&self.outgoing, 0))
            .map(drop)
            .map_err(Failure::Io)
    }

    /// Reads the answer to the last request to its end, even if `each` fails in between: a listing left half-read would
    /// block the next one. Returns whether what was listed stayed the same meanwhile.
    fn receive(&mut self, each: Reader<'_>) -> Result<bool, Failure> {
        let mut consistent = true;
        let mut unreadable = None;
        loop {
            self.incoming.clear();
            let length = retry(|| self.socket.recv(&mut self.incoming, libc::MSG_TRUNC))
                .map_err(Failure::Io)?;
            if length > self.incoming.len() {
                return Err(Failure::Malformed(format!(
                    "the answer is {length} bytes long"
                )));
            }
            let mut rest = self.incoming.as_slice();
            while !rest.is_empty() {
                let message = NetlinkBuffer::new_checked(rest)?;
                // Multiples of four; the last message may come without its padding.
                rest = &rest[rest
                    .len()
                    .min((message.length() as usize).next_multiple_of(4))..];
                if message.sequence_number() != self.sequence {
                    continue;
                }
                let flags = message.flags();
                consistent &= flags & NLM_F_DUMP_INTR == 0;
                let payload = message.payload();
                match message.message_type() {
                    NLMSG_ERROR => verdict(payload, ERROR_LENGTH, flags)?,
                    NLMSG_DONE => verdict(payload, 4, flags)?,
                    NLMSG_OVERRUN => {
                        return Err(Failure::Malformed("part of the answer was lost".to_owned()));
                    }
                    _ => {
                        if let Err(error) = each(payload) {
                            unreadable.get_or_insert(error);
                        }
                        continue;
                    }
                }
                return unreadable.map_or(Ok(consistent), |error| Err(error.into()));
            }
        }
    }
}

/// Reads what ends an answer: a number, zero or a negated error number, and, `behind` bytes further, attributes.
fn verdict(payload: &[u8], behind: usize, flags: u16) -> Result<(), Failure> {
    // An end without a number is a success.
    let code = payload.get(..4).map_or(Ok(0), parse_i32)?;
    if code == 0 {
        return Ok(());
    }
    let mut detail = None;
    if flags & NLM_F_ACK_TLVS != 0 {
        for_attributes(payload.get(behind..).unwrap_or_default(), |kind, value| {
            if kind == EXPLANATION {
                detail = Some(text(value));
            }
            Ok(())
        })?;
    }
    Err(Failure::Refused {
        errno: code.saturating_neg(),
        detail,
    })
}

/// Runs a system call again for as long as a signal interrupts it.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
