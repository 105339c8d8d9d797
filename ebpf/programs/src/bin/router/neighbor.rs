//! Who is where on the link: the states of RFC 4861, 7.3, as far as they need no timer.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{HashMap, LruHashMap},
};
use ebpf_abi::{
    address::{Mac, V4, V6},
    router::{
        MAX_SOLICIT, NEIGHBORS as CAPACITY, Neighbor, NeighborKey, REACHABLE_TIME, RETRANS_TIMER,
        STALE_TIME, StaticNeighbor, UNREACHABLE_TIME,
    },
};
use ebpf_programs::clock;

#[map(name = "neighbors")]
static NEIGHBORS: LruHashMap<NeighborKey, Neighbor> = LruHashMap::with_max_entries(CAPACITY, 0);
#[map(name = "static_neighbors")]
static STATIC_NEIGHBORS: HashMap<NeighborKey, StaticNeighbor> =
    HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// What is known of a neighbour.
pub enum Resolution {
    /// Its address.
    Known(Mac),
    /// Its address, which it is time to ask about again.
    Stale(Mac),
    /// Ask now.
    Ask,
    /// Asked a moment ago.
    Waiting,
    /// Asked several times in vain.
    Unreachable,
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

#[inline(always)]
pub fn resolve(key: &NeighborKey) -> Resolution {
    // SAFETY: the value is only read.
    if let Some(neighbor) = unsafe { STATIC_NEIGHBORS.get(key) } {
        return Resolution::Known(neighbor.mac);
    }
    let now = clock::now();
    let Some(neighbor) = NEIGHBORS.get_ptr_mut(key) else {
        let asked = Neighbor {
            mac: Mac::default(),
            asked: 1,
            asked_at: now,
            confirmed: 0,
        };
        return match NEIGHBORS.insert(key, &asked, 0) {
            Ok(()) => Resolution::Ask,
            Err(_) => Resolution::Waiting,
        };
    };
    // SAFETY: the kernel keeps the entry valid while the program runs; a race between CPUs
    // costs a question more or less.
    unsafe {
        let age = clock::elapsed(now, (*neighbor).confirmed);
        let asked_before = clock::elapsed(now, (*neighbor).asked_at);
        let due = asked_before > RETRANS_TIMER;
        if (*neighbor).confirmed != 0 && age < STALE_TIME {
            if age > REACHABLE_TIME && due {
                (*neighbor).asked_at = now;
                return Resolution::Stale((*neighbor).mac);
            }
            return Resolution::Known((*neighbor).mac);
        }
        if !due {
            return Resolution::Waiting;
        }
        if (*neighbor).asked >= MAX_SOLICIT && asked_before < UNREACHABLE_TIME {
            return Resolution::Unreachable;
        }
        let again = (*neighbor).asked >= MAX_SOLICIT;
        (*neighbor).asked = if again { 1 } else { (*neighbor).asked + 1 };
        (*neighbor).asked_at = now;
        Resolution::Ask
    }
}

/// Notes where a neighbour is.
#[inline(always)]
pub fn learn(key: &NeighborKey, mac: Mac) {
    let now = clock::now();
    if let Some(neighbor) = NEIGHBORS.get_ptr_mut(key) {
        // SAFETY: as in `resolve`.
        unsafe {
            (*neighbor).mac = mac;
            (*neighbor).asked = 0;
            (*neighbor).confirmed = now;
        }
        return;
    }
    let neighbor = Neighbor {
        mac,
        asked: 0,
        asked_at: now,
        confirmed: now,
    };
    // A full table: the neighbour is asked for when it is needed.
    let _not_noted = NEIGHBORS.insert(key, &neighbor, 0);
}
