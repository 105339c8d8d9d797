//! Keys of connections.

use ebpf_abi::{
    firewall::asks_back,
    flow::{Flow, FlowKey},
};

/// Notes the key of the connection that a packet belongs to (`ebpf_abi::firewall::connection`); true if it is turned round
/// for it.
#[inline(always)]
pub fn note_key(key: &mut FlowKey, flow: &Flow) -> bool {
    const WORDS: usize = size_of::<FlowKey>() / 8;
    let is_turned = flow.key.is_turned();
    let from = (&raw const flow.key).cast::<u64>();
    let to = (&raw mut *key).cast::<u64>();
    // SAFETY: both are in `work`, at multiples of eight bytes. Volatile: the compiler would choose for each half of a word, or call
    // a function that copies byte by byte.
    unsafe {
        let word = |at: usize| from.add(at).read_volatile();
        if is_turned {
            to.write_volatile(word(2));
            to.add(1).write_volatile(word(3));
            to.add(2).write_volatile(word(0));
            to.add(3).write_volatile(word(1));
        } else {
            to.write_volatile(word(0));
            to.add(1).write_volatile(word(1));
            to.add(2).write_volatile(word(2));
            to.add(3).write_volatile(word(3));
        }
        to.add(WORDS - 1).write_volatile(word(WORDS - 1));
    }
    if is_turned {
        let ports = (flow.key.source_port, flow.key.destination_port);
        (key.destination_port, key.source_port) = ports;
    }
    key.padding[0] = asks_back(flow, is_turned);
    is_turned
}
