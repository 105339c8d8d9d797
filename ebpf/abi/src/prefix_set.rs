//! Sets of prefixes that count what is found in them, in plain memory: how they are laid out, and how a prefix is looked
//! for. The memory is an array that user space maps.
//!
//! A set is a hash of buckets, and a bucket is a cache line: it has the prefixes and what they have counted, so what is
//! found costs one line. A prefix for which its bucket has no room is in one of those behind it, and each bucket that it had to
//! pass says so; what is not there mostly costs one line, too.
//!
//! | words of a bucket | IPv4: three slots | IPv6: two slots |
//! | --- | --- | --- |
//! | 0, 1 | three addresses; one byte for each slot's [`mark`]; one that is not 0 if prefixes are behind | address |
//! | 2, 3 | packets, bytes of the first slot | packets, and the slot's mark in the highest byte; bytes, and in the highest bit whether prefixes are behind |
//! | 4, 5 | the same of the second slot | address of the second slot |
//! | 6, 7 | the same of the third slot | packets and mark; bytes |
//!
//! Small sets are there several times, so that CPUs do not wait for one another where one source floods all of them: a CPU counts
//! in its copy. The first CPUs have one each; others share some. The prefixes are at the same places in all copies.
//!
//! A reader may run at any time. A slot's address is written before its mark, and a slot is given to another prefix when
//! nobody can be reading the old one any more.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{V4, V6},
    assert_size,
};

/// Words of a bucket: 64 bytes, a cache line.
pub const BUCKET: u32 = 8;

/// What a prefix has counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hits {
    /// Packets. In a set of IPv6 prefixes up to 2^56.
    pub packets: u64,
    /// Bytes. In a set of IPv6 prefixes up to 2^63.
    pub bytes: u64,
}
assert_size!(Hits, 16);

/// How large a set is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Shape {
    /// Buckets of a copy, less one; they are a power of two.
    pub mask: u32,
    /// Copies, less one; they are a power of two.
    pub copies: u32,
}
assert_size!(Shape, 8);

/// Copies of a small set.
pub const COPIES: u32 = 2 * OWN;
/// CPUs that have a copy of a small set for themselves, and copies that the other CPUs share; a power of two.
pub const OWN: u32 = 8;
/// Buckets of a set that is small, at most.
pub const SMALL: u32 = 2048;
/// Prefixes that a set has room for, at least.
pub const LEAST_ROOM: u32 = 64;

impl Shape {
    /// Of a set with this room, which is [`room_for`] some number of prefixes.
    pub const fn new<A: Address>(room: u32) -> Self {
        let buckets = room * A::BUCKETS;
        let copies = if buckets <= SMALL { COPIES } else { 1 };
        Self {
            mask: buckets - 1,
            copies: copies - 1,
        }
    }

    /// Buckets of all copies: entries of the array.
    pub const fn buckets(self) -> u32 {
        (self.mask + 1) * (self.copies + 1)
    }

    /// Where a copy begins, in buckets.
    #[inline(always)]
    pub const fn copy(self, copy: u32) -> u32 {
        copy * (self.mask + 1)
    }
}

/// Room of a set with this many prefixes: twice as many are in it while all of them are exchanged. The number of buckets of all
/// copies says which room it was made for, so sets that are not small have more buckets than all copies of a small one.
pub const fn room_for<A: Address>(prefixes: u32) -> u32 {
    let room = prefixes.next_power_of_two();
    let least = if room * A::BUCKETS <= SMALL {
        LEAST_ROOM
    } else {
        2 * SMALL * COPIES / A::BUCKETS
    };
    if room < least { least } else { room }
}

/// The room of a set whose copies have this many buckets together; `None` for what [`room_for`] does not give.
pub const fn room_of<A: Address>(buckets: u32) -> Option<u32> {
    let copies = if buckets <= SMALL * COPIES { COPIES } else { 1 };
    let room = buckets / copies / A::BUCKETS;
    let is_one = room != 0 && room_for::<A>(room) == room;
    if is_one && Shape::new::<A>(room).buckets() == buckets {
        Some(room)
    } else {
        None
    }
}

