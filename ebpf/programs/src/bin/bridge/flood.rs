//! Flooding: copies of a frame to all ports that may get it.

use aya_ebpf::{
    bindings::BPF_F_INGRESS,
    cty::c_void,
    helpers::{bpf_clone_redirect, bpf_loop},
    macros::map,
    maps::Array,
};
use ebpf_abi::{
    bridge::flood_len,
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

use crate::vlan::{self, Form, Frame};

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
pub fn flood(packet: &Tc, mut frame: Frame, input: u32) -> Result<Verdict> {
    let form = if vlan::aware() {
        frame.settle(packet)?
    } else {
        Form::Untagged
    };
    let mut flood = Flood {
        tc: packet.again(),
        size: Size::of(packet),
        frame,
        input,
        isolated: standard::port(packet, input)?.flags & PORT_ISOLATED,
        form,
        others: false,
        rest: NONE,
        rest_form: form,
    };
    copy(packet, &mut flood);
    if vlan::aware() && flood.others {
        flood.form = match form {
            Form::Tagged => Form::Untagged,
            _ => Form::Tagged,
        };
        frame.take(packet, flood.form)?;
        copy(packet, &mut flood);
    }
    match flood.rest {
        NONE => Ok(Verdict::CONSUMED),
        port => {
            if vlan::aware() {
                frame.take(packet, flood.rest_form)?;
            }
            Ok(Verdict::emit(port))
        }
    }
}

/// One copy for each port that wants the form the frame has.
#[inline(always)]
fn copy(packet: &Tc, flood: &mut Flood) {
    let ports = FLOOD.get(in_bank(0, packet.bank())).copied().unwrap_or(0);
    let ports = if ports > MAX_PORTS { MAX_PORTS } else { ports };
    // SAFETY: the callback has the signature `bpf_loop` (Linux 5.17) wants, and `flood` outlives
    // the call.
    unsafe { bpf_loop(ports, copy_to as *mut c_void, (&raw mut *flood).cast(), 0) };
}

/// Callback of `bpf_loop`.
extern "C" fn copy_to(index: u64, flood: *mut Flood) -> i64 {
    // SAFETY: the kernel hands the pointer on that `copy` gave it.
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
