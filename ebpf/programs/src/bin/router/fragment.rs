//! IPv4 packets that are larger than the outgoing port allows, and may be cut (RFC 791, 2.3 and
//! 3.2): the data is kept aside, and the packet becomes one fragment after the other. All but the
//! last leave as copies.
//!
//! The identification is the sender's (RFC 6864, 4.1: only packets that may be cut need one). A
//! buffer that stands for several TCP segments is not cut: its segments are made smaller.

use aya_ebpf::{
    helpers::{bpf_csum_diff, bpf_loop, bpf_skb_store_bytes},
    macros::map,
    maps::PerCpuArray,
};
use ebpf_abi::{
    address::Be16,
    checksum,
    counters::DropReason,
    router::{FRAGMENT_DATA, FRAGMENT_PIECE, PART_SLOW, Pieces, ROUTE_CONNECTED, ROUTE_VIA},
};
use ebpf_programs::{
    Packet, Result,
    packet::bounded,
    standard::{self, Verdict},
    tc::Tc,
    wire::{ETHERNET_LENGTH, ETHERTYPE_IPV4, Ethernet, Ipv4, PROTOCOL_TCP, PROTOCOL_UDP},
};

use crate::{
    Input, arp, ipv4, multipath,
    neighbor::{self, State},
    part, route_v4, router_port, segment_header, waiting,
};

#[map(name = "pieces")]
static PIECES: PerCpuArray<Pieces> = PerCpuArray::with_max_entries(1, 0);

/// Bytes in which the kernel sums: before Linux 6.13 no more than a program's stack.
const BLOCK: u32 = 512;

/// Forwards a packet that is too big for its port.
#[inline(always)]
pub fn forward(packet: &mut Tc, input: &Input) -> Result<Verdict> {
    let ip = packet.load::<Ipv4>(ETHERNET_LENGTH)?;
    // Whoever left the packet to us has checked it, options included.
    let Some(route) = route_v4(ip.destination, || multipath::flow_v4(packet)) else {
        return Ok(part(PART_SLOW));
    };
    if !matches!(route.kind, ROUTE_CONNECTED | ROUTE_VIA) || ip.ttl <= 1 {
        return Ok(part(PART_SLOW));
    }
    let output = route.port;
    let port = router_port(output)?;
    let next_hop = ipv4::next_hop(route, &ip);
    let key = neighbor::key_v4(output, next_hop);
    if !neighbor::is_known(&key) {
        return Ok(part(PART_SLOW));
    }
    let next = neighbor::resolve::<Tc>(&key, packet.is_returning());
    if next.waits != 0 && waiting::give(packet, input, &key, next.waits) {
        return Ok(Verdict::CONSUMED);
    }
    match next.state {
        State::Known | State::Probe | State::ProbeElsewhere => {}
        State::Ask => {
            return arp::ask(
                packet,
                output,
                next_hop,
                Some(DropReason::NeighborUnresolved),
            );
        }
        State::Waiting | State::Unreachable => return Err(DropReason::NeighborUnresolved),
    }
    let ethernet = Ethernet {
        destination: next.mac,
        source: port.mac,
        ethertype: ETHERTYPE_IPV4,
    };
    if packet.is_segmented() {
        let header = ip.header_length() & 0x3c;
        let headers = header as u32 + segment_header(packet, ip.protocol, ETHERNET_LENGTH + header);
        packet.shrink_segments(headers, port.mtu.into())?;
        ipv4::rewrite(packet, &ip, next.mac, port.mac)?;
    } else {
        cut(packet, &ip, &ethernet, output, port.mtu.into())?;
    }
    if next.state == State::Probe && standard::send_copy(packet, output) {
        return arp::probe(packet, output, next_hop, next.mac).or(Ok(Verdict::CONSUMED));
    }
    Ok(Verdict::emit(output))
}

/// What the callback of the loop over the fragments needs.
struct Cut {
    tc: Tc,
    output: u32,
    /// Bytes of the IP header with its options.
    header: u32,
    /// Bytes of data in all.
    data: u32,
    /// Bytes of data in each fragment but the last.
    piece: u32,
    /// Flags and offset of the packet itself.
    fragment: u32,
    failed: bool,
}

