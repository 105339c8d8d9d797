//! Looks many addresses up with one run, in one kind of route table: for tests and measurements.
//! Addresses are in the array `questions`, what the table says comes into `answers`.

#![no_std]
#![no_main]

use core::ptr::null_mut;

use aya_ebpf::{
    Global,
    cty::c_void,
    helpers::bpf_loop,
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    address::V6,
    lookup::{self, Settings},
    router::{RouteEntry, RouteKeyV4, RouteKeyV6},
};
use ebpf_programs::{
    fib::{self, HasTableV6, MAPPED, TableV4, TableV6},
    lpm::Lpm,
};

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings { table: 0, count: 0 });

#[map(name = "questions")]
static QUESTIONS: Array<V6> = Array::with_max_entries(1, 0);
#[map(name = "answers")]
static ANSWERS: Array<RouteEntry> = Array::with_max_entries(1, 0);
#[map(name = "routes_v4")]
static ROUTES_V4: Lpm<RouteKeyV4, RouteEntry> = Lpm::with_max_entries(1);
#[map(name = "routes_v6")]
static ROUTES_V6: Lpm<RouteKeyV6, RouteEntry> = Lpm::with_max_entries(1);
#[map(name = "fib_v4")]
static FIB_V4: TableV4 = TableV4::with_max_entries(1, MAPPED);
#[map(name = "fib_v6")]
static FIB_V6: TableV6 = TableV6::with_max_entries(1, MAPPED);
#[map(name = "dynamic_v4")]
static DYNAMIC_V4: TableV4 = TableV4::with_max_entries(1, MAPPED);

#[classifier]
pub fn on_tc(_context: TcContext) -> i32 {
    run() as i32
}

#[xdp]
pub fn on_xdp(_context: XdpContext) -> u32 {
    run()
}

#[inline(always)]
fn run() -> u32 {
    // SAFETY: the callback has the signature `bpf_loop` (Linux 5.17) wants, and does not use the
    // pointer.
    unsafe { bpf_loop(SETTINGS.load().count, answer as *mut c_void, null_mut(), 0) as u32 }
}

struct Fixed;

impl HasTableV6 for Fixed {
    #[inline(always)]
    fn table() -> &'static TableV6 {
        &FIB_V6
    }
}

/// Callback of `bpf_loop`.
extern "C" fn answer(index: u64, _: *mut c_void) -> i64 {
    let index = index as u32;
    let (Some(address), Some(answer)) = (QUESTIONS.get(index), ANSWERS.get_ptr_mut(index)) else {
        return 1;
    };
    let address = *address;
    let found = match SETTINGS.load().table {
        lookup::TRIE_V4 => {
            let key = RouteKeyV4 {
                length: 32,
                address: address.v4(),
            };
            ROUTES_V4.get(&key).map_or(RouteEntry::NONE, |entry| *entry)
        }
        lookup::TRIE_V6 => {
            let key = RouteKeyV6 {
                length: 128,
                address,
            };
            ROUTES_V6.get(&key).map_or(RouteEntry::NONE, |entry| *entry)
        }
        lookup::FIB_V4 => fib::lookup_v4(&FIB_V4, address.v4()),
        lookup::FIB_V6 => fib::lookup_v6::<Fixed>(address),
        lookup::DYNAMIC_V4 => fib::lookup_v4(&DYNAMIC_V4, address.v4()),
        _ => RouteEntry::NONE,
    };
    // SAFETY: the kernel keeps the entry while the program runs; nobody else writes it.
    unsafe { *answer = found };
    0
}
