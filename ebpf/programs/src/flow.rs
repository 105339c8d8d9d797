//! Reading which flow a packet belongs to.

use core::mem::offset_of;

use aya_ebpf::{helpers::bpf_loop, maps::LruHashMap};
use ebpf_abi::{
    address::{Be16, V6},
    counters::DropReason,
    flow::{
        FIRST, FRAGMENT_LIFE, Flow, FragmentKey, FragmentPorts, ICMP, ICMPV6, LATER, TCP, WHOLE,
        has_ports, mapped,
    },
};

use crate::{
    Packet, Result, clock,
    wire::{
        ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet,
        Ipv4, Ipv6,
    },
};

/// What first fragments said, for the later ones. A cube that wants to know declares it:
///
/// ```ignore
/// #[map(name = "fragments")]
/// static FRAGMENTS: Fragments = Fragments::with_max_entries(4096, 0);
/// ```
pub type Fragments = LruHashMap<FragmentKey, FragmentPorts>;

/// Extension headers a packet may have: RFC 8200, 4.1, names seven, one of them twice.
const EXTENSION_HEADERS: u32 = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// The EtherType behind up to two VLAN tags, and where its header starts: a tag must not carry
/// a packet past a filter.
#[inline(always)]
pub fn network_header<P: Packet>(packet: &P) -> Result<(Be16, usize)> {
    let mut ethertype = packet.load::<Ethernet>(0)?.ethertype;
    let mut offset = ETHERNET_LENGTH;
    for _ in 0..2 {
        if !matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ) {
            break;
        }
        ethertype = packet.load::<Be16>(offset + 2)?;
        offset += 4;
    }
    Ok((ethertype, offset))
}

/// Reads the headers of a packet into `flow`. What is not IP has family 0; what contradicts itself is
/// [`DropReason::Malformed`].
///
/// A later fragment has no ports: [`follow_fragments`] adds them.
///
/// Best with a flow in a table: what is read from there is unknown to the verifier, which then looks at what follows
/// once, and not once for each sort of headers in front of it.
#[inline(always)]
pub fn read<P: Packet>(packet: &P, flow: &mut Flow) -> Result<()> {
    let (ethertype, network) = network_header(packet)?;
    match ethertype {
        ETHERTYPE_IPV4 => {
            begin(flow, network, 4);
            let end = packet.len() as usize;
            let ip = ipv4(packet, flow)?;
            let network = forgotten(&raw const flow.network);
            let header = ip.header_length();
            if usize::from(ip.total_length.get()) < header || network + header > end {
                return Err(DropReason::Malformed);
            }
        }
        ETHERTYPE_IPV6 => {
            begin(flow, network, 6);
            ipv6(packet, flow)?;
        }
        _ => {
            flow.family = 0;
            return Ok(());
        }
    }
    transport(packet, flow)
}

/// Reads the headers of the packet that an ICMP error quotes ([`Flow::is_error`]). Of its
/// transport header there may be no more than 8 bytes: TCP flags are not read.
#[inline(always)]
pub fn read_quoted<P: Packet>(packet: &P, error: &Flow, flow: &mut Flow) -> Result<()> {
    let network = offset(error.transport) + 8;
    begin(flow, network, error.family);
    match error.family {
        4 => {
            ipv4(packet, flow)?;
        }
        _ => ipv6(packet, flow)?,
    }
    ports(packet, flow)
}

/// An offset out of a [`Flow`], bounded for the verifier too if the flow was in a map: offsets into
/// packets must stay below 2^16. Longer than all extension headers that are read.
#[inline(always)]
pub fn offset(offset: u16) -> usize {
    usize::from(offset & 0x7fff)
}

/// An offset as it is in the flow. Volatile, so that neither compiler nor verifier knows how it came to be.
#[inline(always)]
fn forgotten(at: *const u16) -> usize {
    // SAFETY: the callers have it from a reference.
    offset(unsafe { at.read_volatile() })
}

/// The same of what a byte says.
#[inline(always)]
fn forgotten_byte(at: *const u8) -> u8 {
    // SAFETY: as above.
    unsafe { at.read_volatile() }
}

/// A flow of which nothing is known but where it begins.
#[inline(always)]
fn begin(flow: &mut Flow, network: usize, family: u8) {
    const WORDS: [usize; 5] = [
        offset_of!(Flow, key.source_port),
        offset_of!(Flow, key.protocol),
        offset_of!(Flow, identification),
        offset_of!(Flow, family),
        offset_of!(Flow, icmp_code),
    ];
    let start = (&raw mut *flow).cast::<u8>();
    for at in WORDS {
        // SAFETY: inside of the flow and aligned. Volatile, as the compiler would call a function that writes byte by byte.
        unsafe { start.add(at).cast::<u32>().write_volatile(0) };
    }
    flow.network = network as u16;
    flow.family = family;
}

