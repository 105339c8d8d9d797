//! Several next hops for one destination: how packets are spread over them.
//!
//! A flow has a hash, the hash a bucket, and the bucket a next hop. Which one is found by rendezvous
//! (Thaler and Ravishankar, IEEE/ACM ToN 6(1), 1998): of all next hops the one whose hash with the
//! bucket is highest. So a next hop that goes takes no buckets along but its own, and one that comes
//! takes only those that it has from then on, whatever happened before: the buckets follow from the
//! next hops alone.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{V4, V6},
    assert_size,
};

/// Next hops of one group, at most.
pub const MEMBERS: usize = 64;
/// Buckets of a group: shares are exact to some percent. A power of two.
pub const BUCKETS: usize = 1024;

/// Value of the tables `groups` and `dynamic_groups`, by the number of the route's next hop.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Group {
    /// Entries of the table of next hops; 0 where there is none.
    pub members: [u32; MEMBERS],
    /// Which member has a bucket.
    pub buckets: [u8; BUCKETS],
}
assert_size!(Group, 1280);

impl Group {
    /// The entry of the table of next hops that packets of a flow go to. 0 is none.
    #[inline(always)]
    pub fn member(&self, hash: u32) -> u32 {
        let bucket = self.buckets[hash as usize % BUCKETS];
        self.members[usize::from(bucket) % MEMBERS]
    }

    /// Gives the buckets to candidates. Without any they stay as they are.
    pub fn spread(&mut self, candidates: &[Candidate]) {
        let seeds = candidates.iter().map(|candidate| {
            let [high, low] = halves(candidate.address);
            mix(mix(0, high), low)
        });
        for (bucket, place) in self.buckets.iter_mut().enumerate() {
            let scores = seeds.clone().zip(candidates).map(|(seed, candidate)| {
                let tries = 0..u64::from(candidate.weight);
                let score = tries.map(|number| finish(mix(seed, number << 32 | bucket as u64)));
                (score.max(), candidate.address, candidate.member)
            });
            if let Some((_, _, member)) = scores.max() {
                *place = member;
            }
        }
    }

    /// How many buckets a member has.
    pub fn share(&self, member: usize) -> usize {
        let buckets = self.buckets.iter();
        buckets.filter(|has| usize::from(**has) == member).count()
    }
}

/// A next hop that may have buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which member of the group it is.
    pub member: u8,
    /// Its address, which is what tells it from others; IPv4 in the first word.
    pub address: V6,
    /// Of how many buckets it gets how many, 1 to 256: twice the weight, twice the buckets.
    pub weight: u16,
}

/// The hash of a flow of IPv4 packets. `ports`: the first word behind the header, or 0 if there are
/// none or not in all packets. `seed`: each router has another one, so that what one of them has
/// sorted is not all the same to the next.
#[inline(always)]
pub const fn flow_v4(seed: u32, source: V4, destination: V4, protocol: u8, ports: u32) -> u32 {
    let hash = mix(seed as u64, (source.0 as u64) << 32 | destination.0 as u64);
    (finish(mix(hash, (protocol as u64) << 32 | ports as u64)) >> 32) as u32
}

/// The same for IPv6. `ports` may be a flow label.
#[inline(always)]
pub const fn flow_v6(seed: u32, source: V6, destination: V6, protocol: u8, ports: u32) -> u32 {
    let ([a, b], [c, d]) = (halves(source), halves(destination));
    let hash = mix(mix(mix(mix(seed as u64, a), b), c), d);
    (finish(mix(hash, (protocol as u64) << 32 | ports as u64)) >> 32) as u32
}

#[inline(always)]
const fn halves(address: V6) -> [u64; 2] {
    let [a, b, c, d] = address.0;
    [(a as u64) << 32 | b as u64, (c as u64) << 32 | d as u64]
}

/// One step of a hash: multiplication carries bits up, the shift brings them down again (the
/// constants are MurmurHash3's).
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 32
}

