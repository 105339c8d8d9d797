//! The real kernel.

pub mod bpf;
mod interfaces;
pub mod lock;
mod maps;
pub mod netlink;
pub mod netns;
pub mod object;
pub mod pins;
pub mod probe;
mod record;

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::time::{ClockId, clock_gettime};
use topology_schema::{InterfaceName, Name};

use self::{
    bpf::{LinkInfo, LinkTarget, MapInfo, ProgramInfo},
    object::Template as ObjectTemplate,
    pins::Pins,
};
use super::{Entry, Error, Kernel, Result};
use crate::{
    objects,
    observed::{self, Interest, Observed},
    plan::{Op, Step},
    record::Record,
    resource::{AttachPoint, Attachment, Content, Map, PinPath, Program, Slot, Template},
};

/// `BPF_LINK_TYPE_XDP`
const LINK_XDP: u32 = 6;
/// `BPF_LINK_TYPE_TCX`
const LINK_TCX: u32 = 11;
/// `BPF_TCX_INGRESS`
const TCX_INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`
const TCX_EGRESS: u32 = 47;
/// `BPF_XDP`
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`
const XDP_GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`
const XDP_DRIVER: u32 = 1 << 2;

/// The kernel this process runs on, for one topology.
pub struct LinuxKernel {
    topology: Name,
    root: PathBuf,
    pins: Pins,
    /// Object files, parsed when they are first needed.
    templates: BTreeMap<&'static str, ObjectTemplate>,
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
            templates: BTreeMap::new(),
            interfaces: interfaces::Interfaces::default(),
            indices: BTreeMap::new(),
        })
    }

    /// Loads the programs of a plan onto throw-away maps and lets them go again: the verifier's
    /// opinion without a change. Says how many.
    pub fn verify(&mut self, steps: &[Step]) -> Result<usize> {
        let mut shapes = BTreeMap::new();
        for step in steps {
            if let Op::CreateMap(path, map) = &step.op {
                shapes.insert(path.clone(), map.shape);
            }
        }
        let mut loaded = 0;
        for step in steps {
            let Op::LoadProgram(path, program) = &step.op else {
                continue;
            };
            let mut maps = BTreeMap::new();
            for (name, pin) in &program.maps {
                let map = match shapes.get(pin) {
                    Some(shape) => maps::create(pin.name(), *shape).map_err(call)?,
                    None => self.open(pin)?,
                };
                maps.insert(*name, map);
            }
            // Interfaces that the plan makes have no index yet; any will do for the verifier.
            self.load(path, program, &maps, |this, name| {
                Ok(this.ifindex(name).unwrap_or(1))
            })?;
            loaded += 1;
        }
        Ok(loaded)
    }

    fn open(&self, pin: &PinPath) -> Result<OwnedFd> {
        bpf::open(&self.pins.path(pin)).map_err(call)
    }

    fn pin(&self, fd: &OwnedFd, pin: &PinPath) -> Result<()> {
        let path = self.pins.prepare(pin)?;
        bpf::pin(fd.as_fd(), &path).map_err(call)
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

    fn resolve(&mut self, template: &Template) -> Result<Vec<u8>> {
        let mut found = BTreeMap::new();
        for (_, name) in &template.ifindexes {
            found.insert(name.clone(), self.ifindex(name)?);
        }
        template
            .resolve(|name| found.get(name).copied())
            .ok_or_else(|| Error::Call("an interface went away".to_owned()))
    }

    fn create_map(&mut self, pin: &PinPath, map: &Map) -> Result<()> {
        let fd = maps::create(pin.name().trim_end_matches('+'), map.shape).map_err(call)?;
        if let Content::Config(entries) = &map.content {
            let mut resolved = BTreeMap::new();
            for (key, value) in entries {
                resolved.insert(key.clone(), self.resolve(value)?);
            }
            maps::put(fd.as_fd(), &resolved).map_err(|error| io("fill map", pin, &error))?;
        }
        self.pin(&fd, pin)
    }

    fn load_program(&mut self, pin: &PinPath, program: &Program) -> Result<()> {
        let mut maps = BTreeMap::new();
        for (name, path) in &program.maps {
            maps.insert(*name, self.open(path)?);
        }
        let fd = self.load(pin, program, &maps, Self::ifindex)?;
        self.pin(&fd, pin)
    }

    fn load(
        &mut self,
        pin: &PinPath,
        program: &Program,
        maps: &BTreeMap<&'static str, OwnedFd>,
        ifindex: impl Fn(&mut Self, &InterfaceName) -> Result<u32>,
    ) -> Result<OwnedFd> {
        let mut indices = BTreeMap::new();
        for (_, name) in program
            .globals
            .values()
            .flat_map(|template| &template.ifindexes)
        {
            indices.insert(name.clone(), ifindex(self, name)?);
        }
        let mut ids = BTreeMap::new();
        for (name, fd) in maps {
            let info: MapInfo =
                bpf::info(fd.as_fd()).map_err(|error| io("read map of", pin, &error))?;
            ids.insert(program.maps[name].clone(), info.id);
        }
        let of = |name: &InterfaceName| indices.get(name).copied();
        let fingerprint = program
            .fingerprint(of, |map| ids.get(map).copied())
            .ok_or_else(|| Error::Call(format!("load {pin}: an interface went away")))?;
        let globals = program
            .globals
            .iter()
            .filter_map(|(name, template)| Some(((*name).to_owned(), template.resolve(of)?)))
            .collect();
        let fds = maps
            .iter()
            .map(|(name, fd)| ((*name).to_owned(), fd.as_fd()))
            .collect();
        self.template(program.object)?
            .load(program.hook.entry_point(), &fingerprint, &globals, &fds)
            .map_err(|error| refused(pin, error))
    }

    fn template(&mut self, object: &'static str) -> Result<&ObjectTemplate> {
        if !self.templates.contains_key(object) {
            let bytes = objects::find(object)
                .ok_or_else(|| Error::Call(format!("there is no object {object}")))?;
            let template = ObjectTemplate::parse(object, bytes)
                .map_err(|error| Error::Call(error.to_string()))?;
            self.templates.insert(object, template);
        }
        Ok(&self.templates[object])
    }

    fn attach(&mut self, pin: &PinPath, attachment: &Attachment) -> Result<()> {
        let program = self.open(&attachment.program)?;
        // The interface may have been made anew since it was last asked for.
        self.indices.remove(&attachment.interface);
        let ifindex = self.ifindex(&attachment.interface)?;
        let (attach_type, flags) = match attachment.point {
            AttachPoint::TcIngress => (TCX_INGRESS, 0),
            AttachPoint::TcEgress => (TCX_EGRESS, 0),
            AttachPoint::Xdp => (ATTACH_XDP, XDP_DRIVER),
            AttachPoint::XdpGeneric => (ATTACH_XDP, XDP_GENERIC),
        };
        let link = bpf::create_link(
            program.as_fd(),
            LinkTarget {
                ifindex,
                attach_type,
                flags,
            },
        )
        .map_err(|error| attach_failed(attachment, &error))?;
        self.pin(&link, pin)
    }

    fn update_link(&self, link: &PinPath, program: &PinPath, expected: u32) -> Result<()> {
        let (fd, new) = (self.open(link)?, self.open(program)?);
        let old = match expected {
            0 => None,
            id => Some(bpf::program_by_id(id).map_err(call)?),
        };
        bpf::update_link(fd.as_fd(), new.as_fd(), old.as_ref().map(AsFd::as_fd))
            .map_err(|error| io("update link", link, &error))
    }

    fn detach(&self, link: &PinPath) -> Result<()> {
        if !self.pins.path(link).exists() {
            return Ok(());
        }
        let fd = self.open(link)?;
        // A link whose interface is gone is detached already.
        match bpf::detach_link(fd.as_fd()) {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                return Err(io("detach", link, &error));
            }
            _ => {}
        }
        self.pins.remove(link)
    }

    fn set_slot(&self, slot: &Slot, program: Option<&PinPath>) -> Result<()> {
        let map = self.open(&slot.map)?;
        let key = slot.index.to_ne_bytes();
        let result = match program {
            Some(program) => {
                use std::os::fd::AsRawFd;
                let program = self.open(program)?;
                bpf::update(map.as_fd(), &key, &program.as_raw_fd().to_ne_bytes())
            }
            None => bpf::delete(map.as_fd(), &key),
        };
        result.map_err(|error| io("set slot", slot, &error))
    }

    fn shape(&self, pin: &PinPath, map: &OwnedFd) -> Result<crate::resource::MapShape> {
        let info: MapInfo = bpf::info(map.as_fd()).map_err(|error| io("read map", pin, &error))?;
        maps::shape(&info).ok_or_else(|| Error::Call(format!("map {pin}: not a kind pcn makes")))
    }

    fn observe_pins(&self, interest: &Interest, observed: &mut Observed) -> Result<()> {
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
                let info: MapInfo = bpf::info(fd.as_fd()).map_err(failed)?;
                let shape = maps::shape(&info);
                let entries = match shape.filter(|_| interest.contents.contains(&pin)) {
                    Some(shape) => {
                        let entries = maps::read(fd.as_fd(), &shape).map_err(failed)?;
                        Some(
                            entries
                                .into_iter()
                                .map(|(key, values)| (key, values.concat()))
                                .collect(),
                        )
                    }
                    None => None,
                };
                observed.maps.insert(
                    pin,
                    observed::Map {
                        id: info.id,
                        shape,
                        entries,
                    },
                );
            }
        }
        self.observe_slots(interest, observed)
    }

    fn observe_slots(&self, interest: &Interest, observed: &mut Observed) -> Result<()> {
        let mut open: Option<(&PinPath, OwnedFd)> = None;
        for slot in interest
            .slots
            .iter()
            .filter(|slot| observed.maps.contains_key(&slot.map))
        {
            let map = match open.take() {
                Some((path, fd)) if *path == slot.map => fd,
                _ => self.open(&slot.map)?,
            };
            let value = bpf::lookup(map.as_fd(), &slot.index.to_ne_bytes(), 4)
                .map_err(|error| io("read slot", slot, &error))?;
            if let Some(id) =
                value.and_then(|value| Some(u32::from_ne_bytes(value.try_into().ok()?)))
            {
                observed.slots.insert(slot.clone(), id);
            }
            open = Some((&slot.map, map));
        }
        Ok(())
    }
}

impl Kernel for LinuxKernel {
    fn topology(&self) -> &Name {
        &self.topology
    }

    fn record(&mut self) -> Result<Option<Record>> {
        record::read(&self.pins)
    }

    fn observe(&mut self, interest: &Interest) -> Result<Observed> {
        let mut observed = Observed {
            record: record::read(&self.pins)?,
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

    fn now(&self) -> u64 {
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |time| {
            time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
        })
    }

    fn apply(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::CreateNamespace(name) => self.interfaces.create_namespace(&self.topology, name),
            Op::DeleteNamespace(name) => self.interfaces.delete_namespace(name),
            Op::CreateVeth(name, veth) => {
                self.indices.clear();
                self.interfaces.create_veth(name, veth)
            }
            Op::ConfigureVeth { from, to, .. } => {
                self.interfaces.configure_veth(&from.peer, &to.peer)
            }
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
                let shape = self.shape(from, &old)?;
                maps::copy(&old, &new, &shape).map_err(|error| io("copy map", from, &error))
            }
            Op::WriteEntries { map, put, delete } => {
                let fd = self.open(map)?;
                let mut resolved = BTreeMap::new();
                for (key, value) in put {
                    resolved.insert(key.clone(), self.resolve(value)?);
                }
                maps::put(fd.as_fd(), &resolved).map_err(|error| io("write map", map, &error))?;
                let shape = self.shape(map, &fd)?;
                maps::delete(fd.as_fd(), &shape, delete)
                    .map_err(|error| io("write map", map, &error))
            }
            Op::LoadProgram(pin, program) => self.load_program(pin, program),
            Op::SetSlot(slot, program) => self.set_slot(slot, Some(program)),
            Op::ClearSlot(slot) => self.set_slot(slot, None),
            Op::Attach(pin, attachment) => self.attach(pin, attachment),
            Op::UpdateLink {
                link,
                program,
                expected,
            } => self.update_link(link, program, *expected),
            Op::Detach(pin) => self.detach(pin),
            Op::Rename { from, to } => self.pins.rename(from, to),
            Op::Unpin(pin) => self.pins.remove(pin),
            Op::WriteRecord(record) => {
                pins::ensure_mounted(&self.root)?;
                record::write(&self.pins, record)
            }
            Op::RemoveDirectory => self.pins.remove_all(),
        }
    }
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

fn attach_failed(attachment: &Attachment, error: &std::io::Error) -> Error {
    let (interface, point) = (&attachment.interface, attachment.point.name());
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => Error::Foreign(format!(
            "interface/{interface}: another program has the {point} hook; `ip link show {interface}` names it, \
             pcn leaves it alone"
        )),
        Some(libc::EOPNOTSUPP) => Error::Unsupported(format!(
            "interface/{interface}: its driver has no {point}; use `hook: tc`"
        )),
        _ => Error::Call(format!("attach to {interface} at {point}: {error}")),
    }
}

/// A failed bpf(2) call.
fn call(error: bpf::Error) -> Error {
    match error.errno() {
        libc::EPERM => Error::Permission(format!("{error} (CAP_BPF and CAP_NET_ADMIN are needed)")),
        _ => Error::Call(error.to_string()),
    }
}

fn refused(pin: &PinPath, error: object::Error) -> Error {
    match error {
        object::Error::Kernel(error) => match error.log {
            Some(log) => Error::Verifier {
                message: format!("program {pin}: {}", error.source),
                log: tail(&log),
            },
            None => call(error),
        },
        object::Error::Object { .. } => Error::Call(error.to_string()),
    }
}

/// The last lines of a verifier's log: there it says why.
fn tail(log: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn io(what: &str, object: impl std::fmt::Display, error: &std::io::Error) -> Error {
    let text = format!("{what} {object}: {error}");
    match error.raw_os_error() {
        Some(libc::EPERM) => Error::Permission(text),
        _ => Error::Call(text),
    }
}
