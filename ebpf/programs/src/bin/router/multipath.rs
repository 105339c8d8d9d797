//! Routes that lead to several next hops: one for each flow (RFC 2991), whichever program sees the
//! packet.
//!
//! A flow is two addresses, a protocol and two ports. Fragments have no ports but the first, so none
//! of them is asked for any: they take the way that addresses and protocol say, together. Of IPv6
//! the flow label (RFC 6438) counts where the header that follows has no ports: tunnels, fragments,
//! ESP, extension headers. Where there are ports, they alone count: not all hosts keep one label for
//! a connection.

use aya_ebpf::{bindings::BPF_F_NO_PREALLOC, macros::map, maps::HashMap};
use ebpf_abi::{
    flow::has_ports,
    multipath::{self, Group},
    router::Route,
};
use ebpf_programs::{
    Packet,
    wire::{ETHERNET_LENGTH, Ipv4, Ipv6},
};

use crate::{DYNAMIC_NEXT_HOPS, NEXT_HOPS, SETTINGS, ipv6::PAYLOAD};

#[map(name = "groups")]
static GROUPS: HashMap<u32, Group> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map(name = "dynamic_groups")]
static DYNAMIC_GROUPS: HashMap<u32, Group> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// A flow of which nothing is known: for questions about addresses, not packets.
pub const NO_FLOW: u32 = 0;

/// The next hop of a flow, of the group that has this number.
#[inline(always)]
pub fn member(number: u32, flow: u32) -> Option<&'static Route> {
    // SAFETY: the value is only read, and any value is valid. The kernel writes a new entry instead
    // of changing one that is there.
    let group = unsafe { GROUPS.get(number) }?;
    NEXT_HOPS.get(group.member(flow))
}

/// The same for routes from elsewhere.
#[inline(always)]
pub fn dynamic_member(number: u32, flow: u32) -> Option<&'static Route> {
    // SAFETY: as above.
    let group = unsafe { DYNAMIC_GROUPS.get(number) }?;
    DYNAMIC_NEXT_HOPS.get(group.member(flow))
}

/// The hash of a packet's flow. It reads the header once more: what the caller has of it would have to
/// be kept until here by packets that have no choice, too, and the verifier would tell more ways apart.
#[inline(always)]
pub fn flow_v4<P: Packet>(packet: &P) -> u32 {
    let Ok(ip) = packet.load::<Ipv4>(ETHERNET_LENGTH) else {
        return NO_FLOW;
    };
    let fragmented = ip.fragment.get() & (Ipv4::MORE_FRAGMENTS | Ipv4::OFFSET) != 0;
    let ports = if !fragmented && has_ports(ip.protocol) {
        ports(packet, ETHERNET_LENGTH + (ip.header_length() & 0x3c))
    } else {
        0
    };
    let seed = SETTINGS.load().seed;
    multipath::flow_v4(seed, ip.source, ip.destination, ip.protocol, ports)
}

/// The same for IPv6.
#[inline(always)]
pub fn flow_v6<P: Packet>(packet: &P) -> u32 {
    let Ok(ip) = packet.load::<Ipv6>(ETHERNET_LENGTH) else {
        return NO_FLOW;
    };
    let ports = if has_ports(ip.next_header) {
        ports(packet, PAYLOAD)
    } else {
        u32::from(ip.version_class.get() & 0xf) << 16 | u32::from(ip.flow.get())
    };
    let seed = SETTINGS.load().seed;
    multipath::flow_v6(seed, ip.source, ip.destination, ip.next_header, ports)
}

#[inline(always)]
fn ports<P: Packet>(packet: &P, offset: usize) -> u32 {
    packet.load::<u32>(offset).unwrap_or(0)
}
