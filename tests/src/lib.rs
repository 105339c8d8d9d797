//! What the test tiers that need a kernel share.

pub mod capture;
pub mod clock;
pub mod cube;
pub mod packet;
pub mod private_net;
pub mod require;
pub mod table;