/// What says that a slot has a prefix of this length; 0 is a slot that is free.
#[inline(always)]
pub const fn mark(length: u32) -> u32 {
    length + 1
}

/// A bucket, as it can be read where the lookup runs.
pub trait Bucket: Copy {
    /// One of its [`BUCKET`] words, as it is now.
    fn word(self, index: u32) -> u64;
    /// 1 for 0, and 0 for other numbers below 2^63. Where the lookup runs this is no branch: a branch would be mispredicted, and
    /// a way more for the verifier.
    fn is_zero(self, number: u64) -> u64 {
        u64::from(number == 0)
    }
}

/// What is known after a look into a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The word with the packets that the prefix has counted, before that with the bytes; 0 if the prefix is not there.
    pub hits: u64,
    /// Not 0 if prefixes are behind this bucket that belong into it or before.
    pub behind: u64,
}

/// An address of one family.
pub trait Address: Copy {
    /// Bits.
    const LONGEST: u32;
    /// Prefixes in a bucket.
    const SLOTS: u32;
    /// Buckets for each prefix that a set has room for.
    const BUCKETS: u32;
    /// True if no word has both what is counted and what the writer changes: who counts alone may add in two steps.
    const APART: bool;
    /// The first bits, the others zero.
    fn network(self, length: u32) -> Self;
    /// The bucket that this prefix belongs into, before the mask.
    fn hash(self, length: u32) -> u32;
    /// Looks for this prefix in a bucket.
    fn find<B: Bucket>(self, length: u32, bucket: B) -> Found;
}

/// In the second word of a bucket of IPv4 prefixes: some are behind it.
pub const BEHIND_V4: u64 = 1 << BEHIND_SHIFT_V4;
const BEHIND_SHIFT_V4: u32 = 56;
/// In the word [`BEHIND_WORD_V6`] of a bucket of IPv6 prefixes: some are behind it.
pub const BEHIND_V6: u64 = 1 << BEHIND_SHIFT_V6;
const BEHIND_SHIFT_V6: u32 = 63;
/// Which word that is.
pub const BEHIND_WORD_V6: u32 = 3;
/// Where the mark of an IPv6 prefix begins in its word.
pub const MARK_SHIFT_V6: u32 = 56;

impl Address for V4 {
    const LONGEST: u32 = 32;
    const SLOTS: u32 = 3;
    const BUCKETS: u32 = 1;
    const APART: bool = true;

    #[inline(always)]
    fn network(self, length: u32) -> Self {
        // Shifted as 64 bits: all of them may go.
        let mask = !(u32::MAX as u64 >> length) as u32;
        V4(self.0 & mask.to_be())
    }

    #[inline(always)]
    fn hash(self, length: u32) -> u32 {
        mixed(u64::from(self.0) | u64::from(length) << 32)
    }

    #[inline(always)]
    fn find<B: Bucket>(self, length: u32, bucket: B) -> Found {
        // The marks are read before the addresses, as they are written after them.
        let second = bucket.word(1);
        let first = bucket.word(0);
        let marks = (second >> 32) as u32;
        let found = |address: u64, slot: u32| {
            let differs = (address as u32 ^ self.0) | ((marks >> (8 * slot) & 0xff) ^ mark(length));
            bucket.is_zero(differs.into())
        };
        let last = found(second, 2);
        Found {
            // 2, 4 or 6.
            hits: (found(first, 0) | last) << 1 | (found(first >> 32, 1) | last) << 2,
            behind: second >> BEHIND_SHIFT_V4,
        }
    }
}

impl Address for V6 {
    const LONGEST: u32 = 128;
    const SLOTS: u32 = 2;
    const BUCKETS: u32 = 2;
    const APART: bool = false;

