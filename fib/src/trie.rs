//! The nodes and blocks of an IPv4 table.

use std::sync::atomic::Ordering;

use ebpf_abi::{
    fib::{BLOCK_RANKS, Node, PLACES, ROOT, V4_BLOCKS, node_of},
    router::RouteEntry,
};

use crate::{
    Full, Words,
    block::{Block, NOTHING, Nodes},
    space::{Extent, LARGEST, Space},
    v4::{LIST, Prefix},
};

/// The nodes.
#[derive(Debug)]
pub struct Trie {
    pub space: Space,
}

/// Bits before a level's end.
const ENDS: [u8; 3] = [16, 24, 32];

/// The place of an address in a block whose bits end at `end`.
pub fn place(address: u32, end: u8) -> u32 {
    address >> (32 - end) & (PLACES - 1)
}

/// The places of a prefix in the level it ends in, which begins with `first`.
pub fn span(first: usize, length: u8, end: u8) -> std::ops::Range<usize> {
    first..first + (1 << (end - length))
}

/// Where the level ends in which a prefix does.
pub fn end_of(length: u8) -> u8 {
    ENDS.into_iter().find(|end| length <= *end).unwrap_or(32)
}

fn node(words: &Words, index: u32) -> Node {
    let word = words.get(index as usize);
    Node(word.map_or(0, |word| word.load(Ordering::Acquire)))
}

/// Which word of the memory is the node of a place of a block.
fn index(words: &Words, block: u32, place: u32) -> u32 {
    let begins = node(words, block + place / 64).0;
    block + node_of(begins, node(words, block + BLOCK_RANKS).0, place)
}

/// The nodes of a block, with the block; of none, nothing.
fn read(words: &Words, block: u32) -> (Option<Block>, Nodes) {
    let there = (block != 0).then(|| Block::read(words, block)).flatten();
    let nodes = there.as_ref().map_or(NOTHING, Block::places);
    (there, nodes)
}

/// What a change does to a node's route.
#[derive(Clone, Copy)]
pub enum Change {
    /// A route comes, or leads elsewhere.
    Set(RouteEntry),
    /// The route of this length goes; the next longest one of the level is this.
    Clear(u8, RouteEntry),
}

impl Change {
    fn of(self, node: Node) -> Node {
        let there = node.route();
        let is_none = there.word() == 0;
        match self {
            Self::Set(entry) if is_none || there.length() <= entry.length() => {
                Node::new(entry, node.block())
            }
            Self::Clear(length, parent) if !is_none && there.length() == u32::from(length) => {
                Node::new(parent, node.block())
            }
            _ => node,
        }
    }
}

impl Trie {
    /// Of an empty table.
    pub fn new() -> Self {
        Self {
            space: Space::around(V4_BLOCKS, []),
        }
    }

    /// Learns from the memory which parts of it are in use.
    pub fn find(words: &Words) -> Self {
        let mut used: Vec<Extent> = blocks(words).map(|(_, extent)| extent).collect();
        used.sort_unstable();
        Self {
            space: Space::around(V4_BLOCKS, used),
        }
    }

    /// Changes the nodes of a prefix.
    ///
    /// # Errors
    ///
    /// There is no room for a block; nothing was changed.
    pub fn change(&mut self, words: &Words, prefix: Prefix, change: Change) -> Result<(), Full> {
        let (address, length) = prefix;
        let root = address >> 16;
        if length <= 16 {
            for index in span(root as usize, length, 16) {
                let changed = change.of(node(words, index as u32));
                words[index].store(changed.0, Ordering::Release);
            }
            return Ok(());
        }
        let second = node(words, root).block();
        let (there, mut nodes) = read(words, second);
        let at = place(address, 24);
        if length <= 24 {
            apply(&mut nodes, span(at as usize, length, 24), change);
            return self.replace(words, root, (second, there), &nodes, change);
        }
        let third = nodes[at as usize].block();
        let (last, mut last_nodes) = read(words, third);
        let first = place(address, 32) as usize;
        apply(&mut last_nodes, span(first, length, 32), change);
        if third != 0 && last_nodes != NOTHING {
            let parent = index(words, second, at);
            return self.replace(words, parent, (third, last), &last_nodes, change);
        }
        let route = nodes[at as usize].route();
        let mut made = None;
        nodes[at as usize] = Node::new(route, 0);
        if last_nodes != NOTHING {
            let extent = self.write(words, &Block::of(&last_nodes), change)?;
            nodes[at as usize] = Node::new(route, extent.0);
            made = Some(extent);
        }
        let replaced = self.replace(words, root, (second, there), &nodes, change);
        match (replaced, made, last) {
            (Err(full), Some(extent), _) => {
                self.space.release(extent);
                Err(full)
            }
            (Ok(()), _, Some(last)) => {
                self.space.retire((third, last.len()));
                Ok(())
            }
            (replaced, _, _) => replaced,
        }
    }

