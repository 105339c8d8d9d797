//! What is in a map of the kernel.

use std::{collections::BTreeMap, fmt};

/// Entries of one size each, sorted by key. They lie flat, one after the other: there may be a
/// million, and each plan reads, compares and drops all of them.
#[derive(Clone, Default)]
pub struct Rows {
    key_size: usize,
    value_size: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl Rows {
    /// Takes keys and values as they lie in memory, in any order. Of entries with the same key the
    /// last one counts.
    pub fn new(key_size: usize, value_size: usize, keys: Vec<u8>, values: Vec<u8>) -> Self {
        let rows = Self {
            key_size,
            value_size,
            keys,
            values,
        };
        let sorted = rows.iter().map(|(key, _)| key).is_sorted_by(|a, b| a < b);
        if sorted { rows } else { rows.sorted() }
    }

    fn sorted(&self) -> Self {
        // Beside each place, the first bytes of its key as a number: they mostly tell which is first, where they lie. By
        // place at last, so that the last one of a key stays the last.
        let mut order: Vec<(u64, usize)> = (0..self.len())
            .map(|at| (first_bytes(self.key(at)), at))
            .collect();
        order.sort_unstable_by(|(a_first, a), (b_first, b)| {
            let rest = || self.key(*a).cmp(self.key(*b)).then(a.cmp(b));
            a_first.cmp(b_first).then_with(rest)
        });
        let order: Vec<usize> = order.into_iter().map(|(_, at)| at).collect();
        let mut sorted = Self {
            key_size: self.key_size,
            value_size: self.value_size,
            keys: Vec::with_capacity(self.keys.len()),
            values: Vec::with_capacity(self.values.len()),
        };
        for same in order.chunk_by(|a, b| self.key(*a) == self.key(*b)) {
            let last = same[same.len() - 1];
            sorted.keys.extend_from_slice(self.key(last));
            sorted.values.extend_from_slice(self.value(last));
        }
        sorted
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.keys.len().checked_div(self.key_size).unwrap_or(0)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let keys = self.keys.chunks_exact(self.key_size.max(1));
        keys.zip((0..).map(|at| self.value(at)))
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.find(key).ok().map(|at| self.value(at))
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) {
        if self.is_empty() {
            (self.key_size, self.value_size) = (key.len(), value.len());
        }
        debug_assert_eq!((key.len(), value.len()), (self.key_size, self.value_size));
        match self.find(key) {
            Ok(at) => self.values[self.value_size * at..][..value.len()].copy_from_slice(value),
            Err(at) => {
                let (from, to) = (self.key_size * at, self.value_size * at);
                self.keys.splice(from..from, key.iter().copied());
                self.values.splice(to..to, value.iter().copied());
            }
        }
    }

    /// Removes a key, if it is there.
    pub fn remove(&mut self, key: &[u8]) {
        if let Ok(at) = self.find(key) {
            let (from, to) = (self.key_size * at, self.value_size * at);
            self.keys.drain(from..from + self.key_size);
            self.values.drain(to..to + self.value_size);
        }
    }

    /// Keys and values of some entries at a time, as they lie in memory, and how many they are.
    pub fn batches(&self, of: usize) -> impl Iterator<Item = (&[u8], &[u8], usize)> {
        let starts = (0..self.len()).step_by(of.max(1));
        starts.map(move |from| {
            let count = of.min(self.len() - from);
            let keys = &self.keys[from * self.key_size..][..count * self.key_size];
            let values = &self.values[from * self.value_size..][..count * self.value_size];
            (keys, values, count)
        })
    }

    fn key(&self, at: usize) -> &[u8] {
        &self.keys[self.key_size * at..][..self.key_size]
    }

    fn value(&self, at: usize) -> &[u8] {
        &self.values[self.value_size * at..][..self.value_size]
    }

    /// Where a key is, or else should be.
    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(from)
    }
}

/// The first eight bytes of a key as a number that sorts as they do; what a shorter one has not is zero.
fn first_bytes(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = key.len().min(first.len());
    first[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(first)
}

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        // Of an empty one the sizes say nothing.
        let sizes = |rows: &Self| (rows.key_size, rows.value_size);
        (self.is_empty() && other.is_empty())
            || (sizes(self) == sizes(other)
                && self.keys == other.keys
                && self.values == other.values)
    }
}

impl Eq for Rows {}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, V)> for Rows {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let (mut key_size, mut value_size) = (0, 0);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            let (key, value) = (key.as_ref(), value.as_ref());
            (key_size, value_size) = (key.len(), value.len());
            keys.extend_from_slice(key);
            values.extend_from_slice(value);
        }
        Self::new(key_size, value_size, keys, values)
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> From<BTreeMap<K, V>> for Rows {
    fn from(entries: BTreeMap<K, V>) -> Self {
        entries.into_iter().collect()
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(rows: &Rows) -> Vec<(Vec<u8>, Vec<u8>)> {
        let owned = |(key, value): (&[u8], &[u8])| (key.to_vec(), value.to_vec());
        rows.iter().map(owned).collect()
    }

    proptest! {
        /// Also where keys differ in what is not compared as a number.
        #[test]
        fn long_keys_are_in_order(keys in prop::collection::vec(prop::array::uniform11(0u8..2), 0..60)) {
            let numbered = || keys.iter().zip(0u8..).map(|(key, number)| (*key, [number]));
            let model: BTreeMap<[u8; 11], [u8; 1]> = numbered().collect();
            let table: Rows = numbered().collect();
            prop_assert_eq!(entries(&table), entries(&Rows::from(model.clone())));
            prop_assert!(table.iter().map(|(key, _)| key.to_vec()).eq(model.keys().map(|key| key.to_vec())));
        }

        /// It holds what a map of the standard library does.
        #[test]
        fn as_a_map(
            made in prop::collection::vec(([0u8..8, 0u8..8], any::<[u8; 3]>()), 0..40),
            changes in prop::collection::vec(([0u8..8, 0u8..8], any::<Option<[u8; 3]>>()), 0..40),
        ) {
            let mut model: BTreeMap<[u8; 2], [u8; 3]> = made.iter().copied().collect();
            let mut rows: Rows = made.into_iter().collect();
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        model.insert(key, value);
                        rows.insert(&key, &value);
                    }
                    None => {
                        model.remove(&key);
                        rows.remove(&key);
                    }
                }
                prop_assert_eq!(rows.get(&key), model.get(&key).map(<[u8; 3]>::as_slice));
            }
            prop_assert_eq!(rows.len(), model.len());
            let whole: Vec<_> = model.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(entries(&rows), whole);
            let again: Rows = model.into_iter().collect();
            prop_assert_eq!(&rows, &again);
            let (mut keys, mut values, mut count) = (Vec::new(), Vec::new(), 0);
            for batch in rows.batches(7) {
                keys.extend_from_slice(batch.0);
                values.extend_from_slice(batch.1);
                count += batch.2;
            }
            prop_assert_eq!(count, rows.len());
            prop_assert_eq!(Rows::new(2, 3, keys, values), rows);
        }
    }

    #[test]
    fn empty_rows_are_equal() {
        let mut emptied: Rows = [([1], [2, 3])].into_iter().collect();
        emptied.remove(&[1]);
        assert_eq!(emptied, Rows::default());
        assert_eq!(emptied.iter().count(), 0);
        assert_eq!(emptied.batches(4).count(), 0);
    }
}