    #[inline(always)]
    fn network(self, length: u32) -> Self {
        let [high, low] = words_v6(self);
        let [first, second] = masks_v6(length);
        address_v6([high & first.to_be(), low & second.to_be()])
    }

    #[inline(always)]
    fn hash(self, length: u32) -> u32 {
        let [high, low] = words_v6(self);
        mixed(high.wrapping_mul(ODD) ^ low.rotate_left(29) ^ u64::from(length))
    }

    #[inline(always)]
    fn find<B: Bucket>(self, length: u32, bucket: B) -> Found {
        let [high, low] = words_v6(self);
        let found = |slot: u32| {
            let there = bucket.word(slot + 2) >> MARK_SHIFT_V6;
            let differs = (bucket.word(slot) ^ high)
                | (bucket.word(slot + 1) ^ low)
                | (there ^ u64::from(mark(length)));
            bucket.is_zero((differs >> 32) | u64::from(differs as u32))
        };
        let (first, second) = (found(0), found(4));
        Found {
            // 2 or 6.
            hits: (first | second) << 1 | second << 2,
            behind: bucket.word(BEHIND_WORD_V6) >> BEHIND_SHIFT_V6,
        }
    }
}

/// An IPv6 address in two words, as they are in memory.
#[inline(always)]
pub const fn words_v6(address: V6) -> [u64; 2] {
    let V6([a, b, c, d]) = address;
    [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32]
}

/// What [`words_v6`] made words of.
pub const fn address_v6([high, low]: [u64; 2]) -> V6 {
    V6([
        high as u32,
        (high >> 32) as u32,
        low as u32,
        (low >> 32) as u32,
    ])
}

/// An odd constant with many bits, of splitmix64 as those of [`mixed`].
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number that each bit of another one changes.
#[inline(always)]
const fn mixed(number: u64) -> u32 {
    let mixed = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

/// Ones for the first `length` bits, 0 to 128. Without a branch: the verifier would go each way, with each of the results.
#[inline(always)]
pub(crate) const fn masks_v6(length: u32) -> [u64; 2] {
    // In four steps, as none may be by 64 bits or more.
    let others = 128 - length;
    let (step, back) = (length / 4, others / 4);
    let high = u64::MAX >> step >> step >> step >> (length - 3 * step);
    let low = u64::MAX << back << back << back << (others - 3 * back);
    [!high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_the_first_bits() {
        for length in 0..=32 {
            let ones = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            let network = V4::new([0xff; 4]).network(length);
            assert_eq!(network.bytes(), ones.to_be_bytes());
        }
        for length in 0..=128 {
            let ones = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            let network = V6::new([0xff; 16]).network(length);
            assert_eq!(network.bytes(), ones.to_be_bytes());
        }
    }

    #[test]
    fn words_are_an_address() {
        let address = V6::new(std::array::from_fn(|byte| byte as u8));
        assert_eq!(address_v6(words_v6(address)), address);
    }

    fn buckets_say_the_room<A: Address>() {
        let counts = (0..=20).flat_map(|bits| [1u32 << bits, (1 << bits) + 1]);
        for count in counts.chain([0, 1_000_000]) {
            let room = room_for::<A>(count);
            assert!(room >= count && room >= LEAST_ROOM);
            assert_eq!(room_for::<A>(room), room);
            let shape = Shape::new::<A>(room);
            assert_eq!(room_of::<A>(shape.buckets()), Some(room), "{count}");
            // All of them exchanged in one go.
            assert!((shape.mask + 1) * A::SLOTS > 2 * room);
        }
        assert_eq!(room_of::<A>(0), None);
        assert_eq!(room_of::<A>(12345), None);
    }

    #[test]
    fn arrays_say_for_how_much_they_are() {
        buckets_say_the_room::<V4>();
        buckets_say_the_room::<V6>();
    }
}
