//! Maps: made, filled, read, copied.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use caps::Capability;

use super::bpf::{self, F_MMAPABLE, F_NO_PREALLOC, F_RDONLY_PROG, MapAttributes, MapInfo, MapType};
use super::{fib_maps, prefix_set_maps, privilege::Raised};
use crate::{
    kernel::Entry,
    resource::{MapKind, MapShape},
    rows::Rows,
};

/// Entries that are read or written with one call.
const BATCH: u32 = 4096;
/// Bytes of entries that are read at a time, unless one is larger.
const BATCH_BYTES: usize = 64 << 10;

/// What can be mapped begins with a page; that programs do not write tells it from what is mapped.
const LINES: u32 = F_MMAPABLE | F_RDONLY_PROG;

/// Creates a map.
pub fn create(name: &str, shape: MapShape) -> bpf::Result<OwnedFd> {
    let (map_type, flags) = match shape.kind {
        MapKind::Hash => (MapType::Hash, F_NO_PREALLOC),
        MapKind::PreallocatedHash => (MapType::Hash, 0),
        MapKind::LruHash => (MapType::LruHash, 0),
        MapKind::Array => (MapType::Array, 0),
        MapKind::LineArray => (MapType::Array, LINES),
        MapKind::MappedArray
        | MapKind::FibV4
        | MapKind::FibV6
        | MapKind::PrefixSetV4
        | MapKind::PrefixSetV6 => (MapType::Array, F_MMAPABLE),
        MapKind::PerCpuArray => (MapType::PerCpuArray, 0),
        MapKind::LpmTrie => (MapType::LpmTrie, F_NO_PREALLOC),
        MapKind::ProgramArray => (MapType::ProgramArray, 0),
        MapKind::RingBuf => (MapType::RingBuf, 0),
    };
    let (key_size, value_size, max_entries) = match shape.kind {
        // What is in the memory is not what the entries are.
        MapKind::FibV4 | MapKind::FibV6 => {
            let bytes = fib_maps::value_bytes(shape.kind) as u32;
            (4, bytes, shape.max_entries)
        }
        MapKind::PrefixSetV4 | MapKind::PrefixSetV6 => {
            let buckets = prefix_set_maps::layout(&shape).buckets();
            (4, prefix_set_maps::VALUE_BYTES, buckets)
        }
        _ => (shape.key_size, shape.value_size, shape.max_entries),
    };
    let attributes = MapAttributes {
        map_type: map_type as u32,
        key_size,
        value_size,
        max_entries,
        flags,
    };
    // The kernel notes who made a map: of a maker without this, each index is masked against speculation, and no jump
    // through a program array is a direct one (`bypass_spec_v1`).
    let _no_barriers = Raised::new(Capability::CAP_PERFMON);
    bpf::create_map(name, attributes)
}

/// What a map was made with, if it is of a kind that [`create`] makes.
pub fn shape(info: &MapInfo) -> Option<MapShape> {
    let kinds = [
        (MapType::Hash, F_NO_PREALLOC, MapKind::Hash),
        (MapType::Hash, 0, MapKind::PreallocatedHash),
        (MapType::LruHash, 0, MapKind::LruHash),
        (MapType::Array, 0, MapKind::Array),
        (MapType::Array, LINES, MapKind::LineArray),
        (MapType::Array, F_MMAPABLE, MapKind::MappedArray),
        (MapType::PerCpuArray, 0, MapKind::PerCpuArray),
        (MapType::LpmTrie, F_NO_PREALLOC, MapKind::LpmTrie),
        (MapType::ProgramArray, 0, MapKind::ProgramArray),
        (MapType::RingBuf, 0, MapKind::RingBuf),
    ];
    let (_, _, kind) = kinds.into_iter().find(|(map_type, flags, _)| {
        *map_type as u32 == info.map_type && *flags == info.map_flags
    })?;
    let shape = MapShape {
        kind,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
    };
    let name = bpf::name_of(&info.name);
    let table = fib_maps::shape(&name, shape).or_else(|| prefix_set_maps::shape(&name, shape));
    Some(table.unwrap_or(shape))
}

/// A map's shape, if it can be used as it is: not if others wrote into the memory of a table.
pub fn usable(map: BorrowedFd<'_>, shape: MapShape) -> io::Result<Option<MapShape>> {
    let usable = match shape.kind {
        // What settings do not use is one value.
        MapKind::FibV4 | MapKind::FibV6 => {
            shape.max_entries == 1 || fib_maps::is_sound(map, &shape)?
        }
        MapKind::PrefixSetV4 | MapKind::PrefixSetV6 => prefix_set_maps::is_sound(map, &shape)?,
        _ => true,
    };
    Ok(usable.then_some(shape))
}

/// Writes entries, many with one call.
pub fn put(map: BorrowedFd<'_>, shape: &MapShape, entries: &Rows) -> io::Result<()> {
    if matches!(shape.kind, MapKind::FibV4 | MapKind::FibV6) {
        return fib_maps::put(map, shape, entries);
    }
    if shape.kind.is_prefix_set() {
        return prefix_set_maps::put(map, shape, entries);
    }
    // One call for a few entries is not worth the copies.
    if entries.len() < 8 {
        return entries
            .iter()
            .try_for_each(|(key, value)| bpf::update(map, key, value));
    }
    for (keys, values, count) in entries.batches(BATCH as usize) {
        bpf::update_batch(map, keys, values, count as u32)?;
    }
    Ok(())
}

