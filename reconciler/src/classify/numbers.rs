//! Numbers that stay with rules: their slots, and the labels that say in which order they are.
//!
//! A slot is what a rule's counters, actions and limits are kept under. A label only says what is
//! before what, with gaps, so that a rule that comes between others changes nothing of theirs. Both
//! are part of the record, like the numbers of ports ([`allocation`](crate::allocation)).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Family, Rule, partition::Partition, rule::Compiled};
use crate::parallel;

/// Slot and label.
pub(super) type Numbers = (u32, u32);

/// The numbers of one cube's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleNumbers {
    /// By key.
    rules: BTreeMap<String, Numbers>,
    /// How the rules are divided into tuples: list by list, family by family.
    partitions: Vec<Partition>,
}

impl RuleNumbers {
    /// For these lists of rules: those of `before` where they still apply.
    pub fn new(lists: &[Vec<Rule>], before: Option<&Self>) -> Self {
        let mut this = Self::default();
        let old = |rule: &Rule| before?.rules.get(&rule.key).copied();
        // Also those of rules that go: for a moment, both are there.
        let mut taken: BTreeSet<u32> = before
            .iter()
            .flat_map(|before| before.rules.values())
            .map(|(slot, _)| *slot)
            .collect();
        let mut free = 0;
        let mut numbered = Vec::new();
        for (at, list) in lists.iter().enumerate() {
            let labels = labels(list.iter().map(|rule| Some(old(rule)?.1)).collect());
            for (rule, label) in list.iter().zip(labels) {
                let slot = old(rule).map_or_else(
                    || {
                        while !taken.insert(free) {
                            free += 1;
                        }
                        free
                    },
                    |(slot, _)| slot,
                );
                numbered.push((rule.key.clone(), (slot, label)));
            }
            let compiled = parallel::map(list, parallel::EACH, Compiled::new);
            for (family, number) in Family::ALL.into_iter().zip(at * 2..) {
                let before = before.and_then(|before| before.partitions.get(number));
                let rules = rules_for(family, list, &compiled);
                let rules: Vec<_> = rules.into_iter().map(|(_, rule)| rule).collect();
                this.partitions.push(Partition::new(&rules, family, before));
            }
        }
        this.rules = numbered.into_iter().collect();
        this
    }

    /// The slot of a rule, by its key.
    pub fn slot(&self, key: &str) -> Option<u32> {
        Some(self.rules.get(key)?.0)
    }

    /// The slot and the label of a rule.
    pub(super) fn numbers(&self, key: &str) -> Option<Numbers> {
        self.rules.get(key).copied()
    }

    /// One more than the highest slot.
    pub fn limit(&self) -> u32 {
        let slots = self.rules.values();
        slots.map(|(slot, _)| slot + 1).max().unwrap_or(0)
    }

    /// How a list is divided for a family: an index of `tuples`, before the bank.
    pub(super) fn partition(&self, number: usize) -> Option<&Partition> {
        self.partitions.get(number)
    }
}

/// Rules of a list that packets of the family can match, with where they are.
pub(super) fn rules_for<'a>(
    family: Family,
    list: &[Rule],
    compiled: &'a [Compiled],
) -> Vec<(usize, &'a Compiled)> {
    let all = list.iter().zip(compiled).enumerate();
    all.filter(|(_, (rule, compiled))| rule.is_for(family) && !compiled.never)
        .map(|(at, (_, compiled))| (at, compiled))
        .collect()
}

/// Where labels begin: most rules come at the end, and some at the beginning.
const MIDDLE: u32 = 1 << 30;
/// The highest label: one more stands for no rule.
const LAST: u32 = u32::MAX - 1;
/// From one label to the next at first.
const GAP: u32 = 1 << 15;
/// The same where labels had to be given anew because there was no room between them.
const ROOMY: u32 = 64;

/// Labels for rules in their order. Those that had one keep it, if the others have not changed sides.
fn labels(old: Vec<Option<u32>>) -> Vec<u32> {
    let kept = increasing(&old);
    let mut labels: Vec<Option<u32>> = old
        .iter()
        .zip(kept)
        .map(|(label, kept)| label.filter(|_| kept))
        .collect();
    let mut at = 0;
    while at < labels.len() {
        if labels[at].is_some() {
            at += 1;
            continue;
        }
        let end = (at..labels.len()).find(|end| labels[*end].is_some());
        at = fill(&mut labels, at, end.unwrap_or(old.len()));
    }
    labels.into_iter().flatten().collect()
}

