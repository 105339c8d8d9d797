//! What was measured of a row: values, ratios, goals. Plain data, which reports are made of.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::statistics::{Interval, interval, median};

/// How something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instrument {
    /// Cost of a program, by test runs.
    Program,
    /// Rate of a path between two namespaces.
    Path,
    /// Sockets of real programs.
    Sockets,
    /// Plans and applies.
    Control,
}

impl Instrument {
    /// The letter by which reports name it.
    pub fn letter(self) -> char {
        match self {
            Self::Program => 'A',
            Self::Path => 'B',
            Self::Sockets => 'C',
            Self::Control => 'D',
        }
    }
}

/// What values count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Nanoseconds for a packet.
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Million packets a second.
    MegaPackets,
    /// Gbit/s of payload.
    Gigabits,
    /// So many a second.
    PerSecond,
    /// Bytes for each element.
    BytesEach,
    /// Of a hundred.
    Percent,
    /// MiB.
    Mebibytes,
    /// A number without a unit.
    Number,
}

impl Unit {
    /// Its symbol.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::MegaPackets => "Mpps",
            Self::Gigabits => "Gbit/s",
            Self::PerSecond => "/s",
            Self::BytesEach => "B/element",
            Self::Percent => "%",
            Self::Mebibytes => "MiB",
            Self::Number => "",
        }
    }

    /// True if more is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::MegaPackets | Self::Gigabits | Self::PerSecond)
    }
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// `pcn`, in the condition the row is about.
    Subject,
    /// The same once more: what the noise alone makes of a ratio.
    Null,
    /// Somebody else's.
    Peer,
    /// The least that must be done.
    Bound,
    /// `pcn` in another condition.
    Own,
}

/// What a ratio (subject to the other) or a value is to be, with all of its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Goal {
    /// The ratio is at least this.
    AtLeast(f64),
    /// The ratio is at most this.
    AtMost(f64),
    /// The subject's value is at most this much more than the other's.
    MoreBy(f64),
    /// The subject's value is at most this.
    Below(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(ratio) => write!(f, "≥ {ratio}×"),
            Self::AtMost(ratio) => write!(f, "≤ {ratio}×"),
            Self::MoreBy(more) => write!(f, "≤ +{more}"),
            Self::Below(value) => write!(f, "≤ {value}"),
        }
    }
}

/// The values of one of those that are compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arm {
    /// What it is called.
    pub name: String,
    /// Version of the peer.
    pub version: String,
    /// Who it is.
    pub role: Role,
    /// What is asked of the subject beside it.
    pub goal: Option<Goal>,
    /// One value a round.
    pub samples: Vec<f64>,
}

/// What was measured of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What values count.
    pub unit: Unit,
    /// The subject first.
    pub arms: Vec<Arm>,
    /// What is asked of the subject by itself.
    pub goal: Option<Goal>,
    /// Share of CPU time that the hypervisor took, by round.
    pub steal: Vec<f64>,
    /// Rounds that were left out because it took too much.
    pub discarded: usize,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// The subject beside one of the others, or by itself.
pub struct Comparison<'a> {
    /// The other.
    pub arm: Option<&'a Arm>,
    /// The ratio of the subject to it; without another, the value.
    pub ratio: Interval,
    /// What was asked.
    pub goal: Option<Goal>,
    /// Whether it was reached.
    pub met: Option<bool>,
}

impl Finding {
    /// Of a subject that nobody is beside.
    pub fn alone(unit: Unit, name: &str, samples: Vec<f64>, goal: Option<Goal>) -> Self {
        Self {
            unit,
            arms: vec![Arm {
                name: name.to_owned(),
                version: String::new(),
                role: Role::Subject,
                goal: None,
                samples,
            }],
            goal,
            steal: Vec::new(),
            discarded: 0,
            notes: Vec::new(),
        }
    }

    /// With something that is to be known.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The subject.
    pub fn subject(&self) -> &Arm {
        &self.arms[0]
    }

    /// The subject's value.
    pub fn value(&self) -> Interval {
        interval(&self.subject().samples)
    }

