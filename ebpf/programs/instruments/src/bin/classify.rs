//! Classifies many headers with one run: for tests and measurements. Headers are in the array
//! `questions`, the rules that match come into `answers`.

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
    classifier::{Header, NO_RULE},
    classify::{NOWHERE, SetKey, Settings},
};
use ebpf_programs::{
    classifier::{HasClassifier, LINES, Lines, More, Rules, Searches, Tuples, classify},
    lpm::Lpm,
};

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    list: 0,
    bank: 0,
    count: 0,
});

#[map(name = "questions")]
static QUESTIONS: Array<Header> = Array::with_max_entries(1, 0);
#[map(name = "answers")]
static ANSWERS: Array<u32> = Array::with_max_entries(1, 0);
#[map(name = "tuples")]
static TUPLES: Tuples = Tuples::with_max_entries(1, LINES);
#[map(name = "lines")]
static LINES_OF_RULES: Lines = Lines::with_max_entries(1, LINES);
#[map(name = "rules")]
static RULES: Rules = Rules::with_max_entries(1, LINES);
#[map(name = "further")]
static FURTHER: More = More::with_max_entries(1, 0);
#[map(name = "search")]
static SEARCH: Searches = Searches::with_max_entries(1, 0);
#[map(name = "sets")]
static SETS: Lpm<SetKey, u32> = Lpm::with_max_entries(1);

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

struct Lists;

impl HasClassifier for Lists {
    #[inline(always)]
    fn tuples() -> &'static Tuples {
        &TUPLES
    }

    #[inline(always)]
    fn lines() -> &'static Lines {
        &LINES_OF_RULES
    }

    #[inline(always)]
    fn rules() -> &'static Rules {
        &RULES
    }

    #[inline(always)]
    fn further() -> &'static More {
        &FURTHER
    }

    #[inline(always)]
    fn search() -> &'static Searches {
        &SEARCH
    }

    #[inline(always)]
    fn in_set(set: u32, _: u32, address: &V6) -> bool {
        let key = SetKey {
            length: 32 + 128,
            set,
            address: *address,
        };
        SETS.get(&key).is_some()
    }
}

/// Callback of `bpf_loop`.
extern "C" fn answer(index: u64, _: *mut c_void) -> i64 {
    let index = index as u32;
    let (Some(header), Some(answer)) = (QUESTIONS.get(index), ANSWERS.get_ptr_mut(index)) else {
        return 1;
    };
    let settings = SETTINGS.load();
    let found = match settings.list {
        NOWHERE => NO_RULE,
        list => classify::<Lists>(list, settings.bank, header.words()).rule,
    };
    // SAFETY: the kernel keeps the entry while the program runs; nobody else writes it.
    unsafe { *answer = found };
    0
}
