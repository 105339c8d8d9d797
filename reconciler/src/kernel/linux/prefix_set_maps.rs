//! Sets of prefixes as maps: their entries are prefixes with what they have counted, whatever is in the memory.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use bytemuck::{Pod, bytes_of, try_pod_read_unaligned};
use ebpf_abi::{
    address::{V4, V6},
    ddos_mitigator::{PrefixV4, PrefixV6},
    prefix_set::{BUCKET, Hits, Shape, room_of},
};
use fib::{Full, PrefixSet, Prefixes};

use super::{bpf, mapping::Memory};
use crate::{
    resource::{MapKind, MapShape},
    rows::Rows,
};

/// Tables that are sets, by how their names begin.
const NAMES: [&str; 2] = ["sources_", "destinations_"];

/// Bytes of one value of the array that a set is in.
pub const VALUE_BYTES: u32 = BUCKET * size_of::<u64>() as u32;

/// What an array is as a set; `None` if it is none.
pub fn shape(name: &str, array: MapShape) -> Option<MapShape> {
    let named = NAMES.iter().any(|begin| name.starts_with(begin));
    if !named || array.kind != MapKind::MappedArray || array.value_size != VALUE_BYTES {
        return None;
    }
    let (kind, key, room) = if name.ends_with("_v4") {
        let room = room_of::<V4>(array.max_entries);
        (MapKind::PrefixSetV4, size_of::<PrefixV4>(), room)
    } else {
        let room = room_of::<V6>(array.max_entries);
        (MapKind::PrefixSetV6, size_of::<PrefixV6>(), room)
    };
    Some(MapShape {
        kind,
        key_size: key as u32,
        value_size: size_of::<Hits>() as u32,
        max_entries: room?,
    })
}

/// How a set lies in its array.
pub fn layout(shape: &MapShape) -> Shape {
    match shape.kind {
        MapKind::PrefixSetV4 => Shape::new::<V4>(shape.max_entries),
        _ => Shape::new::<V6>(shape.max_entries),
    }
}

/// Keys of a family.
trait Key: Pod {
    type Address: Prefixes;
    fn of(prefix: fib::Prefix<Self::Address>) -> Self;
    fn prefix(self) -> fib::Prefix<Self::Address>;
}

impl Key for PrefixV4 {
    type Address = V4;

    fn of((address, length): (V4, u32)) -> Self {
        Self { length, address }
    }

    fn prefix(self) -> (V4, u32) {
        (self.address, self.length)
    }
}

impl Key for PrefixV6 {
    type Address = V6;

    fn of((address, length): (V6, u32)) -> Self {
        Self { length, address }
    }

    fn prefix(self) -> (V6, u32) {
        (self.address, self.length)
    }
}

/// What is done with a set, in either family.
trait Work {
    type Output;
    fn run<K: Key>(self, set: PrefixSet<'_>) -> io::Result<Self::Output>;
}

fn with<W: Work>(map: BorrowedFd<'_>, shape: &MapShape, work: W) -> io::Result<W::Output> {
    let layout = layout(shape);
    let bytes = (layout.buckets() * VALUE_BYTES) as usize;
    let memory = Memory::new(&map.try_clone_to_owned()?, bytes)?;
    let set = PrefixSet::open(memory.as_ref(), layout).map_err(full)?;
    match shape.kind {
        MapKind::PrefixSetV4 => work.run::<PrefixV4>(set),
        _ => work.run::<PrefixV6>(set),
    }
}

fn full(_: Full) -> io::Error {
    io::Error::from_raw_os_error(libc::E2BIG)
}

fn prefix<K: Key>(key: &[u8]) -> io::Result<fib::Prefix<K::Address>> {
    let key: K = try_pod_read_unaligned(key).map_err(|_| malformed())?;
    Ok(key.prefix())
}

fn malformed() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

struct Put<'a>(&'a Rows);

impl Work for Put<'_> {
    type Output = ();

    fn run<K: Key>(self, set: PrefixSet<'_>) -> io::Result<()> {
        self.0.iter().try_for_each(|(key, _)| {
            let (address, length) = prefix::<K>(key)?;
            set.insert(address, length).map_err(full)
        })
    }
}

/// Adds entries; what is there already goes on counting.
pub fn put(map: BorrowedFd<'_>, shape: &MapShape, entries: &Rows) -> io::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    with(map, shape, Put(entries))
}

struct Delete<'a>(&'a BTreeSet<Vec<u8>>);

impl Work for Delete<'_> {
    type Output = ();

    fn run<K: Key>(self, set: PrefixSet<'_>) -> io::Result<()> {
        self.0.iter().try_for_each(|key| {
            let (address, length) = prefix::<K>(key)?;
            set.remove(address, length);
            Ok(())
        })
    }
}

/// Deletes entries.
pub fn delete(map: BorrowedFd<'_>, shape: &MapShape, keys: &BTreeSet<Vec<u8>>) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    with(map, shape, Delete(keys))?;
    // A program may be about to count what it found; who writes next may use the place again.
    bpf::wait_for_programs()
}

struct Read;

impl Work for Read {
    type Output = (Vec<u8>, Vec<u8>);

    fn run<K: Key>(self, set: PrefixSet<'_>) -> io::Result<Self::Output> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (prefix, hits) in set.entries() {
            keys.extend_from_slice(bytes_of(&K::of(prefix)));
            values.extend_from_slice(bytes_of(&hits));
        }
        Ok((keys, values))
    }
}

/// Keys of all entries, and what they have counted.
pub fn read(map: BorrowedFd<'_>, shape: &MapShape) -> io::Result<(Vec<u8>, Vec<u8>)> {
    with(map, shape, Read)
}

struct Count<'a> {
    keys: &'a [u8],
    values: &'a [u8],
}

impl Work for Count<'_> {
    type Output = ();

    fn run<K: Key>(self, set: PrefixSet<'_>) -> io::Result<()> {
        let keys = self.keys.chunks_exact(size_of::<K>());
        for (key, hits) in keys.zip(self.values.chunks_exact(size_of::<Hits>())) {
            let (address, length) = prefix::<K>(key)?;
            let hits = try_pod_read_unaligned(hits).map_err(|_| malformed())?;
            // What is not there any more needs no count.
            set.count(address, length, hits);
        }
        Ok(())
    }
}

/// Lets a set go on counting where another one is, as far as it has the same entries.
pub fn copy(
    (from, shape): (BorrowedFd<'_>, &MapShape),
    (to, larger): (BorrowedFd<'_>, &MapShape),
) -> io::Result<()> {
    let (keys, values) = read(from, shape)?;
    let (keys, values) = (&keys, &values);
    with(to, larger, Count { keys, values })
}

struct Check;

impl Work for Check {
    type Output = bool;

    fn run<K: Key>(self, set: PrefixSet<'_>) -> io::Result<bool> {
        Ok(set.is_sound::<K::Address>())
    }
}

/// Whether lookups find what is there. Memory that others wrote is of no use.
pub fn is_sound(map: BorrowedFd<'_>, shape: &MapShape) -> io::Result<bool> {
    with(map.as_fd(), shape, Check)
}
