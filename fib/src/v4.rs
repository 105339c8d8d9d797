//! IPv4: a trie of blocks.

use std::{collections::BTreeMap, ops::Range, sync::atomic::Ordering};

use ebpf_abi::{
    address::V4,
    fib::{self, BLOCK_NODES, LINE, Node, V4_BLOCKS, V4_COUNT},
    router::RouteEntry,
};

use crate::{
    Full, Words,
    block::{Block, NOTHING},
    list::List,
    space::LARGEST,
    trie::{Change, Trie, end_of, place, span},
};

/// An IPv4 prefix: address in the machine's byte order, length.
pub type Prefix = (u32, u8);

/// The list of routes: address in the high half, entry in the low half.
pub const LIST: List = List {
    count: V4_COUNT as usize,
    size: 1,
};

/// Words for a table with this many routes, whatever they are.
pub fn words_for_v4(routes: usize) -> usize {
    // A route takes a line of a block at most, one longer than 24 bits another one in the block above.
    size(2 * routes, routes)
}

/// Words for a table with these prefixes and a quarter more, rounded so that most changes leave
/// the size as it is.
pub fn words_for_prefixes_v4(prefixes: impl Iterator<Item = Prefix>) -> usize {
    let mut routes = 0usize;
    // What begins a node and ends one in each block: routes, and blocks below.
    let mut second = vec![0u32; fib::ROOT as usize];
    let mut third: BTreeMap<u32, u32> = BTreeMap::new();
    for (address, length) in prefixes {
        routes += 1;
        match end_of(length) {
            16 => {}
            24 => second[(address >> 16) as usize] += 1,
            _ => *third.entry(address >> 8).or_default() += 1,
        }
    }
    for block in third.keys() {
        second[(block >> 8) as usize] += 1;
    }
    let blocks = second.iter().chain(third.values());
    let words = |items: &u32| {
        (BLOCK_NODES + 2 * items + 1)
            .next_multiple_of(LINE)
            .min(LARGEST)
    };
    let lines: u32 = blocks
        .filter(|items| **items > 0)
        .map(|items| words(items) / LINE)
        .sum();
    let round = |count: usize| {
        let more = count + count / 4 + 64;
        more.next_multiple_of((more.next_power_of_two() / 8).max(64))
    };
    size(round(lines as usize), round(routes))
}

