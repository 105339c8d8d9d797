//! Connections: which one a packet belongs to, and what it does to it.
//!
//! There is one entry for both directions. Nobody clears it when its time is over: it is not
//! believed any more, the next packet writes over it, and a table that is full is swept.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    cty::c_void,
    helpers::bpf_for_each_map_elem,
    macros::map,
    maps::{Array, HashMap},
};
use ebpf_abi::{
    classifier::{STATE_ESTABLISHED, STATE_INVALID, STATE_NEW, STATE_RELATED, STATE_UNTRACKED},
    counters::DropReason,
    firewall::{
        CONNECTION_REPLIED, CONNECTION_TURNED, CONNECTION_WINDOWS, Connection, FEATURE_SEVERAL,
        FEATURE_WINDOWS, REFRESH_INTERVAL, STEP_COMPARES, STEP_COUNTS, STEP_INVALID,
        SWEEP_INTERVAL, State, UNANSWERED, WORK_BEGINS, WORK_KNOWN, WORK_REPLY, WORK_TURNED, Work,
        connection, is_answer, is_request, note, timeout,
    },
    flow::{Flow, FlowKey, ICMP, ICMPV6, LATER, TCP, WHOLE},
    tcp,
    window::Windows,
};
use ebpf_programs::{Packet, Result, atomic, clock, flow, packet::bounded};

use crate::{LONGEST_HEADERS, SETTINGS, Seen, has, window};

#[map(name = "connections")]
static CONNECTIONS: HashMap<FlowKey, Connection> =
    HashMap::with_max_entries(65536, BPF_F_NO_PREALLOC);

#[map(name = "state")]
pub static STATE: Array<State> = Array::with_max_entries(1, 0);

/// Finds out what a packet is. A connection that is known goes on.
///
/// A packet that passes this firewall in two stacks moves its connection once: what it is was noted in it the first time.
/// ICMP errors move nothing.
#[inline(always)]
pub fn track<P: Packet>(packet: &mut P, seen: &mut Seen) {
    if seen.work.flow.is_error() {
        return about(packet, seen);
    }
    let work = &mut *seen.work;
    let (key, is_turned) = connection(&work.flow);
    work.key = key;
    if !has(FEATURE_SEVERAL) {
        return find(packet, work, is_turned);
    }
    let cube = SETTINGS.load().cube;
    let noted = packet.noted();
    if noted & !0x7f == note(&work.key, is_turned, cube, 0) {
        work.facts = 0;
        work.state = (noted & 0x7f) as u8;
        return;
    }
    find(packet, work, is_turned);
    if work.state != STATE_INVALID {
        packet.note(note(&work.key, is_turned, cube, work.state));
    }
}

/// Finds the connection of a packet, and moves it.
#[inline(always)]
fn find<P: Packet>(packet: &P, work: &mut Work, is_turned: bool) {
    if has(FEATURE_WINDOWS) && has_windows(work) && window::read(packet, work).is_err() {
        work.facts = 0;
        work.state = STATE_INVALID;
        return;
    }
    work.facts = if is_turned { WORK_TURNED } else { 0 };
    let now = clock::now();
    if let Some(entry) = CONNECTIONS.get_ptr_mut(&work.key) {
        // SAFETY: the kernel keeps the entry valid while the program runs. Two CPUs may write at
        // once; each field is one store.
        let known = unsafe { &mut *entry };
        if known.expires > now && go_on(known, work, is_turned, now) {
            return;
        }
    }
    begin(work);
}

