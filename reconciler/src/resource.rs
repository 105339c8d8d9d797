//! The vocabulary that desired and observed state share.
//!
//! A resource is one kernel object that a topology owns, or one slot of one. Pinned objects are
//! identified by their path below the topology's directory in bpffs.

mod content;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use topology_schema::{InterfaceName, MacAddr, Name};

use crate::{address::Address, digest::Digest};

pub use self::content::{Content, Entries, Entry};
pub use crate::template::{Template, TemplateView, Templates};

/// Path of a pinned object below the topology's directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinPath(String);

/// Ends the name of an object that is not in its place yet.
const STAGED: char = '+';

impl PinPath {
    /// From path components. bpffs refuses names with dots, which interfaces may have, and
    /// endpoints have slashes: both are escaped.
    pub fn new(components: &[&str]) -> Self {
        let escaped: Vec<String> = components
            .iter()
            .map(|component| {
                component
                    .replace('%', "%25")
                    .replace('.', "%2e")
                    .replace('/', "%2f")
            })
            .collect();
        Self(escaped.join("/"))
    }

    /// From a path as it is found in bpffs.
    pub fn found(path: String) -> Self {
        Self(path)
    }

    /// Where the object waits until it takes the place of this one.
    pub fn staged(&self) -> Self {
        Self(format!("{}{STAGED}", self.0))
    }

    /// Where a program is that serves while this one is exchanged.
    pub fn transitional(&self) -> Self {
        Self(format!("{}~{STAGED}", self.0))
    }

    /// True for what [`staged`](Self::staged) or [`transitional`](Self::transitional) makes.
    pub fn is_staged(&self) -> bool {
        self.0.ends_with(STAGED)
    }

    /// The text, as it is in bpffs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for PinPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network namespace of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Whose it is in a plan.
    pub owner: Address,
}

/// A pair of virtual Ethernet interfaces of ours, identified by its end in the host's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth {
    /// Whose it is in a plan.
    pub owner: Address,
    /// Says what the pair is for and carries our mark; the kernel shows it as an alias.
    pub alias: String,
    /// The other end.
    pub peer: VethPeer,
}

/// The end of a pair that is not its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPeer {
    /// Where it is; `None` is the host's namespace.
    pub namespace: Option<Name>,
    /// Its name there.
    pub name: InterfaceName,
    /// Its link-layer address; `None` leaves the kernel's.
    pub mac: Option<MacAddr>,
    /// Its MTU, as the other end's, in bytes.
    pub mtu: u32,
    /// Its addresses and prefix lengths.
    pub addresses: BTreeSet<(IpAddr, u8)>,
    /// Routes through it: destination, prefix length, next hop.
    pub routes: BTreeSet<(IpAddr, u8, IpAddr)>,
    /// Both ends are up.
    pub up: bool,
    /// Receive through NAPI: needed where XDP sends into the pair.
    pub gro: bool,
}

/// Type of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapKind {
    /// Hash that allocates entries when they come.
    Hash,
    /// Hash whose entries are set aside when it is made: they come and go several times faster.
    PreallocatedHash,
    /// Hash that forgets what was not used.
    LruHash,
    /// Array.
    Array,
    /// Array that programs only read, whose values begin where lines of the cache do if their size is a multiple of a line's.
    LineArray,
    /// Array that user space maps: memory.
    MappedArray,
    /// IPv4 prefixes in such memory ([`ebpf_abi::fib`]); its size is in words.
    FibV4,
    /// The same for IPv6; its size is in buckets.
    FibV6,
    /// A set of IPv4 prefixes that count, in such memory ([`ebpf_abi::prefix_set`]); its size is the prefixes that it has room for. Keys
    /// are ours, values the data plane's counters: a value that is wanted is zeros, and says nothing of what is counted.
    PrefixSetV4,
    /// The same for IPv6.
    PrefixSetV6,
    /// Array per CPU.
    PerCpuArray,
    /// Longest-prefix trie.
    LpmTrie,
    /// Programs to jump to.
    ProgramArray,
    /// Records for whoever reads them; its entries are bytes.
    RingBuf,
}

impl MapKind {
    /// True if entries come and go, so that there may be no room for one more.
    pub const fn may_be_full(self) -> bool {
        use MapKind::{Hash, LpmTrie, LruHash, PreallocatedHash};
        matches!(self, Hash | PreallocatedHash | LruHash | LpmTrie) || self.is_prefix_set()
    }

    /// True for sets of prefixes that count.
    pub const fn is_prefix_set(self) -> bool {
        matches!(self, Self::PrefixSetV4 | Self::PrefixSetV6)
    }
}

/// What a map is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Type.
    pub kind: MapKind,
    /// Bytes.
    pub key_size: u32,
    /// Bytes, of one CPU's value.
    pub value_size: u32,
    /// Entries.
    pub max_entries: u32,
}

impl MapShape {
    /// An array that has `len` entries once per bank.
    pub fn banked(kind: MapKind, value_size: usize, len: u32) -> Self {
        Self {
            kind,
            key_size: 4,
            value_size: value_size as u32,
            max_entries: ebpf_abi::chain::in_bank(len, 0),
        }
    }

    /// How many entries such an array has in each bank.
    pub fn banked_entries(&self) -> u32 {
        self.max_entries / ebpf_abi::chain::BANKS
    }

