//! The hash table of an IPv6 table: prefixes and markers.

use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_abi::{
    fib::{
        self, BUCKET, HALF, Meta, OVERFLOWED, PROBES, SLOT, SLOTS, V6_DEFAULT, V6_FIRST,
        V6_HEADER_BUCKETS, V6_HOSTS, V6_LENGTHS, V6_LENGTHS_LONG, V6_MASK, V6_STEP,
    },
    router::RouteEntry,
};

use crate::{Full, Words, list::List};

/// Prefix: address in the machine's byte order, length.
pub(crate) type Key = (u128, u8);

/// The list of routes: address in two words, entry, nothing.
pub(crate) const LIST: List = List { count: 16, size: 4 };

/// Words of the header.
pub(crate) const HEADER: usize = (V6_HEADER_BUCKETS * BUCKET) as usize;

/// Word of the header: the first of the numbers of slots by length.
const COUNTS: usize = 64;

/// The first `length` bits.
pub(crate) fn masked(address: u128, length: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    address & mask
}

/// The lengths at which a lookup must be told that there is something longer.
pub(crate) fn markers(length: u8) -> impl Iterator<Item = u8> {
    let (mut at, mut step) = (64, 32);
    std::iter::from_fn(move || {
        // Host routes are looked for first; the default route is in the header.
        while at != length && !matches!(length, 0 | 128) {
            let shorter = at;
            at = if length > at { at + step } else { at - step };
            step /= 2;
            if length > shorter {
                return Some(shorter);
            }
        }
        None
    })
}

/// The slots.
pub(crate) struct Hash<'a> {
    words: &'a Words,
    /// Buckets behind the header, less one.
    pub(crate) mask: u32,
}

/// Where a prefix is.
pub(crate) struct Found {
    /// Its first word.
    pub(crate) slot: usize,
    /// Buckets that are full in front of it.
    passed: u32,
}

