//! The record of what was applied, as a pinned array: its length and [`UNFINISHED`] in eight bytes,
//! then JSON.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use super::{bpf, call, maps, pins::Pins};
use crate::{
    digest::Digest,
    kernel::{Error, Result},
    record::Record,
    resource::{MapKind, MapShape, PinPath},
    rows::Rows,
};

/// Bytes of one entry of the array.
const CHUNK: usize = 4096;
/// Bit beside the length: an apply is under way. Setting it is one write, whatever the record's size.
const UNFINISHED: u64 = 1 << 63;

/// Where the record is pinned.
pub fn path() -> PinPath {
    PinPath::new(&["record"])
}

/// The record as it was read or written last. Each one that is written is an array of its own, in
/// which only the mark of an unfinished apply changes: what was read once is not read again.
#[derive(Debug, Default)]
pub struct LastRead {
    /// The kernel's id of the array.
    id: u32,
    record: Option<Record>,
    /// Hash of what was written and not read yet.
    written: Option<String>,
}

impl LastRead {
    /// Reads the record, if there is one.
    pub fn read(&mut self, pins: &Pins) -> Result<Option<Record>> {
        if !pins.exists(&path())? {
            return Ok(None);
        }
        let array = Array::open(pins)?;
        let record = match (&self.record, self.written.take()) {
            (Some(record), None) if self.id == array.info.id => record.clone(),
            (Some(record), Some(written)) if self.id == array.info.id => {
                // Whether it can be read is seen once: what is there must be what was written.
                let content = array.content()?;
                if hash(&content) == written {
                    record.clone()
                } else {
                    parse(pins, &content)?
                }
            }
            _ => parse(pins, &array.content()?)?,
        };
        self.id = array.info.id;
        self.record = Some(record.clone());
        Ok(Some(Record {
            unfinished: array.header()? & UNFINISHED != 0,
            ..record
        }))
    }

    /// Writes the record beside the old one, then over it.
    pub fn write(&mut self, pins: &Pins, record: &Record) -> Result<()> {
        let path = path();
        let content = serde_json::to_vec(record)
            .map_err(|error| Error::Call(format!("write record: {error}")))?;
        let written = hash(&content);
        let mark = if record.unfinished { UNFINISHED } else { 0 };
        let mut bytes = (content.len() as u64 | mark).to_le_bytes().to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(CHUNK), 0);
        let chunks: Rows = (0u32..)
            .zip(bytes.chunks(CHUNK))
            .map(|(index, chunk)| (index.to_ne_bytes(), chunk))
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
        pins.rename(&path.staged(), &path)?;
        let info = bpf::info::<bpf::MapInfo>(map.as_fd());
        *self = info.map_or_else(
            |_| Self::default(),
            |info| Self {
                id: info.id,
                record: Some(record.clone()),
                written: Some(written),
            },
        );
        Ok(())
    }
}

fn hash(content: &[u8]) -> String {
    let mut digest = Digest::new();
    digest.add(content);
    digest.hex(64)
}

/// The array of a record.
struct Array {
    map: OwnedFd,
    info: bpf::MapInfo,
    path: PathBuf,
}

impl Array {
    fn open(pins: &Pins) -> Result<Self> {
        let map = pins.open(&path())?;
        let path = pins.path(&path());
        let info = bpf::info(map.as_fd())
            .map_err(|error| Error::Call(format!("read {}: {error}", path.display())))?;
        Ok(Self { map, info, path })
    }

    fn broken(&self, why: &str) -> Error {
        Error::Call(format!("record {}: {why}", self.path.display()))
    }

    /// The length of the record, and [`UNFINISHED`].
    fn header(&self) -> Result<u64> {
        let first = bpf::Reader::of(self.map.as_fd(), &self.info)
            .value(&0u32.to_ne_bytes())
            .map_err(|error| self.broken(&error.to_string()))?;
        let length = first.as_ref().and_then(|chunk| chunk.first_chunk::<8>());
        let length = length.ok_or_else(|| self.broken("it is empty"))?;
        Ok(u64::from_le_bytes(*length))
    }

    fn content(&self) -> Result<Vec<u8>> {
        let shape = maps::shape(&self.info).filter(|shape| shape.value_size as usize == CHUNK);
        let shape = shape.ok_or_else(|| self.broken("not a map of ours"))?;
        let (_, content) = maps::read_raw(self.map.as_fd(), &shape)
            .map_err(|error| self.broken(&error.to_string()))?;
        let length = usize::try_from(self.header()? & !UNFINISHED).ok();
        let content = length.and_then(|length| content.get(8..length.checked_add(8)?));
        let content = content.ok_or_else(|| self.broken("it is cut off"))?;
        Ok(content.to_vec())
    }
}

/// A newer record may not parse: its version decides what is said about it.
fn parse(pins: &Pins, content: &[u8]) -> Result<Record> {
    serde_json::from_slice(content).map_err(|error| {
        let path = pins.path(&path());
        newer(content).unwrap_or_else(|| Error::Call(format!("record {}: {error}", path.display())))
    })
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
