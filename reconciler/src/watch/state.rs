//! What to do next, and when: a state machine without clock, files or kernel.
//!
//! It is told what happened and at what time, and asked what to start. Times count from any fixed
//! moment.
//!
//! It is level-triggered: an event says that something may differ, never what, and a round compares
//! everything. So events can be lost, repeated or merged without harm.

mod track;

use std::{collections::BTreeMap, fmt, time::Duration};

use topology_schema::Name;

use self::track::{NEVER, Track};
use super::backoff::Backoff;

/// A point in time: since some fixed moment.
pub type Time = Duration;

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

#[cfg(test)]
mod tests;