    /// True for arrays: entries cannot be deleted, only zeroed.
    pub fn is_array(&self) -> bool {
        matches!(
            self.kind,
            MapKind::Array | MapKind::LineArray | MapKind::PerCpuArray
        )
    }
}

/// One of the two copies of all slots and port tables. Packets stay in the one they came into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bank {
    /// The first, active when the topology is new.
    #[default]
    A,
    /// The second.
    B,
}

impl Bank {
    /// Both.
    pub const ALL: [Self; ebpf_abi::chain::BANKS as usize] = [Self::A, Self::B];

    /// The one that is not this one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Where an entry with this index is in the kernel's map.
    pub fn place(self, index: u32) -> u32 {
        ebpf_abi::chain::in_bank(index, self as u32)
    }

    /// A key in the kernel's map: of what ends with an index, the last four bytes.
    pub fn key(self, key: &[u8]) -> Vec<u8> {
        let mut own = Vec::with_capacity(key.len());
        self.extend_with_key(&mut own, key);
        own
    }

    /// The same, behind others.
    pub fn extend_with_key(self, keys: &mut Vec<u8>, key: &[u8]) {
        let Some((what, index)) = key.split_last_chunk::<4>() else {
            return keys.extend_from_slice(key);
        };
        keys.extend_from_slice(what);
        keys.extend_from_slice(&self.place(u32::from_ne_bytes(*index)).to_ne_bytes());
    }

    /// What [`Bank::key`] made a key of.
    pub fn without(key: &[u8]) -> Option<Vec<u8>> {
        let (what, place) = key.split_last_chunk::<4>()?;
        let index = u32::from_ne_bytes(*place) / ebpf_abi::chain::BANKS;
        Some([what, &index.to_ne_bytes()].concat())
    }

    /// In which bank an entry of the kernel's map is, by its key; `None` for a key without a place.
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let place = key.last_chunk::<4>()?;
        Some(Self::of_place(u32::from_ne_bytes(*place)))
    }

    /// In which bank the entry at this place of the kernel's map is.
    pub fn of_place(place: u32) -> Self {
        Self::ALL[(place % ebpf_abi::chain::BANKS) as usize]
    }
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Whose it is in a plan.
    pub owner: Address,
    /// What it is made with.
    pub shape: MapShape,
    /// What is in it.
    pub content: Content,
}

/// Hook a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Traffic control.
    Tc,
    /// The express data path.
    Xdp,
}

impl Hook {
    /// Name in pins.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        }
    }

    /// The entry point in every object, for a part of a cube (`ebpf_abi::chain::PARTS`).
    pub fn entry_point(self, part: u32) -> String {
        let first = match self {
            Self::Tc => "on_tc",
            Self::Xdp => "on_xdp",
        };
        match part {
            0 => first.to_owned(),
            part => format!("{first}_{part}"),
        }
    }
}

/// A program: an entry point of an object with its constants, on its maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Whose it is in a plan.
    pub owner: Address,
    /// Name of the object.
    pub object: &'static str,
    /// Which entry point.
    pub hook: Hook,
    /// Which of the programs that the cube is made of; 0 for the first or only one.
    pub part: u32,
    /// Read-only globals by name.
    pub globals: BTreeMap<&'static str, Template>,
    /// Maps by the name the object has for them.
    pub maps: BTreeMap<&'static str, PinPath>,
}

impl Program {
    /// A name that differs when anything that goes into the program does: the kernel keeps it
    /// with the program, so what is loaded can be compared with what should be. `None` while
    /// an interface or a map does not exist.
    pub fn fingerprint(
        &self,
        ifindex: impl Fn(&InterfaceName) -> Option<u32>,
        map_id: impl Fn(&PinPath) -> Option<u32>,
    ) -> Option<String> {
        let mut digest = Digest::new();
        digest.add(&crate::objects::digest(self.object));
        digest.add(self.hook.entry_point(self.part).as_bytes());
        for (name, value) in &self.globals {
            digest.add(name.as_bytes());
            digest.add(&value.resolve(&ifindex)?);
        }
        for (name, path) in &self.maps {
            digest.add(name.as_bytes());
            digest.add(&map_id(path)?.to_ne_bytes());
        }
        // 15 characters: two of the object for people, twelve for 60 bits.
        Some(format!("{}_{}", &self.object[..2], digest.text(12)))
    }
}

/// A slot of a program array. It is there once per bank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The array.
    pub map: PinPath,
    /// The entry, counted within a bank.
    pub index: u32,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.map, self.index)
    }
}

/// Where on an interface a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttachPoint {
    /// tcx, arriving packets.
    TcIngress,
    /// tcx, leaving packets.
    TcEgress,
    /// XDP in the driver.
    Xdp,
    /// XDP emulated by the kernel.
    XdpGeneric,
}

impl AttachPoint {
    /// The hook its programs are for.
    pub fn hook(self) -> Hook {
        match self {
            Self::TcIngress | Self::TcEgress => Hook::Tc,
            Self::Xdp | Self::XdpGeneric => Hook::Xdp,
        }
    }

    /// Name in pins and outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcIngress => "tc-ingress",
            Self::TcEgress => "tc-egress",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
        }
    }
}

/// A link: a program attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Whose it is in a plan.
    pub owner: Address,
    /// The interface, in the host's namespace.
    pub interface: InterfaceName,
    /// Where on it.
    pub point: AttachPoint,
    /// Which program.
    pub program: PinPath,
}
