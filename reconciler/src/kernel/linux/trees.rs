//! A bridge's spanning tree in its tables: messages out of the ring buffer and back through TAP
//! interfaces, what ports may do, and what the engine knows.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use bytemuck::{Pod, bytes_of, pod_read_unaligned, try_pod_read_unaligned};
use ebpf_abi::stp::{Bpdu, STP_VLANS, StpBridge, StpKey, StpRole, StpState, stp_state};
use topology_schema::Name;

use super::{LinuxKernel, bpf, doors::Doors, io, maps, open_tables::OpenTables, ring::Ring};
use crate::{
    kernel::{Kernel as _, Result},
    record::Record,
};

const RING: &str = "bpdus";
const LISTENING: &str = "listening";
const INSTANCES: &str = "stp_instances";
const STATES: &str = "stp_states";
const BRIDGES: &str = "stp_bridges";
const ROLES: &str = "stp_roles";

/// What was applied last of a topology, and the kernel id of the map that says so: another one
/// whenever something was applied.
pub struct Applied {
    /// The record.
    pub record: Record,
    id: u32,
}

impl Applied {
    /// What says whether something was applied since.
    pub fn id(root: &Path, topology: &Name) -> Option<u32> {
        let kernel = LinuxKernel::new(topology.clone(), root).ok()?;
        kernel.map_id(&super::record::path())
    }

    /// Reads it, if it is another one than `known`. `None` if nothing is applied.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(
        root: &Path,
        topology: &Name,
        known: Option<&Self>,
    ) -> Result<Option<Option<Self>>> {
        let mut kernel = LinuxKernel::new(topology.clone(), root)?;
        let id = kernel.map_id(&super::record::path());
        if id == known.map(|known| known.id) {
            return Ok(None);
        }
        let record = kernel.record()?;
        Ok(Some(id.zip(record).map(|(id, record)| Self { record, id })))
    }
}

/// The tables of one bridge.
pub struct TreeTables {
    tables: OpenTables<6>,
    ring: Ring,
    listening: OwnedFd,
    instances: OwnedFd,
    states: OwnedFd,
    bridges: OwnedFd,
    roles: OwnedFd,
    doors: Doors,
}

impl TreeTables {
    /// Opens the tables of a bridge.
    ///
    /// # Errors
    ///
    /// They are not there, or not ours to open.
    pub fn open(root: &Path, topology: &Name, cube: &Name) -> Result<Self> {
        let names = [RING, LISTENING, INSTANCES, STATES, BRIDGES, ROLES];
        let (tables, opened) = OpenTables::open(root, topology, cube, names)?;
        let expected = [
            size_of::<StpState>(),
            size_of::<StpBridge>(),
            size_of::<StpRole>(),
        ];
        let [_, _, _, (_, states), (_, bridges), (_, roles)] = &opened;
        if [states, bridges, roles].map(|info| info.value_size as usize) != expected {
            return Err(tables.foreign());
        }
        let entries = opened[0].1.max_entries as usize;
        let [ring, listening, instances, states, bridges, roles] = opened.map(|(fd, _)| fd);
        let ring = Ring::new(ring, entries).map_err(|error| io("map", tables.pin(RING), &error))?;
        Ok(Self {
            tables,
            ring,
            listening,
            instances,
            states,
            bridges,
            roles,
            doors: Doors::default(),
        })
    }

    /// False once the bridge has other tables, or is gone.
    pub fn is_current(&self) -> bool {
        self.tables.is_current()
    }

    /// Nanoseconds of the data planes' clock.
    pub fn now(&self) -> u64 {
        self.tables.kernel.now()
    }

    /// Asks the bridge for messages until then, in nanoseconds of the data planes' clock.
    ///
    /// # Errors
    ///
    /// The table cannot be written.
    pub fn listen(&self, until: u64) -> Result<()> {
        self.put(&self.listening, LISTENING, bytes_of(&0u32), &until)
    }

    /// Takes out the messages that came in, with the port and the VLAN (0 for what is outside of
    /// VLANs).
    pub fn read(&mut self, mut each: impl FnMut(u32, u16, &[u8])) {
        self.ring.read(|record| {
            let (header, rest) = record.split_at(record.len().min(size_of::<Bpdu>()));
            if let Ok(header) = try_pod_read_unaligned::<Bpdu>(header)
                && let Some(frame) = rest.get(..header.length as usize)
            {
                each(header.port, header.vlan as u16, frame);
            }
        });
    }

