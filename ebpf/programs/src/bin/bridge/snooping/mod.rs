//! Which ports want the packets of which IP multicast groups (RFC 4541), from the reports of hosts
//! (IGMP: RFC 1112, 2236, 3376; MLD: RFC 2710, 3810) and the queries of routers. All of it on TC:
//! XDP hands frames for groups over.
//!
//! Only while a querier is heard, and hosts had the time to answer it: without one, hosts report
//! once, when they join, and whoever joined before the bridge was there would get nothing.

mod igmp;
mod mld;
mod reading;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    cty::c_void,
    helpers::{bpf_for_each_map_elem, bpf_loop},
    macros::map,
    maps::HashMap,
};
use ebpf_abi::{
    address::{Be16, V4, V6},
    bridge::{
        FEATURE_SNOOPING, GROUP_ANY, MEMBERSHIP_INTERVAL, MdbEntry, MdbKey, NO_PORT,
        QUERIER_INTERVAL, ROBUSTNESS,
    },
    port::{PORT_BEHIND, PORT_MULTICAST_ROUTER},
};
use ebpf_programs::{
    Packet, standard,
    tc::Tc,
    wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6},
};

use self::reading::{is_sound, read};
use crate::{fdb, flood, has, vlan::Frame};

/// Who is known to want what: groups, their members, routers, queriers.
#[map(name = "mdb")]
static MDB: HashMap<MdbKey, MdbEntry> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Records that one report may have: as many as fit into a frame of 9000 bytes.
const MAX_RECORDS: u32 = 1125;
pub const FAMILY_V4: u16 = 4;
pub const FAMILY_V6: u16 = 6;

/// What a query of IGMPv3 (RFC 3376, 4.1) or MLDv2 (RFC 3810, 5.1) has behind the group.
#[repr(C)]
#[derive(Clone, Copy)]
struct QueryEnd {
    /// The flag S in bit 3.
    flags: u8,
    interval: u8,
    sources: Be16,
}

impl QueryEnd {
    /// Of a query that has none.
    const NONE: Self = Self {
        flags: 0,
        interval: 0,
        sources: Be16::new(0),
    };

    /// Timers are not to be changed (RFC 3376, 4.1.5).
    #[inline(always)]
    fn suppresses(self) -> bool {
        self.flags & 1 << 3 != 0
    }
}

/// How a record of a group begins (RFC 3376, 4.2.4; RFC 3810, 5.2.4).
#[repr(C)]
#[derive(Clone, Copy)]
struct Record {
    kind: u8,
    /// In units of 4 bytes.
    auxiliary: u8,
    sources: Be16,
}

const MODE_IS_INCLUDE: u8 = 1;
const MODE_IS_EXCLUDE: u8 = 2;
const CHANGE_TO_INCLUDE: u8 = 3;
const CHANGE_TO_EXCLUDE: u8 = 4;
const ALLOW_NEW_SOURCES: u8 = 5;

/// Which ports get a frame.
#[derive(Clone, Copy)]
pub struct Audience {
    to: To,
    /// The group, for [`To::Members`].
    key: MdbKey,
    now: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum To {
    All = 0,
    /// Those behind which a router was heard, or is by the settings.
    Routers = 1,
    /// Besides these, the members of the group.
    Members = 2,
}

/// What is known of the packet at hand. There is one, on a stack that is nearly full: it is the
/// context of all callbacks, and has the key that is looked at.
struct Message {
    tc: Tc,
    input: u32,
    /// What is behind that port.
    behind: u32,
    now: u64,
    vlan: u16,
    family: u16,
    /// Where to go on in the packet, and where the message ends.
    at: u32,
    end: u32,
    /// Sum of the bytes so far.
    sum: u32,
    /// Something could not be read, or noted.
    failed: bool,
    full: bool,
    key: MdbKey,
    until: u64,
}

impl Message {
    #[inline(always)]
    fn look_at(&mut self, address: V6, port: u32) {
        self.key = MdbKey {
            address,
            port,
            vlan: self.vlan,
            family: self.family,
        };
    }
}

impl Audience {
    /// Everyone: what holds without snooping.
    pub const ALL: Self = Self {
        to: To::All,
        key: MdbKey {
            address: GROUP_ANY,
            port: NO_PORT,
            vlan: 0,
            family: 0,
        },
        now: 0,
    };

