//! Spanning tree: RSTP, and STP with those who speak nothing else (IEEE 802.1D-2004, clause 17).
//!
//! Pure: no clock, no kernel, no cube. [`instance`] is the protocol on one bridge in one
//! instance; [`bridge`] is a bridge with all its instances and what its ports carry.

pub mod bpdu;
pub mod bridge;
pub mod frame;
pub mod instance;
mod machine;
pub mod memory;
pub mod port;
#[cfg(test)]
mod tests;
pub mod vector;
