//! The bpf(2) system call: one function per command, typed attributes, errors that name the
//! call and the object.
//!
//! Why not `aya`'s loader: it creates every map and parses ELF and BTF on each load, reuses a
//! pinned map without comparing it, and has no batch calls and no link update that names the
//! program it expects. See `docs/decisions/0003-loader.md`.

#![expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]

use std::{
    ffi::{CString, OsStr},
    io,
    mem::{offset_of, size_of},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use bytemuck::{Pod, Zeroable};

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
const OBJ_GET_INFO_BY_FD: u32 = 15;
const BTF_LOAD: u32 = 18;
const MAP_FREEZE: u32 = 22;
const MAP_LOOKUP_BATCH: u32 = 24;
const MAP_UPDATE_BATCH: u32 = 26;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_GET_NEXT_ID: u32 = 31;
const LINK_DETACH: u32 = 34;

/// `BPF_F_REPLACE` of a link update: only if the attached program is the expected one.
const F_REPLACE: u32 = 1 << 2;

/// Map types we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum MapType {
    /// `BPF_MAP_TYPE_HASH`
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`
    Array = 2,
    /// `BPF_MAP_TYPE_PROG_ARRAY`
    ProgramArray = 3,
    /// `BPF_MAP_TYPE_PERCPU_HASH`
    PerCpuHash = 5,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`
    LpmTrie = 11,
}

/// `BPF_F_NO_PREALLOC`: elements are allocated when they are inserted.
pub const F_NO_PREALLOC: u32 = 1;
/// `BPF_F_RDONLY_PROG`: programs only read.
const F_RDONLY_PROG: u32 = 1 << 7;

/// What a map is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapAttributes {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Entries.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// Creates a map.
pub fn create_map(name: &str, attributes: MapAttributes) -> Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
        numa_node: u32,
        map_name: [u8; 16],
    }
    let attr = Attr {
        map_type: attributes.map_type,
        key_size: attributes.key_size,
        value_size: attributes.value_size,
        max_entries: attributes.max_entries,
        map_flags: attributes.flags,
        inner_map_fd: 0,
        numa_node: 0,
        map_name: object_name(name),
    };
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf_fd(MAP_CREATE, attr) }.map_err(fail("create map", name))
}

/// The map of a program's read-only globals, frozen so that the verifier takes its values as
/// constants (Linux 5.2).
pub fn create_frozen(name: &str, data: &[u8]) -> Result<OwnedFd> {
    let map = create_map(
        name,
        MapAttributes {
            map_type: MapType::Array as u32,
            key_size: 4,
            value_size: data.len() as u32,
            max_entries: 1,
            flags: F_RDONLY_PROG,
        },
    )?;
    update(map.as_fd(), &0u32.to_ne_bytes(), data).map_err(fail("fill map", name))?;
    let attr = map.as_raw_fd() as u32;
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf(MAP_FREEZE, &mut [attr]) }.map_err(fail("freeze map", name))?;
    Ok(map)
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElementAttr {
    fn new(map: BorrowedFd<'_>, key: *const u8, value: *const u8) -> Self {
        Self {
            map_fd: map.as_raw_fd() as u32,
            pad: 0,
            key: key as u64,
            value: value as u64,
            flags: 0,
        }
    }
}

/// Reads one value; `None` if there is no such key. `size` is the value's size as user space
/// sees it.
pub fn lookup(map: BorrowedFd<'_>, key: &[u8], size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; size];
    let attr = ElementAttr::new(map, key.as_ptr(), value.as_mut_ptr());
    // SAFETY: both pointers are valid for the sizes the caller took from the map.
    match unsafe { bpf(MAP_LOOKUP_ELEM, &mut [attr]) } {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes one value.
pub fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let attr = ElementAttr::new(map, key.as_ptr(), value.as_ptr());
    // SAFETY: both pointers are valid for the sizes the caller took from the map.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut [attr]) }.map(drop)
}

/// Deletes one entry; one that is gone already is no error.
pub fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    let attr = ElementAttr::new(map, key.as_ptr(), std::ptr::null());
    // SAFETY: the key is valid for the map's key size.
    match unsafe { bpf(MAP_DELETE_ELEM, &mut [attr]) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map(drop),
    }
}

