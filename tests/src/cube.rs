//! One loaded program on maps of its own, and how to run it on a packet.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use bytemuck::{Pod, bytes_of, pod_read_unaligned};
use ebpf_abi::{
    chain::{CubeChain, MIN_PORTS, PARTS, in_bank},
    counters::Counters,
    entry::Metadata,
    port::{HOP_INTERFACE, HOP_PASS, HOP_PROGRAM, Hop, Port},
    transparent::Attachment,
};
use reconciler::kernel::linux::{
    bpf::{self, MapAttributes, MapType, possible_cpus},
    mapping::Memory,
    object::{self, Template},
    ring::Ring,
};

use crate::{
    private_net::LOOPBACK,
    tags,
    test_run::{Gso, Hook, Marks, Run, run_tc, run_xdp},
};

/// The global that says a second program's slot.
const PART: &str = "PART";

/// Constants of a program, by name.
pub type Globals = BTreeMap<String, Vec<u8>>;

/// A kind of cube: its object file, parsed.
pub struct Kind {
    name: &'static str,
    template: Template,
    maps: BTreeMap<String, MapAttributes>,
}

/// Room in tables that production sizes by the topology and the object declares as 1.
const ENTRIES: u32 = 1024;

impl Kind {
    /// The kind with this name in Rust.
    pub fn parse(name: &'static str) -> Self {
        let elf = elf(name);
        let object = aya_obj::Object::parse(elf).expect("our own object file");
        let maps = object
            .maps
            .iter()
            .filter(|(section, _)| !section.starts_with('.'))
            .map(|(map, definition)| (map.clone(), attributes(definition)))
            .collect();
        Self {
            name,
            template: Template::parse(name, elf).expect("our own object file"),
            maps,
        }
    }

    /// Loads the program for one hook. `capacities` override the number of a map's entries.
    pub fn load(&self, hook: Hook, globals: &Globals, capacities: &BTreeMap<&str, u32>) -> Cube {
        let mut attributes = self.maps.clone();
        for (map, entries) in capacities {
            attributes
                .get_mut(*map)
                .unwrap_or_else(|| panic!("no map {map}"))
                .max_entries = *entries;
        }
        let maps = attributes
            .into_iter()
            .map(|(name, attributes)| {
                let fd = bpf::create_map(&name, attributes).expect("root can make maps");
                (name, Map { fd, attributes })
            })
            .collect();
        let mut cube = Cube {
            hook,
            bank: hook as u32,
            tags_outside: false,
            program: None,
            parts: Vec::new(),
            maps,
        };
        cube.program = Some(cube.load_part(self, 0, globals, &[]));
        cube.load_parts(self, globals);
        cube
    }
}

include!(concat!(env!("OUT_DIR"), "/instruments.rs"));

/// The one place that knows where object files are: in the product, or beside it.
fn elf(name: &str) -> &'static [u8] {
    let beside = || INSTRUMENTS.iter().find(|(object, _)| *object == name);
    reconciler::objects::find(name)
        .or_else(|| beside().map(|(_, bytes)| *bytes))
        .unwrap_or_else(|| panic!("no object file for {name}"))
}

fn attributes(map: &aya_obj::Map) -> MapAttributes {
    let sized_by_topology =
        [MapType::Hash, MapType::PerCpuHash, MapType::LpmTrie].map(|kind| kind as u32);
    let declared = map.max_entries();
    let max_entries = if declared == 1 && sized_by_topology.contains(&map.map_type()) {
        ENTRIES
    } else {
        declared
    };
    MapAttributes {
        map_type: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries,
        flags: map.map_flags(),
    }
}

struct Map {
    fd: OwnedFd,
    attributes: MapAttributes,
}

/// A loaded program and its maps.
pub struct Cube {
    /// Where it runs.
    pub hook: Hook,
    /// The bank that packets are in; the other one is empty. Each hook is tested with another.
    pub bank: u32,
    /// On TC: the outermost tag of packets is taken out of them first, as the kernel does where a
    /// packet comes from an interface.
    pub tags_outside: bool,
    program: Option<OwnedFd>,
    parts: Vec<OwnedFd>,
    maps: BTreeMap<String, Map>,
}

