//! `ddosMitigator`: drops what comes from or goes to listed prefixes.

#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    cty::c_void,
    helpers::bpf_loop,
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    address::{V4, V6},
    chain::Direction,
    counters::DropReason,
    ddos_mitigator::{LIST_DESTINATIONS, LIST_SOURCES, LISTS, Lengths, Settings, lengths_index},
    prefix_set::{Address, Shape},
};
use ebpf_programs::{
    Packet, Result, constant,
    counters::Size,
    fib::MAPPED,
    flow,
    prefix_set::{self, Bucket, PrefixSet},
    tc::Tc,
    transparent::{self, TransparentCube},
    wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6},
    xdp::Xdp,
};

#[map(name = "sources_v4")]
static SOURCES_V4: PrefixSet =
    PrefixSet::with_max_entries(Settings::LEAST.sources_v4.buckets(), MAPPED);
#[map(name = "sources_v6")]
static SOURCES_V6: PrefixSet =
    PrefixSet::with_max_entries(Settings::LEAST.sources_v6.buckets(), MAPPED);
#[map(name = "destinations_v4")]
static DESTINATIONS_V4: PrefixSet =
    PrefixSet::with_max_entries(Settings::LEAST.destinations_v4.buckets(), MAPPED);
#[map(name = "destinations_v6")]
static DESTINATIONS_V6: PrefixSet =
    PrefixSet::with_max_entries(Settings::LEAST.destinations_v6.buckets(), MAPPED);

/// Which lengths are in these.
#[map(name = "lengths")]
static LENGTHS: Array<Lengths> = Array::with_max_entries(LISTS, 0);

/// How large they are.
#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings::LEAST);

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
        let is_listed = match ethertype {
            ETHERTYPE_IPV4 => {
                let ip = packet.load::<Ipv4>(offset)?;
                is_listed::<SourcesV4, _>(packet, ip.source)
                    || is_listed::<DestinationsV4, _>(packet, ip.destination)
            }
            ETHERTYPE_IPV6 => {
                let ip = packet.load::<Ipv6>(offset)?;
                is_listed::<SourcesV6, _>(packet, ip.source)
                    || is_listed::<DestinationsV6, _>(packet, ip.destination)
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
    type Address: Address;
    /// Index into `lengths`.
    const INDEX: u32;
    /// The buckets.
    fn prefixes() -> &'static PrefixSet;
    /// How many there are.
    fn shape() -> Shape;
}

macro_rules! list {
    ($name:ident, $map:ident, $size:ident, $list:ident, $family:literal, $address:ident) => {
        struct $name;

        impl List for $name {
            type Address = $address;
            const INDEX: u32 = lengths_index($list, $family);

            #[inline(always)]
            fn prefixes() -> &'static PrefixSet {
                &$map
            }

            #[inline(always)]
            fn shape() -> Shape {
                constant!(SETTINGS: Settings, $size)
            }
        }
    };
}

list!(SourcesV4, SOURCES_V4, sources_v4, LIST_SOURCES, 4, V4);
list!(SourcesV6, SOURCES_V6, sources_v6, LIST_SOURCES, 6, V6);
list!(
    DestinationsV4,
    DESTINATIONS_V4,
    destinations_v4,
    LIST_DESTINATIONS,
    4,
    V4
);
list!(
    DestinationsV6,
    DESTINATIONS_V6,
    destinations_v6,
    LIST_DESTINATIONS,
    6,
    V6
);

