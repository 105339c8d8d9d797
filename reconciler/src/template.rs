//! Content of maps and programs in which interface indices are still to be filled in.

use topology_schema::InterfaceName;

/// Bytes in which interface indices are still to be filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The bytes, zero where an index goes.
    pub bytes: Vec<u8>,
    /// Offsets of indices (`u32`, the machine's byte order) and whose they are.
    pub ifindexes: Vec<(usize, InterfaceName)>,
}

impl Template {
    /// Bytes without indices.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            ifindexes: Vec::new(),
        }
    }

    /// The bytes, or `None` while one of the interfaces does not exist.
    pub fn resolve(&self, ifindex: impl Fn(&InterfaceName) -> Option<u32>) -> Option<Vec<u8>> {
        let mut bytes = self.bytes.clone();
        for (offset, interface) in &self.ifindexes {
            bytes[*offset..*offset + 4].copy_from_slice(&ifindex(interface)?.to_ne_bytes());
        }
        Some(bytes)
    }

    /// True if these are the bytes.
    pub fn is(&self, bytes: &[u8], ifindex: impl Fn(&InterfaceName) -> Option<u32>) -> bool {
        if self.ifindexes.is_empty() {
            return self.bytes == bytes;
        }
        self.resolve(ifindex).is_some_and(|own| own == bytes)
    }
}