#[inline(always)]
const fn finish(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 29).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    fn spread(candidates: &[Candidate]) -> [u8; BUCKETS] {
        let mut group = Group::zeroed();
        group.spread(candidates);
        group.buckets
    }

    fn candidates(of: &[(u32, u16)]) -> Vec<Candidate> {
        let all = of.iter().enumerate();
        all.map(|(member, (address, weight))| Candidate {
            member: member as u8,
            address: V6::from_v4(V4(*address)),
            weight: *weight,
        })
        .collect()
    }

    fn some() -> impl Strategy<Value = Vec<Candidate>> {
        btree_map(any::<u32>(), 1..9u16, 2..17).prop_map(|all| {
            let all: Vec<_> = all.into_iter().collect();
            candidates(&all)
        })
    }

    proptest! {
        /// What the kernel's resilient groups are for: all other buckets stay.
        #[test]
        fn one_that_goes_takes_only_its_own_buckets(all in some(), gone: prop::sample::Index) {
            let gone = gone.index(all.len());
            let before = spread(&all);
            let mut left = all;
            left.remove(gone);
            for (old, new) in before.into_iter().zip(spread(&left)) {
                prop_assert!(old == new || usize::from(old) == gone);
                prop_assert!(usize::from(new) != gone);
            }
        }

        #[test]
        fn more_weight_only_takes_buckets_from_others(all in some(), heavier: prop::sample::Index) {
            let heavier = heavier.index(all.len());
            let before = spread(&all);
            let mut after = all;
            after[heavier].weight += 1;
            for (old, new) in before.into_iter().zip(spread(&after)) {
                prop_assert!(old == new || usize::from(new) == heavier);
            }
        }

        #[test]
        fn the_order_in_which_they_are_listed_does_not_matter(all in some()) {
            let turned: Vec<_> = all.iter().rev().copied().collect();
            prop_assert_eq!(spread(&all), spread(&turned));
        }

        #[test]
        fn shares_are_as_the_weights(all in some()) {
            let sum: u32 = all.iter().map(|candidate| u32::from(candidate.weight)).sum();
            let buckets = spread(&all);
            for candidate in &all {
                let share = f64::from(candidate.weight) / f64::from(sum);
                let got = buckets.iter().filter(|member| **member == candidate.member).count();
                // Six standard deviations: nobody should ever see this fail.
                let deviation = (BUCKETS as f64 * share * (1.0 - share)).sqrt();
                let off = (got as f64 - BUCKETS as f64 * share).abs();
                prop_assert!(off < 6.0 * deviation + 1.0, "{got} of {share}");
            }
        }
    }

    #[test]
    fn two_have_about_half_each() {
        let buckets = spread(&candidates(&[(0x0101_000a, 1), (0x0102_000a, 1)]));
        let first = buckets.iter().filter(|member| **member == 0).count();
        assert!((460..565).contains(&first), "{first}");
    }

    #[test]
    fn flows_are_spread_whatever_differs_in_them() {
        let to = V4::new([10, 0, 0, 1]);
        let hashes: [&dyn Fn(u32) -> u32; 4] = [
            &|n| flow_v4(7, V4::new([10, 1, (n >> 8) as u8, n as u8]), to, 6, 80),
            &|n| flow_v4(7, to, to, 17, n << 16),
            &|n| flow_v4(7, to, to, 17, n),
            &|n| flow_v6(7, V6([0, 0, 0, n]), V6([1, 0, 0, 0]), 6, 80),
        ];
        for (number, hash) in hashes.into_iter().enumerate() {
            let mut found = [0; 16];
            for n in 0..16_000 {
                found[hash(n) as usize % BUCKETS / 64] += 1;
            }
            let even = found.iter().all(|count| (850..1150).contains(count));
            assert!(even, "{number}: {found:?}");
        }
    }

    #[test]
    fn another_router_sorts_otherwise() {
        let flow = |seed, n| {
            flow_v4(seed, V4::new([10, 1, 2, 3]), V4::new([10, 4, 5, 6]), 6, n) as usize % 2
        };
        let same = (0..1000).filter(|n| flow(1, *n) == flow(2, *n)).count();
        assert!((400..600).contains(&same), "{same}");
    }
}
