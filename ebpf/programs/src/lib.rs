//! The frame every data plane stands in.
//!
//! A program is a function over a [`Packet`]; the two entry points, TC and XDP, are the same
//! function over [`Tc`](tc::Tc) and [`Xdp`](xdp::Xdp). In the order of a packet's way:
//!
//! 1. `bin/entry.rs` runs on the interface, notes the port and jumps to the first program.
//! 2. [`transparent`] programs let the packet pass, change it or drop it.
//! 3. A [`standard`] cube decides on a port; [`standard::emit`] sends the packet there.
//!
//! Nothing here panics: indexing is by maps, arithmetic wraps, headers are read by value
//! through one bounds-checked [`Packet::load`].

#![no_std]
#![feature(asm_experimental_arch)]

pub mod answer;
pub mod atomic;
pub mod classifier;
pub mod clock;
pub mod constant;
pub mod counters;
pub mod fib;
pub mod flow;
pub mod icmp;
pub mod lpm;
pub mod offload;
pub mod packet;
pub mod prefix_set;
pub mod ring;
pub mod standard;
pub mod tc;
pub mod transparent;
pub mod wire;
pub mod xdp;

pub use packet::{Packet, Result};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no code path leads here; if one did, the verifier would refuse the program,
    // because this is an infinite loop to it.
    loop {}
}

/// The licence the kernel asks for before it lends helpers such as `bpf_ktime_get_coarse_ns`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
