//! What an engine knows, as it is in the bridge's tables.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::stp::{
    STP_DISCARDING, STP_FORWARDING, STP_IS_AGREED, STP_IS_DOWN, STP_IS_EDGE, STP_IS_GUARDED,
    STP_IS_RAPID, STP_IS_RECEIVED, STP_LEARNING, STP_NO_PORT, STP_ROLE_ALTERNATE, STP_ROLE_BACKUP,
    STP_ROLE_DESIGNATED, STP_ROLE_DISABLED, STP_ROLE_ROOT, StpBridge, StpKey, StpRole, StpTimes,
};

use crate::stp::{
    bridge::{Config, port_of},
    instance::Instance,
    memory::Memory,
    port::{Role, State},
    vector::{BridgeId, PortId, Times, Vector},
};

pub(super) fn bridge(instance: &Instance) -> StpBridge {
    let (root, cost) = instance.root();
    StpBridge {
        id: instance.settings().id.bytes(),
        root: root.bytes(),
        cost,
        root_port: instance.root_port().map_or(STP_NO_PORT, port_of),
        times: times(instance.root_times()),
        changes: instance.changes(),
    }
}

pub(super) const fn times(times: Times) -> StpTimes {
    StpTimes {
        message_age: times.message_age,
        max_age: times.max_age,
        hello_time: times.hello_time,
        forward_delay: times.forward_delay,
    }
}

/// What another engine left of ports that are still the same.
pub(super) fn memories(
    config: &Config,
    roles: &BTreeMap<StpKey, StpRole>,
) -> BTreeMap<(u16, u32), Memory> {
    let memory = |(key, role): (&StpKey, &StpRole)| {
        let port = u32::from(key.port);
        let same = config.ports.get(&port)?.identity == role.identity;
        let was_up = role.flags & (STP_IS_DOWN | STP_IS_GUARDED) == 0;
        let memory = Memory {
            role: decode_role(role.role)?,
            state: match u32::from(role.state) {
                STP_FORWARDING => State::Forwarding,
                STP_LEARNING => State::Learning,
                _ => State::Discarding,
            },
            designated: Vector {
                root: BridgeId::from_bytes(role.designated.root),
                cost: role.designated.cost,
                bridge: BridgeId::from_bytes(role.designated.bridge),
                port: PortId(role.designated.port),
            },
            times: Times {
                message_age: role.times.message_age,
                max_age: role.times.max_age,
                hello_time: role.times.hello_time,
                forward_delay: role.times.forward_delay,
            },
            received: role.flags & STP_IS_RECEIVED != 0,
            edge: role.flags & STP_IS_EDGE != 0,
            rstp: role.flags & STP_IS_RAPID != 0,
            agree: role.flags & STP_IS_AGREED != 0,
        };
        (same && was_up).then_some(((key.vlan, port), memory))
    };
    roles.iter().filter_map(memory).collect()
}

/// The ports at which a bridge was heard that should not be there.
pub(super) fn guarded(config: &Config, roles: &BTreeMap<StpKey, StpRole>) -> BTreeSet<u32> {
    let guarded = |(key, role): (&StpKey, &StpRole)| {
        let port = u32::from(key.port);
        let settings = config.ports.get(&port)?;
        let is = settings.identity == role.identity && role.flags & STP_IS_GUARDED != 0;
        (is && settings.guard).then_some(port)
    };
    roles.iter().filter_map(guarded).collect()
}

pub(super) const fn code(state: State) -> u32 {
    match state {
        State::Discarding => STP_DISCARDING,
        State::Learning => STP_LEARNING,
        State::Forwarding => STP_FORWARDING,
    }
}

pub(super) const fn role_code(role: Role) -> u32 {
    match role {
        Role::Disabled => STP_ROLE_DISABLED,
        Role::Root => STP_ROLE_ROOT,
        Role::Designated => STP_ROLE_DESIGNATED,
        Role::Alternate => STP_ROLE_ALTERNATE,
        Role::Backup => STP_ROLE_BACKUP,
    }
}

const fn decode_role(role: u32) -> Option<Role> {
    match role {
        STP_ROLE_DISABLED => Some(Role::Disabled),
        STP_ROLE_ROOT => Some(Role::Root),
        STP_ROLE_DESIGNATED => Some(Role::Designated),
        STP_ROLE_ALTERNATE => Some(Role::Alternate),
        STP_ROLE_BACKUP => Some(Role::Backup),
        _ => None,
    }
}
