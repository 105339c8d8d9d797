//! Packets that a cube gives away to wait, and the way back into it.

use std::{
    collections::BTreeMap,
    io as std_io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use bytemuck::{bytes_of, pod_read_unaligned, try_pod_read_unaligned};
use ebpf_abi::{
    entry::{ENTRY_RETURNS, Entry},
    router::{Advertisement, Neighbor, NeighborKey, Waiting},
};
use topology_schema::Name;

use super::{
    LinuxKernel, TCX_INGRESS,
    bpf::{self, LinkTarget, MapInfo},
    io,
    ring::Ring,
    tap::{self, Tap},
};
use crate::{
    address::Address,
    kernel::{Error, Kernel as _, Result},
    resource::{Hook, PinPath, Program, Template},
    wiring,
};

/// Doors that nothing goes through are closed after this time.
const IDLE: Duration = Duration::from_secs(30);

/// Cubes of a topology that give packets away.
pub fn rooms(root: &Path, topology: &Name) -> Vec<Name> {
    let cubes = root.join(topology.as_str()).join("cubes");
    let entries = std::fs::read_dir(cubes).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().join(RING).exists())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

const RING: &str = "waiting";
const LISTENING: &str = "listening";
const NEIGHBORS: &str = "neighbors";
const ADVERTISEMENTS: &str = "advertisements";

/// Where the packets of one cube wait.
pub struct WaitingRoom {
    kernel: LinuxKernel,
    cube: Name,
    /// Kernel ids of what is open.
    tables: [u32; 3],
    ring: Ring,
    listening: OwnedFd,
    neighbors: OwnedFd,
    doors: Doors,
}

/// Ways back into the cube, by the port at which packets had come in.
#[derive(Default)]
struct Doors {
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

impl WaitingRoom {
    /// Opens the tables of a cube.
    ///
    /// # Errors
    ///
    /// They are not there, or not ours to open.
    pub fn open(root: &Path, topology: &Name, cube: &Name) -> Result<Self> {
        let kernel = LinuxKernel::new(topology.clone(), root)?;
        let open = |table: &str| kernel.open_with_info(&wiring::table(cube, table));
        let (ring, ring_info) = open(RING)?;
        let (listening, listening_info) = open(LISTENING)?;
        let (neighbors, neighbors_info) = open(NEIGHBORS)?;
        let expected = (size_of::<NeighborKey>(), size_of::<Neighbor>());
        let found = (neighbors_info.key_size, neighbors_info.value_size);
        if (found.0 as usize, found.1 as usize) != expected {
            return Err(Error::Call(format!("cube/{cube}: made by another pcn")));
        }
        let ring = Ring::new(ring, ring_info.max_entries as usize)
            .map_err(|error| io("map", wiring::table(cube, RING), &error))?;
        Ok(Self {
            cube: cube.clone(),
            tables: [ring_info.id, listening_info.id, neighbors_info.id],
            ring,
            listening,
            neighbors,
            doors: Doors::default(),
            kernel,
        })
    }

    /// False once the cube has other tables, or is gone.
    pub fn is_current(&self) -> bool {
        let id = |table: &str| self.kernel.map_id(&wiring::table(&self.cube, table));
        [RING, LISTENING, NEIGHBORS].map(id) == self.tables.map(Some)
    }

    /// Nanoseconds of the data planes' clock.
    pub fn now(&self) -> u64 {
        self.kernel.now()
    }

    /// Asks the cube to give packets away until then, in nanoseconds of the data planes' clock.
    pub fn listen(&self, until: u64) -> Result<()> {
        bpf::update(self.listening.as_fd(), bytes_of(&0u32), bytes_of(&until))
            .map_err(|error| io("write", wiring::table(&self.cube, LISTENING), &error))
    }

    /// Takes out what the cube has put there.
    pub fn read(&mut self, mut each: impl FnMut(Waiting, &[u8])) {
        self.ring.read(|record| {
            let (header, rest) = record.split_at(record.len().min(size_of::<Waiting>()));
            if let Ok(header) = try_pod_read_unaligned::<Waiting>(header)
                && let Some(frame) = rest.get(..header.length as usize)
            {
                each(header, frame);
            }
        });
    }

    /// What the cube knows of a neighbour.
    pub fn neighbor(&self, key: &NeighborKey) -> Option<Neighbor> {
        let found = bpf::lookup(self.neighbors.as_fd(), bytes_of(key), size_of::<Neighbor>());
        found.ok().flatten().map(|value| pod_read_unaligned(&value))
    }

    /// Lets a packet come in at a port for the second time, past the port's stack. What becomes
    /// of it has happened when this returns.
    ///
    /// # Errors
    ///
    /// There is no way in. The packet is lost.
    pub fn give_back(&mut self, port: u32, frame: &[u8]) -> Result<()> {
        let chain = wiring::cube_chain(&self.cube, Hook::Tc);
        let id = self.kernel.map_id(&chain);
        if id != Some(self.doors.chain) {
            self.doors = Doors {
                chain: id.ok_or_else(|| Error::Call(format!("cube/{} is gone", self.cube)))?,
                by_port: BTreeMap::new(),
            };
        }
        if !self.doors.by_port.contains_key(&port) {
            let door = self.door(&chain, port)?;
            self.doors.by_port.insert(port, door);
        }
        let Some(door) = self.doors.by_port.get_mut(&port) else {
            return Ok(());
        };
        door.used = Instant::now();
        door.tap.arrive(frame).map_err(|error| {
            io(
                "give a packet back to",
                format!("cube/{}", self.cube),
                &error,
            )
        })
    }

    /// The router advertisements that the cube is to send, by port.
    pub fn advertisements(&mut self) -> Vec<(u32, Advertisement)> {
        let table = wiring::table(&self.cube, ADVERTISEMENTS);
        let entries = self.kernel.read(&table).unwrap_or_default();
        let entries = entries.into_iter().filter_map(|(key, values)| {
            let port = try_pod_read_unaligned(&key).ok()?;
            let value = try_pod_read_unaligned(values.first()?).ok()?;
            Some((port, value))
        });
        entries.collect()
    }

    /// Sends a frame in the cube's name.
    pub fn send(&mut self, port: u32, frame: &[u8]) -> Result<()> {
        self.kernel.send_frame(&self.cube, port, frame)
    }

    /// Closes ways that were not used lately.
    pub fn close_unused(&mut self) {
        self.doors
            .by_port
            .retain(|_, door| door.used.elapsed() < IDLE);
    }

    fn door(&mut self, chain: &PinPath, port: u32) -> Result<Door> {
        let program = self.kernel.load_door(chain, port)?;
        // Not the mark of what plans make: nothing in a plan knows of it.
        let alias = format!("pcn-watch:{}:{}", self.kernel.topology, self.cube);
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
}

impl AsFd for WaitingRoom {
    /// Readable when there is something to read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl LinuxKernel {
    fn open_with_info(&self, pin: &PinPath) -> Result<(OwnedFd, MapInfo)> {
        let fd = self.open(pin)?;
        let info = bpf::info(fd.as_fd()).map_err(|error| io("read map", pin, &error))?;
        Ok((fd, info))
    }

    fn map_id(&self, pin: &PinPath) -> Option<u32> {
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
        let maps = BTreeMap::from([(first, fd), (second, other), ("active", bank)]);
        self.load(chain, &program, &maps, Self::ifindex)
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