/// The key after `key`, or the first.
pub fn next_key(
    map: BorrowedFd<'_>,
    key: Option<&[u8]>,
    size: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut next = vec![0u8; size];
    let key = key.map_or(std::ptr::null(), <[u8]>::as_ptr);
    let attr = ElementAttr::new(map, key, next.as_mut_ptr());
    // SAFETY: both pointers are null or valid for the map's key size.
    match unsafe { bpf(MAP_GET_NEXT_KEY, &mut [attr]) } {
        Ok(_) => Ok(Some(next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Reads up to `count` entries at once (Linux 5.6): keys and values one after the other, and
/// whether there is more after the position now in `position`.
pub fn lookup_batch(
    map: BorrowedFd<'_>,
    position: &mut Option<[u8; 64]>,
    key_size: usize,
    value_size: usize,
    count: u32,
) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
    let mut keys = vec![0u8; key_size * count as usize];
    let mut values = vec![0u8; value_size * count as usize];
    let from = *position;
    let mut to = [0u8; 64];
    let mut attr = [BatchAttr {
        in_batch: from.as_ref().map_or(0, |from| from.as_ptr() as u64),
        out_batch: to.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    }];
    // SAFETY: the buffers are as large as `count` says; a position is at most a key or four
    // bytes, and no key of ours is longer than 64.
    let more = match unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) } {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => return Err(error),
    };
    let [attr] = attr;
    keys.truncate(attr.count as usize * key_size);
    values.truncate(attr.count as usize * value_size);
    *position = Some(to);
    Ok((keys, values, more))
}

/// Writes many entries at once (Linux 5.6).
pub fn update_batch(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: u32) -> io::Result<()> {
    let attr = BatchAttr {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the caller's buffers hold `count` keys and values.
    unsafe { bpf(MAP_UPDATE_BATCH, &mut [attr]) }.map(drop)
}

/// What a program is loaded from.
pub struct ProgramRequest<'a> {
    /// At most 15 bytes are kept.
    pub name: &'a str,
    /// `enum bpf_prog_type`.
    pub program_type: u32,
    /// `enum bpf_attach_type`, where the type wants one.
    pub attach_type: u32,
    /// Instructions, eight bytes each.
    pub instructions: &'a [u8],
    /// Licence, with its terminating zero.
    pub license: &'a [u8],
    /// BTF, and records about functions and lines.
    pub btf: Option<ProgramBtf<'a>>,
}

/// Debug information of a program.
pub struct ProgramBtf<'a> {
    /// The loaded BTF.
    pub fd: BorrowedFd<'a>,
    /// `struct bpf_func_info` records and the size of one.
    pub functions: (&'a [u8], u32),
    /// `struct bpf_line_info` records and the size of one.
    pub lines: (&'a [u8], u32),
}

/// Bytes of the verifier's log that are kept.
const LOG_SIZE: usize = 1 << 20;

/// Loads a program. When the verifier refuses it, loads it again with a log for the error.
pub fn load_program(request: &ProgramRequest<'_>) -> Result<OwnedFd> {
    match try_load(request, &mut []) {
        Ok(fd) => Ok(fd),
        Err(first) => {
            let mut log = vec![0u8; LOG_SIZE];
            match try_load(request, &mut log) {
                Ok(fd) => Ok(fd),
                Err(_) => {
                    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                    let log = String::from_utf8_lossy(&log[..end]).trim_end().to_owned();
                    let mut error = fail("load program", request.name)(first);
                    error.log = (!log.is_empty()).then_some(log);
                    Err(error)
                }
            }
        }
    }
}

fn try_load(request: &ProgramRequest<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: u32,
        func_info_rec_size: u32,
        func_info: u64,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: u64,
        line_info_cnt: u32,
        attach_btf_id: u32,
    }
    let mut attr = Attr::zeroed();
    attr.prog_type = request.program_type;
    attr.insn_cnt = (request.instructions.len() / 8) as u32;
    attr.insns = request.instructions.as_ptr() as u64;
    attr.license = request.license.as_ptr() as u64;
    attr.prog_name = object_name(request.name);
    attr.expected_attach_type = request.attach_type;
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = log.len() as u32;
        attr.log_buf = log.as_mut_ptr() as u64;
    }
    if let Some(btf) = &request.btf {
        attr.prog_btf_fd = btf.fd.as_raw_fd() as u32;
        (attr.func_info_rec_size, attr.line_info_rec_size) = (btf.functions.1, btf.lines.1);
        attr.func_info = btf.functions.0.as_ptr() as u64;
        attr.func_info_cnt = btf.functions.0.len() as u32 / btf.functions.1.max(1);
        attr.line_info = btf.lines.0.as_ptr() as u64;
        attr.line_info_cnt = btf.lines.0.len() as u32 / btf.lines.1.max(1);
    }
    // SAFETY: every pointer is to a slice of `request` or to `log`, with its length beside it.
    unsafe { bpf_fd(PROG_LOAD, attr) }
}

