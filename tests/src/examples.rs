//! The files in `examples/topologies`.

/// Examples that have each kind of cube at least once.
pub const EACH_KIND: [&str; 8] = [
    "hello",
    "hello-transparent",
    "forwarder",
    "bridge",
    "router",
    "nat",
    "firewall",
    "ddos-mitigator",
];

/// Where all of them are.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/topologies");

/// Where the example of this name is.
pub fn path(name: &str) -> String {
    format!("{FOLDER}/{name}.yaml")
}

/// The text of an example.
pub fn text(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