/// True if an address is listed; the entry with the longest prefix counts.
#[inline(always)]
fn is_listed<L: List, P: Packet>(packet: &P, address: L::Address) -> bool {
    let Some(lengths) = LENGTHS.get(L::INDEX) else {
        return false;
    };
    let [first, second, third] = lengths.words;
    let shape = L::shape();
    let copy = prefix_set::copy(shape);
    // Zero, of which the verifier does not know it: what it knows of the first round makes the others different for it.
    let nothing = third >> 32;
    let mut search = Search {
        address,
        words: [first & !1, second, third],
        length: L::Address::LONGEST.wrapping_add(nothing as u32),
        bucket: nothing as u32,
        copy,
        mask: shape.mask,
        searching: nothing,
        hits: nothing,
    };
    // Hosts: what most lists have, and often all.
    if first & 1 != 0 {
        let bucket = address.hash(L::Address::LONGEST) & shape.mask;
        let Some(there) = Bucket::of(L::prefixes(), copy + bucket) else {
            return false;
        };
        let found = address.find(L::Address::LONGEST, there);
        if found.hits != 0 {
            return count::<L, _>(packet, there, found.hits);
        }
        search.bucket = bucket;
        search.searching = found.behind;
    }
    if search.searching == 0 && search.words == [0; 3] {
        return false;
    }
    // SAFETY: the callback has the signature that `bpf_loop` (Linux 5.17) wants, and `search` outlives the call.
    unsafe {
        bpf_loop(
            MOST_STEPS,
            step::<L> as *mut c_void,
            (&raw mut search).cast(),
            0,
        );
        let hits = (&raw const search.hits).read_volatile();
        let bucket = (&raw const search.bucket).read_volatile();
        match Bucket::of(L::prefixes(), search.copy + bucket) {
            Some(there) if hits != 0 => count::<L, _>(packet, there, hits),
            _ => false,
        }
    }
}

/// Counts what was found. Only now it is asked how large the packet is: that it is one packet is known on one way and not on another,
/// and the verifier would go through the search on each.
#[inline(always)]
fn count<L: List, P: Packet>(packet: &P, there: Bucket, hits: u64) -> bool {
    let size = Size::of(packet);
    there.count::<L::Address>(L::shape(), hits, size.packets(), size.bytes());
    true
}

/// `BPF_MAX_LOOPS`: a search ends before, where there is nothing left to look for.
const MOST_STEPS: u32 = 1 << 23;

/// A search through the lengths of a list, and through the buckets behind one that was full.
struct Search<A> {
    address: A,
    /// Lengths that are left, as in [`Lengths`].
    words: [u64; 3],
    /// The length that is looked for.
    length: u32,
    /// The bucket that was looked into last, in a copy.
    bucket: u32,
    copy: u32,
    mask: u32,
    /// 1 if the next bucket is to be looked into for the same length.
    searching: u64,
    /// Where an entry that was found counts in that bucket; 0 if none was.
    hits: u64,
}

/// Callback of `bpf_loop`: looks into the next bucket, or for the longest length that is left.
extern "C" fn step<L: List>(_: u64, search: *mut Search<L::Address>) -> i64 {
    // SAFETY: the kernel hands the pointer on that `is_listed` gave it.
    let search = unsafe { &mut *search };
    if search.searching == 0 {
        let [first, second, third] = search.words;
        let longest = L::Address::LONGEST;
        let bit = if first != 0 {
            search.words[0] = first & (first - 1);
            lowest(first)
        } else if longest > 32 && second != 0 {
            search.words[1] = second & (second - 1);
            64 + lowest(second)
        } else if longest > 32 && third != 0 {
            search.words[2] = third & (third - 1);
            128 + lowest(third)
        } else {
            return 1;
        };
        search.length = longest - bit;
    }
    let network = search.address.network(search.length);
    let bucket = if search.searching == 0 {
        network.hash(search.length)
    } else {
        search.bucket + 1
    } & search.mask;
    let Some(there) = Bucket::of(L::prefixes(), search.copy + bucket) else {
        return 1;
    };
    let found = network.find(search.length, there);
    search.bucket = bucket;
    search.searching = found.behind;
    search.hits = found.hits;
    i64::from(found.hits != 0)
}

/// Number of the lowest bit that is set. There is no instruction for it; counting bits is arithmetic alone.
#[inline(always)]
fn lowest(bits: u64) -> u32 {
    ((bits & bits.wrapping_neg()) - 1).count_ones()
}
