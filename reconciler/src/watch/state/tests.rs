//! The machine in simulated time: worlds of files, failures and announcements, made at random.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy {
    interval: Duration::from_secs(10),
    backoff: Backoff {
        first: Duration::from_millis(500),
        cap: Duration::from_secs(60),
    },
    at_once: 2,
};
/// The shortest pause between two attempts that fail.
const SHORTEST: Duration = Duration::from_millis(250);

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn name(number: usize) -> Name {
    format!("t{number}").parse().unwrap()
}

fn revision(text: &str) -> Revision {
    Revision(text.to_owned())
}

/// What the kernel makes of a revision: by its first letter.
fn fate(revision: &Revision, attempt: u32) -> Ended {
    match revision.0.as_bytes()[0] {
        b'g' => Ended::InStep,
        b'r' => Ended::RolledBack,
        b's' => Ended::Stuck,
        // Works from the fourth attempt on.
        b'f' if attempt > 3 => Ended::InStep,
        _ => Ended::Again,
    }
}

/// Something that happens to a topology.
#[derive(Clone, Debug)]
enum Event {
    File(String),
    /// An announcement, with the surroundings that are found then.
    Announced(u64),
    Reload,
}

/// One topology as the outside knows it.
#[derive(Debug, Default)]
struct Outside {
    newest: Option<Revision>,
    good: Option<Revision>,
    surroundings: u64,
    /// The revision, the surroundings when it began, and when it ends.
    running: Option<(Revision, u64, Time)>,
    /// A revision or a reload came while it ran.
    superseded: bool,
    attempts: BTreeMap<Revision, u32>,
    /// Rolled back, with nothing new since it began.
    refused: Option<Revision>,
    /// The end of the last round, if it failed and nothing new came since.
    failed: Option<Time>,
    /// The end of the last round that did not fail.
    in_step: Option<Time>,
    rounds: u32,
}

impl Outside {
    fn begin_anew(&mut self) {
        self.refused = None;
        self.failed = None;
        self.superseded = true;
    }
}

struct World {
    now: Time,
    machine: Machine,
    outside: Vec<Outside>,
    /// How long rounds take, one after the other.
    durations: Vec<u64>,
}

impl World {
    fn new(topologies: usize, seed: u64, durations: Vec<u64>) -> Self {
        Self {
            now: Time::ZERO,
            machine: Machine::new(POLICY, seed),
            outside: (0..topologies).map(|_| Outside::default()).collect(),
            durations,
        }
    }

    fn happen(&mut self, topology: usize, event: &Event) {
        let outside = &mut self.outside[topology];
        match event {
            Event::File(text) => {
                let new = revision(text);
                let known = outside.newest.as_ref() == Some(&new);
                let told = self.machine.wanted(
                    self.now,
                    &name(topology),
                    new.clone(),
                    outside.surroundings,
                );
                assert_eq!(told, !known);
                if !known {
                    outside.newest = Some(new);
                    outside.begin_anew();
                }
            }
            Event::Announced(surroundings) => {
                if outside.surroundings != *surroundings {
                    outside.failed = None;
                    outside.refused = None;
                }
                outside.surroundings = *surroundings;
                self.machine
                    .announced(self.now, &name(topology), *surroundings);
            }
            Event::Reload => {
                self.machine.reload(self.now);
                for outside in &mut self.outside {
                    outside.begin_anew();
                }
            }
        }
    }

