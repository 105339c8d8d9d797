//! The data planes, embedded: built by the build script, parsed once per run.

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// The object file of a data plane, by its name in `ebpf/programs/src/bin`.
pub fn find(name: &str) -> Option<&'static [u8]> {
    OBJECTS
        .iter()
        .find(|(object, ..)| *object == name)
        .map(|(_, bytes, _)| *bytes)
}

/// A hash over an object file's content.
pub fn digest(name: &str) -> [u8; 32] {
    OBJECTS
        .iter()
        .find(|(object, ..)| *object == name)
        .map_or([0; 32], |(_, _, digest)| *digest)
}

/// The hashes of all object files.
pub fn digests() -> impl Iterator<Item = [u8; 32]> {
    OBJECTS.iter().map(|(_, _, digest)| *digest)
}

/// A short name for all object files together.
pub fn build() -> String {
    let mut all = crate::digest::Digest::new();
    for (_, _, digest) in OBJECTS {
        all.add(digest);
    }
    all.text(12)
}
