//! What the reconciler knows of each kind of cube: its driver. Everything else is generic.

mod bridge;
mod ddos_mitigator;
mod firewall;
mod forwarder;
mod hello;
mod hello_transparent;
mod nat;
mod router;

pub use bridge::stp as spanning_tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicU64,
};

use ebpf_abi::chain::{CubeChain, Direction};
use serde_json::Value;
use topology_schema::{Cube, CubeKind, Endpoint, MacAddr, Name};

use crate::{
    allocation::Allocation,
    classify,
    digest::Digest,
    down::Down,
    graph::TopologyGraph,
    reports::Report,
    resource::{Content, Entries, Hook, MapKind, MapShape, Template},
    rows::Rows,
};

/// Answers the questions that differ from kind to kind.
pub trait CubeDriver: Sync {
    /// Name of the data plane's object.
    fn object(&self) -> &'static str;

    /// How many programs the object has for a hook: the first one, and those it leaves rare work
    /// to. At most [`PARTS`](ebpf_abi::chain::PARTS).
    fn parts(&self, _hook: Hook) -> u32 {
        1
    }

    /// True if a transparent cube with these settings has a second program for each of its first ones in a
    /// direction, told its slot as the global `PART`.
    fn has_second(&self, _cube: &Cube, _direction: Direction) -> bool {
        false
    }

    /// True if what leaves through a transparent cube with these settings may turn round there: its programs
    /// for packets that leave are told where, as the global `TURN`.
    fn turns(&self, _cube: &Cube) -> bool {
        false
    }

    /// The tables and read-only globals that a cube's settings come to. Pure.
    fn lower(&self, context: &Context<'_>) -> Lowered;

    /// True if frames may have to be copied to several ports.
    fn floods(&self) -> bool {
        false
    }

    /// True if the cube's ports are stations: they have link-layer addresses, and frames end
    /// there. Frames pass through all other cubes.
    fn routes(&self) -> bool {
        false
    }

    /// True if a transparent cube answers packets that it does not let pass: its programs are told
    /// the way back, as the global `BACK`.
    fn answers(&self) -> bool {
        false
    }

    /// Frames that a port sends once it is live, without being asked: each complete, its source the
    /// port's link-layer address.
    fn announcements(&self, _context: &Context<'_>, _port: &Name) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Flags of a port in the port table that follow from the cube's settings
    /// ([`ebpf_abi::port`]).
    fn port_flags(&self, _cube: &Cube, _port: &Name) -> u32 {
        0
    }

    /// What of the cube stands still unless `pcn watch` runs. Its table `listening` says until when
    /// one does.
    fn watched(&self, _cube: &Cube) -> Option<&'static str> {
        None
    }

    /// Ports of the cube whose links decide what is in its tables: whether they lead anywhere, and
    /// whether what they lead to has a carrier ([`Context::down`]).
    fn depends_on_links_of<'a>(&self, _cube: &'a Cube) -> BTreeSet<&'a Name> {
        BTreeSet::new()
    }

    /// What gets numbers of the driver's own that stay with it
    /// ([`Allocation::number`]), and how many that follow one another. What has other content is
    /// something else: it must not have the same name.
    fn numbered(&self, _cube: &Cube) -> BTreeMap<String, u32> {
        BTreeMap::new()
    }

    /// Lists of rules of which the first that matches decides, in the order of the data plane's
    /// numbers of lists. They get numbers that stay with them ([`Allocation::rules`]).
    fn rule_lists(&self, _cube: &Cube) -> Vec<Vec<classify::Rule>> {
        Vec::new()
    }

    /// How many entries tables will have room for if a list in these settings that has at least `kept` items gets `more` of
    /// the same kind; `entries` says what a table has in it with those that there are. `None` if there is no such
    /// list, or more than one, or nobody knows. It is a guess.
    fn grown<'a>(
        &self,
        _cube: &Cube,
        (_kept, _more): (usize, usize),
        _entries: &dyn Fn(&str) -> Option<Entries<'a>>,
    ) -> Option<Vec<(&'static str, u32)>> {
        None
    }

    /// How a person names a table's entry: `routes/10.0.0.0/8`. `None` for entries that follow
    /// from links.
    fn describe(&self, _table: &str, _key: &[u8]) -> Option<String> {
        None
    }

    /// What a table's value means to people; `None` leaves its bytes.
    fn value(&self, _table: &str, _value: &[u8]) -> Option<Value> {
        None
    }

    /// Fields of the settings that are lists, and by which field their items are told apart, or by
    /// which fields, with spaces between them; an empty name stands for the item itself. A list in a
    /// mapping is named `FIELD/MEMBER`, and all that a mapping has by the `FIELD`; order matters in
    /// those that are named `FIELD/rules`.
    fn lists(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// What there is to show beyond ports and attachments, read from the tables.
    fn show(
        &self,
        _tables: &dyn Tables,
        _ports: &BTreeMap<u32, String>,
    ) -> serde_json::Map<String, Value> {
        serde_json::Map::new()
    }

    /// The same, of what can only be read with the settings.
    fn details(
        &self,
        _context: &Context<'_>,
        _tables: &dyn Tables,
    ) -> serde_json::Map<String, Value> {
        serde_json::Map::new()
    }

    /// What a record of the cube's table `log` says; `None` for a cube that reports no packets.
    fn report(&self, _context: &Context<'_>, _record: &[u8]) -> Option<Report> {
        None
    }

    /// How a list of [`show`](Self::show) that the data plane has learned is forgotten: a table, a key
    /// and the value that says so. `now` is in nanoseconds of the data planes' clock. `None` if the
    /// list cannot be.
    fn flush(&self, _list: &str, _now: u64) -> Option<(&'static str, Vec<u8>, Vec<u8>)> {
        None
    }

    /// A program of the cube's object, for TC, that removes what was forgotten like this, so that no packet has to: see
    /// [`Sweep`]. `first` reads the first entry of a table. `None` where nothing is left to do.
    fn sweep(&self, _list: &str, _first: &mut dyn FnMut(&str) -> Option<Vec<u8>>) -> Option<Sweep> {
        None
    }

    /// The same for a list that is a table, of which removing the entries is all it takes.
    fn flushed_table(&self, _list: &str) -> Option<&'static str> {
        None
    }

    /// What there is to show of a port beyond its link and counters.
    fn port_details(&self, _cube: &Cube, _port: &Name) -> serde_json::Map<String, Value> {
        serde_json::Map::new()
    }
}

