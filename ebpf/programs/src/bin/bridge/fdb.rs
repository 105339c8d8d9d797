//! The forwarding tables: where stations are, per VLAN.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    cty::c_void,
    helpers::bpf_for_each_map_elem,
    macros::map,
    maps::{Array, HashMap},
};
use ebpf_abi::{
    address::Mac,
    bridge::{FEATURE_STATIC, FdbEntry, FdbKey, REFRESH_INTERVAL, SWEEP_INTERVAL, State},
    port::PORT_BEHIND,
};
use ebpf_programs::{Packet, clock, standard};

use crate::{SETTINGS, has, stp};

/// Stations heard.
#[map(name = "fdb")]
static FDB: HashMap<FdbKey, FdbEntry> = HashMap::with_max_entries(65536, BPF_F_NO_PREALLOC);

/// Stations configured: the port of each. Learning never touches them.
#[map(name = "static_fdb")]
static STATIC_FDB: HashMap<FdbKey, u32> = HashMap::with_max_entries(65536, BPF_F_NO_PREALLOC);

#[map(name = "state")]
static STATE: Array<State> = Array::with_max_entries(1, 0);

/// Learns the source's port (IEEE 802.1D-2004, 7.8), and what is behind it now.
#[inline(always)]
pub fn learn(mac: Mac, vlan: u16, input: u32, behind: u32, now: u64) {
    let key = FdbKey { mac, vlan };
    if let Some(entry) = FDB.get_ptr_mut(&key) {
        // SAFETY: the kernel keeps the entry valid while the program runs. Two CPUs may write
        // at once; each field is one store, both ports are right, and a port with what is behind
        // the other one is not believed.
        unsafe {
            if (*entry).port != input || (*entry).behind != behind {
                (*entry).port = input;
                (*entry).behind = behind;
                (*entry).seen = now;
            } else if clock::elapsed(now, (*entry).seen) > REFRESH_INTERVAL
                || stp::is_flushed(input, vlan, (*entry).seen)
            {
                (*entry).seen = now;
            }
        }
        return;
    }
    if configured(&key).is_some() {
        return;
    }
    let entry = FdbEntry {
        port: input,
        behind,
        seen: now,
    };
    if FDB.insert(&key, &entry, 0).is_err() {
        make_room(now);
    }
}

/// The station's port, if it is known and was heard recently (IEEE 802.1D-2004, 7.9.2), and if
/// the network behind that port is still the one it was heard from: after a link was moved the
/// station may be elsewhere, and frames for it are flooded until it is heard again.
#[inline(always)]
pub fn lookup<P: Packet>(packet: &P, mac: Mac, vlan: u16, now: u64) -> Option<u32> {
    let key = FdbKey { mac, vlan };
    if let Some(port) = configured(&key) {
        return Some(port);
    }
    // SAFETY: the value is only read.
    let entry = unsafe { FDB.get(&key) }?;
    if clock::elapsed(now, entry.seen) > SETTINGS.load().aging_time {
        let _already_gone = FDB.remove(&key);
        return None;
    }
    if stp::is_flushed(entry.port, vlan, entry.seen) {
        return None;
    }
    let behind = standard::port(packet, entry.port).map_or(0, |port| port.flags & PORT_BEHIND);
    (behind == entry.behind).then_some(entry.port)
}

/// The port of a station that is configured.
#[inline(always)]
fn configured(key: &FdbKey) -> Option<u32> {
    if !has(FEATURE_STATIC) {
        return None;
    }
    // SAFETY: the value is only read.
    unsafe { STATIC_FDB.get(key) }.copied()
}

/// The table is full: forgets what has aged, once a second at most. Until then new stations are
/// not learned and frames for them are flooded; stations that are known stay known.
#[inline(always)]
fn make_room(now: u64) {
    let Some(state) = STATE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the entry is always there; a lost race costs one count.
    unsafe { (*state).full += 1 };
    if !may_sweep(now) {
        return;
    }
    let mut now = now;
    // SAFETY: the callback has the signature that the helper wants, and `now` outlives the call.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const FDB).cast_mut().cast(),
            forget_aged as *mut c_void,
            (&raw mut now).cast(),
            0,
        );
    }
}

/// True once a second: a sweep walks a whole table.
#[inline(always)]
pub fn may_sweep(now: u64) -> bool {
    let Some(state) = STATE.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry is always there; a lost race costs one sweep.
    unsafe {
        if clock::elapsed(now, (*state).swept) < SWEEP_INTERVAL {
            return false;
        }
        (*state).swept = now;
    }
    true
}

/// Callback of `bpf_for_each_map_elem` (Linux 5.13).
extern "C" fn forget_aged(
    _map: *mut c_void,
    key: *const FdbKey,
    entry: *const FdbEntry,
    now: *const u64,
) -> i64 {
    // SAFETY: the kernel hands valid pointers to the callback.
    unsafe {
        if clock::elapsed(*now, (*entry).seen) > SETTINGS.load().aging_time {
            let key = *key;
            let _already_gone = FDB.remove(&key);
        }
    }
    0
}
