//! The bpf(2) system call: one function per command, typed attributes, errors that name the
//! call and the object.
//!
//! Why not `aya`'s loader: it creates every map and parses ELF and BTF on each load, reuses a
//! pinned map without comparing it, and has no batch calls and no link update that names the
//! program it expects. See `docs/decisions/0003-loader.md`.

mod info;
mod link;
mod map;
mod program;
mod run;

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use bytemuck::{Pod, Zeroable};

pub use self::{
    info::{
        Kind, LinkInfo, MapInfo, ProgramInfo, ids, info, instructions_of, map_by_id, maps_of,
        program_by_id, verified_instructions,
    },
    link::{LinkTarget, attached, create_link, detach_link, update_link},
    map::{
        F_MMAPABLE, F_NO_PREALLOC, F_RDONLY_PROG, MapAttributes, MapType, Reader, create_frozen,
        create_map, delete, lookup, lookup_batch, next_key, possible_cpus, update, update_batch,
    },
    program::{ProgramBtf, ProgramRequest, load_btf, load_program},
    run::{run_live, test_run, test_run_repeated},
};

/// A failed system call.
#[derive(Debug, thiserror::Error)]
#[error("{call} {object}: {source}")]
pub struct Error {
    /// What was asked of the kernel.
    pub call: &'static str,
    /// Of which object.
    pub object: String,
    /// Its answer.
    pub source: io::Error,
    /// The verifier's log, for a refused program.
    pub log: Option<String>,
}

impl Error {
    /// The kernel's error number.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

/// Result of a bpf(2) call.
pub type Result<T> = std::result::Result<T, Error>;

// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const MAP_CREATE: u32 = 0;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const MAP_GET_NEXT_KEY: u32 = 4;
const PROG_LOAD: u32 = 5;
const OBJ_PIN: u32 = 6;
const OBJ_GET: u32 = 7;
const PROG_TEST_RUN: u32 = 10;
const PROG_GET_NEXT_ID: u32 = 11;
const MAP_GET_NEXT_ID: u32 = 12;
const PROG_GET_FD_BY_ID: u32 = 13;
const MAP_GET_FD_BY_ID: u32 = 14;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const PROG_QUERY: u32 = 16;
const BTF_LOAD: u32 = 18;
const MAP_FREEZE: u32 = 22;
const MAP_LOOKUP_BATCH: u32 = 24;
const MAP_UPDATE_BATCH: u32 = 26;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_GET_NEXT_ID: u32 = 31;
const LINK_DETACH: u32 = 34;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct PathAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
    path_fd: i32,
    pad: u32,
}

/// `BPF_F_PATH_FD` (Linux 6.5): the path is relative to a directory.
const F_PATH_FD: u32 = 1 << 14;

/// Pins an object in a directory of bpffs; `path` is for messages.
#[expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]
pub fn pin_at(
    fd: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &str,
    path: &Path,
) -> Result<()> {
    let name = c_path(Path::new(name)).map_err(fail("pin", path.display()))?;
    let attr = PathAttr {
        pathname: name.as_ptr() as u64,
        bpf_fd: fd.as_raw_fd() as u32,
        file_flags: F_PATH_FD,
        path_fd: directory.as_raw_fd(),
        pad: 0,
    };
    // SAFETY: `name` is a C string that outlives the call.
    unsafe { bpf(OBJ_PIN, &mut [attr]) }
        .map(drop)
        .map_err(fail("pin", path.display()))
}

/// Opens an object that is pinned in a directory; `path` is for messages.
#[expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]
pub fn open_at(directory: BorrowedFd<'_>, name: &str, path: &Path) -> Result<OwnedFd> {
    let name = c_path(Path::new(name)).map_err(fail("open", path.display()))?;
    let attr = PathAttr {
        pathname: name.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: F_PATH_FD,
        path_fd: directory.as_raw_fd(),
        pad: 0,
    };
    // SAFETY: `name` is a C string that outlives the call.
    unsafe { bpf_fd(OBJ_GET, attr) }.map_err(fail("open", path.display()))
}

/// Opens a pinned object wherever its path leads. What belongs to a topology is opened in its
/// directory, see [`open_at`].
#[expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]
pub fn open(path: &Path) -> Result<OwnedFd> {
    let name = c_path(path).map_err(fail("open", path.display()))?;
    let attr = PathAttr {
        pathname: name.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
        path_fd: 0,
        pad: 0,
    };
    // SAFETY: `name` is a C string that outlives the call.
    unsafe { bpf_fd(OBJ_GET, attr) }.map_err(fail("open", path.display()))
}

/// The part of a name that the kernel keeps: 15 bytes of `[A-Za-z0-9_.]`.
pub fn object_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes[..15].iter_mut().zip(name.bytes()) {
        *to = if from.is_ascii_alphanumeric() || from == b'.' {
            from
        } else {
            b'_'
        };
    }
    bytes
}

/// A name as the kernel returns it.
pub fn name_of(name: &[u8; 16]) -> String {
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    let path: &OsStr = path.as_ref();
    CString::new(path.as_bytes()).map_err(io::Error::from)
}

fn fail(call: &'static str, object: impl ToString) -> impl FnOnce(io::Error) -> Error {
    move |source| Error {
        call,
        object: object.to_string(),
        source,
        log: None,
    }
}

/// Waits until all programs that run now have ended: programs run inside RCU read-side sections,
/// and `MEMBARRIER_CMD_GLOBAL` waits for all of those (kernel/sched/membarrier.c).
#[expect(
    unsafe_code,
    reason = "a system call; the block states why it is sound"
)]
pub fn wait_for_programs() -> io::Result<()> {
    const CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes no pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, CMD_GLOBAL, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// # Safety
/// Pointers inside `attr` must be valid as the command demands.
#[expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]
unsafe fn bpf_fd<T: Pod>(command: u32, attr: T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    let fd = unsafe { bpf(command, &mut [attr]) }?;
    // SAFETY: a command that makes an object returns a descriptor that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// Pointers inside `attr` must be valid as the command demands.
#[expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]
unsafe fn bpf<T: Pod>(command: u32, attr: &mut [T; 1]) -> io::Result<i32> {
    // SAFETY: `attr` is valid for its size; the kernel takes missing fields as zero.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<T>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result as i32),
    }
}
