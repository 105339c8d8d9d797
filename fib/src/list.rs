//! The list of routes at the end of a table's memory.

use std::sync::atomic::Ordering;

use crate::{Full, Words};

/// Where a list is: entries of `size` words, the first one at the very end.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// Word that counts the entries.
    pub count: usize,
    /// Words of an entry.
    pub size: usize,
}

impl List {
    /// How many entries there are: never more than the memory holds.
    pub fn len(self, words: &Words) -> usize {
        let count = words.get(self.count);
        let count = count.map_or(0, |count| count.load(Ordering::Acquire));
        (count as usize).min(words.len() / self.size)
    }

    /// Where the list begins: everything before is free for others.
    pub fn start(self, words: &Words) -> usize {
        words.len() - self.len(words) * self.size
    }

    /// Where an entry is.
    fn at(self, words: &Words, index: usize) -> usize {
        words.len() - (index + 1) * self.size
    }

    /// Reads an entry.
    pub fn get<const N: usize>(self, words: &Words, index: usize) -> [u64; N] {
        let at = self.at(words, index);
        std::array::from_fn(|word| words[at + word].load(Ordering::Acquire))
    }

    /// Writes one word of an entry.
    pub fn put(self, words: &Words, index: usize, word: usize, value: u64) {
        words[self.at(words, index) + word].store(value, Ordering::Release);
    }

    /// Adds an entry, if it does not meet what is before `limit`. Returns its place.
    pub fn push<const N: usize>(
        self,
        words: &Words,
        limit: usize,
        entry: [u64; N],
    ) -> Result<usize, Full> {
        let index = self.len(words);
        if self.start(words) < limit + self.size {
            return Err(Full);
        }
        for (word, value) in entry.into_iter().enumerate() {
            self.put(words, index, word, value);
        }
        words[self.count].store(index as u64 + 1, Ordering::Release);
        Ok(index)
    }

    /// Takes an entry out; the last one takes its place. Returns that one, if it was another.
    pub fn take<const N: usize>(self, words: &Words, index: usize) -> Option<[u64; N]> {
        let last = self.len(words).checked_sub(1)?;
        let entry: [u64; N] = self.get(words, last);
        if last != index {
            for (word, value) in entry.into_iter().enumerate() {
                self.put(words, index, word, value);
            }
        }
        words[self.count].store(last as u64, Ordering::Release);
        (last != index).then_some(entry)
    }
}