    /// Finds out who gets a frame for a group, and learns from what IGMP and MLD say.
    #[inline(always)]
    pub fn find(&mut self, packet: &Tc, frame: &Frame, input: u32, now: u64) {
        if !has(FEATURE_SNOOPING) {
            return;
        }
        let (v4, v6) = (
            frame.ethertype == ETHERTYPE_IPV4,
            frame.ethertype == ETHERTYPE_IPV6,
        );
        if !v4 && !v6 {
            return;
        }
        let mut message = Message {
            tc: packet.again(),
            input,
            behind: standard::port(packet, input).map_or(0, |port| port.flags & PORT_BEHIND),
            now,
            vlan: frame.vlan,
            family: if v4 { FAMILY_V4 } else { FAMILY_V6 },
            at: 0,
            end: 0,
            sum: 0,
            failed: false,
            full: false,
            key: Self::ALL.key,
            until: 0,
        };
        message.look_at(GROUP_ANY, NO_PORT);
        let offset = u32::from(frame.offset);
        // What cannot be read is for everyone, as without snooping.
        let to = if v4 {
            igmp::audience(&mut message, offset)
        } else {
            mld::audience(&mut message, offset)
        };
        let to = to.unwrap_or(To::All);
        if message.full && fdb::may_sweep(now) {
            sweep(now);
        }
        // The group is the one that is looked at.
        self.key = message.key;
        self.now = now;
        if to == To::All || to == To::Members && !is_registered(&message.key, now) {
            return;
        }
        message.look_at(GROUP_ANY, NO_PORT);
        if is_registered(&message.key, now) {
            self.to = to;
        }
    }

    /// True if a port with these flags is among them.
    #[inline(always)]
    pub fn has(&self, output: u32, flags: u32) -> bool {
        if self.to == To::All || flags & PORT_MULTICAST_ROUTER != 0 {
            return true;
        }
        let behind = flags & PORT_BEHIND;
        let mut key = self.key;
        key.port = output;
        if self.to == To::Members && is_current(&key, behind, self.now) {
            return true;
        }
        key.address = GROUP_ANY;
        is_current(&key, behind, self.now)
    }
}

/// True if something was heard from behind the port, is not too old, and the network there is
/// still the same.
#[inline(always)]
fn is_current(key: &MdbKey, behind: u32, now: u64) -> bool {
    // SAFETY: the value is only read.
    unsafe { MDB.get(key) }.is_some_and(|entry| entry.until > now && entry.behind == behind)
}

/// True if the group has members, and all of them are known; without a group, if a querier is
/// heard, and hosts had the time to answer it.
#[inline(always)]
fn is_registered(key: &MdbKey, now: u64) -> bool {
    // SAFETY: the value is only read.
    unsafe { MDB.get(key) }.is_some_and(|entry| entry.until > now && entry.flood_until <= now)
}

/// A router, or a switch in its place (without a source address, RFC 4541, 2.1.1 (1)), asks who
/// is a member.
#[inline(always)]
fn query(message: &mut Message, from_router: bool, group: V6, end: QueryEnd, delay: u64) {
    let now = message.now;
    message.until = now + QUERIER_INTERVAL;
    if from_router {
        message.look_at(GROUP_ANY, message.input);
        put(message, 0);
    }
    // Hosts that were there before the querier was heard need time to answer it.
    message.look_at(GROUP_ANY, NO_PORT);
    // SAFETY: the value is only read.
    let heard = unsafe { MDB.get(&message.key) };
    let flood_until = match heard {
        Some(entry) if entry.until > now => entry.flood_until,
        _ => now + delay,
    };
    put(message, flood_until);
    if group != GROUP_ANY && !end.suppresses() && end.sources.get() == 0 {
        // Somebody has left: who does not answer is no member (RFC 2236, 3).
        message.look_at(group, NO_PORT);
        message.until = now + delay * ROBUSTNESS;
        let tc = message.tc.again();
        flood::for_each_port(&tc, expire as *mut c_void, (&raw mut *message).cast());
    }
}

/// Callback of `bpf_loop`: shortens the membership of a port.
extern "C" fn expire(index: u64, message: *mut Message) -> i64 {
    // SAFETY: the kernel hands the pointer on that `query` gave it.
    let message = unsafe { &mut *message };
    let Some(port) = flood::port_at(index as u32, message.tc.bank()) else {
        return 1;
    };
    message.key.port = port;
    if let Some(entry) = MDB.get_ptr_mut(&message.key) {
        // SAFETY: the kernel keeps the entry valid while the program runs.
        unsafe {
            if (*entry).until > message.until {
                (*entry).until = message.until;
            }
        }
    }
    0
}

/// A host behind the port is a member.
#[inline(always)]
fn join(message: &mut Message, group: V6) {
    message.until = message.now + MEMBERSHIP_INTERVAL;
    message.look_at(group, message.input);
    // A member that is not noted must not miss anything.
    let mut flood_until = if put(message, 0) { 0 } else { message.until };
    message.key.port = NO_PORT;
    // SAFETY: the value is only read.
    if let Some(entry) = unsafe { MDB.get(&message.key) }
        && entry.flood_until > flood_until
    {
        flood_until = entry.flood_until;
    }
    put(message, flood_until);
}

/// Writes the entry that is looked at; false if there is no room. Not inlined: the stack is full
/// where it is called.
#[inline(never)]
fn put(message: &mut Message, flood_until: u64) -> bool {
    let entry = MdbEntry {
        until: message.until,
        flood_until,
        behind: message.behind,
        reserved: 0,
    };
    if let Some(there) = MDB.get_ptr_mut(&message.key) {
        // SAFETY: the kernel keeps the entry valid while the program runs; what two CPUs write at
        // once are two reports of the same.
        unsafe { *there = entry };
        return true;
    }
    let noted = MDB.insert(&message.key, &entry, 0).is_ok();
    message.full |= !noted;
    noted
}

/// Removes what is too old.
#[inline(always)]
fn sweep(now: u64) {
    let mut now = now;
    // SAFETY: the callback has the signature that the helper wants, and `now` outlives the call.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const MDB).cast_mut().cast(),
            forget as *mut c_void,
            (&raw mut now).cast(),
            0,
        );
    }
}

