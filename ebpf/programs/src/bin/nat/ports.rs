//! External ports: which are taken. Setting a port's bit takes it; nobody has it who did not.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::{bpf_get_prandom_u32, bpf_loop},
    macros::map,
    maps::{Array, HashMap},
};
use ebpf_abi::nat::{
    FEATURE_DESTINATION, FIRST_POOL, PORT_KINDS, PORT_WORDS, Ports, WELL_KNOWN_PORTS,
};
use ebpf_programs::atomic;

use crate::has;

/// Ports that mappings have.
#[map(name = "used")]
static USED: Array<Ports> = Array::with_max_entries((FIRST_POOL + 8) * PORT_KINDS, 0);

/// Ports that no mapping may have: those that are forwarded.
#[map(name = "reserved")]
static RESERVED: HashMap<u32, Ports> = HashMap::with_max_entries(64, BPF_F_NO_PREALLOC);

/// There is none: port 0 is nobody's.
pub const NONE: u32 = 0;

/// Words of the bitmap in which the well-known ports are.
const WELL_KNOWN_WORDS: u32 = WELL_KNOWN_PORTS / 64;
const WORDS: u32 = PORT_WORDS as u32;
/// Words in which a port as odd or as even as the wanted one is looked for, at most. Where half of the ports are all taken, each
/// search would look at all words in vain.
const PARITY_WORDS: u32 = 64;

/// Takes a port of those at `index`: one as odd or as even as the wanted one (RFC 4787, REQ-4), else any;
/// of the same range in any case (REQ-3). [`NONE`] if all are taken.
#[inline(never)]
pub fn take_any(index: u32, wanted: u32) -> u32 {
    let count = if wanted != NONE && wanted < WELL_KNOWN_PORTS {
        WELL_KNOWN_WORDS
    } else {
        WORDS - WELL_KNOWN_WORDS
    };
    // Nobody outside should be able to guess the next one (RFC 6056, 3.3).
    // And where all begin at the same place, all look at what is full.
    // SAFETY: no preconditions.
    let random = unsafe { bpf_get_prandom_u32() };
    let parity = if count < PARITY_WORDS {
        count
    } else {
        PARITY_WORDS
    };
    let mut search = Search {
        index,
        count,
        parity,
        start: (random & 0xffff) % count,
        random: random >> 16,
        odd: wanted & 1,
        found: NONE,
    };
    // First for ports that are as odd, then for any.
    // SAFETY: the callback has the signature `bpf_loop` (Linux 5.17) wants, and `search` outlives
    // the call.
    unsafe { bpf_loop(parity + count, look as *mut _, (&raw mut search).cast(), 0) };
    search.found
}

/// Gives a port back.
#[inline(always)]
pub fn give_back(index: u32, port: u32) {
    if let Some(ports) = USED.get_ptr_mut(index) {
        // SAFETY: the word is inside the bitmap, and the entry is there forever.
        unsafe { atomic::keep_bits(word(ports, port / 64), !(1 << (port & 63))) };
    }
}

/// Takes a port; false if somebody has it.
#[inline(always)]
pub fn take_exactly(index: u32, port: u32) -> bool {
    let bit = 1 << (port & 63);
    if has(FEATURE_DESTINATION)
        && let Some(reserved) = RESERVED.get_ptr_mut(index)
        // SAFETY: as below.
        && unsafe { *word(reserved, port / 64) } & bit != 0
    {
        return false;
    }
    let Some(ports) = USED.get_ptr_mut(index) else {
        return false;
    };
    // SAFETY: as in `give_back`.
    unsafe { atomic::set_bits(word(ports, port / 64), bit) & bit == 0 }
}

/// A word of a bitmap.
///
/// # Safety
/// `ports` must be valid.
#[inline(always)]
unsafe fn word(ports: *mut Ports, index: u32) -> *mut u64 {
    // SAFETY: the mask keeps it inside.
    unsafe { ports.cast::<u64>().add((index & (WORDS - 1)) as usize) }
}

/// What the callback of the loop over words needs.
struct Search {
    index: u32,
    /// How many words to look at: those of the well-known ports, or all behind them.
    count: u32,
    /// How many of them for a port as odd or as even.
    parity: u32,
    /// With which of them to begin.
    start: u32,
    random: u32,
    /// 1 if an odd port is wanted.
    odd: u32,
    found: u32,
}

/// Callback of `bpf_loop`: looks for a free port in one word.
extern "C" fn look(step: u64, search: *mut Search) -> i64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    // SAFETY: the kernel hands a valid pointer to the callback; for the rest see above.
    unsafe {
        let step = step as u32;
        let (count, index, parity) = ((*search).count, (*search).index, (*search).parity);
        let is_second_round = step >= parity;
        let mut at = (*search).start + if is_second_round { step - parity } else { step };
        if at >= count {
            at -= count;
        }
        let at = if count == WELL_KNOWN_WORDS {
            at
        } else {
            at + WELL_KNOWN_WORDS
        };
        let Some(ports) = USED.get_ptr_mut(index) else {
            return 1;
        };
        let word = self::word(ports, at);
        let mut free = !*word;
        if has(FEATURE_DESTINATION)
            && let Some(reserved) = RESERVED.get_ptr_mut(index)
        {
            free &= !*self::word(reserved, at);
        }
        if !is_second_round {
            free &= if (*search).odd == 0 { EVEN } else { !EVEN };
        }
        if at == 0 {
            free &= !1;
        }
        if free == 0 {
            return 0;
        }
        // One of the free ones, by chance: the first from a place in the word.
        let turn = (*search).random & 63;
        let from = lowest(free.rotate_right(turn)) + turn & 63;
        let bit = 1u64 << from;
        if atomic::set_bits(word, bit) & bit != 0 {
            // Somebody was faster.
            return 0;
        }
        (*search).found = at * 64 + from;
        1
    }
}

/// Number of the lowest bit that is set. There is no instruction for it, and a search would be many
/// paths to the verifier; counting bits is arithmetic alone.
#[inline(always)]
fn lowest(bits: u64) -> u32 {
    ((bits & bits.wrapping_neg()) - 1).count_ones()
}
