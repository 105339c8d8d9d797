//! Port transmit (IEEE 802.1D-2004, 17.26).

use crate::stp::{
    bpdu::{Bpdu, Message, Rapid, SentRole},
    instance::{Action, Instance},
    port::{Port, Role},
};

pub fn step(instance: &mut Instance, at: usize) -> bool {
    let hold_count = instance.settings.hold_count;
    let port = &mut instance.ports[at];
    // A disabled port has nobody to send to.
    if !port.is_settled() || !port.port_enabled {
        return false;
    }
    if port.timers.hello_when == 0 {
        // TRANSMIT_PERIODIC
        port.new_info |=
            port.role == Role::Designated || (port.role == Role::Root && port.timers.tc_while != 0);
        port.timers.hello_when = port.hello_time();
        return true;
    }
    if !port.new_info || port.timers.tx_count >= hold_count {
        return false;
    }
    let bpdu = match (port.send_rstp, port.role) {
        (true, _) => {
            port.tc_ack = false;
            rst(port)
        }
        (false, Role::Designated) => {
            let config = Bpdu::Config(Message {
                acknowledgment: port.tc_ack,
                ..message(port)
            });
            port.tc_ack = false;
            config
        }
        (false, Role::Root) => Bpdu::Tcn,
        (false, Role::Alternate | Role::Backup | Role::Disabled) => return false,
    };
    port.new_info = false;
    port.timers.tx_count += 1;
    port.timers.hello_when = port.hello_time();
    instance.act(at, |number| Action::Send(number, bpdu));
    true
}

/// `txRstp` (17.21.20)
fn rst(port: &Port) -> Bpdu {
    let role = match port.role {
        Role::Root => SentRole::Root,
        Role::Designated => SentRole::Designated,
        Role::Alternate | Role::Backup | Role::Disabled => SentRole::AlternateOrBackup,
    };
    let rapid = Rapid {
        role,
        proposal: port.proposing,
        agreement: port.agree,
        learning: port.learning,
        forwarding: port.forwarding,
    };
    Bpdu::Rst(message(port), rapid)
}

/// What `txConfig` (17.21.19) and `txRstp` have in common.
const fn message(port: &Port) -> Message {
    Message {
        vector: port.designated_priority,
        times: port.designated_times,
        topology_change: port.timers.tc_while != 0,
        acknowledgment: false,
    }
}
