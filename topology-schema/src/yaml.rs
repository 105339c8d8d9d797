//! Back to text.

use crate::topology::Topology;

/// The canonical text of a topology: keys in their order, defaults left out. [`parse`](crate::parse) reads it back to
/// an equal value, and equal topologies give the same bytes.
#[must_use]
pub fn to_yaml(topology: &Topology) -> String {
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    // Nothing in a topology can fail to be written; should that change, the text says so and parses as nothing.
    serde_saphyr::to_string_with_options(topology, options)
        .unwrap_or_else(|error| format!("# {error}\n"))
}
