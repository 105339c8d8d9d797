//! Connections: which one a packet belongs to, and what it does to it.
//!
//! There is one entry for both directions. Nobody clears it when its time is over: it is not
//! believed any more, the next packet writes over it, and a table that is full is swept.

use aya_ebpf::{
    cty::c_void,
    helpers::bpf_for_each_map_elem,
    macros::map,
    maps::{Array, HashMap},
};
use ebpf_abi::{
    classifier::{STATE_ESTABLISHED, STATE_INVALID, STATE_NEW, STATE_RELATED, STATE_UNTRACKED},
    counters::DropReason,
    firewall::{
        CONNECTION_REPLIED, CONNECTION_TURNED, CONNECTION_WINDOWS, Connection,
        FEATURE_ACCEPT_ESTABLISHED, FEATURE_SEVERAL, FEATURE_WINDOWS, REFRESH_INTERVAL,
        STEP_COMPARES, STEP_COUNTS, STEP_INVALID, SWEEP_INTERVAL, Settings, State, UNANSWERED,
        WORK_BEGINS, WORK_KNOWN, WORK_REPLY, WORK_TURNED, Work, is_answer, is_request, note,
        timeout,
    },
    flow::{Flow, FlowKey, ICMP, ICMPV6, LATER, TCP, WHOLE},
    tcp,
    window::Windows,
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, DONE, PASS, answer},
    atomic, clock, constant, flow,
    packet::bounded,
};

use crate::{LONGEST_HEADERS, SETTINGS, has, key::note_key, window, work::forgotten};

#[map(name = "connections")]
static CONNECTIONS: HashMap<FlowKey, Connection> = HashMap::with_max_entries(65536, 0);

#[map(name = "state")]
pub static STATE: Array<State> = Array::with_max_entries(1, 0);

/// Finds out what a packet is: `work.state`. A connection that is known goes on. [`PASS`] if the packet does, because
/// of that; then it was counted.
///
/// A packet that passes this firewall in two stacks moves its connection once: what it is was noted in it the first time.
/// ICMP errors move nothing.
#[inline(never)]
pub fn track<P: Packet>(packet: &mut P, work: &mut Work) -> Answer {
    if work.flow.is_error() {
        return about(packet, work);
    }
    let is_turned = note_key(&mut work.key, &work.flow);
    work.facts = if is_turned { WORK_TURNED } else { 0 };
    if !has(FEATURE_SEVERAL) {
        return find(packet, work);
    }
    let cube = constant!(SETTINGS: Settings, cube);
    let is_turned = forgotten(&work.facts) != 0;
    let noted = packet.noted();
    if noted & !0x7f == note(&work.key, is_turned, cube, 0) {
        work.facts = 0;
        work.state = (noted & 0x7f) as u8;
        return passes(work);
    }
    let answer = find(packet, work);
    let state = forgotten(&work.state);
    if state != STATE_INVALID {
        packet.note(note(&work.key, is_turned, cube, state));
    }
    answer
}

/// Whether packets like this one pass without being asked for by rules.
#[inline(always)]
fn passes(work: &Work) -> Answer {
    let is_known = matches!(forgotten(&work.state), STATE_ESTABLISHED | STATE_RELATED);
    if has(FEATURE_ACCEPT_ESTABLISHED) && is_known {
        PASS
    } else {
        DONE
    }
}

/// The same of a packet of a connection, which counts it if it does.
#[inline(always)]
fn counted(known: *mut Connection, work: &Work) -> Answer {
    let answer = passes(work);
    if answer == PASS {
        count(known, work);
    }
    answer
}

