//! What an engine leaves to the next one: enough to go on without stopping a port.

use super::{
    instance::BridgeSettings,
    port::{
        InfoIs, Information, MIGRATE_TIME, Migration, Port, PortSettings, Role, State, Timers,
        Topology,
    },
    vector::{Times, Vector},
};

/// A port that was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What it was for.
    pub role: Role,
    /// What it did with frames.
    pub state: State,
    /// The best that was said on its link,
    pub designated: Vector,
    /// and its times.
    pub times: Times,
    /// Whether that was said by the other end.
    pub received: bool,
    /// It led to no bridge.
    pub edge: bool,
    /// It spoke RSTP.
    pub rstp: bool,
    /// This bridge had agreed that the other end forwards.
    pub agree: bool,
}

impl Memory {
    pub(super) fn of(port: &Port) -> Self {
        Self {
            role: port.role,
            state: port.state(),
            designated: port.port_priority,
            times: port.port_times,
            received: port.info_is == InfoIs::Received,
            edge: port.oper_edge,
            rstp: port.send_rstp,
            agree: port.agree,
        }
    }

    /// The port as it was, its information as if heard just now: if it is no longer true, it
    /// ages, or what is heard next says so.
    pub(super) fn port(&self, number: u16, settings: PortSettings, bridge: BridgeSettings) -> Port {
        let mut port = Port::new(number, settings, bridge.rstp);
        let active = matches!(self.role, Role::Root | Role::Designated);
        port.port_enabled = true;
        port.role = self.role;
        port.selected_role = self.role;
        port.learning = self.state != State::Discarding;
        port.forwarding = self.state == State::Forwarding;
        port.learn = port.learning;
        port.forward = port.forwarding;
        port.port_priority = self.designated;
        port.port_times = self.times;
        port.designated_times = Times {
            hello_time: bridge.times.hello_time,
            ..self.times
        };
        port.oper_edge = self.edge;
        port.send_rstp = bridge.rstp && self.rstp;
        port.migration = if port.send_rstp == bridge.rstp {
            Migration::CheckingRstp
        } else {
            Migration::SelectingStp
        };
        port.agree = self.agree;
        port.agreed = port.forwarding && self.role == Role::Designated && port.send_rstp;
        port.synced = true;
        port.information = Information::Current;
        port.info_is = if self.received {
            InfoIs::Received
        } else {
            InfoIs::Mine
        };
        port.topology = match self.state {
            State::Forwarding if active && !self.edge => Topology::Active,
            State::Forwarding | State::Learning => Topology::Learning,
            State::Discarding => Topology::Inactive,
        };
        let times = self.times;
        port.timers = Timers {
            edge_delay_while: MIGRATE_TIME,
            mdelay_while: MIGRATE_TIME,
            fd_while: if port.forwarding {
                0
            } else {
                times.forward_delay
            },
            rcvd_info_while: if self.received {
                3 * times.hello_time
            } else {
                0
            },
            rr_while: if self.role == Role::Root {
                times.forward_delay
            } else {
                0
            },
            ..Timers::default()
        };
        port
    }
}
