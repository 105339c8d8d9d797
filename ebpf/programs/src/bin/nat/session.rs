//! Sessions: flows that are translated.
//!
//! Nobody but the data plane ever removes one: who finds a session that has expired, or looks for
//! a free slot, does. A slot's word says what is in it; whoever changes that does it in one step.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    cty::c_void,
    helpers::{bpf_get_prandom_u32, bpf_loop},
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use ebpf_abi::{
    chain::Direction,
    counters::DropReason,
    flow::{FlowKey, ICMP, ICMPV6, TCP, UDP},
    nat::{
        CLAIM_SLOTS, FEATURE_KNOWN, NO_POOL, Place, REFRESH_INTERVAL, SLOT_BUSY, SLOT_FREE,
        SLOT_LIVE, SLOT_NEXT, SLOT_STATE, SWEEP_INTERVAL, SWEEP_SLOTS, SWEEP_STEP, Session, State,
        TIDY_SLOTS,
    },
    tcp,
};
use ebpf_programs::{Packet, Result, atomic, clock, counters::Size};

use crate::{
    SETTINGS, contact, has, mapping, pool,
    work::{Work, work},
};

/// Where the session of a packet is.
#[map(name = "flows")]
static FLOWS: HashMap<FlowKey, Place> = HashMap::with_max_entries(2048, 0);

#[map(name = "sessions")]
static SESSIONS: Array<Session> = Array::with_max_entries(1024, 0);

#[map(name = "state")]
static STATE: Array<State> = Array::with_max_entries(1, 0);

/// The slot that this CPU looks at next.
#[map(name = "hands")]
static HANDS: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

// SAFETY of the blocks below: the kernel keeps entries of arrays forever and those of hashes while
// the program runs. Several CPUs may write at once: the word in one step, the rest is whole
// machine words, of which either value will do.

/// The session of a packet whose key has its direction, if it has one that has not expired.
#[inline(always)]
pub fn find<P: Packet>(packet: &P, work: &mut Work, now: u64) -> Option<*mut Session> {
    let (session, place) = at(&work.flow.key)?;
    if is_expired(session, now) || is_elsewhere(packet, work, session, now) {
        remove(session, place.word, work);
        return None;
    }
    Some(session)
}

/// The session that the packet has begun.
#[inline(always)]
pub fn begun(work: &Work) -> Option<*mut Session> {
    SESSIONS.get_ptr_mut(work.begun)
}

/// The session that a key belongs to, for looking only.
#[inline(always)]
pub fn peek(key: &FlowKey, now: u64) -> Option<*mut Session> {
    let (session, _) = at(key)?;
    (!is_expired(session, now)).then_some(session)
}

#[inline(always)]
fn at(key: &FlowKey) -> Option<(*mut Session, Place)> {
    let place = unsafe { *FLOWS.get(key)? };
    let session = SESSIONS.get_ptr_mut(place.slot)?;
    // Otherwise it has just gone, and its slot is another's.
    unsafe { ((*session).word == place.word).then_some((session, place)) }
}

/// True if the session's time is over (RFC 4787, REQ-5; RFC 5382, REQ-5; RFC 5508, REQ-2), or if it
/// was flushed.
#[inline(always)]
fn is_expired(session: *const Session, now: u64) -> bool {
    unsafe {
        let settings = SETTINGS.load();
        let timeout = match (*session).keys[0].protocol {
            TCP if (*session).state == tcp::ESTABLISHED => settings.tcp_established,
            TCP => settings.tcp_transitory,
            UDP => settings.udp,
            ICMP | ICMPV6 => settings.icmp,
            _ => settings.other,
        };
        clock::elapsed(now, (*session).seen) > timeout || (*session).created < flushed()
    }
}

/// What began before this time is no more.
#[inline(always)]
pub fn flushed() -> u64 {
    STATE.get(0).map_or(0, |state| state.flushed)
}

/// True if the external address is another one by now. Looked at as often as the time is noted.
#[inline(always)]
fn is_elsewhere<P: Packet>(packet: &P, work: &mut Work, session: *const Session, now: u64) -> bool {
    unsafe {
        if work.flow.key.padding[0] == Direction::Ingress as u8
            || (*session).pool == NO_POOL
            || clock::elapsed(now, (*session).seen) < REFRESH_INTERVAL
        {
            return false;
        }
        let external = (*session).keys[Direction::Ingress as usize].destination;
        pool::address(packet, work, (*session).pool) != external
    }
}

