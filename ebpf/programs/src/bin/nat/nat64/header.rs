//! IP headers of the other family (RFC 7915, 4.1 and 5.1). The router that the cube sits on counts the
//! hop, so the time to live stays.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use ebpf_abi::{
    address::{Be16, V6},
    checksum,
    flow::{Flow, ICMP, ICMPV6, WHOLE, unmapped},
    nat64::MAX_FRAGMENTABLE,
};
use ebpf_programs::wire::{Ipv4, Ipv6};

/// Next header of a packet with a fragment header (RFC 8200, 4.5).
const FRAGMENT: u8 = 44;

/// A fragment header (RFC 8200, 4.5).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FragmentHeader {
    pub next_header: u8,
    reserved: u8,
    /// Offset and flags.
    field: Be16,
    identification: [Be16; 2],
}

/// Whom a packet is from and for.
#[derive(Clone, Copy)]
pub struct Ends {
    pub source: V6,
    pub destination: V6,
}

impl Ends {
    /// Adds the addresses to a sum over IPv6.
    #[inline(always)]
    pub fn sum_v6(&self) -> u64 {
        checksum::add_v6(checksum::add_v6(0, self.source), self.destination)
    }

    /// Takes them out of a sum.
    #[inline(always)]
    pub fn less_v6(&self) -> u64 {
        checksum::add_v6(
            checksum::add_v6(0, inverse(self.source)),
            inverse(self.destination),
        )
    }

    /// The same over IPv4.
    #[inline(always)]
    pub fn sum_v4(&self) -> u64 {
        u64::from(unmapped(self.source).0) + u64::from(unmapped(self.destination).0)
    }

    /// The same over IPv4.
    #[inline(always)]
    pub fn less_v4(&self) -> u64 {
        u64::from(!unmapped(self.source).0) + u64::from(!unmapped(self.destination).0)
    }
}

#[inline(always)]
fn inverse(address: V6) -> V6 {
    let V6([a, b, c, d]) = address;
    V6([!a, !b, !c, !d])
}

/// An identification for a packet that may be fragmented on its way.
#[inline(always)]
pub fn identification() -> Be16 {
    // SAFETY: no preconditions.
    Be16::new(unsafe { bpf_get_prandom_u32() } as u16)
}

/// The IPv4 header of what had an IPv6 header and has `length` bytes behind it.
#[inline(always)]
pub fn ipv4(ip: &Ipv6, flow: &Flow, ends: Ends, length: u32, own: Be16) -> Ipv4 {
    let total = length + size_of::<Ipv4>() as u32;
    let field = flow.fragment_field.get();
    let (id, fragment) = if flow.fragment != WHOLE {
        let more = if field & 1 != 0 {
            Ipv4::MORE_FRAGMENTS
        } else {
            0
        };
        // The lower half, as it is in memory.
        let [_, _, c, d] = flow.identification.to_ne_bytes();
        (Be16::new(u16::from_be_bytes([c, d])), field >> 3 | more)
    } else if total > MAX_FRAGMENTABLE {
        (Be16::default(), Ipv4::DONT_FRAGMENT)
    } else {
        (own, 0)
    };
    let protocol = match flow.key.protocol {
        ICMPV6 => ICMP,
        protocol => protocol,
    };
    let mut header = Ipv4 {
        version_ihl: 0x45,
        tos: (ip.version_class.get() >> 4) as u8,
        total_length: Be16::new(total as u16),
        id,
        fragment: Be16::new(fragment),
        ttl: ip.hop_limit,
        protocol,
        checksum: Be16::default(),
        source: unmapped(ends.source),
        destination: unmapped(ends.destination),
    };
    header.checksum = checksum::finish(header.sum());
    header
}

/// The IPv6 header of what had an IPv4 header and has `length` bytes behind it, and behind the
/// fragment header.
#[inline(always)]
pub fn ipv6(ip: &Ipv4, flow: &Flow, ends: Ends, length: u32, has_fragment: bool) -> Ipv6 {
    let protocol = match flow.key.protocol {
        ICMP => ICMPV6,
        protocol => protocol,
    };
    let more = if has_fragment {
        size_of::<FragmentHeader>() as u32
    } else {
        0
    };
    Ipv6 {
        version_class: Be16::new(0x6000 | u16::from(ip.tos) << 4),
        flow: Be16::default(),
        payload_length: Be16::new((length + more) as u16),
        next_header: if has_fragment { FRAGMENT } else { protocol },
        hop_limit: ip.ttl,
        source: ends.source,
        destination: ends.destination,
    }
}

/// The fragment header of a fragment. ICMP in fragments is not translated.
#[inline(always)]
pub fn fragment(ip: &Ipv4) -> FragmentHeader {
    let field = ip.fragment.get();
    let more = u16::from(field & Ipv4::MORE_FRAGMENTS != 0);
    FragmentHeader {
        next_header: ip.protocol,
        reserved: 0,
        field: Be16::new((field & Ipv4::OFFSET) << 3 | more),
        identification: [Be16::default(), ip.id],
    }
}
