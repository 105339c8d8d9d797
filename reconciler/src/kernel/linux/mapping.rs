//! Memory that maps share with user space.

#![expect(
    unsafe_code,
    reason = "memory shared with the kernel; each block states why it is sound"
)]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
};

/// Mapped memory.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// Maps a part of what a map shares with user space.
    pub(super) fn new(
        map: &OwnedFd,
        access: i32,
        offset: usize,
        length: usize,
    ) -> io::Result<Self> {
        // SAFETY: the kernel chooses where; nothing of ours is there.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                access,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, length })
    }

    /// A number in it that the kernel may change at any time.
    pub(super) fn at<T>(&self, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= self.length && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the mapping and aligned, as just checked; `T` is an atomic number, for
        // which every value is valid.
        unsafe { self.start.add(offset).cast().as_ref() }
    }

    /// Bytes of a record that is complete: nobody writes them until they are given back.
    pub(super) fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset + length <= self.length);
        // SAFETY: inside the mapping, as just checked; the kernel does not write to a record
        // between its completion and the reader's next position.
        unsafe { std::slice::from_raw_parts(self.start.add(offset).as_ptr(), length) }
    }
}

// SAFETY: a mapping is the process's, not a thread's.
unsafe impl Send for Mapping {}
// SAFETY: what is read through a shared reference are atomic numbers, or records that are
// complete.
unsafe impl Sync for Mapping {}

/// The values of an array that user space maps, as words.
#[derive(Debug)]
pub struct Memory {
    mapping: Mapping,
    words: usize,
}

impl Memory {
    /// Maps an array whose values are `bytes` bytes in all.
    ///
    /// # Errors
    ///
    /// The kernel refuses the mapping: the map is another one.
    pub fn new(map: &OwnedFd, bytes: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let mapping = Mapping::new(map, access, 0, bytes)?;
        let words = bytes / size_of::<AtomicU64>();
        Ok(Self { mapping, words })
    }
}

impl AsRef<[AtomicU64]> for Memory {
    fn as_ref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping begins at a page and is as long; an atomic number has any value.
        unsafe { std::slice::from_raw_parts(self.mapping.start.cast().as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no reference outlives it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
