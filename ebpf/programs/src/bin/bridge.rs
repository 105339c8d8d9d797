//! `bridge`: learns where stations are and forwards to them (IEEE 802.1D-2004, clause 7).

#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    bindings::{BPF_F_INGRESS, BPF_F_NO_PREALLOC},
    cty::c_void,
    helpers::{bpf_clone_redirect, bpf_for_each_map_elem, bpf_loop},
    macros::{classifier, map, xdp},
    maps::{Array, HashMap},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    address::Mac,
    bridge::{FdbEntry, FdbKey, REFRESH_INTERVAL, SWEEP_INTERVAL, Settings, State, flood_len},
    chain::{MAX_PORTS, MIN_PORTS, in_bank},
    counters::DropReason,
    port::{HOP_INTERFACE, HOP_PEER, HOP_PROGRAM, PORT_BEHIND, PORT_ISOLATED, Port},
};
use ebpf_programs::{
    Packet, Result, clock,
    counters::{self, Size},
    standard::{self, StandardCube, Verdict},
    tc::Tc,
    wire::Ethernet,
    xdp::Xdp,
};

#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings { aging_time: 0 });

/// Stations heard.
#[map(name = "fdb")]
static FDB: HashMap<FdbKey, FdbEntry> = HashMap::with_max_entries(65536, BPF_F_NO_PREALLOC);

/// Stations configured: the port of each. Learning never touches them.
#[map(name = "static_fdb")]
static STATIC_FDB: HashMap<FdbKey, u32> = HashMap::with_max_entries(65536, BPF_F_NO_PREALLOC);

/// The linked ports: their number, then their indices. Once per bank.
#[map(name = "flood")]
static FLOOD: Array<u32> = Array::with_max_entries(in_bank(flood_len(MIN_PORTS), 0), 0);

#[map(name = "state")]
static STATE: Array<State> = Array::with_max_entries(1, 0);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    standard::run::<Bridge, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    standard::run::<Bridge, _>(Xdp::new(&context)) as u32
}

struct Bridge;

impl StandardCube for Bridge {
    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, input: u32) -> Result<Verdict> {
        match way(packet, input)? {
            Way::Port(output) => Ok(Verdict::emit(output)),
            Way::All => match packet.as_tc() {
                Some(tc) => flood(&tc, input),
                // XDP cannot copy a frame to programs.
                None => Ok(Verdict::HAND_OVER),
            },
        }
    }
}

/// Where a frame goes.
enum Way {
    Port(u32),
    All,
}

#[inline(always)]
fn way<P: Packet>(packet: &P, input: u32) -> Result<Way> {
    let ethernet = packet.load::<Ethernet>(0)?;
    if ethernet.source.is_group() {
        return Err(DropReason::Malformed);
    }
    let now = clock::now();
    let from = standard::port(packet, input)?;
    learn(ethernet.source, input, from.flags & PORT_BEHIND, now);
    if is_reserved(ethernet.destination) {
        return Err(DropReason::Reserved);
    }
    if ethernet.destination.is_group() {
        return Ok(Way::All);
    }
    let Some(output) = lookup(packet, ethernet.destination, now) else {
        return Ok(Way::All);
    };
    if output == input {
        return Err(DropReason::SamePort);
    }
    if isolated(from, standard::port(packet, output)?) {
        return Err(DropReason::Isolated);
    }
    Ok(Way::Port(output))
}

/// Addresses from 01-80-C2-00-00-00 to -0F never cross a bridge (IEEE 802.1D-2004, 7.12.6).
#[inline(always)]
fn is_reserved(mac: Mac) -> bool {
    const LAST_FOUR_BITS: u16 = u16::from_ne_bytes([0xff, 0xf0]);
    let Mac([a, b, c]) = mac;
    [a, b, c & LAST_FOUR_BITS] == Mac::new([0x01, 0x80, 0xc2, 0x00, 0x00, 0x00]).0
}

#[inline(always)]
fn isolated(input: &Port, output: &Port) -> bool {
    input.flags & output.flags & PORT_ISOLATED != 0
}

