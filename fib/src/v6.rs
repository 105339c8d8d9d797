//! IPv6: a hash table of prefixes and markers.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use ebpf_abi::{
    address::V6,
    fib::{self, BUCKET, SLOT, SLOTS, V6_DEFAULT, V6_HOSTS, V6_LENGTHS, V6_LENGTHS_LONG},
    router::RouteEntry,
};

use crate::{
    Full, Words,
    hash::{HEADER, Hash, Key, LIST, markers, masked},
};

/// Words for a table with this many routes, most of them with a marker of their own, at most half
/// full.
pub fn words_for_v6(routes: usize) -> usize {
    let buckets = (routes + routes / 2).max(64).next_power_of_two();
    HEADER + buckets * BUCKET as usize + (routes + routes / 8) * LIST.size
}

/// Routes of a table, in no order.
pub fn routes_v6(words: &Words) -> impl Iterator<Item = (u128, RouteEntry)> {
    let count = if words.len() > HEADER {
        LIST.len(words)
    } else {
        0
    };
    (0..count).map(|index| {
        let [high, low, entry, _] = LIST.get(words, index);
        let address = u128::from(high) << 64 | u128::from(low);
        (address, RouteEntry::from_word(entry as u32))
    })
}

/// The longest prefix that contains an address, as data planes find it.
pub fn lookup_v6(words: &Words, address: u128) -> RouteEntry {
    let bucket = |index: u32| {
        let start = index as usize * BUCKET as usize;
        words.get(start..start + BUCKET as usize).map(Shared)
    };
    fib::lookup_v6(V6::new(address.to_be_bytes()), bucket)
}

#[derive(Clone, Copy)]
struct Shared<'a>(&'a Words);

impl fib::Bucket for Shared<'_> {
    fn word(self, index: u32) -> u64 {
        self.0[index as usize].load(Ordering::Acquire)
    }
}

/// Fills an empty table. The routes are sorted by length, then address, and each is there once.
///
/// # Errors
///
/// There is not enough room; the table is of no use then.
pub fn load_v6(words: &Words, routes: &[(u128, RouteEntry)]) -> Result<(), Full> {
    let table = Hash::open(words)?;
    for (address, entry) in routes {
        let key = (*address, entry.length() as u8);
        table.list(key, *entry)?;
        table.add(key, *entry)?;
    }
    Ok(())
}

/// Writes one table.
#[derive(Debug)]
pub struct V6Writer {
    routes: BTreeMap<Key, Item>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    entry: RouteEntry,
    /// Its place in the list.
    place: usize,
}

impl V6Writer {
    /// Reads what is in the memory.
    ///
    /// # Errors
    ///
    /// The memory is too small for any table.
    pub fn open(words: &Words) -> Result<Self, Full> {
        Hash::open(words)?;
        let listed = routes_v6(words).enumerate();
        let routes = listed.map(|(place, (address, entry))| {
            ((address, entry.length() as u8), Item { entry, place })
        });
        Ok(Self {
            routes: routes.collect(),
        })
    }

    /// What is in the table, in order.
    pub fn routes(&self) -> impl Iterator<Item = (u128, RouteEntry)> {
        let routes = self.routes.iter();
        routes.map(|((address, _), item)| (*address, item.entry))
    }

    /// Where a route leads, if it is there.
    pub fn get(&self, address: u128, length: u8) -> Option<RouteEntry> {
        Some(self.routes.get(&(address, length))?.entry)
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Adds a route, or lets one lead elsewhere. `entry` has its length. False if it was there as
    /// it is.
    ///
    /// # Errors
    ///
    /// There is no room; lookups find what they found before.
    pub fn set(&mut self, words: &Words, address: u128, entry: RouteEntry) -> Result<bool, Full> {
        let table = Hash::open(words)?;
        let key = (address, entry.length() as u8);
        if let Some(item) = self.routes.get_mut(&key) {
            if item.entry == entry {
                return Ok(false);
            }
            item.entry = entry;
            LIST.put(words, item.place, 2, u64::from(entry.word()));
            table.put(key, entry)?;
        } else {
            let place = table.list(key, entry)?;
            if let Err(full) = table.add(key, entry) {
                LIST.take::<4>(words, place);
                return Err(full);
            }
            self.routes.insert(key, Item { entry, place });
        }
        self.inherit(&table, key, entry);
        Ok(true)
    }

    /// Takes a route away. False if it was not there.
    pub fn remove(&mut self, words: &Words, address: u128, length: u8) -> bool {
        let key = (address, length);
        let (Ok(table), Some(item)) = (Hash::open(words), self.routes.remove(&key)) else {
            return false;
        };
        if let Some([high, low, entry, _]) = LIST.take(words, item.place) {
            let length = RouteEntry::from_word(entry as u32).length() as u8;
            let moved = (u128::from(high) << 64 | u128::from(low), length);
            if let Some(other) = self.routes.get_mut(&moved) {
                other.place = item.place;
            }
        }
        let parent = match length {
            0 => RouteEntry::NONE,
            _ => table.longest(address, length - 1),
        };
        self.inherit(&table, key, parent);
        table.remove(key, parent);
        true
    }

    /// Markers below a prefix whose longest route it is, or was.
    fn inherit(&self, table: &Hash<'_>, (address, length): Key, entry: RouteEntry) {
        // The default route is in the header; nothing is below a host.
        if matches!(length, 0 | 128) {
            return;
        }
        let last = address | u128::MAX.checked_shr(length.into()).unwrap_or(0);
        for ((below, longer), _) in self.routes.range((address, length + 1)..=(last, 128)) {
            for marker in markers(*longer).filter(|marker| *marker > length) {
                table.pass_on((masked(*below, marker), marker), length, entry);
            }
        }
    }
}

/// Whether lookups find what the list says, and nothing else.
pub fn is_sound_v6(words: &Words) -> bool {
    let mut routes: Vec<_> = routes_v6(words).collect();
    routes.sort_unstable_by_key(|(address, entry)| (entry.length(), *address));
    let memory: Vec<AtomicU64> = words.iter().map(|_| AtomicU64::new(0)).collect();
    if load_v6(&memory, &routes).is_err() {
        return false;
    }
    let (Ok(there), Ok(wanted)) = (Hash::open(words), Hash::open(&memory)) else {
        return false;
    };
    let header = [V6_DEFAULT, V6_LENGTHS, V6_LENGTHS_LONG, V6_HOSTS];
    if header
        .iter()
        .any(|word| there.load(*word as usize) != wanted.load(*word as usize))
    {
        return false;
    }
    let slots = |table: &Hash<'_>| {
        let buckets = (table.mask + 1) as usize;
        (0..buckets * SLOTS as usize)
            .map(|slot| HEADER + slot * SLOT as usize)
            .filter(|slot| table.meta(*slot).length() != 0)
            .collect::<Vec<_>>()
    };
    let used = slots(&wanted);
    let same = |slot: &usize| {
        let address = u128::from(wanted.load(*slot)) << 64 | u128::from(wanted.load(slot + 1));
        let meta = wanted.meta(*slot);
        let found = there.find((address, meta.length() as u8));
        found.is_some_and(|found| there.meta(found.slot) == meta)
    };
    slots(&there).len() == used.len() && used.iter().all(same)
}
