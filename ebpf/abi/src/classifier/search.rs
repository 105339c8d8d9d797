//! The lookup: the same code in the kernel and in property tests.

use super::{
    DESTINATION_SET, FURTHER, Further, Header, Line, Mixed, NO_RULE, NOT_DESTINATION, NOT_SOURCE,
    Rule, SOURCE_SET, TupleList, Words, digest,
    header::{FACT_V6, address_of, destination_port, facts, source_port, state},
    tuple_list,
};
use crate::{address::V6, assert_size, prefix_set::masks_v6};

/// The tables, as they can be read where the lookup runs.
pub trait Tables {
    /// The tuples of a list (an index of `tuples`, with its bank).
    fn tuples(&self, place: u32) -> Option<&TupleList>;
    /// A line (an index of `lines`, with its bank).
    fn line(&self, index: u32) -> Option<&Line>;
    /// A rule (an index of `rules`, with its bank).
    fn rule(&self, index: u32) -> Option<&Rule>;
    /// What else a rule says (an index of `further`, with its bank).
    fn further(&self, index: u32) -> Option<&Further>;
    /// True if the address is in the set, in a bank.
    fn in_set(&self, set: u32, bank: u32, address: &V6) -> bool;
}

/// Steps of a lookup, at most: each is about one rule, or some lines.
pub const STEPS: u32 = 1 << 17;

/// Tuples whose lines are looked at in one step, at most.
const PROBES: usize = 4;

/// Sets whose answer is kept for the rest of the lookup.
const REMEMBERED: u32 = 32;

/// Words of a [`Search`].
pub const SEARCH_WORDS: usize = 21;

/// The rule that matches first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its slot, or [`NO_RULE`].
    pub rule: u32,
    /// What the cube keeps with it.
    pub data: u64,
}

/// A lookup on its way: the only entry of the table `search`, per CPU, as what is read from a table is unknown to the verifier. It
/// would follow what begins with a number through every tuple.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Search {
    words: Words,
    /// Which sets were asked for, a bit each: sources in the low half, destinations in the high.
    asked: u64,
    /// What they answered.
    answers: u64,
    /// List and family: index in `tuples`, before the bank.
    place: u64,
    bank: u64,
    /// The tuple whose line was looked at; one before the first at the beginning.
    tuple: u64,
    /// The part of the rules with its digest.
    part: u64,
    /// Lines from the one where that belongs to the one that was looked at.
    distance: u64,
    /// That line's index in `lines`.
    line: u64,
    /// Its rules that are still to be compared, a bit each.
    found: u64,
    /// Not 0 if the line behind it is to be looked at, too.
    behind: u64,
    /// Not 0 if the next part is.
    more: u64,
    /// Label of the first rule of the tuple behind; 0 if there is none.
    next: u64,
    /// What of the rule is compared next: the words, the set of the source, that of the destination,
    /// ranges of ports.
    stage: u64,
    /// Label of the first rule found so far; the highest if there is none.
    label: u64,
    rule: u64,
    data: u64,
}
assert_size!(Search, 8 * SEARCH_WORDS);

impl Search {
    /// Begins.
    #[inline(always)]
    pub const fn new(list: u32, bank: u32, words: Words) -> Self {
        let place = tuple_list(list, facts(words[4]) & FACT_V6 != 0);
        Self {
            words,
            asked: 0,
            answers: 0,
            place: place as u64,
            bank: bank as u64,
            tuple: u64::MAX,
            part: 0,
            distance: 0,
            line: 0,
            found: 0,
            behind: 0,
            more: 0,
            next: 0,
            stage: 0,
            label: u32::MAX as u64,
            rule: NO_RULE as u64,
            data: 0,
        }
    }

    /// Its words, as they are in memory.
    #[inline(always)]
    pub const fn to_words(self) -> [u64; SEARCH_WORDS] {
        let [a, b, c, d, rest] = self.words;
        [
            a,
            b,
            c,
            d,
            rest,
            self.asked,
            self.answers,
            self.place,
            self.bank,
            self.tuple,
            self.part,
            self.distance,
            self.line,
            self.found,
            self.behind,
            self.more,
            self.next,
            self.stage,
            self.label,
            self.rule,
            self.data,
        ]
    }

    /// What was found.
    #[inline(always)]
    pub const fn result(&self) -> Found {
        Found {
            rule: self.rule as u32,
            data: self.data,
        }
    }

    /// Looks at the next line, and compares one rule. True when nothing is left that could win.
    ///
    /// The verifier follows every way through this, so it does little at a time, and indexes nothing but tables by a
    /// variable.
    #[inline(always)]
    pub fn step(&mut self, tables: &impl Tables) -> bool {
        let line = if self.found == 0 {
            self.look(tables)
        } else {
            tables.line(self.line as u32)
        };
        let Some(line) = line else {
            return true;
        };
        if self.found != 0 && !self.compare(tables, line) {
            return true;
        }
        self.found | self.behind | self.more == 0 && self.is_last()
    }