/// A packet of a connection that is known. False if it begins another one in its place.
#[inline(always)]
fn go_on(known: &mut Connection, work: &mut Work, is_turned: bool, now: u64) -> bool {
    let protocol = work.flow.key.protocol;
    let is_reply = is_turned != (known.flags & CONNECTION_TURNED != 0);
    let mut counts = true;
    let mut state = known.state;
    // A later fragment is part of a segment that was looked at.
    if protocol == TCP && work.flow.fragment != LATER {
        step(known, work, is_reply);
        if work.step == STEP_INVALID {
            work.state = STATE_INVALID;
            return true;
        }
        if reopens(known, work) {
            // What was is over, also if no rule accepts the new one.
            known.expires = 0;
            return false;
        }
        counts = work.step == STEP_COUNTS;
        state = work.tcp_state;
    }
    let replied = is_reply || known.flags & CONNECTION_REPLIED != 0;
    let is_reset = protocol == TCP && work.flow.tcp_flags & tcp::RST != 0;
    // Then nothing has come about that must be remembered for a while.
    let is_refused = is_reset && known.flags & CONNECTION_REPLIED == 0;
    work.facts |= WORK_KNOWN;
    if is_reply {
        work.facts |= WORK_REPLY;
    }
    work.state = if replied {
        STATE_ESTABLISHED
    } else {
        STATE_NEW
    };
    if is_reply && known.flags & CONNECTION_REPLIED == 0 {
        known.flags |= CONNECTION_REPLIED;
    }
    if counts {
        let moved = known.state != state;
        if moved {
            known.state = state;
        }
        let expires = match is_refused {
            true => 0,
            // One that its receiver may doubt: it asks, and what is answered makes up for it.
            false if is_reset => now + life(protocol, tcp::CLOSE, replied),
            false => now + life(protocol, state, replied),
        };
        // What changed counts at once, else a second more or less does not matter: a store less
        // for most packets.
        if moved || expires.abs_diff(known.expires) > REFRESH_INTERVAL {
            known.expires = expires;
            if !has(FEATURE_WINDOWS) && known.flags & CONNECTION_WINDOWS != 0 {
                // Nobody looks after them any more.
                known.flags &= !CONNECTION_WINDOWS;
            }
        }
    }
    true
}

/// True if a packet has windows. A fragment does not say how long its segment is.
#[inline(always)]
fn has_windows(work: &Work) -> bool {
    work.flow.key.protocol == TCP && work.flow.fragment == WHOLE
}

/// What a segment does to its connection: `work.step` and `work.tcp_state`.
#[inline(always)]
fn step(known: &mut Connection, work: &mut Work, is_reply: bool) {
    window::note(work, tcp::step(known.state, is_reply, work.flow.tcp_flags));
    let is_whole = work.flow.fragment == WHOLE && work.step != STEP_INVALID;
    if has(FEATURE_WINDOWS) && is_whole && !reopens(known, work) {
        if is_reply {
            window::step::<1>(known, work);
            if work.step == STEP_COMPARES {
                window::compare::<1>(known, work);
            }
        } else {
            window::step::<0>(known, work);
            if work.step == STEP_COMPARES {
                window::compare::<0>(known, work);
            }
        }
    }
}

/// One that is over may be followed by any other one.
#[inline(always)]
fn reopens(known: &Connection, work: &Work) -> bool {
    matches!(known.state, tcp::TIME_WAIT | tcp::CLOSE) && work.tcp_state == tcp::SYN_SENT
}

/// A packet of no connection that is known.
#[inline(always)]
fn begin(work: &mut Work) {
    let flow = &work.flow;
    work.tcp_state = tcp::NONE;
    work.state = STATE_NEW;
    let mut begins = true;
    match flow.key.protocol {
        TCP => {
            let step = tcp::step(tcp::NONE, false, flow.tcp_flags);
            work.tcp_state = step.state;
            // What is older than our memory is not believed: anybody could send an ACK.
            if !step.valid || step.state != tcp::SYN_SENT {
                work.state = STATE_INVALID;
                begins = false;
            }
        }
        ICMP | ICMPV6 if !is_request(flow) => {
            begins = false;
            // Announcements and the like belong to nothing: nobody answers them.
            work.state = if is_answer(flow) {
                STATE_INVALID
            } else {
                STATE_UNTRACKED
            };
        }
        _ => {}
    }
    if begins {
        work.facts |= WORK_BEGINS;
    }
}

/// An ICMP error: related if it is about a connection that is known, and goes to the host whose
/// packet it quotes.
#[inline(always)]
fn about<P: Packet>(packet: &P, seen: &mut Seen) {
    seen.work.facts = 0;
    seen.work.state = STATE_INVALID;
    let transport = seen.work.flow.transport.into();
    if transport > LONGEST_HEADERS {
        return;
    }
    // The verifier knows nothing of what was in a table.
    let error = Flow {
        transport: bounded::<LONGEST_HEADERS>(transport) as u16,
        family: seen.work.flow.family,
        ..Flow::default()
    };
    let Ok(quoted) = flow::read_quoted(packet, &error) else {
        return;
    };
    if quoted.fragment == LATER || quoted.key.source != seen.work.flow.key.destination {
        return;
    }
    let (key, is_turned) = connection(&quoted);
    seen.work.key = key;
    // SAFETY: the value is only read.
    if let Some(known) = unsafe { CONNECTIONS.get(&seen.work.key) }
        && known.expires > clock::now()
    {
        seen.work.state = STATE_RELATED;
        seen.work.facts = WORK_KNOWN;
        // It goes against what it quotes.
        if is_turned == (known.flags & CONNECTION_TURNED != 0) {
            seen.work.facts |= WORK_REPLY;
        }
    }
}

