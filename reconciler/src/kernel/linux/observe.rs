//! Observation: what is pinned, and what is in the slots.

use std::{
    collections::BTreeSet,
    num::NonZero,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread,
};

use super::{
    LinuxKernel, TCX_EGRESS, TCX_INGRESS,
    bpf::{self, LinkInfo, MapInfo, ProgramInfo, Reader},
    io, maps, open_by_id, record,
};
use crate::{
    kernel::Result,
    observed::{self, Interest, Observed},
    resource::{AttachPoint, Bank, MapKind, PinPath, Slot},
    wiring,
};

/// `BPF_LINK_TYPE_XDP`
const LINK_XDP: u32 = 6;
/// `BPF_LINK_TYPE_TCX`
const LINK_TCX: u32 = 11;

impl LinuxKernel {
    pub(super) fn observe_pins(&self, interest: &Interest, observed: &mut Observed) -> Result<()> {
        let mut maps = Vec::new();
        for pin in self.pins.list()? {
            if pin.is_staged() {
                observed.leftovers.insert(pin);
                continue;
            }
            if pin == record::path() {
                continue;
            }
            let fd = self.open(&pin)?;
            let failed = |error: std::io::Error| io("read", &pin, &error);
            if pin.name().starts_with("program-") {
                let info: ProgramInfo = bpf::info(fd.as_fd()).map_err(failed)?;
                let program = observed::Program {
                    id: info.id,
                    fingerprint: bpf::name_of(&info.name),
                };
                observed.programs.insert(pin, program);
            } else if pin.name().starts_with("link-") {
                let info: LinkInfo = bpf::info(fd.as_fd()).map_err(failed)?;
                let point = attach_point(&info, pin.name());
                let link = observed::Link {
                    id: info.id,
                    program: info.prog_id,
                    ifindex: info.ifindex,
                    point,
                };
                observed.links.insert(pin, link);
            } else {
                maps.push((pin, fd));
            }
        }
        observed.maps.extend(read_maps(maps, interest)?);
        self.observe_unpinned(interest, observed);
        observed.active = self.active_bank(observed)?;
        self.observe_slots(interest, observed)
    }

    /// Maps whose pins are gone, by the programs that have them: they are as good as ever.
    ///
    /// Chains are not. The kernel empties a program array when its last pin and descriptor go, in a work queue; opening
    /// it by its id meanwhile queues that twice, and the second time leaks the array (`prog_array_map_clear` in
    /// kernel/bpf/arraymap.c takes a reference for each). So no id is opened that could be a chain's.
    fn observe_unpinned(&self, interest: &Interest, observed: &mut Observed) {
        let pinned: BTreeSet<u32> = observed.maps.values().map(|map| map.id).collect();
        for (program, uses) in &interest.uses {
            let missing: Vec<&PinPath> = uses
                .iter()
                .filter(|path| !observed.maps.contains_key(*path))
                .collect();
            let without_chain = missing.iter().any(|path| wiring::is_chain(path));
            if missing.is_empty() || without_chain || !observed.programs.contains_key(program) {
                continue;
            }
            // What cannot be found is gone, and is made anew.
            let candidates = self.unpinned_maps_of(program, &pinned).unwrap_or_default();
            for path in missing.into_iter().cloned() {
                let mut named = candidates
                    .iter()
                    .filter(|(name, _)| *name == kept_name(&path));
                let (Some((_, fd)), None) = (named.next(), named.next()) else {
                    continue;
                };
                if let Ok(map) = read_map(fd.as_fd(), &path, interest) {
                    observed.unpinned.insert(path.clone(), map.id);
                    observed.maps.insert(path, map);
                }
            }
        }
    }

    /// The maps of a program that are not pinned, with the names that the kernel keeps.
    fn unpinned_maps_of(
        &self,
        program: &PinPath,
        pinned: &BTreeSet<u32>,
    ) -> Result<Vec<(String, OwnedFd)>> {
        let failed = |error: std::io::Error| io("read", program, &error);
        let fd = self.open(program)?;
        let ids = bpf::maps_of(fd.as_fd()).map_err(failed)?;
        let mut maps = Vec::new();
        for id in ids.into_iter().filter(|id| !pinned.contains(id)) {
            let map = open_by_id(id)?;
            let info: MapInfo = bpf::info(map.as_fd()).map_err(failed)?;
            maps.push((bpf::name_of(&info.name), map));
        }
        Ok(maps)
    }

    /// A map that was observed, pinned or not.
    fn open_observed(&self, path: &PinPath, observed: &Observed) -> Result<OwnedFd> {
        match observed.unpinned.get(path) {
            Some(id) => open_by_id(*id),
            None => self.open(path),
        }
    }

