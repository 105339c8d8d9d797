//! The tables of a router for routes from elsewhere.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytemuck::{Pod, bytes_of, try_pod_read_unaligned};
use ebpf_abi::{
    fib::{V4_PENDING, V4_WRITERS},
    multipath::Group,
    router::Route,
};
use topology_schema::Name;

use super::{
    bpf::{self, MapInfo},
    io,
    mapping::Memory,
    maps,
    open_tables::OpenTables,
};
use crate::{
    kernel::{Error, Result},
    resource::MapKind,
};

const V4: &str = "dynamic_v4";
const V6: &str = "dynamic_v6";
const NEXT_HOPS: &str = "dynamic_next_hops";
const GROUPS: &str = "dynamic_groups";

/// Who finds another number than its own has to read again what is there.
const WRITERS: usize = V4_WRITERS as usize;
const PENDING: usize = V4_PENDING as usize;

/// The tables of one router, mapped.
pub struct DynamicTables {
    tables: OpenTables<4>,
    v4: Memory,
    v6: Memory,
    next_hops: OwnedFd,
    next_hop_limit: u32,
    groups: OwnedFd,
}

impl DynamicTables {
    /// Opens the tables of a router.
    ///
    /// # Errors
    ///
    /// They are not there, or other ones than this `pcn` makes.
    pub fn open(root: &Path, topology: &Name, cube: &Name) -> Result<Self> {
        let names = [V4, V6, NEXT_HOPS, GROUPS];
        let (tables, opened) = OpenTables::open(root, topology, cube, names)?;
        let [v4, v6, (next_hops, info), (groups, groups_info)] = opened;
        let map = |name: &str, (fd, info): (OwnedFd, MapInfo)| {
            let shape = maps::shape(&info).filter(|shape| shape.kind == MapKind::MappedArray);
            let shape = shape.ok_or_else(|| tables.foreign())?;
            let bytes = shape.value_size as usize * shape.max_entries as usize;
            Memory::new(&fd, bytes).map_err(|error| io("map", tables.pin(name), &error))
        };
        let (v4, v6) = (map(V4, v4)?, map(V6, v6)?);
        if info.value_size as usize != size_of::<Route>()
            || groups_info.value_size as usize != size_of::<Group>()
            || v4.as_ref().len() <= PENDING
        {
            return Err(tables.foreign());
        }
        Ok(Self {
            tables,
            v4,
            v6,
            next_hops,
            next_hop_limit: info.max_entries,
            groups,
        })
    }

    /// False once the router has other tables, or is gone.
    pub fn is_current(&self) -> bool {
        self.tables.is_current()
    }

    /// The memory of the IPv4 table.
    pub fn v4(&self) -> &[AtomicU64] {
        self.v4.as_ref()
    }

    /// The memory of the IPv6 table.
    pub fn v6(&self) -> &[AtomicU64] {
        self.v6.as_ref()
    }

    /// Next hops that are in use, by number.
    pub fn next_hops(&self) -> Result<Vec<(u32, Route)>> {
        let mut routes = self.numbered::<Route>(&self.next_hops, NEXT_HOPS)?;
        routes.retain(|(_, route)| route.kind != 0);
        Ok(routes)
    }

    /// What groups there are, by number.
    pub fn groups(&self) -> Result<BTreeMap<u32, Group>> {
        let groups = self.numbered::<Group>(&self.groups, GROUPS)?;
        Ok(groups.into_iter().collect())
    }

    fn numbered<T: Pod>(&self, fd: &OwnedFd, table: &str) -> Result<Vec<(u32, T)>> {
        let failed = |error: &std::io::Error| io("read map", self.tables.pin(table), error);
        let info: MapInfo = bpf::info(fd.as_fd()).map_err(|error| failed(&error))?;
        let shape = maps::shape(&info).ok_or_else(|| self.tables.foreign())?;
        let entries = maps::read(fd.as_fd(), &shape).map_err(|error| failed(&error))?;
        let values = entries.into_iter().filter_map(|(key, values)| {
            let number = u32::from_ne_bytes(key.try_into().ok()?);
            let value = try_pod_read_unaligned::<T>(values.first()?).ok()?;
            Some((number, value))
        });
        Ok(values.collect())
    }

    /// One more than the highest number of a next hop.
    pub fn next_hop_limit(&self) -> u32 {
        self.next_hop_limit
    }

    /// Writes a next hop.
    pub fn write_next_hop(&self, number: u32, route: &Route) -> Result<()> {
        bpf::update(self.next_hops.as_fd(), bytes_of(&number), bytes_of(route))
            .map_err(|error| self.not_written(NEXT_HOPS, &error))
    }

    /// Writes a group.
    pub fn write_group(&self, number: u32, group: &Group) -> Result<()> {
        bpf::update(self.groups.as_fd(), bytes_of(&number), bytes_of(group))
            .map_err(|error| self.not_written(GROUPS, &error))
    }

    /// Deletes a group.
    pub fn delete_group(&self, number: u32) -> Result<()> {
        bpf::delete(self.groups.as_fd(), bytes_of(&number))
            .map_err(|error| self.not_written(GROUPS, &error))
    }

    fn not_written(&self, table: &str, error: &std::io::Error) -> Error {
        io("write map", self.tables.pin(table), error)
    }

    /// Waits until no lookup that runs now is under way any more.
    pub fn wait_for_lookups(&self) -> Result<()> {
        super::drain()
    }

    /// Tells other writers that what they know is old. The number that says so.
    pub fn begin_writing(&self) -> u64 {
        self.v4()[WRITERS].fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of who wrote last.
    pub fn writer(&self) -> u64 {
        self.v4()[WRITERS].load(Ordering::Acquire)
    }

    /// Notes how many routes cannot be used, for whoever shows the tables.
    pub fn say_pending(&self, count: usize) {
        self.v4()[PENDING].store(count as u64, Ordering::Release);
    }
}
