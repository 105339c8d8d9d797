//! Port information (IEEE 802.1D-2004, 17.27): whose word counts on a link, and for how long.

use crate::stp::{
    bpdu::{Bpdu, Message, SentRole},
    instance::Instance,
    port::{InfoIs, Information, Port, RcvdInfo},
    vector::{Times, Vector},
};

pub fn step(instance: &mut Instance, at: usize) -> bool {
    let rstp_version = instance.settings.rstp;
    let port = &mut instance.ports[at];
    if !port.port_enabled && port.info_is != InfoIs::Disabled {
        disable(port);
        return true;
    }
    let update = port.selected && port.updt_info;
    match port.information {
        Information::Disabled if port.rcvd_msg => disable(port),
        Information::Disabled if port.port_enabled => age(port),
        Information::Aged if update => be_mine(port),
        Information::Current if update => be_mine(port),
        Information::Current
            if port.info_is == InfoIs::Received
                && port.timers.rcvd_info_while == 0
                && !port.updt_info
                && !port.rcvd_msg =>
        {
            age(port);
        }
        Information::Current if port.rcvd_msg && !port.updt_info => receive(port, rstp_version),
        Information::Disabled | Information::Aged | Information::Current => return false,
    }
    true
}

/// DISABLED
fn disable(port: &mut Port) {
    port.rcvd_msg = false;
    port.proposing = false;
    port.proposed = false;
    port.agree = false;
    port.agreed = false;
    port.timers.rcvd_info_while = 0;
    port.info_is = InfoIs::Disabled;
    port.reselect = true;
    port.selected = false;
    port.information = Information::Disabled;
}

/// AGED
fn age(port: &mut Port) {
    port.info_is = InfoIs::Aged;
    port.reselect = true;
    port.selected = false;
    port.information = Information::Aged;
}

/// UPDATE
fn be_mine(port: &mut Port) {
    port.proposing = false;
    port.proposed = false;
    // `betterorsameInfo(Mine)` (17.21.1)
    port.agreed &= port.info_is == InfoIs::Mine && port.designated_priority <= port.port_priority;
    port.synced &= port.agreed;
    port.port_priority = port.designated_priority;
    port.port_times = port.designated_times;
    port.updt_info = false;
    port.info_is = InfoIs::Mine;
    port.new_info = true;
    port.information = Information::Current;
}

/// RECEIVE, and where it leads
fn receive(port: &mut Port, rstp_version: bool) {
    match classify(port) {
        RcvdInfo::SuperiorDesignated => superior(port),
        RcvdInfo::RepeatedDesignated => {
            record_proposal(port);
            set_tc_flags(port);
            update_rcvd_info_while(port);
        }
        RcvdInfo::InferiorDesignated => record_dispute(port),
        RcvdInfo::InferiorRootAlternate => {
            record_agreement(port, rstp_version);
            set_tc_flags(port);
        }
        // A notification says nothing of a port's role: it counts wherever it arrives.
        RcvdInfo::Other if port.message == Some(Bpdu::Tcn) => set_tc_flags(port),
        RcvdInfo::Other => {}
    }
    port.rcvd_msg = false;
}

/// SUPERIOR_DESIGNATED
fn superior(port: &mut Port) {
    port.agreed = false;
    port.proposing = false;
    record_proposal(port);
    set_tc_flags(port);
    if let Some((message, _)) = message(port) {
        // `betterorsameInfo(Received)` (17.21.1)
        port.agree &= port.info_is == InfoIs::Received && message.vector <= port.port_priority;
        port.port_priority = message.vector;
        port.port_times = message.times;
    }
    update_rcvd_info_while(port);
    port.info_is = InfoIs::Received;
    port.reselect = true;
    port.selected = false;
}

/// The message, and the role it was sent with. A configuration BPDU comes from a designated
/// port (17.21.8).
const fn message(port: &Port) -> Option<(Message, SentRole)> {
    match port.message {
        Some(Bpdu::Config(message)) => Some((message, SentRole::Designated)),
        Some(Bpdu::Rst(message, rapid)) => Some((message, rapid.role)),
        Some(Bpdu::Tcn) | None => None,
    }
}

/// `rcvInfo` (17.21.8)
fn classify(port: &Port) -> RcvdInfo {
    let Some((message, role)) = message(port) else {
        return RcvdInfo::Other;
    };
    let (vector, times): (Vector, Times) = (message.vector, message.times);
    match role {
        SentRole::Designated => {
            if vector == port.port_priority && times == port.port_times {
                // What we say ourselves is not confirmed by hearing it.
                match port.info_is {
                    InfoIs::Received => RcvdInfo::RepeatedDesignated,
                    InfoIs::Mine | InfoIs::Aged | InfoIs::Disabled => RcvdInfo::SuperiorDesignated,
                }
            } else if vector.supersedes(&port.port_priority) {
                RcvdInfo::SuperiorDesignated
            } else {
                RcvdInfo::InferiorDesignated
            }
        }
        SentRole::Root | SentRole::AlternateOrBackup => {
            if vector >= port.port_priority {
                RcvdInfo::InferiorRootAlternate
            } else {
                RcvdInfo::Other
            }
        }
    }
}

/// `recordProposal` (17.21.11)
fn record_proposal(port: &mut Port) {
    if let Some(Bpdu::Rst(_, rapid)) = port.message
        && rapid.role == SentRole::Designated
        && rapid.proposal
    {
        port.proposed = true;
    }
}

/// `recordDispute` (17.21.10): the other end does not hear us, or does not believe us, and lets
/// frames pass.
fn record_dispute(port: &mut Port) {
    if let Some(Bpdu::Rst(_, rapid)) = port.message
        && rapid.learning
    {
        port.disputed = true;
        port.agreed = false;
    }
}

/// `recordAgreement` (17.21.9)
fn record_agreement(port: &mut Port, rstp_version: bool) {
    let agreement = match port.message {
        Some(Bpdu::Rst(_, rapid)) => rapid.agreement,
        Some(Bpdu::Config(_) | Bpdu::Tcn) | None => false,
    };
    if rstp_version && port.settings.point_to_point && agreement {
        port.agreed = true;
        port.proposing = false;
    } else {
        port.agreed = false;
    }
}

/// `setTcFlags` (17.21.17)
fn set_tc_flags(port: &mut Port) {
    match port.message {
        Some(Bpdu::Tcn) => port.rcvd_tcn = true,
        Some(Bpdu::Config(message)) => {
            port.rcvd_tc |= message.topology_change;
            port.rcvd_tc_ack |= message.acknowledgment;
        }
        Some(Bpdu::Rst(message, _)) => port.rcvd_tc |= message.topology_change,
        None => {}
    }
}

/// `updtRcvdInfoWhile` (17.21.23)
fn update_rcvd_info_while(port: &mut Port) {
    let times = port.port_times;
    port.timers.rcvd_info_while = if times.message_age < times.max_age {
        3 * times.hello_time
    } else {
        0
    };
}
