//! The tables of a cube, as its driver reads them.

use std::{cell::RefCell, sync::atomic::AtomicU64};

use topology_schema::Name;

use crate::{
    cube::Tables,
    kernel::{self, Kernel},
    resource::PinPath,
};

/// The tables of one cube. What cannot be read is shown as empty; the cube's state says why.
pub(super) struct CubeTables<'a, 'k> {
    pub(super) kernel: RefCell<&'a mut (dyn Kernel + 'k)>,
    pub(super) cube: &'a Name,
}

impl Tables for CubeTables<'_, '_> {
    fn entries(&self, table: &str) -> Vec<kernel::Entry> {
        let path = PinPath::new(&["cubes", self.cube.as_str(), table]);
        self.kernel
            .borrow_mut()
            .read(&path)
            .unwrap_or_else(|error| {
                tracing::debug!(%path, %error, "table not read");
                Vec::new()
            })
    }

    fn memory(&self, table: &str) -> Box<dyn AsRef<[AtomicU64]>> {
        let path = PinPath::new(&["cubes", self.cube.as_str(), table]);
        let memory = self.kernel.borrow_mut().memory(&path).ok();
        memory.unwrap_or_else(|| Box::new(Vec::new()))
    }

    fn now(&self) -> u64 {
        self.kernel.borrow().now()
    }
}
