//! What a rule says of a port.

use ebpf_abi::classifier::Range;

/// Bits of a port.
pub(super) const PORT_BITS: u8 = 16;

/// Ports that match: any, or those in some ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(Option<Vec<Range>>);

impl Ports {
    /// Whatever the port is, and packets that have none.
    pub const fn any() -> Self {
        Self(None)
    }

    /// Packets that have ports, with one in these ranges (`negated`: in none of them).
    pub fn new(ranges: impl IntoIterator<Item = Range>, negated: bool) -> Self {
        let mut ranges: Vec<Range> = ranges.into_iter().collect();
        ranges.sort();
        let mut merged: Vec<Range> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(Some(if negated { complement(&merged) } else { merged }))
    }

    /// The ranges, sorted, with gaps between them; `None` for any.
    pub fn ranges(&self) -> Option<&[Range]> {
        self.0.as_deref()
    }

    /// True if a packet with this port matches; `None`: one without ports.
    pub fn contains(&self, port: Option<u16>) -> bool {
        match (&self.0, port) {
            (None, _) => true,
            (Some(ranges), Some(port)) => ranges.iter().any(|range| range.contains(port)),
            (Some(_), None) => false,
        }
    }
}

/// What is in none of these ranges, which are sorted and have gaps between them.
fn complement(ranges: &[Range]) -> Vec<Range> {
    let mut gaps = Vec::new();
    let mut from = 0u32;
    for range in ranges {
        if from < u32::from(range.first) {
            gaps.push(Range {
                first: from as u16,
                last: range.first - 1,
            });
        }
        from = u32::from(range.last) + 1;
    }
    if let Ok(first) = u16::try_from(from) {
        gaps.push(Range {
            first,
            last: u16::MAX,
        });
    }
    gaps
}

/// How many bits of a port have one value all over the range, if it is all ports with that value.
pub(super) fn prefix_length(range: Range) -> Option<u8> {
    let bits = (range.first ^ range.last).leading_zeros() as u8;
    let rest = u16::MAX.checked_shr(bits.into()).unwrap_or(0);
    (range.first & rest == 0 && range.last & rest == rest).then_some(bits)
}

/// The blocks of ports with `length` bits in common that some of the ranges are in, by their first
/// port; `None` if they are more than `most`.
pub(super) fn blocks(ranges: &[Range], length: u8, most: usize) -> Option<Vec<u16>> {
    if length == 0 {
        return Some(vec![0]);
    }
    let shift = PORT_BITS - length;
    let mut blocks: Vec<u16> = Vec::new();
    for range in ranges {
        let (first, last) = (range.first >> shift, range.last >> shift);
        if usize::from(last - first) >= most {
            return None;
        }
        for block in first..=last {
            let block = block << shift;
            if blocks.last() != Some(&block) {
                blocks.push(block);
            }
        }
        if blocks.len() > most {
            return None;
        }
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Vec<Range>> {
        let range = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| Range {
            first: a.min(b),
            last: a.max(b),
        });
        prop::collection::vec(range, 0..6)
    }

    proptest! {
        #[test]
        fn merged_and_negated_ranges_have_the_same_ports(ranges in ranges(), port: u16) {
            let among = ranges.iter().any(|range| range.contains(port));
            prop_assert_eq!(Ports::new(ranges.clone(), false).contains(Some(port)), among);
            prop_assert_eq!(Ports::new(ranges.clone(), true).contains(Some(port)), !among);
            prop_assert!(!Ports::new(ranges, true).contains(None));
        }

        #[test]
        fn ports_are_in_the_blocks_of_their_ranges(ranges in ranges(), port: u16, length in 0u8..=16) {
            let Ports(Some(ranges)) = Ports::new(ranges, false) else { unreachable!() };
            let Some(blocks) = blocks(&ranges, length, 1 << 16) else { unreachable!() };
            let block = if length == 0 { 0 } else { port >> (16 - length) << (16 - length) };
            if ranges.iter().any(|range| range.contains(port)) {
                prop_assert!(blocks.contains(&block));
            }
            let mut distinct = blocks.clone();
            distinct.dedup();
            prop_assert_eq!(distinct, blocks);
        }

        #[test]
        fn a_range_is_a_prefix_if_it_is_one_block(length in 0u8..=16, port: u16) {
            let rest = u16::MAX.checked_shr(length.into()).unwrap_or(0);
            let range = Range { first: port & !rest, last: port | rest };
            prop_assert_eq!(prefix_length(range), Some(length));
        }
    }

    #[test]
    fn a_range_that_is_not_one_block_has_no_prefix() {
        let range = |first, last| Range { first, last };
        assert_eq!(prefix_length(range(1, 2)), None);
        assert_eq!(prefix_length(range(80, 80)), Some(16));
        assert_eq!(prefix_length(range(0, u16::MAX)), Some(0));
        assert_eq!(prefix_length(range(1024, 65535)), None);
        assert_eq!(blocks(&[range(0, 9)], 16, 9), None);
    }
}
