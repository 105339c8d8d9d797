//! The record of what was applied, as a pinned array: its length and [`UNFINISHED`] in eight bytes,
//! then JSON.

use std::{collections::BTreeMap, os::fd::AsFd};

use super::{bpf, call, maps, pins::Pins};
use crate::{
    kernel::{Error, Result},
    record::Record,
    resource::{MapKind, MapShape, PinPath},
};

/// Bytes of one entry of the array.
const CHUNK: usize = 4096;
/// Bit beside the length: an apply is under way. Setting it is one write, whatever the record's size.
const UNFINISHED: u64 = 1 << 63;

/// Where the record is pinned.
pub fn path() -> PinPath {
    PinPath::new(&["record"])
}

/// Reads the record, if there is one.
pub fn read(pins: &Pins) -> Result<Option<Record>> {
    if !pins.exists(&path())? {
        return Ok(None);
    }
    let map = pins.open(&path())?;
    let path = pins.path(&path());
    let info: bpf::MapInfo = bpf::info(map.as_fd())
        .map_err(|error| Error::Call(format!("read {}: {error}", path.display())))?;
    let broken = |why: &str| Error::Call(format!("record {}: {why}", path.display()));
    let shape = maps::shape(&info).ok_or_else(|| broken("not a map of ours"))?;
    let entries = maps::read(map.as_fd(), &shape).map_err(|error| broken(&error.to_string()))?;
    let bytes: Vec<u8> = entries
        .into_iter()
        .flat_map(|(_, values)| values.into_iter().flatten())
        .collect();
    let (length, content) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| broken("it is empty"))?;
    let header = u64::from_le_bytes(*length);
    let content = usize::try_from(header & !UNFINISHED)
        .ok()
        .and_then(|length| content.get(..length))
        .ok_or_else(|| broken("it is cut off"))?;
    // A newer record may not parse: its version decides what is said about it.
    match serde_json::from_slice::<Record>(content) {
        Ok(record) => Ok(Some(Record {
            unfinished: header & UNFINISHED != 0,
            ..record
        })),
        Err(error) => Err(newer(content).unwrap_or_else(|| broken(&error.to_string()))),
    }
}

/// Notes that an apply is under way, or that none is.
pub fn mark(pins: &Pins, unfinished: bool) -> Result<()> {
    let map = pins.open(&path())?;
    let failed = |error: std::io::Error| Error::Call(format!("mark record: {error}"));
    let first = 0u32.to_ne_bytes();
    let chunk = bpf::lookup(map.as_fd(), &first, CHUNK).map_err(failed)?;
    let mut chunk = chunk.unwrap_or_default();
    let Some(header) = chunk.first_chunk_mut::<8>() else {
        return Err(Error::Call("mark record: it is empty".to_owned()));
    };
    let length = u64::from_le_bytes(*header) & !UNFINISHED;
    *header = (length | if unfinished { UNFINISHED } else { 0 }).to_le_bytes();
    bpf::update(map.as_fd(), &first, &chunk).map_err(failed)
}

/// Writes the record beside the old one, then over it.
pub fn write(pins: &Pins, record: &Record) -> Result<()> {
    let path = path();
    let content = serde_json::to_vec(record)
        .map_err(|error| Error::Call(format!("write record: {error}")))?;
    let mark = if record.unfinished { UNFINISHED } else { 0 };
    let mut bytes = (content.len() as u64 | mark).to_le_bytes().to_vec();
    bytes.extend(content);
    let chunks: BTreeMap<Vec<u8>, Vec<u8>> = (0u32..)
        .zip(bytes.chunks(CHUNK))
        .map(|(index, chunk)| {
            let mut chunk = chunk.to_vec();
            chunk.resize(CHUNK, 0);
            (index.to_ne_bytes().to_vec(), chunk)
        })
        .collect();
    let shape = MapShape {
        kind: MapKind::Array,
        key_size: 4,
        value_size: CHUNK as u32,
        max_entries: chunks.len() as u32,
    };
    let map = maps::create("record", shape).map_err(call)?;
    maps::put(map.as_fd(), &shape, &chunks)
        .map_err(|error| Error::Call(format!("fill record: {error}")))?;
    pins.remove(&path.staged())?;
    pins.pin(map.as_fd(), &path.staged())?;
    pins.rename(&path.staged(), &path)
}

/// The error for a record whose layout this version does not know.
fn newer(content: &[u8]) -> Option<Error> {
    let value: serde_json::Value = serde_json::from_slice(content).ok()?;
    let layout = u32::try_from(value["layoutVersion"].as_u64()?).ok()?;
    (layout > ebpf_abi::LAYOUT_VERSION).then(|| Error::Newer {
        topology: value["topology"]["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        version: value["pcnVersion"].as_str().unwrap_or_default().to_owned(),
        layout,
    })
}
