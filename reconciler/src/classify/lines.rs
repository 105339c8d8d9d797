//! Which line each rule is in.

use bytemuck::bytes_of;
use ebpf_abi::classifier::{Entry, LINE_RULES, Line, Mixed};

use crate::{
    resource::{Entries, TemplateView},
    rows::Rows,
};

/// A rule that belongs into a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// Says which line, and what stands for the rule there.
    pub mixed: Mixed,
    /// The rule.
    pub entry: Entry,
}

/// So many lines with these rules, without those that are empty: there is room for all of them. Where a rule is does not depend on how the others came to be, and
/// only on those in lines nearby: one that comes or goes moves few others.
pub(super) fn lines(mut placed: Vec<Placed>, count: u32) -> Rows {
    let home = |placed: &Placed| placed.mixed.line() & (count - 1);
    placed.sort_unstable_by_key(|placed| (home(placed), placed.entry, placed.mixed.tag()));
    let mut all = Filling {
        lines: vec![Line::default(); count as usize],
        left: Vec::new(),
    };
    let mut own = placed
        .chunk_by(|one, other| home(one) == home(other))
        .peekable();
    for at in 0..count {
        let its = own.next_if(|own| own.first().is_some_and(|first| home(first) == at));
        all.fill(at, its.unwrap_or_default());
    }
    // The first line is behind the last one.
    let mut own = placed
        .chunk_by(|one, other| home(one) == home(other))
        .peekable();
    for at in 0..count {
        if all.left.is_empty() {
            break;
        }
        let its = own.next_if(|own| own.first().is_some_and(|first| home(first) == at));
        all.fill(at, its.unwrap_or_default());
    }
    let used = (0u32..).zip(&all.lines);
    let used = used.filter(|(_, line)| **line != Line::default());
    used.map(|(at, line)| (at.to_ne_bytes(), bytes_of(line)))
        .collect()
}

/// How many rules are in the lines of a table, in one bank.
pub fn in_lines(lines: Entries<'_>) -> usize {
    let rules = |line: TemplateView<'_>| {
        let words = line.bytes.chunks_exact(size_of::<Entry>()).skip(1);
        words
            .filter(|word| word.iter().any(|byte| *byte != 0))
            .count()
    };
    lines.values().map(rules).sum()
}

/// Lines one after the other.
struct Filling {
    lines: Vec<Line>,
    /// Those for which the lines before had no room.
    left: Vec<Placed>,
}

impl Filling {
    /// Fills a line: what could not be where it belongs comes first, so that nothing goes far.
    fn fill(&mut self, at: u32, own: &[Placed]) {
        if self.left.is_empty() && own.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.left);
        all.extend_from_slice(own);
        self.left = all.split_off(LINE_RULES.min(all.len()));
        all.sort_by_key(|placed| placed.entry.label());
        let tagged = all.iter().map(|placed| (placed.mixed.tag(), placed.entry));
        let tagged: Vec<_> = tagged.collect();
        self.lines[at as usize] = Line::new(&tagged, !self.left.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytemuck::pod_read_unaligned;
    use proptest::prelude::*;

    use super::*;

    const COUNT: u32 = 16;

    fn placed(rules: &BTreeSet<u64>) -> Vec<Placed> {
        let rule = |number: &u64| Placed {
            mixed: Mixed::new(*number, 0),
            entry: Entry::new(*number as u32 + 1, *number as u32, 0),
        };
        rules.iter().map(rule).collect()
    }

    fn all(rows: &Rows) -> Vec<Line> {
        let line = |at: u32| {
            let row = rows.get(&at.to_ne_bytes());
            row.map_or(Line::default(), pod_read_unaligned)
        };
        (0..COUNT).map(line).collect()
    }

    /// Looks for a rule as a lookup does.
    fn is_there(lines: &[Line], rule: &Placed) -> bool {
        let home = rule.mixed.line();
        for distance in 0..COUNT {
            let line = &lines[(home.wrapping_add(distance) & (COUNT - 1)) as usize];
            let mut found = line.found(rule.mixed.tag());
            while found != 0 {
                if line.first(found) == rule.entry {
                    return true;
                }
                found &= found - 1;
            }
            if line.behind() == 0 {
                return false;
            }
        }
        false
    }

    proptest! {
        /// Up to the last place, also where lines at the end have to go on at the beginning.
        #[test]
        fn every_rule_is_found(rules in prop::collection::btree_set(0u64..1 << 20, 0..LINE_RULES * COUNT as usize)) {
            let rules = placed(&rules);
            let lines = all(&lines(rules.clone(), COUNT));
            for rule in &rules {
                prop_assert!(is_there(&lines, rule));
            }
            let labels = |line: &Line| -> Vec<u32> {
                let entries = line.words[1..].iter().map(|word| Entry(*word));
                entries.map(Entry::label).take_while(|label| *label != 0).collect()
            };
            prop_assert!(lines.iter().all(|line| labels(line).is_sorted()));
            prop_assert_eq!(lines.iter().map(|line| labels(line).len()).sum::<usize>(), rules.len());
        }

        /// The order in which rules come makes no difference.
        #[test]
        fn lines_say_nothing_of_how_they_came_to_be(
            rules in prop::collection::btree_set(0u64..1 << 20, 0..LINE_RULES * COUNT as usize),
        ) {
            let rules = placed(&rules);
            let turned: Vec<Placed> = rules.iter().rev().copied().collect();
            prop_assert_eq!(all(&lines(rules, COUNT)), all(&lines(turned, COUNT)));
        }

        /// Half full, one rule changes few lines.
        #[test]
        fn one_that_goes_moves_few_others(
            rules in prop::collection::btree_set(0u64..1 << 20, LINE_RULES * COUNT as usize / 2),
            one: prop::sample::Index,
        ) {
            let before = all(&lines(placed(&rules), COUNT));
            let mut rules = rules;
            let one = *one.get(&rules.iter().copied().collect::<Vec<_>>());
            rules.remove(&one);
            let after = all(&lines(placed(&rules), COUNT));
            let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
            prop_assert!(changed.count() <= 6);
        }
    }
}
