//! The tables of storm control: limits, and how far each is used.

use ebpf_abi::bridge::{
    STORM_BROADCAST, STORM_MULTICAST, STORM_SORTS, STORM_UNKNOWN_UNICAST, StormLimit, StormLimits,
};
use topology_schema::{
    PacketRate,
    cube::bridge::{Spec, StormControl},
};

use crate::{
    cube::{Context, Table},
    resource::MapKind,
};

const SECOND: u64 = 1_000_000_000;
/// Parts of a second whose frames may come at once.
const BURST: u32 = 10;

/// Whether any port has a limit.
pub(super) fn is_limited(spec: &Spec) -> bool {
    let mut ports = spec.ports.values();
    ports.any(|port| !port.storm_control.is_unset())
}

/// Small where nobody reads it.
pub(super) fn limits(spec: &Spec, context: &Context<'_>) -> Table {
    let size = size_of::<StormLimits>();
    if !is_limited(spec) {
        return Table::banked("storm_limits", 1, size, Default::default());
    }
    let limited = context
        .linked_ports()
        .into_iter()
        .filter_map(|(name, index)| {
            let control = &spec.ports.get(name)?.storm_control;
            let bytes = bytemuck::bytes_of(&port_limits(control)).to_vec();
            (!control.is_unset()).then_some((index, bytes))
        });
    Table::banked("storm_limits", context.capacity(), size, limited.collect())
}

/// When the next frame of each port and sort is due.
pub(super) fn state(spec: &Spec, context: &Context<'_>) -> Table {
    let ports = if is_limited(spec) {
        context.capacity()
    } else {
        1
    };
    let entries = ports * STORM_SORTS as u32;
    Table::learned(
        "storm_state",
        MapKind::Array,
        entries,
        (4, size_of::<u64>()),
    )
}

fn port_limits(control: &StormControl) -> StormLimits {
    let mut limits = StormLimits::default();
    for (sort, rate) in [
        (STORM_BROADCAST, control.broadcast),
        (STORM_MULTICAST, control.multicast),
        (STORM_UNKNOWN_UNICAST, control.unknown_unicast),
    ] {
        if let Some(rate) = rate {
            limits.sorts[sort] = limit(rate);
        }
    }
    limits
}

/// Rounded so that no more than the rate passes.
fn limit(rate: PacketRate) -> StormLimit {
    let interval = SECOND.div_ceil(u64::from(rate.per_second()));
    let burst = (rate.per_second() / BURST).max(1);
    StormLimit {
        interval,
        tolerance: interval * u64::from(burst - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_a_second_may_come_at_once() {
        let limit = |rate| limit(PacketRate::new(rate).expect("in range"));
        let limits = [
            (1, SECOND, 0),
            (15, 66_666_667, 0),
            (1000, 1_000_000, 99_000_000),
            (10_000_000, 100, 99_999_900),
        ];
        for (rate, interval, tolerance) in limits {
            assert_eq!(
                limit(rate),
                StormLimit {
                    interval,
                    tolerance
                },
                "{rate}"
            );
        }
    }
}
