//! What the kernel says of its objects, and finding them by id.

#![expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]

use std::{
    io,
    mem::offset_of,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use bytemuck::{Pod, Zeroable};

use super::{
    LINK_GET_NEXT_ID, MAP_GET_FD_BY_ID, MAP_GET_NEXT_ID, OBJ_GET_INFO_BY_FD, PROG_GET_FD_BY_ID,
    PROG_GET_NEXT_ID, Result, bpf, bpf_fd, fail,
};

/// What the kernel says of a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MapInfo {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Unique while the machine runs.
    pub id: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Entries.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub map_flags: u32,
    /// Zero-terminated.
    pub name: [u8; 16],
}

/// What the kernel says of a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ProgramInfo {
    /// `enum bpf_prog_type`.
    pub program_type: u32,
    /// Unique while the machine runs.
    pub id: u32,
    /// Hash over the instructions.
    pub tag: [u8; 8],
    /// Bytes of machine code.
    pub jited_prog_len: u32,
    /// Bytes of instructions as the verifier left them; an instruction has eight.
    pub xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    /// Zero-terminated.
    pub name: [u8; 16],
}

/// What the kernel says of a link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct LinkInfo {
    /// `enum bpf_link_type`.
    pub link_type: u32,
    /// Unique while the machine runs.
    pub id: u32,
    /// The attached program.
    pub prog_id: u32,
    pad: u32,
    /// Interface; 0 once it is gone.
    pub ifindex: u32,
    /// `enum bpf_attach_type` (tcx only).
    pub attach_type: u32,
}

/// Reads an object's information.
pub fn info<T: Pod>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::zeroed();
    // SAFETY: without pointers in it, the kernel writes to `info` alone.
    unsafe { ask(fd, &mut info) }?;
    Ok(info)
}

/// Reads an object's information into `info`.
///
/// # Safety
///
/// What `info` points at must be as large as it says.
unsafe fn ask<T: Pod>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let attr = Attr {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of::<T>() as u32,
        info: (&raw mut *info) as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes, and `T` is plain data; the caller answers
    // for what it points at.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut [attr]) }.map(drop)
}

/// The ids of the maps that a program has.
pub fn maps_of(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let count = info::<ProgramInfo>(program)?.nr_map_ids;
    let mut ids = vec![0u32; count as usize];
    let mut info = ProgramInfo {
        nr_map_ids: count,
        map_ids: ids.as_mut_ptr() as u64,
        ..ProgramInfo::zeroed()
    };
    // SAFETY: the kernel writes at most `nr_map_ids` ids, for which there is room until the end of
    // this function.
    unsafe { ask(program, &mut info) }?;
    ids.truncate(info.nr_map_ids as usize);
    Ok(ids)
}

/// The instructions of a program as the verifier left them: without what cannot be reached, and with what it put in the
/// place of helpers. A reference to a map has its id.
pub fn instructions_of(program: BorrowedFd<'_>) -> io::Result<Vec<[u8; 8]>> {
    let length = info::<ProgramInfo>(program)?.xlated_prog_len;
    let mut instructions = vec![[0u8; 8]; length as usize / 8];
    let mut info = ProgramInfo {
        xlated_prog_len: length,
        xlated_prog_insns: instructions.as_mut_ptr() as u64,
        ..ProgramInfo::zeroed()
    };
    // SAFETY: the kernel writes at most `xlated_prog_len` bytes, for which there is room until the end of this function.
    unsafe { ask(program, &mut info) }?;
    instructions.truncate(info.xlated_prog_len as usize / 8);
    Ok(instructions)
}

/// How many instructions the verifier went through (Linux 5.17).
pub fn verified_instructions(program: BorrowedFd<'_>) -> io::Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("verified_insns:"));
    count
        .and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no `verified_insns` in fdinfo"))
}

/// Kinds of object with ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Programs.
    Program,
    /// Maps.
    Map,
    /// Links.
    Link,
}

/// All ids of a kind, ours or not.
pub fn ids(kind: Kind) -> io::Result<Vec<u32>> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        start_id: u32,
        next_id: u32,
        open_flags: u32,
    }
    let command = match kind {
        Kind::Program => PROG_GET_NEXT_ID,
        Kind::Map => MAP_GET_NEXT_ID,
        Kind::Link => LINK_GET_NEXT_ID,
    };
    let mut ids = Vec::new();
    let mut attr = [Attr::zeroed()];
    loop {
        // SAFETY: the attributes hold no pointers.
        match unsafe { bpf(command, &mut attr) } {
            Ok(_) => {
                ids.push(attr[0].next_id);
                attr[0].start_id = attr[0].next_id;
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(ids),
            Err(error) => return Err(error),
        }
    }
}

/// Opens a program by its id.
pub fn program_by_id(id: u32) -> Result<OwnedFd> {
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf_fd(PROG_GET_FD_BY_ID, [id, 0, 0]) }.map_err(fail("open program", id))
}

/// Opens a map by its id; this takes `CAP_SYS_ADMIN`.
pub fn map_by_id(id: u32) -> Result<OwnedFd> {
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf_fd(MAP_GET_FD_BY_ID, [id, 0, 0]) }.map_err(fail("open map", id))
}

const _: () = assert!(offset_of!(ProgramInfo, name) == 64);
const _: () = assert!(offset_of!(MapInfo, name) == 24);
