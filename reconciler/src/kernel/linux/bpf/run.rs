//! Running programs on packets without an interface: for tests and measurements.

#![expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use bytemuck::{Pod, Zeroable};

use super::{PROG_TEST_RUN, bpf};

/// `BPF_F_TEST_XDP_LIVE_FRAMES` (Linux 5.18): what the program says is done.
const F_LIVE_FRAMES: u32 = 1 << 1;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Attr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

impl Attr {
    fn new(program: BorrowedFd<'_>, packet: &[u8], repeat: u32) -> Self {
        Self {
            prog_fd: program.as_raw_fd() as u32,
            data_in: packet.as_ptr() as u64,
            data_size_in: packet.len() as u32,
            repeat,
            ..Self::zeroed()
        }
    }
}

/// Runs a program once on a packet: its verdict, and the packet as it left it.
pub fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &mut [u8],
) -> io::Result<(u32, Vec<u8>)> {
    let mut out = vec![0u8; packet.len() + 4096];
    let mut attr = [Attr {
        data_out: out.as_mut_ptr() as u64,
        data_size_out: out.len() as u32,
        ..Attr::new(program, packet, 0)
    }];
    if !context.is_empty() {
        attr[0].ctx_in = context.as_ptr() as u64;
        attr[0].ctx_size_in = context.len() as u32;
        attr[0].ctx_out = context.as_mut_ptr() as u64;
        attr[0].ctx_size_out = context.len() as u32;
    }
    // SAFETY: every pointer is to a buffer of the length beside it.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    out.truncate(attr[0].data_size_out as usize);
    Ok((attr[0].retval, out))
}

/// Runs a program many times on one packet, which each run finds as the one before left it. What the program says is not
/// done. The verdict of the last run.
pub fn test_run_repeated(program: BorrowedFd<'_>, packet: &[u8], repeat: u32) -> io::Result<u32> {
    let mut attr = [Attr::new(program, packet, repeat)];
    // SAFETY: the one pointer is to a buffer of the length beside it.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    Ok(attr[0].retval)
}

/// Lets an XDP program send `count` frames: it is run on frames of the kernel's, and what it says is done. `packet` is what
/// is in a frame that is new; one that comes back is as it was left. Up to `batch` frames, 256 at most, are on their way
/// before the kernel looks after them.
pub fn run_live(program: BorrowedFd<'_>, packet: &[u8], count: u32, batch: u32) -> io::Result<()> {
    let mut attr = [Attr {
        flags: F_LIVE_FRAMES,
        batch_size: batch,
        ..Attr::new(program, packet, count)
    }];
    // SAFETY: the one pointer is to a buffer of the length beside it.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }.map(drop)
}
