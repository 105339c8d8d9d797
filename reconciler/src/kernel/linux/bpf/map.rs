//! Maps: creating, reading, writing, one entry at a time or many.

#![expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::LazyLock,
};

use bytemuck::{Pod, Zeroable};

use super::{
    MAP_CREATE, MAP_DELETE_ELEM, MAP_FREEZE, MAP_GET_NEXT_KEY, MAP_LOOKUP_BATCH, MAP_LOOKUP_ELEM,
    MAP_UPDATE_BATCH, MAP_UPDATE_ELEM, MapInfo, Result, bpf, bpf_fd, fail, info, object_name,
};

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
    /// `BPF_MAP_TYPE_RINGBUF`
    RingBuf = 27,
}

/// `BPF_F_NO_PREALLOC`: elements are allocated when they are inserted.
pub const F_NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`: user space can map the values (Linux 5.5).
pub const F_MMAPABLE: u32 = 1 << 10;
/// `BPF_F_RDONLY_PROG`: programs only read.
pub const F_RDONLY_PROG: u32 = 1 << 7;

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

/// Reads entries of a map one by one. It asks the kernel once how large keys and values are, so that no buffer is too small,
/// whoever made the map.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    map: BorrowedFd<'a>,
    key_size: usize,
    value_size: usize,
}

impl<'a> Reader<'a> {
    /// Of this map.
    pub fn new(map: BorrowedFd<'a>) -> io::Result<Self> {
        Ok(Self::of(map, &info(map)?))
    }

    /// Of a map of which the kernel has said this.
    pub fn of(map: BorrowedFd<'a>, info: &MapInfo) -> Self {
        Self {
            map,
            key_size: info.key_size as usize,
            value_size: user_value_size(info.map_type, info.value_size),
        }
    }

    /// Reads one value; `None` if there is no such key.
    pub fn value(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        as_large("keys", self.key_size, key.len())?;
        let mut value = vec![0u8; self.value_size];
        let attr = ElementAttr::new(self.map, key.as_ptr(), value.as_mut_ptr());
        // SAFETY: the key is as long as the map's keys, and there is room for one of its values.
        match unsafe { bpf(MAP_LOOKUP_ELEM, &mut [attr]) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The key after `key`, or the first.
    pub fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        if let Some(key) = key {
            as_large("keys", self.key_size, key.len())?;
        }
        let mut next = vec![0u8; self.key_size];
        let key = key.map_or(std::ptr::null(), <[u8]>::as_ptr);
        let attr = ElementAttr::new(self.map, key, next.as_mut_ptr());
        // SAFETY: the key is none or as long as the map's keys, and there is room for another one.
        match unsafe { bpf(MAP_GET_NEXT_KEY, &mut [attr]) } {
            Ok(_) => Ok(Some(next)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Bytes of a value as the bpf(2) call takes it: of a map per CPU, each CPU has a part of its own, whose length is a multiple of
/// eight (`bpf_map_value_size`, kernel/bpf/syscall.c).
fn user_value_size(map_type: u32, value_size: u32) -> usize {
    const PER_CPU: [u32; 4] = [
        MapType::PerCpuHash as u32,
        MapType::PerCpuArray as u32,
        // `BPF_MAP_TYPE_LRU_PERCPU_HASH` and `BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE`, which are not ours.
        10,
        21,
    ];
    if PER_CPU.contains(&map_type) {
        (value_size as usize).next_multiple_of(8) * possible_cpus()
    } else {
        value_size as usize
    }
}

/// CPUs there may ever be: a value of a map per CPU has a part for each.
pub fn possible_cpus() -> usize {
    /// As many as Linux can be built for on x86 (`NR_CPUS`): if it cannot be asked, too much room is better than too little.
    const MOST: usize = 8192;
    static COUNT: LazyLock<usize> = LazyLock::new(|| {
        let text = fs::read_to_string("/sys/devices/system/cpu/possible");
        text.ok().and_then(|list| cpus_of(&list)).unwrap_or(MOST)
    });
    *COUNT
}

/// How many CPUs are in a list as sysfs writes it: `0-3,8`.
fn cpus_of(list: &str) -> Option<usize> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    };
    list.trim().split(',').map(count).sum()
}

fn as_large(what: &str, of_map: usize, expected: usize) -> io::Result<()> {
    if of_map == expected {
        return Ok(());
    }
    let text = format!("{what} of the map have {of_map} bytes, not {expected}");
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Reads one value; `None` if there is no such key. It is an error if values do not have `size` bytes, as user space sees them.
pub fn lookup(map: BorrowedFd<'_>, key: &[u8], size: usize) -> io::Result<Option<Vec<u8>>> {
    let reader = Reader::new(map)?;
    as_large("values", reader.value_size, size)?;
    reader.value(key)
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

/// The key after `key`, or the first. It is an error if keys do not have `size` bytes.
pub fn next_key(
    map: BorrowedFd<'_>,
    key: Option<&[u8]>,
    size: usize,
) -> io::Result<Option<Vec<u8>>> {
    let reader = Reader::new(map)?;
    as_large("keys", reader.key_size, size)?;
    reader.next_key(key)
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

/// Reads up to `count` entries at once (Linux 5.6): keys and values one after the other. Returns
/// how many it were, and whether there is more after the position now in `position`. The buffers
/// have room for `count` keys and values of the map.
pub fn lookup_batch(
    map: BorrowedFd<'_>,
    position: &mut Option<[u8; 64]>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, bool)> {
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
    // SAFETY: the caller's buffers are as large as `count` says; a position is at most a key or
    // four bytes, and no key of ours is longer than 64.
    let more = match unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) } {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => return Err(error),
    };
    let [attr] = attr;
    *position = Some(to);
    Ok((attr.count, more))
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

#[cfg(test)]
mod tests {
    use super::cpus_of;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpus_of("0-1\n"), Some(2));
        assert_eq!(cpus_of("0"), Some(1));
        assert_eq!(cpus_of("0,2-3,8-127\n"), Some(123));
        assert_eq!(cpus_of(""), None);
        assert_eq!(cpus_of("3-1"), None);
    }
}
