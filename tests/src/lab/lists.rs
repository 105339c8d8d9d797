//! Lists of a topology, read and changed behind its back.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, OwnedFd},
};

use reconciler::{
    kernel::linux::{
        bpf::{self, MapInfo},
        maps,
    },
    resource::MapShape,
    rows::Rows,
};

use super::Lab;

impl Lab {
    /// The keys of a table, by the path of its pin.
    pub fn keys(&self, path: &str) -> Vec<Vec<u8>> {
        let (map, shape) = self.table(path);
        let entries = maps::read(map.as_fd(), &shape).expect("root can read");
        entries.into_iter().map(|(key, _)| key).collect()
    }

    /// Adds keys to a table in which only keys are `pcn`'s.
    pub fn list(&self, path: &str, keys: &[&[u8]]) {
        let (map, shape) = self.table(path);
        let zeros = vec![0; shape.value_size as usize];
        let rows: Rows = keys.iter().map(|key| (key, &zeros)).collect();
        maps::put(map.as_fd(), &shape, &rows).expect("root can write");
    }

    /// Takes keys out of a table.
    pub fn unlist(&self, path: &str, keys: &[Vec<u8>]) {
        let (map, shape) = self.table(path);
        let keys: BTreeSet<_> = keys.iter().cloned().collect();
        maps::delete(map.as_fd(), &shape, &keys).expect("root can write");
    }

    fn table(&self, path: &str) -> (OwnedFd, MapShape) {
        let map = bpf::open(&self.pin(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let info: MapInfo = bpf::info(map.as_fd()).expect("root can look");
        let shape = maps::shape(&info).expect("a table of pcn");
        (map, shape)
    }
}