/// Notes a packet of a session.
#[inline(always)]
pub fn note(session: *mut Session, work: &mut Work, direction: Direction, size: Size, now: u64) {
    unsafe {
        let side = direction as usize;
        atomic::add(&raw mut (*session).packets[side], size.packets() as i64);
        atomic::add(&raw mut (*session).bytes[side], size.bytes() as i64);
        let is_first_side = (*session).origin == direction as u8;
        let is_out = direction == Direction::Egress;
        let has_mapping = (*session).pool != NO_POOL;
        // What comes in from outside keeps nothing alive that gives others a way in (RFC 4787,
        // REQ-6).
        let mut counts = is_out || (is_first_side && !has_mapping);
        let flow = &work.flow;
        if flow.key.protocol == TCP {
            let before = (*session).state;
            let step = tcp::step(before, !is_first_side, flow.tcp_flags);
            counts = step.counts;
            if step.state != before {
                (*session).state = step.state;
                (*session).seen = now;
                // A new connection with the ports of the old one, maybe from the other side.
                if step.state == tcp::SYN_SENT {
                    (*session).origin = direction as u8;
                }
            }
        }
        if counts && clock::elapsed(now, (*session).seen) >= REFRESH_INTERVAL {
            (*session).seen = now;
            if is_out && has_mapping {
                mapping::refresh(session, work, now);
                if has(FEATURE_KNOWN) {
                    contact::note(session, now);
                }
            }
        }
    }
}

/// A slot that is ours alone.
pub struct Claimed {
    pub session: *mut Session,
    slot: u32,
    /// What its word was.
    word: u64,
}

/// Finds a free slot.
#[inline(always)]
pub fn claim(work: &mut Work, now: u64) -> Result<Claimed> {
    let hand = HANDS.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    // CPUs begin in different places.
    let from = match unsafe { *hand } {
        0 => unsafe { bpf_get_prandom_u32() },
        hand => hand,
    };
    let found = search(work, Search::from(from, now, 1), CLAIM_SLOTS);
    unsafe { *hand = found.hand };
    let session = SESSIONS
        .get_ptr_mut(found.slot)
        .ok_or(DropReason::SessionsExhausted)?;
    Ok(Claimed {
        session,
        slot: found.slot,
        word: found.word,
    })
}

/// Looks through the sessions for some that have expired, once a second at most: ports have run
/// out. True if it did.
#[inline(always)]
pub fn sweep(work: &mut Work, now: u64) -> bool {
    let Some(state) = STATE.get_ptr_mut(0) else {
        return false;
    };
    let Some(hand) = HANDS.get_ptr_mut(0) else {
        return false;
    };
    unsafe {
        if clock::elapsed(now, (*state).swept) < SWEEP_INTERVAL {
            return false;
        }
        (*state).swept = now;
        *hand = search(work, Search::from(*hand, now, 0), SWEEP_SLOTS).hand;
    }
    true
}

/// Removes sessions that are no more from the [`SWEEP_STEP`] slots that follow one. The last of them.
#[inline(always)]
pub fn sweep_from(work: &mut Work, slot: u32, now: u64) -> u32 {
    search(work, Search::from(slot, now, 0), SWEEP_STEP).hand
}

/// Looks at slots: at all of them once, or at so many.
#[inline(always)]
fn search(work: &mut Work, search: Search, most: u32) -> Search {
    let count = SETTINGS.load().sessions;
    let most = if count < most { count } else { most };
    let place = &raw mut work.search;
    // SAFETY: the callback has the signature that `bpf_loop` (Linux 5.17) wants. It finds its numbers in `work`, where the
    // compiler does not expect them to change: hence volatile.
    unsafe {
        place.write_volatile(search);
        bpf_loop(most, look as *mut _, core::ptr::null_mut(), 0);
        place.read_volatile()
    }
}

/// What the callback of the loop over slots needs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Search {
    now: u64,
    /// What the word of the slot was that was claimed.
    word: u64,
    /// The slot that was looked at last.
    hand: u32,
    /// The slot that was claimed.
    slot: u32,
    /// 1 if a slot is to be claimed, 0 if only those that have expired are to be freed.
    wants_slot: u32,
}

