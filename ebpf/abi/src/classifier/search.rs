//! The lookup: the same code in the kernel and in property tests.

use super::{
    Bucket, BucketKey, DESTINATION_SET, Entry, FURTHER, FilterBit, FilterLine, Header, NO_RULE,
    NOT_DESTINATION, NOT_SOURCE, Rule, SOURCE_SET, TupleList, Words, digest,
    header::{FACT_V6, address_of, destination_port, source_port, state},
    tuple_list,
};
use crate::address::V6;

/// The tables, as they can be read where the lookup runs.
pub trait Tables {
    /// The tuples of a list (an index of `tuples`, with its bank).
    fn tuples(&self, place: u32) -> Option<&TupleList>;
    /// A line of the filter (an index of `filter`, with its bank).
    fn filter(&self, index: u32) -> Option<&FilterLine>;
    /// A part of a bucket.
    fn bucket(&self, key: &BucketKey) -> Option<&Bucket>;
    /// A rule (an index of `rules`, with its bank).
    fn rule(&self, index: u32) -> Option<&Rule>;
    /// True if the address is in the set, in a bank.
    fn in_set(&self, set: u32, bank: u32, address: &V6) -> bool;
}

/// Steps of a lookup, at most: each is about one rule, or one part of a bucket.
pub const STEPS: u32 = 1 << 17;

/// Sets whose answer is kept for the rest of the lookup.
const REMEMBERED: u32 = 32;

/// A lookup on its way. All of it are words: the verifier knows what it wrote as what it reads.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    words: Words,
    /// Which sets were asked for, a bit each: sources in the low half, destinations in the high.
    asked: u64,
    /// What they answered.
    answers: u64,
    /// Index in `tuples`: list, family and bank.
    place: u64,
    bank: u64,
    /// The tuple that is next.
    tuple: u64,
    /// The part of its bucket that is next.
    part: u64,
    /// What of the rule is compared next: the words, the set of the source, that of the destination,
    /// ranges of ports.
    stage: u64,
    /// Label of the first rule found so far; the highest if there is none.
    label: u64,
    rule: u64,
    /// Rules of the bucket that are still to be compared; none from the first on that has no label.
    first: u64,
    second: u64,
    third: u64,
    fourth: u64,
    /// Zero, which the verifier does not know.
    zero: u64,
}

impl Search {
    /// Begins; without tables there is nothing to look for.
    #[inline(always)]
    pub fn new(tables: &impl Tables, list: u32, bank: u32, header: &Header) -> Option<Self> {
        let list = tuple_list(list, header.facts & FACT_V6 != 0);
        let place = crate::chain::in_bank(list, bank);
        let zero = tables.tuples(place)?.zero;
        Some(Self {
            words: header.words(),
            asked: zero,
            answers: zero,
            place: place.into(),
            bank: bank.into(),
            tuple: zero,
            part: zero,
            stage: zero,
            label: zero + u64::from(u32::MAX),
            rule: zero + u64::from(NO_RULE),
            first: zero,
            second: zero,
            third: zero,
            fourth: zero,
            zero,
        })
    }

    /// The slot of the rule that matches first, or [`NO_RULE`].
    #[inline(always)]
    pub const fn rule(&self) -> u32 {
        self.rule as u32
    }

    /// Compares one rule, or looks for the next part of a bucket. True when nothing is left that
    /// could win.
    ///
    /// The verifier follows every way through this, so it does little at a time, keeps its place in
    /// words that the verifier does not know, and indexes nothing by a variable.
    #[inline(always)]
    pub fn step(&mut self, tables: &impl Tables) -> bool {
        let entry = Entry(self.first);
        if entry.label() == 0 {
            return self.next_part(tables);
        }
        let index = crate::chain::in_bank(entry.rule(), self.bank as u32);
        let Some(rule) = tables.rule(index) else {
            return true;
        };
        let wins = u64::from(entry.label()) < self.label;
        let matches = if self.stage == 0 {
            wins && self.matches(rule)
        } else if self.stage <= 2 {
            self.matches_set(tables, rule, self.stage == 1)
        } else {
            self.matches_ranges(rule)
        };
        if matches && self.stage < 3 && rule.flags & FURTHER != 0 {
            self.stage += 1;
            return false;
        }
        self.stage = self.zero;
        if matches {
            (self.label, self.rule) = (entry.label().into(), entry.rule().into());
        }
        if matches || !wins {
            // The others of the bucket come later in the list.
            self.first = self.zero;
            if self.part != 0 {
                (self.tuple, self.part) = (self.tuple + 1, self.zero);
            }
        } else {
            (self.first, self.second, self.third, self.fourth) =
                (self.second, self.third, self.fourth, self.zero);
        }
        false
    }

