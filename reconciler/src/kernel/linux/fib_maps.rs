//! Forwarding tables as maps: their entries are prefixes, whatever is in the memory.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use bytemuck::{bytes_of, try_pod_read_unaligned};
use ebpf_abi::{
    address::{V4, V6},
    fib::BUCKET,
    router::{RouteEntry, RouteKeyV4, RouteKeyV6},
};
use fib::{Full, V4Writer, V6Writer};

use super::{bpf, mapping::Memory};
use crate::{
    resource::{MapKind, MapShape},
    rows::Rows,
};

/// Tables that are forwarding tables, by how their names begin.
const NAME: &str = "fib_";

/// Bytes of one value of the array that a table is in.
pub fn value_bytes(kind: MapKind) -> usize {
    match kind {
        MapKind::FibV6 => BUCKET as usize * size_of::<u64>(),
        _ => size_of::<u64>(),
    }
}

/// What an array is as a table; `None` if it is none.
pub fn shape(name: &str, array: MapShape) -> Option<MapShape> {
    if !name.starts_with(NAME) || array.kind != MapKind::MappedArray {
        return None;
    }
    let (kind, key) = if array.value_size as usize == value_bytes(MapKind::FibV4) {
        (MapKind::FibV4, size_of::<RouteKeyV4>())
    } else {
        (MapKind::FibV6, size_of::<RouteKeyV6>())
    };
    Some(MapShape {
        kind,
        key_size: key as u32,
        value_size: size_of::<RouteEntry>() as u32,
        max_entries: array.max_entries,
    })
}

fn memory(map: BorrowedFd<'_>, shape: &MapShape) -> io::Result<Memory> {
    let bytes = value_bytes(shape.kind) * shape.max_entries as usize;
    Memory::new(&map.try_clone_to_owned()?, bytes)
}

fn full(_: Full) -> io::Error {
    io::Error::from_raw_os_error(libc::E2BIG)
}

fn malformed() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

fn entry(value: &[u8]) -> io::Result<RouteEntry> {
    try_pod_read_unaligned(value).map_err(|_| malformed())
}

fn prefix_v4(key: &[u8]) -> io::Result<(u32, u8)> {
    let key: RouteKeyV4 = try_pod_read_unaligned(key).map_err(|_| malformed())?;
    Ok((u32::from_be_bytes(key.address.bytes()), key.length as u8))
}

fn prefix_v6(key: &[u8]) -> io::Result<(u128, u8)> {
    let key: RouteKeyV6 = try_pod_read_unaligned(key).map_err(|_| malformed())?;
    Ok((u128::from_be_bytes(key.address.bytes()), key.length as u8))
}

/// Writes entries; into an empty table all at once.
pub fn put(map: BorrowedFd<'_>, shape: &MapShape, entries: &Rows) -> io::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let memory = memory(map, shape)?;
    let words = memory.as_ref();
    if shape.kind == MapKind::FibV4 {
        let mut routes = Vec::with_capacity(entries.len());
        for (key, value) in entries.iter() {
            routes.push((prefix_v4(key)?.0, entry(value)?));
        }
        if fib::routes_v4(words).next().is_none() {
            routes.sort_unstable_by_key(|(address, entry)| (*address, entry.length()));
            return fib::load_v4(words, &routes).map_err(full);
        }
        let mut writer = V4Writer::open(words).map_err(full)?;
        for (address, entry) in routes {
            let set = |writer: &mut V4Writer| writer.set(words, address, entry);
            writer
                .with_room(words, bpf::wait_for_programs, set)?
                .map_err(full)?;
        }
        leave(&writer)?;
    } else {
        let mut routes = Vec::with_capacity(entries.len());
        for (key, value) in entries.iter() {
            routes.push((prefix_v6(key)?.0, entry(value)?));
        }
        if fib::routes_v6(words).next().is_none() {
            routes.sort_unstable_by_key(|(address, entry)| (entry.length(), *address));
            return fib::load_v6(words, &routes).map_err(full);
        }
        let mut writer = V6Writer::open(words).map_err(full)?;
        for (address, entry) in routes {
            writer.set(words, address, entry).map_err(full)?;
        }
    }
    Ok(())
}

/// Deletes entries.
pub fn delete(map: BorrowedFd<'_>, shape: &MapShape, keys: &BTreeSet<Vec<u8>>) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let memory = memory(map, shape)?;
    let words = memory.as_ref();
    if shape.kind == MapKind::FibV4 {
        let mut writer = V4Writer::open(words).map_err(full)?;
        for key in keys {
            let (address, length) = prefix_v4(key)?;
            let remove = |writer: &mut V4Writer| writer.remove(words, address, length);
            writer
                .with_room(words, bpf::wait_for_programs, remove)?
                .map_err(full)?;
        }
        leave(&writer)?;
    } else {
        let mut writer = V6Writer::open(words).map_err(full)?;
        for key in keys {
            let (address, length) = prefix_v6(key)?;
            writer.remove(words, address, length);
        }
    }
    Ok(())
}

/// A lookup may still be in a block that is free now, and who writes next may use it again.
fn leave(writer: &V4Writer) -> io::Result<()> {
    if writer.retired() > 0 {
        bpf::wait_for_programs()?;
    }
    Ok(())
}

/// Keys and values of all entries, from the list of them.
pub fn read(map: BorrowedFd<'_>, shape: &MapShape) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let memory = memory(map, shape)?;
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    if shape.kind == MapKind::FibV4 {
        for (address, entry) in fib::routes_v4(memory.as_ref()) {
            let key = RouteKeyV4 {
                length: entry.length(),
                address: V4::new(address.to_be_bytes()),
            };
            keys.extend_from_slice(bytes_of(&key));
            values.extend_from_slice(bytes_of(&entry));
        }
    } else {
        for (address, entry) in fib::routes_v6(memory.as_ref()) {
            let key = RouteKeyV6 {
                length: entry.length(),
                address: V6::new(address.to_be_bytes()),
            };
            keys.extend_from_slice(bytes_of(&key));
            values.extend_from_slice(bytes_of(&entry));
        }
    }
    Ok((keys, values))
}

/// Whether lookups find what the list says. Memory that others wrote is of no use.
pub fn is_sound(map: BorrowedFd<'_>, shape: &MapShape) -> io::Result<bool> {
    let memory = memory(map.as_fd(), shape)?;
    Ok(match shape.kind {
        MapKind::FibV4 => fib::is_sound_v4(memory.as_ref()),
        _ => fib::is_sound_v6(memory.as_ref()),
    })
}
