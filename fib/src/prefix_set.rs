//! Sets of prefixes that count ([`ebpf_abi::prefix_set`]): their writer.

use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_abi::{
    address::{V4, V6},
    prefix_set::{
        self, Address, BEHIND_V4, BEHIND_V6, BEHIND_WORD_V6, BUCKET, Hits, MARK_SHIFT_V6, Shape,
        address_v6, mark, words_v6,
    },
};

use crate::{Full, Words};

/// A bucket as user space has it mapped.
type Bucket<'a> = &'a [AtomicU64];

/// A prefix: the address, whose other bits are zero, and the length.
pub type Prefix<A> = (A, u32);

/// An address of which there are sets: where things are in a bucket.
pub trait Prefixes: Address + Eq {
    /// The bits of a slot's first word of counters that count packets.
    const PACKETS: u64;
    /// The bits of the second one that count bytes.
    const BYTES: u64;
    /// Where the counters of a slot begin.
    fn counters(slot: u32) -> u32;
    /// The prefix in a slot, if it is not free.
    fn get(bucket: &[AtomicU64], slot: u32) -> Option<Prefix<Self>>;
    /// Gives a free slot to a prefix, which has counted nothing yet.
    fn put(bucket: &[AtomicU64], slot: u32, prefix: Prefix<Self>);
    /// Takes a slot away from its prefix.
    fn clear(bucket: &[AtomicU64], slot: u32);
    /// Whether prefixes are behind a bucket that belong into it or before.
    fn behind(bucket: &[AtomicU64]) -> bool;
    /// Says so.
    fn set_behind(bucket: &[AtomicU64], behind: bool);
}

fn load(bucket: Bucket<'_>, word: u32) -> u64 {
    bucket[word as usize].load(Ordering::Acquire)
}

fn store(bucket: Bucket<'_>, word: u32, value: u64) {
    bucket[word as usize].store(value, Ordering::Release);
}

/// Sets or clears bits of a word in which the data plane may be counting.
fn set(bucket: Bucket<'_>, word: u32, bits: u64, on: bool) {
    let word = &bucket[word as usize];
    if on {
        word.fetch_or(bits, Ordering::AcqRel);
    } else {
        word.fetch_and(!bits, Ordering::AcqRel);
    }
}

/// Where the mark of an IPv4 slot is in the second word.
const fn mark_v4(slot: u32) -> u32 {
    32 + 8 * slot
}

impl Prefixes for V4 {
    const PACKETS: u64 = u64::MAX;
    const BYTES: u64 = u64::MAX;

    fn counters(slot: u32) -> u32 {
        2 + 2 * slot
    }

    fn get(bucket: Bucket<'_>, slot: u32) -> Option<Prefix<Self>> {
        let mark = (load(bucket, 1) >> mark_v4(slot)) as u8;
        let address = load(bucket, slot / 2) >> (32 * (slot % 2));
        Some((V4(address as u32), u32::from(mark).checked_sub(1)?))
    }

    fn put(bucket: Bucket<'_>, slot: u32, (address, length): Prefix<Self>) {
        // Words 0 and 1 are changed by the writer alone.
        let (word, shift) = (slot / 2, 32 * (slot % 2));
        let others = load(bucket, word) & !(u64::from(u32::MAX) << shift);
        store(bucket, word, others | u64::from(address.0) << shift);
        store(bucket, Self::counters(slot), 0);
        store(bucket, Self::counters(slot) + 1, 0);
        set(bucket, 1, u64::from(mark(length)) << mark_v4(slot), true);
    }

    fn clear(bucket: Bucket<'_>, slot: u32) {
        set(bucket, 1, 0xff << mark_v4(slot), false);
    }

    fn behind(bucket: Bucket<'_>) -> bool {
        load(bucket, 1) >= BEHIND_V4
    }

    fn set_behind(bucket: Bucket<'_>, behind: bool) {
        set(bucket, 1, BEHIND_V4, behind);
    }
}

impl Prefixes for V6 {
    const PACKETS: u64 = (1 << MARK_SHIFT_V6) - 1;
    const BYTES: u64 = !BEHIND_V6;

    fn counters(slot: u32) -> u32 {
        4 * slot + 2
    }

