//! Who is compared, and the comparison: all take turns, round after round, so that what disturbs one disturbs all.

use std::cell::Cell;

use crate::{
    finding::{Arm, Finding, Goal, Role, Unit},
    machine::CpuTime,
    statistics::median,
};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds before those, which only warm up.
    pub warm_up: usize,
}

impl Effort {
    /// What is reported.
    pub const FULL: Self = Self {
        rounds: 20,
        warm_up: 2,
    };
    /// A first look.
    pub const QUICK: Self = Self {
        rounds: 5,
        warm_up: 1,
    };

    /// The same with other rounds, where one of them takes long.
    pub fn with_rounds(self, rounds: usize) -> Self {
        Self {
            rounds: self.rounds.min(rounds),
            ..self
        }
    }

    /// The same with so many times fewer rounds, but some.
    pub fn divided(self, by: usize) -> Self {
        Self {
            rounds: (self.rounds / by).max(1),
            warm_up: self.warm_up.min(1),
        }
    }
}

/// Share of CPU time; a round in which the hypervisor took more is measured again.
const STOLEN: f64 = 0.02;

/// Measures once.
pub type Sample<'a> = Box<dyn FnMut() -> f64 + 'a>;
/// Gets ready for a round with samples in this order.
type Prepare<'a> = Box<dyn FnMut(&[usize]) + 'a>;

/// Who is beside the subject.
#[derive(Clone, Copy, Debug)]
pub enum Other<'n> {
    /// Somebody else's, with its version.
    Peer(&'n str, &'n str),
    /// The least that must be done.
    Bound(&'n str),
    /// `pcn` in another condition.
    Own(&'n str),
}

struct Contestant<'a> {
    arm: Arm,
    sample: Sample<'a>,
}

/// A comparison that is being set up.
pub struct Contest<'a> {
    unit: Unit,
    subject: Contestant<'a>,
    others: Vec<Contestant<'a>>,
    empty: Option<Sample<'a>>,
    goal: Option<Goal>,
    notes: Vec<String>,
    beside: Option<&'a Cell<f64>>,
    prepare: Option<Prepare<'a>>,
}

impl<'a> Contest<'a> {
    /// Of `pcn`, with whoever is added.
    pub fn new(unit: Unit, name: &str, sample: impl FnMut() -> f64 + 'a) -> Self {
        Self {
            unit,
            subject: contestant(name, "", Role::Subject, None, sample),
            others: Vec::new(),
            empty: None,
            goal: None,
            notes: Vec::new(),
            beside: None,
            prepare: None,
        }
    }

    /// Where each sample leaves a second value.
    pub fn beside(mut self, value: &'a Cell<f64>) -> Self {
        self.beside = Some(value);
        self
    }

    /// What is asked of the subject by itself.
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Something that is to be known.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// What is in each sample although nobody is compared by it: it is taken off.
    pub fn without(mut self, sample: impl FnMut() -> f64 + 'a) -> Self {
        self.empty = Some(Box::new(sample));
        self
    }

    /// Adds one of the others, and what is asked of the subject beside it.
    pub fn against(
        mut self,
        other: Other<'_>,
        goal: impl Into<Option<Goal>>,
        sample: impl FnMut() -> f64 + 'a,
    ) -> Self {
        let goal = goal.into();
        self.others.push(match other {
            Other::Peer(name, version) => contestant(name, version, Role::Peer, goal, sample),
            Other::Bound(name) => contestant(name, "", Role::Bound, goal, sample),
            Other::Own(name) => contestant(name, "", Role::Own, goal, sample),
        });
        self
    }