/// Learns the source's port (IEEE 802.1D-2004, 7.8), and what is behind it now.
#[inline(always)]
fn learn(mac: Mac, input: u32, behind: u32, now: u64) {
    let key = FdbKey { mac, vlan: 0 };
    if let Some(entry) = FDB.get_ptr_mut(&key) {
        // SAFETY: the kernel keeps the entry valid while the program runs. Two CPUs may write
        // at once; each field is one store, both ports are right, and a port with what is behind
        // the other one is not believed.
        unsafe {
            if (*entry).port != input || (*entry).behind != behind {
                (*entry).port = input;
                (*entry).behind = behind;
                (*entry).seen = now;
            } else if clock::elapsed(now, (*entry).seen) > REFRESH_INTERVAL {
                (*entry).seen = now;
            }
        }
        return;
    }
    // SAFETY: the value is only read.
    if unsafe { STATIC_FDB.get(&key) }.is_some() {
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
fn lookup<P: Packet>(packet: &P, mac: Mac, now: u64) -> Option<u32> {
    let key = FdbKey { mac, vlan: 0 };
    // SAFETY: the value is only read.
    if let Some(port) = unsafe { STATIC_FDB.get(&key) } {
        return Some(*port);
    }
    // SAFETY: the value is only read.
    let entry = unsafe { FDB.get(&key) }?;
    if clock::elapsed(now, entry.seen) > SETTINGS.load().aging_time {
        let _already_gone = FDB.remove(&key);
        return None;
    }
    let behind = standard::port(packet, entry.port).map_or(0, |port| port.flags & PORT_BEHIND);
    (behind == entry.behind).then_some(entry.port)
}

/// The table is full: forgets what has aged, once a second at most. Until then new stations are
/// not learned and frames for them are flooded; stations that are known stay known.
#[inline(always)]
fn make_room(now: u64) {
    let Some(state) = STATE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the entry is always there; a lost race costs one sweep or one count.
    unsafe {
        (*state).full += 1;
        if clock::elapsed(now, (*state).swept) < SWEEP_INTERVAL {
            return;
        }
        (*state).swept = now;
        let mut now = now;
        bpf_for_each_map_elem(
            (&raw const FDB).cast_mut().cast(),
            forget_aged as *mut c_void,
            (&raw mut now).cast(),
            0,
        );
    }
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

/// What the callback of the flood loop needs.
struct Flood {
    tc: Tc,
    size: Size,
    input: u32,
    isolated: u32,
    /// A port that a program serves and no interface leads to: gets the original.
    rest: u32,
}

/// No port.
const NONE: u32 = u32::MAX;

/// Copies the frame to every other port. A copy cannot jump into a program, so ports that lead
/// to one are served through an interface of ours; one of them needs none, because it gets the
/// original.
#[inline(always)]
fn flood(packet: &Tc, input: u32) -> Result<Verdict> {
    let ports = FLOOD.get(in_bank(0, packet.bank())).copied().unwrap_or(0);
    let ports = if ports > MAX_PORTS { MAX_PORTS } else { ports };
    let mut flood = Flood {
        tc: packet.again(),
        size: Size::of(packet),
        input,
        isolated: standard::port(packet, input)?.flags & PORT_ISOLATED,
        rest: NONE,
    };
    // SAFETY: the callback has the signature `bpf_loop` (Linux 5.17) wants, and `flood` outlives
    // the call.
    unsafe { bpf_loop(ports, flood_to as *mut c_void, (&raw mut flood).cast(), 0) };
    match flood.rest {
        NONE => Ok(Verdict::CONSUMED),
        port => Ok(Verdict::emit(port)),
    }
}

/// Callback of `bpf_loop`.
extern "C" fn flood_to(index: u64, flood: *mut Flood) -> i64 {
    // SAFETY: the kernel hands the pointer on that `flood` gave it.
    let flood = unsafe { &mut *flood };
    let place = in_bank(index as u32 + 1, flood.tc.bank());
    let Some(output) = FLOOD.get(place).copied() else {
        return 1;
    };
    let Ok(port) = standard::port(&flood.tc, output) else {
        return 0;
    };
    if output == flood.input || port.flags & flood.isolated != 0 {
        return 0;
    }
    let (ifindex, flags) = match port.hop.kind {
        HOP_INTERFACE | HOP_PEER => (port.hop.ifindex, 0),
        HOP_PROGRAM if port.flood_ifindex != 0 => (port.flood_ifindex, BPF_F_INGRESS),
        HOP_PROGRAM => {
            flood.rest = output;
            return 0;
        }
        _ => return 0,
    };
    // SAFETY: `skb` is the program's context.
    if unsafe { bpf_clone_redirect(flood.tc.skb(), ifindex, u64::from(flags)) } == 0 {
        counters::sent(flood.size, output);
    } else {
        counters::dropped(flood.size, flood.input, DropReason::NoMemory);
    }
    0
}