    /// Sends a frame from a port, past the bridge and through the port's stack.
    ///
    /// # Errors
    ///
    /// There is no way in. The frame is lost.
    pub fn send(&mut self, port: u32, frame: &[u8]) -> Result<()> {
        let OpenTables { kernel, cube, .. } = &mut self.tables;
        self.doors.arrive(kernel, cube, port, frame)
    }

    /// Closes ways that were not used lately.
    pub fn close_unused(&mut self) {
        self.doors.close_unused();
    }

    /// Which instance each VLAN follows, for those that do not follow the common one.
    pub fn instances(&self) -> BTreeMap<u16, u32> {
        let number = |vlan: u16| {
            let key = u32::from(vlan);
            let found = bpf::lookup(self.instances.as_fd(), bytes_of(&key), size_of::<u32>());
            let number = pod_read_unaligned::<u32>(&found.ok().flatten()?);
            (number != 0).then_some((vlan, number))
        };
        (1..STP_VLANS as u16).filter_map(number).collect()
    }

    /// Lets a VLAN follow an instance.
    ///
    /// # Errors
    ///
    /// The table cannot be written.
    pub fn set_instance(&self, vlan: u16, instance: u32) -> Result<()> {
        let key = u32::from(vlan);
        self.put(&self.instances, INSTANCES, bytes_of(&key), &instance)
    }

    /// What a port may do in an instance.
    pub fn state(&self, port: u32, instance: u32) -> Option<StpState> {
        let key = stp_state(port, instance);
        let found = bpf::lookup(self.states.as_fd(), bytes_of(&key), size_of::<StpState>());
        found.ok().flatten().map(|value| pod_read_unaligned(&value))
    }

    /// Says what a port may do in an instance.
    ///
    /// # Errors
    ///
    /// The table cannot be written.
    pub fn set_state(&self, port: u32, instance: u32, state: StpState) -> Result<()> {
        let key = stp_state(port, instance);
        self.put(&self.states, STATES, bytes_of(&key), &state)
    }

    /// What was written of ports, by instance and port.
    pub fn roles(&self) -> BTreeMap<StpKey, StpRole> {
        self.all(&self.roles)
    }

    /// Writes what is known of instances and ports.
    ///
    /// # Errors
    ///
    /// A table cannot be written.
    pub fn publish(
        &self,
        bridges: &BTreeMap<StpKey, StpBridge>,
        roles: &BTreeMap<StpKey, StpRole>,
    ) -> Result<()> {
        self.replace(&self.bridges, BRIDGES, bridges)?;
        self.replace(&self.roles, ROLES, roles)
    }

    fn replace<V: Pod + PartialEq>(
        &self,
        map: &OwnedFd,
        name: &str,
        wanted: &BTreeMap<StpKey, V>,
    ) -> Result<()> {
        let found = self.all::<V>(map);
        for (key, value) in wanted {
            if found.get(key) != Some(value) {
                self.put(map, name, bytes_of(key), value)?;
            }
        }
        for key in found.keys().filter(|key| !wanted.contains_key(key)) {
            // What is gone need not be deleted.
            let _gone = bpf::delete(map.as_fd(), bytes_of(key));
        }
        Ok(())
    }

    fn all<V: Pod>(&self, map: &OwnedFd) -> BTreeMap<StpKey, V> {
        let info: Option<bpf::MapInfo> = bpf::info(map.as_fd()).ok();
        let entries = info
            .and_then(|info| maps::shape(&info))
            .and_then(|shape| maps::read(map.as_fd(), &shape).ok());
        entries
            .into_iter()
            .flatten()
            .filter_map(|(key, values)| {
                let value = try_pod_read_unaligned(values.first()?).ok()?;
                Some((try_pod_read_unaligned(&key).ok()?, value))
            })
            .collect()
    }

    fn put<V: Pod>(&self, map: &OwnedFd, name: &str, key: &[u8], value: &V) -> Result<()> {
        bpf::update(map.as_fd(), key, bytes_of(value))
            .map_err(|error| io("write", self.tables.pin(name), &error))
    }
}

impl AsFd for TreeTables {
    /// Readable when there is something to read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
