//! One topology: what is wanted of it, what became of that, and when it is looked at next.

use std::time::Duration;

use super::{Ended, Policy, Revision, State, Surroundings, Time};
use crate::watch::backoff::Backoff;

/// Never.
pub(super) const NEVER: Time = Time::MAX;
/// The longest pause between two rounds of a topology that the kernel's announcements start. A
/// round pauses for as long as it ran, so they take half of the time at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// One topology.
#[derive(Debug)]
pub(super) struct Track {
    /// The newest valid revision.
    pub(super) wanted: Revision,
    /// The last one that the kernel took.
    pub(super) good: Option<Revision>,
    pub(super) surroundings: Surroundings,
    /// The newest revision was rolled back, and waits for other surroundings.
    quarantine: Option<Quarantine>,
    /// How often the newest revision was rolled back.
    rolled_back: u32,
    pub(super) running: Option<Running>,
    /// When the next round begins, unless one runs.
    pub(super) due: Time,
    /// Rounds that failed, one after the other.
    failures: u32,
    /// Announcements start no round before this.
    pause_until: Time,
}

#[derive(Debug)]
struct Quarantine {
    /// As they were when the round began.
    surroundings: Surroundings,
    /// No attempt before this, even if they change.
    until: Time,
}

#[derive(Debug)]
pub(super) struct Running {
    revision: Revision,
    pub(super) since: Time,
    surroundings: Surroundings,
    /// The kernel announced something meanwhile.
    announced: bool,
    /// A new revision or a reload came meanwhile.
    superseded: bool,
}

impl Track {
    pub(super) const fn new(now: Time, wanted: Revision, surroundings: Surroundings) -> Self {
        Self {
            wanted,
            good: None,
            surroundings,
            quarantine: None,
            rolled_back: 0,
            running: None,
            due: now,
            failures: 0,
            pause_until: Time::ZERO,
        }
    }

    pub(super) fn state(&self) -> State {
        if self.quarantine.is_some() {
            State::Quarantined
        } else if self.failures > 0 {
            State::Failing
        } else if self.good.as_ref() == Some(&self.wanted) {
            State::InStep
        } else {
            State::New
        }
    }

    pub(super) fn begin_anew(&mut self, now: Time) {
        self.quarantine = None;
        self.rolled_back = 0;
        self.failures = 0;
        self.due = now;
        if let Some(running) = &mut self.running {
            running.superseded = true;
        }
    }

    pub(super) fn announced(&mut self, now: Time, surroundings: Surroundings, backoff: Backoff) {
        let changed = self.surroundings != surroundings;
        self.surroundings = surroundings;
        if let Some(running) = &mut self.running {
            running.announced = true;
            return;
        }
        if self.lift_quarantine(now) || self.quarantine.is_some() && self.good.is_none() {
            return;
        }
        if self.failures == 0 {
            self.due = self.due.min(now.max(self.pause_until));
        } else if changed {
            // Not for what our own attempts announce.
            self.due = self.due.min(now + backoff.first);
        }
    }

    /// A revision that was rolled back gets another chance when the surroundings are other ones.
    fn lift_quarantine(&mut self, now: Time) -> bool {
        match &self.quarantine {
            Some(quarantine) if quarantine.surroundings != self.surroundings => {
                self.due = now.max(quarantine.until);
                self.quarantine = None;
                true
            }
            _ => false,
        }
    }

    /// While the newest revision is quarantined, the last good one is held.
    pub(super) fn start(&mut self, now: Time) -> Option<Revision> {
        let revision = match (&self.quarantine, &self.good) {
            (None, _) => self.wanted.clone(),
            (Some(_), Some(good)) => good.clone(),
            (Some(_), None) => {
                self.due = NEVER;
                return None;
            }
        };
        self.running = Some(Running {
            revision: revision.clone(),
            since: now,
            surroundings: self.surroundings,
            announced: false,
            superseded: false,
        });
        self.due = NEVER;
        Some(revision)
    }

    pub(super) fn ended(&mut self, now: Time, ended: Ended, policy: Policy, random: u64) {
        let Some(running) = self.running.take() else {
            return;
        };
        let pause = now.saturating_sub(running.since).min(LONGEST_PAUSE);
        self.pause_until = now + pause;
        let due = if ended == Ended::InStep {
            self.failures = 0;
            if running.revision == self.wanted {
                self.rolled_back = 0;
            }
            self.good = Some(running.revision);
            if running.announced {
                self.pause_until
            } else {
                now + policy.interval
            }
        } else if ended == Ended::LeftAlone {
            now + policy.interval
        } else {
            self.failed(now, ended, &running, policy, random)
        };
        if running.superseded {
            self.failures = 0;
            self.due = now;
        } else {
            self.due = due;
        }
        self.lift_quarantine(now);
    }

    /// When to try again what failed.
    fn failed(
        &mut self,
        now: Time,
        ended: Ended,
        running: &Running,
        policy: Policy,
        random: u64,
    ) -> Time {
        self.failures = self.failures.saturating_add(1);
        let retry = now + policy.backoff.after(self.failures, random);
        // What the kernel took once may fail for a while; only what it never took is quarantined.
        let untried = self.good.as_ref() != Some(&running.revision);
        if !untried || running.superseded || running.revision != self.wanted {
            return retry;
        }
        let held = self.good.is_some();
        let due = match ended {
            Ended::RolledBack if held => now + policy.interval,
            Ended::RolledBack => NEVER,
            // Half of it is in place: back to the last good one.
            Ended::Stuck if held => retry,
            Ended::Stuck | Ended::Again | Ended::InStep | Ended::LeftAlone => return retry,
        };
        self.rolled_back = self.rolled_back.saturating_add(1);
        self.quarantine = Some(Quarantine {
            surroundings: running.surroundings,
            until: now + policy.backoff.after(self.rolled_back, random),
        });
        if ended == Ended::RolledBack {
            self.failures = 0;
        }
        due
    }
}
