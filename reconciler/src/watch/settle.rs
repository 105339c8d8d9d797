//! Waiting for the end of a burst of events, but not for ever.

use std::time::Duration;

use super::state::Time;

/// Merges events that follow one another.
#[derive(Debug)]
pub struct Settle {
    /// From the first event of a burst, at most.
    longest: Duration,
    /// The first event, and when to act.
    burst: Option<(Time, Time)>,
}

impl Settle {
    /// Nothing has happened yet.
    pub const fn new(longest: Duration) -> Self {
        Self {
            longest,
            burst: None,
        }
    }

    /// Something happened; it is acted upon when nothing else happens for `quiet`.
    pub fn event(&mut self, now: Time, quiet: Duration) {
        let (first, _) = *self.burst.get_or_insert((now, now));
        self.burst = Some((first, (now + quiet).min(first + self.longest)));
    }

    /// When to act.
    pub fn due(&self) -> Option<Time> {
        self.burst.map(|(_, due)| due)
    }

    /// It is acted upon now.
    pub const fn done(&mut self) {
        self.burst = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn waits_for_quiet_but_not_for_ever() {
        let mut settle = Settle::new(ms(100));
        assert_eq!(settle.due(), None);
        settle.event(ms(1000), ms(10));
        assert_eq!(settle.due(), Some(ms(1010)));
        settle.event(ms(1008), ms(10));
        assert_eq!(settle.due(), Some(ms(1018)));
        for now in (1010..1300).step_by(5) {
            settle.event(ms(now), ms(10));
        }
        assert_eq!(settle.due(), Some(ms(1100)), "events never cease");
        settle.done();
        assert_eq!(settle.due(), None);
        settle.event(ms(2000), ms(10));
        assert_eq!(settle.due(), Some(ms(2010)), "a burst of its own");
    }
}
