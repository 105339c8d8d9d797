//! Reading which flow a packet belongs to.

use aya_ebpf::{helpers::bpf_loop, maps::LruHashMap};
use ebpf_abi::{
    address::Be16,
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

/// Reads the headers of a packet. What is not IP has family 0; what contradicts itself is
/// [`DropReason::Malformed`].
///
/// A later fragment has no ports: [`follow_fragments`] adds them.
#[inline(always)]
pub fn read<P: Packet>(packet: &P) -> Result<Flow> {
    let (ethertype, network) = network_header(packet)?;
    match ethertype {
        ETHERTYPE_IPV4 => read_ipv4(packet, network, packet.len() as usize),
        ETHERTYPE_IPV6 => read_ipv6(packet, network),
        _ => Ok(Flow::default()),
    }
}

/// Reads the headers of the packet that an ICMP error quotes ([`Flow::is_error`]). Of its
/// transport header there may be no more than 8 bytes: TCP flags are not read.
#[inline(always)]
pub fn read_quoted<P: Packet>(packet: &P, error: &Flow) -> Result<Flow> {
    let network = offset(error.transport) + 8;
    match error.family {
        4 => read_ipv4_quoted(packet, network),
        _ => read_ipv6_quoted(packet, network),
    }
}

/// An offset out of a [`Flow`], bounded for the verifier too if the flow was in a map: offsets into
/// packets must stay below 2^16. Longer than all extension headers that are read.
#[inline(always)]
pub fn offset(offset: u16) -> usize {
    usize::from(offset & 0x7fff)
}

#[inline(always)]
fn read_ipv4<P: Packet>(packet: &P, network: usize, end: usize) -> Result<Flow> {
    let ip = packet.load::<Ipv4>(network)?;
    if usize::from(ip.total_length.get()) < ip.header_length() || network + ip.header_length() > end
    {
        return Err(DropReason::Malformed);
    }
    let mut flow = ipv4(&ip, network)?;
    transport(packet, &mut flow)?;
    Ok(flow)
}

#[inline(always)]
fn read_ipv4_quoted<P: Packet>(packet: &P, network: usize) -> Result<Flow> {
    let ip = packet.load::<Ipv4>(network)?;
    let mut flow = ipv4(&ip, network)?;
    ports(packet, &mut flow)?;
    Ok(flow)
}

#[inline(always)]
fn ipv4(ip: &Ipv4, network: usize) -> Result<Flow> {
    let header = ip.header_length();
    if ip.version_ihl >> 4 != 4 || header < size_of::<Ipv4>() {
        return Err(DropReason::Malformed);
    }
    let mut flow = Flow {
        identification: ip.id.word().into(),
        network: network as u16,
        transport: (network + header) as u16,
        family: 4,
        has_options: u8::from(header != size_of::<Ipv4>()),
        ..Flow::default()
    };
    flow.key.source = mapped(ip.source);
    flow.key.destination = mapped(ip.destination);
    flow.key.protocol = ip.protocol;
    let (offset, more) = (
        ip.fragment.get() & Ipv4::OFFSET,
        ip.fragment.get() & Ipv4::MORE_FRAGMENTS,
    );
    flow.fragment = kind_of_fragment(offset, more);
    // It would overwrite the flags of the first (RFC 1858, 3.1 and 4.2).
    if offset == 1 && ip.protocol == TCP {
        return Err(DropReason::Malformed);
    }
    Ok(flow)
}

#[inline(always)]
fn kind_of_fragment(offset: u16, more: u16) -> u8 {
    match (offset, more) {
        (0, 0) => WHOLE,
        (0, _) => FIRST,
        _ => LATER,
    }
}

#[inline(always)]
fn read_ipv6<P: Packet>(packet: &P, network: usize) -> Result<Flow> {
    let mut flow = ipv6(packet, network)?;
    transport(packet, &mut flow)?;
    Ok(flow)
}

#[inline(always)]
fn read_ipv6_quoted<P: Packet>(packet: &P, network: usize) -> Result<Flow> {
    let mut flow = ipv6(packet, network)?;
    ports(packet, &mut flow)?;
    Ok(flow)
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, network: usize) -> Result<Flow> {
    let ip = packet.load::<Ipv6>(network)?;
    if ip.version_class.get() >> 12 != 6 {
        return Err(DropReason::Malformed);
    }
    let mut flow = Flow {
        network: network as u16,
        transport: (network + size_of::<Ipv6>()) as u16,
        family: 6,
        ..Flow::default()
    };
    flow.key.source = ip.source;
    flow.key.destination = ip.destination;
    flow.key.protocol = ip.next_header;
    // Without extension headers, nothing of the loop is run.
    if is_extension(ip.next_header) {
        flow.has_options = 1;
        skip_extensions(packet, &mut flow)?;
    }
    Ok(flow)
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
    /// Where the next header is.
    offset: u32,
    /// Which one it is.
    next: u32,
    fragment: u32,
    /// Offset and flags of the fragment header, as they are in the packet.
    fragment_field: u32,
    identification: u32,
    failed: u32,
}

/// Walks over extension headers (RFC 8200, 4), to what is behind them. More of them than a
/// sender has reason for are refused: who sends them wants a filter to lose count.
#[inline(always)]
fn skip_extensions<P: Packet>(packet: &P, flow: &mut Flow) -> Result<()> {
    let mut walk = Walk {
        packet,
        offset: flow.transport.into(),
        next: flow.key.protocol.into(),
        fragment: WHOLE.into(),
        fragment_field: 0,
        identification: 0,
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
    let next = walk.next as u8;
    flow.fragment = walk.fragment as u8;
    if walk.failed != 0 || (is_extension(next) && flow.fragment != LATER) {
        return Err(DropReason::Malformed);
    }
    flow.identification = walk.identification;
    flow.fragment_field = Be16::from_word(walk.fragment_field as u16);
    flow.key.protocol = next;
    flow.transport = walk.offset as u16;
    Ok(())
}

/// Callback of `bpf_loop`: a loop that is unrolled would be a path for each order of headers.
extern "C" fn skip_extension<P: Packet>(_: u64, walk: *mut Walk<P>) -> i64 {
    // SAFETY: the kernel hands a valid pointer to the callback, and the packet outlives the loop.
    let (walk, packet) = unsafe { (&mut *walk, &*(*walk).packet) };
    let next = walk.next as u8;
    if !is_extension(next) || walk.fragment == u32::from(LATER) {
        return 1;
    }
    let mut header = [0u32; 2];
    // SAFETY: the buffer is as long as the header that all of them begin with.
    if unsafe { packet.copy_out(walk.offset, header.as_mut_ptr().cast(), 8) }.is_err() {
        walk.failed = 1;
        return 1;
    }
    let [following, length, _, _] = header[0].to_ne_bytes();
    if next == FRAGMENT {
        let offset_flags = u16::from_be((header[0] >> 16) as u16);
        walk.fragment_field = header[0] >> 16;
        walk.fragment = kind_of_fragment(offset_flags >> 3, offset_flags & 1).into();
        walk.identification = header[1];
        // As in IPv4.
        if offset_flags >> 3 == 1 && following == TCP {
            walk.failed = 1;
            return 1;
        }
    }
    walk.offset += match next {
        FRAGMENT => 8,
        // RFC 4302, 2.2
        AUTHENTICATION => (u32::from(length) + 2) * 4,
        _ => (u32::from(length) + 1) * 8,
    };
    walk.next = following.into();
    0
}

/// Reads the ports, flags or type of a packet.
#[inline(always)]
fn transport<P: Packet>(packet: &P, flow: &mut Flow) -> Result<()> {
    ports(packet, flow)?;
    if flow.key.protocol == TCP && flow.fragment != LATER {
        // Data offset and flags.
        let word = packet.load::<Be16>(offset(flow.transport) + 12)?.get();
        flow.tcp_flags = word as u8;
        if word >> 12 < 5 {
            return Err(DropReason::Malformed);
        }
    }
    Ok(())
}

/// Reads what the first 8 bytes of a transport header say.
#[inline(always)]
fn ports<P: Packet>(packet: &P, flow: &mut Flow) -> Result<()> {
    let protocol = flow.key.protocol;
    let is_icmp = protocol == if flow.family == 4 { ICMP } else { ICMPV6 };
    if flow.fragment == LATER || !(is_icmp || has_ports(protocol)) {
        return Ok(());
    }
    let words = packet.load::<[Be16; 4]>(offset(flow.transport))?;
    if is_icmp {
        let [kind, code] = words[0].word().to_ne_bytes();
        (flow.icmp_type, flow.icmp_code) = (kind, code);
        if is_query(flow.family, kind) {
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
    let key = FragmentKey {
        source: flow.key.source,
        destination: flow.key.destination,
        identification: flow.identification,
        protocol: flow.key.protocol,
        padding: [0; 3],
    };
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
        let _unnoted = fragments.insert(&key, &ports, 0);
        return Ok(());
    }
    let Some(first) = fragments.get_ptr(&key) else {
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
