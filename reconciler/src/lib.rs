//! Reconciler.
pub mod kernel;
/// Objects
pub mod objects { include!(concat!(env!("OUT_DIR"), "/objects.rs")); 
/// Find
pub fn find(name: &str) -> Option<&'static [u8]> { OBJECTS.iter().find(|(n, _)| *n == name).map(|(_, b)| *b) }
}