/// Sends all fragments but the last, and leaves that one in the packet.
#[inline(always)]
fn cut(packet: &mut Tc, ip: &Ipv4, ethernet: &Ethernet, output: u32, mtu: u32) -> Result<()> {
    let header = (ip.header_length() & 0x3c) as u32;
    let data = u32::from(ip.total_length.get()) - header;
    if data == 0 || data > FRAGMENT_DATA as u32 || mtu < header {
        return Err(DropReason::TooBig);
    }
    keep(packet, ip, ethernet, header, data)?;
    if ip.fragment.get() & (Ipv4::OFFSET | Ipv4::MORE_FRAGMENTS) == 0 {
        complete(packet, ip, header, data)?;
    }
    let most = (mtu - header) & !7;
    if most == 0 {
        return Err(DropReason::TooBig);
    }
    let piece = if most > FRAGMENT_PIECE as u32 {
        FRAGMENT_PIECE as u32
    } else {
        most
    };
    let mut cut = Cut {
        tc: packet.again(),
        output,
        header,
        data,
        piece,
        fragment: ip.fragment.get().into(),
        failed: false,
    };
    let count = (data + piece - 1) / piece;
    // SAFETY: the callback has the signature `bpf_loop` (Linux 5.17) wants, and `cut` outlives
    // the call.
    unsafe { bpf_loop(count, one as *mut _, (&raw mut cut).cast(), 0) };
    if cut.failed {
        return Err(DropReason::NoMemory);
    }
    Ok(())
}

/// Copies headers and data aside, and does to the headers what forwarding does.
#[inline(always)]
fn keep(packet: &Tc, ip: &Ipv4, ethernet: &Ethernet, header: u32, data: u32) -> Result<()> {
    let pieces = PIECES.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    let data = bounded::<{ FRAGMENT_DATA as u32 }>(data);
    let headers = bounded::<64>(header);
    // SAFETY: the entry belongs to this CPU, and has room for as much as the bounds allow. The
    // kernel sums words, so the bytes after the last one must be zero.
    unsafe {
        let to = (&raw mut (*pieces).data).cast::<u8>();
        to.add((data & !3) as usize).cast::<u32>().write(0);
        packet.copy_out(ETHERNET_LENGTH as u32 + header, to, data)?;
        let to = (&raw mut (*pieces).headers).cast::<u8>();
        packet.copy_out(ETHERNET_LENGTH as u32, to.add(ETHERNET_LENGTH), headers)?;
        to.cast::<Ethernet>().write(*ethernet);
        let to = to.add(ETHERNET_LENGTH).cast::<Ipv4>();
        (*to).ttl = ip.ttl - 1;
    }
    Ok(())
}

/// Callback of `bpf_loop`: makes the packet fragment number `index`.
extern "C" fn one(index: u64, cut: *mut Cut) -> i64 {
    // SAFETY: the kernel hands the pointer on that `cut` gave it.
    let cut = unsafe { &mut *cut };
    let offset = index as u32 * cut.piece;
    let rest = cut.data - offset;
    let last = rest <= cut.piece;
    let length = if last { rest } else { cut.piece };
    if index == 1 {
        strip_options(cut.header);
    }
    if write(cut, offset, length, last).is_err() {
        cut.failed = true;
        return 1;
    }
    if !last && !standard::send_copy(&mut cut.tc, cut.output) {
        cut.failed = true;
        return 1;
    }
    0
}

#[inline(always)]
fn write(cut: &Cut, offset: u32, length: u32, last: bool) -> Result<()> {
    let pieces = PIECES.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    let header = bounded::<64>(cut.header);
    let data = bounded::<{ FRAGMENT_PIECE as u32 }>(length);
    let offset = offset & (FRAGMENT_DATA as u32 - 1);
    cut.tc
        .resize(ETHERNET_LENGTH as u32 + cut.header + length)?;
    // SAFETY: the entry belongs to this CPU, and all offsets are inside for the bounds above.
    let stored = unsafe {
        let headers = (&raw mut (*pieces).headers).cast::<u8>();
        let ip = headers.add(ETHERNET_LENGTH).cast::<Ipv4>();
        let more = if last { 0 } else { Ipv4::MORE_FRAGMENTS };
        let at = cut.fragment + offset / 8;
        (*ip).fragment = Be16::new(at as u16 | more);
        (*ip).total_length = Be16::new((cut.header + length) as u16);
        (*ip).checksum = Be16::default();
        let sum = bpf_csum_diff(core::ptr::null_mut(), 0, ip.cast(), header & 0x7c, 0);
        (*ip).checksum = checksum::finish(sum as u32 as u64);
        let skb = cut.tc.skb();
        let front = ETHERNET_LENGTH as u32 + header;
        bpf_skb_store_bytes(skb.cast(), 0, headers.cast(), front, 0)
            | bpf_skb_store_bytes(
                skb.cast(),
                ETHERNET_LENGTH as u32 + cut.header,
                (&raw const (*pieces).data)
                    .cast::<u8>()
                    .add(offset as usize)
                    .cast(),
                data,
                0,
            )
    };
    match stored {
        0 => Ok(()),
        _ => Err(DropReason::NoMemory),
    }
}

/// What the callback of the loop over an option's bytes needs.
struct Strip {
    /// Where the next option begins.
    next: u32,
    /// The option goes.
    goes: bool,
}

