//! What the test tiers that need a kernel share.

pub mod capture;
pub mod clock;
pub mod command;
pub mod cube;
pub mod examples;
pub mod lab;
pub mod openmetrics;
pub mod packet;
pub mod private_net;
pub mod require;
pub mod stream;
pub mod table;
mod tags;
pub mod test_run;
pub mod traffic;
pub mod wait;
pub mod wire;
