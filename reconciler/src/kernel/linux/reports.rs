//! Packets that cubes report: their ring buffers `log`.

use std::path::Path;

use topology_schema::Name;

use super::{io, open_tables::OpenTables, ring::Ring};
use crate::kernel::Result;

const RING: &str = "log";

/// Cubes of a topology that can report packets.
pub fn reporting(root: &Path, topology: &Name) -> Vec<Name> {
    let cubes = root.join(topology.as_str()).join("cubes");
    let entries = std::fs::read_dir(cubes).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().join(RING).exists())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The ring buffer of one cube. Whoever reads takes the records out.
pub struct ReportLog {
    tables: OpenTables<1>,
    ring: Ring,
}

impl ReportLog {
    /// Opens that of a cube.
    ///
    /// # Errors
    ///
    /// It is not there, or not ours to open.
    pub fn open(root: &Path, topology: &Name, cube: &Name) -> Result<Self> {
        let (tables, [(ring, info)]) = OpenTables::open(root, topology, cube, [RING])?;
        let ring = Ring::new(ring, info.max_entries as usize)
            .map_err(|error| io("map", tables.pin(RING), &error))?;
        Ok(Self { tables, ring })
    }

    /// False once the cube has another one, or is gone.
    pub fn is_current(&self) -> bool {
        self.tables.is_current()
    }

    /// Takes out what is there.
    pub fn read(&mut self, each: impl FnMut(&[u8])) {
        self.ring.read(each);
    }
}