/// Callback of `bpf_for_each_map_elem`: removes what is too old.
extern "C" fn forget(
    _map: *mut c_void,
    key: *const MdbKey,
    entry: *const MdbEntry,
    now: *const u64,
) -> i64 {
    // SAFETY: the kernel hands valid pointers to the callback.
    unsafe {
        if (*entry).until < *now && (*entry).flood_until < *now {
            let key = *key;
            let _already_gone = MDB.remove(&key);
        }
    }
    0
}

/// Learns from the records of a report. The one with the changes of a leave says no more than
/// that routers should ask.
#[inline(always)]
fn records(message: &mut Message, start: u32, end: u32, count: u16) {
    message.at = start;
    message.end = end;
    let count = u32::from(count);
    let count = if count > MAX_RECORDS {
        MAX_RECORDS
    } else {
        count
    };
    // SAFETY: the callback has the signature `bpf_loop` wants, and `message` outlives the call.
    unsafe { bpf_loop(count, record as *mut c_void, (&raw mut *message).cast(), 0) };
}

/// Callback of `bpf_loop`.
extern "C" fn record(_: u64, message: *mut Message) -> i64 {
    // SAFETY: the kernel hands the pointer on that `records` gave it.
    let message = unsafe { &mut *message };
    let v4 = message.family == FAMILY_V4;
    let address = if v4 { 4 } else { 16 };
    let group = message.at + size_of::<Record>() as u32;
    if group + address > message.end {
        return 1;
    }
    let Ok(record) = read::<Record>(&message.tc, message.at) else {
        return 1;
    };
    let sources = u32::from(record.sources.get());
    message.at = group + address * (1 + sources) + u32::from(record.auxiliary) * 4;
    let wanted = match record.kind {
        MODE_IS_EXCLUDE | CHANGE_TO_EXCLUDE => true,
        MODE_IS_INCLUDE | CHANGE_TO_INCLUDE | ALLOW_NEW_SOURCES => sources > 0,
        _ => false,
    };
    if !wanted {
        return 0;
    }
    if v4 {
        if let Ok(group) = read::<V4>(&message.tc, group)
            && group.bytes()[0] & 0xf0 == 0xe0
            && !igmp::is_link_local(group)
        {
            join(message, V6::from_v4(group));
        }
    } else if let Ok(group) = read::<V6>(&message.tc, group) {
        mld::join_v6(message, group);
    }
    0
}