impl Search {
    #[inline(always)]
    const fn from(hand: u32, now: u64, wants_slot: u32) -> Self {
        Self {
            now,
            word: 0,
            hand,
            slot: NOT_FOUND,
            wants_slot,
        }
    }
}

const NOT_FOUND: u32 = u32::MAX;

/// Callback of `bpf_loop`: looks at one slot.
extern "C" fn look(step: u64, _: *mut c_void) -> i64 {
    let Ok(work) = work() else {
        return 1;
    };
    unsafe {
        let next = work.search.hand + 1;
        let slot = if next < SETTINGS.load().sessions {
            next
        } else {
            0
        };
        work.search.hand = slot;
        let Some(session) = SESSIONS.get_ptr_mut(slot) else {
            return 1;
        };
        let mut word = (*session).word;
        if word & SLOT_STATE == SLOT_LIVE && is_expired(session, work.search.now) {
            word = remove(session, word, work);
        }
        if work.search.wants_slot == 0 {
            return 0;
        }
        if work.search.slot == NOT_FOUND
            && word & SLOT_STATE == SLOT_FREE
            && atomic::compare_exchange(&raw mut (*session).word, word, word | SLOT_BUSY) == word
        {
            work.search.slot = slot;
            work.search.word = word;
        }
        i64::from(work.search.slot != NOT_FOUND && step + 1 >= u64::from(TIDY_SLOTS))
    }
}

impl Claimed {
    /// Makes it the session of its two keys. Whoever was faster on another CPU wins.
    #[inline(always)]
    pub fn publish(self, work: &mut Work, direction: Direction, now: u64) -> Result<()> {
        let session = self.session;
        unsafe {
            (*session).created = now;
            (*session).seen = now;
            (*session).packets = [0; 2];
            (*session).bytes = [0; 2];
            (*session).state = tcp::NONE;
            (*session).origin = direction as u8;
            let place = Place {
                word: self.word | SLOT_LIVE,
                slot: self.slot,
                padding: 0,
            };
            (&raw mut (*session).word).write_volatile(place.word);
            work.begun = self.slot;
            let (own, other) = (direction as usize, direction.other() as usize);
            if !take_key(&(*session).keys[own], &place) {
                work.begun = slot_of(&(*session).keys[own]);
                self.abandon(work);
                return Ok(());
            }
            if !take_key(&(*session).keys[other], &place) {
                let _gone = FLOWS.remove(&(*session).keys[own]);
                self.abandon(work);
                // Packets that come back could not be told apart from another flow's.
                return Err(DropReason::PortsExhausted);
            }
        }
        Ok(())
    }

    /// Gives the slot back, with what its session has.
    #[inline(always)]
    fn abandon(&self, work: &mut Work) {
        mapping::release(self.session, work);
        self.give_back();
    }

    /// Gives the slot back, with nothing in it.
    #[inline(always)]
    pub fn give_back(&self) {
        unsafe { (&raw mut (*self.session).word).write_volatile(self.word + SLOT_NEXT) };
    }
}

/// The slot of the session that a key belongs to; no slot at all if it belongs to none.
#[inline(always)]
fn slot_of(key: &FlowKey) -> u32 {
    at(key).map_or(NOT_FOUND, |(_, place)| place.slot)
}

/// Makes a key lead to a place; false if it leads to another one.
#[inline(always)]
fn take_key(key: &FlowKey, place: &Place) -> bool {
    if FLOWS.insert(key, place, BPF_NOEXIST.into()).is_ok() {
        return true;
    }
    if at(key).is_none() {
        // Of a session that is no more, as its table became smaller: the next packet finds room.
        let _gone = FLOWS.remove(key);
    }
    false
}

/// Removes a session whose slot has this word, unless somebody else is at it.
#[inline(never)]
fn remove(session: *mut Session, word: u64, work: &mut Work) -> u64 {
    unsafe {
        let busy = word ^ (SLOT_LIVE | SLOT_BUSY);
        if atomic::compare_exchange(&raw mut (*session).word, word, busy) != word {
            return word;
        }
        let _gone = FLOWS.remove(&(*session).keys[0]);
        let _gone = FLOWS.remove(&(*session).keys[1]);
        mapping::release(session, work);
        // From here on the slot is anybody's.
        let free = (word & !SLOT_STATE) + SLOT_NEXT;
        (&raw mut (*session).word).write_volatile(free);
        free
    }
}
