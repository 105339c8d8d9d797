//! Bridge detection (IEEE 802.1D-2004, 17.25): a port where no bridge is forwards at once.

use crate::stp::instance::Instance;

pub fn step(instance: &mut Instance, at: usize) -> bool {
    let port = &mut instance.ports[at];
    let (edge, auto) = (port.settings.edge, port.settings.auto_edge);
    let becomes = if port.oper_edge {
        // To NOT_EDGE; a message that comes in clears the flag itself (17.23).
        port.port_enabled || edge
    } else {
        (!port.port_enabled && edge)
            || (port.timers.edge_delay_while == 0 && auto && port.send_rstp && port.proposing)
    };
    let changes = becomes != port.oper_edge;
    port.oper_edge = becomes;
    changes
}