/// Finds the connection of a packet, and moves it.
#[inline(always)]
fn find<P: Packet>(packet: &P, work: &mut Work) -> Answer {
    if has(FEATURE_WINDOWS) && has_windows(work) && window::read(packet, work) != DONE {
        return invalid(work);
    }
    let now = clock::now();
    if let Some(entry) = CONNECTIONS.get_ptr_mut(&work.key) {
        // SAFETY: the kernel keeps the entry valid while the program runs. Two CPUs may write at
        // once; each field is one store.
        let known = unsafe { &mut *entry };
        if known.expires > now {
            step(known, work);
            if forgotten(&work.step) == STEP_INVALID {
                return invalid(work);
            }
            if !reopens(known, work) {
                go_on(known, work, now);
                return counted(known, work);
            }
            // What was is over, also if no rule accepts the new one.
            known.expires = 0;
        }
    }
    begin(work);
    DONE
}

#[inline(always)]
fn invalid(work: &mut Work) -> Answer {
    work.facts = 0;
    work.state = STATE_INVALID;
    DONE
}

/// 1 if the packet comes from the side that did not begin. Numbers, not conditions: the verifier would follow each.
#[inline(always)]
fn is_reply(known: &Connection, work: &Work) -> u8 {
    (forgotten(&work.facts) / WORK_TURNED ^ known.flags / CONNECTION_TURNED) & 1
}

/// A packet that belongs to a connection, of which `work.step` and `work.tcp_state` say what it does.
#[inline(always)]
fn go_on(known: &mut Connection, work: &mut Work, now: u64) {
    const _: () = assert!(STATE_NEW << 1 == STATE_ESTABLISHED);
    let flags = known.flags;
    let reply = is_reply(known, work);
    let replied = (flags / CONNECTION_REPLIED | reply) & 1;
    work.facts |= WORK_KNOWN | reply * WORK_REPLY;
    work.state = STATE_NEW << replied;
    if reply & !(flags / CONNECTION_REPLIED) != 0 {
        known.flags = flags | CONNECTION_REPLIED;
    }
    if forgotten(&work.step) != STEP_COUNTS {
        return;
    }
    let protocol = work.flow.key.protocol;
    let (before, state) = (known.state, forgotten(&work.tcp_state));
    if before != state {
        known.state = state;
    }
    let is_reset = protocol == TCP && work.flow.tcp_flags & tcp::RST != 0;
    let expires = if !is_reset {
        now + life(protocol, state, replied != 0)
    } else if flags & CONNECTION_REPLIED == 0 {
        // Nothing has come about that must be remembered for a while.
        0
    } else {
        // One that its receiver may doubt: it asks, and what is answered makes up for it.
        now + life(protocol, tcp::CLOSE, true)
    };
    // What changed counts at once, else a second more or less does not matter: a store less
    // for most packets.
    if before != state || expires.abs_diff(known.expires) > REFRESH_INTERVAL {
        known.expires = expires;
        if !has(FEATURE_WINDOWS) && known.flags & CONNECTION_WINDOWS != 0 {
            // Nobody looks after them any more.
            known.flags &= !CONNECTION_WINDOWS;
        }
    }
}

/// True if a packet has windows. A fragment does not say how long its segment is.
#[inline(always)]
fn has_windows(work: &Work) -> bool {
    work.flow.key.protocol == TCP && work.flow.fragment == WHOLE
}

/// What a packet does to its connection: `work.step` and `work.tcp_state`.
#[inline(always)]
fn step(known: &mut Connection, work: &mut Work) {
    // A later fragment is part of a segment that was looked at.
    if work.flow.key.protocol != TCP || work.flow.fragment == LATER {
        work.step = STEP_COUNTS;
        work.tcp_state = known.state;
        return;
    }
    let reply = is_reply(known, work) != 0;
    window::note(work, tcp::step(known.state, reply, work.flow.tcp_flags));
    let is_whole = work.flow.fragment == WHOLE && forgotten(&work.step) != STEP_INVALID;
    if has(FEATURE_WINDOWS) && is_whole && !reopens(known, work) {
        if is_reply(known, work) != 0 {
            window::step::<1>(known, work);
            if forgotten(&work.step) == STEP_COMPARES {
                window::compare::<1>(known, work);
            }
        } else {
            window::step::<0>(known, work);
            if forgotten(&work.step) == STEP_COMPARES {
                window::compare::<0>(known, work);
            }
        }
    }
}