/// Options without the bit "copied" are in the first fragment only (RFC 791, 3.1). In the others
/// they become "no operation", so that the header keeps its length.
#[inline(always)]
fn strip_options(header: u32) {
    let first = size_of::<Ipv4>() as u32;
    let mut strip = Strip {
        next: first,
        goes: false,
    };
    // SAFETY: the callback has the signature `bpf_loop` wants, and `strip` outlives the call.
    unsafe {
        bpf_loop(
            header - first,
            strip_byte as *mut _,
            (&raw mut strip).cast(),
            0,
        )
    };
}

/// Callback of `bpf_loop`.
extern "C" fn strip_byte(index: u64, strip: *mut Strip) -> i64 {
    const COPIED: u8 = 0x80;
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    let Some(pieces) = PIECES.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the kernel hands the pointer on that `strip_options` gave it; offsets are masked.
    unsafe {
        let at = index as u32 + size_of::<Ipv4>() as u32;
        let ip = (&raw mut (*pieces).headers)
            .cast::<u8>()
            .add(ETHERNET_LENGTH);
        let byte = ip.add((at & 63) as usize);
        if at == (*strip).next {
            let kind = *byte;
            let length = match kind {
                END => return 1,
                NO_OPERATION => 1,
                _ => u32::from(*ip.add((at as usize + 1) & 63)),
            };
            // A length that cannot be is that of type and length alone.
            (*strip).next = at + if length == 0 { 2 } else { length };
            (*strip).goes = kind & COPIED == 0;
        }
        if (*strip).goes {
            *byte = NO_OPERATION;
        }
    }
    0
}

/// Where protocols have their checksum, in bytes from their header on.
const UDP_CHECKSUM: u32 = 6;
const TCP_CHECKSUM: u32 = 16;

/// A sender on this machine may have left the checksum for later: the kernel would write the one
/// of the first fragment. So it is written now, and the kernel made to forget about it.
#[inline(always)]
fn complete(packet: &Tc, ip: &Ipv4, header: u32, data: u32) -> Result<()> {
    let field = match ip.protocol {
        PROTOCOL_UDP => UDP_CHECKSUM,
        PROTOCOL_TCP => TCP_CHECKSUM,
        // SCTP's: seen below, and not ours to make.
        _ => 8,
    };
    let transport = ETHERNET_LENGTH as u32 + header;
    // The kernel refuses to cut a packet in front of a checksum that it has yet to write.
    if packet.resize(transport + field + 1).is_ok() {
        return Ok(());
    }
    if !matches!(ip.protocol, PROTOCOL_UDP | PROTOCOL_TCP) || data < field + 2 {
        return Err(DropReason::Unsupported);
    }
    let pieces = PIECES.get_ptr_mut(0).ok_or(DropReason::NoMemory)?;
    // SAFETY: the entry belongs to this CPU.
    let place = unsafe {
        (&raw mut (*pieces).data)
            .cast::<u8>()
            .add(field as usize)
            .cast::<Be16>()
    };
    let pseudo = checksum::add_v4(checksum::add_v4(0, ip.source), ip.destination);
    let pseudo = checksum::add16(pseudo, Be16::new(data as u16));
    let pseudo = checksum::add16(pseudo, ipv4::pair(0, ip.protocol));
    // SAFETY: as above.
    if unsafe { (*place).word() } != checksum::fold(pseudo) {
        return Err(DropReason::NoMemory);
    }
    // What is in its place is the sum over the pseudo-header already.
    let sum = checksum::finish(data_sum(data)?);
    // A sum of zero is sent as its other form (RFC 768).
    let sum = if sum.word() == 0 {
        Be16::new(0xffff)
    } else {
        sum
    };
    // SAFETY: as above.
    unsafe { place.write(sum) };
    packet.forget_checksum()
}

struct Sum {
    data: u32,
    sum: u32,
}

#[inline(always)]
fn data_sum(data: u32) -> Result<u64> {
    let mut sum = Sum { data, sum: 0 };
    let blocks = (data + BLOCK - 1) / BLOCK;
    // SAFETY: the callback has the signature `bpf_loop` wants, and `sum` outlives the call.
    unsafe { bpf_loop(blocks, add_block as *mut _, (&raw mut sum).cast(), 0) };
    Ok(sum.sum.into())
}

/// Callback of `bpf_loop`: adds a block of the data.
extern "C" fn add_block(index: u64, sum: *mut Sum) -> i64 {
    let Some(pieces) = PIECES.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the kernel hands the pointer on that `data_sum` gave it; the offset is inside.
    unsafe {
        let offset = (index as u32 * BLOCK) & (FRAGMENT_DATA as u32 - 1);
        let rest = ((*sum).data - offset + 3) & !3;
        let length = if rest > BLOCK { BLOCK } else { rest };
        let length = bounded::<BLOCK>(length) & 0xffc;
        let block = (&raw mut (*pieces).data).cast::<u8>().add(offset as usize);
        let total = bpf_csum_diff(core::ptr::null_mut(), 0, block.cast(), length, (*sum).sum);
        (*sum).sum = total as u32;
    }
    0
}
