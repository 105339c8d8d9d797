//! `ddosMitigator`: drops what comes from or goes to listed prefixes.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::{classifier, map, xdp},
    maps::PerCpuHashMap,
    programs::{TcContext, XdpContext},
};
use ebpf_abi::{
    chain::Direction,
    counters::DropReason,
    ddos_mitigator::{HitKey, Hits, PrefixV4, PrefixV6},
};
use ebpf_programs::{
    Packet, Result,
    counters::Size,
    flow,
    lpm::Lpm,
    tc::Tc,
    transparent::{self, TransparentCube},
    wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6},
    xdp::Xdp,
};

#[map(name = "sources_v4")]
static SOURCES_V4: Lpm<PrefixV4, HitKey> = Lpm::with_max_entries(1);
#[map(name = "sources_v6")]
static SOURCES_V6: Lpm<PrefixV6, HitKey> = Lpm::with_max_entries(1);
#[map(name = "destinations_v4")]
static DESTINATIONS_V4: Lpm<PrefixV4, HitKey> = Lpm::with_max_entries(1);
#[map(name = "destinations_v6")]
static DESTINATIONS_V6: Lpm<PrefixV6, HitKey> = Lpm::with_max_entries(1);

/// What each list entry has dropped, per CPU: an attack must not make CPUs wait for each other.
#[map(name = "hits")]
static HITS: PerCpuHashMap<HitKey, Hits> = PerCpuHashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

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
        let listed = match ethertype {
            ETHERTYPE_IPV4 => {
                let ip = packet.load::<Ipv4>(offset)?;
                SOURCES_V4
                    .get(&PrefixV4 {
                        length: 32,
                        address: ip.source,
                    })
                    .or_else(|| {
                        DESTINATIONS_V4.get(&PrefixV4 {
                            length: 32,
                            address: ip.destination,
                        })
                    })
            }
            ETHERTYPE_IPV6 => {
                let ip = packet.load::<Ipv6>(offset)?;
                SOURCES_V6
                    .get(&PrefixV6 {
                        length: 128,
                        address: ip.source,
                    })
                    .or_else(|| {
                        DESTINATIONS_V6.get(&PrefixV6 {
                            length: 128,
                            address: ip.destination,
                        })
                    })
            }
            _ => None,
        };
        match listed {
            None => Ok(()),
            Some(entry) => {
                hit(*entry, Size::of(packet));
                Err(DropReason::Policy)
            }
        }
    }
}

#[inline(always)]
fn hit(entry: HitKey, size: Size) {
    if let Some(hits) = HITS.get_ptr_mut(&entry) {
        // SAFETY: the kernel keeps the entry valid while the program runs, and it belongs to
        // this CPU.
        unsafe {
            (*hits).packets += size.packets();
            (*hits).bytes += size.bytes();
        }
        return;
    }
    let first = Hits {
        packets: size.packets(),
        bytes: size.bytes(),
    };
    // A full table costs a count, never a verdict.
    let _uncounted = HITS.insert(&entry, &first, 0);
}