/// Deletes entries; those of an array become zero.
pub fn delete(map: BorrowedFd<'_>, shape: &MapShape, keys: &BTreeSet<Vec<u8>>) -> io::Result<()> {
    if matches!(shape.kind, MapKind::FibV4 | MapKind::FibV6) {
        return fib_maps::delete(map, shape, keys);
    }
    if shape.kind.is_prefix_set() {
        return prefix_set_maps::delete(map, shape, keys);
    }
    let zero = vec![0; user_value_size(shape)];
    keys.iter().try_for_each(|key| {
        if shape.is_array() {
            bpf::update(map, key, &zero)
        } else {
            bpf::delete(map, key)
        }
    })
}

/// All entries. For maps per CPU, the values of all CPUs.
pub fn read(map: BorrowedFd<'_>, shape: &MapShape) -> io::Result<Vec<Entry>> {
    let split = |value: &[u8]| -> Vec<Vec<u8>> {
        if !is_per_cpu(shape) {
            return vec![value.to_vec()];
        }
        value
            .chunks(per_cpu_size(shape).max(1))
            .map(|part| part[..shape.value_size as usize].to_vec())
            .collect()
    };
    let (keys, values) = read_raw(map, shape)?;
    Ok(pairs(shape, &keys, &values)
        .map(|(key, value)| (key.to_vec(), split(value)))
        .collect())
}

/// Keys and values that lie one after the other, two by two.
fn pairs<'a>(
    shape: &MapShape,
    keys: &'a [u8],
    values: &'a [u8],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    // A ring has neither.
    let size = |bytes: usize| bytes.max(1);
    let keys = keys.chunks_exact(size(shape.key_size as usize));
    keys.zip(values.chunks_exact(size(user_value_size(shape))))
}

/// All entries of a map that has one value each, as they would be written: what is counted is no part of it.
pub fn read_rows(map: BorrowedFd<'_>, shape: &MapShape) -> io::Result<Rows> {
    let (keys, mut values) = read_raw(map, shape)?;
    let (key_size, value_size) = (shape.key_size as usize, shape.value_size as usize);
    if shape.kind.is_prefix_set() {
        values.fill(0);
    }
    Ok(Rows::new(key_size, value_size, keys, values))
}

/// Entries that are read at a time: fewer of large ones, since room for all of them is zeroed first.
fn batch_of(shape: &MapShape, entry_size: usize) -> u32 {
    let fit = (BATCH_BYTES / entry_size.max(1)) as u32;
    shape.max_entries.min(fit).clamp(1, BATCH)
}

/// How many entries there are. The kernel does not know: they are gone through.
pub fn count(map: BorrowedFd<'_>, shape: &MapShape) -> io::Result<u64> {
    let (keys, _) = read_raw(map, shape)?;
    Ok((keys.len() / (shape.key_size as usize).max(1)) as u64)
}

/// Keys and values of all entries, one after the other: for arrays in the order of their indices.
pub fn read_raw(map: BorrowedFd<'_>, shape: &MapShape) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    // Who reads a ring takes what is in it; who reads shared memory maps it.
    if matches!(shape.kind, MapKind::RingBuf | MapKind::MappedArray) {
        return Ok((keys, values));
    }
    if matches!(shape.kind, MapKind::FibV4 | MapKind::FibV6) {
        return fib_maps::read(map, shape);
    }
    if shape.kind.is_prefix_set() {
        return prefix_set_maps::read(map, shape);
    }
    let (key_size, value_size) = (shape.key_size as usize, user_value_size(shape));
    let count = batch_of(shape, key_size + value_size);
    let mut position = None;
    loop {
        let (old_keys, old_values) = (keys.len(), values.len());
        keys.resize(old_keys + key_size * count as usize, 0);
        values.resize(old_values + value_size * count as usize, 0);
        let room = (&mut keys[old_keys..], &mut values[old_values..]);
        match bpf::lookup_batch(map, &mut position, room.0, room.1, count) {
            Ok((read, more)) => {
                keys.truncate(old_keys + key_size * read as usize);
                values.truncate(old_values + value_size * read as usize);
                if !more {
                    return Ok((keys, values));
                }
            }
            // A type without batches, or a bucket larger than one.
            Err(_) => return read_one_by_one(map),
        }
    }
}

fn read_one_by_one(map: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let reader = bpf::Reader::new(map)?;
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let mut key = None;
    while let Some(next) = reader.next_key(key.as_deref())? {
        if let Some(value) = reader.value(&next)? {
            keys.extend_from_slice(&next);
            values.extend(value);
        }
        key = Some(next);
    }
    Ok((keys, values))
}

/// Copies all entries; the target has the same keys and values. Of sets, what the entries that both have has counted.
pub fn copy(
    (from, shape): (&OwnedFd, &MapShape),
    (to, larger): (&OwnedFd, &MapShape),
) -> io::Result<()> {
    if shape.kind.is_prefix_set() {
        return prefix_set_maps::copy((from.as_fd(), shape), (to.as_fd(), larger));
    }
    let (keys, values) = read_raw(from.as_fd(), shape)?;
    for (key, value) in pairs(shape, &keys, &values) {
        match bpf::update(to.as_fd(), key, value) {
            // The new map may have less room.
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => break,
            result => result?,
        }
    }
    Ok(())
}

fn is_per_cpu(shape: &MapShape) -> bool {
    shape.kind == MapKind::PerCpuArray
}

/// Bytes of one CPU's part of a value.
fn per_cpu_size(shape: &MapShape) -> usize {
    (shape.value_size as usize).next_multiple_of(8)
}

/// Bytes of a value as the bpf(2) call takes it.
fn user_value_size(shape: &MapShape) -> usize {
    if is_per_cpu(shape) {
        per_cpu_size(shape) * bpf::possible_cpus()
    } else {
        shape.value_size as usize
    }
}