    fn get(bucket: Bucket<'_>, slot: u32) -> Option<Prefix<Self>> {
        let mark = (load(bucket, Self::counters(slot)) >> MARK_SHIFT_V6) as u32;
        let address = [load(bucket, 4 * slot), load(bucket, 4 * slot + 1)];
        Some((address_v6(address), mark.checked_sub(1)?))
    }

    fn put(bucket: Bucket<'_>, slot: u32, (address, length): Prefix<Self>) {
        let [high, low] = words_v6(address);
        store(bucket, 4 * slot, high);
        store(bucket, 4 * slot + 1, low);
        set(bucket, Self::counters(slot) + 1, Self::BYTES, false);
        let mark = u64::from(mark(length)) << MARK_SHIFT_V6;
        store(bucket, Self::counters(slot), mark);
    }

    fn clear(bucket: Bucket<'_>, slot: u32) {
        set(bucket, Self::counters(slot), !Self::PACKETS, false);
    }

    fn behind(bucket: Bucket<'_>) -> bool {
        load(bucket, BEHIND_WORD_V6) >= BEHIND_V6
    }

    fn set_behind(bucket: Bucket<'_>, behind: bool) {
        set(bucket, BEHIND_WORD_V6, BEHIND_V6, behind);
    }
}

/// A bucket for the lookup that data planes have.
#[derive(Clone, Copy)]
struct Shared<'a>(Bucket<'a>);

impl prefix_set::Bucket for Shared<'_> {
    fn word(self, index: u32) -> u64 {
        load(self.0, index)
    }
}

/// Where a prefix is, in each copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    bucket: u32,
    slot: u32,
}

/// A set in the memory of an array.
#[derive(Clone, Copy, Debug)]
pub struct PrefixSet<'a> {
    words: &'a Words,
    shape: Shape,
}

impl<'a> PrefixSet<'a> {
    /// The set that is in this memory.
    ///
    /// # Errors
    ///
    /// The memory is smaller.
    pub fn open(words: &'a Words, shape: Shape) -> Result<Self, Full> {
        let there = (shape.buckets() * BUCKET) as usize <= words.len();
        there.then_some(Self { words, shape }).ok_or(Full)
    }