/// Gives labels to `from..to`, and to some around them where there is no room. Says how far.
fn fill(labels: &mut [Option<u32>], mut from: usize, mut to: usize) -> usize {
    let mut least = 1;
    loop {
        let count = (to - from) as u32;
        let before = from.checked_sub(1).and_then(|at| labels[at]);
        let after = labels.get(to).copied().flatten();
        if let Some((start, gap)) = room(before, after, count).filter(|(_, gap)| *gap >= least) {
            for (label, number) in labels[from..to].iter_mut().zip(0..) {
                *label = Some(start + gap * number);
            }
            return to;
        }
        least = ROOMY;
        from = from.saturating_sub(count as usize);
        to = labels.len().min(to + count as usize);
        // Not into the middle of others that have none.
        while labels.get(to).is_some_and(Option::is_none) {
            to += 1;
        }
    }
}

/// The first label and the gap for `count` of them between two others.
fn room(before: Option<u32>, after: Option<u32>, count: u32) -> Option<(u32, u32)> {
    match (before, after) {
        (None, None) => {
            let gap = GAP.min((LAST - MIDDLE) / count.max(1));
            Some((MIDDLE, gap))
        }
        (Some(before), None) => {
            let gap = GAP.min((LAST - before) / count);
            Some((before + gap, gap))
        }
        // Labels begin with 1.
        (None, Some(after)) => {
            let gap = GAP.min((after - 1) / count);
            Some((after - gap * count, gap))
        }
        (Some(before), Some(after)) => {
            let gap = (after - before) / (count + 1);
            Some((before + gap, gap))
        }
    }
    .filter(|(_, gap)| *gap > 0)
}

/// Which of them form the longest sequence that increases.
fn increasing(labels: &[Option<u32>]) -> Vec<bool> {
    // The last of the best sequence of each length, by position; and what is before each.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous = vec![None; labels.len()];
    for (at, label) in labels.iter().enumerate() {
        if label.is_none() {
            continue;
        }
        let length = ends.partition_point(|end| labels[*end] < *label);
        previous[at] = length.checked_sub(1).map(|shorter| ends[shorter]);
        if length == ends.len() {
            ends.push(at);
        } else {
            ends[length] = at;
        }
    }
    let mut kept = vec![false; labels.len()];
    let mut next = ends.last().copied();
    while let Some(at) = next {
        kept[at] = true;
        next = previous[at];
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn increases(labels: &[u32]) -> bool {
        labels.windows(2).all(|pair| pair[0] < pair[1])
            && labels.first() != Some(&0)
            && labels.last() <= Some(&LAST)
    }

    proptest! {
        #[test]
        fn labels_increase_whatever_there_was(
            old in prop::collection::vec(prop::option::of(1..=LAST), 0..50),
            small in prop::collection::vec(prop::option::of(1..40u32), 0..50),
        ) {
            for old in [old, small] {
                let labels = labels(old.clone());
                prop_assert_eq!(labels.len(), old.len());
                prop_assert!(increases(&labels), "{:?}", labels);
            }
        }

        #[test]
        fn one_that_moves_changes_no_other(count in 2usize..200, from: prop::sample::Index, to: prop::sample::Index) {
            let first = labels(vec![None; count]);
            let mut moved: Vec<Option<u32>> = first.iter().copied().map(Some).collect();
            let one = moved.remove(from.index(count));
            moved.insert(to.index(count), one);
            let after = labels(moved.clone());
            prop_assert!(increases(&after));
            let changed = after.iter().zip(&moved).filter(|(new, old)| Some(**new) != **old).count();
            prop_assert!(changed <= 1);
        }
    }

    #[test]
    fn a_thousand_at_the_same_place_move_few_others() {
        for place in [0, 1000, 2000] {
            let mut all: Vec<u32> = labels(vec![None; 2000]);
            let mut most = 0;
            for _ in 0..1000 {
                let mut old: Vec<Option<u32>> = all.iter().copied().map(Some).collect();
                old.insert(place, None);
                all = labels(old.clone());
                let changed = all
                    .iter()
                    .zip(&old)
                    .filter(|(new, old)| Some(**new) != **old);
                most = most.max(changed.count());
                assert!(increases(&all));
            }
            assert!(most <= 128, "{most} at {place}");
        }
    }
}
