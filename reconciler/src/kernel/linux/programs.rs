//! Programs: loading, putting into slots, attaching.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use caps::Capability;
use topology_schema::InterfaceName;

use super::{
    LinuxKernel, TCX_EGRESS, TCX_INGRESS,
    bpf::{self, LinkTarget, MapInfo},
    call, io, new_map,
    object::{self, Objects},
    privilege::Raised,
};
use crate::{
    kernel::{Error, Result},
    plan::{Op, Step},
    resource::{AttachPoint, Attachment, Bank, PinPath, Program, Slot},
    wiring,
};

/// `BPF_XDP`
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`
const XDP_GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`
const XDP_DRIVER: u32 = 1 << 2;

impl LinuxKernel {
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
                    Some(shape) => new_map(pin, *shape)?,
                    None => self.open(pin)?,
                };
                maps.insert(*name, Arc::new(map));
            }
            // Interfaces that the plan makes have no index yet; any will do for the verifier.
            let indices = indices_for(program, |name| Ok(self.ifindex(name).unwrap_or(1)))?;
            let material = Material { maps, indices };
            load(&self.objects, path, program, &material)?;
            loaded += 1;
        }
        Ok(loaded)
    }

    /// What a program is loaded onto, as it is pinned.
    fn material(&mut self, program: &Program) -> Result<Material> {
        let mut maps = BTreeMap::new();
        for (name, path) in &program.maps {
            maps.insert(*name, Arc::new(self.open(path)?));
        }
        let indices = indices_for(program, |name| self.ifindex(name))?;
        Ok(Material { maps, indices })
    }

    pub(super) fn load_program(&mut self, pin: &PinPath, program: &Program) -> Result<()> {
        let indices = indices_for(program, |name| self.ifindex(name))?;
        let fd = match self.ahead.program(pin, program, &indices) {
            Some(fd) => fd,
            None => {
                let material = self.material(program)?;
                load(&self.objects, pin, program, &material)?
            }
        };
        self.pin(&fd, pin)
    }

    pub(super) fn run_program(
        &mut self,
        program: &Program,
        frame: &[u8],
        times: u32,
    ) -> Result<()> {
        // It is in no file: what is said of it names its object.
        let pin = PinPath::new(&[program.object]);
        let material = self.material(program)?;
        let fd = load(&self.objects, &pin, program, &material)?;
        bpf::test_run_repeated(fd.as_fd(), frame, times)
            .map_err(|error| io("run", &pin, &error))?;
        Ok(())
    }

    pub(super) fn attach(&mut self, pin: &PinPath, attachment: &Attachment) -> Result<()> {
        let program = self.open(&attachment.program)?;
        // The interface may have been made anew since it was last asked for.
        self.indices.remove(&attachment.interface);
        let ifindex = self.ifindex(&attachment.interface)?;
        let target = link_target(attachment.point, ifindex);
        let link = match self.ahead.link(pin, target) {
            // Until now its program let everything pass.
            Some(link) => bpf::update_link(link.as_fd(), program.as_fd(), None).map(|()| link),
            None => bpf::create_link(program.as_fd(), target),
        };
        let link = link.map_err(|error| attach_failed(attachment, &error))?;
        self.pin(&link, pin)
    }

    pub(super) fn update_link(
        &self,
        link: &PinPath,
        program: &PinPath,
        expected: u32,
    ) -> Result<()> {
        let (fd, new) = (self.open(link)?, self.open(program)?);
        let old = match expected {
            0 => None,
            id => Some(self.program(id, link)?),
        };
        bpf::update_link(fd.as_fd(), new.as_fd(), old.as_ref().map(AsFd::as_fd))
            .map_err(|error| io("update link", link, &error))
    }

    /// A program by its id: one that is pinned beside the link, any other with more privilege.
    fn program(&self, id: u32, link: &PinPath) -> Result<OwnedFd> {
        for pin in self.pins.beside(link)? {
            if !pin.name().starts_with("program-") {
                continue;
            }
            let fd = self.open(&pin)?;
            let info: bpf::ProgramInfo =
                bpf::info(fd.as_fd()).map_err(|error| io("read", &pin, &error))?;
            if info.id == id {
                return Ok(fd);
            }
        }
        let _admin = Raised::admin();
        bpf::program_by_id(id).map_err(call)
    }

    pub(super) fn detach(&self, link: &PinPath) -> Result<()> {
        if !self.pins.exists(link)? {
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

    /// Lets packets come into a bank from now on.
    pub(super) fn activate(&self, bank: Bank, drain: bool) -> Result<()> {
        let path = wiring::active();
        let map = self.open(&path)?;
        bpf::update(
            map.as_fd(),
            &0u32.to_ne_bytes(),
            &(bank as u32).to_ne_bytes(),
        )
        .map_err(|error| io("write map", &path, &error))?;
        if drain { super::drain() } else { Ok(()) }
    }

    pub(super) fn set_slot(
        &self,
        slot: &Slot,
        bank: Bank,
        program: Option<&PinPath>,
    ) -> Result<()> {
        let map = self.open(&slot.map)?;
        let key = bank.place(slot.index).to_ne_bytes();
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
}

/// Where a link attaches.
pub(super) fn link_target(point: AttachPoint, ifindex: u32) -> LinkTarget {
    let (attach_type, flags) = match point {
        AttachPoint::TcIngress => (TCX_INGRESS, 0),
        AttachPoint::TcEgress => (TCX_EGRESS, 0),
        AttachPoint::Xdp => (ATTACH_XDP, XDP_DRIVER),
        AttachPoint::XdpGeneric => (ATTACH_XDP, XDP_GENERIC),
    };
    LinkTarget {
        ifindex,
        attach_type,
        flags,
    }
}

/// What a program is loaded onto.
pub(super) struct Material {
    /// By the name the object has for them.
    pub(super) maps: BTreeMap<&'static str, Arc<OwnedFd>>,
    /// Of the interfaces in its constants.
    pub(super) indices: BTreeMap<InterfaceName, u32>,
}

/// The indices of the interfaces in a program's constants.
pub(super) fn indices_for(
    program: &Program,
    mut ifindex: impl FnMut(&InterfaceName) -> Result<u32>,
) -> Result<BTreeMap<InterfaceName, u32>> {
    let templates = program.globals.values();
    let names = templates.flat_map(|template| &template.ifindexes);
    names
        .map(|(_, name)| Ok((name.clone(), ifindex(name)?)))
        .collect()
}

/// Loads a program. It is not pinned yet.
pub(super) fn load(
    objects: &Objects,
    pin: &PinPath,
    program: &Program,
    material: &Material,
) -> Result<OwnedFd> {
    let mut ids = BTreeMap::new();
    for (name, fd) in &material.maps {
        let info: MapInfo =
            bpf::info(fd.as_fd()).map_err(|error| io("read map of", pin, &error))?;
        ids.insert(program.maps[name].clone(), info.id);
    }
    let of = |name: &InterfaceName| material.indices.get(name).copied();
    let fingerprint = program
        .fingerprint(of, |map| ids.get(map).copied())
        .ok_or_else(|| Error::Call(format!("load {pin}: an interface went away")))?;
    let globals = program
        .globals
        .iter()
        .filter_map(|(name, template)| {
            Some(((*name).to_owned(), template.resolve(of)?.into_owned()))
        })
        .collect();
    let fds = material
        .maps
        .iter()
        .map(|(name, fd)| ((*name).to_owned(), fd.as_fd()))
        .collect();
    let _no_barriers = Raised::new(Capability::CAP_PERFMON);
    let entry_point = program.hook.entry_point(program.part);
    objects
        .get(program.object)
        .and_then(|object| object.load(&entry_point, &fingerprint, &globals, &fds))
        .map_err(|error| refused(pin, error))
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
