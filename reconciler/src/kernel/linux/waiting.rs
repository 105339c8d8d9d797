//! Packets that a cube gives away to wait, and the way back into it.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use bytemuck::{bytes_of, pod_read_unaligned, try_pod_read_unaligned};
use ebpf_abi::router::{Advertisement, Neighbor, NeighborKey, Waiting};
use topology_schema::Name;

use super::{bpf, doors::Doors, io, open_tables::OpenTables, ring::Ring};
use crate::kernel::{Kernel as _, Result};

/// Cubes of a topology that give packets away.
pub fn rooms(root: &Path, topology: &Name) -> Vec<Name> {
    let cubes = root.join(topology.as_str()).join("cubes");
    let entries = std::fs::read_dir(cubes).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().join(RING).exists())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

const RING: &str = "waiting";
const LISTENING: &str = "listening";
const NEIGHBORS: &str = "neighbors";
const ADVERTISEMENTS: &str = "advertisements";

/// Where the packets of one cube wait.
pub struct WaitingRoom {
    tables: OpenTables<3>,
    ring: Ring,
    listening: OwnedFd,
    neighbors: OwnedFd,
    doors: Doors,
}

impl WaitingRoom {
    /// Opens the tables of a cube.
    ///
    /// # Errors
    ///
    /// They are not there, or not ours to open.
    pub fn open(root: &Path, topology: &Name, cube: &Name) -> Result<Self> {
        let names = [RING, LISTENING, NEIGHBORS];
        let (tables, opened) = OpenTables::open(root, topology, cube, names)?;
        let [
            (ring, ring_info),
            (listening, _),
            (neighbors, neighbors_info),
        ] = opened;
        let expected = (size_of::<NeighborKey>(), size_of::<Neighbor>());
        let found = (neighbors_info.key_size, neighbors_info.value_size);
        if (found.0 as usize, found.1 as usize) != expected {
            return Err(tables.foreign());
        }
        let ring = Ring::new(ring, ring_info.max_entries as usize)
            .map_err(|error| io("map", tables.pin(RING), &error))?;
        Ok(Self {
            tables,
            ring,
            listening,
            neighbors,
            doors: Doors::default(),
        })
    }

    /// False once the cube has other tables, or is gone.
    pub fn is_current(&self) -> bool {
        self.tables.is_current()
    }

    /// Nanoseconds of the data planes' clock.
    pub fn now(&self) -> u64 {
        self.tables.kernel.now()
    }

    /// Asks the cube to give packets away until then, in nanoseconds of the data planes' clock.
    pub fn listen(&self, until: u64) -> Result<()> {
        bpf::update(self.listening.as_fd(), bytes_of(&0u32), bytes_of(&until))
            .map_err(|error| io("write", self.tables.pin(LISTENING), &error))
    }

    /// Takes out what the cube has put there.
    pub fn read(&mut self, mut each: impl FnMut(Waiting, &[u8])) {
        self.ring.read(|record| {
            let (header, rest) = record.split_at(record.len().min(size_of::<Waiting>()));
            if let Ok(header) = try_pod_read_unaligned::<Waiting>(header)
                && let Some(frame) = rest.get(..header.length as usize)
            {
                each(header, frame);
            }
        });
    }

    /// What the cube knows of a neighbour.
    pub fn neighbor(&self, key: &NeighborKey) -> Option<Neighbor> {
        let found = bpf::lookup(self.neighbors.as_fd(), bytes_of(key), size_of::<Neighbor>());
        found.ok().flatten().map(|value| pod_read_unaligned(&value))
    }

    /// Lets a packet come in at a port for the second time, past the port's stack. What becomes
    /// of it has happened when this returns.
    ///
    /// # Errors
    ///
    /// There is no way in. The packet is lost.
    pub fn give_back(&mut self, port: u32, frame: &[u8]) -> Result<()> {
        let OpenTables { kernel, cube, .. } = &mut self.tables;
        self.doors.arrive(kernel, cube, port, frame)
    }

    /// The router advertisements that the cube is to send, by port.
    pub fn advertisements(&mut self) -> Vec<(u32, Advertisement)> {
        let table = self.tables.pin(ADVERTISEMENTS);
        let entries = self.tables.kernel.read(&table).unwrap_or_default();
        let entries = entries.into_iter().filter_map(|(key, values)| {
            let port = try_pod_read_unaligned(&key).ok()?;
            let value = try_pod_read_unaligned(values.first()?).ok()?;
            Some((port, value))
        });
        entries.collect()
    }

    /// Sends a frame in the cube's name.
    pub fn send(&mut self, port: u32, frame: &[u8]) -> Result<()> {
        let OpenTables { kernel, cube, .. } = &mut self.tables;
        kernel.send_frame(cube, port, frame)
    }

    /// Closes ways that were not used lately.
    pub fn close_unused(&mut self) {
        self.doors.close_unused();
    }
}

impl AsFd for WaitingRoom {
    /// Readable when there is something to read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
