//! Maps that are read with wrong sizes: an error, and no buffer that the kernel writes beyond.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use integration_tests::require;
use reconciler::kernel::linux::bpf::{self, MapAttributes, MapType};

const FIRST: [u8; 4] = [0; 4];

/// An array with one entry.
fn array(map_type: MapType, value_size: u32) -> OwnedFd {
    let attributes = MapAttributes {
        map_type: map_type as u32,
        key_size: 4,
        value_size,
        max_entries: 1,
        flags: 0,
    };
    bpf::create_map("sizes", attributes).expect("root can make maps")
}

fn read(map: &OwnedFd, key: &[u8], size: usize) -> io::Result<Option<Vec<u8>>> {
    bpf::lookup(map.as_fd(), key, size)
}

#[track_caller]
fn refused(result: io::Result<Option<Vec<u8>>>, why: &str) {
    let error = result.expect_err("sizes differ");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(error.to_string(), why);
}

#[test]
fn a_value_has_the_size_that_the_kernel_says() {
    if !require::root() {
        return;
    }
    let map = array(MapType::Array, 64);
    bpf::update(map.as_fd(), &FIRST, &[7; 64]).expect("it is there");
    assert_eq!(
        read(&map, &FIRST, 64).expect("sizes agree"),
        Some(vec![7; 64])
    );
    assert_eq!(read(&map, &[1, 0, 0, 0], 64).expect("sizes agree"), None);
    refused(
        read(&map, &FIRST, 8),
        "values of the map have 64 bytes, not 8",
    );
    refused(
        read(&map, &FIRST, 65),
        "values of the map have 64 bytes, not 65",
    );
    refused(
        read(&map, &[0; 2], 64),
        "keys of the map have 4 bytes, not 2",
    );
}

#[test]
fn a_value_per_cpu_has_a_part_for_each_in_steps_of_eight() {
    if !require::root() {
        return;
    }
    let map = array(MapType::PerCpuArray, 12);
    let parts: Vec<u8> = (0..bpf::possible_cpus())
        .flat_map(|cpu| [[cpu as u8 + 1; 12].as_slice(), &[0; 4]].concat())
        .collect();
    bpf::update(map.as_fd(), &FIRST, &parts).expect("a part for each CPU");
    let value = read(&map, &FIRST, parts.len()).expect("sizes agree");
    assert_eq!(value, Some(parts));
    let size = 16 * bpf::possible_cpus();
    for wrong in [12, size + 16] {
        let why = format!("values of the map have {size} bytes, not {wrong}");
        refused(read(&map, &FIRST, wrong), &why);
    }
}

#[test]
fn a_map_is_walked_with_its_own_keys() {
    if !require::root() {
        return;
    }
    let map = array(MapType::Array, 8);
    let next = |key: Option<&[u8]>, size| bpf::next_key(map.as_fd(), key, size);
    assert_eq!(next(None, 4).expect("sizes agree"), Some(FIRST.to_vec()));
    assert_eq!(next(Some(&FIRST), 4).expect("sizes agree"), None);
    refused(next(None, 2), "keys of the map have 4 bytes, not 2");
    refused(
        next(Some(&[0; 8]), 4),
        "keys of the map have 4 bytes, not 8",
    );
}
