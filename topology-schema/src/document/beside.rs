//! The parser on a thread of its own: finding the events of a long text takes longer than making the tree of them.

use std::sync::mpsc::sync_channel;
use std::thread;

use granit_parser::{Event, ScanError, Span};

/// Bytes from which a text is long enough for that.
const LONG: usize = 128 << 10;
/// Events that are handed over at once.
const BATCH: usize = 1024;
/// Batches that may wait.
const BATCHES: usize = 8;

/// True for a text that is worth a second thread.
pub(super) fn is_long(text: &str) -> bool {
    text.len() >= LONG
}

/// What one item of the parser is.
pub(super) type Step<'a> = Result<(Event<'a>, Span), ScanError>;

/// Takes the events of a long text on this thread while another one finds them.
pub(super) fn beside<'a, T>(
    parser: impl Iterator<Item = Step<'a>> + Send,
    take: impl FnOnce(&mut dyn Iterator<Item = Step<'a>>) -> T,
) -> T {
    let (put, events) = sync_channel::<Vec<Step<'a>>>(BATCHES);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut parser = parser.peekable();
            while parser.peek().is_some() {
                let batch = parser.by_ref().take(BATCH).collect();
                // Who takes them has found enough that is wrong.
                if put.send(batch).is_err() {
                    return;
                }
            }
        });
        take(&mut events.into_iter().flatten())
    })
}

#[cfg(test)]
mod tests {
    use granit_parser::Parser;

    use super::*;

    #[test]
    fn the_events_are_the_same() {
        let list: String = (0..3 * BATCH)
            .map(|at| format!("- {{ a: {at} }}\n"))
            .collect();
        for text in ["", "a: b\n", &list, &format!("{list}- }}\n")] {
            let all = |events: &mut dyn Iterator<Item = Step<'_>>| -> Vec<String> {
                events
                    .map(|event| format!("{event:?}"))
                    .take(9 * BATCH)
                    .collect()
            };
            let alone = all(&mut Parser::new_from_str(text));
            assert_eq!(beside(Parser::new_from_str(text), all), alone);
        }
    }

    #[test]
    fn who_has_enough_ends_it() {
        let list: String = (0..20 * BATCH).map(|at| format!("- {at}\n")).collect();
        let few = beside(Parser::new_from_str(&list), |events| events.take(3).count());
        assert_eq!(few, 3);
    }
}
