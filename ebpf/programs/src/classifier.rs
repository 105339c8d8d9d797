//! First-match classification ([`ebpf_abi::classifier`]) in the tables of a cube.

use core::{marker::PhantomData, ptr::null_mut};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG},
    cty::c_void,
    helpers::bpf_loop,
    maps::{Array, PerCpuArray},
};
use ebpf_abi::{
    address::V6,
    classifier::{self, Found, Further, Line, NO_RULE, Rule, STEPS, Search, TupleList, Words},
};

/// Flags of the tables [`Tuples`], [`Lines`] and [`Rules`]: their values begin where lines of the cache do.
pub const LINES: u32 = BPF_F_MMAPABLE | BPF_F_RDONLY_PROG;

/// The table `tuples`.
pub type Tuples = Array<TupleList>;
/// The table `lines`.
pub type Lines = Array<Line>;
/// The table `rules`.
pub type Rules = Array<Rule>;
/// The table `further`.
pub type More = Array<Further>;
/// The table `search`, with one entry.
pub type Searches = PerCpuArray<Search>;

/// The tables that a program has. A type, because the loop's body has to know the maps.
pub trait HasClassifier {
    /// Lists of tuples.
    fn tuples() -> &'static Tuples;
    /// Where rules are found.
    fn lines() -> &'static Lines;
    /// What rules ask for.
    fn rules() -> &'static Rules;
    /// What else some of them do.
    fn further() -> &'static More;
    /// The lookup on its way.
    fn search() -> &'static Searches;
    /// True if an address is in a set of the packet's bank. A lookup asks once, at most, for each of the sets
    /// below 32 and each side.
    fn in_set(set: u32, bank: u32, address: &V6) -> bool;
}

/// What a lookup without rules finds.
const NOTHING: Found = Found {
    rule: NO_RULE,
    data: 0,
};

/// The first rule of a list that matches. Mostly one step says which; the others are a `bpf_loop`
/// (Linux 5.17): the verifier looks at one round of it only.
#[inline(always)]
pub fn classify<T: HasClassifier>(list: u32, bank: u32, words: Words) -> Found {
    let tables = InKernel(PhantomData::<T>);
    let Some(search) = T::search().get_ptr_mut(0) else {
        return NOTHING;
    };
    // SAFETY: the entry belongs to this CPU, and programs do not nest. The words are read from it so that the verifier
    // looks at what follows once, and not once for each way in which headers are read.
    let words = unsafe {
        let forgotten = search.cast::<Words>();
        *forgotten = words;
        forgotten.read_volatile()
    };
    let mut first = Search::new(list, bank, words);
    if first.step(&tables) {
        return first.result();
    }
    // SAFETY: as above; the callback has the signature that `bpf_loop` wants.
    unsafe {
        // The compiler would call functions that write byte by byte.
        for (at, word) in first.to_words().into_iter().enumerate() {
            search.cast::<u64>().add(at).write_volatile(word);
        }
        bpf_loop(STEPS, step::<T> as *mut c_void, null_mut(), 0);
        (*search).result()
    }
}

/// Callback of `bpf_loop`.
extern "C" fn step<T: HasClassifier>(_: u64, _: *mut c_void) -> i64 {
    let Some(search) = T::search().get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: as in `classify`, which waits meanwhile.
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
    fn line(&self, index: u32) -> Option<&Line> {
        T::lines().get(index)
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Option<&Rule> {
        T::rules().get(index)
    }

    #[inline(always)]
    fn further(&self, index: u32) -> Option<&Further> {
        T::further().get(index)
    }

    #[inline(always)]
    fn in_set(&self, set: u32, bank: u32, address: &V6) -> bool {
        T::in_set(set, bank, address)
    }
}
