//! The clock of the data planes, for tables that hold times.

use std::{thread, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// A second in the unit of the tables.
pub const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC_COARSE`.
pub fn now() -> u64 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("Linux has this clock"))
        .as_nanos() as u64
}

/// Nanoseconds of `CLOCK_MONOTONIC`: the same clock, exactly.
pub fn precise() -> u64 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock"))
        .as_nanos() as u64
}

/// The time `nanoseconds` ago. The clock starts with the machine; on one that has just started
/// this waits until there is such a time.
pub fn ago(nanoseconds: u64) -> u64 {
    loop {
        match now().checked_sub(nanoseconds) {
            Some(time) if time > 0 => return time,
            _ => thread::sleep(Duration::from_millis(100)),
        }
    }
}
