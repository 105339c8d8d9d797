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
    LinuxKernel,
    bpf::{self, MapInfo},
    io,
    mapping::Memory,
    maps,
};
use crate::{
    kernel::{Error, Result},
    resource::MapKind,
    wiring,
};

const V4: &str = "dynamic_v4";
const V6: &str = "dynamic_v6";
const NEXT_HOPS: &str = "dynamic_next_hops";

/// Who finds another number than its own has to read again what is there.
const WRITERS: usize = V4_WRITERS as usize;
const PENDING: usize = V4_PENDING as usize;

/// The tables of one router, mapped.
#[derive(Debug)]
pub struct DynamicTables {
    cube: Name,
    /// Kernel ids of what is open.
    ids: [u32; 3],
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
        let kernel = LinuxKernel::new(topology.clone(), root)?;
        let open = |table: &str| {
            let pin = wiring::table(cube, table);
            let fd = kernel.open(&pin)?;
            let info: MapInfo =
                bpf::info(fd.as_fd()).map_err(|error| io("read map", &pin, &error))?;
            Ok::<_, Error>((fd, info))
        };
        let map = |table: &str| {
            let (fd, info) = open(table)?;
            let shape = maps::shape(&info).filter(|shape| shape.kind == MapKind::MappedArray);
            let shape =
                shape.ok_or_else(|| Error::Call(format!("cube/{cube}: made by another pcn")))?;
            let bytes = shape.value_size as usize * shape.max_entries as usize;
            let memory = Memory::new(&fd, bytes)
                .map_err(|error| io("map", wiring::table(cube, table), &error))?;
            Ok::<_, Error>((memory, info.id))
        };
        let (v4, v4_id) = map(V4)?;
        let (v6, v6_id) = map(V6)?;
        let (next_hops, info) = open(NEXT_HOPS)?;
        if info.value_size as usize != size_of::<Route>() || v4.as_ref().len() <= PENDING {
            return Err(Error::Call(format!("cube/{cube}: made by another pcn")));
        }
        Ok(Self {
            cube: cube.clone(),
            ids: [v4_id, v6_id, info.id],
            v4,
            v6,
            next_hops,
            next_hop_limit: info.max_entries,
        })
    }

    /// False once the router has other tables, or is gone.
    pub fn is_current(&self, root: &Path, topology: &Name) -> bool {
        let Ok(kernel) = LinuxKernel::new(topology.clone(), root) else {
            return false;
        };
        let id = |table: &str| {
            let fd = kernel.open(&wiring::table(&self.cube, table)).ok()?;
            let info: MapInfo = bpf::info(fd.as_fd()).ok()?;
            Some(info.id)
        };
        [V4, V6, NEXT_HOPS].map(id) == self.ids.map(Some)
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
        let shape = maps::shape(&info)
            .ok_or_else(|| Error::Call(format!("cube/{}: made by another pcn", self.cube)))?;
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
        io("write map", wiring::table(&self.cube, NEXT_HOPS), error)
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
