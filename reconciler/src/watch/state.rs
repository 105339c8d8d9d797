//! What to do next, and when: a state machine without clock, files or kernel.
//!
//! It is told what happened and at what time, and asked what to start. Times count from any fixed
//! moment.
//!
//! It is level-triggered: an event says that something may differ, never what, and a round compares
//! everything. So events can be lost, repeated or merged without harm.

use std::{collections::BTreeMap, fmt, time::Duration};

use topology_schema::Name;

use super::backoff::Backoff;

/// A point in time: since some fixed moment.
pub type Time = Duration;

/// Never.
const NEVER: Time = Time::MAX;
/// The longest pause between two rounds of a topology that the kernel's announcements start. A
/// round pauses for as long as it ran, so they take half of the time at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// The content of a file: the beginning of its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What of the host a topology depends on, as a number that changes with it: its interfaces that
/// are not ours.
pub type Surroundings = u64;

/// Times.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Between two rounds without an event.
    pub interval: Duration,
    /// Between a failure and the next attempt.
    pub backoff: Backoff,
    /// How many rounds may run at once, of different topologies.
    pub at_once: usize,
}

/// What a round came to, as far as it matters for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The kernel is as the revision says.
    InStep,
    /// It is somebody else's for now.
    LeftAlone,
    /// It failed in a way that may pass.
    Again,
    /// A step failed, and everything is as it was.
    RolledBack,
    /// A step failed, and not everything could be taken back.
    Stuck,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A round of this topology with this revision. It has begun: its end must be reported.
    Start(Name, Revision),
    /// Nothing before that time; `None`: nothing before the next event.
    Wait(Option<Time>),
}

/// All topologies that are followed.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    seed: u64,
    tracks: BTreeMap<Name, Track>,
}

/// One topology.
#[derive(Debug)]
struct Track {
    /// The newest valid revision.
    wanted: Revision,
    /// The last one that the kernel took.
    good: Option<Revision>,
    surroundings: Surroundings,
    /// The newest revision was rolled back, and waits for other surroundings.
    quarantine: Option<Quarantine>,
    /// How often the newest revision was rolled back.
    rolled_back: u32,
    running: Option<Running>,
    /// When the next round begins, unless one runs.
    due: Time,
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
struct Running {
    revision: Revision,
    since: Time,
    surroundings: Surroundings,
    /// The kernel announced something meanwhile.
    announced: bool,
    /// A new revision or a reload came meanwhile.
    superseded: bool,
}

impl Machine {
    /// Nothing is followed yet. The seed decides the jitter.
    pub const fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            seed,
            tracks: BTreeMap::new(),
        }
    }

    /// There is a valid revision of a topology. False if it is known already.
    pub fn wanted(
        &mut self,
        now: Time,
        name: &Name,
        revision: Revision,
        surroundings: Surroundings,
    ) -> bool {
        let Some(track) = self.tracks.get_mut(name) else {
            let track = Track::new(now, revision, surroundings);
            self.tracks.insert(name.clone(), track);
            return true;
        };
        track.surroundings = surroundings;
        if track.wanted == revision {
            return false;
        }
        track.wanted = revision;
        track.begin_anew(now);
        true
    }

    /// The kernel announced something that concerns a topology.
    pub fn announced(&mut self, now: Time, name: &Name, surroundings: Surroundings) {
        if let Some(track) = self.tracks.get_mut(name) {
            track.announced(now, surroundings, self.policy.backoff);
        }
    }

    /// Everything is to be looked at now, quarantined or not.
    pub fn reload(&mut self, now: Time) {
        for track in self.tracks.values_mut() {
            track.begin_anew(now);
        }
    }

    /// A round has ended.
    pub fn ended(&mut self, now: Time, name: &Name, ended: Ended) {
        let random = self.random();
        if let Some(track) = self.tracks.get_mut(name) {
            track.ended(now, ended, self.policy, random);
        }
    }

    /// What to do now: call again until it says to wait.
    pub fn next(&mut self, now: Time) -> Next {
        let running = self.running();
        // The one that waits longest comes first.
        let first = self
            .tracks
            .iter_mut()
            .filter(|(_, track)| track.running.is_none() && track.due != NEVER)
            .min_by_key(|(_, track)| track.due);
        match first {
            Some((name, track)) if track.due <= now && running < self.policy.at_once => {
                track.start(now).map_or(Next::Wait(None), |revision| {
                    Next::Start(name.clone(), revision)
                })
            }
            // The end of one that runs is an event.
            Some((_, track)) if track.due <= now => Next::Wait(None),
            Some((_, track)) => Next::Wait(Some(track.due)),
            None => Next::Wait(None),
        }
    }

    /// Whether a round of this revision may still begin.
    pub fn needs(&self, name: &Name, revision: &Revision) -> bool {
        self.tracks
            .get(name)
            .is_some_and(|track| track.wanted == *revision || track.good.as_ref() == Some(revision))
    }

    /// How many rounds run.
    pub fn running(&self) -> usize {
        self.tracks
            .values()
            .filter(|track| track.running.is_some())
            .count()
    }

    /// Since when the oldest round runs.
    pub fn running_since(&self) -> Option<Time> {
        let running = self
            .tracks
            .values()
            .filter_map(|track| track.running.as_ref());
        running.map(|running| running.since).min()
    }

    /// True if every topology has had a round for what is known, whatever came of it.
    pub fn settled(&self, now: Time) -> bool {
        self.tracks
            .values()
            .all(|track| track.running.is_none() && track.due > now)
    }

    /// All topologies, with their state.
    pub fn states(&self) -> impl Iterator<Item = (&Name, State)> {
        self.tracks
            .iter()
            .map(|(name, track)| (name, track.state()))
    }

    /// When the next round of a topology begins, unless an event comes first.
    pub fn due(&self, name: &Name) -> Option<Time> {
        let track = self.tracks.get(name)?;
        (track.due != NEVER).then_some(track.due)
    }

    /// The next number of a sequence (splitmix64): attempts of many machines should not meet.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// How a topology is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The newest revision runs.
    InStep,
    /// The last round failed; another will follow.
    Failing,
    /// The newest revision was rolled back, and waits for a change.
    Quarantined,
    /// There was no round yet.
    New,
}

impl Track {
    const fn new(now: Time, wanted: Revision, surroundings: Surroundings) -> Self {
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

    fn state(&self) -> State {
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

    fn begin_anew(&mut self, now: Time) {
        self.quarantine = None;
        self.rolled_back = 0;
        self.failures = 0;
        self.due = now;
        if let Some(running) = &mut self.running {
            running.superseded = true;
        }
    }

    fn announced(&mut self, now: Time, surroundings: Surroundings, backoff: Backoff) {
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
    fn start(&mut self, now: Time) -> Option<Revision> {
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

    fn ended(&mut self, now: Time, ended: Ended, policy: Policy, random: u64) {
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