/// Writes an address of a flow in halves, as who copies it reads it: CPUs wait where they read what was written in smaller
/// pieces a moment ago.
#[inline(always)]
fn write(to: *mut V6, address: V6) {
    const { assert!(offset_of!(Flow, key.destination) % 8 == 0) };
    let [a, b, c, d] = address.0;
    // The machine is little-endian: it is that of the target.
    let half = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let to = to.cast::<u64>();
    // SAFETY: the callers' addresses are in a flow, at a multiple of eight bytes. Volatile: else it may become a call of a
    // function that copies byte by byte.
    unsafe {
        to.write_volatile(half(a, b));
        to.add(1).write_volatile(half(c, d));
    }
}

/// Reads an IPv4 header.
#[inline(always)]
fn ipv4<P: Packet>(packet: &P, flow: &mut Flow) -> Result<Ipv4> {
    let network = forgotten(&raw const flow.network);
    let ip = packet.load::<Ipv4>(network)?;
    let header = ip.header_length();
    if ip.version_ihl >> 4 != 4 || header < size_of::<Ipv4>() {
        return Err(DropReason::Malformed);
    }
    flow.identification = ip.id.word().into();
    flow.transport = (network + header) as u16;
    flow.has_options = u8::from(header != size_of::<Ipv4>());
    write(&raw mut flow.key.source, mapped(ip.source));
    write(&raw mut flow.key.destination, mapped(ip.destination));
    flow.key.protocol = ip.protocol;
    let fragment = ip.fragment.get();
    let offset = fragment & Ipv4::OFFSET;
    flow.fragment = kind_of_fragment(offset, fragment & Ipv4::MORE_FRAGMENTS);
    // It would overwrite the flags of the first (RFC 1858, 3.1 and 4.2).
    if offset == 1 && ip.protocol == TCP {
        return Err(DropReason::Malformed);
    }
    Ok(ip)
}

#[inline(always)]
fn kind_of_fragment(offset: u16, more: u16) -> u8 {
    match (offset, more) {
        (0, 0) => WHOLE,
        (0, _) => FIRST,
        _ => LATER,
    }
}

/// Reads an IPv6 header, and what follows up to the transport header.
#[inline(always)]
fn ipv6<P: Packet>(packet: &P, flow: &mut Flow) -> Result<()> {
    let network = forgotten(&raw const flow.network);
    let ip = packet.load::<Ipv6>(network)?;
    if ip.version_class.get() >> 12 != 6 {
        return Err(DropReason::Malformed);
    }
    flow.transport = (network + size_of::<Ipv6>()) as u16;
    write(&raw mut flow.key.source, ip.source);
    write(&raw mut flow.key.destination, ip.destination);
    flow.key.protocol = ip.next_header;
    // Without extension headers, nothing of the loop is run.
    if is_extension(ip.next_header) {
        flow.has_options = 1;
        skip_extensions(packet, flow)?;
    }
    Ok(())
}

#[inline(always)]
fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        HOP_BY_HOP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | DESTINATION_OPTIONS
            | MOBILITY
            | HOST_IDENTITY
            | SHIM6
    )
}

/// What the callback of the loop over extension headers needs.
struct Walk<P> {
    packet: *const P,
    /// `transport` and `protocol` say where the next header is, and which one.
    flow: *mut Flow,
    failed: u64,
}