impl<'a> Hash<'a> {
    /// Divides the memory, if that was not done before.
    pub(crate) fn open(words: &'a Words) -> Result<Self, Full> {
        let room = words.len().checked_sub(HEADER).ok_or(Full)?;
        // The list has at least a fifteenth: see `words_for_v6`.
        let most = room / 15 * 14 / BUCKET as usize;
        let buckets = match most {
            0 => return Err(Full),
            most => 1u32 << most.ilog2(),
        };
        let mask = buckets - 1;
        words[V6_MASK as usize].store(mask.into(), Ordering::Release);
        words[V6_FIRST as usize].store(HALF.into(), Ordering::Release);
        words[V6_STEP as usize].store((HALF / 2).into(), Ordering::Release);
        Ok(Self { words, mask })
    }

    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index]
    }

    pub(crate) fn load(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Acquire)
    }

    pub(crate) fn bucket(&self, (address, length): Key, probe: u32) -> usize {
        let (high, low) = ((address >> 64) as u64, address as u64);
        let index = fib::hash(high, low, length.into()).wrapping_add(probe) & self.mask;
        ((index + V6_HEADER_BUCKETS) * BUCKET) as usize
    }

    pub(crate) fn meta(&self, slot: usize) -> Meta {
        Meta(self.load(slot + 2))
    }

    pub(crate) fn find(&self, key: Key) -> Option<Found> {
        let (high, low) = ((key.0 >> 64) as u64, key.0 as u64);
        for probe in 0..PROBES {
            let bucket = self.bucket(key, probe);
            for slot in (0..SLOTS).map(|slot| bucket + (slot * SLOT) as usize) {
                if self.meta(slot).length() == u32::from(key.1)
                    && self.load(slot) == high
                    && self.load(slot + 1) == low
                {
                    return Some(Found {
                        slot,
                        passed: probe,
                    });
                }
            }
            if self.load(bucket + OVERFLOWED as usize) as u32 == 0 {
                return None;
            }
        }
        None
    }

    /// Adds `by` to how many prefixes had to pass the first `passed` buckets.
    pub(crate) fn pass(&self, key: Key, passed: u32, by: i64) {
        for probe in 0..passed {
            let word = self.bucket(key, probe) + OVERFLOWED as usize;
            self.word(word).fetch_add(by as u64, Ordering::AcqRel);
        }
    }

    pub(crate) fn insert(&self, key: Key, best: RouteEntry) -> Result<usize, Full> {
        for probe in 0..PROBES {
            let bucket = self.bucket(key, probe);
            let mut slots = (0..SLOTS).map(|slot| bucket + (slot * SLOT) as usize);
            let Some(slot) = slots.find(|slot| self.meta(*slot).length() == 0) else {
                continue;
            };
            self.pass(key, probe, 1);
            self.word(slot)
                .store((key.0 >> 64) as u64, Ordering::Release);
            self.word(slot + 1).store(key.0 as u64, Ordering::Release);
            let meta = Meta::new(best, key.1);
            self.word(slot + 2).store(meta.0, Ordering::Release);
            self.count(key.1, 1);
            return Ok(slot);
        }
        Err(Full)
    }

    pub(crate) fn delete(&self, key: Key, found: &Found) {
        self.count(key.1, -1);
        self.word(found.slot + 2).store(0, Ordering::Release);
        self.pass(key, found.passed, -1);
    }

    /// Counts slots by length, and says of which lengths there are any.
    pub(crate) fn count(&self, length: u8, by: i64) {
        let count = self.word(COUNTS + usize::from(length));
        let there = count.load(Ordering::Relaxed).wrapping_add(by as u64);
        count.store(there, Ordering::Relaxed);
        let (word, bit) = match length {
            128 => (V6_HOSTS, 0),
            64.. => (V6_LENGTHS_LONG, length - 64),
            _ => (V6_LENGTHS, length),
        };
        let word = self.word(word as usize);
        if there == 0 {
            word.fetch_and(!(1 << bit), Ordering::AcqRel);
        } else {
            word.fetch_or(1 << bit, Ordering::AcqRel);
        }
    }

    pub(crate) fn any(&self, length: u8) -> bool {
        self.load(COUNTS + usize::from(length)) != 0
    }

    /// Adds a route to the list.
    pub(crate) fn list(&self, (address, _): Key, entry: RouteEntry) -> Result<usize, Full> {
        let limit = ((self.mask + 1 + V6_HEADER_BUCKETS) * BUCKET) as usize;
        let (high, low) = ((address >> 64) as u64, address as u64);
        LIST.push(self.words, limit, [high, low, entry.word().into(), 0])
    }

    /// Adds a route and its markers.
    pub(crate) fn add(&self, key: Key, entry: RouteEntry) -> Result<(), Full> {
        let mut made = 0;
        for length in markers(key.1) {
            let marker = (masked(key.0, length), length);
            let slot = match self.find(marker) {
                Some(found) => Ok(found.slot),
                None => self.insert(marker, self.longest(marker.0, length)),
            };
            let Ok(slot) = slot else {
                self.unmark(key, made);
                return Err(Full);
            };
            self.refer(slot, 1);
            made += 1;
        }
        let result = self.put(key, entry);
        if result.is_err() {
            self.unmark(key, made);
        }
        result
    }

    /// Notes who needs a marker, in the half of the word that data planes do not look at.
    pub(crate) fn refer(&self, slot: usize, by: i64) -> u64 {
        let by = (by << 32) as u64;
        let before = self.word(slot + 3).fetch_add(by, Ordering::AcqRel);
        before.wrapping_add(by) >> 32
    }

    /// Takes back the first markers of a route.
    pub(crate) fn unmark(&self, key: Key, count: usize) {
        for length in markers(key.1).take(count) {
            let marker = (masked(key.0, length), length);
            let Some(found) = self.find(marker) else {
                continue;
            };
            let is_route = self.meta(found.slot).best().length() == u32::from(length);
            if self.refer(found.slot, -1) == 0 && !is_route {
                self.delete(marker, &found);
            }
        }
    }

    /// Writes a route whose markers are there.
    pub(crate) fn put(&self, key: Key, entry: RouteEntry) -> Result<(), Full> {
        if key.1 == 0 {
            let word = self.word(V6_DEFAULT as usize);
            word.store(entry.word().into(), Ordering::Release);
            return Ok(());
        }
        match self.find(key) {
            Some(found) => {
                let meta = Meta::new(entry, key.1);
                self.word(found.slot + 2).store(meta.0, Ordering::Release);
            }
            None => {
                self.insert(key, entry)?;
            }
        }
        Ok(())
    }

    /// Takes a route away. A marker that others need stays.
    pub(crate) fn remove(&self, key: Key, parent: RouteEntry) {
        if key.1 == 0 {
            let word = self.word(V6_DEFAULT as usize);
            word.store(0, Ordering::Release);
            return;
        }
        if let Some(found) = self.find(key) {
            if self.word(found.slot + 3).load(Ordering::Acquire) >> 32 == 0 {
                self.delete(key, &found);
            } else {
                let meta = Meta::new(parent, key.1);
                self.word(found.slot + 2).store(meta.0, Ordering::Release);
            }
        }
        self.unmark(key, usize::MAX);
    }

    /// Tells a marker of a route that is its longest one, or was: those that are longer count more.
    pub(crate) fn pass_on(&self, key: Key, length: u8, entry: RouteEntry) {
        if let Some(found) = self.find(key) {
            let best = self.meta(found.slot).best();
            if best.word() == 0 || best.length() <= u32::from(length) {
                let meta = Meta::new(entry, key.1);
                self.word(found.slot + 2).store(meta.0, Ordering::Release);
            }
        }
    }

    /// The longest route of at most `most` bits, but not the default route: markers leave that to
    /// the header.
    pub(crate) fn longest(&self, address: u128, most: u8) -> RouteEntry {
        let mut best = RouteEntry::NONE;
        let (mut length, mut step) = (64, 32);
        for _ in 0..7 {
            let found = (length <= most && self.any(length))
                .then(|| self.find((masked(address, length), length)))
                .flatten();
            match found {
                Some(found) => {
                    let there = self.meta(found.slot).best();
                    if there.word() != 0 {
                        best = there;
                    }
                    length += step;
                }
                None => length -= step,
            }
            step /= 2;
        }
        best
    }
}
