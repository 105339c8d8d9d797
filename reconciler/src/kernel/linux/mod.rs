//! The real kernel.

mod ahead;
pub mod bpf;
mod checks;
mod doors;
pub mod dynamic;
mod fib_maps;
pub mod foreign;
mod interfaces;
pub mod links;
pub mod lock;
pub mod mapping;
pub mod maps;
pub mod netlink;
pub mod netns;
pub mod object;
mod observe;
mod open_tables;
pub mod pause;
pub mod pins;
mod prefix_set_maps;
pub mod privilege;
pub mod probe;
mod programs;
mod record;
pub mod reports;
pub mod ring;
mod send;
pub mod tap;
pub mod trees;
pub mod waiting;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use topology_schema::{Check, InterfaceName, Name};

use self::{ahead::Ahead, bpf::MapInfo, object::Objects, pins::Pins};
use super::{Entry, Error, Kernel, Result};
use crate::{
    dynamic::Taken,
    interrupt::Interrupt,
    observed::{Interest, Observed},
    plan::{Op, Step},
    record::Record,
    resource::{Map, MapKind, MapShape, PinPath, Program, TemplateView},
    rows::Rows,
};

/// `BPF_TCX_INGRESS`
const TCX_INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`
const TCX_EGRESS: u32 = 47;

/// The kernel this process runs on, for one topology.
pub struct LinuxKernel {
    topology: Name,
    root: PathBuf,
    pins: Pins,
    record: record::LastRead,
    objects: Arc<Objects>,
    /// What was made before its step came.
    ahead: Ahead,
    interfaces: interfaces::Interfaces,
    /// Indices of interfaces, while nothing changes them.
    indices: BTreeMap<InterfaceName, u32>,
}

/// Topologies that have something in this bpffs.
pub fn topologies(root: &Path) -> Result<Vec<Name>> {
    Ok(pins::topologies(root)?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect())
}

impl LinuxKernel {
    /// For a topology whose objects are pinned below `root`.
    pub fn new(topology: Name, root: &Path) -> Result<Self> {
        let pins = Pins::new(root, topology.as_str());
        Ok(Self {
            topology,
            root: root.to_owned(),
            pins,
            record: record::LastRead::default(),
            objects: Arc::default(),
            ahead: Ahead::default(),
            interfaces: interfaces::Interfaces::default(),
            indices: BTreeMap::new(),
        })
    }

    /// A `pcn` that was killed while it deleted a namespace may have left its file. Which are ours
    /// only the record says, so they go with it.
    fn remove_leftover_names(&mut self) -> Result<()> {
        if let Some(record) = self.record.read(&self.pins)? {
            for name in record.topology.spec.namespaces.keys() {
                netns::remove_leftover(name.as_str());
            }
        }
        Ok(())
    }

    fn open(&self, pin: &PinPath) -> Result<OwnedFd> {
        self.pins.open(pin)
    }

    fn pin(&self, fd: &OwnedFd, pin: &PinPath) -> Result<()> {
        self.pins.pin(fd.as_fd(), pin)
    }

    fn ifindex(&mut self, name: &InterfaceName) -> Result<u32> {
        if let Some(index) = self.indices.get(name) {
            return Ok(*index);
        }
        let index = nix::net::if_::if_nametoindex(name.as_str())
            .map_err(|errno| Error::Call(format!("interface {name}: {errno}")))?;
        self.indices.insert(name.clone(), index);
        Ok(index)
    }

    fn resolve<'a>(&mut self, template: TemplateView<'a>) -> Result<Cow<'a, [u8]>> {
        let mut found = BTreeMap::new();
        for (_, name) in template.ifindexes {
            found.insert(name.clone(), self.ifindex(name)?);
        }
        template
            .resolve(|name| found.get(name).copied())
            .ok_or_else(|| Error::Call("an interface went away".to_owned()))
    }

    fn create_map(&mut self, pin: &PinPath, map: &Map) -> Result<()> {
        let (fd, filled) = match self.ahead.map(pin, map) {
            Some(made) => made,
            None => (Arc::new(new_map(pin, map.shape)?), false),
        };
        if let Some(entries) = map.content.entries().filter(|_| !filled) {
            let rows = match entries.rows() {
                Some(rows) => rows,
                None => {
                    let resolved = entries
                        .iter()
                        .map(|(key, value)| Ok((key, self.resolve(value)?)));
                    Cow::Owned(resolved.collect::<Result<Rows>>()?)
                }
            };
            maps::put(fd.as_fd(), &map.shape, &rows)
                .map_err(|error| io("fill map", pin, &error))?;
        }
        self.pin(&fd, pin)
    }

    fn shape(&self, pin: &PinPath, map: &OwnedFd) -> Result<MapShape> {
        let info: MapInfo = bpf::info(map.as_fd()).map_err(|error| io("read map", pin, &error))?;
        maps::shape(&info).ok_or_else(|| Error::Call(format!("map {pin}: not a kind pcn makes")))
    }
}

impl Kernel for LinuxKernel {
    fn topology(&self) -> &Name {
        &self.topology
    }

    fn record(&mut self) -> Result<Option<Record>> {
        self.record.read(&self.pins)
    }

    fn observe(&mut self, interest: &Interest) -> Result<Observed> {
        let mut observed = Observed {
            record: self.record.read(&self.pins)?,
            ..Observed::default()
        };
        self.interfaces.observe(&self.topology, &mut observed)?;
        self.observe_pins(interest, &mut observed)?;
        self.indices.clear();
        Ok(observed)
    }

    fn read(&mut self, map: &PinPath) -> Result<Vec<Entry>> {
        let fd = self.open(map)?;
        let shape = self.shape(map, &fd)?;
        maps::read(fd.as_fd(), &shape).map_err(|error| io("read map", map, &error))
    }

    fn count(&mut self, map: &PinPath) -> Result<u64> {
        let fd = self.open(map)?;
        let shape = self.shape(map, &fd)?;
        maps::count(fd.as_fd(), &shape).map_err(|error| io("read map", map, &error))
    }

    fn memory(&mut self, map: &PinPath) -> Result<Box<dyn AsRef<[AtomicU64]>>> {
        let fd = self.open(map)?;
        let shape = self.shape(map, &fd)?;
        if shape.kind != MapKind::MappedArray {
            return Ok(Box::new(Vec::new()));
        }
        let bytes = shape.value_size as usize * shape.max_entries as usize;
        let memory = mapping::Memory::new(&fd, bytes).map_err(|error| io("map", map, &error))?;
        Ok(Box::new(memory))
    }

    fn now(&self) -> u64 {
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |time| {
            time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
        })
    }

    fn send(&mut self, cube: &Name, port: u32, frame: &[u8]) -> Result<()> {
        self.send_frame(cube, port, frame)
    }

    fn run(&mut self, program: &Program, frame: &[u8], times: u32) -> Result<()> {
        self.run_program(program, frame, times)
    }

    fn boot_time(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
    }

    fn check(
        &mut self,
        checks: &[Check],
        interrupt: &Interrupt,
    ) -> Vec<std::result::Result<(), String>> {
        checks::run(checks, interrupt)
    }

    fn take_routes(&mut self) -> Vec<String> {
        // The record was read just now; who takes the routes reads it for itself.
        let record = self.record.read(&self.pins);
        if record.is_ok_and(|record| record.is_none_or(|record| !crate::dynamic::takes(&record))) {
            return Vec::new();
        }
        match crate::dynamic::take(&self.root, &self.topology) {
            Ok(taken) => taken.iter().filter_map(Taken::sentence).collect(),
            Err(error) => vec![format!("routes of the kernel were not taken: {error}")],
        }
    }

    fn prepare(&mut self, steps: &[Step]) {
        self.ahead.expect(steps);
        self.go_ahead();
    }

    fn foresee(&mut self, steps: &[Step]) {
        self.ahead.foresee(steps);
        self.go_ahead();
    }

    fn apply(&mut self, op: &Op) -> Result<()> {
        self.apply_one(op)?;
        if Ahead::waits_for(op) {
            self.ahead.interface_is_done();
            self.go_ahead();
        }
        Ok(())
    }
}

impl LinuxKernel {
    fn apply_one(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::CreateNamespace(name) => self.interfaces.create_namespace(&self.topology, name),
            Op::DeleteNamespace(name) => self.interfaces.delete_namespace(name),
            Op::CreateVeth(name, veth) => {
                self.indices.clear();
                self.interfaces.create_veth(&self.topology, name, veth)
            }
            Op::ConfigureVeth { from, to, .. } => self.interfaces.configure_veth(from, to),
            Op::DeleteVeths(names) => {
                self.indices.clear();
                self.interfaces.delete_veths(&self.topology, names)
            }
            Op::CreateMap(pin, map) => {
                pins::ensure_mounted(&self.root)?;
                self.create_map(pin, map)
            }
            Op::CopyEntries { from, to } => {
                let (old, new) = (self.open(from)?, self.open(to)?);
                let shapes = (self.shape(from, &old)?, self.shape(to, &new)?);
                maps::copy((&old, &shapes.0), (&new, &shapes.1))
                    .map_err(|error| io("copy map", from, &error))
            }
            Op::WriteEntries { map, put, delete } => {
                let fd = self.open(map)?;
                let resolved = put
                    .iter()
                    .map(|(key, value)| Ok((key, self.resolve(value.view())?)));
                let resolved: Rows = resolved.collect::<Result<_>>()?;
                let shape = self.shape(map, &fd)?;
                maps::put(fd.as_fd(), &shape, &resolved)
                    .map_err(|error| io("write map", map, &error))?;
                maps::delete(fd.as_fd(), &shape, delete)
                    .map_err(|error| io("write map", map, &error))
            }
            Op::LoadProgram(pin, program) => self.load_program(pin, program),
            Op::SetSlot(slot, bank, program) => self.set_slot(slot, *bank, Some(program)),
            Op::Activate { bank, drain } => self.activate(*bank, *drain),
            Op::Drain => drain(),
            Op::ClearSlot(slot, bank) => self.set_slot(slot, *bank, None),
            Op::Attach(pin, attachment) => self.attach(pin, attachment),
            Op::UpdateLink {
                link,
                program,
                expected,
            } => self.update_link(link, program, *expected),
            Op::Detach(pin) => self.detach(pin),
            Op::Rename { from, to } => self.pins.rename(from, to),
            Op::Pin { pin, id } => self.pin(&open_by_id(*id)?, pin),
            Op::Unpin(pin) => self.pins.remove(pin),
            Op::WriteRecord(record) => {
                pins::ensure_mounted(&self.root)?;
                self.remove_leftover_names()?;
                self.record.write(&self.pins, record)
            }
            Op::MarkRecord { unfinished } => record::mark(&self.pins, *unfinished),
            Op::RemoveDirectory => {
                self.remove_leftover_names()?;
                self.pins.remove_all()
            }
        }
    }
}

/// A map for this pin, empty, and not pinned yet.
fn new_map(pin: &PinPath, shape: MapShape) -> Result<OwnedFd> {
    maps::create(pin.name().trim_end_matches('+'), shape).map_err(call)
}

/// A map that is not pinned.
fn open_by_id(id: u32) -> Result<OwnedFd> {
    let _raised = privilege::Raised::admin();
    bpf::map_by_id(id).map_err(call)
}

/// Waits until every program that runs now has come to its end.
fn drain() -> Result<()> {
    bpf::wait_for_programs().map_err(|error| io("wait for", "programs", &error))
}

/// A failed bpf(2) call.
fn call(error: bpf::Error) -> Error {
    match error.errno() {
        libc::EPERM => Error::Permission(format!("{error} (CAP_BPF and CAP_NET_ADMIN are needed)")),
        _ => Error::Call(error.to_string()),
    }
}

fn io(what: &str, object: impl std::fmt::Display, error: &std::io::Error) -> Error {
    let text = format!("{what} {object}: {error}");
    match error.raw_os_error() {
        Some(libc::EPERM) => Error::Permission(text),
        _ => Error::Call(text),
    }
}