    /// Looks at the line behind, or that of the next part, or of the next tuple, and then of those behind it until there is
    /// something: what the lines of several tuples take overlaps. None if there is no rule.
    #[inline(always)]
    fn look<'a>(&mut self, tables: &'a impl Tables) -> Option<&'a Line> {
        if self.behind != 0 {
            self.distance += 1;
        } else {
            self.distance = 0;
            if self.more != 0 {
                (self.part, self.more) = (self.part + 1, 0);
            } else {
                (self.part, self.tuple) = (0, self.tuple.wrapping_add(1));
            }
        }
        let place = crate::chain::in_bank(self.place as u32, self.bank as u32);
        let list = tables.tuples(place)?;
        let mut line = self.probe(tables, list)?;
        for _ in 1..PROBES {
            if self.found | self.behind | self.more != 0 || self.is_last() {
                break;
            }
            (self.distance, self.part) = (0, 0);
            self.tuple = self.tuple.wrapping_add(1);
            line = self.probe(tables, list)?;
        }
        Some(line)
    }

    /// Looks at one line.
    #[inline(always)]
    fn probe<'a>(&mut self, tables: &'a impl Tables, list: &TupleList) -> Option<&'a Line> {
        let tuple = list.tuples.get(self.tuple as usize)?;
        if tuple.best == 0 {
            return None;
        }
        let digest = digest(tuple.seed, &tuple.mask, &self.words);
        let mixed = Mixed::new(digest, self.part);
        let index = mixed.line().wrapping_add(self.distance as u32) & list.lines;
        let index = crate::chain::in_bank(index, self.bank as u32);
        let line = tables.line(index)?;
        self.line = index.into();
        self.found = line.found(mixed.tag());
        self.behind = line.behind();
        self.next = tuple.next.into();
        Some(line)
    }

    /// True if no tuple behind can win.
    #[inline(always)]
    const fn is_last(&self) -> bool {
        // Without one the label wraps to the highest.
        self.next.wrapping_sub(1) >= self.label - 1
    }

    /// Compares a rule of the line. False if a table says what cannot be.
    #[inline(always)]
    fn compare(&mut self, tables: &impl Tables, line: &Line) -> bool {
        let entry = line.first(self.found);
        let index = crate::chain::in_bank(entry.rule(), self.bank as u32);
        let Some(rule) = tables.rule(index) else {
            return false;
        };
        let wins = u64::from(entry.label()) < self.label;
        let matches = if self.stage == 0 {
            wins && entry.place() == self.place && self.matches(rule)
        } else {
            let Some(further) = tables.further(index) else {
                return false;
            };
            if self.stage <= 2 {
                self.matches_set(tables, rule, further, self.stage == 1)
            } else {
                self.matches_ranges(further)
            }
        };
        if matches && self.stage < 3 && rule.flags & FURTHER != 0 {
            self.stage += 1;
            return true;
        }
        self.stage = 0;
        if matches {
            (self.label, self.rule) = (entry.label().into(), entry.rule().into());
            self.data = rule.data;
        }
        if matches || !wins {
            // The others of the line come later in the list.
            self.found = 0;
        } else {
            self.found &= self.found - 1;
            self.more |= entry.more();
        }
        true
    }

    /// True if the words of the header are as the rule says.
    #[inline(always)]
    fn matches(&self, rule: &Rule) -> bool {
        let rest = self.words[4];
        if (rest ^ rule.value[4]) & rule.rest != 0 || state(rest) & rule.states == 0 {
            return false;
        }
        // What a set says is asked for later.
        let wrong = |at: usize, length: u8, not: u8, set: u8| {
            let [high, low] = masks_v6(length.into());
            let differs = (self.words[at] ^ rule.value[at]) & high.to_be()
                | (self.words[at + 1] ^ rule.value[at + 1]) & low.to_be();
            (differs != 0) != (rule.flags & (not | set) == not)
        };
        !wrong(0, rule.source, NOT_SOURCE, SOURCE_SET)
            && !wrong(2, rule.destination, NOT_DESTINATION, DESTINATION_SET)
    }

    /// True if the address of one side is in the set that the rule says, or says nothing of.
    #[inline(always)]
    fn matches_set(
        &mut self,
        tables: &impl Tables,
        rule: &Rule,
        further: &Further,
        source: bool,
    ) -> bool {
        let (set, is_set, not) = if source {
            (further.source_set, SOURCE_SET, NOT_SOURCE)
        } else {
            (further.destination_set, DESTINATION_SET, NOT_DESTINATION)
        };
        if rule.flags & is_set == 0 {
            return true;
        }
        self.in_set(tables, set, source) != (rule.flags & not != 0)
    }

    /// True if the ports are in the ranges that the rule has.
    #[inline(always)]
    fn matches_ranges(&self, further: &Further) -> bool {
        let rest = self.words[4];
        let (mut in_source, mut in_destination) = (0, 0);
        for (at, range) in further.ranges.iter().enumerate() {
            in_source |= range.bit(source_port(rest)) << at;
            in_destination |= range.bit(destination_port(rest)) << at;
        }
        let found = |ranges: u16, found: u32| ranges == 0 || u32::from(ranges) & found != 0;
        found(further.source_ranges, in_source) && found(further.destination_ranges, in_destination)
    }

    #[inline(always)]
    fn in_set(&mut self, tables: &impl Tables, set: u32, source: bool) -> bool {
        let [a, b, c, d, _] = self.words;
        let (address, half) = if source {
            (address_of(a, b), 0)
        } else {
            (address_of(c, d), REMEMBERED)
        };
        let bit = if set < REMEMBERED {
            1 << (set + half)
        } else {
            0
        };
        if self.asked & bit != 0 {
            return self.answers & bit != 0;
        }
        let answer = tables.in_set(set, self.bank as u32, &address);
        self.asked |= bit;
        if answer {
            self.answers |= bit;
        }
        answer
    }
}

/// The slot of the first rule of a list that matches, or [`NO_RULE`].
pub fn lookup(tables: &impl Tables, list: u32, bank: u32, header: &Header) -> u32 {
    let mut search = Search::new(list, bank, header.words());
    for _ in 0..STEPS {
        if search.step(tables) {
            break;
        }
    }
    search.result().rule
}