impl Cube {
    /// The same kind with other constants, on the same tables.
    pub fn twin(&self, kind: &Kind, globals: &Globals) -> Self {
        let maps = self.maps.iter().map(|(name, map)| {
            let map = Map {
                fd: map.fd.try_clone().expect("a descriptor can be doubled"),
                attributes: map.attributes,
            };
            (name.clone(), map)
        });
        let mut twin = Self {
            hook: self.hook,
            bank: self.bank,
            tags_outside: self.tags_outside,
            program: Some(self.load_part(kind, 0, globals, &[])),
            parts: Vec::new(),
            maps: maps.collect(),
        };
        // Standard cubes know the slots of their parts, which are those of the other one.
        if globals.contains_key(PART) {
            twin.load_parts(kind, globals);
        }
        twin
    }

    /// Loads the kind's further programs, into the slots that are theirs: of a transparent cube's second one, `globals` say
    /// which.
    fn load_parts(&mut self, kind: &Kind, globals: &Globals) {
        let chain = CubeChain::for_ports(MIN_PORTS);
        let hook = self.hook;
        for part in (1..PARTS).filter(|part| kind.template.has(&hook.entry_point(*part))) {
            let program = self.load_part(kind, part, globals, &[]);
            let fd = program.as_raw_fd() as u32;
            let second = globals.get(PART).filter(|_| part == 1);
            let told = second.map(|slot| pod_read_unaligned(slot));
            self.write_banked(hook.chain(), told.unwrap_or(chain.part(part)), fd);
            self.parts.push(program);
        }
    }

    /// Loads a program of another kind (or the same) onto the maps of this one, as far as it
    /// has maps of that name; the others are made and end with the program. It counts by itself.
    fn load_with(&self, kind: &Kind, globals: &Globals) -> OwnedFd {
        self.load_part(kind, 0, globals, &["counters"])
    }

    /// Loads the first program again, with other constants, on the same maps.
    pub fn reload(&mut self, kind: &Kind, globals: &Globals) {
        self.program = Some(self.load_part(kind, 0, globals, &[]));
    }

