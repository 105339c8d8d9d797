//! Forwarding tables in plain memory, for many routes: how they are laid out, and how an address
//! is looked up. The memory is an array that user space maps, so a route changes with a few
//! stores.
//!
//! **IPv4** is a trie of three levels: 2^16 nodes for the first half of the address, then blocks for
//! eight bits each. A node says which route is the longest among those that end in its level, and
//! where the block for the next bits is. Nothing is pushed down to other levels, so a route touches
//! nodes of one block only. A block has one node for places that are alike and beside one another, and a
//! bit for each place where another one begins: bits counted are the node's number (Degermark, Brodnik,
//! Carlsson and Pink, "Small Forwarding Tables for Fast Routing Lookups", SIGCOMM 1997; Asai and
//! Ohara, "Poptrie", SIGCOMM 2015). Most blocks are one or two lines of the cache.
//!
//! **IPv6** is a hash table of prefixes, searched by length in halves (Waldvogel, Varghese, Turner
//! and Plattner, SIGCOMM 1997): a prefix is there, and so are markers on the way to it, each with
//! the longest route that contains it. The halves are always the same, whichever lengths there
//! are, so routes come and go one by one; lengths of which nothing is there are not looked for.
//!
//! A list of all routes grows from the end of the memory: the table can be read back.
//!
//! Words are in the machine's byte order. A reader may run at any time: every word is valid at
//! any time, and what it leads to was written before it.

use crate::{
    address::{V4, V6},
    router::RouteEntry,
};

/// Nodes of the first level of an IPv4 table.
pub const ROOT: u32 = 1 << 16;
/// Where the header of an IPv4 table begins, in words.
pub const V4_HEADER: u32 = ROOT;
/// Words of the header.
pub const V4_HEADER_WORDS: u32 = 256;
/// Where the blocks begin.
pub const V4_BLOCKS: u32 = V4_HEADER + V4_HEADER_WORDS;

/// Word of the header: routes in the list.
pub const V4_COUNT: u32 = V4_HEADER;
/// Word of the header: how often somebody began to write.
pub const V4_WRITERS: u32 = V4_HEADER + 1;
/// Word of the header: routes that were left out, of both families.
pub const V4_PENDING: u32 = V4_HEADER + 2;

/// Places of a block: it decides eight bits.
pub const PLACES: u32 = 1 << 8;
/// Word of a block: how many of its nodes are for places before 64, 128 and 192, in 16 bits each from the
/// second on. In the words before it, bit *n* of word *w* is set if the node of place 64 *w* + *n* is
/// another one than that of the place before it; it is for place 0.
pub const BLOCK_RANKS: u32 = PLACES / 64;
/// Where the nodes of a block begin.
pub const BLOCK_NODES: u32 = BLOCK_RANKS + 1;
/// Words of a line: blocks begin with one.
pub const LINE: u32 = 8;

/// A node of the trie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node(pub u64);

impl Node {
    /// From its parts. Block 0 is none.
    pub const fn new(route: RouteEntry, block: u32) -> Self {
        Self(route.word() as u64 | (block as u64) << 32)
    }

    /// The longest route that ends in this level and contains the node.
    #[inline(always)]
    pub const fn route(self) -> RouteEntry {
        RouteEntry::from_word(self.0 as u32)
    }