    /// The bank that packets come into; the first one if nothing says.
    fn active_bank(&self, observed: &Observed) -> Result<Bank> {
        let path = wiring::active();
        if !observed.maps.contains_key(&path) {
            return Ok(Bank::default());
        }
        let map = self.open_observed(&path, observed)?;
        let value = bpf::lookup(map.as_fd(), &0u32.to_ne_bytes(), 4)
            .map_err(|error| io("read map", &path, &error))?;
        let value = value.and_then(|value| Some(u32::from_ne_bytes(value.try_into().ok()?)));
        Ok(Bank::of_place(value.unwrap_or(0)))
    }

    fn observe_slots(&self, interest: &Interest, observed: &mut Observed) -> Result<()> {
        let slots: Vec<Slot> = if interest.all_slots {
            all_slots(observed).collect()
        } else {
            let there = |slot: &&Slot| observed.maps.contains_key(&slot.map);
            interest.slots.iter().filter(there).cloned().collect()
        };
        for of_map in slots.chunk_by(|a, b| a.map == b.map) {
            let path = &of_map[0].map;
            let map = self.open(path)?;
            let reader = Reader::new(map.as_fd()).map_err(|error| io("read map", path, &error))?;
            for slot in of_map {
                let mut banks = [None; 2];
                for bank in Bank::ALL {
                    let value = reader
                        .value(&bank.place(slot.index).to_ne_bytes())
                        .map_err(|error| io("read slot", slot, &error))?;
                    banks[bank as usize] =
                        value.and_then(|value| Some(u32::from_ne_bytes(value.try_into().ok()?)));
                }
                if banks != [None; 2] {
                    observed.slots.insert(slot.clone(), banks);
                }
            }
        }
        Ok(())
    }
}

/// Threads that read maps, at most.
const READERS: usize = 4;
/// As many maps as one thread reads before another one is worth it.
const MAPS_EACH: usize = 8;

/// Reads maps, several at once: what is in each, the kernel copies and we sort.
fn read_maps(
    maps: Vec<(PinPath, OwnedFd)>,
    interest: &Interest,
) -> Result<Vec<(PinPath, observed::Map)>> {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (maps.len() / MAPS_EACH).min(cpus).clamp(1, READERS);
    let rest = Mutex::new(maps.into_iter());
    let next = || {
        let mut rest = rest.lock().unwrap_or_else(PoisonError::into_inner);
        rest.next()
    };
    let read = || -> Result<Vec<_>> {
        let mut read = Vec::new();
        while let Some((pin, fd)) = next() {
            let map = read_map(fd.as_fd(), &pin, interest);
            read.push((pin.clone(), map.map_err(|error| io("read", &pin, &error))?));
        }
        Ok(read)
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(read)).collect();
        let mut all = read()?;
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(all)
    })
}

fn read_map(
    fd: BorrowedFd<'_>,
    path: &PinPath,
    interest: &Interest,
) -> std::io::Result<observed::Map> {
    let info: MapInfo = bpf::info(fd)?;
    let shape = match maps::shape(&info) {
        Some(shape) => maps::usable(fd, shape)?,
        None => None,
    };
    let entries = match shape.filter(|_| interest.contents.contains(path)) {
        Some(shape) => Some(maps::read_rows(fd, &shape)?),
        None => None,
    };
    Ok(observed::Map {
        id: info.id,
        shape,
        entries,
    })
}

/// What the kernel keeps of the name of the map that is pinned here.
fn kept_name(path: &PinPath) -> String {
    bpf::name_of(&bpf::object_name(path.name()))
}

/// Every slot there is.
fn all_slots(observed: &Observed) -> impl Iterator<Item = Slot> {
    let arrays = observed.maps.iter().filter_map(|(path, map)| {
        let shape = map.shape?;
        (shape.kind == MapKind::ProgramArray).then_some((path, shape.banked_entries()))
    });
    arrays.flat_map(|(path, entries)| {
        (0..entries).map(|index| Slot {
            map: path.clone(),
            index,
        })
    })
}

/// The kernel does not say in which mode XDP runs; the pin's name does.
fn attach_point(info: &LinkInfo, name: &str) -> Option<AttachPoint> {
    match (info.link_type, info.attach_type) {
        (LINK_TCX, TCX_INGRESS) => Some(AttachPoint::TcIngress),
        (LINK_TCX, TCX_EGRESS) => Some(AttachPoint::TcEgress),
        (LINK_XDP, _) if name.ends_with(AttachPoint::XdpGeneric.name()) => {
            Some(AttachPoint::XdpGeneric)
        }
        (LINK_XDP, _) => Some(AttachPoint::Xdp),
        _ => None,
    }
}
