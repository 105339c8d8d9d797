//! The way back into a cube for what its program gave away: TAP interfaces that lead to its own
//! slot, past all stacks.

use std::{
    collections::{BTreeMap, btree_map},
    io as std_io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use bytemuck::bytes_of;
use ebpf_abi::entry::{ENTRY_RETURNS, Entry};
use topology_schema::Name;

use super::{
    LinuxKernel, TCX_INGRESS,
    bpf::{self, LinkTarget, MapInfo},
    io,
    programs::{Material, load},
    tap::{self, Tap},
};
use crate::{
    address::Address,
    kernel::{Error, Result},
    resource::{Hook, PinPath, Program, Template},
    wiring,
};

/// Doors that nothing goes through are closed after this time.
const IDLE: Duration = Duration::from_secs(30);

/// Ways back into the cube, by the port at which packets had come in.
#[derive(Default)]
pub(super) struct Doors {
    /// Kernel id of the chain they lead to.
    chain: u32,
    by_port: BTreeMap<u32, Door>,
}

struct Door {
    tap: Tap,
    /// Attaches the program, while it lives.
    _link: OwnedFd,
    used: Instant,
}

impl Doors {
    /// Lets a frame come in at a port of a cube, as one that it gave away. What becomes of it has
    /// happened when this returns.
    ///
    /// # Errors
    ///
    /// There is no way in. The frame is lost.
    pub(super) fn arrive(
        &mut self,
        kernel: &mut LinuxKernel,
        cube: &Name,
        port: u32,
        frame: &[u8],
    ) -> Result<()> {
        let chain = wiring::cube_chain(cube, Hook::Tc);
        let id = kernel.map_id(&chain);
        if id != Some(self.chain) {
            *self = Self {
                chain: id.ok_or_else(|| Error::Call(format!("cube/{cube} is gone")))?,
                by_port: BTreeMap::new(),
            };
        }
        let door = match self.by_port.entry(port) {
            btree_map::Entry::Occupied(entry) => entry.into_mut(),
            btree_map::Entry::Vacant(entry) => entry.insert(open(kernel, cube, &chain, port)?),
        };
        door.used = Instant::now();
        door.tap
            .arrive(frame)
            .map_err(|error| io("give a packet back to", format!("cube/{cube}"), &error))
    }

    /// Closes ways that were not used lately.
    pub(super) fn close_unused(&mut self) {
        self.by_port.retain(|_, door| door.used.elapsed() < IDLE);
    }
}

fn open(kernel: &mut LinuxKernel, cube: &Name, chain: &PinPath, port: u32) -> Result<Door> {
    let program = kernel.load_door(chain, port)?;
    // Not the mark of what plans make: nothing in a plan knows of it.
    let alias = format!("pcn-watch:{}:{cube}", kernel.topology);
    let tap = Tap::open(&alias).map_err(no_way)?;
    let target = LinkTarget {
        ifindex: tap.index(),
        attach_type: TCX_INGRESS,
        flags: 0,
    };
    let link = bpf::create_link(program.as_fd(), target)
        .map_err(|error| io("attach to", alias, &error))?;
    Ok(Door {
        tap,
        _link: link,
        used: Instant::now(),
    })
}

impl LinuxKernel {
    /// An object and what the kernel says of it.
    pub(super) fn open_with_info(&self, pin: &PinPath) -> Result<(OwnedFd, MapInfo)> {
        let fd = self.open(pin)?;
        let info = bpf::info(fd.as_fd()).map_err(|error| io("read map", pin, &error))?;
        Ok((fd, info))
    }

    /// The kernel id of a map, if it is there.
    pub(super) fn map_id(&self, pin: &PinPath) -> Option<u32> {
        self.open_with_info(pin).ok().map(|(_, info)| info.id)
    }

    /// A program that leads to a cube, past all stacks. It does not keep the chain filled: that
    /// takes a descriptor or a pin.
    fn load_door(&mut self, chain: &PinPath, port: u32) -> Result<OwnedFd> {
        let (fd, info) = self.open_with_info(chain)?;
        let entry = Entry {
            // `CubeChain::own`, counted from the end of a bank.
            slot: info.max_entries / ebpf_abi::chain::BANKS - ebpf_abi::chain::PARTS,
            port,
            flags: ENTRY_RETURNS,
        };
        let active = wiring::active();
        let (first, second) = wiring::chain_names(Hook::Tc);
        let (other, bank) = (self.open(chain)?, self.open(&active)?);
        let program = Program {
            owner: Address::topology(),
            object: "entry",
            hook: Hook::Tc,
            part: 0,
            globals: BTreeMap::from([(wiring::ENTRY, Template::plain(bytes_of(&[entry; 2])))]),
            maps: BTreeMap::from([
                (first, chain.clone()),
                (second, chain.clone()),
                ("active", active),
            ]),
        };
        let maps = [(first, fd), (second, other), ("active", bank)];
        let material = Material {
            maps: maps.map(|(name, fd)| (name, Arc::new(fd))).into(),
            indices: BTreeMap::new(),
        };
        load(&self.objects, chain, &program, &material)
    }
}

fn no_way(error: tap::Error) -> Error {
    match &error {
        tap::Error::Device(device) if device.kind() == std_io::ErrorKind::PermissionDenied => {
            Error::Permission(error.to_string())
        }
        tap::Error::Device(_) | tap::Error::Netlink(_) => Error::Call(error.to_string()),
    }
}
