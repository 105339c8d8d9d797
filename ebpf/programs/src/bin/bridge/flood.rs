//! Flooding: copies of a frame to all ports that may get it.

use aya_ebpf::{
    bindings::BPF_F_INGRESS,
    cty::c_void,
    helpers::{bpf_clone_redirect, bpf_loop},
    macros::map,
    maps::Array,
};
use ebpf_abi::{
    address::Mac,
    bridge::{FEATURE_SNOOPING, flood_len},
    chain::{MAX_PORTS, MIN_PORTS, in_bank},
    counters::DropReason,
    port::{HOP_INTERFACE, HOP_PEER, HOP_PROGRAM, PORT_ISOLATED},
};
use ebpf_programs::{
    Packet, Result,
    counters::{self, Size},
    standard::{self, Verdict},
    tc::Tc,
};

use crate::{
    has,
    snooping::Audience,
    storm, stp,
    vlan::{self, Form, Frame},
};

/// The linked ports: their number, then their indices. Once per bank.
#[map(name = "flood")]
static FLOOD: Array<u32> = Array::with_max_entries(in_bank(flood_len(MIN_PORTS), 0), 0);

/// What the callback of the flood loop needs.
struct Flood {
    tc: Tc,
    size: Size,
    frame: Frame,
    input: u32,
    isolated: u32,
    /// The form that the frame has now.
    form: Form,
    /// Ports were left out because they want the other form.
    others: bool,
    /// Which ports get it.
    audience: Audience,
    /// A port that a program serves and no interface leads to: gets the original.
    rest: u32,
    /// The form in which it does.
    rest_form: Form,
}

/// No port.
const NONE: u32 = u32::MAX;

/// Copies the frame to every other port. A copy cannot jump into a program, so ports that lead
/// to one are served through an interface of ours; one of them needs none, because it gets the
/// original.
///
/// Ports that want the frame as it is come first, then its tag is changed and the others get
/// theirs: two changes at most, and copies that were made keep the tag they had.
#[inline(always)]
pub fn flood(packet: &Tc, frame: Frame, destination: Mac, input: u32, now: u64) -> Result<Verdict> {
    storm::admit(packet, destination, input, now)?;
    let mut flood = Flood {
        tc: packet.again(),
        size: Size::of(packet),
        frame,
        input,
        isolated: standard::port(packet, input)?.flags & PORT_ISOLATED,
        form: Form::Untagged,
        others: false,
        audience: Audience::ALL,
        rest: NONE,
        rest_form: Form::Untagged,
    };
    if destination != Mac::BROADCAST && destination.is_group() {
        flood.audience.find(packet, &flood.frame, input, now);
    }
    if vlan::aware() {
        flood.form = flood.frame.settle(packet)?;
    }
    copy(packet, &mut flood);
    if vlan::aware() && flood.others {
        flood.form = match flood.form {
            Form::Tagged => Form::Untagged,
            _ => Form::Tagged,
        };
        flood.frame.take(packet, flood.form)?;
        copy(packet, &mut flood);
    }
    match flood.rest {
        NONE => Ok(Verdict::CONSUMED),
        port => {
            if vlan::aware() {
                flood.frame.take(packet, flood.rest_form)?;
            }
            Ok(Verdict::emit(port))
        }
    }
}

/// One copy for each port that wants the form the frame has.
#[inline(always)]
fn copy(packet: &Tc, flood: &mut Flood) {
    // A tag may be part of the packet.
    flood.size = Size::of(packet);
    for_each_port(packet, copy_to as *mut c_void, (&raw mut *flood).cast());
}

/// Calls a callback of `bpf_loop` (Linux 5.17) for the place of each linked port.
#[inline(always)]
pub fn for_each_port(packet: &Tc, callback: *mut c_void, context: *mut c_void) {
    let ports = FLOOD.get(in_bank(0, packet.bank())).copied().unwrap_or(0);
    let ports = if ports > MAX_PORTS { MAX_PORTS } else { ports };
    // SAFETY: the callback is one for `bpf_loop`, and `context`, which the caller has, outlives the
    // call.
    unsafe { bpf_loop(ports, callback, context, 0) };
}

/// The port at a place.
#[inline(always)]
pub fn port_at(place: u32, bank: u32) -> Option<u32> {
    FLOOD.get(in_bank(place + 1, bank)).copied()
}

/// Callback of `bpf_loop`.
extern "C" fn copy_to(index: u64, flood: *mut Flood) -> i64 {
    // SAFETY: the kernel hands the pointer on that `copy` gave it.
    let flood = unsafe { &mut *flood };
    let Some(output) = port_at(index as u32, flood.tc.bank()) else {
        return 1;
    };
    let Ok(port) = standard::port(&flood.tc, output) else {
        return 0;
    };
    if output == flood.input || port.flags & flood.isolated != 0 {
        return 0;
    }
    if stp::on() && !stp::forwards(output, flood.frame.vlan) {
        return 0;
    }
    if has(FEATURE_SNOOPING) && !flood.audience.has(output, port.flags) {
        return 0;
    }
    if vlan::aware() {
        let form = flood.frame.form(&flood.tc, output);
        if form != flood.form {
            flood.others |= form != Form::Never;
            return 0;
        }
    }
    let (ifindex, flags) = match port.hop.kind {
        HOP_INTERFACE | HOP_PEER => (port.hop.ifindex, 0),
        HOP_PROGRAM if port.flood_ifindex != 0 => (port.flood_ifindex, BPF_F_INGRESS),
        HOP_PROGRAM => {
            flood.rest = output;
            flood.rest_form = flood.form;
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
