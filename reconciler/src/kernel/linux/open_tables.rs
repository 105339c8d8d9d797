//! Tables of one cube that are held open beside plans, and whether they are still the cube's.

use std::{os::fd::OwnedFd, path::Path};

use topology_schema::Name;

use super::{LinuxKernel, bpf::MapInfo};
use crate::{
    kernel::{Error, Result},
    resource::PinPath,
    wiring,
};

/// The names of the tables, and what they were when they were opened.
pub struct OpenTables<const N: usize> {
    pub(super) kernel: LinuxKernel,
    pub(super) cube: Name,
    names: [&'static str; N],
    /// Kernel ids.
    ids: [u32; N],
}

impl<const N: usize> OpenTables<N> {
    /// Opens tables of a cube.
    ///
    /// # Errors
    ///
    /// They are not there, or not ours to open.
    pub(super) fn open(
        root: &Path,
        topology: &Name,
        cube: &Name,
        names: [&'static str; N],
    ) -> Result<(Self, [(OwnedFd, MapInfo); N])> {
        let kernel = LinuxKernel::new(topology.clone(), root)?;
        let mut opened = Vec::with_capacity(N);
        for name in names {
            opened.push(kernel.open_with_info(&wiring::table(cube, name))?);
        }
        let Ok(opened) = <[_; N]>::try_from(opened) else {
            return Err(foreign(cube));
        };
        let ids = opened.each_ref().map(|(_, info)| info.id);
        let cube = cube.clone();
        let tables = Self {
            kernel,
            cube,
            names,
            ids,
        };
        Ok((tables, opened))
    }

    /// False once the cube has other tables, or is gone.
    pub(super) fn is_current(&self) -> bool {
        let id = |name| self.kernel.map_id(&self.pin(name));
        self.names.map(id) == self.ids.map(Some)
    }

    /// Where a table is pinned.
    pub(super) fn pin(&self, name: &str) -> PinPath {
        wiring::table(&self.cube, name)
    }

    /// What is said of tables that are laid out in another way.
    pub(super) fn foreign(&self) -> Error {
        foreign(&self.cube)
    }
}

fn foreign(cube: &Name) -> Error {
    Error::Call(format!("cube/{cube}: made by another pcn"))
}
