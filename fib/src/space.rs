//! Which of the memory is in blocks, and which is free.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::fib::{BLOCK_NODES, LINE, PLACES};

use crate::Full;

/// Words of the largest block.
pub const LARGEST: u32 = (BLOCK_NODES + PLACES).next_multiple_of(LINE);

/// A part of the memory: where it begins and how long it is, in words.
pub type Extent = (u32, u32);

/// The free parts in front of the list of routes. All of it is whole lines.
#[derive(Debug)]
pub struct Space {
    /// Behind the last block; from there on all is free.
    end: u32,
    /// The holes: where they begin, and their lengths. No two of them touch.
    holes: BTreeMap<u32, u32>,
    /// The same by length.
    by_length: BTreeSet<(u32, u32)>,
    /// Words of all holes.
    in_holes: u32,
    retired: Vec<Extent>,
    /// Nothing was retired since all that is free was put together.
    pub is_tidy: bool,
}

impl Space {
    /// All from `start` on is free, but for these, in order.
    pub fn around(start: u32, used: impl IntoIterator<Item = Extent>) -> Self {
        let mut space = Self {
            end: start,
            holes: BTreeMap::new(),
            by_length: BTreeSet::new(),
            in_holes: 0,
            retired: Vec::new(),
            is_tidy: false,
        };
        for (block, length) in used {
            if block > space.end {
                space.add_hole(space.end, block - space.end);
            }
            space.end = space.end.max(block + length);
        }
        space
    }

    /// Behind the last block.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The smallest part that is large enough; `limit` is where the memory for blocks ends.
    pub fn allocate(&mut self, length: u32, limit: usize) -> Result<u32, Full> {
        if let Some(&(there, start)) = self.by_length.range((length, 0)..).next() {
            self.take_hole(start, there);
            if there > length {
                self.add_hole(start + length, there - length);
            }
            return Ok(start);
        }
        let start = self.end;
        if (start + length) as usize > limit {
            return Err(Full);
        }
        self.end += length;
        Ok(start)
    }

    /// A hole in front of a block in which there is room for it.
    pub fn allocate_before(&mut self, block: u32, length: u32) -> Option<u32> {
        let fits = self.by_length.range((length, 0)..);
        let (there, start) = *fits.into_iter().find(|(_, start)| *start < block)?;
        self.take_hole(start, there);
        if there > length {
            self.add_hole(start + length, there - length);
        }
        Some(start)
    }

    /// True if much of what is free is behind the last block, where the list of routes can grow, too.
    pub fn is_open(&self, limit: usize) -> bool {
        let end = self.end as usize;
        end + (LARGEST as usize).max(limit / 16) <= limit
    }

    /// Words that are free.
    pub fn free(&self, limit: usize) -> usize {
        self.in_holes as usize + limit.saturating_sub(self.end as usize)
    }

    /// Gives back what no lookup can be in.
    pub fn release(&mut self, (mut start, mut length): Extent) {
        if let Some((&before, &there)) = self.holes.range(..start).next_back()
            && before + there == start
        {
            self.take_hole(before, there);
            (start, length) = (before, there + length);
        }
        if let Some(&behind) = self.holes.get(&(start + length)) {
            self.take_hole(start + length, behind);
            length += behind;
        }
        if start + length == self.end {
            self.end = start;
        } else {
            self.add_hole(start, length);
        }
    }

    /// Nothing leads there any more, but a lookup may still be in it.
    pub fn retire(&mut self, extent: Extent) {
        self.retired.push(extent);
        self.is_tidy = false;
    }

    /// How many blocks are retired.
    pub fn retired(&self) -> usize {
        self.retired.len()
    }

    /// No lookup is in a retired block any more.
    pub fn recycle(&mut self) {
        for extent in std::mem::take(&mut self.retired) {
            self.release(extent);
        }
    }

    fn add_hole(&mut self, start: u32, length: u32) {
        self.holes.insert(start, length);
        self.by_length.insert((length, start));
        self.in_holes += length;
    }

    fn take_hole(&mut self, start: u32, length: u32) {
        self.holes.remove(&start);
        self.by_length.remove(&(length, start));
        self.in_holes -= length;
    }
}
