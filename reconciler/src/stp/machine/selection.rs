//! Port role selection (IEEE 802.1D-2004, 17.28): the root, the way to it, and what each port is
//! for.

use crate::stp::{
    instance::Instance,
    port::{InfoIs, Role},
    vector::{PortId, Times, Vector},
};

pub fn step(instance: &mut Instance) -> bool {
    if !instance.ports.iter().any(|port| port.reselect) {
        return false;
    }
    // ROLE_SELECTION: `clearReselectTree`, `updtRolesTree`, `setSelectedTree`
    for port in &mut instance.ports {
        port.reselect = false;
    }
    update_roles(instance);
    for port in &mut instance.ports {
        port.selected = true;
    }
    true
}

/// `updtRolesTree` (17.21.25)
pub fn update_roles(instance: &mut Instance) {
    let own = instance.settings.id;
    let mut best = Vector {
        root: own,
        cost: 0,
        bridge: own,
        port: PortId::default(),
    };
    let mut root_port: Option<(PortId, Times)> = None;
    for port in &instance.ports {
        if port.info_is != InfoIs::Received || port.port_priority.bridge.address == own.address {
            continue;
        }
        // The path through the port: what was received, and the port's cost.
        let path = Vector {
            cost: port.port_priority.cost.saturating_add(port.settings.cost),
            ..port.port_priority
        };
        // The fifth component decides between two ports to the same one of a bridge.
        let receiver = root_port.map_or(PortId::default(), |(id, _)| id);
        if (path, port.port_id) < (best, receiver) {
            best = path;
            let mut times = port.port_times;
            times.message_age += 1;
            root_port = Some((port.port_id, times));
        }
    }
    instance.root_priority = best;
    instance.root_port = root_port.map(|(id, _)| id);
    instance.root_times = root_port.map_or(instance.settings.times, |(_, times)| times);
    let (root_port, root_times) = (instance.root_port, instance.root_times);
    for port in &mut instance.ports {
        port.designated_priority = Vector {
            root: best.root,
            cost: best.cost,
            bridge: own,
            port: port.port_id,
        };
        port.designated_times = Times {
            hello_time: instance.settings.times.hello_time,
            ..root_times
        };
        let (role, update) = match port.info_is {
            InfoIs::Disabled => (Role::Disabled, port.updt_info),
            InfoIs::Aged => (Role::Designated, true),
            InfoIs::Mine => {
                let differs = port.port_priority != port.designated_priority
                    || port.port_times != port.designated_times;
                (Role::Designated, port.updt_info || differs)
            }
            InfoIs::Received if root_port == Some(port.port_id) => (Role::Root, false),
            InfoIs::Received if port.designated_priority < port.port_priority => {
                (Role::Designated, true)
            }
            InfoIs::Received if port.port_priority.bridge.address == own.address => {
                (Role::Backup, false)
            }
            InfoIs::Received => (Role::Alternate, false),
        };
        port.selected_role = role;
        port.updt_info = update;
    }
}
