//! Links: attaching a program to an interface, exchanging it, detaching it.

#![expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use bytemuck::{Pod, Zeroable};

use super::{LINK_CREATE, LINK_DETACH, LINK_UPDATE, PROG_QUERY, bpf, bpf_fd};

/// `BPF_F_REPLACE` of a link update: only if the attached program is the expected one.
const F_REPLACE: u32 = 1 << 2;

/// Where a link attaches a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkTarget {
    /// Interface index.
    pub ifindex: u32,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
    /// `XDP_FLAGS_*` for XDP, else 0.
    pub flags: u32,
}

/// Attaches a program to an interface. On tcx it runs after the programs that are there.
pub fn create_link(program: BorrowedFd<'_>, target: LinkTarget) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        prog_fd: u32,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
    }
    let attr = Attr {
        prog_fd: program.as_raw_fd() as u32,
        target_ifindex: target.ifindex,
        attach_type: target.attach_type,
        flags: target.flags,
    };
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf_fd(LINK_CREATE, attr) }
}

/// Replaces a link's program in one step, if it still is the expected one.
pub fn update_link(
    link: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    expected: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        link_fd: u32,
        new_prog_fd: u32,
        flags: u32,
        old_prog_fd: u32,
    }
    let attr = Attr {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: new.as_raw_fd() as u32,
        flags: if expected.is_some() { F_REPLACE } else { 0 },
        old_prog_fd: expected.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf(LINK_UPDATE, &mut [attr]) }.map(drop)
}

/// Detaches a link now, not only when its last reference goes.
pub fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let attr = link.as_raw_fd() as u32;
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf(LINK_DETACH, &mut [attr]) }.map(drop)
}

/// Programs on one interface that are looked at; tcx allows 64 (`BPF_MPROG_MAX`).
const PROGRAMS: usize = 64;

/// The ids of the programs on a tcx point of an interface, in the order in which they run
/// (Linux 6.6).
pub fn attached(ifindex: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        pad: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let mut ids = vec![0u32; PROGRAMS];
    let mut attr = [Attr {
        target_ifindex: ifindex,
        attach_type,
        prog_ids: ids.as_mut_ptr() as u64,
        count: PROGRAMS as u32,
        ..Attr::zeroed()
    }];
    // SAFETY: the kernel writes at most `count` ids, for which there is room.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    ids.truncate(attr[0].count as usize);
    Ok(ids)
}
