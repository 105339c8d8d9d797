//! The tables of a router for routes from elsewhere.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytemuck::{bytes_of, try_pod_read_unaligned};
use ebpf_abi::{
    fib::{V4_PENDING, V4_WRITERS},
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

/// Who finds another number than its own has to read again what is there.
const WRITERS: usize = V4_WRITERS as usize;
const PENDING: usize = V4_PENDING as usize;

/// The tables of one router, mapped.
pub struct DynamicTables {
    tables: OpenTables<3>,
    v4: Memory,
    v6: Memory,
    next_hops: OwnedFd,
    next_hop_limit: u32,
}

impl DynamicTables {
    /// Opens the tables of a router.
    ///
    /// # Errors
    ///
    /// They are not there, or other ones than this `pcn` makes.
    pub fn open(root: &Path, topology: &Name, cube: &Name) -> Result<Self> {
        let names = [V4, V6, NEXT_HOPS];
        let (tables, opened) = OpenTables::open(root, topology, cube, names)?;
        let [v4, v6, (next_hops, info)] = opened;
        let map = |name: &str, (fd, info): (OwnedFd, MapInfo)| {
            let shape = maps::shape(&info).filter(|shape| shape.kind == MapKind::MappedArray);
            let shape = shape.ok_or_else(|| tables.foreign())?;
            let bytes = shape.value_size as usize * shape.max_entries as usize;
            Memory::new(&fd, bytes).map_err(|error| io("map", tables.pin(name), &error))
        };
        let (v4, v6) = (map(V4, v4)?, map(V6, v6)?);
        if info.value_size as usize != size_of::<Route>() || v4.as_ref().len() <= PENDING {
            return Err(tables.foreign());
        }
        Ok(Self {
            tables,
            v4,
            v6,
            next_hops,
            next_hop_limit: info.max_entries,
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
        let info: MapInfo =
            bpf::info(self.next_hops.as_fd()).map_err(|error| self.failed(&error))?;
        let shape = maps::shape(&info).ok_or_else(|| self.tables.foreign())?;
        let entries =
            maps::read(self.next_hops.as_fd(), &shape).map_err(|error| self.failed(&error))?;
        let routes = entries.into_iter().filter_map(|(key, values)| {
            let number = u32::from_ne_bytes(key.try_into().ok()?);
            let route = try_pod_read_unaligned::<Route>(values.first()?).ok()?;
            Some((number, route))
        });
        Ok(routes.filter(|(_, route)| route.kind != 0).collect())
    }

    /// One more than the highest number of a next hop.
    pub fn next_hop_limit(&self) -> u32 {
        self.next_hop_limit
    }

    /// Writes a next hop.
    pub fn write_next_hop(&self, number: u32, route: &Route) -> Result<()> {
        bpf::update(self.next_hops.as_fd(), bytes_of(&number), bytes_of(route))
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        io("write map", self.tables.pin(NEXT_HOPS), error)
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
