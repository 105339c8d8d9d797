//! Lines of the cache in which rules are found by the digest of a key.
//!
//! A line has up to seven rules, of any tuples, lists and families, in the order of their labels, and a byte of each one's digest: a
//! word that is compared at once. A rule for which its line has no room is in the one behind it, and a line that was passed says so. Of many rules with one
//! digest the first few are in its line, and the last of those says that there is another *part*: the next few are in the line of that
//! part's digest. So those that crowd do not crowd out others.

use bytemuck::{Pod, Zeroable};

use crate::assert_size;

/// Rules of a line.
pub const LINE_RULES: usize = 7;
/// Rules of one part of those with the same digest.
pub const PART_RULES: usize = 4;
/// Slots that rules can have.
pub const MAX_SLOTS: u32 = 1 << 29;

/// Lines of one bank, for room for this many rules, which is a power of two.
pub const fn lines(rules: u32) -> u32 {
    let lines = rules / PART_RULES as u32;
    if lines == 0 { 1 } else { lines }
}

/// Value of the array `lines`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Line {
    /// First the tags of the rules, a byte each, 0 for none; its highest byte is not 0 if rules that belong here or before are behind. Then
    /// the rules: [`Entry`].
    pub words: [u64; 1 + LINE_RULES],
}
assert_size!(Line, 64);

/// 1 in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;
/// Where the byte begins that says that rules are behind.
const BEHIND: u32 = 56;
/// The bits of [`Line::found`].
const FOUND: u64 = 0x0080_8080_8080_8080;

impl Line {
    /// With these rules and their tags, by label.
    pub fn new(rules: &[(u8, Entry)], behind: bool) -> Self {
        let mut words = [0; 1 + LINE_RULES];
        for ((tag, entry), at) in rules.iter().take(LINE_RULES).zip(0..) {
            words[0] |= u64::from(*tag) << (8 * at);
            words[at + 1] = entry.0;
        }
        words[0] |= u64::from(behind) << BEHIND;
        Self { words }
    }

    /// Which rules have this tag, a bit each.
    #[inline(always)]
    pub const fn found(&self, tag: u8) -> u64 {
        let differs = self.words[0] ^ (EACH * tag as u64);
        // Without carries from one byte into another.
        let low = 0x7f * EACH;
        !(((differs & low) + low) | differs) & FOUND
    }

    /// Not 0 if rules are behind.
    #[inline(always)]
    pub const fn behind(&self) -> u64 {
        self.words[0] >> BEHIND
    }

    /// The first rule of some that were [found](Self::found).
    #[inline(always)]
    pub const fn first(&self, found: u64) -> Entry {
        let lowest = found & found.wrapping_neg();
        // Of the bytes, the one that comes into the highest place is the number of the word.
        let word = (lowest >> 7).wrapping_mul(0x0102_0304_0506_0708) >> 56;
        Entry(self.words[word as usize & LINE_RULES])
    }
}

/// A rule in a line: one word, so that it is copied as one.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Entry(pub u64);

impl Entry {
    /// From where the rule is in its list, relative to others (the lowest label wins; from 1 on), its slot, its index in
    /// `rules` before the bank (less than [`MAX_SLOTS`]), and the list and family, an index in `tuples` before the bank.
    pub const fn new(label: u32, rule: u32, place: u32) -> Self {
        Self(label as u64 | (rule as u64) << 32 | (place as u64 & 3) << 61)
    }

    /// The same rule, behind which there is another part.
    pub const fn with_more(self) -> Self {
        Self(self.0 | 1 << 63)
    }

    /// The label.
    #[inline(always)]
    pub const fn label(self) -> u32 {
        self.0 as u32
    }

    /// The slot.
    #[inline(always)]
    pub const fn rule(self) -> u32 {
        (self.0 >> 32) as u32 & (MAX_SLOTS - 1)
    }

    /// The list and family.
    #[inline(always)]
    pub const fn place(self) -> u64 {
        self.0 >> 61 & 3
    }

    /// 1 if there is another part.
    #[inline(always)]
    pub const fn more(self) -> u64 {
        self.0 >> 63
    }
}

/// A digest of which each bit changes all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mixed(u64);

impl Mixed {
    /// Of a part of the rules with a digest.
    #[inline(always)]
    pub const fn new(digest: u64, part: u64) -> Self {
        let digest = digest.wrapping_add(part.wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
        // The end of murmur3's finalizer.
        let mixed = (digest ^ digest >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        Self(mixed ^ mixed >> 33)
    }

    /// The line that it belongs into, before the mask.
    #[inline(always)]
    pub const fn line(self) -> u32 {
        self.0 as u32
    }

    /// What stands for it in the line: never 0.
    #[inline(always)]
    pub const fn tag(self) -> u8 {
        (self.0 >> 56) as u8 | 0x80
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_their_tags() {
        let entry = |at: usize| Entry::new(at as u32 + 1, 1000 + at as u32, at as u32 & 3);
        let tags = [0x80, 0x81, 0xff, 0x80, 0x81, 0x80, 0xfe];
        for count in 0..=LINE_RULES {
            let rules: Vec<_> = (0..count).map(|at| (tags[at], entry(at))).collect();
            let line = Line::new(&rules, count == LINE_RULES);
            assert_eq!(line.behind(), u64::from(count == LINE_RULES));
            for tag in 0x80..=0xff {
                let mut found = line.found(tag);
                for (_, entry) in rules.iter().filter(|(its, _)| *its == tag) {
                    assert_eq!(line.first(found), *entry);
                    found &= found - 1;
                }
                assert_eq!(found, 0);
            }
        }
    }

    #[test]
    fn an_entry_says_what_it_was_made_of() {
        let entry = Entry::new(u32::MAX - 1, MAX_SLOTS - 1, 3);
        let is = (entry.label(), entry.rule(), entry.place(), entry.more());
        assert_eq!(is, (u32::MAX - 1, MAX_SLOTS - 1, 3, 0));
        let entry = Entry::new(1, 2, 1).with_more();
        let is = (entry.label(), entry.rule(), entry.place(), entry.more());
        assert_eq!(is, (1, 2, 1, 1));
    }
}
