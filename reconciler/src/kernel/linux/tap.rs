//! TAP interfaces: what is written to one arrives on the machine as a frame from a wire. It goes
//! with the process that opened it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
};

use super::netlink::{self, Netlink};

/// Where TAP interfaces are opened.
const DEVICE: &str = "/dev/net/tun";
/// `TUNSETIFF`
const SET_INTERFACE: libc::Ioctl = 0x4004_54ca;
/// `IFF_TAP | IFF_NO_PI`: Ethernet frames, nothing in front of them.
const FLAGS: i16 = 0x0002 | 0x1000;
/// Bytes of the largest frame.
const LARGEST: usize = 1 << 16;
/// The kernel puts a number at the end.
const NAME: &[u8] = b"pcnwait%d";

/// A TAP interface cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device or a call on it.
    #[error("{DEVICE}: {0}")]
    Device(#[from] io::Error),
    /// Its settings.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

/// A TAP interface that is up and has no addresses.
#[derive(Debug)]
pub struct Tap {
    file: File,
    index: u32,
}

/// `struct ifreq`, as this call uses it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    pad: [u8; 22],
}

impl Tap {
    /// Whether there may be any; if not, why.
    pub fn is_possible() -> io::Result<()> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(DEVICE);
        opened
            .map(drop)
            .map_err(|error| io::Error::new(error.kind(), format!("{DEVICE}: {error}")))
    }

    /// Makes one, in the namespace of the calling thread.
    #[expect(
        unsafe_code,
        reason = "a system call; the block states why it is sound"
    )]
    pub fn open(alias: &str) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(DEVICE)?;
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            flags: FLAGS,
            pad: [0; 22],
        };
        request.name[..NAME.len()].copy_from_slice(NAME);
        // SAFETY: the call reads and writes one `struct ifreq`, 40 bytes.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), SET_INTERFACE, &raw mut request) };
        if result != 0 {
            return Err(io::Error::last_os_error().into());
        }
        let length = request.name.iter().position(|byte| *byte == 0);
        let name = &request.name[..length.unwrap_or(request.name.len())];
        let index =
            nix::net::if_::if_nametoindex(name).map_err(|errno| Error::Device(errno.into()))?;
        let mut host = Netlink::host()?;
        host.set_addr_gen_none(index)?;
        host.set_alias(index, alias)?;
        host.set_up(index)?;
        Ok(Self { file, index })
    }

    /// Its number.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The next frame that was sent to it, with its VLAN tag; `None` if there is none.
    pub fn departed(&self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; LARGEST];
        match (&self.file).read(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets a frame arrive. What runs on the interface has run when this returns.
    pub fn arrive(&self, frame: &[u8]) -> io::Result<()> {
        (&self.file).write(frame).map(drop)
    }
}

const _: () = assert!(size_of::<Request>() == 40);
