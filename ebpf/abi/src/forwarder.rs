//! Tables of the forwarder.

/// Entry of the table `actions`, indexed by the port a packet comes in at: drop.
pub const ACTION_DROP: u32 = 0;

/// Entry of the table `actions`: send to `port`.
pub const fn action_forward(port: u32) -> u32 {
    port + 1
}
