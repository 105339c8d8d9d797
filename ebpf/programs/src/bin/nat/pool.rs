//! External addresses.

use aya_ebpf::{
    bindings::{
        BPF_FIB_LOOKUP_OUTPUT, BPF_FIB_LOOKUP_SKIP_NEIGH, BPF_FIB_LOOKUP_SRC,
        bpf_fib_lookup as FibLookup,
    },
    helpers::bpf_fib_lookup,
    macros::map,
    maps::Array,
};
use ebpf_abi::{
    address::{V4, V6},
    flow::{mapped, unmapped},
    nat::{FIRST_POOL, POOL_DYNAMIC, Pool},
};
use ebpf_programs::Packet;

use crate::work::Work;

/// External addresses.
#[map(name = "pools")]
static POOLS: Array<Pool> = Array::with_max_entries(FIRST_POOL + 8, 0);

/// The address of a pool that does not follow an interface; unspecified if it has none.
#[inline(always)]
pub fn fixed(pool: u32) -> V6 {
    POOLS.get(pool).map_or(V6::UNSPECIFIED, |pool| pool.address)
}

/// The address of a pool; unspecified if it has none.
#[inline(always)]
pub fn address<P: Packet>(packet: &P, work: &mut Work, pool: u32) -> V6 {
    let Some(pool) = POOLS.get(pool) else {
        return V6::UNSPECIFIED;
    };
    if pool.flags & POOL_DYNAMIC != 0 {
        return preferred_source(packet, work);
    }
    pool.address
}

/// The address that the kernel would send from to the packet's destination, so that changes of
/// the interface's addresses are followed at once (`BPF_FIB_LOOKUP_SRC`, Linux 6.7).
#[inline(always)]
fn preferred_source<P: Packet>(packet: &P, work: &mut Work) -> V6 {
    const HOW: u32 = BPF_FIB_LOOKUP_OUTPUT | BPF_FIB_LOOKUP_SKIP_NEIGH | BPF_FIB_LOOKUP_SRC;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    let Some(tc) = packet.as_tc() else {
        return V6::UNSPECIFIED;
    };
    let (flow, lookup) = (&work.flow, &mut work.lookup);
    // SAFETY: zeros are valid for these numbers. The kernel reads and writes as many bytes as it
    // is told.
    unsafe {
        clear(lookup);
        lookup.ifindex = (*tc.skb()).ifindex;
        if flow.family == 4 {
            lookup.family = AF_INET;
            lookup.__bindgen_anon_4.ipv4_dst = unmapped(flow.key.destination).0;
        } else {
            lookup.family = AF_INET6;
            lookup.__bindgen_anon_4.ipv6_dst = flow.key.destination.0;
        }
        let result = bpf_fib_lookup(
            tc.skb().cast(),
            &raw mut *lookup,
            size_of::<FibLookup>() as i32,
            HOW,
        );
        match (result, flow.family) {
            (0, 4) => mapped(V4(lookup.__bindgen_anon_3.ipv4_src)),
            (0, _) => V6(lookup.__bindgen_anon_3.ipv6_src),
            _ => V6::UNSPECIFIED,
        }
    }
}

/// Zeros, word by word: the compiler would call a function.
#[inline(always)]
fn clear(lookup: &mut FibLookup) {
    const WORDS: usize = size_of::<FibLookup>() / 8;
    let words: *mut u64 = (&raw mut *lookup).cast();
    for word in 0..WORDS {
        // SAFETY: inside, and aligned as all of the map is.
        unsafe { words.add(word).write_volatile(0) };
    }
}