    /// Lets time pass, with everything that happens in it.
    fn run_until(&mut self, end: Time) {
        loop {
            let wake = self.start_all();
            let ends = self
                .outside
                .iter()
                .filter_map(|outside| Some(outside.running.as_ref()?.2));
            match ends.chain(wake).min() {
                Some(next) if next <= end => {
                    assert!(
                        next > self.now
                            || self.outside.iter().any(|outside| outside.running.is_some())
                    );
                    self.now = self.now.max(next);
                    self.end_rounds();
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn start_all(&mut self) -> Option<Time> {
        loop {
            match self.machine.next(self.now) {
                Next::Wait(until) => {
                    assert!(
                        until.is_none_or(|until| until > self.now),
                        "waits for the past"
                    );
                    return until;
                }
                Next::Start(started, revision) => self.start(&started, &revision),
            }
        }
    }

    fn start(&mut self, started: &Name, revision: &Revision) {
        let number: usize = started.as_str()[1..].parse().unwrap();
        let running = self
            .outside
            .iter()
            .filter(|outside| outside.running.is_some())
            .count();
        assert!(running < POLICY.at_once, "too many at once");
        let outside = &mut self.outside[number];
        assert!(outside.running.is_none(), "two rounds of {started}");
        assert!(self.machine.needs(started, revision));
        if outside.newest.as_ref() != Some(revision) {
            assert_eq!(
                outside.good.as_ref(),
                Some(revision),
                "neither the newest nor a good one"
            );
        }
        assert!(
            outside.refused.as_ref() != Some(revision),
            "{revision} again, though nothing changed"
        );
        if let Some(failed) = outside.failed {
            assert!(
                self.now >= failed + SHORTEST,
                "{started} again at once after a failure"
            );
        }
        outside.rounds += 1;
        outside.superseded = false;
        let took = ms(self.durations[outside.rounds as usize % self.durations.len()]);
        outside.running = Some((revision.clone(), outside.surroundings, self.now + took));
    }

    fn end_rounds(&mut self) {
        for number in 0..self.outside.len() {
            let outside = &mut self.outside[number];
            if outside
                .running
                .as_ref()
                .is_none_or(|(_, _, end)| *end > self.now)
            {
                continue;
            }
            let Some((revision, surroundings, _)) = outside.running.take() else {
                continue;
            };
            let attempt = outside.attempts.entry(revision.clone()).or_default();
            *attempt += 1;
            let ended = fate(&revision, *attempt);
            let newest = outside.newest.as_ref() == Some(&revision);
            if ended == Ended::InStep {
                outside.good = Some(revision);
                outside.in_step = Some(self.now);
                outside.failed = None;
            } else if newest && !outside.superseded {
                outside.failed = Some(self.now);
                if ended == Ended::RolledBack && outside.good.as_ref() != Some(&revision) {
                    outside.refused = (surroundings == outside.surroundings).then_some(revision);
                    // The last good one may be looked at meanwhile.
                    outside.failed = None;
                }
            }
            self.machine.ended(self.now, &name(number), ended);
        }
    }
}

fn events() -> impl Strategy<Value = Vec<(u64, usize, Event)>> {
    let event = prop_oneof![
        4 => "[grsf][1-3]".prop_map(Event::File),
        4 => (0..3u64).prop_map(Event::Announced),
        1 => Just(Event::Reload),
    ];
    prop::collection::vec((0..20_000u64, 0..3usize, event), 0..40)
}

proptest! {
    #[test]
    fn every_world_ends_well(
        mut events in events(),
        seed: u64,
        durations in prop::collection::vec(1..3000u64, 1..5),
    ) {
        events.sort_by_key(|(time, ..)| *time);
        let mut world = World::new(3, seed, durations);
        for (time, topology, event) in &events {
            world.run_until(ms(*time));
            world.happen(*topology, event);
        }
        // Retries of what works from the fourth attempt on are over, intervals follow.
        world.run_until(ms(20_000) + Duration::from_secs(600));
        for (number, outside) in world.outside.iter().enumerate() {
            let Some(newest) = &outside.newest else {
                prop_assert_eq!(outside.rounds, 0);
                continue;
            };
            let kind = newest.0.as_bytes()[0];
            if kind == b'g' || kind == b'f' {
                prop_assert_eq!(outside.good.as_ref(), Some(newest), "t{}", number);
            }
            if outside.good.is_some() {
                // Held in repair, whatever became of the newest.
                let last = outside.in_step.unwrap();
                prop_assert!(world.now - last <= POLICY.interval + Duration::from_secs(6), "t{number}: {last:?}");
            }
            // At most what interval, failures and events account for.
            let most = 600 / 10 + 2 * events.len() as u32 + 80;
            prop_assert!(outside.rounds <= most, "t{number}: {} rounds", outside.rounds);
        }
    }

    /// However long something fails, it is tried as often as backoff allows, and not less than half as often.
    #[test]
    fn failures_back_off(seed: u64) {
        let mut world = World::new(1, seed, vec![10]);
        world.happen(0, &Event::File("never".to_owned()));
        world.run_until(Duration::from_secs(3600));
        let rounds = world.outside[0].rounds;
        // Seven doublings, then every 30 to 60 seconds.
        prop_assert!((3600 / 61..=7 + 3600 / 30).contains(&rounds), "{rounds} rounds");
    }
}

#[test]
fn a_new_revision_does_not_wait_for_the_retry_of_the_old() {
    let mut world = World::new(1, 1, vec![10]);
    world.happen(0, &Event::File("never".to_owned()));
    world.run_until(Duration::from_secs(300));
    world.happen(0, &Event::File("g1".to_owned()));
    world.run_until(Duration::from_secs(300) + ms(10));
    assert_eq!(world.outside[0].good, Some(revision("g1")));
}

#[test]
fn a_rolled_back_revision_waits_for_a_change() {
    let mut world = World::new(1, 1, vec![10]);
    world.happen(0, &Event::File("r1".to_owned()));
    world.run_until(Duration::from_secs(3600));
    assert_eq!(world.outside[0].rounds, 1);
    assert_eq!(world.machine.due(&name(0)), None);
    // Announcements of what did not change, such as our own attempt's.
    world.happen(0, &Event::Announced(0));
    world.run_until(Duration::from_secs(3700));
    assert_eq!(world.outside[0].rounds, 1);
    for (round, event) in [
        (2, Event::Announced(7)),
        (3, Event::Reload),
        (4, Event::File("r2".to_owned())),
    ] {
        world.happen(0, &event);
        world.run_until(world.now + Duration::from_secs(300));
        assert_eq!(world.outside[0].rounds, round, "{event:?}");
        assert_eq!(world.machine.states().next().unwrap().1, State::Quarantined);
    }
}

#[test]
fn the_last_good_revision_is_held_while_the_newest_is_quarantined() {
    let mut world = World::new(1, 1, vec![10]);
    world.happen(0, &Event::File("g1".to_owned()));
    world.run_until(Duration::from_secs(1));
    for bad in ["r1", "s1"] {
        world.happen(0, &Event::File(bad.to_owned()));
        world.run_until(world.now + Duration::from_secs(5));
        assert_eq!(world.outside[0].attempts[&revision(bad)], 1);
        // Drift that the kernel announces.
        let before = world.outside[0].attempts[&revision("g1")];
        world.happen(0, &Event::Announced(0));
        world.run_until(world.now + Duration::from_secs(1));
        assert_eq!(
            world.outside[0].attempts[&revision("g1")],
            before + 1,
            "{bad}"
        );
        assert_eq!(world.outside[0].attempts[&revision(bad)], 1);
    }
}

#[test]
fn what_is_announced_is_looked_at_at_once_but_not_all_the_time() {
    let mut world = World::new(1, 1, vec![100]);
    world.happen(0, &Event::File("g1".to_owned()));
    world.run_until(Duration::from_secs(5));
    let before = world.outside[0].rounds;
    world.happen(0, &Event::Announced(1));
    world.run_until(world.now + ms(100));
    assert_eq!(world.outside[0].rounds, before + 1);
    // Every millisecond, for ten seconds.
    for _ in 0..10_000 {
        world.run_until(world.now + ms(1));
        let surroundings = world.now.as_millis() as u64;
        world.happen(0, &Event::Announced(surroundings));
    }
    let rounds = world.outside[0].rounds - before;
    assert!(
        (40..=52).contains(&rounds),
        "{rounds} rounds of 100 ms in 10 s"
    );
}

#[test]
fn one_that_hangs_does_not_hold_up_the_others() {
    let mut world = World::new(2, 1, vec![60_000]);
    world.happen(0, &Event::File("g1".to_owned()));
    world.run_until(ms(1));
    world.durations = vec![10];
    world.happen(1, &Event::File("g1".to_owned()));
    world.run_until(ms(20));
    assert!(world.outside[0].running.is_some());
    assert_eq!(world.outside[1].good, Some(revision("g1")));
}