/// Loads BTF.
pub fn load_btf(object: &str, btf: &[u8]) -> Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        btf: u64,
        btf_log_buf: u64,
        btf_size: u32,
        btf_log_size: u32,
        btf_log_level: u32,
        pad: u32,
    }
    let mut attr = Attr::zeroed();
    attr.btf = btf.as_ptr() as u64;
    attr.btf_size = btf.len() as u32;
    // SAFETY: `btf` is valid for its length.
    unsafe { bpf_fd(BTF_LOAD, attr) }.map_err(fail("load BTF of", object))
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct PathAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Pins an object to a path in bpffs.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let name = c_path(path).map_err(fail("pin", path.display()))?;
    let attr = PathAttr {
        pathname: name.as_ptr() as u64,
        bpf_fd: fd.as_raw_fd() as u32,
        file_flags: 0,
    };
    // SAFETY: `name` is a C string that outlives the call.
    unsafe { bpf(OBJ_PIN, &mut [attr]) }
        .map(drop)
        .map_err(fail("pin", path.display()))
}

/// Opens a pinned object.
pub fn open(path: &Path) -> Result<OwnedFd> {
    let name = c_path(path).map_err(fail("open", path.display()))?;
    let attr = PathAttr {
        pathname: name.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    // SAFETY: `name` is a C string that outlives the call.
    unsafe { bpf_fd(OBJ_GET, attr) }.map_err(fail("open", path.display()))
}

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
    jited_prog_len: u32,
    xlated_prog_len: u32,
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
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut info = T::zeroed();
    let attr = Attr {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of::<T>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes, and `T` is plain data.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut [attr]) }?;
    Ok(info)
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

/// Runs a program once on a packet: its verdict, and the packet as it left it.
pub fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &mut [u8],
) -> io::Result<(u32, Vec<u8>)> {
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
    }
    let mut out = vec![0u8; packet.len() + 4096];
    let mut attr = [Attr::zeroed()];
    attr[0].prog_fd = program.as_raw_fd() as u32;
    attr[0].data_in = packet.as_ptr() as u64;
    attr[0].data_size_in = packet.len() as u32;
    attr[0].data_out = out.as_mut_ptr() as u64;
    attr[0].data_size_out = out.len() as u32;
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

/// The part of a name that the kernel keeps: 15 bytes of `[A-Za-z0-9_.]`.
fn object_name(name: &str) -> [u8; 16] {
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

/// # Safety
/// Pointers inside `attr` must be valid as the command demands.
unsafe fn bpf_fd<T: Pod>(command: u32, attr: T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    let fd = unsafe { bpf(command, &mut [attr]) }?;
    // SAFETY: a command that makes an object returns a descriptor that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// Pointers inside `attr` must be valid as the command demands.
unsafe fn bpf<T: Pod>(command: u32, attr: &mut [T; 1]) -> io::Result<i32> {
    // SAFETY: `attr` is valid for its size; the kernel takes missing fields as zero.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<T>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result as i32),
    }
}

const _: () = assert!(offset_of!(ProgramInfo, name) == 64);
const _: () = assert!(offset_of!(MapInfo, name) == 24);
