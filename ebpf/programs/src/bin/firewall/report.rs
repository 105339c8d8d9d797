//! Packets that are reported to whoever reads the ring buffer.

use aya_ebpf::{macros::map, maps::RingBuf};
use ebpf_abi::firewall::{LOG_BYTES, LOG_INTERVAL, LOG_TOLERANCE, Report, Work};
use ebpf_programs::clock;

use crate::{conntrack::STATE, limit};

#[map(name = "log")]
static LOG: RingBuf = RingBuf::with_byte_size(LOG_BYTES, 0);

/// Reports a packet, unless there are too many or nobody reads: those are counted.
#[inline(always)]
pub fn report(work: &Work) {
    let Some(shared) = STATE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the entry is always there.
    let due = unsafe { &raw mut (*shared).log_due };
    if !limit::take(due, LOG_INTERVAL, LOG_TOLERANCE) || !write(work) {
        // SAFETY: as above; a lost race costs a count.
        unsafe { (*shared).unreported += 1 };
    }
}

/// False if there is no room.
#[inline(always)]
fn write(work: &Work) -> bool {
    let Some(mut record) = LOG.reserve::<Report>(0) else {
        return false;
    };
    let flow = &work.flow;
    record.write(Report {
        time: clock::now(),
        key: flow.key,
        bytes: work.bytes as u32,
        rule: work.rule,
        identity: work.identity,
        verdict: work.verdict as u8,
        direction: work.direction as u8,
        state: work.state,
        tcp_flags: flow.tcp_flags,
        icmp_type: flow.icmp_type,
        icmp_code: flow.icmp_code,
        padding: [0; 6],
    });
    record.submit(0);
    true
}
