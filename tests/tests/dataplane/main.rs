//! Packet tables: one loaded program at a time, packet in and packet out, on TC and on XDP.
//!
//! See `tests/README.md` for the rules of this tier.

mod bridge;
mod bridge_flood;
mod bridge_model;
mod bridge_multicast;
mod bridge_storm;
mod bridge_stp;
mod bridge_vlan;
mod classifier;
mod ddos_mitigator;
mod entry;
mod firewall;
mod flow;
mod forwarder;
mod hello;
mod hello_transparent;
mod nat;
mod random;
mod router;
#[path = "../../../reconciler/tests/support/rules.rs"]
mod rules;