    /// Takes the entries of the part of a bucket that is next.
    #[inline(always)]
    fn next_part(&mut self, tables: &impl Tables) -> bool {
        let Some(list) = tables.tuples(self.place as u32) else {
            return true;
        };
        let Some(tuple) = list.tuples.get(self.tuple as usize) else {
            return true;
        };
        // Without a tuple the label wraps to the highest.
        if u64::from(tuple.best.wrapping_sub(1)) >= self.label - 1 {
            return true;
        }
        let digest = digest(tuple.seed, &tuple.mask, &self.words);
        let at = FilterBit::new(digest, tuple.filter);
        let line = tables.filter(crate::chain::in_bank(at.line, self.bank as u32));
        let word = line.map_or(0, |line| line.bits[at.word as usize & 7]);
        let part = self.part;
        self.part = self.zero;
        if word >> at.bit & 1 != 0 {
            let key = BucketKey {
                digest,
                part: part as u32,
                place: self.place as u32,
            };
            if let Some(bucket) = tables.bucket(&key) {
                let [first, second, third, fourth] = bucket.entries;
                (self.first, self.second) = (first.0, second.0);
                (self.third, self.fourth) = (third.0, fourth.0);
                if bucket.more != 0 {
                    self.part = part + 1;
                    return false;
                }
            }
        }
        self.tuple += 1;
        false
    }

    /// True if the words of the header are as the rule says.
    #[inline(always)]
    fn matches(&self, rule: &Rule) -> bool {
        let differs = |at: usize| (self.words[at] ^ rule.value[at]) & rule.mask[at];
        let rest = self.words[4];
        if differs(4) != 0 || state(rest) & rule.states == 0 {
            return false;
        }
        // What a set says is asked for later.
        let wrong = |at: usize, not: u8, set: u8| {
            let flags = rule.flags & (not | set);
            (differs(at) | differs(at + 1) != 0) != (flags == not)
        };
        !wrong(0, NOT_SOURCE, SOURCE_SET) && !wrong(2, NOT_DESTINATION, DESTINATION_SET)
    }

    /// True if the address of one side is in the set that the rule says, or says nothing of.
    #[inline(always)]
    fn matches_set(&mut self, tables: &impl Tables, rule: &Rule, source: bool) -> bool {
        let (set, is_set, not) = if source {
            (rule.source_set, SOURCE_SET, NOT_SOURCE)
        } else {
            (rule.destination_set, DESTINATION_SET, NOT_DESTINATION)
        };
        if rule.flags & is_set == 0 {
            return true;
        }
        self.in_set(tables, set, source) != (rule.flags & not != 0)
    }

    /// True if the ports are in the ranges that the rule has.
    #[inline(always)]
    fn matches_ranges(&self, rule: &Rule) -> bool {
        let rest = self.words[4];
        let (mut in_source, mut in_destination) = (0, 0);
        for (at, range) in rule.ranges.iter().enumerate() {
            in_source |= range.bit(source_port(rest)) << at;
            in_destination |= range.bit(destination_port(rest)) << at;
        }
        let found = |ranges: u16, found: u32| ranges == 0 || u32::from(ranges) & found != 0;
        found(rule.source_ranges, in_source) && found(rule.destination_ranges, in_destination)
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
#[inline(always)]
pub fn lookup(tables: &impl Tables, list: u32, bank: u32, header: &Header) -> u32 {
    let Some(mut search) = Search::new(tables, list, bank, header) else {
        return NO_RULE;
    };
    for _ in 0..STEPS {
        if search.step(tables) {
            break;
        }
    }
    search.rule()
}