    /// Lets a node lead to a block with these nodes instead of another one.
    fn replace(
        &mut self,
        words: &Words,
        parent: u32,
        (old, there): (u32, Option<Block>),
        nodes: &Nodes,
        change: Change,
    ) -> Result<(), Full> {
        let mut new = 0;
        if *nodes != NOTHING {
            let block = Block::of(nodes);
            if let Some(there) = &there
                && block.write_over(words, old, there)
            {
                return Ok(());
            }
            (new, _) = self.write(words, &block, change)?;
        }
        let route = node(words, parent).route();
        words[parent as usize].store(Node::new(route, new).0, Ordering::Release);
        if let Some(there) = there {
            self.space.retire((old, there.len()));
        }
        Ok(())
    }

    /// Writes a block where there is room. What comes leaves room for what goes: that needs a block, too.
    fn write(&mut self, words: &Words, block: &Block, change: Change) -> Result<Extent, Full> {
        let limit = LIST.start(words);
        let reserve = match change {
            Change::Set(_) => LARGEST,
            Change::Clear(..) => 0,
        };
        let length = block.len();
        if self.space.free(limit) < (length + reserve) as usize {
            return Err(Full);
        }
        let at = self.space.allocate(length, limit)?;
        block.write(words, at);
        Ok((at, length))
    }

    /// Writes a block of a table that is being loaded.
    pub fn append(&mut self, words: &Words, nodes: &Nodes) -> Result<u32, Full> {
        let (at, _) = self.write(words, &Block::of(nodes), Change::Set(RouteEntry::NONE))?;
        Ok(at)
    }

    /// Moves blocks from the end into holes, so that what is free is in one piece once they are
    /// recycled.
    pub fn repack(&mut self, words: &Words) {
        let mut used: Vec<_> = blocks(words).collect();
        used.sort_unstable_by_key(|(_, (block, _))| std::cmp::Reverse(*block));
        for ((address, end), (old, length)) in used {
            let Some(new) = self.space.allocate_before(old, length) else {
                continue;
            };
            let root = address >> 16;
            let parent = match end {
                24 => root,
                // Its block may have been moved before.
                _ => index(words, node(words, root).block(), place(address, 24)),
            };
            for word in 0..length {
                let value = words[(old + word) as usize].load(Ordering::Relaxed);
                words[(new + word) as usize].store(value, Ordering::Relaxed);
            }
            let route = node(words, parent).route();
            words[parent as usize].store(Node::new(route, new).0, Ordering::Release);
            self.space.retire((old, length));
        }
    }
}

fn apply(nodes: &mut Nodes, span: std::ops::Range<usize>, change: Change) {
    for node in &mut nodes[span] {
        *node = change.of(*node);
    }
}

/// All blocks: the first address and where their bits end, and where they are. Where others wrote into the
/// memory, blocks may be there twice.
fn blocks(words: &Words) -> impl Iterator<Item = ((u32, u8), Extent)> {
    let found = |address: u32, end: u8, block: u32| {
        let there = (block != 0).then(|| Block::read(words, block)).flatten()?;
        Some((((address, end), (block, there.len())), there))
    };
    (0..ROOT).flat_map(move |root| {
        let second = found(root << 16, 24, node(words, root).block());
        second.into_iter().flat_map(move |(this, block)| {
            let below = move |(at, node): (usize, Node)| {
                let address = root << 16 | (at as u32) << 8;
                Some(found(address, 32, node.block())?.0)
            };
            let nodes = block.places();
            std::iter::once(this).chain(nodes.into_iter().enumerate().filter_map(below))
        })
    })
}
