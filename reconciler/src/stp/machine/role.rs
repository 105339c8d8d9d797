//! Port role transitions (IEEE 802.1D-2004, 17.29): from what a port is for to whether it learns
//! and forwards, without a loop on the way.

use crate::stp::{
    instance::Instance,
    port::{Port, Role},
};

pub fn step(instance: &mut Instance, at: usize) -> bool {
    let port = &instance.ports[at];
    // All transitions of the figures have this condition in front (17.29).
    if !port.is_settled() {
        return false;
    }
    if port.role != port.selected_role {
        change(&mut instance.ports[at]);
        return true;
    }
    match port.role {
        Role::Disabled => disabled(&mut instance.ports[at]),
        Role::Root => root(instance, at),
        Role::Designated => designated(&mut instance.ports[at]),
        Role::Alternate | Role::Backup => blocked(instance, at),
    }
}

/// DISABLE_PORT, BLOCK_PORT, and the entries to ROOT_PORT and DESIGNATED_PORT
fn change(port: &mut Port) {
    port.role = port.selected_role;
    match port.role {
        Role::Disabled | Role::Alternate | Role::Backup => {
            port.learn = false;
            port.forward = false;
            // What follows once the port has stopped is done again then: DISABLED_PORT and
            // ALTERNATE_PORT.
            port.synced = false;
        }
        Role::Root => port.timers.rr_while = port.fwd_delay(),
        Role::Designated => {}
    }
}

/// Figure 17-20, Disabled Port
fn disabled(port: &mut Port) -> bool {
    if port.learning || port.forwarding {
        return false;
    }
    let max_age = port.max_age();
    if port.timers.fd_while == max_age && !port.sync && !port.re_root && port.synced {
        return false;
    }
    port.timers.fd_while = max_age;
    port.timers.rr_while = 0;
    port.synced = true;
    port.sync = false;
    port.re_root = false;
    true
}

/// Figure 17-21, Root Port
fn root(instance: &mut Instance, at: usize) -> bool {
    let all_synced = all_synced(instance);
    let quick = re_rooted(instance, at) && instance.settings.rstp;
    let port = &mut instance.ports[at];
    let may = port.timers.fd_while == 0 || (quick && port.timers.rb_while == 0);
    if port.proposed && !port.agree {
        // ROOT_PROPOSED
        port.proposed = false;
        set_sync(instance);
    } else if (all_synced && !port.agree) || (port.proposed && port.agree) {
        // ROOT_AGREED
        port.proposed = false;
        port.sync = false;
        port.agree = true;
        port.new_info = true;
    } else if !port.forward && !port.re_root {
        // REROOT: `setReRootTree` (17.21.15)
        for port in &mut instance.ports {
            port.re_root = true;
        }
    } else if may && port.learn && !port.forward {
        // ROOT_FORWARD
        port.timers.fd_while = 0;
        port.forward = true;
    } else if may && !port.learn {
        // ROOT_LEARN
        port.timers.fd_while = port.forward_delay();
        port.learn = true;
    } else if port.re_root && port.forward {
        // REROOTED
        port.re_root = false;
    } else if port.timers.rr_while != port.fwd_delay() {
        // ROOT_PORT
        port.timers.rr_while = port.fwd_delay();
    } else {
        return false;
    }
    true
}

/// Figure 17-22, Designated Port
fn designated(port: &mut Port) -> bool {
    let may = (port.timers.fd_while == 0 || port.agreed || port.oper_edge)
        && (port.timers.rr_while == 0 || !port.re_root)
        && !port.sync;
    if !port.forward && !port.agreed && !port.proposing && !port.oper_edge {
        // DESIGNATED_PROPOSE
        port.proposing = true;
        port.timers.edge_delay_while = port.edge_delay();
        port.new_info = true;
    } else if (!port.learning && !port.forwarding && !port.synced)
        || ((port.agreed || port.oper_edge) && !port.synced)
        || (port.sync && port.synced)
    {
        // DESIGNATED_SYNCED
        port.timers.rr_while = 0;
        port.synced = true;
        port.sync = false;
    } else if port.timers.rr_while == 0 && port.re_root {
        // DESIGNATED_RETIRED
        port.re_root = false;
    } else if ((port.sync && !port.synced)
        || (port.re_root && port.timers.rr_while != 0)
        || port.disputed)
        && !port.oper_edge
        && (port.learn || port.forward)
    {
        // DESIGNATED_DISCARD
        port.learn = false;
        port.forward = false;
        port.disputed = false;
        port.timers.fd_while = port.forward_delay();
    } else if may && port.learn && !port.forward {
        // DESIGNATED_FORWARD
        port.forward = true;
        port.timers.fd_while = 0;
        port.agreed = port.send_rstp;
    } else if may && !port.learn {
        // DESIGNATED_LEARN
        port.learn = true;
        port.timers.fd_while = port.forward_delay();
    } else {
        return false;
    }
    true
}

/// Figure 17-23, Alternate Port and Backup Port
fn blocked(instance: &mut Instance, at: usize) -> bool {
    let all_synced = all_synced(instance);
    let port = &mut instance.ports[at];
    if port.learning || port.forwarding {
        return false;
    }
    let rb_while = 2 * port.hello_time();
    if port.proposed && !port.agree {
        // ALTERNATE_PROPOSED
        port.proposed = false;
        set_sync(instance);
    } else if (all_synced && !port.agree) || (port.proposed && port.agree) {
        // ALTERNATE_AGREED
        port.proposed = false;
        port.agree = true;
        port.new_info = true;
    } else if port.role == Role::Backup && port.timers.rb_while != rb_while {
        // BACKUP_PORT
        port.timers.rb_while = rb_while;
    } else if port.timers.fd_while != port.forward_delay()
        || port.sync
        || port.re_root
        || !port.synced
    {
        // ALTERNATE_PORT
        port.timers.fd_while = port.forward_delay();
        port.timers.rr_while = 0;
        port.synced = true;
        port.sync = false;
        port.re_root = false;
    } else {
        return false;
    }
    true
}

/// `setSyncTree` (17.21.14)
fn set_sync(instance: &mut Instance) {
    for port in &mut instance.ports {
        port.sync = true;
    }
}

/// `allSynced` (17.20.3)
fn all_synced(instance: &Instance) -> bool {
    instance.ports.iter().all(|port| {
        port.is_settled()
            && port.role == port.selected_role
            && (port.role == Role::Root || port.synced)
    })
}

/// `reRooted` (17.20.10): no other port was the root port a moment ago.
fn re_rooted(instance: &Instance, at: usize) -> bool {
    instance
        .ports
        .iter()
        .enumerate()
        .all(|(other, port)| other == at || port.timers.rr_while == 0)
}