/// Words for so many lines in blocks, and so many routes in the list.
fn size(lines: usize, routes: usize) -> usize {
    // Blocks that are made anew are there twice for a while, and one is kept for what goes.
    let spare = lines / 8 * LINE as usize + 4 * LARGEST as usize;
    V4_BLOCKS as usize + lines * LINE as usize + spare + routes
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
pub fn lookup_v4(words: &Words, address: u32) -> RouteEntry {
    fib::lookup_v4(V4::new(address.to_be_bytes()), |index| {
        let word = words.get(index as usize);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    })
}

/// Fills an empty table. The routes are sorted by address, then length, and each is there once.
///
/// # Errors
///
/// There is not enough room; the table is of no use then.
pub fn load_v4(words: &Words, routes: &[(u32, RouteEntry)]) -> Result<(), Full> {
    if words.len() < V4_BLOCKS as usize + routes.len() {
        return Err(Full);
    }
    for (index, (address, entry)) in routes.iter().enumerate() {
        LIST.put(words, index, 0, list_word(*address, *entry));
    }
    words[LIST.count].store(routes.len() as u64, Ordering::Release);
    let mut trie = Trie::new();
    for group in routes.chunk_by(|(a, _), (b, _)| a >> 16 == b >> 16) {
        let mut nodes = NOTHING;
        for group in group.chunk_by(|(a, _), (b, _)| a >> 8 == b >> 8) {
            let mut last = NOTHING;
            for (address, entry) in group {
                let length = entry.length() as u8;
                let end = end_of(length);
                let span = |first: u32| span(first as usize, length, end);
                match end {
                    16 => trie.change(words, (*address, length), Change::Set(*entry))?,
                    24 => {
                        // Shorter ones come first.
                        for node in &mut nodes[span(place(*address, end))] {
                            *node = Node::new(*entry, node.block());
                        }
                    }
                    _ => last[span(place(*address, end))].fill(Node::new(*entry, 0)),
                }
            }
            if let [(address, _), ..] = group
                && last != NOTHING
            {
                let node = &mut nodes[place(*address, 24) as usize];
                *node = Node::new(node.route(), trie.append(words, &last)?);
            }
        }
        if let [(address, _), ..] = group
            && nodes != NOTHING
        {
            let block = trie.append(words, &nodes)?;
            let word = &words[(address >> 16) as usize];
            let route = Node(word.load(Ordering::Relaxed)).route();
            word.store(Node::new(route, block).0, Ordering::Release);
        }
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

/// Writes one table. What changes a block writes it anew: the old one is *retired* until no lookup is in it.
/// Whoever may meet [`Full`] goes through [`with_room`](Self::with_room).
#[derive(Debug)]
pub struct V4Writer {
    trie: Trie,
    routes: BTreeMap<Prefix, Item>,
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
    pub fn open(words: &Words) -> Result<Self, Full> {
        if words.len() <= V4_BLOCKS as usize {
            return Err(Full);
        }
        let listed = routes_v4(words).enumerate();
        let routes = listed.map(|(place, (address, entry))| {
            ((address, entry.length() as u8), Item { entry, place })
        });
        let routes = routes.collect();
        let trie = Trie::find(words);
        Ok(Self { trie, routes })
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
        let change = Change::Set(entry);
        if let Some(item) = self.routes.get_mut(&key) {
            if item.entry == entry {
                return Ok(false);
            }
            self.trie.change(words, key, change)?;
            item.entry = entry;
            LIST.put(words, item.place, 0, list_word(address, entry));
            return Ok(true);
        }
        let limit = self.trie.space.end() as usize;
        let place = LIST.push(words, limit, [list_word(address, entry)])?;
        if let Err(full) = self.trie.change(words, key, change) {
            LIST.take::<1>(words, place);
            return Err(full);
        }
        self.routes.insert(key, Item { entry, place });
        Ok(true)
    }

    /// Takes a route away. False if it was not there.
    ///
    /// # Errors
    ///
    /// There is no room for a block without it; nothing was changed.
    pub fn remove(&mut self, words: &Words, address: u32, length: u8) -> Result<bool, Full> {
        let Some(item) = self.routes.get(&(address, length)).copied() else {
            return Ok(false);
        };
        // Those that end in the same level.
        let first = match end_of(length) {
            16 => 0,
            end => end - 7,
        };
        let shorter = (first..length).rev();
        let parent = shorter
            .filter_map(|length| self.routes.get(&(masked(address, length), length)))
            .next();
        let parent = parent.map_or(RouteEntry::NONE, |item| item.entry);
        let change = Change::Clear(length, parent);
        self.trie.change(words, (address, length), change)?;
        self.routes.remove(&(address, length));
        if let Some([moved]) = LIST.take(words, item.place) {
            let entry = RouteEntry::from_word(moved as u32);
            let key = ((moved >> 32) as u32, entry.length() as u8);
            if let Some(other) = self.routes.get_mut(&key) {
                other.place = item.place;
            }
        }
        Ok(true)
    }

    /// Blocks that nothing leads to any more, but that a lookup may still be in. Wait until none
    /// is, then [`recycle`](Self::recycle).
    pub fn retired(&self) -> usize {
        self.trie.space.retired()
    }

    /// No lookup is in a retired block any more.
    pub fn recycle(&mut self) {
        self.trie.space.recycle();
    }

    /// Does something to the table; if there is no room for it, once more after what is free was put together. `wait` returns
    /// once no lookup is on its way that was when it was called.
    ///
    /// # Errors
    ///
    /// Those of `wait`; inside, that there is no room.
    pub fn with_room<E>(
        &mut self,
        words: &Words,
        wait: impl FnMut() -> Result<(), E>,
        change: impl Fn(&mut Self) -> Result<bool, Full>,
    ) -> Result<Result<bool, Full>, E> {
        let changed = change(self);
        if changed.is_ok() {
            return Ok(changed);
        }
        self.make_room(words, wait)?;
        Ok(change(self))
    }

    /// Puts what is free together, if there is anything to put.
    pub(crate) fn make_room<E>(
        &mut self,
        words: &Words,
        mut wait: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        if self.trie.space.is_tidy {
            return Ok(());
        }
        wait()?;
        self.recycle();
        if !self.trie.space.is_open(LIST.start(words)) {
            self.trie.repack(words);
            wait()?;
            self.recycle();
        }
        self.trie.space.is_tidy = true;
        Ok(())
    }
}

/// Whether lookups find what the list says, and nothing else.
pub fn is_sound_v4(words: &Words) -> bool {
    let mut routes: Vec<_> = routes_v4(words).collect();
    let key = |(address, entry): &Listed| (*address, entry.length());
    routes.sort_unstable_by_key(key);
    let is_once = routes.windows(2).all(|pair| key(&pair[0]) != key(&pair[1]));
    if words.len() <= V4_BLOCKS as usize || !is_once {
        return false;
    }
    let root = words[..fib::ROOT as usize].iter().enumerate();
    let root = root.map(|(at, node)| (at..at + 1, Node(node.load(Ordering::Acquire))));
    hold(words, root, 16, &routes)
}

/// A route of the list.
type Listed = (u32, RouteEntry);

/// Whether the nodes of a level that decides the bits before `end`, and those below it, hold these routes
/// and nothing else. They are sorted by address, then length.
fn hold(
    words: &Words,
    nodes: impl Iterator<Item = (Range<usize>, Node)>,
    end: u8,
    routes: &[Listed],
) -> bool {
    let places = if end == 16 { fib::ROOT } else { fib::PLACES } as usize;
    let place = |address: u32| (address >> (32 - end)) as usize & (places - 1);
    let mut wanted = vec![RouteEntry::NONE; places];
    for (address, entry) in routes {
        let Some(more) = u32::from(end).checked_sub(entry.length()) else {
            continue;
        };
        let place = place(*address);
        let Some(span) = wanted.get_mut(place..place + (1 << more)) else {
            return false;
        };
        span.fill(*entry);
    }
    let groups = routes.chunk_by(|(a, _), (b, _)| place(*a) == place(*b));
    let mut below = groups.filter_map(|group| {
        // Those that end in this level come first.
        let ends = group.partition_point(|(_, entry)| entry.length() <= u32::from(end));
        let below = &group[ends..];
        Some((place(below.first()?.0), below))
    });
    for (span, node) in nodes {
        let first = span.start;
        if wanted[span.clone()]
            .iter()
            .any(|route| *route != node.route())
        {
            return false;
        }
        if node.block() != 0 {
            let Some((at, routes)) = below.next() else {
                return false;
            };
            if at != first || span.len() > 1 || !holds_below(words, node.block(), end, routes) {
                return false;
            }
        }
    }
    below.next().is_none()
}

/// The same of the block below a node.
fn holds_below(words: &Words, block: u32, end: u8, routes: &[Listed]) -> bool {
    // A block outside the memory is none of ours.
    end < 32
        && Block::read(words, block)
            .is_some_and(|block| hold(words, block.spans(), end + 8, routes))
}
