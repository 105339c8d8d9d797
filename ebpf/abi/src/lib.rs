//! What kernel and user space must lay out alike: keys, values, constants, slots.
//!
//! Every type here is plain old data with explicit padding. Integers are in the byte order of
//! the machine unless their type says otherwise ([`address`]).
//!
//! The packet arithmetic in [`checksum`] is here too, because this crate also builds for the
//! host, where its property tests run.

#![cfg_attr(not(test), no_std)]
#![deny(missing_docs)]

pub mod address;
pub mod bench;
pub mod bridge;
pub mod chain;
pub mod checksum;
pub mod classifier;
pub mod classify;
pub mod counters;
pub mod ddos_mitigator;
pub mod entry;
pub mod fib;
pub mod firewall;
pub mod flow;
pub mod forwarder;
pub mod hello;
pub mod hello_transparent;
pub mod lookup;
pub mod multipath;
pub mod nat;
pub mod nat64;
pub mod port;
pub mod prefix_set;
pub mod router;
pub mod stp;
pub mod tcp;
pub mod transparent;
pub mod window;

/// Version of everything in this crate. A pinned object with a newer one is refused, one with
/// an older one is replaced.
pub const LAYOUT_VERSION: u32 = 4;

/// Fails to compile when a type shared with the kernel changes its size by accident.
macro_rules! assert_size {
    ($type:ty, $size:expr) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
    };
}
pub(crate) use assert_size;
