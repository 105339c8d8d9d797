//! Waiting for a condition, with a bound: the only way in which tests let time pass.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything on this machine may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(1);

/// The first answer of `look`; a panic that says `what` was waited for if there is none in time.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited {PATIENCE:?} for {what}"))
}

/// The first answer of `look`, if there is one in time.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Some(found) => return Some(found),
            None if Instant::now() >= deadline => return None,
            None => thread::sleep(PAUSE),
        }
    }
}
