//! A port in one instance: settings, and the variables that the state machines share
//! (IEEE 802.1D-2004, 17.17 and 17.19).
//!
//! Variables have the names of the standard, so that machine and text can be laid side by side.

use super::{
    bpdu::Bpdu,
    vector::{PortId, Times, Vector},
};

/// Seconds in which nothing else is heard before a port changes the protocol (Table 17-1).
pub const MIGRATE_TIME: u16 = 3;

/// What is set for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// Cost of the path through it: 1 to 200,000,000.
    pub cost: u32,
    /// Its priority: 0 to 240 in steps of 16.
    pub priority: u8,
    /// It leads to no bridge (`AdminEdgePort`, 17.13.1).
    pub edge: bool,
    /// Whether that is found out (`AutoEdgePort`, 17.13.3).
    pub auto_edge: bool,
    /// There are two ends to what it is linked to, not more (`operPointToPointMAC`, 6.4.3).
    pub point_to_point: bool,
}

impl Default for PortSettings {
    /// For a link of 10 Gb/s (Table 17-3).
    fn default() -> Self {
        Self {
            cost: 2000,
            priority: 128,
            edge: false,
            auto_edge: true,
            point_to_point: true,
        }
    }
}

/// The cost of a path through a link of so many Mb/s (table 17-3): 20,000,000 divided by the
/// speed. A link without a speed counts as one of 10 Gb/s.
pub fn cost_of(speed: Option<u32>) -> u32 {
    (20_000_000 / speed.unwrap_or(10_000).max(1)).clamp(1, 200_000_000)
}

/// What a port is for (17.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It is not up, or kept out.
    #[default]
    Disabled,
    /// The way to the root.
    Root,
    /// The way from the root, for what is behind it.
    Designated,
    /// Another way to the root.
    Alternate,
    /// Another way to where this bridge is designated already.
    Backup,
}

/// What a port does with frames (17.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nothing passes, nothing is learned.
    #[default]
    Discarding,
    /// Nothing passes, but where stations are is learned.
    Learning,
    /// Frames pass.
    Forwarding,
}

/// Where a port's information is from (17.19.10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InfoIs {
    /// The port is disabled: there is none.
    #[default]
    Disabled,
    /// What was received is too old.
    Aged,
    /// This bridge.
    Mine,
    /// The bridge at the other end.
    Received,
}

/// What a received message is worth (17.21.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RcvdInfo {
    SuperiorDesignated,
    RepeatedDesignated,
    InferiorDesignated,
    InferiorRootAlternate,
    Other,
}

/// Counted down once a second (17.17).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    pub edge_delay_while: u16,
    pub fd_while: u16,
    pub hello_when: u16,
    pub mdelay_while: u16,
    pub rb_while: u16,
    pub rcvd_info_while: u16,
    pub rr_while: u16,
    pub tc_while: u16,
    pub tx_count: u16,
}

/// States of the machine of 17.24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Migration {
    CheckingRstp,
    SelectingStp,
    Sensing,
}

/// States of the machine of 17.27 in which it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Information {
    Disabled,
    Aged,
    Current,
}

/// States of the machine of 17.31 in which it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    Inactive,
    Learning,
    Active,
}

/// A port.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the variables of the standard, by their names"
)]
pub(super) struct Port {
    pub settings: PortSettings,
    pub port_id: PortId,
    pub port_enabled: bool,
    pub timers: Timers,

    pub role: Role,
    pub selected_role: Role,
    pub info_is: InfoIs,
    pub port_priority: Vector,
    pub port_times: Times,
    pub designated_priority: Vector,
    pub designated_times: Times,
    /// What was received and not yet looked at.
    pub message: Option<Bpdu>,

    pub agree: bool,
    pub agreed: bool,
    pub disputed: bool,
    pub fdb_flush: bool,
    pub forward: bool,
    pub forwarding: bool,
    pub learn: bool,
    pub learning: bool,
    pub new_info: bool,
    pub oper_edge: bool,
    pub proposed: bool,
    pub proposing: bool,
    pub rcvd_bpdu: bool,
    pub rcvd_msg: bool,
    pub rcvd_rstp: bool,
    pub rcvd_stp: bool,
    pub rcvd_tc: bool,
    pub rcvd_tc_ack: bool,
    pub rcvd_tcn: bool,
    pub re_root: bool,
    pub reselect: bool,
    pub selected: bool,
    pub send_rstp: bool,
    pub sync: bool,
    pub synced: bool,
    pub tc_ack: bool,
    pub tc_prop: bool,
    pub updt_info: bool,

    pub migration: Migration,
    pub information: Information,
    pub topology: Topology,
}

impl Port {
    /// As all machines are after BEGIN, for a port that is not up.
    pub fn new(number: u16, settings: PortSettings, rstp: bool) -> Self {
        let times = Times::default();
        Self {
            settings,
            port_id: PortId::new(settings.priority, number),
            port_enabled: false,
            timers: Timers {
                edge_delay_while: MIGRATE_TIME,
                mdelay_while: MIGRATE_TIME,
                fd_while: times.max_age,
                ..Timers::default()
            },
            role: Role::Disabled,
            selected_role: Role::Disabled,
            info_is: InfoIs::Disabled,
            port_priority: Vector::default(),
            port_times: times,
            designated_priority: Vector::default(),
            designated_times: times,
            message: None,
            agree: false,
            agreed: false,
            disputed: false,
            fdb_flush: false,
            forward: false,
            forwarding: false,
            learn: false,
            learning: false,
            new_info: true,
            oper_edge: settings.edge,
            proposed: false,
            proposing: false,
            rcvd_bpdu: false,
            rcvd_msg: false,
            rcvd_rstp: false,
            rcvd_stp: false,
            rcvd_tc: false,
            rcvd_tc_ack: false,
            rcvd_tcn: false,
            re_root: false,
            reselect: true,
            selected: false,
            send_rstp: rstp,
            sync: false,
            synced: true,
            tc_ack: false,
            tc_prop: false,
            updt_info: false,
            migration: Migration::CheckingRstp,
            information: Information::Disabled,
            topology: Topology::Inactive,
        }
    }

    /// What the port does with frames.
    pub const fn state(&self) -> State {
        if self.forwarding {
            State::Forwarding
        } else if self.learning {
            State::Learning
        } else {
            State::Discarding
        }
    }

    /// True if roles are settled and their consequences drawn: the condition that the standard
    /// leaves out of its figures (17.26, 17.29).
    pub const fn is_settled(&self) -> bool {
        self.selected && !self.updt_info
    }

    /// `EdgeDelay` (17.20.4)
    pub const fn edge_delay(&self) -> u16 {
        if self.settings.point_to_point {
            MIGRATE_TIME
        } else {
            self.designated_times.max_age
        }
    }

    /// `forwardDelay` (17.20.5)
    pub const fn forward_delay(&self) -> u16 {
        if self.send_rstp {
            self.hello_time()
        } else {
            self.fwd_delay()
        }
    }

    /// `FwdDelay` (17.20.6)
    pub const fn fwd_delay(&self) -> u16 {
        self.designated_times.forward_delay
    }

    /// `HelloTime` (17.20.7)
    pub const fn hello_time(&self) -> u16 {
        self.designated_times.hello_time
    }

    /// `MaxAge` (17.20.8)
    pub const fn max_age(&self) -> u16 {
        self.designated_times.max_age
    }
}