/// A program that is run on a frame of zeros, and not by packets.
#[derive(Debug)]
pub struct Sweep {
    /// Which of the object's programs.
    pub part: u32,
    /// Its read-only globals.
    pub globals: BTreeMap<&'static str, Template>,
    /// The tables it has.
    pub tables: &'static [&'static str],
    /// How often it is to run.
    pub times: u32,
}

/// Reads the tables of one running cube.
pub trait Tables {
    /// All entries of a table; the values of all CPUs for tables that are per CPU. Empty when
    /// it cannot be read.
    fn entries(&self, table: &str) -> Vec<(Vec<u8>, Vec<Vec<u8>>)>;
    /// What a table shares with user space; nothing when it cannot be read.
    fn memory(&self, table: &str) -> Box<dyn AsRef<[AtomicU64]>>;
    /// Nanoseconds of the data planes' clock.
    fn now(&self) -> u64;
}

/// The driver of a kind. The one place that knows all of them.
pub fn driver_for(kind: CubeKind) -> &'static dyn CubeDriver {
    match kind {
        CubeKind::Bridge => &bridge::Driver,
        CubeKind::DdosMitigator => &ddos_mitigator::Driver,
        CubeKind::Firewall => &firewall::Driver,
        CubeKind::Forwarder => &forwarder::Driver,
        CubeKind::Hello => &hello::Driver,
        CubeKind::HelloTransparent => &hello_transparent::Driver,
        CubeKind::Nat => &nat::Driver,
        CubeKind::Router => &router::Driver,
    }
}

/// What a driver may look at.
pub struct Context<'a> {
    /// The cube's name.
    pub name: &'a Name,
    /// Its settings.
    pub cube: &'a Cube,
    /// The topology around it.
    pub graph: &'a TopologyGraph<'a>,
    /// Numbers of ports.
    pub allocation: &'a Allocation,
    /// Its lists of rules, if they were made already ([`CubeDriver::rule_lists`]).
    pub rules: Option<&'a [Vec<classify::Rule>]>,
    /// Ends of links that nothing passes now.
    pub down: &'a Down,
}

/// Lists of rules by cube, of those that have any ([`CubeDriver::rule_lists`]).
pub(crate) type RuleLists = BTreeMap<Name, Vec<Vec<classify::Rule>>>;