    /// Loads one of the programs that a kind is made of, with other maps than this one's for
    /// `apart`.
    fn load_part(&self, kind: &Kind, part: u32, globals: &Globals, apart: &[&str]) -> OwnedFd {
        let own: BTreeMap<&String, OwnedFd> = kind
            .maps
            .iter()
            .filter(|(name, _)| !self.maps.contains_key(*name) || apart.contains(&name.as_str()))
            .map(|(name, attributes)| {
                (
                    name,
                    bpf::create_map(name, *attributes).expect("root can make maps"),
                )
            })
            .collect();
        let mut fds: BTreeMap<String, BorrowedFd<'_>> = self
            .maps
            .iter()
            .map(|(name, map)| (name.clone(), map.fd.as_fd()))
            .collect();
        fds.extend(own.iter().map(|(name, fd)| ((*name).clone(), fd.as_fd())));
        match kind
            .template
            .load(&self.hook.entry_point(part), kind.name, globals, &fds)
        {
            Ok(program) => program,
            Err(object::Error::Kernel(error)) => {
                panic!("{error}\n{}", error.log.as_deref().unwrap_or("(no log)"))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// How many instructions the verifier went through.
    pub fn verified_instructions(&self) -> u32 {
        bpf::verified_instructions(self.program()).expect("Linux 5.17")
    }

    /// The same of the kind's further programs.
    pub fn verified_instructions_of_parts(&self) -> Vec<u32> {
        let verified = |part: &OwnedFd| bpf::verified_instructions(part.as_fd());
        let parts = self.parts.iter().map(verified);
        parts.map(|count| count.expect("Linux 5.17")).collect()
    }

    /// The loaded program.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_ref().expect("loaded").as_fd()
    }

    fn map(&self, name: &str) -> &Map {
        self.maps
            .get(name)
            .unwrap_or_else(|| panic!("no map {name}"))
    }

    /// Writes an entry of a table.
    pub fn write<K: Pod, V: Pod>(&self, map: &str, key: K, value: V) {
        let map = self.map(map);
        assert_eq!(map.attributes.key_size as usize, size_of::<K>());
        assert_eq!(map.attributes.value_size as usize, size_of::<V>());
        bpf::update(map.fd.as_fd(), bytes_of(&key), bytes_of(&value)).expect("the table has room");
    }

    /// Writes an entry of a table, as the bytes that a plan has for it.
    pub fn write_bytes(&self, map: &str, key: &[u8], value: &[u8]) {
        let map = self.map(map);
        assert_eq!(map.attributes.key_size as usize, key.len());
        assert_eq!(map.attributes.value_size as usize, value.len());
        bpf::update(map.fd.as_fd(), key, value).expect("the table has room");
    }

    /// Writes an entry of a table that is there once per bank.
    pub fn write_banked<V: Pod>(&self, map: &str, index: u32, value: V) {
        self.write(map, in_bank(index, self.bank), value);
    }

    /// All entries of a hash.
    pub fn entries<K: Pod, V: Pod>(&self, map: &str) -> Vec<(K, V)> {
        let fd = self.map(map).fd.as_fd();
        let mut entries = Vec::new();
        let mut last: Option<Vec<u8>> = None;
        while let Some(key) =
            bpf::next_key(fd, last.as_deref(), size_of::<K>()).expect("a table can be read")
        {
            let typed = pod_read_unaligned(&key);
            entries.extend(self.read(map, typed).map(|value| (typed, value)));
            last = Some(key);
        }
        entries
    }

    /// Deletes an entry of a table.
    pub fn delete<K: Pod>(&self, map: &str, key: K) {
        bpf::delete(self.map(map).fd.as_fd(), bytes_of(&key)).expect("the table lets go");
    }

    /// Reads an entry of a table.
    pub fn read<K: Pod, V: Pod>(&self, map: &str, key: K) -> Option<V> {
        let map = self.map(map);
        assert_eq!(map.attributes.key_size as usize, size_of::<K>());
        assert_eq!(map.attributes.value_size as usize, size_of::<V>());
        bpf::lookup(map.fd.as_fd(), bytes_of(&key), size_of::<V>())
            .expect("a table can be read")
            .map(|value| pod_read_unaligned(&value))
    }

    /// The memory of an array that user space maps.
    pub fn memory(&self, map: &str) -> Memory {
        let map = self.map(map);
        let bytes = map.attributes.value_size as usize * map.attributes.max_entries as usize;
        Memory::new(&map.fd, bytes).expect("the array can be mapped")
    }

    /// Writes the first entries of an array.
    pub fn write_array<V: Pod>(&self, map: &str, values: &[V]) {
        for (index, value) in (0u32..).zip(values) {
            self.write(map, index, *value);
        }
    }

    /// Reads the first entries of an array.
    pub fn read_array<V: Pod>(&self, map: &str, count: usize) -> Vec<V> {
        let read = |index| self.read(map, index).expect("the array is as long");
        (0..count as u32).map(read).collect()
    }

    /// Takes the records out of a ring buffer.
    pub fn records(&self, map: &str) -> Vec<Vec<u8>> {
        let map = self.map(map);
        let fd = map.fd.try_clone().expect("a descriptor can be doubled");
        let mut ring = Ring::new(fd, map.attributes.max_entries as usize).expect("a ring buffer");
        let mut records = Vec::new();
        ring.read(|record| records.push(record.to_vec()));
        records
    }

    /// Writes an entry of a per-CPU table, the same for all CPUs.
    pub fn write_all_cpus<K: Pod, V: Pod>(&self, map: &str, key: K, value: V) {
        let mut one = bytes_of(&value).to_vec();
        one.resize(one.len().next_multiple_of(8), 0);
        bpf::update(
            self.map(map).fd.as_fd(),
            bytes_of(&key),
            &one.repeat(possible_cpus()),
        )
        .expect("the entry exists");
    }

    /// Reads an entry of a per-CPU table: the values of all CPUs.
    pub fn read_all_cpus<K: Pod, V: Pod>(&self, map: &str, key: K) -> Vec<V> {
        let stride = size_of::<V>().next_multiple_of(8);
        let values = bpf::lookup(
            self.map(map).fd.as_fd(),
            bytes_of(&key),
            stride * possible_cpus(),
        )
        .expect("a table can be read")
        .unwrap_or_default();
        values
            .chunks(stride)
            .map(|value| pod_read_unaligned(&value[..size_of::<V>()]))
            .collect()
    }

    /// The counters of the first `count` ports or attachments.
    pub fn counters(&self, count: u32) -> Vec<Counters> {
        (0..count)
            .map(|index| {
                let mut sum = Counters::default();
                self.read_all_cpus::<u32, Counters>("counters", index)
                    .iter()
                    .for_each(|cpu| sum.add(cpu));
                sum
            })
            .collect()
    }

    /// Lets ports lead to an interface: what is sent there is counted and goes nowhere.
    pub fn link_ports(&self, ports: std::ops::Range<u32>) {
        for port in ports {
            let hop = Hop {
                kind: HOP_INTERFACE,
                ifindex: LOOPBACK,
                port: 0,
            };
            self.write_banked(
                "ports",
                port,
                Port {
                    hop,
                    ..Port::default()
                },
            );
        }
    }

    /// Changes an entry of the port table.
    pub fn change_port(&self, index: u32, change: impl FnOnce(&mut Port)) {
        let mut port: Port = self
            .read("ports", in_bank(index, self.bank))
            .expect("the port is in the table");
        change(&mut port);
        self.write_banked("ports", index, port);
    }

    /// Lets a port lead to a program that lets everything pass, and to `next` of the cube
    /// behind it.
    pub fn lead_to_program(&self, port: u32, next: u32) {
        self.change_port(port, |entry| {
            entry.hop = Hop {
                kind: HOP_PROGRAM,
                ifindex: 0,
                port: next,
            }
        });
        self.put_passing_program(CubeChain::for_ports(MIN_PORTS).out(port));
    }

    /// The same; a tag that the packet has outside of it on TC is put back into it.
    pub fn lead_to_program_with_tags(&self, port: u32, next: u32) {
        self.lead_to_program(port, next);
        if self.hook == Hook::Tc {
            let program = tags::noting_program();
            let fd = program.as_raw_fd() as u32;
            let slot = CubeChain::for_ports(MIN_PORTS).out(port);
            self.write_banked(self.hook.chain(), slot, fd);
        }
    }

    /// Puts a program that lets everything pass into a slot of the chain.
    pub fn put_passing_program(&self, slot: u32) {
        self.put_passing_program_into(self.hook.chain(), slot);
    }

    /// The same in a chain with another name.
    pub fn put_passing_program_into(&self, chain: &str, slot: u32) {
        let hop = Hop {
            kind: HOP_PASS,
            ..Hop::default()
        };
        let attachment = Attachment {
            hop,
            ..Attachment::default()
        };
        let globals = Globals::from([("ATTACHMENT".to_owned(), bytes_of(&attachment).to_vec())]);
        let program = self.load_with(&Kind::parse("hello_transparent"), &globals);
        let fd = program.as_raw_fd() as u32;
        self.write_banked(chain, slot, fd);
    }

    /// Bytes of a packet that are outside of it when the program sees it.
    pub(crate) fn outside(&self, packet: &[u8]) -> usize {
        let outside = self.hook == Hook::Tc && self.tags_outside;
        if outside && tags::outermost(packet).is_some() {
            4
        } else {
            0
        }
    }

    /// Runs the program on a packet that comes in at `port`.
    pub fn run(&self, port: u32, packet: &[u8], gso: Gso) -> Run {
        self.run_from([port, 0, self.bank], packet, gso)
    }

    /// The same on a packet whose control block says that headers were moved.
    pub fn run_with_moved_headers(&self, port: u32, packet: &[u8]) -> Run {
        self.run_from([port, 1, self.bank], packet, Gso::default())
    }

    /// The same on a packet with this control block: port, whether headers were moved, bank.
    pub fn run_from(&self, control_block: [u32; 3], packet: &[u8], gso: Gso) -> Run {
        self.run_marked(control_block, Marks::default(), packet, gso)
    }

    /// The same on one of which something else is known.
    pub fn run_marked(
        &self,
        control_block: [u32; 3],
        marks: Marks,
        packet: &[u8],
        gso: Gso,
    ) -> Run {
        let [port, _, bank] = control_block;
        let noted = marks.noted;
        let program = self.program.as_ref().expect("loaded").as_fd();
        match self.hook {
            Hook::Tc => match tags::outermost(packet) {
                Some((kind, control)) if self.outside(packet) > 0 => {
                    let [first, _then] = tags::taking_program(program, kind, control);
                    run_tc(first.as_fd(), control_block, marks, packet, gso)
                }
                _ => run_tc(program, control_block, marks, packet, gso),
            },
            Hook::Xdp => {
                if self.maps.contains_key("metadata") {
                    self.write_all_cpus("metadata", 0u32, Metadata { port, bank, noted });
                }
                let (verdict, packet) = run_xdp(program, packet);
                let metadata = self.read_all_cpus::<u32, Metadata>("metadata", 0);
                // The CPU that ran the program is the one that changed its entry, if any did.
                let changed =
                    |metadata: &Metadata| metadata.port != port || metadata.noted != noted;
                let after = metadata.into_iter().find(changed);
                Run {
                    verdict,
                    packet,
                    port: after.map_or(port, |after| after.port),
                    noted: after.map_or(noted, |after| after.noted),
                    moved: 0,
                    outside: 0,
                }
            }
        }
    }
}
