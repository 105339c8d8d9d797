//! Who was sent to from an external port: address-dependent filtering (RFC 4787, 5). A table of its own, as
//! sessions are found by ports, too. Where it is full, those that were not sent to for long are strangers
//! again.

use aya_ebpf::{macros::map, maps::LruHashMap};
use ebpf_abi::{
    chain::Direction,
    flow::FlowKey,
    nat::{Contact, ContactKey, Mapping, Session},
};

use crate::rule;

#[map(name = "contacts")]
static CONTACTS: LruHashMap<ContactKey, Contact> = LruHashMap::with_max_entries(1024, 0);

/// Notes that a packet of a session leaves.
#[inline(never)]
pub fn note(session: *const Session, now: u64) {
    // SAFETY: entries of arrays are there forever; numbers may be of two sessions, if it ends at this
    // moment: nobody has that port then.
    let [external, inside] = unsafe { &(*session).keys };
    let contact = Contact {
        seen: now,
        inside: inside.source,
        port: inside.source_port,
        padding: [0; 6],
    };
    // Without room the answer comes from a stranger, if it comes from another port.
    let _unnoted = CONTACTS.insert(&key(external), &contact, 0);
}

/// True if the sender of a packet from outside was sent to by who has the port.
#[inline(never)]
pub fn is_known(packet: &FlowKey, mapping: *const Mapping, now: u64) -> bool {
    let Some(contact) = CONTACTS.get_ptr(&key(packet)) else {
        return false;
    };
    // SAFETY: the kernel keeps both entries while the program runs.
    let (contact, mapping) = unsafe { (&*contact, &*mapping) };
    contact.inside == mapping.address
        && contact.port == mapping.port
        && rule::is_recent(contact.seen, packet.protocol, now)
}

/// The key for packets from outside.
#[inline(always)]
fn key(packet: &FlowKey) -> ContactKey {
    ContactKey {
        external: packet.destination,
        remote: packet.source,
        port: packet.destination_port,
        protocol: packet.protocol,
        padding: 0,
    }
}

/// The keys of a session are by [`Direction`].
const _: () = assert!(Direction::Ingress as u32 == 0);
