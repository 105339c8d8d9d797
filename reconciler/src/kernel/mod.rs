//! Everything that reaches the kernel.

pub mod linux;
