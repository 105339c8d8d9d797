//! First-match classification ([`ebpf_abi::classifier`]) in the tables of a cube.

use core::marker::PhantomData;

use aya_ebpf::{
    cty::c_void,
    helpers::bpf_loop,
    maps::{Array, HashMap},
};
use ebpf_abi::{
    address::V6,
    classifier::{
        self, Bucket, BucketKey, FilterLine, Header, NO_RULE, Rule, STEPS, Search, TupleList,
    },
};

/// The table `tuples`.
pub type Tuples = Array<TupleList>;
/// The table `filter`.
pub type Filter = Array<FilterLine>;
/// The table `buckets`, made with `BPF_F_NO_PREALLOC`.
pub type Buckets = HashMap<BucketKey, Bucket>;
/// The table `rules`.
pub type Rules = Array<Rule>;

/// The tables that a program has. A type, because the loop's body has to know the maps.
pub trait HasClassifier {
    /// Lists of tuples.
    fn tuples() -> &'static Tuples;
    /// Which keys there may be.
    fn filter() -> &'static Filter;
    /// Which rules have the same key.
    fn buckets() -> &'static Buckets;
    /// What rules ask for.
    fn rules() -> &'static Rules;
    /// True if an address is in a set of the packet's bank. A lookup asks once, at most, for each of the sets
    /// below 32 and each side.
    fn in_set(set: u32, bank: u32, address: &V6) -> bool;
}

/// The slot of the first rule of a list that matches, or [`NO_RULE`]. The
/// walk is a `bpf_loop` (Linux 5.17): the verifier looks at one round of it only.
#[inline(always)]
pub fn classify<T: HasClassifier>(list: u32, bank: u32, header: &Header) -> u32 {
    let Some(mut search) = Search::new(&InKernel(PhantomData::<T>), list, bank, header) else {
        return NO_RULE;
    };
    // SAFETY: the callback has the signature that `bpf_loop` wants, and `search` outlives the call.
    unsafe { bpf_loop(STEPS, step::<T> as *mut c_void, (&raw mut search).cast(), 0) };
    search.rule()
}

/// Callback of `bpf_loop`.
extern "C" fn step<T: HasClassifier>(_: u64, search: *mut Search) -> i64 {
    // SAFETY: the kernel hands the pointer on that `classify` gave it.
    let search = unsafe { &mut *search };
    i64::from(search.step(&InKernel(PhantomData::<T>)))
}

struct InKernel<T>(PhantomData<T>);

impl<T: HasClassifier> classifier::Tables for InKernel<T> {
    #[inline(always)]
    fn tuples(&self, place: u32) -> Option<&TupleList> {
        T::tuples().get(place)
    }

    #[inline(always)]
    fn filter(&self, index: u32) -> Option<&FilterLine> {
        T::filter().get(index)
    }

    #[inline(always)]
    fn bucket(&self, key: &BucketKey) -> Option<&Bucket> {
        // SAFETY: what a packet's bank has is not written while the packet is in it.
        unsafe { T::buckets().get(key) }
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Option<&Rule> {
        T::rules().get(index)
    }

    #[inline(always)]
    fn in_set(&self, set: u32, bank: u32, address: &V6) -> bool {
        T::in_set(set, bank, address)
    }
}
