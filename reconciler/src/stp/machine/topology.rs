//! Topology change (IEEE 802.1D-2004, 17.31): where stations are is forgotten where they may
//! have moved, here and at the others.

use crate::stp::{
    instance::{Action, Instance},
    port::{Port, Role, Topology},
};

pub fn step(instance: &mut Instance, at: usize) -> bool {
    let root_times = instance.root_times;
    let port = &mut instance.ports[at];
    let active = matches!(port.role, Role::Root | Role::Designated);
    let heard = port.rcvd_tc || port.rcvd_tcn || port.rcvd_tc_ack || port.tc_prop;
    match port.topology {
        Topology::Inactive if port.learn && !port.fdb_flush => learn(port),
        // Flushed by now: what `fdbFlush` asks for is done at once (17.19.7).
        Topology::Inactive if port.fdb_flush => {
            port.fdb_flush = false;
            instance.act(at, Action::Flush);
        }
        Topology::Learning if active && port.forward && !port.oper_edge => {
            // DETECTED
            port.topology = Topology::Active;
            new_tc_while(port, root_times.max_age + root_times.forward_delay);
            port.new_info = true;
            instance.changes += 1;
            propagate(instance, at);
        }
        Topology::Learning if !active && !port.learn && !port.learning && !heard => {
            // INACTIVE
            port.topology = Topology::Inactive;
            port.fdb_flush = true;
            port.timers.tc_while = 0;
            port.tc_ack = false;
        }
        Topology::Learning if heard => learn(port),
        Topology::Active if !active || port.oper_edge => learn(port),
        Topology::Active if port.rcvd_tcn => {
            // NOTIFIED_TCN, NOTIFIED_TC
            new_tc_while(port, root_times.max_age + root_times.forward_delay);
            notified(instance, at);
        }
        Topology::Active if port.rcvd_tc => notified(instance, at),
        Topology::Active if port.tc_prop => {
            // PROPAGATING
            new_tc_while(port, root_times.max_age + root_times.forward_delay);
            port.tc_prop = false;
            instance.act(at, Action::Flush);
        }
        Topology::Active if port.rcvd_tc_ack => {
            // ACKNOWLEDGED
            port.timers.tc_while = 0;
            port.rcvd_tc_ack = false;
        }
        Topology::Inactive | Topology::Learning | Topology::Active => return false,
    }
    true
}

/// LEARNING
fn learn(port: &mut Port) {
    port.rcvd_tc = false;
    port.rcvd_tcn = false;
    port.rcvd_tc_ack = false;
    port.tc_prop = false;
    port.topology = Topology::Learning;
}

/// NOTIFIED_TC
fn notified(instance: &mut Instance, at: usize) {
    let port = &mut instance.ports[at];
    port.rcvd_tc = false;
    port.rcvd_tcn = false;
    if port.role == Role::Designated {
        port.tc_ack = true;
    }
    propagate(instance, at);
}

/// `setTcPropTree` (17.21.18)
fn propagate(instance: &mut Instance, at: usize) {
    for (other, port) in instance.ports.iter_mut().enumerate() {
        port.tc_prop |= other != at;
    }
}

/// `newTcWhile` (17.21.7)
fn new_tc_while(port: &mut Port, slow: u16) {
    if port.timers.tc_while != 0 {
        return;
    }
    if port.send_rstp {
        port.timers.tc_while = port.hello_time() + 1;
        port.new_info = true;
    } else {
        port.timers.tc_while = slow;
    }
}
