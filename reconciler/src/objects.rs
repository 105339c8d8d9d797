//! The data planes, embedded: built by the build script, parsed once per run.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// The object file of a data plane, by its name in `ebpf/programs/src/bin`.
pub fn find(name: &str) -> Option<&'static [u8]> {
    OBJECTS
        .iter()
        .find(|(object, _)| *object == name)
        .map(|(_, bytes)| *bytes)
}

/// A hash over an object file's content.
pub fn digest(name: &str) -> [u8; 32] {
    static DIGESTS: LazyLock<Vec<(&str, [u8; 32])>> = LazyLock::new(|| {
        OBJECTS
            .iter()
            .map(|(name, bytes)| (*name, Sha256::digest(bytes).into()))
            .collect()
    });
    DIGESTS
        .iter()
        .find(|(object, _)| *object == name)
        .map_or([0; 32], |(_, digest)| *digest)
}

/// A short name for all object files together.
pub fn build() -> String {
    let mut all = crate::digest::Digest::new();
    for (name, _) in OBJECTS {
        all.add(&digest(name));
    }
    all.text(12)
}
