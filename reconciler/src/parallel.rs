//! The same work on many items, on all CPUs.

use std::{num::NonZero, panic::resume_unwind, thread};

/// Items that one thread takes at least where each takes less than a microsecond: starting a thread takes some fifty.
pub(crate) const EACH: usize = 1024;

/// What `work` makes of each item, in the order of the items. A thread takes at least `least`.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    least: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (items.len() / least).clamp(1, cpus);
    let all = |items: &[T]| -> Vec<R> { items.iter().map(&work).collect() };
    if threads == 1 {
        return all(items);
    }
    let mut parts = items.chunks(items.len().div_ceil(threads));
    let first = parts.next().unwrap_or_default();
    thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| scope.spawn(|| all(part))).collect();
        let mut made = all(first);
        for other in others {
            made.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        made
    })
}

/// Does two things at once. The first one on a thread of its own; its panic is the caller's.
pub(crate) fn beside<A: Send, B>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B,
) -> (A, B) {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        let one = one.join().unwrap_or_else(|panic| resume_unwind(panic));
        (one, other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_or_moved() {
        for count in [0, 1, EACH - 1, 2 * EACH, 2 * EACH + 1, 9 * EACH + 7] {
            let items: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = (0..count).map(|item| 2 * item).collect();
            assert_eq!(map(&items, EACH, |item| 2 * item), doubled);
        }
    }
}
