//! A block of an IPv4 table: 256 nodes, of which neighbours that are alike are kept once.

use std::{ops::Range, sync::atomic::Ordering};

use ebpf_abi::fib::{BLOCK_NODES, BLOCK_RANKS, LINE, Node, PLACES};

use crate::Words;

/// The nodes, one for each place.
pub type Nodes = [Node; PLACES as usize];

/// Nodes that lead nowhere.
pub const NOTHING: Nodes = [Node(0); PLACES as usize];

/// As it is in memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// A bit for each place whose node is another one than the place before's.
    begins: [u64; BLOCK_RANKS as usize],
    nodes: Vec<Node>,
}

impl Block {
    /// Of these nodes.
    pub fn of(places: &Nodes) -> Self {
        let mut begins = [0; BLOCK_RANKS as usize];
        let mut nodes: Vec<Node> = Vec::new();
        for (place, node) in places.iter().enumerate() {
            if nodes.last() != Some(node) {
                begins[place / 64] |= 1 << (place % 64);
                nodes.push(*node);
            }
        }
        Self { begins, nodes }
    }

    /// What is in the memory; `None` if that is no block.
    pub fn read(words: &Words, block: u32) -> Option<Self> {
        let start = block as usize;
        let head = words.get(start..start + BLOCK_NODES as usize)?;
        let word = |index: usize| head[index].load(Ordering::Acquire);
        let begins: [u64; BLOCK_RANKS as usize] = std::array::from_fn(word);
        let count: u32 = begins.iter().map(|bits| bits.count_ones()).sum();
        if begins[0] & 1 == 0 || word(BLOCK_RANKS as usize) != ranks(&begins) {
            return None;
        }
        let first = start + BLOCK_NODES as usize;
        let nodes = words.get(first..first + count as usize)?;
        let nodes = nodes.iter().map(|node| Node(node.load(Ordering::Acquire)));
        Some(Self {
            begins,
            nodes: nodes.collect(),
        })
    }

    /// The nodes, one for each place.
    pub fn places(&self) -> Nodes {
        let mut nodes = self.nodes.iter();
        let mut node = Node(0);
        std::array::from_fn(|place| {
            if self.begins[place / 64] >> (place % 64) & 1 != 0 {
                node = nodes.next().copied().unwrap_or_default();
            }
            node
        })
    }

    /// The nodes, each with the places that it is for.
    pub fn spans(&self) -> impl Iterator<Item = (Range<usize>, Node)> {
        let starts = self.begins.iter().enumerate().flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let place = left.trailing_zeros() as usize;
                left &= left.checked_sub(1)?;
                Some(64 * word + place)
            })
        });
        let ends = starts.clone().skip(1).chain([PLACES as usize]);
        let spans = starts.zip(ends).map(|(start, end)| start..end);
        spans.zip(self.nodes.iter().copied())
    }

    /// Words it takes, whole lines.
    pub fn len(&self) -> u32 {
        (BLOCK_NODES + self.nodes.len() as u32).next_multiple_of(LINE)
    }

    /// Writes it where nobody looks yet.
    pub fn write(&self, words: &Words, block: u32) {
        let ranks = ranks(&self.begins);
        let head = self.begins.iter().chain([&ranks]).copied();
        let all = head.chain(self.nodes.iter().map(|node| node.0));
        for (word, value) in words[block as usize..].iter().zip(all) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Makes a block in use this one, node by node, if it differs in nothing else. False if it does.
    pub fn write_over(&self, words: &Words, block: u32, there: &Self) -> bool {
        if self.begins != there.begins {
            return false;
        }
        let first = (block + BLOCK_NODES) as usize;
        for (word, node) in words[first..].iter().zip(&self.nodes) {
            word.store(node.0, Ordering::Release);
        }
        true
    }
}

/// The word of [`BLOCK_RANKS`].
fn ranks(begins: &[u64; BLOCK_RANKS as usize]) -> u64 {
    let (mut ranks, mut before) = (0, 0);
    for (index, bits) in begins.iter().enumerate() {
        ranks |= before << (16 * index);
        before += u64::from(bits.count_ones());
    }
    ranks
}
