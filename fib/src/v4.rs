//! IPv4: a trie of blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use ebpf_abi::{
    address::V4,
    fib::{self, Node, V4_BLOCKS, V4_COUNT},
    router::RouteEntry,
};

use crate::{Full, Words, list::List};

/// An IPv4 prefix: address in the machine's byte order, length.
pub type Prefix = (u32, u8);
type Key = Prefix;

/// The list of routes: address in the high half, entry in the low half.
const LIST: List = List {
    count: V4_COUNT as usize,
    size: 1,
};

/// Words for a table with this many routes. What routes need depends on how they share blocks;
/// this is for the worst there is on the Internet, and for random ones up to 24 bits.
pub fn words_for_v4(routes: usize, stride: u32) -> usize {
    let block = 1 << stride;
    // Each /16 has one block of 2^8, or is divided as often as there are routes; a few routes are
    // longer than 24 bits.
    let blocks = match stride {
        8 => routes.min(1 << 16) + routes / 32 + 64,
        _ => 2 * routes + 64,
    };
    V4_BLOCKS as usize + blocks * block + routes + routes / 8
}

/// Words for a table with these prefixes and a quarter more, rounded so that most changes leave
/// the size as it is.
pub fn words_for_prefixes_v4(prefixes: impl Iterator<Item = Prefix>, stride: u32) -> usize {
    let level = Blocks::new(stride);
    let mut blocks = BTreeSet::new();
    let mut routes = 0usize;
    for (address, length) in prefixes {
        routes += 1;
        let mut end = level.level(length).end;
        while end > 16 {
            let start = end - level.stride;
            blocks.insert((start, address >> (32 - start)));
            end = start;
        }
    }
    let round = |count: usize| {
        let more = count + count / 4 + 64;
        more.next_multiple_of((more.next_power_of_two() / 8).max(64))
    };
    V4_BLOCKS as usize + (round(blocks.len()) << stride) + round(routes)
}

/// Routes of a table, in no order.
pub fn routes_v4(words: &Words) -> impl Iterator<Item = (u32, RouteEntry)> {
    let count = if words.len() > V4_BLOCKS as usize {
        LIST.len(words)
    } else {
        0
    };
    (0..count).map(|index| {
        let [word] = LIST.get(words, index);
        ((word >> 32) as u32, RouteEntry::from_word(word as u32))
    })
}

/// The longest prefix that contains an address, as data planes find it.
pub fn lookup_v4(words: &Words, stride: u32, address: u32) -> RouteEntry {
    let word = |index: u32| {
        let word = words.get(index as usize);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    };
    let address = V4::new(address.to_be_bytes());
    match stride {
        8 => fib::lookup_v4::<8>(address, word),
        _ => fib::lookup_v4::<4>(address, word),
    }
}

/// Fills an empty table. The routes are sorted by length, then address, and each is there once.
///
/// # Errors
///
/// There is not enough room; the table is of no use then.
pub fn load_v4(words: &Words, stride: u32, routes: &[(u32, RouteEntry)]) -> Result<(), Full> {
    let mut blocks = Blocks::new(stride);
    for (index, (address, entry)) in routes.iter().enumerate() {
        let limit = blocks.end as usize;
        if words.len() < limit + index + 1 {
            return Err(Full);
        }
        LIST.put(words, index, 0, list_word(*address, *entry));
        words[LIST.count].store(index as u64 + 1, Ordering::Release);
        blocks.set(words, (*address, entry.length() as u8), *entry)?;
    }
    Ok(())
}

fn list_word(address: u32, entry: RouteEntry) -> u64 {
    u64::from(address) << 32 | u64::from(entry.word())
}

/// The first `length` bits.
fn masked(address: u32, length: u8) -> u32 {
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    address & mask
}

/// Writes one table.
#[derive(Debug)]
pub struct V4Writer {
    blocks: Blocks,
    routes: BTreeMap<Key, Item>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    entry: RouteEntry,
    /// Its place in the list.
    place: usize,
}

impl V4Writer {
    /// Reads what is in the memory.
    ///
    /// # Errors
    ///
    /// The memory is too small for any table.
    pub fn open(words: &Words, stride: u32) -> Result<Self, Full> {
        if words.len() <= V4_BLOCKS as usize {
            return Err(Full);
        }
        let listed = routes_v4(words).enumerate();
        let routes = listed.map(|(place, (address, entry))| {
            ((address, entry.length() as u8), Item { entry, place })
        });
        let routes = routes.collect();
        let mut blocks = Blocks::new(stride);
        blocks.find(words);
        Ok(Self { blocks, routes })
    }

    /// What is in the table, in order.
    pub fn routes(&self) -> impl Iterator<Item = (u32, RouteEntry)> {
        let routes = self.routes.iter();
        routes.map(|((address, _), item)| (*address, item.entry))
    }