/// Walks over extension headers (RFC 8200, 4), to what is behind them. More of them than a
/// sender has reason for are refused: who sends them wants a filter to lose count.
#[inline(always)]
fn skip_extensions<P: Packet>(packet: &P, flow: &mut Flow) -> Result<()> {
    let mut walk = Walk {
        packet,
        flow,
        failed: 0,
    };
    // SAFETY: the callback has the signature `bpf_loop` (Linux 5.17) wants, and `walk` outlives the
    // call.
    unsafe {
        bpf_loop(
            EXTENSION_HEADERS,
            skip_extension::<P> as *mut _,
            (&raw mut walk).cast(),
            0,
        )
    };
    if walk.failed != 0 || (is_extension(flow.key.protocol) && flow.fragment != LATER) {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

/// Callback of `bpf_loop`: a loop that is unrolled would be a path for each order of headers.
extern "C" fn skip_extension<P: Packet>(_: u64, walk: *mut Walk<P>) -> i64 {
    // SAFETY: the kernel hands a valid pointer to the callback, and packet and flow outlive the loop.
    let (walk, packet, flow) = unsafe { (&mut *walk, &*(*walk).packet, &mut *(*walk).flow) };
    let next = flow.key.protocol;
    if !is_extension(next) || flow.fragment == LATER {
        return 1;
    }
    let at = forgotten(&raw const flow.transport) as u32;
    let mut header = [0u32; 2];
    // SAFETY: the buffer is as long as the header that all of them begin with.
    if unsafe { packet.copy_out(at, header.as_mut_ptr().cast(), 8) }.is_err() {
        walk.failed = 1;
        return 1;
    }
    let [following, length, _, _] = header[0].to_ne_bytes();
    if next == FRAGMENT {
        let field = (header[0] >> 16) as u16;
        let offset_flags = u16::from_be(field);
        flow.fragment_field = Be16::from_word(field);
        flow.fragment = kind_of_fragment(offset_flags >> 3, offset_flags & 1);
        flow.identification = header[1];
        // As in IPv4.
        if offset_flags >> 3 == 1 && following == TCP {
            walk.failed = 1;
            return 1;
        }
    }
    let bytes = match next {
        FRAGMENT => 8,
        // RFC 4302, 2.2
        AUTHENTICATION => (u32::from(length) + 2) * 4,
        _ => (u32::from(length) + 1) * 8,
    };
    flow.transport = (at + bytes) as u16;
    flow.key.protocol = following;
    0
}

/// Reads the ports, flags or type of a packet.
#[inline(always)]
fn transport<P: Packet>(packet: &P, flow: &mut Flow) -> Result<()> {
    let protocol = forgotten_byte(&raw const flow.key.protocol);
    if protocol != TCP || forgotten_byte(&raw const flow.fragment) == LATER {
        return ports(packet, flow);
    }
    // Up to data offset and flags.
    let words = packet.load::<[Be16; 7]>(forgotten(&raw const flow.transport))?;
    flow.key.source_port = words[0];
    flow.key.destination_port = words[1];
    let word = words[6].get();
    flow.tcp_flags = word as u8;
    if word >> 12 < 5 {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

/// Reads what the first 8 bytes of a transport header say.
#[inline(always)]
fn ports<P: Packet>(packet: &P, flow: &mut Flow) -> Result<()> {
    let protocol = forgotten_byte(&raw const flow.key.protocol);
    let family = forgotten_byte(&raw const flow.family);
    let is_icmp = protocol == if family == 4 { ICMP } else { ICMPV6 };
    if forgotten_byte(&raw const flow.fragment) == LATER || !(is_icmp || has_ports(protocol)) {
        return Ok(());
    }
    let words = packet.load::<[Be16; 4]>(forgotten(&raw const flow.transport))?;
    if is_icmp {
        let [kind, code] = words[0].word().to_ne_bytes();
        (flow.icmp_type, flow.icmp_code) = (kind, code);
        if is_query(family, kind) {
            flow.key.source_port = words[2];
            flow.key.destination_port = words[2];
        }
    } else {
        flow.key.source_port = words[0];
        flow.key.destination_port = words[1];
    }
    Ok(())
}

/// True if the ICMP message has an identifier (RFC 792, RFC 950, RFC 4443, 4).
#[inline(always)]
fn is_query(family: u8, kind: u8) -> bool {
    match family {
        4 => matches!(kind, 0 | 8 | 13..=18),
        _ => matches!(kind, 128 | 129),
    }
}

/// Notes what a first fragment says, and tells later ones. Whole datagrams are left alone.
///
/// A later fragment whose first one was not seen is [`DropReason::FragmentUnknown`]: nobody can
/// say which flow it belongs to. Senders send them in order; where the network changes that,
/// the datagram is lost and sent again.
#[inline(always)]
pub fn follow_fragments(fragments: &Fragments, flow: &mut Flow) -> Result<()> {
    if flow.fragment == WHOLE {
        return Ok(());
    }
    let words = fragment_key(flow);
    // SAFETY: the same bytes, with the same alignment.
    let key = unsafe { &*(&raw const words).cast::<FragmentKey>() };
    let now = clock::now();
    if flow.fragment == FIRST {
        let ports = FragmentPorts {
            seen: now,
            source_port: flow.key.source_port,
            destination_port: flow.key.destination_port,
            icmp_type: flow.icmp_type,
            icmp_code: flow.icmp_code,
            tcp_flags: flow.tcp_flags,
            padding: 0,
        };
        // A table without room costs later fragments, not this one.
        let _unnoted = fragments.insert(key, &ports, 0);
        return Ok(());
    }
    let Some(first) = fragments.get_ptr(key) else {
        return Err(DropReason::FragmentUnknown);
    };
    // SAFETY: the kernel keeps the entry valid while the program runs.
    let first = unsafe { *first };
    if clock::elapsed(now, first.seen) > FRAGMENT_LIFE {
        return Err(DropReason::FragmentUnknown);
    }
    flow.key.source_port = first.source_port;
    flow.key.destination_port = first.destination_port;
    flow.icmp_type = first.icmp_type;
    flow.icmp_code = first.icmp_code;
    flow.tcp_flags = first.tcp_flags;
    Ok(())
}

/// Word by word: the compiler would call functions that copy and clear byte by byte.
#[inline(always)]
fn fragment_key(flow: &Flow) -> [u32; size_of::<FragmentKey>() / 4] {
    let [a, b, c, d] = flow.key.source.0;
    let [e, f, g, h] = flow.key.destination.0;
    let protocol = u32::from_ne_bytes([flow.key.protocol, 0, 0, 0]);
    [a, b, c, d, e, f, g, h, flow.identification, protocol]
}