    /// Where the block for the next bits begins, in words; 0 if there is none.
    #[inline(always)]
    pub const fn block(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Which word of a block is the node of a place, by the block's bits around that place and its ranks.
#[inline(always)]
pub const fn node_of(begins: u64, ranks: u64, place: u32) -> u32 {
    let before = (ranks >> (16 * (place / 64))) as u32 & 0xffff;
    BLOCK_NODES + before + (begins << (63 - place % 64)).count_ones() - 1
}

/// The longest prefix that contains an address.
#[inline(always)]
pub fn lookup_v4(address: V4, word: impl Fn(u32) -> u64) -> RouteEntry {
    let address = u32::from_be(address.0);
    let below = |block: u32, place: u32| {
        let begins = word(block + place / 64);
        Node(word(
            block + node_of(begins, word(block + BLOCK_RANKS), place),
        ))
    };
    let longer = |best: RouteEntry, node: Node| match node.route().word() {
        0 => best,
        _ => node.route(),
    };
    let first = Node(word(address >> 16));
    if first.block() == 0 {
        return first.route();
    }
    let second = below(first.block(), address >> 8 & (PLACES - 1));
    let best = longer(first.route(), second);
    if second.block() == 0 {
        return best;
    }
    longer(best, below(second.block(), address & (PLACES - 1)))
}

/// Words of a bucket of an IPv6 table: four slots.
pub const BUCKET: u32 = SLOTS * SLOT;
/// Slots of a bucket.
pub const SLOTS: u32 = 4;
/// Words of a slot: the prefix in two, then [`Meta`], then what only user space needs.
pub const SLOT: u32 = 4;
/// Buckets that a prefix may be in, one behind the other.
pub const PROBES: u32 = 8;
/// Buckets of the header.
pub const V6_HEADER_BUCKETS: u32 = 16;

/// Word of the header: the default route.
pub const V6_DEFAULT: u32 = 0;
/// Word of the header: bit *n* is set if something of length *n* is there, 0 to 63.
pub const V6_LENGTHS: u32 = 1;
/// The same for 64 to 127.
pub const V6_LENGTHS_LONG: u32 = 2;
/// Word of the header: not 0 if there are host routes.
pub const V6_HOSTS: u32 = 3;
/// Word of the header: buckets behind the header, less one; they are a power of two.
pub const V6_MASK: u32 = 4;

/// The third word of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta(pub u64);

impl Meta {
    /// Of a prefix of `length` bits, from 1 on.
    pub const fn new(best: RouteEntry, length: u8) -> Self {
        Self(best.word() as u64 | (length as u64) << 32)
    }

    /// The longest route that contains the prefix: itself, if it is a route.
    #[inline(always)]
    pub const fn best(self) -> RouteEntry {
        RouteEntry::from_word(self.0 as u32)
    }

    /// Length of the prefix in bits; 0 if the slot is free.
    #[inline(always)]
    pub const fn length(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The first `length` bits of an address, 1 to 128.
#[inline(always)]
pub const fn masked(high: u64, low: u64, length: u32) -> (u64, u64) {
    if length <= 64 {
        (high & u64::MAX << (64 - length), 0)
    } else {
        (high, low & u64::MAX << (128 - length))
    }
}

/// Where a prefix is looked for first, before the mask.
#[inline(always)]
pub const fn hash(high: u64, low: u64, length: u32) -> u32 {
    // Odd constants with many bits: those of splitmix64.
    let mixed = (high ^ low.rotate_left(29) ^ length as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 31).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

/// An address in two words.
#[inline(always)]
pub fn words_of(address: V6) -> (u64, u64) {
    let [a, b, c, d] = address.0;
    let word = |high, low| u64::from(u32::from_be(high)) << 32 | u64::from(u32::from_be(low));
    (word(a, b), word(c, d))
}

/// Word of the header: the length that is looked for first, [`HALF`]. It is read from there so that
/// the verifier does not know it: it would follow each way through the halves.
pub const V6_FIRST: u32 = 5;
/// Word of the header: half of that.
pub const V6_STEP: u32 = 6;

/// A bucket of the memory, as it can be read where the lookup runs.
pub trait Bucket: Copy {
    /// One of its [`BUCKET`] words, as it is now.
    fn word(self, index: u32) -> u64;
}

/// A lookup on its way: the host route first, then halves.
#[derive(Clone, Copy, Debug)]
pub struct SearchV6 {
    high: u64,
    low: u64,
    /// The lengths of which there is something.
    lengths: [u64; 2],
    mask: u32,
    /// The length that is looked for next.
    length: u32,
    /// Half of the lengths that are left.
    step: u32,
    /// The longest route found.
    best: RouteEntry,
}

/// Steps of a lookup, at most.
pub const STEPS: u32 = 8;

impl SearchV6 {
    /// Begins, with the first bucket of the table.
    #[inline(always)]
    pub fn new<B: Bucket>(address: V6, header: B) -> Self {
        let (high, low) = words_of(address);
        let hosts = header.word(V6_HOSTS) != 0;
        let first = header.word(V6_FIRST) as u32;
        Self {
            high,
            low,
            lengths: [header.word(V6_LENGTHS), header.word(V6_LENGTHS_LONG)],
            mask: header.word(V6_MASK) as u32,
            length: if hosts { first * 2 } else { first },
            step: header.word(V6_STEP) as u32,
            best: RouteEntry::from_word(header.word(V6_DEFAULT) as u32),
        }
    }

    /// Looks for one length. True when there is nothing left to look for.
    #[inline(always)]
    pub fn step<B: Bucket>(&mut self, bucket: impl Fn(u32) -> Option<B>) -> bool {
        let length = self.length;
        let [short, long] = self.lengths;
        let lengths = if length >= HALF { long } else { short };
        let mut found = Meta(0);
        if length == HOST || lengths >> (length & 63) & 1 != 0 {
            let (high, low) = masked(self.high, self.low, length);
            found = find(high, low, length, self.mask, bucket);
        }
        if found.best().word() != 0 {
            self.best = found.best();
        }
        if length == HOST {
            self.length = length / 2;
            return found.length() != 0;
        }
        if found.length() != 0 {
            self.length = length + self.step;
        } else {
            self.length = length - self.step;
        }
        let last = self.step == 0;
        self.step /= 2;
        last
    }

    /// The longest prefix that contains the address.
    #[inline(always)]
    pub const fn best(&self) -> RouteEntry {
        self.best
    }
}

/// Length of a host route.
const HOST: u32 = 128;
/// The length that is looked for first among the others.
pub const HALF: u32 = 64;

/// The longest prefix that contains an address.
#[inline(always)]
pub fn lookup_v6<B: Bucket>(address: V6, bucket: impl Fn(u32) -> Option<B>) -> RouteEntry {
    let Some(header) = bucket(0) else {
        return RouteEntry::NONE;
    };
    let mut search = SearchV6::new(address, header);
    for _ in 0..STEPS {
        if search.step(&bucket) {
            break;
        }
    }
    search.best()
}

/// What is known of a prefix; nothing if it is not there.
#[inline(always)]
fn find<B: Bucket>(
    high: u64,
    low: u64,
    length: u32,
    mask: u32,
    bucket: impl Fn(u32) -> Option<B>,
) -> Meta {
    let start = hash(high, low, length);
    for probe in 0..PROBES {
        let Some(at) = bucket((start.wrapping_add(probe) & mask) + V6_HEADER_BUCKETS) else {
            return Meta(0);
        };
        for slot in 0..SLOTS {
            let slot = slot * SLOT;
            let meta = at.word(slot + 2);
            // One comparison: every branch is a way more for the verifier.
            let differs = (at.word(slot) ^ high)
                | (at.word(slot + 1) ^ low)
                | u64::from(Meta(meta).length() ^ length)
                // The slot was not given to another prefix meanwhile.
                | (at.word(slot + 2) ^ meta);
            if differs == 0 {
                return Meta(meta);
            }
        }
        if at.word(OVERFLOWED) as u32 == 0 {
            return Meta(0);
        }
    }
    Meta(0)
}

/// Word of a bucket, low half: prefixes that had to go to a bucket behind this one.
pub const OVERFLOWED: u32 = 3;