    /// The subject beside itself.
    pub fn null(&self) -> Option<Interval> {
        let null = self.arms.iter().find(|arm| arm.role == Role::Null)?;
        Some(self.ratio(null))
    }

    /// The subject beside all others; by itself, if something is asked of it or there is nobody else.
    pub fn comparisons(&self) -> Vec<Comparison<'_>> {
        let others = self.arms[1..].iter().filter(|arm| arm.role != Role::Null);
        let mut all: Vec<Comparison<'_>> = others
            .map(|arm| {
                let ratio = self.ratio(arm);
                let met = arm.goal.map(|goal| match goal {
                    Goal::AtLeast(least) => ratio.low >= least,
                    Goal::AtMost(most) => ratio.high <= most,
                    Goal::MoreBy(more) => self.difference(arm).high <= more,
                    Goal::Below(most) => self.value().high <= most,
                });
                Comparison {
                    arm: Some(arm),
                    ratio,
                    goal: arm.goal,
                    met,
                }
            })
            .collect();
        if self.goal.is_some() || all.is_empty() {
            let value = self.value();
            let met = self.goal.map(|goal| match goal {
                Goal::AtLeast(least) => value.low >= least,
                Goal::AtMost(most) | Goal::Below(most) | Goal::MoreBy(most) => value.high <= most,
            });
            all.insert(
                0,
                Comparison {
                    arm: None,
                    ratio: value,
                    goal: self.goal,
                    met,
                },
            );
        }
        all
    }

    /// Round by round, so that what disturbs a round disturbs both.
    fn ratio(&self, other: &Arm) -> Interval {
        let pairs = self.subject().samples.iter().zip(&other.samples);
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        interval(&ratios)
    }

    /// The same for differences.
    pub fn difference(&self, other: &Arm) -> Interval {
        let pairs = self.subject().samples.iter().zip(&other.samples);
        let differences: Vec<f64> = pairs.map(|(ours, theirs)| ours - theirs).collect();
        interval(&differences)
    }
}

impl Arm {
    /// The median of its values.
    pub fn value(&self) -> f64 {
        median(&self.samples)
    }
}

/// What became of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// It was measured.
    Measured(Finding),
    /// There is nothing here to measure it with.
    NotHere(String),
    /// It broke.
    Failed(String),
}

/// A row with what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// By which it is asked for.
    pub id: String,
    /// What is done.
    pub job: String,
    /// How it is measured.
    pub instrument: Instrument,
    /// What became of it.
    pub outcome: Outcome,
    /// Seconds it took.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(goal: Goal, ours: &[f64], theirs: &[f64]) -> Finding {
        let arm = |name: &str, role, goal, samples: &[f64]| Arm {
            name: name.to_owned(),
            version: String::new(),
            role,
            goal,
            samples: samples.to_vec(),
        };
        Finding {
            unit: Unit::MegaPackets,
            arms: vec![
                arm("pcn", Role::Subject, None, ours),
                arm("other", Role::Peer, Some(goal), theirs),
            ],
            goal: None,
            steal: Vec::new(),
            discarded: 0,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_goal_is_met_by_all_of_the_interval() {
        let met = |goal, ours: &[f64], theirs: &[f64]| {
            finding(goal, ours, theirs).comparisons()[0].met == Some(true)
        };
        let (three, two) = ([3.0, 3.1, 2.9, 3.0], [2.0, 2.1, 1.9, 2.0]);
        assert!(met(Goal::AtLeast(1.3), &three, &two));
        // The median is 1.5, the lower end is below.
        assert!(!met(Goal::AtLeast(1.5), &three, &two));
        assert!(met(Goal::AtMost(1.7), &three, &two));
        assert!(!met(Goal::AtMost(1.4), &three, &two));
        assert!(met(Goal::MoreBy(1.1), &three, &two));
        assert!(!met(Goal::MoreBy(0.9), &three, &two));
        assert!(met(Goal::Below(3.2), &three, &two));
        assert!(!met(Goal::Below(2.0), &three, &two));
    }
}