    /// Where a route leads, if it is there.
    pub fn get(&self, address: u32, length: u8) -> Option<RouteEntry> {
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
    /// There is no room; nothing was changed.
    pub fn set(&mut self, words: &Words, address: u32, entry: RouteEntry) -> Result<bool, Full> {
        let key = (address, entry.length() as u8);
        if let Some(item) = self.routes.get_mut(&key) {
            if item.entry == entry {
                return Ok(false);
            }
            item.entry = entry;
            LIST.put(words, item.place, 0, list_word(address, entry));
            self.blocks.set(words, key, entry)?;
            return Ok(true);
        }
        let limit = self.blocks.end as usize;
        let place = LIST.push(words, limit, [list_word(address, entry)])?;
        if let Err(full) = self.blocks.set(words, key, entry) {
            LIST.take::<1>(words, place);
            return Err(full);
        }
        self.routes.insert(key, Item { entry, place });
        Ok(true)
    }

    /// Takes a route away. False if it was not there.
    pub fn remove(&mut self, words: &Words, address: u32, length: u8) -> bool {
        let Some(item) = self.routes.remove(&(address, length)) else {
            return false;
        };
        let first = self.blocks.level(length).start;
        let shorter = (first..length).rev();
        let parent = shorter
            .filter_map(|length| self.routes.get(&(masked(address, length), length)))
            .next();
        let parent = parent.map_or(RouteEntry::NONE, |item| item.entry);
        self.blocks.clear(words, (address, length), parent);
        if let Some([moved]) = LIST.take(words, item.place) {
            let entry = RouteEntry::from_word(moved as u32);
            let key = ((moved >> 32) as u32, entry.length() as u8);
            if let Some(other) = self.routes.get_mut(&key) {
                other.place = item.place;
            }
        }
        true
    }

    /// Blocks that nothing leads to any more, but that a lookup may still be in. Wait until none
    /// is, then [`recycle`](Self::recycle).
    pub fn retired(&self) -> usize {
        self.blocks.retired.len()
    }

    /// No lookup is in a retired block any more.
    pub fn recycle(&mut self) {
        let mut retired = std::mem::take(&mut self.blocks.retired);
        self.blocks.free.append(&mut retired);
    }
}

/// The nodes.
#[derive(Debug)]
struct Blocks {
    stride: u8,
    /// Behind the last block that was ever used.
    end: u32,
    free: Vec<u32>,
    retired: Vec<u32>,
}

/// Lengths of routes that end in a level, and where its nodes for an address begin.
struct Level {
    start: u8,
    end: u8,
}

impl Blocks {
    fn new(stride: u32) -> Self {
        Self {
            stride: stride as u8,
            end: V4_BLOCKS,
            free: Vec::new(),
            retired: Vec::new(),
        }
    }

    const fn size(&self) -> u32 {
        1 << self.stride
    }

    /// The level in which a route ends.
    fn level(&self, length: u8) -> Level {
        if length <= 16 {
            return Level { start: 0, end: 16 };
        }
        let end = 16 + (length - 16).next_multiple_of(self.stride);
        Level {
            start: end - self.stride + 1,
            end,
        }
    }

    /// Learns from the memory which blocks are in use.
    fn find(&mut self, words: &Words) {
        let mut used = Vec::new();
        let mut open: Vec<u32> = vec![0];
        let mut size = fib::ROOT;
        while let Some(block) = open.pop() {
            if block != 0 {
                size = self.size();
                used.push(block);
            }
            // Others wrote into the memory: blocks lead in circles.
            if used.len() * self.size() as usize > words.len() {
                break;
            }
            for node in words.iter().skip(block as usize).take(size as usize) {
                let below = Node(node.load(Ordering::Acquire)).block();
                open.extend((below != 0).then_some(below));
            }
        }
        used.sort_unstable();
        let mut next = V4_BLOCKS;
        for block in used {
            while next < block {
                self.free.push(next);
                next += self.size();
            }
            next = block + self.size();
        }
        self.end = next;
    }

    fn allocate(&mut self, words: &Words) -> Result<u32, Full> {
        if let Some(block) = self.free.pop() {
            for node in &words[block as usize..(block + self.size()) as usize] {
                node.store(0, Ordering::Relaxed);
            }
            return Ok(block);
        }
        let block = self.end;
        if (block + self.size()) as usize > LIST.start(words) {
            return Err(Full);
        }
        self.end += self.size();
        // Others may have left something there.
        for node in &words[block as usize..self.end as usize] {
            node.store(0, Ordering::Relaxed);
        }
        Ok(block)
    }

