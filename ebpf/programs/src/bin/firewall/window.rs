//! What of a TCP segment is compared with windows ([`ebpf_abi::window`]).

use aya_ebpf::helpers::bpf_loop;
use ebpf_abi::{
    address::Be16,
    firewall::{
        CONNECTION_REPLIED, CONNECTION_WINDOWS, Connection, OPTIONS, STEP_COMPARES, STEP_COUNTS,
        STEP_IGNORED, STEP_INVALID, Work,
    },
    tcp::{ACK, SYN, Step},
    window::{SIDE_SACK, SIDE_SCALES, Windows},
};
use ebpf_programs::{
    Packet, Result,
    answer::{Answer, DONE, answer},
    flow::offset,
    packet::bounded,
    wire::Ipv6,
};

use crate::LONGEST_HEADERS;

/// Bytes of a TCP header without options.
const HEADER: u32 = 20;
/// Largest scale (RFC 7323, 2.3).
const MAX_SCALE: u8 = 14;

/// Kinds of options (RFC 9293, 3.2; RFC 7323, 2.2; RFC 2018, 2 and 3).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
/// Nothing but timestamps, aligned as RFC 7323, appendix A, has them: most segments.
const TIMESTAMPS: u32 = u32::from_ne_bytes([1, 1, 8, 10]);
/// Bytes of those.
const TIMESTAMPS_LENGTH: u32 = 12;

/// TCP header up to the window (RFC 9293, 3.1).
#[repr(C)]
#[derive(Clone, Copy)]
struct Tcp {
    ports: [Be16; 2],
    sequence: [Be16; 2],
    acknowledgment: [Be16; 2],
    /// Data offset, and flags.
    offset_flags: Be16,
    window: Be16,
}

/// Reads what windows are about into `work.segment`; [`DONE`], or the segment is cut off. Of a segment without ACK, nothing is
/// acknowledged.
#[inline(never)]
pub fn read<P: Packet>(packet: &P, work: &mut Work) -> Answer {
    answer(try_read(packet, work).map(|()| DONE))
}

#[inline(always)]
fn try_read<P: Packet>(packet: &P, work: &mut Work) -> Result<()> {
    let transport = bounded::<LONGEST_HEADERS>(work.flow.transport.into());
    let tcp = packet.load::<Tcp>(offset(transport as u16))?;
    let header = u32::from(tcp.offset_flags.get() >> 12) * 4;
    let acknowledgment = number(tcp.acknowledgment);
    let length = data(packet, work, transport).saturating_sub(header);
    // Field by field: the compiler would clear the padding by a function, byte by byte.
    let segment = &mut work.segment;
    segment.sequence = number(tcp.sequence);
    segment.acknowledgment = acknowledgment;
    segment.length = length;
    segment.selective = acknowledgment;
    segment.window = tcp.window.get();
    segment.flags = work.flow.tcp_flags;
    segment.scale = 0;
    segment.offers = 0;
    if header > HEADER && work.flow.tcp_flags & (SYN | ACK) != 0 {
        read_options(packet, work, transport + HEADER, header - HEADER)?;
    }
    Ok(())
}

#[inline(always)]
fn number([high, low]: [Be16; 2]) -> u32 {
    u32::from(high.get()) << 16 | u32::from(low.get())
}

/// Bytes behind the IP header. A buffer of segments may be longer than its header can say.
#[inline(always)]
fn data<P: Packet>(packet: &P, work: &Work, transport: u32) -> u32 {
    if packet.is_segmented() {
        return packet.len().saturating_sub(transport);
    }
    let network = u32::from(work.flow.network);
    // Padding may follow.
    let end = match work.flow.family {
        4 => load_length(packet, network + 2) + network,
        _ => load_length(packet, network + 4) + network + size_of::<Ipv6>() as u32,
    };
    end.saturating_sub(transport)
}

#[inline(always)]
fn load_length<P: Packet>(packet: &P, at: u32) -> u32 {
    let length = packet.load::<Be16>(offset(at as u16));
    length.map_or(0, |length| length.get().into())
}

