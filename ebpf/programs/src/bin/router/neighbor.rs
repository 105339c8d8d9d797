//! Who is where on the link: the states of RFC 4861, 7.3, as far as they need no timer.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{HashMap, LruHashMap},
};
use ebpf_abi::{
    address::{Mac, V4, V6},
    router::{
        DRAIN_TIME, MAX_SOLICIT, NEIGHBORS as CAPACITY, Neighbor, NeighborKey, REACHABLE_TIME,
        RETRANS_TIMER, STALE_TIME, StaticNeighbor, UNREACHABLE_TIME, WAITING_AGAIN, WAITING_BEHIND,
        WAITING_NEW,
    },
};
use ebpf_programs::{atomic, clock};

use crate::waiting;

#[map(name = "neighbors")]
static NEIGHBORS: LruHashMap<NeighborKey, Neighbor> = LruHashMap::with_max_entries(CAPACITY, 0);
#[map(name = "static_neighbors")]
static STATIC_NEIGHBORS: HashMap<NeighborKey, StaticNeighbor> =
    HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// What is known of a neighbour. A struct with all fields set, for the reason given at
/// [`Verdict`](ebpf_programs::standard::Verdict).
pub struct Resolution {
    pub state: State,
    /// Its address, as far as it is known.
    pub mac: Mac,
    /// How the packet may wait, if somebody keeps it: one of the `WAITING_*` constants, or 0.
    pub waits: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its address is known.
    Known,
    /// Its address is known, and it is time to ask about it again.
    Stale,
    /// Ask now.
    Ask,
    /// Asked a moment ago.
    Waiting,
    /// Asked several times in vain.
    Unreachable,
}

impl Resolution {
    #[inline(always)]
    const fn new(state: State, mac: Mac, waits: u32) -> Self {
        Self { state, mac, waits }
    }

    #[inline(always)]
    const fn unknown(state: State, waits: u32) -> Self {
        Self::new(state, Mac::new([0; 6]), waits)
    }
}

#[inline(always)]
pub fn key_v4(port: u32, address: V4) -> NeighborKey {
    NeighborKey {
        port: port as u16,
        family: 4,
        address: V6::from_v4(address),
    }
}

#[inline(always)]
pub fn key_v6(port: u32, address: V6) -> NeighborKey {
    NeighborKey {
        port: port as u16,
        family: 6,
        address,
    }
}

/// What is known of the next hop of a packet. One that comes back (`returning`) waited for it.
#[inline(always)]
pub fn resolve(key: &NeighborKey, returning: bool) -> Resolution {
    // SAFETY: the value is only read.
    if let Some(neighbor) = unsafe { STATIC_NEIGHBORS.get(key) } {
        return Resolution::new(State::Known, neighbor.mac, 0);
    }
    let now = clock::now();
    let ask = if returning {
        WAITING_AGAIN
    } else {
        WAITING_NEW
    };
    let Some(neighbor) = NEIGHBORS.get_ptr_mut(key) else {
        let asked = Neighbor {
            asked: 1,
            asked_at: now,
            ..Neighbor::UNKNOWN
        };
        return match NEIGHBORS.insert(key, &asked, 0) {
            Ok(()) => Resolution::unknown(State::Ask, ask),
            Err(_) => Resolution::unknown(State::Waiting, 0),
        };
    };
    // SAFETY: the kernel keeps the entry valid while the program runs; a race between CPUs
    // costs a question more or less.
    unsafe {
        let age = clock::elapsed(now, (*neighbor).confirmed);
        let asked_before = clock::elapsed(now, (*neighbor).asked_at);
        let due = asked_before > RETRANS_TIMER;
        if (*neighbor).confirmed != 0 && age < STALE_TIME {
            let mac = (*neighbor).mac;
            if (*neighbor).waiting != 0 {
                if returning {
                    came_back(neighbor);
                } else if age < DRAIN_TIME {
                    return Resolution::new(State::Known, mac, WAITING_BEHIND);
                }
            }
            if age > REACHABLE_TIME && due {
                (*neighbor).asked_at = now;
                return Resolution::new(State::Stale, mac, 0);
            }
            return Resolution::new(State::Known, mac, 0);
        }
        if due && ((*neighbor).asked < MAX_SOLICIT || asked_before >= UNREACHABLE_TIME) {
            let again = (*neighbor).asked >= MAX_SOLICIT;
            (*neighbor).asked = if again { 1 } else { (*neighbor).asked + 1 };
            (*neighbor).asked_at = now;
            (*neighbor).confirmed = 0;
            return Resolution::unknown(State::Ask, ask);
        }
        if returning {
            came_back(neighbor);
        }
        if due {
            return Resolution::unknown(State::Unreachable, 0);
        }
        // Who gives a packet back before it is time to ask again gives it up.
        let waits = if returning { 0 } else { WAITING_NEW };
        Resolution::unknown(State::Waiting, waits)
    }
}

/// Notes where a neighbour is.
#[inline(always)]
pub fn learn(key: &NeighborKey, mac: Mac) {
    let now = clock::now();
    if let Some(neighbor) = NEIGHBORS.get_ptr_mut(key) {
        // SAFETY: as in `resolve`.
        unsafe {
            let confirmed = (*neighbor).confirmed;
            (*neighbor).mac = mac;
            (*neighbor).asked = 0;
            (*neighbor).confirmed = now;
            if (*neighbor).waiting != 0 {
                if confirmed == 0 {
                    waiting::known(key, now);
                } else if clock::elapsed(now, confirmed) > DRAIN_TIME {
                    // Whoever kept them is gone.
                    (*neighbor).waiting = 0;
                }
            }
        }
        return;
    }
    let neighbor = Neighbor {
        mac,
        asked_at: now,
        confirmed: now,
        ..Neighbor::UNKNOWN
    };
    // A full table: the neighbour is asked for when it is needed.
    let _not_noted = NEIGHBORS.insert(key, &neighbor, 0);
}

/// One more packet waits for a neighbour.
#[inline(always)]
pub fn waits(key: &NeighborKey) {
    if let Some(neighbor) = NEIGHBORS.get_ptr_mut(key) {
        // SAFETY: the kernel keeps the entry valid while the program runs.
        unsafe { atomic::add(&raw mut (*neighbor).waiting, 1) };
    }
}

/// One packet less waits for a neighbour.
///
/// # Safety
/// `neighbor` must be valid.
#[inline(always)]
unsafe fn came_back(neighbor: *mut Neighbor) {
    // An entry that was forgotten meanwhile begins at 0.
    // SAFETY: as the caller promises.
    unsafe {
        if (*neighbor).waiting != 0 {
            atomic::add(&raw mut (*neighbor).waiting, -1);
        }
    }
}