    /// A bucket, in a copy.
    fn bucket_of(self, copy: u32, bucket: u32) -> Bucket<'a> {
        let start = (self.shape.copy(copy) + bucket) * BUCKET;
        &self.words[start as usize..][..BUCKET as usize]
    }

    /// A bucket of the first copy: prefixes are in all copies.
    pub(crate) fn bucket(self, bucket: u32) -> Bucket<'a> {
        self.bucket_of(0, bucket)
    }

    /// A bucket of each copy.
    fn copies(self, bucket: u32) -> impl Iterator<Item = Bucket<'a>> {
        (0..=self.shape.copies).map(move |copy| self.bucket_of(copy, bucket))
    }

    fn next(self, bucket: u32) -> u32 {
        bucket.wrapping_add(1) & self.shape.mask
    }

    /// The bucket that a prefix belongs into.
    fn home<A: Prefixes>(self, (address, length): Prefix<A>) -> u32 {
        address.hash(length) & self.shape.mask
    }

    fn prefixes_in<A: Prefixes>(self, bucket: u32) -> impl Iterator<Item = (Place, Prefix<A>)> {
        let slots = 0..A::SLOTS;
        slots.filter_map(move |slot| {
            Some((Place { bucket, slot }, A::get(self.bucket(bucket), slot)?))
        })
    }

    fn find<A: Prefixes>(self, (address, length): Prefix<A>) -> Option<Place> {
        let mut bucket = self.home((address, length));
        for _ in 0..=self.shape.mask {
            let found = address.find(length, Shared(self.bucket(bucket)));
            if found.hits != 0 {
                let slot =
                    (0..A::SLOTS).find(|slot| u64::from(A::counters(*slot)) == found.hits)?;
                return Some(Place { bucket, slot });
            }
            if found.behind == 0 {
                return None;
            }
            bucket = self.next(bucket);
        }
        None
    }

    /// Adds a prefix, unless it is there. Lookups that run find it or not.
    ///
    /// # Errors
    ///
    /// There is no room; nothing was changed.
    pub fn insert<A: Prefixes>(self, address: A, length: u32) -> Result<(), Full> {
        let prefix = (address, length);
        if self.find(prefix).is_some() {
            return Ok(());
        }
        let home = self.home(prefix);
        let buckets = (0..=self.shape.mask).map(|passed| (home + passed) & self.shape.mask);
        let free = |bucket: u32| {
            let mut slots = 0..A::SLOTS;
            slots.find(|slot| A::get(self.bucket(bucket), *slot).is_none())
        };
        let free = |bucket| Some((bucket, free(bucket)?));
        let (place, slot) = buckets.clone().find_map(free).ok_or(Full)?;
        // Who finds the way to it finds it complete.
        for passed in buckets.take_while(|bucket| *bucket != place) {
            self.copies(passed)
                .for_each(|bucket| A::set_behind(bucket, true));
        }
        self.copies(place)
            .for_each(|bucket| A::put(bucket, slot, prefix));
        Ok(())
    }

    /// Takes a prefix away, if it is there. Before another one is added, all programs that run now have to come to their end:
    /// they may be about to count what they found.
    pub fn remove<A: Prefixes>(self, address: A, length: u32) {
        let Some(Place { mut bucket, slot }) = self.find((address, length)) else {
            return;
        };
        self.copies(bucket).for_each(|copy| A::clear(copy, slot));
        let home = self.home((address, length));
        while bucket != home {
            bucket = bucket.wrapping_sub(1) & self.shape.mask;
            if !self.is_passed::<A>(bucket) {
                self.copies(bucket)
                    .for_each(|copy| A::set_behind(copy, false));
            }
        }
    }

    /// True if a prefix behind this bucket belongs into it or before.
    fn is_passed<A: Prefixes>(self, bucket: u32) -> bool {
        let (mut at, mut distance) = (bucket, 0);
        while A::behind(self.bucket(at)) && distance < self.shape.mask {
            at = self.next(at);
            distance += 1;
            let passed = |prefix| at.wrapping_sub(self.home(prefix)) & self.shape.mask;
            let mut prefixes = self.prefixes_in::<A>(at);
            if prefixes.any(|(_, prefix)| passed(prefix) >= distance) {
                return true;
            }
        }
        false
    }

    /// Adds to what a prefix has counted. False if it is not there.
    pub fn count<A: Prefixes>(self, address: A, length: u32, hits: Hits) -> bool {
        let Some(Place { bucket, slot }) = self.find((address, length)) else {
            return false;
        };
        let word = A::counters(slot) as usize;
        let bucket = self.bucket(bucket);
        bucket[word].fetch_add(hits.packets & A::PACKETS, Ordering::AcqRel);
        bucket[word + 1].fetch_add(hits.bytes & A::BYTES, Ordering::AcqRel);
        true
    }

    /// What is in the set, and what all copies have counted, in no order.
    pub fn entries<A: Prefixes>(self) -> impl Iterator<Item = (Prefix<A>, Hits)> {
        let buckets = 0..=self.shape.mask;
        let prefixes = buckets.flat_map(move |bucket| self.prefixes_in::<A>(bucket));
        prefixes.map(move |(Place { bucket, slot }, prefix)| {
            let word = A::counters(slot);
            let mut sum = Hits::default();
            for copy in self.copies(bucket) {
                sum.packets += load(copy, word) & A::PACKETS;
                sum.bytes += load(copy, word + 1) & A::BYTES;
            }
            (prefix, sum)
        })
    }

    /// Whether lookups find what is in the set, in each copy, and nothing else. Memory that others wrote to may be otherwise.
    pub fn is_sound<A: Prefixes>(self) -> bool {
        (0..=self.shape.mask).all(|bucket| {
            let first = self.bucket(bucket);
            let same = |copy: Bucket<'_>| {
                let mut slots = 0..A::SLOTS;
                slots.all(|slot| A::get(copy, slot) == A::get(first, slot))
                    && A::behind(copy) == A::behind(first)
            };
            let reached = |(place, prefix): (Place, Prefix<A>)| {
                let (address, length) = prefix;
                length <= A::LONGEST
                    && address.network(length) == address
                    && self.find(prefix) == Some(place)
            };
            self.copies(bucket).skip(1).all(same)
                && self.prefixes_in::<A>(bucket).all(reached)
                && (!A::behind(first) || self.is_passed::<A>(bucket))
        })
    }
}
