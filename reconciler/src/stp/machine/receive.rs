//! Port receive (IEEE 802.1D-2004, 17.23).

use crate::stp::{
    bpdu::Bpdu,
    instance::Instance,
    port::{MIGRATE_TIME, Port},
};

pub fn step(instance: &mut Instance, at: usize) -> bool {
    let port = &mut instance.ports[at];
    let waits = port.timers.edge_delay_while != MIGRATE_TIME;
    if (port.rcvd_bpdu || waits) && !port.port_enabled {
        // DISCARD
        port.rcvd_bpdu = false;
        port.rcvd_rstp = false;
        port.rcvd_stp = false;
        port.rcvd_msg = false;
        port.message = None;
        port.timers.edge_delay_while = MIGRATE_TIME;
        return true;
    }
    if port.rcvd_bpdu && port.port_enabled && !port.rcvd_msg {
        // RECEIVE
        update_version(port);
        port.oper_edge = false;
        port.rcvd_bpdu = false;
        port.rcvd_msg = true;
        port.timers.edge_delay_while = MIGRATE_TIME;
        return true;
    }
    false
}

/// `updtBPDUVersion` (17.21.22)
fn update_version(port: &mut Port) {
    match port.message {
        Some(Bpdu::Config(_) | Bpdu::Tcn) => port.rcvd_stp = true,
        Some(Bpdu::Rst(..)) => port.rcvd_rstp = true,
        None => {}
    }
}