#[inline(always)]
fn read_options<P: Packet>(packet: &P, work: &mut Work, at: u32, length: u32) -> Result<()> {
    let length = bounded::<{ OPTIONS as u32 }>(length);
    let options = (&raw mut work.options).cast::<u8>();
    // SAFETY: the table's entry has room for as many as there can be, and is aligned for words.
    let first = unsafe {
        packet.copy_out(at, options, length)?;
        options.cast::<u32>().read()
    };
    if length == TIMESTAMPS_LENGTH && first == TIMESTAMPS {
        return Ok(());
    }
    // In the table, too: where it begins is nothing that the verifier knows, so it looks at one round only.
    work.option = 0;
    work.options_end = length;
    let mut work: *mut Work = work;
    // SAFETY: the callback has the signature that `bpf_loop` (Linux 5.17) wants, and `work` outlives the
    // call.
    unsafe {
        bpf_loop(
            OPTIONS as u32,
            read_option as *mut _,
            (&raw mut work).cast(),
            0,
        )
    };
    Ok(())
}

/// Callback of `bpf_loop`: one option.
extern "C" fn read_option(_: u64, work: *mut *mut Work) -> i64 {
    // SAFETY: the kernel hands a valid pointer to the callback, and the entry of the table stays.
    let work = unsafe { &mut **work };
    let options = (&raw const work.options).cast::<u8>();
    // SAFETY: masked, so inside of the array.
    let byte = |at: u32| unsafe { options.add(at as usize & (OPTIONS - 1)).read_volatile() };
    let (at, end) = (work.option, work.options_end);
    if at >= end {
        return 1;
    }
    let left = end - at;
    let kind = byte(at);
    if kind == NO_OPERATION {
        work.option = at + 1;
        return 0;
    }
    let length = u32::from(byte(at + 1));
    if kind == END || length < 2 || length > left {
        return 1;
    }
    match (kind, length) {
        (WINDOW_SCALE, 3) => {
            let scale = byte(at + 2);
            work.segment.scale = if scale > MAX_SCALE { MAX_SCALE } else { scale };
            work.segment.offers |= SIDE_SCALES;
        }
        (SACK_PERMITTED, 2) => work.segment.offers |= SIDE_SACK,
        (SACK, 10 | 18 | 26 | 34) => {
            // Up to four blocks; what counts is the one that ends last.
            for block in 0..4 {
                if block * 8 + 10 > length {
                    break;
                }
                let edge = at + 2 + block * 8 + 4;
                let edge = u32::from_be_bytes([
                    byte(edge),
                    byte(edge + 1),
                    byte(edge + 2),
                    byte(edge + 3),
                ]);
                if (edge.wrapping_sub(work.segment.selective) as i32) > 0 {
                    work.segment.selective = edge;
                }
            }
            return 1;
        }
        _ => {}
    }
    work.option = at + length;
    0
}

/// What a segment does to its connection, where windows are looked at, too: what its flags do to it was noted.
///
/// A function of its own, and the result is left in a table: so the verifier looks at what follows once, not once for
/// each way through.
#[inline(never)]
pub extern "C" fn step<const SIDE: usize>(known: *mut Connection, work: *mut Work) {
    // SAFETY: the caller has both from tables, whose entries stay while the program runs.
    let (known, work) = unsafe { (&mut *known, &mut *work) };
    if known.flags & CONNECTION_WINDOWS == 0 {
        known.windows = Windows::unknown();
        known.flags |= CONNECTION_WINDOWS;
    }
    if known.windows.sides[1 - SIDE].flags & SIDE_SACK == 0 {
        // The other side has not said that it reads it (RFC 2018, 2).
        work.segment.selective = work.segment.acknowledgment;
    }
    let replied = known.flags & CONNECTION_REPLIED != 0;
    let step = Step {
        state: work.tcp_state,
        valid: true,
        counts: work.step == STEP_COUNTS,
    };
    let judged = (known.windows).judge::<SIDE>(step, known.state, replied, &work.segment);
    note(work, judged.step);
    if judged.is_open {
        work.step = STEP_COMPARES;
    }
}

/// Whether the windows allow what [`step`] has left open. Likewise a function of its own.
#[inline(never)]
pub extern "C" fn compare<const SIDE: usize>(known: *mut Connection, work: *mut Work) {
    // SAFETY: as above.
    let (known, work) = unsafe { (&mut *known, &mut *work) };
    let step = Step {
        state: work.tcp_state,
        valid: true,
        counts: true,
    };
    let result = (known.windows).compare::<SIDE>(step, known.state, &work.segment);
    note(work, result);
}

/// Notes what a segment does.
#[inline(always)]
pub fn note(work: &mut Work, step: Step) {
    work.tcp_state = step.state;
    work.step = match step {
        Step { valid: false, .. } => STEP_INVALID,
        Step { counts: false, .. } => STEP_IGNORED,
        _ => STEP_COUNTS,
    };
}