/// The lists of rules of all cubes.
pub(crate) fn rule_lists(graph: &TopologyGraph<'_>) -> RuleLists {
    let cubes = graph.topology().topology().spec.cubes.iter();
    let lists = cubes.map(|(name, cube)| {
        let lists = driver_for(cube.kind()).rule_lists(&cube.cube);
        (name.clone(), lists)
    });
    lists.filter(|(_, lists)| !lists.is_empty()).collect()
}

impl Context<'_> {
    /// The index of one of the cube's ports.
    pub fn port(&self, port: &Name) -> Option<u32> {
        self.allocation.port(self.name, port)
    }

    /// Ports the cube's tables have room for.
    pub fn capacity(&self) -> u32 {
        CubeChain::for_ports(self.allocation.port_limit(self.name)).capacity
    }

    /// Linked ports: name and index, in the order of indices.
    pub fn linked_ports(&self) -> Vec<(&str, u32)> {
        let mut ports: Vec<_> = self
            .allocation
            .ports(self.name)
            .filter(|(port, _)| {
                port.parse().is_ok_and(|port| {
                    self.graph
                        .peer(&Endpoint::Port {
                            cube: self.name.clone(),
                            port,
                        })
                        .is_some()
                })
            })
            .collect();
        ports.sort_by_key(|(_, index)| *index);
        ports
    }
}

/// Tables and constants.
#[derive(Debug, Default)]
pub struct Lowered {
    /// In the order in which entries that refer to one another must be written.
    pub tables: Vec<Table>,
    /// Read-only globals by name.
    pub globals: BTreeMap<&'static str, Template>,
}

/// A table of a cube.
#[derive(Debug)]
pub struct Table {
    /// Its name in the data plane's object.
    pub name: &'static str,
    /// What it is made with.
    pub shape: MapShape,
    /// What is in it.
    pub content: Content,
}

impl Table {
    /// A table with content of ours. `max_entries` should leave room to grow: a larger table is
    /// another table.
    pub fn config(
        name: &'static str,
        kind: MapKind,
        max_entries: u32,
        (key_size, value_size): (usize, usize),
        entries: impl Into<Rows>,
    ) -> Self {
        Self {
            name,
            shape: MapShape {
                kind,
                key_size: key_size as u32,
                value_size: value_size as u32,
                max_entries,
            },
            content: Content::Config(entries.into().into()),
        }
    }

    /// Shared memory whose content comes from elsewhere.
    pub fn memory(name: &'static str, values: u32, value_size: usize) -> Self {
        Self::learned(name, MapKind::MappedArray, values, (4, value_size))
    }

    /// An array with content of ours that says how things are wired: it changes together with
    /// the slots. `len` is the number of entries in one bank.
    pub fn banked(
        name: &'static str,
        len: u32,
        value_size: usize,
        entries: BTreeMap<u32, Vec<u8>>,
    ) -> Self {
        let entries = entries.into_iter();
        let entries = entries.map(|(at, value)| (index(at), value)).collect();
        Self::banked_rows(name, len, value_size, entries)
    }

    /// The same from entries whose keys are indices in the machine's byte order.
    pub fn banked_rows(name: &'static str, len: u32, value_size: usize, entries: Rows) -> Self {
        Self {
            name,
            shape: MapShape::banked(MapKind::Array, value_size, len),
            content: Content::Banked(entries.into()),
        }
    }

    /// The same where values are one or several lines of the cache, and begin with one.
    pub fn banked_lines(name: &'static str, len: u32, value_size: usize, entries: Rows) -> Self {
        Self {
            shape: MapShape::banked(MapKind::LineArray, value_size, len),
            ..Self::banked_rows(name, len, value_size, entries)
        }
    }

    /// A table whose content is the data plane's.
    pub fn learned(
        name: &'static str,
        kind: MapKind,
        max_entries: u32,
        (key_size, value_size): (usize, usize),
    ) -> Self {
        Self {
            name,
            shape: MapShape {
                kind,
                key_size: key_size as u32,
                value_size: value_size as u32,
                max_entries,
            },
            content: Content::Learned,
        }
    }
}

/// Entries a table with `count` of them is made for: with room to grow, so that most changes
/// are writes.
pub fn room_for(count: usize) -> u32 {
    (count as u32).next_power_of_two().max(1024)
}

/// Key of an array.
pub fn index(index: u32) -> Vec<u8> {
    index.to_ne_bytes().to_vec()
}

/// The link-layer address of something the file gives none: the same at every apply.
pub fn default_mac(topology: &Name, owner: &str) -> MacAddr {
    Digest::of(&["mac", topology.as_str(), owner]).mac()
}
