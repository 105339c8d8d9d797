//! The real kernel.

pub mod bpf;
pub mod netlink;
pub mod netns;
pub mod object;
