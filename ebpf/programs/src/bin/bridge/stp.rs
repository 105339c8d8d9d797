//! Spanning tree (IEEE 802.1D-2004, clause 17): what ports may do, and messages to and from the
//! engine in user space.

use aya_ebpf::{
    macros::map,
    maps::{Array, RingBuf},
};
use ebpf_abi::{
    address::Mac,
    bridge::FEATURE_STP,
    chain::MIN_PORTS,
    counters::DropReason,
    stp::{
        BPDU_FRAME, Bpdu, NO_BPDU_BYTES, STP_DISCARDING, STP_FORWARDING, STP_INSTANCES,
        STP_PORT_EDGE, STP_VLANS, StpPort, StpState, stp_state,
    },
};
use ebpf_programs::{Packet, Result, clock, ring, wire::Ethernet};

use crate::has;

/// Messages for the engine.
#[map(name = "bpdus")]
static BPDUS: RingBuf = RingBuf::with_byte_size(NO_BPDU_BYTES, 0);
/// Until when somebody listens, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
#[map(name = "listening")]
static LISTENING: Array<u64> = Array::with_max_entries(1, 0);
/// What is set for ports.
#[map(name = "stp_ports")]
static PORTS: Array<StpPort> = Array::with_max_entries(MIN_PORTS, 0);
/// Which instance a VLAN follows.
#[map(name = "stp_instances")]
static INSTANCES: Array<u32> = Array::with_max_entries(STP_VLANS, 0);
/// What each port may do in each instance.
#[map(name = "stp_states")]
static STATES: Array<StpState> = Array::with_max_entries(MIN_PORTS * STP_INSTANCES, 0);

/// True if the bridge takes part in a spanning tree.
#[inline(always)]
pub fn on() -> bool {
    has(FEATURE_STP)
}

/// The bridge group address (table 7-10): whatever a bridge does, it does not forward this.
#[inline(always)]
pub fn is_bridge_group(mac: Mac) -> bool {
    mac == Mac::new([0x01, 0x80, 0xc2, 0x00, 0x00, 0x00])
}

/// True for messages of a VLAN's own instance (PVST+). Those of a VLAN that follows the common
/// instance are nobody's here: they cross like any other frame, so that bridges on both sides
/// that have one see each other.
#[inline(always)]
pub fn is_for(ethernet: &Ethernet, vlan: u16) -> bool {
    ethernet.destination == Mac::new([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd]) && instance(vlan) != 0
}

/// The instance that a VLAN follows, 0 for the common one.
#[inline(always)]
fn instance(vlan: u16) -> u32 {
    INSTANCES.get(u32::from(vlan)).copied().unwrap_or(0)
}

/// Gives a message to the engine. `vlan` is 0 for what is outside of VLANs.
#[inline(always)]
pub fn take<P: Packet>(packet: &P, input: u32, vlan: u16) -> Result<()> {
    let header = Bpdu {
        port: input,
        vlan: u32::from(vlan),
        length: packet.len(),
    };
    let heard = LISTENING.get(0).is_some_and(|until| *until > clock::now());
    if heard && ring::copy::<P, Bpdu, BPDU_FRAME>(&BPDUS, header, packet, packet.len()) {
        Ok(())
    } else {
        Err(DropReason::Reserved)
    }
}

/// What a port may do with frames of a VLAN (17.5): one of the `STP_*` states. A port of which the
/// engine has said nothing forwards only if it is said to lead to no bridge.
#[inline(always)]
fn state(port: u32, vlan: u16) -> u32 {
    let Some(settings) = PORTS.get(port) else {
        return STP_DISCARDING;
    };
    match STATES.get(stp_state(port, instance(vlan))) {
        Some(state) if state.identity == settings.identity => state.state,
        _ if settings.flags & STP_PORT_EDGE != 0 => STP_FORWARDING,
        _ => STP_DISCARDING,
    }
}

/// True if stations are learned at a port.
#[inline(always)]
pub fn learns(port: u32, vlan: u16) -> bool {
    state(port, vlan) != STP_DISCARDING
}

/// True if frames of a VLAN pass a port, in both directions.
#[inline(always)]
pub fn forwards(port: u32, vlan: u16) -> bool {
    state(port, vlan) == STP_FORWARDING
}

/// True if a station that was last heard at this time is forgotten since (17.11).
#[inline(always)]
pub fn is_flushed(port: u32, vlan: u16, seen: u64) -> bool {
    on() && STATES
        .get(stp_state(port, instance(vlan)))
        .is_some_and(|state| seen <= state.flushed)
}
