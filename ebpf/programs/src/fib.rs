//! Forwarding tables ([`ebpf_abi::fib`]) in arrays that user space maps.

use core::ptr::read_volatile;

use aya_ebpf::{cty::c_void, helpers::bpf_loop, maps::Array};
use ebpf_abi::{
    address::{V4, V6},
    fib::{self, BUCKET, STEPS, SearchV6},
    router::RouteEntry,
};

/// `BPF_F_MMAPABLE`
pub const MAPPED: u32 = 1 << 10;

/// An IPv4 table: its words.
pub type TableV4 = Array<u64>;
/// An IPv6 table: its buckets.
pub type TableV6 = Array<[u64; BUCKET as usize]>;

/// The longest prefix that contains an address.
#[inline(always)]
pub fn lookup_v4(table: &TableV4, address: V4) -> RouteEntry {
    fib::lookup_v4(address, |index| {
        // SAFETY: the kernel keeps the array while the program runs; words are changed as a whole.
        table
            .get_ptr(index)
            .map_or(0, |word| unsafe { read_volatile(word) })
    })
}

/// An IPv6 table that a program has. A type for each: the loop's body has to know the map.
pub trait HasTableV6 {
    /// The table.
    fn table() -> &'static TableV6;
}

/// The same for IPv6. Its steps are rounds of `bpf_loop` (Linux 5.17): the verifier looks at one
/// of them only.
#[inline(always)]
pub fn lookup_v6<T: HasTableV6>(address: V6) -> RouteEntry {
    let Some(header) = T::table().get_ptr(0).map(Bucket) else {
        return RouteEntry::NONE;
    };
    let mut search = SearchV6::new(address, header);
    // SAFETY: the callback has the signature that `bpf_loop` wants, and `search` outlives the call.
    unsafe { bpf_loop(STEPS, step::<T> as *mut c_void, (&raw mut search).cast(), 0) };
    search.best()
}

/// Callback of `bpf_loop`.
extern "C" fn step<T: HasTableV6>(_: u64, search: *mut SearchV6) -> i64 {
    // SAFETY: the kernel hands the pointer on that `lookup_v6` gave it.
    let search = unsafe { &mut *search };
    let done = search.step(|index| T::table().get_ptr(index).map(Bucket));
    i64::from(done)
}

#[derive(Clone, Copy)]
struct Bucket(*const [u64; BUCKET as usize]);

impl fib::Bucket for Bucket {
    #[inline(always)]
    fn word(self, index: u32) -> u64 {
        // SAFETY: the kernel keeps the array while the program runs; the lookup asks for words of
        // the bucket only.
        unsafe { read_volatile(self.0.cast::<u64>().add(index as usize)) }
    }
}
