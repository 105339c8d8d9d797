//! Reading a ring buffer of the data planes (`BPF_MAP_TYPE_RINGBUF`).
//!
//! The layout is the kernel's (kernel/bpf/ringbuf.c): a page with the position up to which was
//! read, a page with the position up to which was written, then the data, mapped twice in a row
//! so that no record is cut.

#![expect(
    unsafe_code,
    reason = "memory shared with the kernel; each block states why it is sound"
)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::mapping::Mapping;

/// Set in a record's length while it is being written.
const BUSY: u32 = 1 << 31;
/// Set in a record's length when its writer changed its mind.
const DISCARDED: u32 = 1 << 30;
/// In front of each record: its length, and a number of the kernel's.
const HEADER: usize = 8;

/// A ring buffer, and who reads it. There is one reader at a time.
#[derive(Debug)]
pub struct Ring {
    map: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    /// Bytes of data.
    size: usize,
}

// SAFETY: the mappings belong to the ring, and no thread has anything to do with them.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps a ring buffer of `size` bytes.
    ///
    /// # Errors
    ///
    /// The kernel refuses the mapping: the map is another one.
    pub fn new(map: OwnedFd, size: usize) -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
        let consumer = Mapping::new(&map, libc::PROT_READ | libc::PROT_WRITE, 0, page)?;
        let producer = Mapping::new(&map, libc::PROT_READ, page, page + 2 * size)?;
        Ok(Self {
            map,
            consumer,
            producer,
            page,
            size,
        })
    }

    /// Takes out what is there now. `each` gets the bytes of one record after the other.
    pub fn read(&mut self, mut each: impl FnMut(&[u8])) {
        let position = self.consumer.at::<AtomicU64>(0);
        let mut read = position.load(Ordering::Acquire);
        let written = self.producer.at::<AtomicU64>(0).load(Ordering::Acquire);
        while read < written {
            let at = self.page + (read % self.size as u64) as usize;
            let length = self.producer.at::<AtomicU32>(at).load(Ordering::Acquire);
            if length & BUSY != 0 {
                return;
            }
            let bytes = (length & !DISCARDED) as usize;
            if length & DISCARDED == 0 && bytes <= self.size - HEADER {
                each(self.producer.bytes(at + HEADER, bytes));
            }
            read += (bytes + HEADER).next_multiple_of(8) as u64;
            position.store(read, Ordering::Release);
        }
    }
}

impl AsFd for Ring {
    /// Readable when there is something to read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