/// Counts a packet that passes.
#[inline(always)]
pub fn count(seen: &Seen) {
    if seen.work.facts & WORK_KNOWN == 0 {
        return;
    }
    let Some(entry) = CONNECTIONS.get_ptr_mut(&seen.work.key) else {
        return;
    };
    let is_reply = seen.work.facts & WORK_REPLY != 0;
    let side = bounded::<2>(u32::from(is_reply) + 1) as usize - 1;
    // SAFETY: as above; `side` is 0 or 1.
    unsafe {
        let packets = (&raw mut (*entry).packets).cast::<u64>().add(side);
        let bytes = (&raw mut (*entry).bytes).cast::<u64>().add(side);
        atomic::add(packets, seen.work.packets as i64);
        atomic::add(bytes, seen.work.bytes as i64);
    }
}

/// A packet that the rules accepted: counts it, or begins its connection.
#[inline(always)]
pub fn accept(seen: &mut Seen) -> Result<()> {
    if seen.work.facts & WORK_BEGINS == 0 {
        count(seen);
        return Ok(());
    }
    let now = clock::now();
    let is_turned = seen.work.facts & WORK_TURNED != 0;
    let work = &mut *seen.work;
    let has_windows = has(FEATURE_WINDOWS) && has_windows(work);
    // Field by field: windows that nobody reads stay what they were.
    let fresh = &mut work.fresh;
    fresh.expires = now + life(work.flow.key.protocol, work.tcp_state, false);
    fresh.created = now;
    fresh.packets = [work.packets, 0];
    fresh.bytes = [work.bytes, 0];
    fresh.rule = work.rule;
    fresh.identity = work.identity;
    fresh.state = work.tcp_state;
    fresh.flags = if is_turned { CONNECTION_TURNED } else { 0 };
    fresh.direction = work.direction as u8;
    if has_windows {
        fresh.flags |= CONNECTION_WINDOWS;
        fresh.windows = Windows::begin(&work.segment);
    }
    if CONNECTIONS.insert(&work.key, &work.fresh, 0).is_ok() {
        return Ok(());
    }
    make_room(now);
    match CONNECTIONS.insert(&work.key, &work.fresh, 0) {
        Ok(()) => Ok(()),
        // Its answers would not be known as such.
        Err(_) => Err(DropReason::SessionsExhausted),
    }
}

/// For how long a connection is remembered from now on.
#[inline(always)]
fn life(protocol: u8, state: u8, replied: bool) -> u64 {
    let timeouts = &raw const SETTINGS;
    let index = timeout(protocol, state, replied);
    // SAFETY: the global is never written; `timeout` gives an index of the array.
    unsafe {
        let settings = timeouts.cast::<ebpf_abi::firewall::Settings>();
        (&raw const (*settings).timeouts)
            .cast::<u64>()
            .add(index & 0xf)
            .read_volatile()
    }
}

/// The table is full: forgets what is over, and what was begun but not answered for a while. Once
/// a second at most: a sweep walks the whole table.
#[inline(always)]
fn make_room(now: u64) {
    let Some(state) = STATE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the entry is always there; a lost race costs a count, or a sweep.
    unsafe {
        (*state).full += 1;
        if clock::elapsed(now, (*state).swept) < SWEEP_INTERVAL {
            return;
        }
        (*state).swept = now;
    }
    let mut now = now;
    // SAFETY: the callback has the signature that the helper wants, and `now` outlives the call.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const CONNECTIONS).cast_mut().cast(),
            forget as *mut c_void,
            (&raw mut now).cast(),
            0,
        );
    }
}

/// Callback of `bpf_for_each_map_elem` (Linux 5.13).
extern "C" fn forget(
    _map: *mut c_void,
    key: *const FlowKey,
    entry: *const Connection,
    now: *const u64,
) -> i64 {
    // SAFETY: the kernel hands valid pointers to the callback.
    unsafe {
        let is_over = (*entry).expires <= *now;
        let unanswered = (*entry).flags & CONNECTION_REPLIED == 0
            && clock::elapsed(*now, (*entry).created) > UNANSWERED;
        if is_over || unanswered {
            let key = *key;
            let _already_gone = CONNECTIONS.remove(&key);
        }
    }
    0
}