    /// The nodes above a route's, from the root on; blocks that are missing are made.
    fn path(&mut self, words: &Words, (address, length): Key) -> Result<(Vec<u32>, u32), Full> {
        let target = self.level(length).end;
        let (mut block, mut end) = (0, 16);
        let mut above = Vec::new();
        while end < target {
            let bits = if end == 16 { 16 } else { self.stride };
            let node = block + (address >> (32 - end) & ((1 << bits) - 1));
            let there = Node(words[node as usize].load(Ordering::Acquire));
            block = there.block();
            if block == 0 {
                block = self.allocate(words)?;
                let linked = Node::new(there.route(), block);
                words[node as usize].store(linked.0, Ordering::Release);
            }
            above.push(node);
            end += self.stride;
        }
        Ok((above, block))
    }

    /// The nodes of a route in its block.
    fn span(&self, block: u32, (address, length): Key) -> std::ops::Range<usize> {
        let level = self.level(length);
        let bits = if level.end == 16 { 16 } else { self.stride };
        let first = block + (address >> (32 - level.end) & ((1 << bits) - 1));
        first as usize..first as usize + (1 << (level.end - length))
    }

    fn set(&mut self, words: &Words, key: Key, entry: RouteEntry) -> Result<(), Full> {
        let (_, block) = self.path(words, key)?;
        for node in &words[self.span(block, key)] {
            let there = Node(node.load(Ordering::Relaxed));
            let route = there.route();
            if route.word() == 0 || route.length() <= entry.length() {
                node.store(Node::new(entry, there.block()).0, Ordering::Release);
            }
        }
        Ok(())
    }

    fn clear(&mut self, words: &Words, key: Key, parent: RouteEntry) {
        let Ok((mut above, mut block)) = self.path(words, key) else {
            return;
        };
        for node in &words[self.span(block, key)] {
            let there = Node(node.load(Ordering::Relaxed));
            if there.route().word() != 0 && there.route().length() == u32::from(key.1) {
                node.store(Node::new(parent, there.block()).0, Ordering::Release);
            }
        }
        while let Some(node) = above.pop() {
            let nodes = &words[block as usize..(block + self.size()) as usize];
            if nodes.iter().any(|node| node.load(Ordering::Relaxed) != 0) {
                return;
            }
            let there = Node(words[node as usize].load(Ordering::Relaxed));
            words[node as usize].store(Node::new(there.route(), 0).0, Ordering::Release);
            self.retired.push(block);
            block = node - (node.wrapping_sub(V4_BLOCKS) & (self.size() - 1));
        }
    }
}

/// Whether lookups find what the list says, and nothing else.
pub fn is_sound_v4(words: &Words, stride: u32) -> bool {
    let mut routes: Vec<_> = routes_v4(words).collect();
    let key = |(address, entry): &Listed| (*address, entry.length());
    routes.sort_unstable_by_key(key);
    let is_once = routes.windows(2).all(|pair| key(&pair[0]) != key(&pair[1]));
    words.len() > V4_BLOCKS as usize && is_once && Blocks::new(stride).hold(words, 0, 16, &routes)
}

/// A route of the list.
type Listed = (u32, RouteEntry);

impl Blocks {
    /// Whether a block that decides the bits before `end`, and those below it, hold these routes
    /// and nothing else. They are sorted by address, then length.
    fn hold(&self, words: &Words, block: u32, end: u8, mut routes: &[Listed]) -> bool {
        let bits = if end == 16 { 16 } else { self.stride };
        let first = block as usize;
        // A block outside the memory is none of ours.
        let Some(nodes) = words.get(first..first + (1 << bits)) else {
            return false;
        };
        let place = |address: u32| (address >> (32 - end)) as usize & ((1 << bits) - 1);
        let mut wanted = vec![RouteEntry::NONE; nodes.len()];
        for (address, entry) in routes {
            let Some(more) = u32::from(end).checked_sub(entry.length()) else {
                continue;
            };
            let place = place(*address);
            let Some(span) = wanted.get_mut(place..place + (1 << more)) else {
                return false;
            };
            for node in span
                .iter_mut()
                .filter(|node| node.length() <= entry.length())
            {
                *node = *entry;
            }
        }
        for (index, (node, wanted)) in nodes.iter().zip(wanted).enumerate() {
            let node = Node(node.load(Ordering::Relaxed));
            let count = routes
                .iter()
                .take_while(|(address, _)| place(*address) == index)
                .count();
            let (here, rest) = routes.split_at(count);
            routes = rest;
            // Those that end in this block come first.
            let ends = here
                .iter()
                .take_while(|(_, entry)| entry.length() <= u32::from(end));
            let below = &here[ends.count()..];
            if node.route() != wanted || (node.block() == 0) != below.is_empty() {
                return false;
            }
            if !below.is_empty()
                && (end >= 32 || !self.hold(words, node.block(), end + self.stride, below))
            {
                return false;
            }
        }
        routes.is_empty()
    }
}
