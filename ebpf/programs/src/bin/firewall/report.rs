//! Packets that are reported to whoever reads the ring buffer.

use aya_ebpf::{macros::map, maps::RingBuf};
use ebpf_abi::firewall::{LOG_BYTES, LOG_INTERVAL, LOG_TOLERANCE, Report};
use ebpf_programs::clock;

use crate::{Seen, conntrack::STATE, limit};

#[map(name = "log")]
static LOG: RingBuf = RingBuf::with_byte_size(LOG_BYTES, 0);

/// Reports a packet, unless there are too many or nobody reads: those are counted.
#[inline(always)]
pub fn report(seen: &Seen) {
    let Some(shared) = STATE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the entry is always there.
    let due = unsafe { &raw mut (*shared).log_due };
    if !limit::take(due, LOG_INTERVAL, LOG_TOLERANCE) || !write(seen) {
        // SAFETY: as above; a lost race costs a count.
        unsafe { (*shared).unreported += 1 };
    }
}

/// False if there is no room.
#[inline(always)]
fn write(seen: &Seen) -> bool {
    let Some(mut record) = LOG.reserve::<Report>(0) else {
        return false;
    };
    let flow = &seen.work.flow;
    record.write(Report {
        time: clock::now(),
        key: flow.key,
        bytes: seen.work.bytes as u32,
        rule: seen.work.rule,
        identity: seen.work.identity,
        verdict: seen.work.verdict as u8,
        direction: seen.work.direction as u8,
        state: seen.work.state,
        tcp_flags: flow.tcp_flags,
        icmp_type: flow.icmp_type,
        icmp_code: flow.icmp_code,
        padding: [0; 6],
    });
    record.submit(0);
    true
}
