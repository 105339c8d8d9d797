//! How functions that are programs of their own (BPF functions) answer: by a number, as the verifier does not follow an enum from
//! one function to another.
//!
//! The way back is each cube's own: it names the reasons that its functions give, because each one costs the verifier a branch.

use ebpf_abi::counters::DropReason;

use crate::Result;

/// What such a function says. Those that are not negative are of the cube, but for the two below.
pub type Answer = i64;

/// The packet passes as it is.
pub const PASS: Answer = 0;
/// What was to be done is done.
pub const DONE: Answer = 1;

/// The answer that stands for a reason to drop the packet.
#[inline(always)]
pub const fn dropped(reason: DropReason) -> Answer {
    -1 - (reason as Answer)
}

/// A result as an answer.
#[inline(always)]
pub fn answer(result: Result<Answer>) -> Answer {
    match result {
        Ok(answer) => answer,
        Err(reason) => dropped(reason),
    }
}