/// One that is over may be followed by any other one.
#[inline(always)]
fn reopens(known: &Connection, work: &Work) -> bool {
    work.flow.key.protocol == TCP
        && work.flow.fragment != LATER
        && matches!(known.state, tcp::TIME_WAIT | tcp::CLOSE)
        && forgotten(&work.tcp_state) == tcp::SYN_SENT
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
fn about<P: Packet>(packet: &P, work: &mut Work) -> Answer {
    invalid(work);
    if read_quoted(packet, work) != DONE {
        return DONE;
    }
    let (flow, quoted) = (&work.flow, &work.quoted);
    if quoted.fragment == LATER || quoted.key.source != flow.key.destination {
        return DONE;
    }
    let is_turned = note_key(&mut work.key, &work.quoted);
    work.facts = if is_turned { 0 } else { WORK_TURNED };
    let Some(entry) = CONNECTIONS.get_ptr_mut(&work.key) else {
        return invalid(work);
    };
    // SAFETY: as in `find`.
    let known = unsafe { &*entry };
    if known.expires <= clock::now() {
        return invalid(work);
    }
    // It goes against what it quotes.
    let reply = is_reply(known, work);
    work.facts = WORK_KNOWN | reply * WORK_REPLY;
    work.state = STATE_RELATED;
    counted(entry, work)
}

/// Reads what an ICMP error quotes. A function of its own, as in `main`.
#[inline(never)]
fn read_quoted<P: Packet>(packet: &P, work: &mut Work) -> Answer {
    let transport = u32::from(work.flow.transport);
    if transport > LONGEST_HEADERS {
        return PASS;
    }
    answer(flow::read_quoted(packet, &work.flow, &mut work.quoted).map(|()| DONE))
}

/// Counts a packet that passes.
#[inline(always)]
fn count(known: *mut Connection, work: &Work) {
    let is_reply = forgotten(&work.facts) & WORK_REPLY != 0;
    let side = bounded::<2>(u32::from(is_reply) + 1) as usize - 1;
    // SAFETY: the kernel keeps the entry valid while the program runs; `side` is 0 or 1.
    unsafe {
        let packets = (&raw mut (*known).packets).cast::<u64>().add(side);
        let bytes = (&raw mut (*known).bytes).cast::<u64>().add(side);
        atomic::add(packets, work.packets as i64);
        atomic::add(bytes, work.bytes as i64);
    }
}

/// A packet that the rules accepted: counts it, or begins its connection.
#[inline(never)]
pub fn accept(work: &mut Work) -> Answer {
    if work.facts & WORK_BEGINS == 0 {
        if work.facts & WORK_KNOWN != 0
            && let Some(entry) = CONNECTIONS.get_ptr_mut(&work.key)
        {
            count(entry, work);
        }
        return DONE;
    }
    answer(begin_connection(work))
}

#[inline(always)]
fn begin_connection(work: &mut Work) -> Result<Answer> {
    let now = clock::now();
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
    fresh.flags = (work.facts / WORK_TURNED & 1) * CONNECTION_TURNED;
    fresh.direction = work.direction as u8;
    if has_windows {
        fresh.flags |= CONNECTION_WINDOWS;
        fresh.windows = Windows::begin(&work.segment);
    }
    if CONNECTIONS.insert(&work.key, &work.fresh, 0).is_ok() {
        return Ok(DONE);
    }
    make_room(now);
    match CONNECTIONS.insert(&work.key, &work.fresh, 0) {
        Ok(()) => Ok(DONE),
        // Its answers would not be known as such.
        Err(_) => Err(DropReason::SessionsExhausted),
    }
}

/// For how long a connection is remembered from now on. A function of its own: what it says is a number, however it came
/// to it.
#[inline(never)]
fn life(protocol: u8, state: u8, replied: bool) -> u64 {
    let timeouts = &raw const SETTINGS;
    let index = timeout(protocol, state, replied);
    // SAFETY: the global is never written; `timeout` gives an index of the array.
    unsafe {
        let settings = timeouts.cast::<Settings>();
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