    /// What is done before each round. It is told in which order the samples will be taken: the subject is 0, the others are
    /// from 1 on in the order in which they were added.
    pub fn before_each_round(mut self, prepare: impl FnMut(&[usize]) + 'a) -> Self {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// Lets all of them take turns.
    pub fn run(self, effort: Effort) -> Finding {
        self.run_both(effort).0
    }

    /// The same, with a second finding of the values that were left beside; what is asked of it, in the order of the others.
    pub fn run_both(mut self, effort: Effort) -> (Finding, Finding) {
        let mut rounds = Vec::new();
        let mut steal = Vec::new();
        let mut discarded = 0;
        let mut warm_up = effort.warm_up;
        let mut backwards = false;
        while rounds.len() < effort.rounds {
            let before = CpuTime::now();
            let round = self.round(backwards);
            let stolen = CpuTime::now().stolen_since(before);
            backwards = !backwards;
            if warm_up > 0 {
                warm_up -= 1;
                continue;
            }
            // Not for ever: on a machine that is always disturbed, all rounds are.
            if stolen > STOLEN && discarded < effort.rounds / 2 {
                discarded += 1;
                continue;
            }
            steal.push(stolen);
            rounds.push(round);
        }
        let first = self.finding(&rounds, |value| value.0, &steal, discarded);
        let second = self.finding(&rounds, |value| value.1, &steal, discarded);
        (first, second)
    }

    fn finding(
        &self,
        rounds: &[Round],
        pick: fn(&Value) -> f64,
        steal: &[f64],
        discarded: usize,
    ) -> Finding {
        let column = |of: &dyn Fn(&Round) -> Option<Value>| -> Vec<f64> {
            let values = rounds.iter().filter_map(of);
            values.map(|value| pick(&value)).collect()
        };
        let empty = column(&|round| round.empty);
        let off = if empty.is_empty() {
            0.0
        } else {
            median(&empty)
        };
        let subject = &self.subject.arm;
        let null = Arm {
            name: format!("{} again", subject.name),
            role: Role::Null,
            ..subject.clone()
        };
        let mut arms = vec![
            with(subject, column(&|round| Some(round.subject))),
            with(&null, column(&|round| Some(round.null))),
        ];
        for (place, other) in self.others.iter().enumerate() {
            arms.push(with(
                &other.arm,
                column(&|round| round.others.get(place).copied()),
            ));
        }
        for sample in arms.iter_mut().flat_map(|arm| &mut arm.samples) {
            *sample -= off;
        }
        Finding {
            unit: self.unit,
            arms,
            goal: self.goal,
            steal: steal.to_vec(),
            discarded,
            notes: self.notes.clone(),
        }
    }

    /// Once around, the subject at both ends; every other time the other way round.
    fn round(&mut self, backwards: bool) -> Round {
        let order = order(self.others.len(), backwards);
        if let Some(prepare) = &mut self.prepare {
            prepare(&order);
        }
        let beside = self.beside;
        let mut take = |sample: &mut Sample<'a>| {
            let value = sample();
            (value, beside.map_or(0.0, Cell::get))
        };
        let first = take(&mut self.subject.sample);
        let empty = self.empty.as_mut().map(&mut take);
        let mut others = vec![(f64::NAN, f64::NAN); self.others.len()];
        for place in &order[1..=others.len()] {
            others[place - 1] = take(&mut self.others[place - 1].sample);
        }
        let last = take(&mut self.subject.sample);
        let (subject, null) = if backwards {
            (last, first)
        } else {
            (first, last)
        };
        Round {
            subject,
            null,
            empty,
            others,
        }
    }
}

/// Whose turn it is in a round: the subject is 0 and comes first and last.
fn order(others: usize, backwards: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (1..=others).collect();
    if backwards {
        order.reverse();
    }
    order.insert(0, 0);
    order.push(0);
    order
}

/// A value, and what was left beside.
type Value = (f64, f64);

struct Round {
    subject: Value,
    null: Value,
    empty: Option<Value>,
    others: Vec<Value>,
}

fn with(arm: &Arm, samples: Vec<f64>) -> Arm {
    Arm {
        samples,
        ..arm.clone()
    }
}

fn contestant<'a>(
    name: &str,
    version: &str,
    role: Role,
    goal: Option<Goal>,
    sample: impl FnMut() -> f64 + 'a,
) -> Contestant<'a> {
    let arm = Arm {
        name: name.to_owned(),
        version: version.to_owned(),
        role,
        goal,
        samples: Vec::new(),
    };
    Contestant {
        arm,
        sample: Box::new(sample),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const EFFORT: Effort = Effort {
        rounds: 4,
        warm_up: 1,
    };

    #[test]
    fn all_take_turns_in_both_orders() {
        let turns = RefCell::new(String::new());
        let turn = |letter: char, value: f64| {
            let turns = &turns;
            move || {
                turns.borrow_mut().push(letter);
                value
            }
        };
        let finding = Contest::new(Unit::Nanoseconds, "pcn", turn('a', 30.0))
            .without(turn('-', 10.0))
            .against(Other::Peer("b", "1"), Goal::AtMost(1.0), turn('b', 50.0))
            .against(Other::Bound("c"), None, turn('c', 20.0))
            .run(EFFORT);
        // More, if the hypervisor takes time meanwhile.
        let turns = turns.borrow();
        assert!(turns.starts_with("a-bcaa-cba"), "{turns}");
        let values: Vec<f64> = finding.arms.iter().map(Arm::value).collect();
        assert_eq!(values, [20.0, 20.0, 40.0, 10.0]);
        assert!(finding.arms.iter().all(|arm| arm.samples.len() == 4));
        assert_eq!(finding.comparisons()[0].met, Some(true));
    }

    #[test]
    fn each_round_is_prepared_in_its_order() {
        let (prepared, taken) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let turn = |place: usize| {
            let taken = &taken;
            move || {
                taken.borrow_mut().push(place);
                1.0
            }
        };
        Contest::new(Unit::Nanoseconds, "pcn", turn(0))
            .against(Other::Bound("b"), None, turn(1))
            .against(Other::Own("c"), None, turn(2))
            .before_each_round(|order| {
                let before = taken.borrow().len();
                prepared.borrow_mut().push((before, order.to_vec()));
            })
            .run(EFFORT);
        let taken = taken.borrow();
        for (before, order) in prepared.borrow().iter() {
            assert_eq!(taken[*before..before + order.len()], order[..]);
        }
    }

    #[test]
    fn a_drift_that_all_share_is_in_no_ratio() {
        let time = Cell::new(1.0);
        let grows = |factor: f64| {
            let time = &time;
            move || {
                time.set(time.get() * 1.001);
                time.get() * factor
            }
        };
        let finding = Contest::new(Unit::Nanoseconds, "pcn", grows(1.0))
            .against(Other::Peer("other", ""), None, grows(2.0))
            .run(EFFORT);
        let ratio = finding.comparisons()[0].ratio;
        assert!((ratio.median - 0.5).abs() < 0.001, "{ratio:?}");
    }
}
