//! This `pcn` beside another build of it, on any row: what a change gained or cost.

use std::path::{Path, PathBuf};

use integration_tests::lab::with_binary;

use crate::{
    contest::Effort,
    finding::{Arm, Finding, Outcome, Record, Role},
};

/// How often the builds take turns.
const TURNS: usize = 7;
/// The same for a first look.
const TURNS_QUICK: usize = 3;

/// What one turn of a row takes.
pub const TURN: Effort = Effort {
    rounds: 3,
    warm_up: 1,
};

/// Measures a row with this build, the other one, and this one again, in turns. Each turn makes all of its topologies anew
/// and gives one value, the median of its rounds.
pub fn compare(other: &Path, quick: bool, mut measure: impl FnMut() -> Vec<Record>) -> Vec<Record> {
    let turns = if quick { TURNS_QUICK } else { TURNS };
    let mut with = |build: Option<PathBuf>| with_binary(build, &mut measure);
    let mut all = Vec::new();
    'turns: for turn in 0..turns {
        let mut round = Vec::new();
        for build in [None, Some(other.to_owned()), None] {
            let records = with(build);
            let broken = failure(&records).is_some();
            round.push(records);
            if broken {
                // What breaks once breaks each time, and says no more then.
                all.push(round);
                break 'turns;
            }
        }
        if turn % 2 == 1 {
            // The other way round, so that what grows with time favours neither.
            round.swap(0, 2);
        }
        all.push(round);
    }
    let Some(first) = all.first().map(|round| round[0].clone()) else {
        return Vec::new();
    };
    let records = first.into_iter();
    records
        .map(|record| {
            let outcome = outcome(&record.id, &all);
            let seconds = all.iter().flatten().flatten();
            let seconds = seconds.filter(|other| other.id == record.id);
            Record {
                seconds: seconds.map(|record| record.seconds).sum(),
                outcome,
                ..record
            }
        })
        .collect()
}

/// Why a row was not measured.
fn failure(records: &[Record]) -> Option<&Outcome> {
    let mut outcomes = records.iter().map(|record| &record.outcome);
    outcomes.find(|outcome| !matches!(outcome, Outcome::Measured(_)))
}

fn outcome(id: &str, all: &[Vec<Vec<Record>>]) -> Outcome {
    let mut samples: [Vec<f64>; 3] = Default::default();
    let mut last = None;
    for round in all {
        for (records, samples) in round.iter().zip(&mut samples) {
            let record = records.iter().find(|record| record.id == id);
            match record.map(|record| &record.outcome) {
                Some(Outcome::Measured(finding)) => {
                    samples.push(finding.value().median);
                    last = Some(finding);
                }
                Some(failed) => return failed.clone(),
                None => {
                    // Where a row has several records, one that broke has one alone.
                    let absent = || Outcome::Failed("not measured in each turn".to_owned());
                    return failure(records).cloned().unwrap_or_else(absent);
                }
            }
        }
    }
    let Some(finding) = last else {
        return Outcome::Failed("there was no turn".to_owned());
    };
    let [now, before, again] = samples;
    let name = &finding.subject().name;
    let arm = |name: String, role, samples| Arm {
        name,
        version: String::new(),
        role,
        goal: None,
        samples,
    };
    Outcome::Measured(Finding {
        unit: finding.unit,
        arms: vec![
            arm(name.clone(), Role::Subject, now),
            arm(format!("{name} again"), Role::Null, again),
            arm(format!("{name} before"), Role::Own, before),
        ],
        goal: None,
        steal: Vec::new(),
        discarded: 0,
        notes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::finding::{Instrument, Unit};

    fn record(value: f64) -> Record {
        let subject = Arm {
            name: "pcn".to_owned(),
            version: String::new(),
            role: Role::Subject,
            goal: None,
            samples: vec![value],
        };
        Record {
            id: "row".to_owned(),
            job: String::new(),
            instrument: Instrument::Path,
            outcome: Outcome::Measured(Finding {
                unit: Unit::MegaPackets,
                arms: vec![subject],
                goal: None,
                steal: Vec::new(),
                discarded: 0,
                notes: Vec::new(),
            }),
            seconds: 1.0,
        }
    }

    #[test]
    fn the_other_build_is_in_the_middle() {
        let turn = Cell::new(0);
        let measure = || {
            let value = if turn.get() % 3 == 1 { 2.0 } else { 4.0 };
            turn.set(turn.get() + 1);
            vec![record(value)]
        };
        let records = compare(Path::new("/bin/true"), true, measure);
        assert_eq!(turn.get(), 3 * TURNS_QUICK);
        let Outcome::Measured(finding) = &records[0].outcome else {
            panic!("{records:?}");
        };
        let [comparison] = &finding.comparisons()[..] else {
            panic!("one comparison");
        };
        assert_eq!(comparison.ratio.median, 2.0);
        assert_eq!(finding.null().map(|null| null.median), Some(1.0));
    }

    #[test]
    fn a_turn_that_fails_is_no_result() {
        let turn = Cell::new(0);
        let measure = || {
            turn.set(turn.get() + 1);
            let mut record = record(1.0);
            if turn.get() == 4 {
                record.outcome = Outcome::Failed("broken".to_owned());
            }
            vec![record]
        };
        let records = compare(Path::new("/bin/true"), true, measure);
        assert!(matches!(&records[0].outcome, Outcome::Failed(why) if why == "broken"));
        assert_eq!(turn.get(), 4, "it is not tried again");
    }
}
