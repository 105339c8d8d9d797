//! `ddosMitigator`: drops what comes from or goes to listed prefixes.

#![no_std]
#![no_main]

use aya_ebpf::{
    cty::c_void,
    helpers::bpf_loop,
    macros::{classifier, map, xdp},
    maps::{Array, PerCpuHashMap},
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    address::{V4, V6},
    chain::Direction,
    counters::DropReason,
    ddos_mitigator::{
        Hits, LIST_DESTINATIONS, LIST_SOURCES, LISTS, Lengths, PrefixV4, PrefixV6, lengths_index,
        network_v4, network_v6,
    },
};
use ebpf_programs::{
    Packet, Result,
    counters::Size,
    flow,
    tc::Tc,
    transparent::{self, TransparentCube},
    wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6},
    xdp::Xdp,
};

/// Prefixes, and what each has dropped, per CPU: an attack must not make CPUs wait for each other.
type Prefixes<K> = PerCpuHashMap<K, Hits>;

#[map(name = "sources_v4")]
static SOURCES_V4: Prefixes<PrefixV4> = Prefixes::with_max_entries(1, 0);
#[map(name = "sources_v6")]
static SOURCES_V6: Prefixes<PrefixV6> = Prefixes::with_max_entries(1, 0);
#[map(name = "destinations_v4")]
static DESTINATIONS_V4: Prefixes<PrefixV4> = Prefixes::with_max_entries(1, 0);
#[map(name = "destinations_v6")]
static DESTINATIONS_V6: Prefixes<PrefixV6> = Prefixes::with_max_entries(1, 0);

/// Which lengths are in these.
#[map(name = "lengths")]
static LENGTHS: Array<Lengths> = Array::with_max_entries(LISTS, 0);

#[classifier]
pub fn on_tc(context: TcContext) -> i32 {
    transparent::run::<DdosMitigator, _>(Tc::new(&context))
}

#[xdp]
pub fn on_xdp(context: XdpContext) -> u32 {
    transparent::run::<DdosMitigator, _>(Xdp::new(&context)) as u32
}

struct DdosMitigator;

impl TransparentCube for DdosMitigator {
    #[inline(always)]
    fn handle<P: Packet>(packet: &mut P, direction: Direction, _: Size) -> Result<()> {
        if direction == Direction::Egress {
            return Ok(());
        }
        let (ethertype, offset) = flow::network_header(packet)?;
        let size = Size::of(packet);
        let is_listed = match ethertype {
            ETHERTYPE_IPV4 => {
                let ip = packet.load::<Ipv4>(offset)?;
                is_listed::<SourcesV4>(ip.source, size)
                    || is_listed::<DestinationsV4>(ip.destination, size)
            }
            ETHERTYPE_IPV6 => {
                let ip = packet.load::<Ipv6>(offset)?;
                is_listed::<SourcesV6>(ip.source, size)
                    || is_listed::<DestinationsV6>(ip.destination, size)
            }
            _ => false,
        };
        if is_listed {
            return Err(DropReason::Policy);
        }
        Ok(())
    }
}

/// A list in one family. A type for each: the loop's body has to know the map.
trait List {
    type Address: Copy;
    /// Index into `lengths`.
    const INDEX: u32;
    /// Bits of an address.
    const LONGEST: u32;
    /// The counter of an entry on this CPU.
    fn get(address: Self::Address, length: u32) -> Option<*mut Hits>;
}

macro_rules! list {
    ($name:ident, $map:ident, $list:ident, $family:literal, $longest:literal, $address:ident, $key:ident, $network:ident) => {
        struct $name;

        impl List for $name {
            type Address = $address;
            const INDEX: u32 = lengths_index($list, $family);
            const LONGEST: u32 = $longest;

            #[inline(always)]
            fn get(address: $address, length: u32) -> Option<*mut Hits> {
                $map.get_ptr_mut(&$key {
                    length,
                    address: $network(address, length),
                })
            }
        }
    };
}

list!(
    SourcesV4,
    SOURCES_V4,
    LIST_SOURCES,
    4,
    32,
    V4,
    PrefixV4,
    network_v4
);
list!(
    SourcesV6,
    SOURCES_V6,
    LIST_SOURCES,
    6,
    128,
    V6,
    PrefixV6,
    network_v6
);
list!(
    DestinationsV4,
    DESTINATIONS_V4,
    LIST_DESTINATIONS,
    4,
    32,
    V4,
    PrefixV4,
    network_v4
);
list!(
    DestinationsV6,
    DESTINATIONS_V6,
    LIST_DESTINATIONS,
    6,
    128,
    V6,
    PrefixV6,
    network_v6
);

/// True if an address is listed; the entry with the longest prefix counts.
#[inline(always)]
fn is_listed<L: List>(address: L::Address, size: Size) -> bool {
    let Some(lengths) = LENGTHS.get(L::INDEX) else {
        return false;
    };
    let [first, second, third] = lengths.words;
    // Hosts: what most lists have, and often all.
    if first & 1 != 0
        && let Some(hits) = L::get(address, L::LONGEST)
    {
        count(hits, size.packets(), size.bytes());
        return true;
    }
    let mut search = Search {
        address,
        words: [first & !1, second, third],
        packets: size.packets(),
        bytes: size.bytes(),
        found: 0,
    };
    if search.words == [0; 3] {
        return false;
    }
    // SAFETY: the callback has the signature that `bpf_loop` (Linux 5.17) wants, and `search` outlives the call.
    unsafe {
        bpf_loop(
            L::LONGEST,
            step::<L> as *mut c_void,
            (&raw mut search).cast(),
            0,
        );
        (&raw const search.found).read_volatile() != 0
    }
}

/// A search through the lengths of a list.
struct Search<A> {
    address: A,
    /// Those that are left, as in [`Lengths`].
    words: [u64; 3],
    packets: u64,
    bytes: u64,
    /// 1 if an entry was found.
    found: u64,
}

/// Callback of `bpf_loop`: looks for the longest length that is left.
extern "C" fn step<L: List>(_: u64, search: *mut Search<L::Address>) -> i64 {
    // SAFETY: the kernel hands the pointer on that `is_listed` gave it.
    let search = unsafe { &mut *search };
    let [first, second, third] = search.words;
    let bit = if first != 0 {
        search.words[0] = first & (first - 1);
        lowest(first)
    } else if L::LONGEST > 32 && second != 0 {
        search.words[1] = second & (second - 1);
        64 + lowest(second)
    } else if L::LONGEST > 32 && third != 0 {
        search.words[2] = 0;
        128
    } else {
        return 1;
    };
    match L::get(search.address, L::LONGEST - bit) {
        None => 0,
        Some(hits) => {
            count(hits, search.packets, search.bytes);
            search.found = 1;
            1
        }
    }
}

/// Number of the lowest bit that is set. There is no instruction for it; counting bits is arithmetic alone.
#[inline(always)]
fn lowest(bits: u64) -> u32 {
    ((bits & bits.wrapping_neg()) - 1).count_ones()
}

#[inline(always)]
fn count(hits: *mut Hits, packets: u64, bytes: u64) {
    // SAFETY: the kernel keeps the entry while the program runs, and this part of it belongs to this CPU.
    unsafe {
        (*hits).packets += packets;
        (*hits).bytes += bytes;
    }
}
