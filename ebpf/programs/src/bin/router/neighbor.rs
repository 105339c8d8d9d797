//! Who is where on the link: the states of RFC 4861, 7.3, for ARP as well. There are no timers:
//! what is due is done when the next packet is to be sent to the neighbour.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{HashMap, LruHashMap},
};
use ebpf_abi::{
    address::{Mac, V4, V6},
    router::{
        DELAY_FIRST_PROBE_TIME, DRAIN_TIME, MAX_SOLICIT, MAX_UNICAST_SOLICIT,
        NEIGHBORS as CAPACITY, Neighbor, NeighborKey, NeighborState, RETRANS_TIMER, StaticNeighbor,
        UNREACHABLE_TIME, WAITING_AGAIN, WAITING_BEHIND, WAITING_NEW,
    },
};
use ebpf_programs::{Packet, atomic, clock};

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
    /// Its address is known, and it is to be asked whether it is still there.
    Probe,
    /// The same, but this hook cannot ask besides forwarding.
    ProbeElsewhere,
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

/// Where a neighbour is, if there is nothing to do but to send.
#[inline(always)]
pub fn usable(key: &NeighborKey) -> Option<Mac> {
    // SAFETY: the value is only read.
    if let Some(neighbor) = unsafe { STATIC_NEIGHBORS.get(key) } {
        return Some(neighbor.mac);
    }
    // SAFETY: the value is only read; a race between CPUs costs a look more.
    let neighbor = unsafe { NEIGHBORS.get(key) }?;
    let now = clock::now();
    let usable = match neighbor.state(now) {
        NeighborState::Reachable => true,
        NeighborState::Delay => clock::elapsed(now, neighbor.used) < DELAY_FIRST_PROBE_TIME,
        NeighborState::Probe => clock::elapsed(now, neighbor.asked_at) < RETRANS_TIMER,
        NeighborState::Incomplete
        | NeighborState::Failed
        | NeighborState::Stale
        | NeighborState::Expired => false,
    };
    (usable && neighbor.waiting == 0).then_some(neighbor.mac)
}

/// True if the neighbour's address is known, fresh or not.
#[inline(always)]
pub fn is_known(key: &NeighborKey) -> bool {
    // SAFETY: the values are only read.
    unsafe {
        STATIC_NEIGHBORS.get(key).is_some()
            || NEIGHBORS
                .get(key)
                .is_some_and(|neighbor| neighbor.heard != 0)
    }
}

/// What is known of the next hop of a packet. One that comes back (`returning`) waited for it.
#[inline(always)]
pub fn resolve<P: Packet>(key: &NeighborKey, returning: bool) -> Resolution {
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
        let mac = (*neighbor).mac;
        let state = (*neighbor).state(now);
        let asked_before = clock::elapsed(now, (*neighbor).asked_at);
        let due = asked_before > RETRANS_TIMER;
        let gone = state == NeighborState::Expired
            || state == NeighborState::Probe && due && (*neighbor).asked >= MAX_UNICAST_SOLICIT;
        if (*neighbor).heard != 0 && !gone {
            if (*neighbor).waiting != 0 {
                if returning {
                    came_back(neighbor);
                } else if clock::elapsed(now, (*neighbor).heard) < DRAIN_TIME {
                    return Resolution::new(State::Known, mac, WAITING_BEHIND);
                }
            }
            return Resolution::new(probe::<P>(neighbor, state, now), mac, 0);
        }
        let again = gone || (*neighbor).asked >= MAX_SOLICIT;
        if gone || due && (!again || asked_before >= UNREACHABLE_TIME) {
            (*neighbor).asked = if again { 1 } else { (*neighbor).asked + 1 };
            (*neighbor).asked_at = now;
            (*neighbor).heard = 0;
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

/// A packet is about to be sent to a neighbour that is known: is it to be asked?
///
/// # Safety
/// `neighbor` must be valid.
#[inline(always)]
unsafe fn probe<P: Packet>(neighbor: *mut Neighbor, state: NeighborState, now: u64) -> State {
    // SAFETY: as the caller promises.
    unsafe {
        let due = match state {
            NeighborState::Stale => {
                (*neighbor).used = now;
                (*neighbor).asked = 0;
                false
            }
            NeighborState::Delay => clock::elapsed(now, (*neighbor).used) >= DELAY_FIRST_PROBE_TIME,
            NeighborState::Probe => clock::elapsed(now, (*neighbor).asked_at) >= RETRANS_TIMER,
            _ => false,
        };
        if !due {
            return State::Known;
        }
        if P::XDP {
            return State::ProbeElsewhere;
        }
        (*neighbor).asked += 1;
        (*neighbor).asked_at = now;
        State::Probe
    }
}

/// Notes where a neighbour is (RFC 4861, 7.2.3 and 7.2.5; RFC 826). `answers`: it was asked, and
/// so it is reachable. `overrides`: it is believed even if another address was.
#[inline(always)]
pub fn learn(key: &NeighborKey, mac: Mac, answers: bool, overrides: bool) {
    let now = clock::now();
    let confirmed = if answers { now } else { 0 };
    let Some(neighbor) = NEIGHBORS.get_ptr_mut(key) else {
        let neighbor = Neighbor {
            mac,
            heard: now,
            confirmed,
            ..Neighbor::UNKNOWN
        };
        // A full table: the neighbour is asked for when it is needed.
        let _not_noted = NEIGHBORS.insert(key, &neighbor, 0);
        return;
    };
    // SAFETY: as in `resolve`.
    unsafe {
        let heard = (*neighbor).heard;
        let same = heard != 0 && (*neighbor).mac == mac;
        if heard != 0 && !same && !overrides {
            // Doubtful from now on, but not replaced (RFC 4861, 7.2.5, rule I).
            (*neighbor).confirmed = 0;
            return;
        }
        (*neighbor).heard = now;
        if answers || !same {
            (*neighbor).mac = mac;
            (*neighbor).confirmed = confirmed;
            (*neighbor).used = 0;
            (*neighbor).asked = 0;
        }
        if (*neighbor).waiting != 0 {
            if heard == 0 {
                waiting::known(key, now);
            } else if clock::elapsed(now, heard) > DRAIN_TIME {
                // Whoever kept them is gone.
                (*neighbor).waiting = 0;
            }
        }
    }
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
